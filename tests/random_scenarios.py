"""Small random drivers with a scenario each, as text: contexts of every kind on one or two processors.

`random_scenario(seed)` is the same text for the same seed. Locks are taken in pairs of acquire and release, in any
order and sometimes at the wrong level, then perhaps something is left out; flags, events, data without a guard and
asserts tie the contexts together. Small enough for `tests/concurrent_bruteforce.py`. In `random_waits(seed)` contexts
wait for the end of other routines too. `random_crowd(seed)` has more contexts that are alike: of one routine, or of
routines with the same body, on one processor or several; and a variable that a lock guards, most of the time.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

KERNEL = """
lockkind KSPIN_LOCK { spins; level DISPATCH_LEVEL; }
lockkind EX_SPIN_LOCK { spins; level DISPATCH_LEVEL; writers first; }
lockkind KINTERRUPT { spins; }
lockkind FAST_MUTEX { KIRQL saved; }
lockkind KMUTEX { recursive exclusive; }
lockkind ERESOURCE { writers first; recursive exclusive; recursive shared; recursive shared under exclusive; }
role DRIVER_DISPATCH { irql PASSIVE_LEVEL .. DISPATCH_LEVEL; thread; any number; }
role KDEFERRED_ROUTINE { irql DISPATCH_LEVEL; dpc; any number; }
role KSERVICE_ROUTINE(interrupt I) {
    irql I.level; isr; single;
    entry { acquire I.lock; }
    exit { release I.lock; }
}
extern KeAcquireSpinLock(lock L : KSPIN_LOCK, out KIRQL Old) {
    KIRQL before = irql;
    if (irql < DISPATCH_LEVEL) { raise DISPATCH_LEVEL; }
    acquire L;
    Old = before;
}
extern KeReleaseSpinLock(lock L : KSPIN_LOCK, KIRQL New) { release L; if (New <= irql) { lower New; } }
extern KeAcquireSpinLockAtDpcLevel(lock L : KSPIN_LOCK) { acquire L; }
extern KeReleaseSpinLockFromDpcLevel(lock L : KSPIN_LOCK) { release L; }
extern KeTryToAcquireSpinLockAtDpcLevel(lock L : KSPIN_LOCK) : bool {
    bool taken = FALSE;
    if (try_acquire L) { taken = TRUE; }
    return taken;
}
extern ExAcquireSpinLockShared(lock L : EX_SPIN_LOCK) : KIRQL {
    KIRQL before = irql;
    if (irql < DISPATCH_LEVEL) { raise DISPATCH_LEVEL; }
    acquire L shared;
    return before;
}
extern ExAcquireSpinLockExclusive(lock L : EX_SPIN_LOCK) : KIRQL {
    KIRQL before = irql;
    if (irql < DISPATCH_LEVEL) { raise DISPATCH_LEVEL; }
    acquire L;
    return before;
}
extern ExReleaseSpinLock(lock L : EX_SPIN_LOCK, KIRQL New) { release L either; if (New <= irql) { lower New; } }
extern ExTryConvertSharedSpinLockExclusive(lock L : EX_SPIN_LOCK) : bool {
    bool converted = FALSE;
    if (held(L, shared)) { if (try_convert L) { converted = TRUE; } }
    return converted;
}
extern ExAcquireFastMutex(lock M : FAST_MUTEX) {
    blocks;
    KIRQL before = irql;
    if (irql < APC_LEVEL) { raise APC_LEVEL; }
    acquire M;
    M.saved = before;
}
extern ExTryToAcquireFastMutex(lock M : FAST_MUTEX) : bool {
    bool taken = FALSE;
    KIRQL before = irql;
    if (try_acquire M) {
        if (irql < APC_LEVEL) { raise APC_LEVEL; }
        M.saved = before;
        taken = TRUE;
    }
    return taken;
}
extern ExReleaseFastMutex(lock M : FAST_MUTEX) {
    KIRQL back = irql;
    if (held(M)) { back = M.saved; }
    release M;
    if (back <= irql) { lower back; }
}
extern KeWaitForMutexObject(lock M : KMUTEX) { blocks; acquire M; }
extern KeReleaseMutex(lock M : KMUTEX) { release M; }
extern ExAcquireResourceSharedLite(lock R : ERESOURCE) { blocks; acquire R shared; }
extern ExAcquireResourceExclusiveLite(lock R : ERESOURCE) { blocks; acquire R; }
extern ExTryAcquireResourceSharedLite(lock R : ERESOURCE) : bool {
    bool taken = FALSE;
    if (try_acquire R shared) { taken = TRUE; }
    return taken;
}
extern ExConvertExclusiveToSharedLite(lock R : ERESOURCE) { if (held(R, exclusive)) { convert R to shared; } }
extern ExReleaseResourceLite(lock R : ERESOURCE) { release R either; }
extern KeWaitForSingleObject(event E) { blocks; wait E; }
extern KeSetEvent(event E) { set E; }
extern KeClearEvent(event E) { clear E; }
extern KeRaiseIrql(KIRQL New, out KIRQL Old) {
    KIRQL before = irql;
    if (irql < New) { raise New; }
    Old = before;
}
extern KeLowerIrql(KIRQL New) { if (New <= irql) { lower New; } }
"""
"""As much of the kernel as scenarios need, with few obligations of its own."""

WAITS = """
lockkind RUN { recursive shared; }
lock RunningDispatch : RUN;
lock RunningDpcs : RUN;
lock RunningService : RUN;
extern FlushDispatch() { acquire RunningDispatch; release RunningDispatch; }
extern KeFlushQueuedDpcs() { blocks; acquire RunningDpcs; release RunningDpcs; }
extern FlushAll() { KeFlushQueuedDpcs(); acquire RunningService; release RunningService; FlushDispatch(); }
"""
"""Waiting for routines that are not named."""
FLUSHES = ("FlushDispatch();", "KeFlushQueuedDpcs();", "KeFlushQueuedDpcs();", "FlushAll();")
HOLDS = {
    "DRIVER_DISPATCH {": "RunningDispatch",
    "KDEFERRED_ROUTINE {": "RunningDpcs",
    "(interrupt I) {": "RunningService",
}

KINDS = ("KSPIN_LOCK", "KSPIN_LOCK", "EX_SPIN_LOCK", "FAST_MUTEX", "KMUTEX", "ERESOURCE")
SPINNING = ("KSPIN_LOCK", "EX_SPIN_LOCK")
ROLES = {
    "thread": "(Irp) as DRIVER_DISPATCH",
    "dpc": "() as KDEFERRED_ROUTINE",
    "isr": "() as KSERVICE_ROUTINE(Line)",
}


@dataclass(slots=True)
class _Writer:
    """Writes one routine; `left` statements may still be written, `around` are the locks held where one is."""

    rng: random.Random
    kind: str
    locks: dict[str, str]
    left: int
    declared: list[str] = field(default_factory=list)
    around: list[str] = field(default_factory=list)
    waiting: bool = False

    def chance(self, percent: int) -> bool:
        return self.rng.randrange(100) < percent

    def fresh(self, declaration: str) -> str:
        name = f"v{len(self.declared)}"
        self.declared.append(declaration.format(name))
        return name

    def body(self, depth: int, most: int) -> list[str]:
        found: list[str] = []
        for _ in range(self.rng.randint(0 if depth else 1, most)):
            if self.left > 0:
                self.left -= 1
                found += self.statement(depth)
        return found

    def statement(self, depth: int) -> list[str]:
        if self.waiting and self.chance(15 if self.kind == "thread" else 4):
            return [self.rng.choice(FLUSHES)]
        if depth < 3 and self.chance(60):
            return self.locked(depth)
        kinds = [
            self.flag,
            self.flag,
            self.flag,
            self.event,
            self.data,
            self.data,
            self.raised,
            self.branch,
            self.branch,
        ]
        kinds += [self.checked] if self.chance(70) else [self.loop, self.supposed]
        return self.rng.choice(kinds)(depth)

    def locked(self, depth: int) -> list[str]:
        wanted = [n for n, k in self.locks.items() if self.kind == "thread" or k in SPINNING or self.chance(8)]
        wanted = [n for n in wanted if n not in self.around or self.chance(8)]
        if not wanted:
            return self.flag(depth)
        name = self.rng.choice(wanted)
        take, give = self.pair(name, self.locks[name])
        self.around.append(name)
        inner = self.body(depth + 1, 2)
        self.around.pop()
        if take.startswith("if "):
            return [take, *inner, give, "}"]
        if self.chance(6):
            give = ""
        if self.chance(5):
            take = ""
        return [take, *inner, give]

    def pair(self, lock: str, kind: str) -> tuple[str, str]:
        """An acquisition of a lock and the release that belongs to it."""
        match kind:
            case "KSPIN_LOCK":
                if self.chance(60 if self.kind != "thread" else 12):
                    give = f"KeReleaseSpinLockFromDpcLevel(&{lock});"
                    if self.chance(25):
                        return f"if (KeTryToAcquireSpinLockAtDpcLevel(&{lock})) {{", give
                    return f"KeAcquireSpinLockAtDpcLevel(&{lock});", give
                old = self.fresh("KIRQL {};")
                return f"KeAcquireSpinLock(&{lock}, &{old});", f"KeReleaseSpinLock(&{lock}, {old});"
            case "EX_SPIN_LOCK":
                old = self.fresh("KIRQL {};")
                mode = self.rng.choice(("Shared", "Shared", "Exclusive"))
                give = f"ExReleaseSpinLock(&{lock}, {old});"
                if mode == "Shared" and self.chance(15):
                    flag = self.fresh("bool {} = false;")
                    give = f"{flag} = ExTryConvertSharedSpinLockExclusive(&{lock}); {give}"
                return f"{old} = ExAcquireSpinLock{mode}(&{lock});", give
            case "FAST_MUTEX":
                give = f"ExReleaseFastMutex(&{lock});"
                if self.chance(20):
                    return f"if (ExTryToAcquireFastMutex(&{lock})) {{", give
                return f"ExAcquireFastMutex(&{lock});", give
            case "KMUTEX":
                return f"KeWaitForMutexObject(&{lock});", f"KeReleaseMutex(&{lock});"
            case _:
                give = f"ExReleaseResourceLite(&{lock});"
                if self.chance(15):
                    return f"if (ExTryAcquireResourceSharedLite(&{lock})) {{", give
                if self.chance(50):
                    return f"ExAcquireResourceSharedLite(&{lock});", give
                if self.chance(25):
                    give = f"ExConvertExclusiveToSharedLite(&{lock}); {give}"
                return f"ExAcquireResourceExclusiveLite(&{lock});", give

    def flag(self, depth: int) -> list[str]:
        return [
            self.rng.choice(
                (
                    "flag = true;",
                    "flag = false;",
                    "flag = !flag;",
                    "mode = busy;",
                    "mode = off;",
                    "flag = mode == idle;",
                    "atomic { if (!flag) { flag = true; mode = busy; } }",
                )
            )
        ]

    def event(self, depth: int) -> list[str]:
        waits = self.kind == "thread" and self.chance(50)
        return [
            "KeWaitForSingleObject(Go);" if waits else "KeClearEvent(Go);" if self.chance(20) else "KeSetEvent(Go);"
        ]

    def data(self, depth: int) -> list[str]:
        access = self.rng.choice(("read D;", "write D;", "write D;"))
        return [f"atomic {{ {access} }}" if self.chance(20) else access]

    def raised(self, depth: int) -> list[str]:
        old = self.fresh("KIRQL {};")
        level = self.rng.choice(("APC_LEVEL", "DISPATCH_LEVEL", "DISPATCH_LEVEL", "DIRQL"))
        return [f"KeRaiseIrql({level}, &{old});", *self.body(depth + 1, 2), f"KeLowerIrql({old});"]

    def branch(self, depth: int) -> list[str]:
        test = self.rng.choice(("flag", "!flag", "mode == busy", "mode != off", "*"))
        otherwise = ["} else {", *self.body(depth + 1, 1)] if self.chance(30) else []
        return [f"if ({test}) {{", *self.body(depth + 1, 2), *otherwise, "}"]

    def checked(self, depth: int) -> list[str]:
        return [self.rng.choice(("assert !flag;", "assert mode != off;", "assert flag || mode == idle;"))]

    def loop(self, depth: int) -> list[str]:
        test = self.rng.choice(("while (!flag) {", "while (*) {", "while (mode == busy) {"))
        return [test, *self.body(depth + 1, 1), "}"]

    def supposed(self, depth: int) -> list[str]:
        return ["assume mode != off;"]


def random_scenario(seed: int, waiting: bool = False) -> str:
    """A driver with one scenario, `together`, of two or three contexts."""
    rng = random.Random(seed)
    locks = {name: rng.choice(KINDS) for name in ("A", "B", "C")[: rng.choice((2, 2, 3))]}
    contexts = rng.choice((2, 2, 2, 3))
    processors = rng.choice((1, 1, 2))
    kernel = KERNEL + WAITS if waiting else KERNEL
    for role, lock in HOLDS.items() if waiting else ():
        kernel = kernel.replace(role, f"{role} holds {lock};", 1)
    lines = ["driver sample;", kernel]
    lines += [f"lock {name} : {kind};" for name, kind in locks.items()]
    lines += ["event Go;", "data D;", "var flag : bool = false;", "var mode : enum { idle, busy, off } = idle;"]
    lines += ["interrupt Line at DIRQL;", ""]
    runs: list[str] = []
    bodies: list[str] = []
    for number in range(contexts):
        if bodies and rng.randrange(4) == 0 and "isr" not in runs[-1]:
            runs.append(runs[-1])  # one routine twice
            continue
        kind = rng.choice(("thread", "thread", "thread", "dpc", "dpc", "isr"))
        writer = _Writer(rng, kind, locks, 7 if contexts == 2 else 4, waiting=waiting)
        body = [line for line in writer.body(0, 3) if line]
        name = f"{kind.capitalize()}{number}"
        text = "\n".join(f"    {line}" for line in [*writer.declared, *body])
        bodies.append(f"routine {name}{ROLES[kind]} {{\n{text}\n}}\n")
        how = " as thread at DISPATCH_LEVEL" if kind == "thread" and rng.randrange(10) == 0 else ""
        runs.append(f"run {name}({'NULL' if kind == 'thread' else ''}){how}")
    start = ["    flag = true;"] if rng.randrange(4) == 0 else []
    start += [f"    {run} on {rng.randrange(processors)};" for run in runs]
    scenario = [f"scenario together on {processors} processors {{", *start, "}"]
    return "\n".join([*lines, *bodies, *scenario, ""])


class _CrowdWriter(_Writer):
    """Short routines that touch what lock A guards."""

    def section(self) -> list[str]:
        """The lock, and what it guards under it."""
        if self.kind != "thread" and self.locks["A"] not in SPINNING:
            return []
        take, give = self.pair("A", self.locks["A"])
        self.around.append("A")
        inner = [line for _ in range(self.rng.randint(1, 2)) for line in self.flag(0)]
        self.around.pop()
        return [take, *inner, give, *(["}"] if take.startswith("if ") else [])]

    def flag(self, depth: int) -> list[str]:
        if "A" not in self.around and not self.chance(10):
            return _Writer.flag(self, depth)
        writes = ("kept = 2;", "kept = 1;", "kept = 0;")
        asks = ("assert kept != 2;", "assume kept != 2;", "atomic { assert kept != 2; assume kept == 0; }")
        change = self.rng.choice(writes + asks)
        return ["if (kept == 1) {", *self.body(depth + 1, 1), f"    {change}", "}"] if self.chance(40) else [change]


def random_waits(seed: int) -> str:
    """The same, with contexts that wait for routines."""
    return random_scenario(seed, waiting=True)


def random_crowd(seed: int) -> str:
    """A driver with one scenario, `together`, of three to five contexts that run one or two different bodies."""
    rng = random.Random(f"crowd {seed}")
    locks = {name: rng.choice(KINDS) for name in ("A", "B")}
    contexts = rng.choice((3, 3, 3, 4, 4, 5))
    different = rng.choice((1, 1, 1, 2))
    processors = rng.choice((1, 2, 2, contexts))
    lines = ["driver sample;", KERNEL]
    lines += [f"lock {name} : {kind};" for name, kind in locks.items()]
    lines += ["event Go;", "data D;", "var flag : bool = false;", "var mode : enum { idle, busy, off } = idle;"]
    lines += ["var kept : int 0..2 = 0 guarded by A;", "interrupt Line at DIRQL;", ""]
    written = []
    for _ in range(different):
        kind = rng.choice(("thread", "thread", "thread", "dpc", "isr"))
        writer = _CrowdWriter(rng, kind, locks, 3 if contexts == 3 else 2)
        body = writer.section() if rng.randrange(2) else []
        body += [line for line in writer.body(0, 1 if body else 2) if line]
        written.append((kind, "\n".join(f"    {line}" for line in [*writer.declared, *body])))
    bodies: dict[str, str] = {}
    runs: list[str] = []
    for number in range(contexts):
        which = rng.randrange(different)
        kind, text = written[which]
        name = f"{kind.capitalize()}{which}{'' if rng.randrange(2) else f'Twin{number}'}"
        bodies[name] = f"routine {name}{ROLES[kind]} {{\n{text}\n}}\n"
        how = " as thread at DISPATCH_LEVEL" if kind == "thread" and rng.randrange(12) == 0 else ""
        place = number if processors == contexts and rng.randrange(4) else rng.randrange(processors)
        runs.append(f"    run {name}({'NULL' if kind == 'thread' else ''}){how} on {place};")
    start = ["    flag = true;"] if rng.randrange(4) == 0 else []
    scenario = [f"scenario together on {processors} processors {{", *start, *runs, "}"]
    return "\n".join([*lines, *bodies.values(), *scenario, ""])
