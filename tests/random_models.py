"""Small random drivers as text: every statement of the language, balanced by construction, then perhaps broken.

`random_model(seed)` is the same text for the same seed. About half of the models have something wrong: a statement
left out, written twice or swapped with its neighbour. They are small enough to explore all their runs.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

KERNEL = """
lockkind KSPIN_LOCK {
    spins; level DISPATCH_LEVEL; init required; resident;
    KIRQL saved;
    ghost enum { unused, plain, queued } use = unused;
}
lockkind KINTERRUPT { spins; resident; }
lockkind FAST_MUTEX { KIRQL saved; }
lockkind ERESOURCE { recursive exclusive; recursive shared; recursive shared under exclusive; }
handlekind KLOCK_QUEUE_HANDLE { lock target; KIRQL OldIrql; bool busy = FALSE; }
context counter 3 Regions = 0;
role DRIVER_ADD_DEVICE { irql PASSIVE_LEVEL; thread; any number; phase add; }
role DRIVER_UNLOAD { irql PASSIVE_LEVEL; thread; single; phase unload; }
role DRIVER_DISPATCH {
    irql PASSIVE_LEVEL .. DISPATCH_LEVEL; thread; any number;
    exit { require Regions == 0 else I08 "every region entered is left"; }
}
role KDEFERRED_ROUTINE { irql DISPATCH_LEVEL; dpc; any number; }
role KSERVICE_ROUTINE(interrupt I) {
    irql I.level; isr; single;
    entry { acquire I.lock as interrupt; }
    exit { release I.lock as interrupt; }
}
extern KeInitializeSpinLock(lock L : KSPIN_LOCK) { init L; }
extern KeAcquireSpinLock(lock L : KSPIN_LOCK, out KIRQL OldIrql) requires irql <= DISPATCH_LEVEL {
    require L.use == unused || L.use == plain else B08 "ordinary routines are used on a queued lock";
    L.use = plain;
    KIRQL before = irql;
    if (irql < DISPATCH_LEVEL) { raise DISPATCH_LEVEL; }
    acquire L as executive;
    L.saved = before;
    OldIrql = before;
}
extern KeReleaseSpinLock(lock L : KSPIN_LOCK, KIRQL NewIrql) requires irql == DISPATCH_LEVEL {
    if (held(L)) {
        if (L.saved <= HIGH_LEVEL) {
            require NewIrql == L.saved else I03 "the level restored is the one saved";
        }
    }
    release L as executive;
    if (NewIrql <= irql) { lower NewIrql; } else if (NewIrql <= HIGH_LEVEL) { raise NewIrql; }
}
extern KeAcquireSpinLockAtDpcLevel(lock L : KSPIN_LOCK) requires irql >= DISPATCH_LEVEL { acquire L as dpc; }
extern KeReleaseSpinLockFromDpcLevel(lock L : KSPIN_LOCK) requires irql >= DISPATCH_LEVEL { release L as dpc; }
extern KeTryToAcquireSpinLockAtDpcLevel(lock L : KSPIN_LOCK) : bool requires irql >= DISPATCH_LEVEL {
    bool taken = FALSE;
    if (try_acquire L as dpc) { taken = TRUE; }
    return taken;
}
extern KeAcquireInStackQueuedSpinLock(lock L : KSPIN_LOCK, out KLOCK_QUEUE_HANDLE H) requires irql <= DISPATCH_LEVEL {
    require L.use == unused || L.use == queued else B08 "queued routines are used on an ordinary lock";
    require !H.busy else B08 "the handle is in use";
    L.use = queued;
    KIRQL before = irql;
    if (irql < DISPATCH_LEVEL) { raise DISPATCH_LEVEL; }
    acquire L as queued;
    H.target = L;
    H.OldIrql = before;
    H.busy = TRUE;
}
extern KeReleaseInStackQueuedSpinLock(KLOCK_QUEUE_HANDLE &H) requires irql == DISPATCH_LEVEL {
    release H.target as queued;
    H.busy = FALSE;
    if (H.OldIrql <= irql) { lower H.OldIrql; } else if (H.OldIrql <= HIGH_LEVEL) { raise H.OldIrql; }
}
extern KeRaiseIrql(KIRQL NewIrql, out KIRQL OldIrql) { KIRQL before = irql; raise NewIrql; OldIrql = before; }
extern KeLowerIrql(KIRQL NewIrql) { lower NewIrql; }
extern KeGetCurrentIrql() : KIRQL { return irql; }
extern ExAcquireFastMutex(lock M : FAST_MUTEX) requires irql <= APC_LEVEL {
    blocks;
    KIRQL before = irql;
    raise APC_LEVEL;
    acquire M;
    M.saved = before;
}
extern ExReleaseFastMutex(lock M : FAST_MUTEX) requires irql == APC_LEVEL { release M; lower M.saved; }
extern ExAcquireResourceSharedLite(lock R : ERESOURCE, bool Wait) : bool requires irql <= APC_LEVEL {
    bool taken = FALSE;
    if (Wait) { blocks; acquire R shared; taken = TRUE; } else if (try_acquire R shared) { taken = TRUE; }
    return taken;
}
extern ExReleaseResourceLite(lock R : ERESOURCE) requires irql <= APC_LEVEL { release R either; }
extern KeEnterCriticalRegion() requires irql <= APC_LEVEL { Regions++; }
extern KeLeaveCriticalRegion() requires irql <= APC_LEVEL {
    require Regions > 0 else I08 "a region is left only after it was entered";
    Regions--;
}
extern KeSynchronizeExecution(interrupt I, routine R, any Context) : bool requires irql <= I.level {
    KIRQL before = irql;
    raise I.level;
    acquire I.lock as interrupt;
    call R(Context);
    release I.lock as interrupt;
    lower before;
    bool result_of_routine = *;
    return result_of_routine;
}
extern IoCompleteRequest(any Irp, any Boost) requires irql <= DISPATCH_LEVEL {
    require no_spin_lock else I07 "no spin lock is held when a request is completed";
}
extern Query(out KIRQL Level) : bool;
"""
"""A kernel model in small, with the names of the large one, so that models can be read without importing it."""

DECLARATIONS = """
lock A : KSPIN_LOCK;
lock B : KSPIN_LOCK;
lock Q : KSPIN_LOCK;
lock F[SIZE] : KSPIN_LOCK ordered;
lock M : FAST_MUTEX;
data Items guarded by A;
data Table guarded by B;
var busy : bool = false;
var count : int 0..2 = 0 guarded by A;
var mode : enum { idle, running, off } = idle;
interrupt Line at DIRQL;
"""

START = """
routine AddDevice() as DRIVER_ADD_DEVICE {
    KeInitializeSpinLock(&A);
    KeInitializeSpinLock(&B);
    KeInitializeSpinLock(&Q);
}
"""

HELPERS = {
    "take": "routine take(lock L : KSPIN_LOCK, KIRQL &old) {\n    KeAcquireSpinLock(L, &old);\n}",
    "give": "routine give(lock L : KSPIN_LOCK, KIRQL old) {\n    KeReleaseSpinLock(L, old);\n}",
    "climb": "routine climb(int 0..2 n) {\n    if (n > 0) { climb(n - 1); }\n}",
    "nest": (
        "routine nest(int 0..1 n) {\n    KeAcquireSpinLockAtDpcLevel(&F[n]);\n    if (n == 0 && *) { nest(1); }\n"
        "    KeReleaseSpinLockFromDpcLevel(&F[n]);\n}"
    ),
    "guess": "routine guess(bool b) : bool {\n    if (b && *) { return true; }\n    return false;\n}",
    "fill": "routine fill() requires held(A) same irql {\n    write Items;\n    if (count < 2) { count++; }\n}",
    "steady": (
        "routine steady(KIRQL &seen) requires irql <= DISPATCH_LEVEL always irql <= DISPATCH_LEVEL "
        "ensures irql == old(irql) {\n    seen = KeGetCurrentIrql();\n}"
    ),
    "lock_b": (
        "routine lock_b(KIRQL &old) acquires B as executive raises irql to DISPATCH_LEVEL "
        "{\n    KeAcquireSpinLock(&B, &old);\n}"
    ),
    "pageable": "paged routine pageable() {\n    bool b = *;\n    if (b) { b = false; }\n}",
    "sync": "routine sync(Context) {\n    mode = off;\n}",
}


@dataclass(slots=True)
class Part:
    """A compound statement: heads with their bodies, and what stands behind the last."""

    arms: list[tuple[str, list[Statement]]]
    tail: str = ""


Statement: TypeAlias = str | Part


@dataclass(frozen=True, slots=True)
class Place:
    """Where a statement is written: spin locks that are free, whether the IRQL is DISPATCH_LEVEL for certain or at most
    APC_LEVEL, what must be undone before returning, whether in a loop, in a try."""

    free: tuple[str, ...]
    at_dispatch: bool
    low: bool
    undo: tuple[str, ...] | None
    loop: bool = False
    trying: bool = False
    depth: int = 0


@dataclass(slots=True)
class _Writer:
    """Writes one routine."""

    rng: random.Random
    size: int
    """Of the family F."""
    declared: list[str] = field(default_factory=list)
    helpers: set[str] = field(default_factory=set)
    count: int = 0

    def fresh(self, declaration: str) -> str:
        """A new local variable, declared at the top; `{}` in the declaration is its name."""
        self.count += 1
        name = f"v{self.count}"
        self.declared.append(declaration.format(name))
        return name

    def chance(self, percent: int) -> bool:
        return self.rng.randrange(100) < percent

    def body(self, place: Place, most: int) -> list[Statement]:
        found: list[Statement] = []
        for _ in range(self.rng.randint(1, most)):
            found += self.statement(place)
        return found

    def inside(self, place: Place) -> list[Statement]:
        return self.body(replace(place, depth=place.depth + 1), 2)

    def statement(self, place: Place) -> list[Statement]:
        compound: list[Callable[[Place], list[Statement]]] = [
            self.spin,
            self.spin,
            self.spin,
            self.queued,
            self.flagged,
            self.tried,
            self.protected,
            self.cleaned,
            self.raised,
            self.mutex,
            self.branch,
            self.loop,
            self.switch,
            self.early,
            self.kept,
        ]
        simple: list[Callable[[Place], list[Statement]]] = [
            self.data,
            self.shared,
            self.atomic,
            self.number,
            self.choice,
            self.helper,
            self.checked,
            self.jump,
        ]
        return self.rng.choice(simple if place.depth > 2 or self.chance(35) else compound)(place)

    def _lock(self, place: Place) -> tuple[str, Place] | None:
        """A free lock, and the place once it is held."""
        spin = [lock for lock in place.free if lock not in ("M", "Q")]
        if not spin:
            return None
        name = self.rng.choice(spin)
        left = tuple(lock for lock in place.free if lock != name)
        if name.startswith("F["):
            left = tuple(lock for lock in left if not lock.startswith("F["))
        return name, replace(place, free=left)

    def _undoing(self, place: Place, *undo: str) -> Place:
        before = None if place.undo is None else (*undo, *place.undo)
        return replace(place, at_dispatch=True, low=False, undo=before)

    # what takes locks

    def spin(self, place: Place) -> list[Statement]:
        found = self._lock(place)
        if found is None:
            return self.data(place)
        lock, inner = found
        if lock == "F[i]":
            if self.chance(30):
                return self.pair(replace(inner, at_dispatch=place.at_dispatch))
            lock = f"F[{self.index()}]"
        if place.at_dispatch and self.chance(60):
            take, give = f"KeAcquireSpinLockAtDpcLevel(&{lock});", f"KeReleaseSpinLockFromDpcLevel(&{lock});"
        else:
            old = self.fresh("KIRQL {};")
            take, give = f"KeAcquireSpinLock(&{lock}, &{old});", f"KeReleaseSpinLock(&{lock}, {old});"
            if self.chance(20):
                take, give = f"take(&{lock}, &{old});", f"give(&{lock}, {old});"
                self.helpers |= {"take", "give"}
            elif lock == "B" and self.chance(30):
                take = f"lock_b(&{old});"
                self.helpers.add("lock_b")
        return [take, *self.inside(self._undoing(inner, give)), give]

    def index(self) -> str:
        """An index that nobody knows, or one made of it."""
        name = self.fresh(f"int 0..{self.size - 1} {{}} = *;")
        return self.rng.choice([name, name, name, f"{self.size - 1} - {name}"])

    def pair(self, inner: Place) -> list[Statement]:
        """Two members of the family, by rising index."""
        first, second = (self.fresh(f"int 0..{self.size - 1} {{}} = *;") for _ in range(2))
        old = self.fresh("KIRQL {};")
        body = [
            f"KeAcquireSpinLock(&F[{first}], &{old});",
            f"KeAcquireSpinLockAtDpcLevel(&F[{second}]);",
            *self.inside(self._undoing(replace(inner, undo=None))),
            f"KeReleaseSpinLockFromDpcLevel(&F[{second}]);",
            f"KeReleaseSpinLock(&F[{first}], {old});",
        ]
        return [Part([(f"if ({first} {self.rng.choice(['<', '<', '<', '!=', '<='])} {second})", body)])]

    def queued(self, place: Place) -> list[Statement]:
        if "Q" not in place.free:
            return self.spin(place)
        handle = self.fresh("KLOCK_QUEUE_HANDLE {};")
        inner = replace(place, free=tuple(lock for lock in place.free if lock != "Q"))
        give = f"KeReleaseInStackQueuedSpinLock(&{handle});"
        return [
            f"KeAcquireInStackQueuedSpinLock(&Q, &{handle});",
            *self.inside(self._undoing(inner, give)),
            give,
        ]

    def flagged(self, place: Place) -> list[Statement]:
        """Acquire and release behind one flag."""
        found = self._lock(replace(place, free=tuple(lock for lock in place.free if lock in "AB")))
        if found is None:
            return self.number(place)
        lock, inner = found
        flag, old = self.fresh("bool {} = *;"), self.fresh("KIRQL {};")
        middle = replace(inner, at_dispatch=False, low=False, undo=None, free=())
        return [
            Part([(f"if ({flag})", [f"KeAcquireSpinLock(&{lock}, &{old});"])]),
            *self.inside(middle),
            Part([(f"if ({flag})", [f"KeReleaseSpinLock(&{lock}, {old});"])]),
        ]

    def tried(self, place: Place) -> list[Statement]:
        found = self._lock(place)
        if found is None or not place.at_dispatch or found[0] == "F[i]":
            return self.spin(place)
        lock, inner = found
        give = f"KeReleaseSpinLockFromDpcLevel(&{lock});"
        call = f"KeTryToAcquireSpinLockAtDpcLevel(&{lock})"
        if self.chance(50):
            held = self._undoing(inner, give)
            return [Part([(f"if ({call})", [*self.inside(held), give]), ("else", self.inside(place))])]
        got = self.fresh("bool {} = false;")
        middle = replace(inner, undo=None)
        return [f"{got} = {call};", *self.inside(middle), Part([(f"if ({got})", [give])])]

    def protected(self, place: Place) -> list[Statement]:
        """try/finally around what is held."""
        found = self._lock(place)
        if found is None or found[0] == "F[i]":
            return self.branch(place)
        lock, inner = found
        old = self.fresh("KIRQL {};")
        give = f"KeReleaseSpinLock(&{lock}, {old});"
        undo = () if place.undo == () else None
        body = self.inside(replace(inner, at_dispatch=True, low=False, undo=undo, trying=True, loop=False))
        return [f"KeAcquireSpinLock(&{lock}, &{old});", Part([("try", body), ("finally", [give])])]

    def cleaned(self, place: Place) -> list[Statement]:
        """The error path: `goto out`."""
        found = self._lock(place)
        if found is None or found[0] == "F[i]":
            return self.number(place)
        lock, inner = found
        old = self.fresh("KIRQL {};")
        self.count += 1
        label = f"out{self.count}"
        give = f"KeReleaseSpinLock(&{lock}, {old});"
        held = self._undoing(inner, give)
        return [
            f"KeAcquireSpinLock(&{lock}, &{old});",
            *self.inside(held),
            Part([("if (*)", [f"goto {label};"])]),
            *self.inside(held),
            f"{label}:",
            give,
        ]

    def raised(self, place: Place) -> list[Statement]:
        old = self.fresh("KIRQL {};")
        inner = self._undoing(place, f"KeLowerIrql({old});")
        return [f"KeRaiseIrql(DISPATCH_LEVEL, &{old});", *self.inside(inner), f"KeLowerIrql({old});"]

    def mutex(self, place: Place) -> list[Statement]:
        if not place.low or "M" not in place.free:
            return self.shared(place)
        inner = replace(place, free=tuple(lock for lock in place.free if lock != "M"))
        if inner.undo is not None:
            inner = replace(inner, undo=("ExReleaseFastMutex(&M);", *inner.undo))
        return ["ExAcquireFastMutex(&M);", *self.inside(inner), "ExReleaseFastMutex(&M);"]

    def kept(self, place: Place) -> list[Statement]:
        """A lock taken in a loop's round or not at all, remembered in an enum."""
        if "B" not in place.free:
            return self.choice(place)
        old = self.fresh("KIRQL {};")
        state = self.fresh("enum {{ none_yet, got_it }} {} = none_yet;")
        return [
            Part(
                [
                    (
                        "while (*)",
                        [
                            Part(
                                [
                                    (
                                        f"if ({state} == none_yet)",
                                        [f"KeAcquireSpinLock(&B, &{old});", f"{state} = got_it;"],
                                    )
                                ]
                            )
                        ],
                    )
                ]
            ),
            Part([(f"if ({state} == got_it)", [f"KeReleaseSpinLock(&B, {old});"])]),
        ]

    # control

    def branch(self, place: Place) -> list[Statement]:
        condition = self.rng.choice(["*", "busy", "mode == idle", "!busy && mode != off", "*"])
        arms = [(f"if ({condition})", self.inside(place))]
        if self.chance(30):
            arms.append(("else if (mode == running)", self.inside(place)))
        if self.chance(50):
            arms.append(("else", self.inside(place)))
        return [Part(arms)]

    def loop(self, place: Place) -> list[Statement]:
        body = self.inside(replace(place, loop=True))
        match self.rng.randrange(4):
            case 0:
                return [Part([("while (*)", body)])]
            case 1:
                return [Part([("do", body)], " while (busy);")]
            case 2:
                return [Part([("while (!busy)", body)])]
            case _:
                index = self.fresh("int 0..2 {} = 0;")
                return [Part([(f"for ({index} = 0; {index} < 2; {index}++)", body)])]

    def switch(self, place: Place) -> list[Statement]:
        inner = replace(place, loop=False)
        cases: list[Statement] = []
        for name in ("idle", "running"):
            cases += [f"case {name}:", *self.inside(inner)]
            if self.chance(70):
                cases.append("break;")
        if self.chance(60):
            cases += ["default:", *self.inside(inner)]
        subject = "mode"
        if self.chance(50):
            subject = self.fresh("enum {{ idle, running, off }} {} = *;")
        return [Part([(f"switch ({subject})", cases)])]

    def early(self, place: Place) -> list[Statement]:
        if place.undo is None or place.trying:
            return self.jump(place)
        return [Part([(self.rng.choice(["if (*)", "if (busy)"]), [*place.undo, "return;"])])]

    def jump(self, place: Place) -> list[Statement]:
        if place.loop and self.chance(50):
            return self.number(place)
        if place.trying:
            word = "return;" if place.undo == () and self.chance(50) else "leave;"
            return [Part([("if (*)", [word])])]
        return self.data(place)

    # what needs no lock, or one

    def data(self, place: Place) -> list[Statement]:
        verb = self.rng.choice(["read", "write"])
        if "A" not in place.free and place.undo is not None:
            return [self.rng.choice([f"{verb} Items;", "if (count < 2) { count++; }", "count = 0;"])]
        if "B" not in place.free and place.undo is not None:
            return [f"{verb} Table;"]
        return self.shared(place)

    def shared(self, place: Place) -> list[Statement]:
        return [self.rng.choice(["busy = true;", "busy = false;", "mode = running;", "mode = idle;", "busy = !busy;"])]

    def atomic(self, place: Place) -> list[Statement]:
        copy = self.fresh("bool {} = false;")
        body: list[Statement] = [f"{copy} = busy;", "busy = true;"]
        if self.chance(30):
            word = self.rng.choice(["if", "while"])
            body = [
                Part([(f"{word} (!busy)", [f"{copy} = true;", "busy = true;"])]),
                f"{copy} = {copy} && mode == idle;",
            ]
        if self.chance(40):
            body.append("assert busy;")
        return [Part([("atomic", body)])]

    def number(self, place: Place) -> list[Statement]:
        name = self.fresh(self.rng.choice(["int 0..2 {} = 0;", "int 0..2 {};", "int -1..1 {} = *;"]))
        first: Statement = Part([(f"if ({name} < 1)", [f"{name}++;"])]) if self.chance(70) else f"{name} = {name} + 1;"
        return [first, f"assert {name} <= 2;"] if self.chance(30) else [first]

    def choice(self, place: Place) -> list[Statement]:
        flag = self.fresh("bool {};")
        rest: Statement = f"assume {flag};" if self.chance(30) else f"{flag} = *;"
        return [rest, Part([(f"if ({flag})", self.shared(place)), ("else", self.shared(place))])]

    def helper(self, place: Place) -> list[Statement]:
        options = ["climb", "guess", "steady"]
        if "A" not in place.free and place.undo is not None:
            options += ["fill", "fill"]
        if place.at_dispatch and "F[i]" in place.free:
            options += ["nest", "nest"]
        if place.low:
            options += ["pageable", "sync"]
        name = self.rng.choice(options)
        self.helpers.add(name)
        match name:
            case "climb":
                return [f"climb({self.rng.randrange(3)});"]
            case "guess":
                flag = self.fresh("bool {} = *;")
                return [f"{flag} = guess({flag});", Part([(f"if (guess({flag}))", self.shared(place))])]
            case "steady":
                return [f"steady(&{self.fresh('KIRQL {};')});"]
            case "nest":
                return ["nest(0);"]
            case "sync":
                return ["KeSynchronizeExecution(Line, sync, NULL);"]
            case _:
                return [f"{name}();"]

    def checked(self, place: Place) -> list[Statement]:
        if place.at_dispatch:
            return ["assert irql == DISPATCH_LEVEL;"]
        flag = self.fresh("bool {} = *;")
        return [f"{flag} = {flag} && busy;", f"assert !{flag} || true;"]


