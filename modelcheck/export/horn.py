"""Obligations as constrained Horn clauses, in the format of the CHC competition (`set-logic HORN`).

A relation says which values the variables can have at a location; a clause what an edge makes of them. The clauses
can be satisfied if and only if no obligation can be broken: `sat` is proved, `unsat` is violated. With large blocks
there is a relation only at the entry and at each head of a loop, and all that lies between two of them is one clause;
locations where paths join have variables of their own, and that an edge is taken is an implication, as guards may
overlap.

Bjorner, Gurfinkel, McMillan, Rybalchenko: Horn Clause Solvers for Program Verification, 2015. Beyer, Cimatti, Griggio,
Keremoglu, Sebastiani: Software Model Checking via Large-Block Encoding, FMCAD 2009.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from modelcheck import encode
from modelcheck.encode import Asserted, Declared, Defined, Item
from modelcheck.export.flow import Flow
from modelcheck.record import dataclass, field
from modelcheck.system import System


def horn(systems: Sequence[System], blocks: bool) -> str:
    """The clauses of some roots together, with one relation for each location or with large blocks."""
    text = ["(set-logic HORN)"]
    for number, system in enumerate(systems):
        made = _Blocks(Flow(system), f"R{number}_") if blocks else _Points(Flow(system), f"R{number}_")
        text.append(f"; {system.root.routine}")
        for place, variable in enumerate(system.variables):
            text.append(f";   v{place}: {variable[0].name}")
        text += made.text()
    return "\n".join([*text, "(check-sat)", ""])


@dataclass(slots=True)
class _Clause:
    """Variables, and what holds of them."""

    declared: list[tuple[str, str]] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    count: int = 0

    def fresh(self, stem: str, sort: str) -> str:
        self.count += 1
        name = f"{stem}_{self.count}"
        self.declared.append((name, sort))
        return name

    def add(self, items: Iterable[Item]) -> None:
        for item in items:
            match item:
                case Declared(name, sort):
                    self.declared.append((name, sort))
                case Defined(name, sort, term):
                    self.declared.append((name, sort))
                    self.facts.append(f"(= {name} {term})")
                case Asserted(term):
                    self.facts.append(term)

    def rule(self, body: Iterable[str], head: str) -> str:
        """That the facts and the body imply the head, for all values."""
        implication = f"(=> {encode.conjunction([*self.facts, *body])} {head})"
        if not self.declared:
            return f"(assert {implication})"
        bound = " ".join(f"({name} {sort})" for name, sort in self.declared)
        return f"(assert (forall ({bound}) {implication}))"


class _Points:
    """One relation for each location."""

    def __init__(self, flow: Flow, prefix: str) -> None:
        self.flow = flow
        self.system = flow.system
        self.prefix = prefix
        self.names = [f"v{number}" for number in range(len(self.system.variables))]
        self.useful = [location for location in flow.order if location in self.system.useful]

    def text(self) -> list[str]:
        lines = [self.declaration(location) for location in self.useful]
        if self.system.entry in self.system.useful:
            lines.append(self.entry())
        for location in self.useful:
            for number, edge in enumerate(self.flow.out[location]):
                made = self.system.step(edge, self.names, f"e{location}_{number}_")
                clause = self.clause(location)
                clause.add(made.items)
                here = self.relation(location, self.names)
                if edge.target in self.system.useful:
                    lines.append(clause.rule([here, made.alive], self.relation(edge.target, made.outputs)))
                if made.bad != "false":
                    lines.append(clause.rule([here, made.bad], "false"))
        return lines

    def declaration(self, location: int) -> str:
        return f"(declare-fun {self.prefix}{location} ({' '.join(['Int'] * len(self.flow.live[location]))}) Bool)"

    def relation(self, location: int, values: Sequence[str]) -> str:
        arguments = [values[number] for number in sorted(self.flow.live[location])]
        name = f"{self.prefix}{location}"
        return f"({name} {' '.join(arguments)})" if arguments else name

    def clause(self, _: int) -> _Clause:
        return _Clause([(name, "Int") for name in self.names])

    def entry(self) -> str:
        entry = self.system.entry
        return self.clause(entry).rule([self.system.start(self.names)], self.relation(entry, self.names))


class _Blocks(_Points):
    """Relations at cut points alone."""

    def text(self) -> list[str]:
        lines = [self.declaration(cut) for cut in self.flow.cuts]
        lines.append(self.entry())
        for cut in self.flow.cuts:
            lines += self.block(cut)
        return lines

    def block(self, cut: int) -> list[str]:
        """The clauses from one cut point to those after it, and to what breaks."""
        clause = self.clause(cut)
        arriving: dict[int, list[tuple[str, list[str]]]] = {cut: [("true", list(self.names))]}
        bad: list[str] = []
        for location in self.flow.region(cut):
            here, values = self.join(arriving.pop(location), location, clause, f"b{location}")
            for number, edge in enumerate(self.flow.out[location]):
                made = self.system.step(edge, values, f"b{location}_{number}_")
                clause.add(made.items)
                if made.bad != "false":
                    bad.append(encode.conjunction((here, made.bad)))
                taken = encode.conjunction((here, made.alive))
                arriving.setdefault(edge.target, []).append((taken, made.outputs))
        start = self.relation(cut, self.names)
        lines = [clause.rule([start, encode.disjunction(bad)], "false")] if bad else []
        for target, ways in arriving.items():
            if target in self.flow.cuts:
                joined = _Clause(list(clause.declared), list(clause.facts), clause.count)
                here, values = self.join(ways, target, joined, f"to{target}")
                lines.append(joined.rule([start, here], self.relation(target, values)))
        return lines

    def join(
        self, ways: list[tuple[str, list[str]]], location: int, clause: _Clause, stem: str
    ) -> tuple[str, list[str]]:
        """That some way was taken, and the values then; variables that differ get a name."""
        if len(ways) == 1:
            taken, values = ways[0]
            if len(taken) < 40:
                return taken, values
            name = clause.fresh(stem, "Bool")
            clause.facts.append(f"(= {name} {taken})")
            return name, values
        merged = list(ways[0][1])
        different = [n for n in self.flow.live[location] if any(values[n] != merged[n] for _, values in ways)]
        for number in different:
            merged[number] = clause.fresh(stem, "Int")
        edges: list[str] = []
        for taken, values in ways:
            edge = clause.fresh(stem, "Bool")
            same = [f"(= {merged[n]} {values[n]})" for n in different]
            clause.facts.append(f"(=> {edge} {encode.conjunction([taken, *same])})")
            edges.append(edge)
        return encode.disjunction(edges), merged
