"""What has to hold for a proof about several contexts, as queries that must all be unsatisfiable.

It starts from the certified invariant of all roots. The acquisitions read off it are all there are (each arrival is
asked of `encode`); the ranks rise along every edge of their order that lies on no cycle; each cycle that is left is
impossible, in states that other certified invariants leave. What an obligation needs besides is looked up among the
obligations proved: that nobody waits for himself (B01), and that nobody ends with the lock (B03).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from modelcheck.devices import plain
from modelcheck.evidence.conditions import ArrivalQuery, FormulaQuery, Impossible, Pool, Query
from modelcheck.lower import Lowered
from modelcheck.mutual.cycles import disjunction, formula, link_name
from modelcheck.mutual.nesting import Nesting
from modelcheck.mutual.order import Node
from modelcheck.mutual.positions import EXCLUSIVE, Arrival, Case, Position
from modelcheck.mutual.questions import Question
from modelcheck.mutual.rings import Rings
from modelcheck.mutual.situation import Candidates, Situation, Splits, Tests, apart, clashes, go_together
from modelcheck.record import dataclass, field
from modelcheck.verdict import Property


@dataclass(slots=True)
class Grounds:
    """What proofs about several contexts rest on. `cases`: the operations at which contexts meet, with all arrivals;
    `never`: for each question that was asked whether the state is certified never to be met; `proved`: the obligations
    about one context that are proved; `splits`: which states were told apart."""

    lowered: Lowered
    situation: Situation
    cases: Mapping[Case, tuple[Arrival, ...]]
    never: Mapping[Question, bool]
    proved: frozenset[int]
    splits: Splits
    _rings: dict[int, Rings] = field(default_factory=dict)
    _whole: dict[int, FormulaQuery | None] = field(default_factory=dict)
    _nesting: list[Nesting] = field(default_factory=list)
    _positions: dict[int, list[int]] = field(default_factory=dict)
    """For each obligation the positions that stand there."""

    def __post_init__(self) -> None:
        for number, position in enumerate(self.situation.facts.positions):
            for obligation in dict.fromkeys(position.obligations):
                self._positions.setdefault(obligation, []).append(number)


def conditions(grounds: Grounds, obligations: Sequence[int], pool: Pool) -> None:
    """Adds what must hold for these obligations to be proved. Queries about all of them have number -1."""
    if not obligations:
        return
    for case, arrivals in grounds.cases.items():
        pool.add(ArrivalQuery(case, arrivals), -1)
    pool.add(_ranks(grounds.situation), -1)
    if any(grounds.situation.facts.tainted):
        pool.add(Impossible("a routine calls what no model knows"), -1)
    claims = frozenset(obligations)
    for number in sorted(obligations):
        for query in _Proof(grounds, number, claims).queries():
            pool.add(query, number)


def _ranks(situation: Situation) -> FormulaQuery:
    # every edge that is not within a component rises:  rank(a) >= rank(b) for one of them is impossible
    order = situation.order
    names: dict[Node, str] = {node: f"r{number}" for number, node in enumerate(order.edges)}
    lines = [f"(define-fun {names[node]} () Int {order.components[node]})" for node in order.edges]
    falls = [
        f"(>= {names[source]} {names[target]})"
        for source, targets in order.edges.items()
        for target in targets
        if not order.cyclic(source, target)
    ]
    return FormulaQuery(tuple(lines), disjunction(falls))


class _Proof:
    """What one obligation needs."""

    def __init__(self, grounds: Grounds, number: int, claims: frozenset[int]) -> None:
        self.grounds = grounds
        self.claims = claims
        self.situation = grounds.situation
        self.number = number
        self.obligation = grounds.lowered.obligations[number]
        self.positions = grounds._positions.get(number, [])

    def queries(self) -> list[Query]:
        match self.obligation.code:
            case Property.D01:
                return [*self._itself(), *self._left(), *self._rings(self._cyclic(), direct=False)]
            case Property.D02:
                return self._rings(sorted(self.situation.above_itself(self.positions)), direct=True)
            case Property.D03:
                return self._event()
            case Property.D04:
                return self._nested()
            case _:
                return self._race()

    def _cyclic(self) -> list[int]:
        return sorted({c for p in self.positions for c in self.situation.parts.get(p, ())})

    def _itself(self) -> list[Query]:
        found: list[Query] = []
        for number in self.positions:
            itself = self.situation.facts.positions[number].itself
            if itself >= 0 and itself not in self.grounds.proved:
                found.append(Impossible("the context may hold what it waits for"))
        return found

    def _left(self) -> list[Query]:
        found: list[Query] = []
        for number in self.positions:
            position = self.situation.facts.positions[number]
            for root, mask in self.situation.enders.get(position.wanted, ()) if position.sort == "lock" else ():
                stops = mask & EXCLUSIVE or (mask and not position.shared)
                before = self.situation.stuck_before(position, root, mask) if stops else True
                if not before and not self._released(position, root):
                    found.append(Impossible(f"{self.situation.roots[root].routine} may end with the lock held"))
        return found

    def _released(self, position: Position, root: int) -> bool:
        numbers = [
            n
            for n, o in enumerate(self.grounds.lowered.obligations)
            if o.code in (Property.B03, Property.C02)
            and o.routine == self.situation.roots[root].routine
            and o.subject == plain(position.wanted)
            and not o.scenario
        ]
        return bool(numbers) and all(n in self.grounds.proved for n in numbers)

    def _rings(self, components: Sequence[int], direct: bool) -> list[Query]:
        found: list[Query] = []
        for component in components:
            whole = self._whole(component)
            if whole is not None:
                found.append(whole)
            else:
                rings = self._rings_of(component)
                found += _closed(rings, rings.about(set(self.positions), direct))
        return found

    def _rings_of(self, component: int) -> Rings:
        rings = self.grounds._rings.get(component)
        if rings is None:
            rings = self.grounds._rings[component] = Rings(self.situation, component, self._live)
        return rings

    def _whole(self, component: int) -> FormulaQuery | None:
        """One question for all positions of a component, if it is claimed of all that nobody waits there for ever."""
        known = self.grounds._whole
        if component not in known:
            rings = self._rings_of(component)
            everything = set(rings.position_of.values())
            links = rings.about(everything, direct=False) if self._all_claimed(everything) else []
            known[component] = next(iter(_closed(rings, links)), None)
        return known[component]

    def _all_claimed(self, positions: set[int]) -> bool:
        """Whether it is claimed of each of these positions that nobody waits there for ever."""
        obligations = self.grounds.lowered.obligations
        waits = [n for p in positions for n in self.situation.facts.positions[p].obligations]
        return all(n in self.claims for n in waits if obligations[n].code in (Property.D01, Property.D03))

    def _live(self, candidates: Candidates) -> list[Tests]:
        """The states that are not certified never to be met."""
        return [
            tests
            for tests in apart(self.situation, candidates, self.grounds.splits)
            if not self.grounds.never.get(self.situation.question(candidates, tests), False)
        ]

    def _event(self) -> list[Query]:
        event = self.obligation.subject
        if event in self.grounds.lowered.ledger.handed or not self.positions:
            return []
        outlook = self.situation.outlook(self.positions)
        if isinstance(outlook, str):
            return [Impossible(outlook)]
        if outlook.root < 0:
            return []
        strict = {n for n in outlook.needs if self.grounds.lowered.obligations[n].code is Property.D04}
        missing = outlook.needs - strict - self.claims
        found: list[Query] = [Impossible(f"who sets {event} may not come to it")] if missing else []
        return found + self._rings(self._cyclic(), direct=False)

    def _nested(self) -> list[Query]:
        if not self.grounds._nesting:
            self.grounds._nesting.append(Nesting(self.situation, self._live))
        against = any(map(self.grounds._nesting[0].against, self.positions))
        return [Impossible("the lock may be taken against the order")] if against else []

    def _race(self) -> list[Query]:
        accesses = [a for a in self.situation.facts.accesses if plain(a.data) == self.obligation.subject]
        pairs = clashes(self.situation, accesses)
        if any(self.situation.comes_later(a, b) for a, b in pairs):
            return [Impossible("one may find what the other has freed before")]
        involved = list(dict.fromkeys(access for pair in pairs for access in pair))
        states = {
            access: [
                (candidates, tests)
                for candidates in [self.situation.touching(access)]
                for tests in self._live(candidates)
            ]
            for access in involved
        }
        if any(go_together(self.situation, x, y, a.data) for a, b in pairs for x in states[a] for y in states[b]):
            return [Impossible("two contexts may touch it at once")]
        return []


def _closed(rings: Rings, links: Sequence[int]) -> list[FormulaQuery]:
    # Rings(l) & (l_i | l_j | ...)   for the links asked about; nothing where there are none
    if not links:
        return []
    made = formula(rings.ring)
    lines = (*made.lines, *(f"(assert {name})" for name in made.firm))
    return [FormulaQuery(lines, disjunction(map(link_name, links)), bits=True)]


__all__ = ["Grounds", "conditions"]