# ---- breaking ----


def _bodies(body: list[Statement]) -> list[list[Statement]]:
    """Every list of statements in a body, itself first."""
    found = [body]
    for statement in body:
        if isinstance(statement, Part):
            for _, inner in statement.arms:
                found += _bodies(inner)
    return found


def _fixed(statement: Statement) -> bool:
    """Labels and cases stay where they are."""
    return isinstance(statement, str) and statement.endswith(":")


def _break(rng: random.Random, body: list[Statement]) -> None:
    """Leave out a statement, write it twice, or swap it with its neighbour."""
    candidates = [(b, i) for b in _bodies(body) for i, s in enumerate(b) if not _fixed(s)]
    if not candidates:
        return
    where, index = rng.choice(candidates)
    match rng.randrange(4):
        case 0 | 1:
            if len(where) > 1:
                del where[index]
        case 2:
            if isinstance(where[index], str):
                where.insert(index, where[index])
        case _:
            if index + 1 < len(where) and not _fixed(where[index + 1]):
                where[index], where[index + 1] = where[index + 1], where[index]


def _text(body: list[Statement], indent: int) -> list[str]:
    lines: list[str] = []
    blank = "    " * indent
    for statement in body:
        if isinstance(statement, str):
            lines.append(blank + statement)
            continue
        for number, (head, inner) in enumerate(statement.arms):
            lines.append(f"{blank}{'} ' if number else ''}{head} {{")
            lines += _text(inner, indent + 1)
        lines.append(f"{blank}}}{statement.tail}")
    return lines


