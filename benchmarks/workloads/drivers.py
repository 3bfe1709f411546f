"""Synthetic drivers as model text: regular enough to scale, irregular enough to be work.

A driver has routines of about a hundred statements: dispatch routines, DPCs and work items, and helpers that call each
other three deep. They nest locks in rising order, take and release them under the same flag, loop, leave early after
cleaning up, raise and lower the IRQL, and call the kernel. One routine gives the shared variables any value, so that
no section is dead. Every driver is correct; with a fault, one release is missing.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

PLACES = {"early": 0.05, "middle": 0.5, "end": 0.95}
"""Where a fault can be: how far into the driver."""
_ROLES = (
    "DRIVER_DISPATCH(IRP_MJ_READ)",
    "DRIVER_DISPATCH(IRP_MJ_WRITE)",
    "DRIVER_DISPATCH(IRP_MJ_DEVICE_CONTROL)",
    "KDEFERRED_ROUTINE",
    "IO_WORKITEM_ROUTINE",
)


@dataclass(frozen=True, slots=True)
class Shape:
    """What drivers are like. `routine`: statements of one, about. `depth`: how deep helpers call each other, 0 for
    none. `branching`: how often paths part, 1 as often as a section begins. `flags`: locks taken one after the other,
    each under a flag of its own that decides later whether it is released."""

    routine: int = 100
    depth: int = 3
    branching: int = 1
    flags: int = 1


@dataclass(slots=True)
class _Text:
    """A routine that is being written."""

    chance: random.Random
    lines: list[str] = field(default_factory=list)
    statements: int = 0
    depth: int = 1
    releases: list[int] = field(default_factory=list)
    """Lines with a release that can be left out to make the driver wrong."""

    def line(self, text: str) -> None:
        self.lines.append(f"{'    ' * self.depth}{text}")

    def statement(self, text: str) -> None:
        self.statements += 1
        self.line(text)

    def release(self, text: str) -> None:
        self.releases.append(len(self.lines))
        self.statement(text)

    def block(self, head: str, body: Callable[[], None]) -> None:
        self.statement(f"{head} {{")
        self.depth += 1
        body()
        self.depth -= 1
        self.line("}")


@dataclass(frozen=True, slots=True)
class _Held:
    """A lock the routine holds, and the statement that gives it back; `raised`: by a call that changed the IRQL."""

    lock: int
    release: str


class _Routine:
    """Writes one routine. `locks` are the indices it may take, in rising order; `callees` the helpers it may call."""

    def __init__(
        self, text: _Text, shape: Shape, locks: list[int], callees: list[str], is_dpc: bool, irp: bool
    ) -> None:
        self.text = text
        self.shape = shape
        self.chance = text.chance
        self.locks = locks
        self.callees = callees
        self.is_dpc = is_dpc
        self.irp = irp
        self.held: list[_Held] = []
        self.flags = 0
        self.levels = 0
        self.counters = 0

    def body(self, statements: int) -> None:
        self.text.statement("int 0..7 n = 0;")
        while self.text.statements < statements:
            self.piece(0)

    def piece(self, depth: int) -> None:
        kinds = ["section", "flagged", "loop", *["branch"] * self.shape.branching, "kernel", "raise", "work"]
        kinds += ["call"] * bool(self.callees)
        if depth >= 3:
            kinds = ["work", "kernel", "branch"]
        getattr(self, f"_{self.chance.choice(kinds)}")(depth)

    def pieces(self, depth: int) -> None:
        for _ in range(self.chance.randint(1, 3)):
            self.piece(depth + 1)

    # ---- locks ----

    def _free_lock(self, top: int = -1) -> int | None:
        """A lock above `top` and all that are held."""
        top = self.held[-1].lock if self.held else top
        above = [lock for lock in self.locks if lock > top]
        return self.chance.choice(above[:3]) if above else None

    def _pair(self, lock: int) -> tuple[str, str]:
        """What acquires and what releases the lock here."""
        if self.is_dpc or self.held:
            return f"KeAcquireSpinLockAtDpcLevel(&Lock{lock});", f"KeReleaseSpinLockFromDpcLevel(&Lock{lock});"
        self.levels += 1
        old = f"old{self.levels}"
        self.text.statement(f"KIRQL {old};")
        return f"KeAcquireSpinLock(&Lock{lock}, &{old});", f"KeReleaseSpinLock(&Lock{lock}, {old});"

    def _section(self, depth: int) -> None:
        lock = self._free_lock()
        if lock is None:
            return self._work(depth)
        acquire, release = self._pair(lock)
        self.text.statement(acquire)
        self.held.append(_Held(lock, release))
        self.text.statement(f"write Data{lock};")
        self.pieces(depth)
        if self.chance.random() < 0.5:
            self.text.block(f"if ({self.chance.choice(('*', 'stopping', 'mode == busy'))})", self._leave)
        self.held.pop()
        self.text.release(release)

    def _leave(self) -> None:
        """Out of the routine, after giving back all that is held."""
        for held in reversed(self.held):
            self.text.statement(held.release)
        self.text.statement("return;")

    def _flagged(self, depth: int) -> None:
        """Acquired and released under one flag; several locks in rising order, each under its own."""
        lock = self._free_lock()
        if lock is None or self.held:
            return self._work(depth)
        given: list[tuple[str, str]] = []
        while lock is not None:
            self.flags += 1
            flag = f"flag{self.flags}"
            self.text.statement(f"bool {flag} = *;")
            acquire, release = self._pair(lock)
            self.text.block(f"if ({flag})", lambda call=acquire: self.text.statement(call))  # type: ignore[misc]
            given.append((flag, release))
            for _ in range(self.chance.randint(1, 3)):
                self._work(depth)
            lock = self._free_lock(lock) if len(given) < self.shape.flags else None
        for flag, release in reversed(given):
            self.text.block(f"if ({flag})", lambda call=release: self.text.release(call))  # type: ignore[misc]
        return None

    # ---- the rest ----

    def _test(self) -> str:
        return self.chance.choice(("*", "stopping", "n > 3", "n == 0 || stopping", "mode == busy"))

    def _loop(self, depth: int) -> None:
        """Every loop can end: what comes after it is to be reached."""
        if self.chance.random() < 0.25:
            self.counters += 1
            counter = f"i{self.counters}"
            self.text.statement(f"int 0..3 {counter} = 0;")
            self.text.block(f"while ({counter} < 3)", lambda: self._round(f"{counter}++;", depth))
        else:
            self.text.block(f"while ({self.chance.choice(('*', 'stopping'))})", lambda: self._round("n = *;", depth))

    def _round(self, first: str, depth: int) -> None:
        self.text.statement(first)
        self.pieces(depth)

    def _branch(self, depth: int) -> None:
        self.text.block(f"if ({self._test()})", lambda: self.pieces(max(depth, 2)))
        if self.chance.random() < 0.5:
            self.text.lines[-1] += " else {"
            self.text.depth += 1
            self._work(depth)
            self.text.depth -= 1
            self.text.line("}")

    def _raise(self, depth: int) -> None:
        lock = self._free_lock()
        if self.held or lock is None:
            return self._work(depth)
        self.levels += 1
        self.text.statement(f"KIRQL old{self.levels};")
        level = self.levels
        self.text.statement(f"KeRaiseIrql(DISPATCH_LEVEL, &old{level});")
        if lock is not None:
            self.text.statement(f"KeAcquireSpinLockAtDpcLevel(&Lock{lock});")
            self.text.statement(f"write Data{lock};")
            self.text.release(f"KeReleaseSpinLockFromDpcLevel(&Lock{lock});")
        self.text.statement(f"KeLowerIrql(old{level});")
        return None

    def _kernel(self, depth: int) -> None:
        self.text.statement("KeSetEvent(&Done, IO_NO_INCREMENT, FALSE);")
        if self.irp and not self.held:
            self.text.block(f"if ({self._test()})", lambda: self.text.statement("IoMarkIrpPending(Irp);"))

    def _call(self, depth: int) -> None:
        self.text.statement(f"{self.chance.choice(self.callees)}();")

    def _work(self, depth: int) -> None:
        self.text.statement(
            self.chance.choice(
                ("n = (n + 3) % 8;", "n = 0;", "n = *;", "mode = busy;", "mode = idle;", "stopping = *;")
            )
        )


@dataclass(frozen=True, slots=True)
class Driver:
    """A synthetic driver: its text, how many statements it has, the routine with the fault ("" if there is none)."""

    text: str
    statements: int
    faulty: str = ""


def driver(statements: int, locks: int, seed: int = 0, fault: str = "", shape: Shape = Shape()) -> Driver:
    """A driver of about that many statements over `locks` locks; `fault`: one of `PLACES`, or none."""
    chance = random.Random(f"{statements} {locks} {seed} {shape.routine}")
    bodies: list[tuple[str, _Text]] = [
        ("AddDevice() as DRIVER_ADD_DEVICE", _add_device(chance, locks)),
        ("Stop(Irp) as DRIVER_DISPATCH(IRP_MJ_PNP)", _stop(chance)),
    ]
    left = statements - sum(text.statements for _, text in bodies)
    number = 0
    while left > 0:
        helpers = [] if left < 2 * shape.routine else _helpers(chance, shape, locks, number, bodies)
        left -= sum(text.statements for _, text in bodies[-len(helpers) :]) if helpers else 0
        for _ in range(4 if helpers else 1):
            if left > 0:
                role = chance.choice(_ROLES)
                text = _root(chance, shape, locks, role, helpers, min(shape.routine, max(left, 5)))
                bodies.append((f"Serve{number}({_parameters(role)}) as {role}", text))
                left -= text.statements
                number += 1
    faulty = _break([(head, text) for head, text in bodies if head.startswith("Serve")], fault) if fault else ""
    routines = "\n".join(f"routine {head} {{\n" + "\n".join(text.lines) + "\n}\n" for head, text in bodies)
    return Driver(_declarations(locks) + routines, sum(text.statements for _, text in bodies), faulty)


def _declarations(locks: int) -> str:
    lines = ["driver synthetic;", "import wdm;", "event Done;", "var stopping : bool = FALSE;"]
    lines.append("var mode : enum { idle, busy } = idle;")
    for lock in range(locks):
        lines.append(f"lock Lock{lock} : KSPIN_LOCK;")
        lines.append(f"data Data{lock} guarded by Lock{lock};")
    return "\n".join(lines) + "\n\n"


def _add_device(chance: random.Random, locks: int) -> _Text:
    text = _Text(chance)
    for lock in range(locks):
        text.statement(f"KeInitializeSpinLock(&Lock{lock});")
    return text


def _stop(chance: random.Random) -> _Text:
    text = _Text(chance)
    text.statement("stopping = *;")
    text.block("if (*)", lambda: text.statement("mode = busy;"))
    text.statement("mode = idle;")
    return text


def _parameters(role: str) -> str:
    return "Irp" if role.startswith("DRIVER_DISPATCH") else ""


def _helpers(
    chance: random.Random, shape: Shape, locks: int, number: int, bodies: list[tuple[str, _Text]]
) -> list[str]:
    """A chain of helpers, the deepest first; those above may call those below. They hold locks of the upper half only,
    each depth those of its own band: the deeper, the higher."""
    names: list[str] = []
    bands = max(4, shape.depth + 1)
    for depth in reversed(range(shape.depth)):
        text = _Text(chance)
        band = _choose(
            chance, locks // 2 + depth * locks // (2 * bands), locks // 2 + (depth + 1) * locks // (2 * bands)
        )
        _Routine(text, shape, band, names[-1:], is_dpc=False, irp=False).body(25)
        names.append(f"Help{number}_{depth}")
        bodies.append((f"{names[-1]}()", text))
    return names


def _choose(chance: random.Random, low: int, high: int) -> list[int]:
    """At most eight locks of low..high - 1."""
    return sorted(chance.sample(range(low, high), min(8, max(0, high - low))))


def _root(chance: random.Random, shape: Shape, locks: int, role: str, helpers: list[str], statements: int) -> _Text:
    text = _Text(chance)
    own = _choose(chance, 0, max(1, locks // 2))
    is_dpc, irp = role.startswith("KDEFERRED"), role.startswith("DRIVER_DISPATCH")
    _Routine(text, shape, own, helpers, is_dpc, irp).body(statements)
    return text


def _break(routines: list[tuple[str, _Text]], fault: str) -> str:
    """Leaves out one release, so far into the driver; the name of its routine."""
    releases = [(head, text, line) for head, text in routines for line in text.releases]
    head, text, line = releases[int(PLACES[fault] * len(releases))]
    text.lines[line] = ""
    text.statements -= 1
    return head.partition("(")[0]
