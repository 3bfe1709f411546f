"""Many correlated variables: path-merged queries between the heads of loops, with a set of values for each variable
there.

The sets at the cut points are found by asking Z3, again and again, for an arrival with a value that is not in them yet.
What is left when no answer comes is an invariant, checked by `evidence.conditions` like any other. Only proofs come
from here.

Reps, Sagiv, Yorsh: Symbolic implementation of the best transformer, VMCAI 2004.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic

import z3

from modelcheck import encode
from modelcheck.blocks import Block, Sets, block, cut_points, start_sets, within
from modelcheck.system import System

MAX_LISTED = 24
"""A variable with more values than that at a cut point may have any of its range there."""
WIDE = 64
"""One of so wide a range may have any value as soon as it has two."""


def solve(system: System, level: int, milliseconds: int) -> tuple[dict[int, Sets], frozenset[int]] | str:
    """For the root started at this level: sets for each cut point that is reached, and the obligations that they prove;
    or why there is no answer."""
    deadline = monotonic() + milliseconds / 1000
    cuts = cut_points(system)
    invariant: dict[int, Sets] = {system.entry: start_sets(system, level)}
    pending = [system.entry]
    while pending:
        cut = pending.pop(0)
        made = block(system, cut, invariant[cut], cuts)
        grown = _arrivals(system, made, invariant, deadline)
        if isinstance(grown, str):
            return grown
        pending += [target for target in sorted(grown) if target not in pending]
    proved = set(system.obligations)
    for cut in sorted(invariant):
        broken = _broken(block(system, cut, invariant[cut], cuts), frozenset(proved), deadline)
        if isinstance(broken, str):
            return broken
        proved -= broken
    return invariant, frozenset(proved)


def _solver(lines: Sequence[str], deadline: float) -> z3.Solver | None:
    left = deadline - monotonic()
    if left <= 0:
        return None
    solver = z3.SolverFor("QF_FD")
    solver.set("timeout", int(left * 1000) + 1)
    solver.from_string("\n".join(lines))
    return solver


def _arrivals(system: System, made: Block, invariant: dict[int, Sets], deadline: float) -> set[int] | str:
    """Adds to the cut points' sets what can arrive from one block; gives those that have grown."""
    grown: set[int] = set()
    while True:
        fresh = [
            encode.conjunction((taken, encode.negation(within(system, values, invariant[target]))))
            if target in invariant
            else taken
            for target, taken, values in made.arrivals
        ]
        probes = [
            f"(declare-const probe{n}_{i} {encode.sort_of(system.width)})\n(assert (= probe{n}_{i} {value}))"
            for n, (_, _, values) in enumerate(made.arrivals)
            for i, value in enumerate(values)
        ]
        hits = [f"(declare-const hit{n} Bool)\n(assert (= hit{n} {term}))" for n, term in enumerate(fresh)]
        solver = _solver([*made.lines, *probes, *hits, f"(assert {encode.disjunction(fresh)})"], deadline)
        answer = z3.unknown if solver is None else solver.check()
        if answer == z3.unsat:
            return grown
        if solver is None or answer != z3.sat:
            return "the path-merged query took too long"
        model = solver.model()
        for n, (target, _, values) in enumerate(made.arrivals):
            if not z3.is_true(model.eval(z3.Bool(f"hit{n}"))):
                continue
            arrived = [
                model.eval(z3.BitVec(f"probe{n}_{i}", system.width), model_completion=True).as_signed_long()
                for i in range(len(values))
            ]
            invariant[target] = _widened(system, invariant.get(target), arrived)
            grown.add(target)


def _widened(system: System, sets: Sets | None, arrived: Sequence[int]) -> Sets:
    result: list[Sequence[int]] = []
    for (cell, _), known, value in zip(system.variables, sets or ((),) * len(arrived), arrived, strict=True):
        if value in known:
            result.append(known)
        elif len(known) >= MAX_LISTED or (known and cell.high - cell.low >= WIDE):
            result.append(range(cell.low, cell.high + 1))
        else:
            result.append(tuple(sorted({*known, value})))
    return tuple(result)


def _broken(made: Block, obligations: frozenset[int], deadline: float) -> set[int] | str:
    """Obligations that some path of the block may break."""
    broken: set[int] = set()
    while True:
        asked = [term for number, term in made.bad if number in obligations - broken]
        solver = _solver([*made.lines, f"(assert {encode.disjunction(asked)})"], deadline)
        answer = z3.unknown if solver is None else solver.check()
        if answer == z3.unsat:
            return broken
        if solver is None or answer != z3.sat:
            return "the path-merged query took too long"
        hit = _hit(made, asked, solver.model(), deadline)
        found = {number for number, term in made.bad if term in hit} & obligations
        if found <= broken:
            return "the path-merged query could not be read"
        broken |= found


def _hit(made: Block, asked: list[str], model: z3.ModelRef, deadline: float) -> set[str]:
    """Which of the terms asked for hold in a model."""
    fixed = []
    for declaration in model.decls():
        value = model[declaration]
        if z3.is_bv_value(value):
            fixed.append(f"(assert (= {declaration.name()} {encode.literal(value.as_long(), value.size())}))")
        elif z3.is_true(value) or z3.is_false(value):
            fixed.append(f"(assert (= {declaration.name()} {'true' if z3.is_true(value) else 'false'}))")
    names = [f"(declare-const asked{n} Bool)\n(assert (= asked{n} {term}))" for n, term in enumerate(asked)]
    solver = _solver([*made.lines, *names, *fixed], deadline)
    if solver is None or solver.check() != z3.sat:
        return set()
    found = solver.model()
    return {term for n, term in enumerate(asked) if z3.is_true(found.eval(z3.Bool(f"asked{n}")))}
