"""Z3 checks the verification conditions of all invariants of a driver."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import z3

from modelcheck.evidence.conditions import FormulaQuery, Pool, Query, text
from modelcheck.record import dataclass

Text: TypeAlias = tuple[list[str], str]
"""A query: declarations and definitions, and what must not be satisfied."""

BATCH, BATCH_TEXT = 150, 60_000
"""Queries asked at once, and characters of their text: that one of them can be satisfied is one question. Small ones
cost less together, large ones more, as the solver has them all in view."""


@dataclass(frozen=True, slots=True)
class Checked:
    """`rejected`: numbers of invariants that some query speaks against, with the query. `unanswered`: those where Z3
    gave up."""

    rejected: dict[int, str]
    unanswered: dict[int, str]
    asked: int


def certify(pool: Pool, milliseconds: int) -> Checked:
    """Asks every query of the pool."""
    queries = [q for q in zip(pool.queries, pool.invariants, strict=True) if not isinstance(q[0], FormulaQuery)]
    rejected: dict[int, str] = {}
    unanswered: dict[int, str] = {}
    for start, texts in _batches([query for query, _ in queries]):
        if _ask(texts, milliseconds) == z3.unsat:
            continue
        for (query, invariants), one in zip(queries[start:], texts, strict=False):
            answer = _ask([one], milliseconds)
            if answer != z3.unsat:
                target = rejected if answer == z3.sat else unanswered
                target.update(dict.fromkeys(sorted(invariants), "\n".join(smt(query, "q"))))
    for query, invariants in zip(pool.queries, pool.invariants, strict=True):
        if isinstance(query, FormulaQuery):  # with names of their own: one by one
            answer = _ask_alone(query, milliseconds)
            if answer != z3.unsat:
                target = rejected if answer == z3.sat else unanswered
                target.update(dict.fromkeys(sorted(invariants), "\n".join(smt(query, ""))))
    return Checked(rejected, unanswered, len(pool.queries))


def _ask_alone(query: FormulaQuery, milliseconds: int) -> z3.CheckSatResult:
    solver = z3.SolverFor("QF_FD") if query.bits else z3.SimpleSolver()
    solver.set("timeout", milliseconds)
    solver.from_string("\n".join((*query.lines, f"(assert {query.final})")))
    return solver.check()


def _batches(queries: list[Query]) -> Iterator[tuple[int, list[Text]]]:
    """The texts of queries that are asked at once, with the number of the first."""
    batch: list[Text] = []
    size = 0
    for number, query in enumerate(queries):
        body, final = text(query, f"q{number}_")
        length = sum(map(len, body))
        if batch and (len(batch) == BATCH or size + length > BATCH_TEXT):
            yield number - len(batch), batch
            batch, size = [], 0
        batch.append((body, final))
        size += length
    if batch:
        yield len(queries) - len(batch), batch


def _ask(texts: list[Text], milliseconds: int) -> z3.CheckSatResult:
    """unsat when no query can be satisfied."""
    lines: list[str] = []
    finals: list[str] = []
    for body, final in texts:
        lines += body
        if final == "true":
            return z3.sat
        if final != "false":
            finals.append(final)
    if not finals:
        return z3.unsat
    solver = z3.SolverFor("QF_FD")
    solver.set("timeout", milliseconds)
    solver.from_string("\n".join((*lines, f"(assert (or false {' '.join(finals)}))")))
    return solver.check()


def smt(query: Query, prefix: str) -> list[str]:
    """One query for an SMT-LIB file, in a scope of its own."""
    body, final = text(query, prefix)
    return ["(push 1)", *body, f"(assert {final})", "(check-sat)", "(pop 1)"]


def script(pool: Pool) -> str:
    """All queries as one SMT-LIB script; each `check-sat` must answer unsat."""
    integers = any(isinstance(query, FormulaQuery) and not query.bits for query in pool.queries)
    lines = [f"(set-logic {'ALL' if integers else 'QF_BV'})"]
    for number, query in enumerate(pool.queries):
        lines.append(f"; query {number}")
        lines += smt(query, f"q{number}_")
    return "\n".join(lines) + "\n"