ROLES = (
    ("Dispatch(Irp) as DRIVER_DISPATCH", False, True),
    ("Deferred(Irp) as KDEFERRED_ROUTINE", True, False),
    ("Unload(Irp) as DRIVER_UNLOAD", False, True),
    ("Helper() requires irql == DISPATCH_LEVEL same irql", True, False),
)


def random_model(seed: int, imported: bool = False) -> str:
    """A driver. `imported`: with the shipped model of the kernel instead of the small one."""
    rng = random.Random(seed)
    size = rng.choice((2, 2, 3, 9))
    lines = ["driver sample;", "import wdm;" if imported else KERNEL, DECLARATIONS.replace("SIZE", str(size))]
    helpers: set[str] = set()
    routines: list[str] = []
    for head, at_dispatch, low in rng.sample(ROLES, rng.randint(1, 2)):
        writer = _Writer(rng, size)
        low = low and "UNLOAD" in head
        locks = ("A", "B", "Q", "F[i]", *(("M",) if low else ()))
        body = writer.body(Place(locks, at_dispatch, low, ()), 3)
        for _ in range(rng.choice((0, 1, 1, 2, 3))):
            _break(rng, body)
        helpers |= writer.helpers
        declared = [f"    {line}" for line in writer.declared]
        routines.append("\n".join([f"routine {head} {{", *declared, *_text(body, 1), "}"]))
    if rng.randrange(4) == 0:
        routines.append("routine Isr() as KSERVICE_ROUTINE(Line) {\n    mode = running;\n}")
    lines += [HELPERS[name] for name in HELPERS if name in helpers]
    start = START.splitlines()
    start[-1:-1] = [f"    KeInitializeSpinLock(&F[{number}]);" for number in range(size)]
    if rng.randrange(8) == 0:
        del start[rng.randrange(2, len(start) - 1)]
    return "\n".join([*lines, *start, *routines, ""])
