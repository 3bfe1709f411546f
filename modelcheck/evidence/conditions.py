"""The verification conditions of an invariant, as queries that must all be unsatisfiable.

For every root its start states, for every edge from every state, for every call its entry and its return: the states
afterwards are in the table. For every obligation that is to be proved: no state in the table breaks it. What an
operation does is taken from `encode`; the tables are only data. A query is written in canonical form, cells named by
their register, so that the thousands of places where the same happens ask one question:

    Inv_source(x) & T(x, x') & (broken(x) | ~Inv_target(x'))        must be unsat
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias

from modelcheck import encode
from modelcheck.blocks import condition, cut_points, start_sets
from modelcheck.invariant import (
    BlockInvariant,
    FormulaInvariant,
    Invariant,
    Lives,
    Table,
    held_outside,
    lives_from,
    start_values,
    starts_of,
)
from modelcheck.ir import Cell, Edge, Graph, Operation, Root
from modelcheck.layout import Layout
from modelcheck.lower import every_graph
from modelcheck.mutual.positions import Arrival, Case, sites
from modelcheck.record import dataclass, field
from modelcheck.system import NotFlat, System

Values: TypeAlias = tuple[int, ...]
Constraint: TypeAlias = Values | None
"""The values a register may have; None: all of its range."""
Ranges: TypeAlias = tuple[tuple[int, int, Sequence[int] | None], ...]
"""The range of each register, and what others may write to it."""


@dataclass(frozen=True, slots=True)
class StepQuery:
    """One operation from one state. `targets`: the states it may lead to. `slots`: those it must not break. `outside`:
    see `held_outside`."""

    operation: Operation
    ranges: Ranges
    inputs: tuple[Constraint, ...]
    targets: tuple[tuple[Constraint, ...], ...]
    slots: tuple[int, ...]
    outside: tuple[bool, bool, int]


@dataclass(frozen=True, slots=True)
class InclusionQuery:
    """A value that may be passed on is one that is expected."""

    given: Values
    expected: Values


@dataclass(frozen=True, slots=True)
class Impossible:
    """A condition that fails without asking: `why` says what is missing."""

    why: str


_NOT_FOLLOWED = Impossible("a cell is not followed")


@dataclass(frozen=True, slots=True)
class FormulaQuery:
    """A query as it is written, about integers or (`bits`) bit-vectors, with names of its own."""

    lines: tuple[str, ...]
    final: str
    bits: bool = False


@dataclass(frozen=True, slots=True)
class ArrivalQuery:
    """Where an operation meets other contexts, it comes in one of the ways listed, as far as locks and the IRQL
    go."""

    case: Case
    arrivals: tuple[Arrival, ...]


Query: TypeAlias = StepQuery | InclusionQuery | FormulaQuery | ArrivalQuery | Impossible


@dataclass(slots=True)
class Pool:
    """Each different query once, with the invariants (by number) that rest on it. With `full` every query that comes
    up, whether it was asked before or not."""

    full: bool = False
    queries: list[Query] = field(default_factory=list)
    invariants: list[set[int]] = field(default_factory=list)
    _numbers: dict[Query, int] = field(default_factory=dict)

    def add(self, query: Query, invariant: int) -> None:
        number = None if self.full else self._numbers.get(query)
        if number is None:
            self._numbers[query] = len(self.queries)
            self.queries.append(query)
            self.invariants.append({invariant})
        else:
            self.invariants[number].add(invariant)


def conditions(invariant: Invariant, number: int, roots: list[Root], pool: Pool) -> None:
    """Adds what must hold for the invariant. `roots` are all roots of the driver."""
    _Conditions(invariant, number, pool).run(roots)


def formula_conditions(
    invariant: FormulaInvariant | BlockInvariant, number: int, roots: list[Root], pool: Pool
) -> None:
    """Adds what must hold for formulas that stand for states: start, every edge or block, no obligation broken."""
    if isinstance(invariant, BlockInvariant):
        _block_conditions(invariant, number, roots, pool)
        return
    given = {root for root, _ in invariant.parts}
    for root in roots:
        if root not in given and concerns(root.graph, invariant.obligations):
            pool.add(Impossible(f"root {root.routine} is left out"), number)
    for root, formulas in invariant.parts:
        try:
            system = System(root, invariant.obligations, invariant.lives[root])
        except NotFlat as error:
            pool.add(Impossible(str(error)), number)
            continue
        if len(formulas) != system.size or not all(map(is_one_term, formulas)):
            pool.add(Impossible("the formulas do not fit the system"), number)
            continue
        for query in _formula_queries(system, formulas):
            pool.add(query, number)


def _block_conditions(invariant: BlockInvariant, number: int, roots: list[Root], pool: Pool) -> None:
    # start(v) is in Inv_entry;   Inv_cut(v) & Paths(v, v') & (bad | ~Inv_target(v'))
    given = {(root, level) for root, level, _ in invariant.parts}
    for root in roots:
        if concerns(root.graph, invariant.obligations):
            for level in root.levels:
                if (root, level) not in given:
                    pool.add(Impossible(f"root {root.routine} is left out at level {level}"), number)
    for root, level, cuts in invariant.parts:
        try:
            system = System(root, invariant.obligations, invariant.lives[root], bits=True)
        except NotFlat as error:
            pool.add(Impossible(str(error)), number)
            continue
        points = cut_points(system)
        if not {system.entry} <= set(cuts) <= set(points) or any(
            len(s) != len(system.variables) for s in cuts.values()
        ):
            pool.add(Impossible("the sets do not fit the system"), number)
            continue
        for values, expected in zip(start_sets(system, level), cuts[system.entry], strict=True):
            pool.add(InclusionQuery(tuple(sorted(values)), tuple(sorted(expected))), number)
        for cut in sorted(cuts):
            lines, final = condition(system, cut, cuts, points)
            pool.add(FormulaQuery(tuple(lines), final, bits=True), number)


def _formula_queries(system: System, formulas: Sequence[str]) -> Iterable[FormulaQuery]:
    # start(v) & ~Inv_entry(v);   Inv_source(v) & T(v, v') & (bad | ~Inv_target(v'))
    names = [f"v{n}" for n in range(len(system.variables))]
    declared = tuple(f"(declare-const {name} Int)" for name in names)
    if system.entry in system.useful:
        outside = encode.negation(formulas[system.entry])
        yield FormulaQuery(declared, encode.conjunction((system.start(names), outside)))
    for flat in system.edges:
        if flat.source not in system.useful:
            continue
        made = system.step(flat, names, "t")
        bad = [made.bad]
        if flat.target in system.useful:
            bindings = " ".join(f"({name} {term})" for name, term in zip(names, made.outputs, strict=True))
            after = f"(let ({bindings}) {formulas[flat.target]})" if names else formulas[flat.target]
            bad.append(encode.conjunction((made.alive, f"(not {after})")))
        lines = (*declared, f"(assert {formulas[flat.source]})", *(encode.line(item) for item in made.items))
        yield FormulaQuery(lines, encode.disjunction(bad))


def is_one_term(text: str) -> bool:
    """Whether a text is a single SMT-LIB term: one symbol, or one list with its parentheses in order."""
    depth = 0
    for position, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth < 0 or character in '|";' or (depth == 0 and character.isspace()):
            return False
        if depth == 0 and character == ")" and position != len(text) - 1:
            return False
    return depth == 0 and bool(text)


def concerns(graph: Graph, obligations: frozenset[int]) -> bool:
    """Whether any of the obligations can be met from the graph."""
    return any(number in obligations for g in every_graph([graph]) for e in g.edges for number in _numbers(e))


def life_conditions(
    invariants: Sequence[Invariant],
    formulas: Sequence[FormulaInvariant | BlockInvariant],
    roots: list[Root],
    pool: Pool,
) -> None:
    """The lives of locks that the invariants start from, where they prove something: all that earlier phases can
    leave."""
    starts = _starts(invariants, roots)
    for index, invariant in enumerate(invariants):
        for missing in _narrowed(invariant, invariant.roots, starts) if invariant.obligations else ():
            pool.add(missing, index)
    for index, formula in enumerate(formulas):
        for missing in _narrowed(formula, [part[0] for part in formula.parts], starts):
            pool.add(missing, -1 - index)


def start_conditions(used: Sequence[Invariant], invariants: Sequence[Invariant], roots: list[Root], pool: Pool) -> None:
    """The lives of locks that invariants start from whose states are `used`, whatever they prove: as in
    `life_conditions`, with what `invariants` prove of earlier phases. The queries have number -1."""
    starts = _starts(invariants, roots)
    for invariant in used:
        for missing in _narrowed(invariant, invariant.roots, starts):
            pool.add(missing, -1)


def _starts(invariants: Sequence[Invariant], roots: list[Root]) -> dict[Root, Lives]:
    """For each root the lives of locks that earlier phases can leave, or have while it is enabled early, as far as not
    excluded by proof."""
    proved = {n for invariant in invariants for n in invariant.obligations}
    ends: list[tuple[Root, dict[str, Values]]] = []
    for root in roots:
        end: dict[str, Values] = {}
        for (name, value), number in sorted(root.outcomes.items()):
            end[name] = end.get(name, ()) + (() if number in proved else (value,))
        ends.append((root, end))
    alike = {(root.phase, root.follows): root for root in roots}
    lives = {key: lives_from(root, ends) for key, root in alike.items()}
    return {root: starts_of(root, lives[root.phase, root.follows], proved) for root in roots}


def _narrowed(
    invariant: Invariant | FormulaInvariant | BlockInvariant, roots: Iterable[Root], starts: Mapping[Root, Lives]
) -> Iterable[Impossible]:
    """Where an invariant starts from fewer lives than there can be."""
    for root in dict.fromkeys(roots):
        possible, given = starts[root], invariant.lives[root]
        for name, values in possible.items() if possible != given else ():
            if not set(values) <= set(given.get(name, values)):
                yield Impossible(f"{name} can have other values when {root.routine} starts")


class _Conditions:
    def __init__(self, invariant: Invariant, number: int, pool: Pool) -> None:
        self.invariant = invariant
        self.number = number
        self.pool = pool
        self.seen: dict[object, None] = {}
        self.prepared: dict[Edge, _Prepared] = {}

    def add(self, query: Query) -> None:
        self.pool.add(query, self.number)

    def run(self, roots: list[Root]) -> None:
        for root in roots:
            if root not in self.invariant.roots and concerns(root.graph, self.invariant.obligations):
                self.add(Impossible(f"root {root.routine} is left out"))
        met = {n for g in every_graph([r.graph for r in self.invariant.roots]) for e in g.edges for n in _numbers(e)}
        if not self.invariant.obligations <= met:
            self.add(Impossible("it speaks of an obligation that none of its roots comes to"))
        for root in self.invariant.roots:
            self._start(root)
        for table in self.invariant.tables:
            self._table(table)

    # ---- starts ----

    def _start(self, root: Root) -> None:
        layout = self.invariant.layouts[root.graph]
        lives = self.invariant.lives[root]
        keys = [0]
        for cell in layout.keys:
            if cell.is_global:
                keys = [k | layout.key_bits(cell, v) for k in keys for v in start_values(root, cell, lives)]
        live = layout.live[root.graph.entry]
        entries = [table.states[root.graph.entry] for table in self.invariant.starts[root]]
        given = {c: tuple(sorted(start_values(root, c, lives))) for c in layout.sets if c.is_global}
        asked: set[int] = set()
        for key in keys:
            found = [entry[key & live] for entry in entries if key & live in entry]
            if not found:
                self.add(Impossible(f"a start state of {root.routine} is not in the table"))
                continue
            if found[0] not in asked or self.pool.full:
                asked.add(found[0])
                for cell, values in given.items():
                    self.add(InclusionQuery(values, layout.set_values(found[0], cell)))

    # ---- edges ----

    def _table(self, table: Table) -> None:
        layout = self.invariant.layouts[table.graph]
        for index, edge in enumerate(table.graph.edges):
            states = table.states[edge.source]
            if not states:
                continue
            if edge.callee is not None:
                for key, sets in states.items():
                    self._call(table, layout, index, edge, key, sets)
                continue
            self._steps(table, edge, states)

    def _checks(self, layout: Layout, edge: Edge, key: int, sets: int) -> None:
        for check in edge.checks:
            if check.obligation in self.invariant.obligations:
                values = self._after(layout, check.cell, key, sets, layout.live[edge.source])
                self.add(_NOT_FOLLOWED if values is None else InclusionQuery(values, tuple(sorted(check.allowed))))
                if layout.taint & key:
                    self.add(Impossible("met after a call that no model knows"))

    def _steps(self, table: Table, edge: Edge, states: Mapping[int, int]) -> None:
        """One operation from every state of its source: which states of its target it may lead to, and what it must not
        break. The innermost loop: what was asked already is passed over first."""
        layout = table.layout
        prepared = self.prepared.get(edge)
        if prepared is None:
            prepared = self.prepared[edge] = _Prepared(layout, edge, self.invariant.obligations)
        by_rest = prepared.by_rest(table.states[edge.target])
        key_mask, set_mask, seen = prepared.key_mask, prepared.set_mask, prepared.seen
        demands_free, full, taint = prepared.operation.demands_free, self.pool.full, layout.taint
        kept = ~prepared.changed & layout.live[edge.target]
        if kept & ~layout.live[edge.source]:
            self.add(Impossible("what is followed after an operation that does not change it was not before it"))
        outside = (False, False, -1)
        for key, sets in states.items():
            if edge.checks:
                self._checks(layout, edge, key, sets)
            rest = sets & ~set_mask
            targets = [(k & key_mask, s & set_mask) for k, s in by_rest.get(key & kept, ()) if not rest & ~s]
            if demands_free:
                outside = held_outside(layout, edge, key, sets)
            ways = frozenset(targets) if len(targets) > 1 else tuple(targets)
            here = (key & key_mask, sets & set_mask, ways, outside, key & taint)
            if here not in seen or full:
                seen.add(here)
                self._step(layout, edge, key, sets, prepared, targets, outside, here)

    def _step(
        self,
        layout: Layout,
        edge: Edge,
        key: int,
        sets: int,
        prepared: _Prepared,
        targets: Iterable[tuple[int, int]],
        outside: tuple[bool, bool, int],
        here: object,
    ) -> None:
        operation, slots, live = prepared.operation, prepared.slots, layout.live[edge.target]
        masks = (live & prepared.key_mask, layout.live[edge.source] & prepared.key_mask)
        mark = (layout, operation, edge.cells, here, slots, masks)
        if mark in self.seen and not self.pool.full:
            return
        self.seen[mark] = None
        if slots and layout.taint & key:
            self.add(Impossible("met after a call that no model knows"))
        # a state with no value for some cell is none; what may be forgotten can be anything
        known = layout.live[edge.source]
        inputs = tuple(self._after(layout, c, key, sets, known) for c in edge.cells)
        if () in inputs:
            return
        reached = {tuple(self._after(layout, c, k, s, live) for c in edge.cells) for k, s in targets}
        ranges = tuple(
            (0, 0, None) if c is None else (c.low, c.high, c.others if isinstance(c.others, range) else tuple(c.others))
            for c in edge.cells
        )
        self.add(StepQuery(operation, ranges, inputs, tuple(sorted(reached, key=repr)), slots, outside))

    def _after(self, layout: Layout, cell: Cell | None, key: int, sets: int, live: int) -> Constraint:
        if cell is None or (cell in layout.keys and not layout.key_mask(cell) & live):
            return None
        return _values(layout, cell, key, sets)

    # ---- calls ----

    def _call(self, table: Table, layout: Layout, index: int, edge: Edge, key: int, sets: int) -> None:
        callee = table.calls.get((index, key))
        if callee is None or callee.graph is not edge.callee:
            self.add(Impossible(f"a call of {edge.callee.name if edge.callee else '?'} has no table"))
            return
        inner = self.invariant.layouts[callee.graph]
        self._enter(layout, inner, edge, key, sets, callee)
        for exit_key, exit_sets in callee.states[callee.graph.exit].items():
            self._return(table, layout, inner, edge, (key, sets), (exit_key, exit_sets))

    def _enter(self, outer: Layout, inner: Layout, edge: Edge, key: int, sets: int, callee: Table) -> None:
        sources = {formal: actual for actual, formal in edge.copies_in}
        live = inner.live[callee.graph.entry]
        entry_key = 0
        for cell in inner.keys:
            source = cell if cell.is_global else sources.get(cell)
            if not inner.key_mask(cell) & live:
                continue
            values = self._after(outer, source, key, sets, outer.live[edge.source])
            if values is None or len(values) != 1:
                self.add(Impossible(f"`{cell.name}` has no one value where {callee.graph.name} is entered"))
                return
            entry_key |= inner.key_bits(cell, values[0])
        entry_sets = callee.states[callee.graph.entry].get(entry_key)
        if entry_sets is None:
            self.add(Impossible(f"a state in which {callee.graph.name} is entered is not in its table"))
            return
        for cell in inner.sets:
            if cell.is_global:
                self._included(_values(outer, cell, key, sets), inner.set_values(entry_sets, cell))

    def _included(self, given: Values | None, expected: Values) -> None:
        if given != expected:
            self.add(_NOT_FOLLOWED if given is None else InclusionQuery(given, expected))

    def _return(
        self, table: Table, outer: Layout, inner: Layout, edge: Edge, before: tuple[int, int], end: tuple[int, int]
    ) -> None:
        live, live_inside = outer.live[edge.target], inner.live[inner.graph.exit]
        key, sets = before
        new_key, changed = key, {}
        kept = live
        given = [(cell, cell) for cell in inner.keys if cell.is_global and cell in outer.keys]
        for formal, actual in (*given, *edge.copies_out):
            if actual not in outer.keys or not outer.key_mask(actual) & live:
                continue
            values = self._after(inner, formal, *end, live_inside)
            if values is None or len(values) != 1:
                self.add(Impossible(f"`{actual.name}` has no one value after the call"))
                return
            new_key = new_key & ~outer.key_mask(actual) | outer.key_bits(actual, values[0])
            kept &= ~outer.key_mask(actual)
        if kept & ~outer.live[edge.source]:
            self.add(Impossible("what is followed after a call was not before it"))
        for cell in inner.sets:
            if cell.is_global and cell in outer.sets:
                sets &= ~outer.set_mask(cell)
                changed[cell] = inner.set_values(end[1], cell)
        reached = table.states[edge.target].get(new_key & live)
        if reached is None or sets & ~reached:
            self.add(Impossible("a state after a call is not in the table"))
            return
        for cell, values in changed.items():
            self._included(values, outer.set_values(reached, cell))


class _Prepared:
    """What the conditions of one edge share: the bits it touches, those of the key that it may change, the slots that
    are to be proved, and what was asked already."""

    def __init__(self, layout: Layout, edge: Edge, obligations: frozenset[int]) -> None:
        assert edge.operation is not None
        self.operation = edge.operation
        self.key_mask = self.set_mask = self.changed = 0
        for register, cell in enumerate(edge.cells):
            if cell is not None and cell in layout.keys:
                self.key_mask |= layout.key_mask(cell)
                if register in self.operation.writes:
                    self.changed |= layout.key_mask(cell)
            elif cell is not None and cell in layout.sets:
                self.set_mask |= layout.set_mask(cell)
        self.slots = tuple(s for s, number in enumerate(edge.obligations) if number in obligations)
        self.seen: set[object] = set()

    def by_rest(self, states: dict[int, int]) -> dict[int, list[tuple[int, int]]]:
        """States by the part of the key that the edge does not change: no other can follow on a state."""
        if len(states) == 1:
            return {key & ~self.changed: [(key, sets)] for key, sets in states.items()}
        found: dict[int, list[tuple[int, int]]] = {}
        for key, sets in states.items():
            found.setdefault(key & ~self.changed, []).append((key, sets))
        return found


def _values(layout: Layout, cell: Cell, key: int, sets: int) -> Values | None:
    """The values of a cell in a state, None if it can be anything."""
    if cell in layout.keys:
        return (layout.key_value(key, cell),)
    if cell in layout.sets:
        return layout.set_values(sets, cell)
    return None


def _numbers(edge: Edge) -> Iterable[int]:
    yield from edge.obligations
    for check in edge.checks:
        yield check.obligation


def text(query: Query, prefix: str) -> tuple[list[str], str]:
    """The query as SMT-LIB: declarations and assertions that are satisfiable alone, and the assertion that must not be.
    All names begin with `prefix`."""
    match query:
        case Impossible(why):
            return [f"; {why}"], "true"
        case InclusionQuery(given, expected):
            width = max((abs(v) for v in (*given, *expected)), default=1).bit_length() + 2
            name = f"{prefix}x"
            inside = encode.member(name, given, width)
            outside = encode.negation(encode.member(name, expected, width))
            return [f"(declare-const {name} (_ BitVec {width}))"], encode.conjunction((inside, outside))
        case FormulaQuery(lines, final):
            return list(lines), final
        case StepQuery():
            return _step_text(query, prefix)
        case ArrivalQuery():
            return _arrival_text(query, prefix)


def _arrival_text(query: ArrivalQuery, prefix: str) -> tuple[list[str], str]:
    case = query.case
    registers, width = _registers(
        case.operation,
        tuple((low, high, others) for (low, high), others in zip(case.ranges, case.others, strict=True)),
    )
    inputs, names = _inputs(case.operation, registers, case.inputs, prefix, width)
    encoded = encode.encode(case.operation, registers, names, f"{prefix}t", width)
    numbers = {id(instruction): n for n, instruction in enumerate(sites(case.operation))}
    bad = []
    for arrival in encoded.arrivals:
        number = numbers.get(id(arrival.instruction))
        if number is None:
            continue
        ways = []
        for index, values in query.arrivals:
            if index == number:
                parts = [
                    encode.member(arrival.values[r], expected, width)
                    for r in case.matter
                    if (expected := values[r]) is not None
                    and not (arrival.values[r] == names[r] and expected == case.inputs[r])
                ]
                ways.append(encode.conjunction(parts))
        bad.append(encode.conjunction((arrival.guard, encode.negation(encode.disjunction(ways)))))
    return _used(inputs, encoded.lines, encode.disjunction(bad))


def _registers(operation: Operation, ranges: Ranges) -> tuple[list[encode.Register], int]:
    """The registers of an operation, and the width for their values."""
    registers = [encode.Register("", low, high, others or ()) for low, high, others in ranges]
    return registers, _width(operation, ranges)


@lru_cache(1024)
def _width(operation: Operation, ranges: Ranges) -> int:
    return encode.width_of(operation, [encode.Register("", low, high, others or ()) for low, high, others in ranges])


def _inputs(
    operation: Operation,
    registers: Sequence[encode.Register],
    inputs: Sequence[Constraint],
    prefix: str,
    width: int,
) -> tuple[dict[str, list[str]], list[str]]:
    """The terms of the registers before an operation, literals where only one value is possible, and the lines that
    say what can be the value of each name."""
    lines: dict[str, list[str]] = {}
    names: list[str] = []
    for index, (register, values) in enumerate(zip(registers, inputs, strict=True)):
        if values is not None and len(values) == 1:
            names.append(encode.literal(values[0], width))
            continue
        name = f"{prefix}x{index}"
        names.append(name)
        lines[name] = [f"(declare-const {name} (_ BitVec {width}))"]
        if index in operation.reads or values is not None:
            allowed = range(register.low, register.high + 1) if values is None else values
            lines[name].append(f"(assert {encode.member(name, allowed, width)})")
    return lines, names


def _used(inputs: dict[str, list[str]], lines: list[str], final: str) -> tuple[list[str], str]:
    """A query, without the inputs of which it says nothing: each has some value."""
    mentioned = {word for text in (*lines, final) for word in _NAME.findall(text)}
    return [line for name, about in inputs.items() if name in mentioned for line in about] + lines, final


_NAME = re.compile(r"\w+")


def _step_text(query: StepQuery, prefix: str) -> tuple[list[str], str]:
    registers, width = _registers(query.operation, query.ranges)
    inputs, names = _inputs(query.operation, registers, query.inputs, prefix, width)
    encoded = encode.encode(query.operation, registers, names, f"{prefix}t", width)
    arrived = []
    for target in query.targets:
        parts = [
            encode.member(term, values, width)
            for term, values, name, given in zip(encoded.outputs, target, names, query.inputs, strict=True)
            if values is not None and not (term == name and values == given)
        ]
        arrived.append(encode.conjunction(parts))
    bad = [encode.conjunction((encoded.alive, encode.negation(encode.disjunction(arrived))))]
    bad += [encoded.broken[slot] for slot in query.slots if slot in encoded.broken]
    held, spin, level = query.outside
    for demand in encoded.demands:
        if demand.slot in query.slots:
            if demand.level is not None:
                bad.append(
                    f"(and {demand.guard} (bvslt {demand.level} {encode.literal(level, width)}))" if spin else "false"
                )
            elif spin if demand.spin_only else held:
                bad.append(demand.guard)
    return _used(inputs, encoded.lines, encode.disjunction(bad))
