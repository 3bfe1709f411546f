"""Transition systems (`modelcheck export --to vmt`) as Z3 terms, one frame after the other.

Only the annotations are read: `:next` makes a variable of a constant, `:init`, `:trans` and `:invar-property` name the
formulas; constants without `:next` are inputs of a step.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import monotonic
from typing import TypeAlias

import z3

from benchmarks.peers import child
from modelcheck.export.vmt import vmt
from modelcheck.system import System
from modelcheck.verdict import Obligation

_ANNOTATED = re.compile(r"^\(define-fun (\S+) .* :(init|trans|invar-property) ([^\s()]+)\)\)$", re.MULTILINE)
_PLAIN = re.compile(r"\(! (.*) :(?:next|init|trans|invar-property) [^\s()]+\)")
_DECLARED = re.compile(r"\(declare-fun (\S+) \(\) (\S+)\)")


def write(systems: Sequence[System], asked: dict[int, Obligation], folder: Path) -> list[Path]:
    """A file for each root that can break something."""
    files = []
    for number, system in enumerate(systems):
        text = vmt(system, asked)
        if ":invar-property" in text:
            files.append(folder / f"root{number}.vmt")
            files[-1].write_text(text)
    return files


class Frames:
    """One file's system at times 0, 1, ..: `init(0)`; `trans(i)`, from i to i + 1; `bad(i)`, some property fails."""

    def __init__(self, text: str) -> None:
        following = dict(re.findall(r"\(! (\S+) :next ([^\s()]+)\)", text))
        named = {f"{kind} {value}": name for name, kind, value in _ANNOTATED.findall(text)}
        plain = _PLAIN.sub(r"\1", text)
        properties = [name for key, name in named.items() if key.startswith("invar-property")]
        wanted = [named["init true"], named["trans true"], *properties]
        self._init, self._trans, *holds = z3.parse_smt2_string(plain + "".join(f"(assert {name})" for name in wanted))
        self._bad = z3.Not(z3.And(*holds))
        sorts = {"Int": z3.IntSort(), "Bool": z3.BoolSort()}
        constants = {name: z3.Const(name, sorts[sort]) for name, sort in _DECLARED.findall(plain)}
        self._now = [constants.pop(name) for name in following]
        self._next = [constants.pop(name) for name in following.values()]
        self._inputs = list(constants.values())

    def state(self, time: int) -> list[z3.ExprRef]:
        return [z3.Const(f"{variable}@{time}", variable.sort()) for variable in self._now]

    def init(self, time: int) -> z3.ExprRef:
        return self._at(self._init, time)

    def trans(self, time: int) -> z3.ExprRef:
        return self._at(self._trans, time)

    def bad(self, time: int) -> z3.ExprRef:
        return self._at(self._bad, time)

    def _at(self, term: z3.ExprRef, time: int) -> z3.ExprRef:
        inputs = [(variable, z3.Const(f"{variable}@{time}", variable.sort())) for variable in self._inputs]
        now, then = zip(self._now, self.state(time), strict=True), zip(self._next, self.state(time + 1), strict=True)
        return z3.substitute(term, *now, *then, *inputs)


class Late(Exception):
    """The time is used up."""


Search: TypeAlias = Callable[[Frames, float], Iterator[bool | None]]
"""How a system is decided until a deadline: after each depth None, or at last whether it is safe."""


def main(search: Search) -> None:
    """The child: the systems of all files are deepened in turn, until one is unsafe or all are safe."""
    seconds, files = float(sys.argv[1]), sys.argv[2:]
    systems = [Frames(Path(file).read_text()) for file in files]
    started = monotonic()
    going = [search(frames, started + seconds) for frames in systems]
    verdict, depth = "safe", 0
    try:
        while going and verdict == "safe":
            found = [(one, next(one)) for one in going]
            verdict = "unsafe" if any(safe is False for _, safe in found) else "safe"
            going = [one for one, safe in found if safe is None]
            depth += 1
    except Late:
        verdict = "unknown"
    child.answer(verdict, monotonic() - started, f"depth {depth}, {len(files) - len(going)} of {len(files)} roots done")


def check(solver: z3.Solver, deadline: float) -> bool:
    """Whether what was added can be satisfied.

    Raises:
        Late: it is not known in time.
    """
    left = deadline - monotonic()
    if left <= 0:
        raise Late
    solver.set("timeout", max(1, int(left * 1000)))
    found = solver.check()
    if found == z3.unknown:
        raise Late
    return bool(found == z3.sat)


def check_with(solver: z3.Solver, deadline: float, fact: z3.ExprRef) -> bool:
    """The same with one fact more, for now."""
    solver.push()
    solver.add(fact)
    found = check(solver, deadline)
    solver.pop()
    return found
