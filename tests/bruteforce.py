"""All runs of all roots of a small driver, one after the other: the answer the engines are compared with.

States of the interpreter are explored depth first and kept, so that loops end. What roots see of each other
(docs/language.md, section 6) is found by exploring them again until nothing new is written: exactly the values that
some run writes, so nothing here is an approximation unless a limit was reached.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field

from modelcheck.interpret import (
    INITIALISED,
    RETURNED,
    UNINITIALISED,
    Environment,
    Failure,
    Machine,
    State,
)
from modelcheck.resolve import Program
from modelcheck.verdict import Obligation

PHASES = ("load", "add", "start", "run", "stop", "unload")
MAX_STATES = 20_000
MAX_CALLS = 40
"""Calls active at once; more are taken for a recursion that does not end."""


@dataclass(slots=True)
class Explored:
    """`failures`: every obligation some run fails. `complete`: all runs were seen. `writes`: values written to shared
    variables and ghost fields. `lives`: how runs that let the driver go on leave each lock; `touched`: the locks that
    some run initialises or frees."""

    failures: set[Failure] = field(default_factory=set)
    complete: bool = True
    states: int = 0
    writes: dict[str, set[int]] = field(default_factory=dict)
    lives: dict[str, set[int]] = field(default_factory=dict)
    touched: set[str] = field(default_factory=set)

    def keys(self) -> set[tuple[str, str, int, str]]:
        """(code, routine, line, subject) of each failure."""
        return {(f.code.value, f.routine, f.span.line, f.subject) for f in self.failures}

    def breaks(self, obligation: Obligation) -> bool:
        return any(f.breaks(obligation) for f in self.failures)


class _Branching:
    """Answers choices by a prefix, then by the first value; `next_prefix` is the next prefix depth first, if any."""

    def __init__(self, prefix: list[int]) -> None:
        self.prefix = prefix
        self.asked: list[tuple[int, Sequence[int]]] = []

    def __call__(self, name: str, allowed: Sequence[int]) -> int:
        number = len(self.asked)
        index = self.prefix[number] if number < len(self.prefix) else 0
        self.asked.append((index, allowed))
        return allowed[index]

    def next_prefix(self) -> list[int] | None:
        for number in range(len(self.asked) - 1, -1, -1):
            index, allowed = self.asked[number]
            if index + 1 < len(allowed):
                return [i for i, _ in self.asked[:number]] + [index + 1]
        return None


def explore(machine: Machine, root: str, max_states: int = MAX_STATES) -> Explored:
    """Every run of `root` in the environment of the machine."""
    found = Explored()
    machine.written, machine.touched = found.writes, found.touched
    seen: set[Hashable] = set()
    pending: list[State] = []

    def visit(state: State) -> None:
        if state.ended:
            if state.ended == RETURNED and state.goes_on:
                for lock, life in state.lives.items():
                    found.lives.setdefault(lock, set()).add(life)
            return
        if len(state.frames) > MAX_CALLS:
            found.complete = False
            return
        key = state.key()
        if key not in seen:
            seen.add(key)
            pending.append(state)

    for binding in machine.bindings(root):
        for started in _starts(machine, root, dict(binding)):
            visit(started)
    while pending:
        found.states += 1
        if found.states > max_states:
            found.complete = False
            break
        for after, failures in _successors(machine, pending.pop()):
            found.failures.update(failures)
            visit(after)
    return found


def _starts(machine: Machine, root: str, binding: dict[str, str]) -> Iterator[State]:
    prefix: list[int] | None = []
    while prefix is not None:
        chooser = _Branching(prefix)
        yield machine.start(root, chooser, binding)
        prefix = chooser.next_prefix()


def _successors(machine: Machine, state: State) -> Iterator[tuple[State, tuple[Failure, ...]]]:
    prefix: list[int] | None = []
    while prefix is not None:
        chooser = _Branching(prefix)
        after = state.copy()
        failures = machine.step(after, chooser).failures
        yield after, failures
        prefix = chooser.next_prefix()


# ---- what roots see of each other ----


@dataclass(frozen=True, slots=True)
class _Root:
    name: str
    phase: int
    single: bool


def roots_of(machine: Machine) -> list[_Root]:
    found = []
    for name in machine.roots():
        role, _ = machine.role(name)
        phase = "run" if role is None or role.phase is None else role.phase
        found.append(_Root(name, PHASES.index(phase), role is not None and role.single))
    return found


def environment_of(machine: Machine, root: _Root, roots: list[_Root], results: dict[str, Explored]) -> Environment:
    starts: dict[str, set[int]] = {}
    others: dict[str, set[int]] = {}
    alone = PHASES.index("start")
    for name, variable in machine.program.variables.items():
        domain = machine.tables.domain(variable.type)
        if domain is not None:
            declared = machine.initial["var", name]
            assert isinstance(declared, int)
            starts[name] = {declared} if variable.value is not None or domain.level else set(domain.open)
    ghosts = {f"{lock}.{member}" for lock, member in machine.ghosts}
    for other in roots:
        for name, values in results[other.name].writes.items():
            if name in ghosts:
                others.setdefault(name, set()).update(values)
                continue
            if other.phase <= root.phase and name in starts:
                starts[name] |= values
            apart = other.phase < alone or root.phase < alone or (other is root and root.single)
            if not apart:
                others.setdefault(name, set()).update(values)
    lives = {lock: _lives(machine, lock, root, roots, results) for lock in machine.tables.instances}
    return Environment(_frozen(starts), _frozen(others), _frozen(lives))


def _frozen(sets: dict[str, set[int]]) -> dict[str, frozenset[int]]:
    return {name: frozenset(values) for name, values in sets.items() if values}


def _lives(machine: Machine, lock: str, root: _Root, roots: list[_Root], results: dict[str, Explored]) -> set[int]:
    """Initialised if every routine of the earlier phases that touches the lock leaves it so."""
    decl = machine.tables.instances[lock]
    declared = {INITIALISED if decl.initialised else UNINITIALISED}
    earlier = [other for other in roots if other.phase < root.phase and lock in results[other.name].touched]
    left = {life for other in earlier for life in results[other.name].lives.get(lock, ())}
    return left or declared


def analyse(program: Program, max_states: int = MAX_STATES) -> dict[str, Explored]:
    """What can fail in each root, in the environment that the other roots make for it."""
    machine = Machine(program)
    roots = roots_of(machine)
    results = {root.name: Explored() for root in roots}
    known: dict[str, Environment] = {}
    changed = True
    while changed:
        changed = False
        for root in roots:
            environment = environment_of(machine, root, roots, results)
            if known.get(root.name) == environment:
                continue
            known[root.name] = environment
            changed = True
            earlier = results[root.name].writes
            found = results[root.name] = explore(machine.with_environment(environment), root.name, max_states)
            for name, values in earlier.items():
                found.writes.setdefault(name, set()).update(values)
    return results
