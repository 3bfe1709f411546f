"""Z3's Horn solver asked about exported files, in this process."""

from __future__ import annotations

import re

import z3


def satisfiable(text: str, milliseconds: int = 20_000) -> bool | None:
    """Whether a file of Horn clauses can be satisfied; None if it is not known in time."""
    solver = z3.SolverFor("HORN")
    solver.set("timeout", milliseconds)
    solver.from_string(text)
    answer = solver.check()
    return True if answer == z3.sat else False if answer == z3.unsat else None


def invariant(text: str, index: int, milliseconds: int = 20_000) -> bool | None:
    """Whether a property of a VMT file always holds: read by its annotations alone, asked as Horn clauses."""
    following = dict(re.findall(r"\(! (\S+) :next ([^\s()]+)\)", text))
    named = {f"{kind} {value}": name for name, kind, value in re.findall(_ANNOTATED, text, re.MULTILINE)}
    plain = re.sub(r"\(! (.*) :(?:next|init|trans|invar-property) [^\s()]+\)", r"\1", text)
    wanted = (named["init true"], named["trans true"], named[f"invar-property {index}"])
    init, trans, holds = z3.parse_smt2_string(plain + "".join(f"(assert {name})" for name in wanted))
    constants = {name: z3.Const(name, sort) for name, sort in _constants(plain)}
    now = [constants[name] for name in following]
    then = [constants[name] for name in following.values()]
    everything = list(constants.values())
    reached = z3.Function("reached", *(c.sort() for c in now), z3.BoolSort())
    solver = z3.SolverFor("HORN")
    solver.set("timeout", milliseconds)
    solver.add(z3.ForAll(everything, z3.Implies(init, reached(*now))))
    solver.add(z3.ForAll(everything, z3.Implies(z3.And(reached(*now), trans), reached(*then))))
    solver.add(z3.ForAll(everything, z3.Implies(z3.And(reached(*now), z3.Not(holds)), z3.BoolVal(False))))
    answer = solver.check()
    return True if answer == z3.sat else False if answer == z3.unsat else None


_ANNOTATED = r"^\(define-fun (\S+) .* :(init|trans|invar-property) ([^\s()]+)\)\)$"


def _constants(text: str) -> list[tuple[str, z3.SortRef]]:
    sorts = {"Int": z3.IntSort(), "Bool": z3.BoolSort()}
    return [(name, sorts[sort]) for name, sort in re.findall(r"\(declare-(?:fun (\S+) \(\)) (\S+)\)", text)]
