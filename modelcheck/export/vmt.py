"""A root as a symbolic transition system in VMT, which nuXmv, ic3ia and Pono read.

SMT-LIB with annotations: `:next` names a variable's value after a step, `:init` what holds at first, `:trans` what a
step is, `:invar-property N` what always holds. `location` says where the run stands; each obligation has a location of
its own to which a step that breaks it leads, so that a property is about one state. Constants without `:next` are
inputs: how a step's open choices go.

https://vmt-lib.fbk.eu
"""

from __future__ import annotations

from modelcheck import encode
from modelcheck.encode import Asserted, Declared, Defined
from modelcheck.system import FlatEdge, System, Transition
from modelcheck.verdict import Obligation


def vmt(system: System, asked: dict[int, Obligation]) -> str:
    """The transition system of a root, with a property for each of the obligations asked that it may come to."""
    return _Writer(system, asked).text()


class _Writer:
    def __init__(self, system: System, asked: dict[int, Obligation]) -> None:
        self.system = system
        self.asked = asked
        self.names = [f"v{number}" for number in range(len(system.variables))]
        self.sort = encode.sort_of(encode.INTEGERS)
        self.definitions: list[str] = []
        self.errors: dict[int, int] = {}
        """For each obligation the location to which breaking it leads."""

    def text(self) -> str:
        steps = [step for number, edge in enumerate(self.system.edges) for step in self.steps(number, edge)]
        errors = [self.stays(location) for location in self.errors.values()]
        start = encode.conjunction((f"(= location {self.system.entry})", self.system.start(self.names)))
        lines = [f"; {self.system.root.routine}"]
        lines += [f"; v{n}: {place[0].name}" for n, place in enumerate(self.system.variables)]
        for name in ("location", *self.names):
            lines += [f"(declare-fun {name} () {self.sort})", f"(declare-fun {name}_next () {self.sort})"]
            lines.append(f"(define-fun .{name} () {self.sort} (! {name} :next {name}_next))")
        lines += self.definitions
        lines.append(f"(define-fun .init () Bool (! {start} :init true))")
        lines.append(f"(define-fun .trans () Bool (! {encode.disjunction([*steps, *errors])} :trans true))")
        for index, (number, location) in enumerate(sorted(self.errors.items())):
            lines.append(f"; {self.asked[number].id}: {' '.join(self.asked[number].why.split())}")
            holds = f"(not (= location {location}))"
            lines.append(f"(define-fun .property{index} () Bool (! {holds} :invar-property {index}))")
        return "\n".join(lines) + "\n"

    def steps(self, number: int, edge: FlatEdge) -> list[str]:
        """The edge as steps: one on, and one for each obligation that it can break."""
        if edge.source not in self.system.useful:
            return []
        made = self.system.step(edge, self.names, f"e{number}_")
        facts = [f"(= location {edge.source})", *self.facts(made)]
        found = []
        if edge.target in self.system.useful:
            found.append(self.step([*facts, made.alive], edge.target, made.outputs))
        for obligation, term in sorted(made.broken.items()):
            if obligation in self.asked:
                location = self.errors.setdefault(obligation, self.system.size + len(self.errors))
                found.append(self.step([*facts, term], location, self.names))
        return found

    def facts(self, made: Transition) -> list[str]:
        """What a step says of its open choices; definitions are written once."""
        found = []
        for item in made.items:
            match item:
                case Asserted(term):
                    found.append(term)
                case Declared(name, sort):
                    self.definitions.append(f"(declare-fun {name} () {sort})")
                case Defined():
                    self.definitions.append(encode.line(item))
        return found

    def step(self, facts: list[str], target: int, values: list[str]) -> str:
        after = [f"(= {name}_next {value})" for name, value in zip(self.names, values, strict=True)]
        return encode.conjunction((*facts, f"(= location_next {target})", *after))

    def stays(self, location: int) -> str:
        return self.step([f"(= location {location})"], location, self.names)
