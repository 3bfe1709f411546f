"""Is the way to an alarm a real one? Z3 decides: a model is a counterexample, a core says what to follow.

The formula is built from `encode`, edge by edge. That a cell keeps its value from where it is written to where it is
read is one assumption for each cell; with none of them the formula says no more than the fixpoint knew. When the whole
is unsatisfiable, the assumptions in the core name the cells whose values the fixpoint has to follow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256
from itertools import chain
from types import MappingProxyType
from typing import TypeAlias

import z3

from modelcheck import encode
from modelcheck.engines.fixpoint import Alarm
from modelcheck.engines.paths import Move
from modelcheck.invariant import Lives, start_values
from modelcheck.ir import CALLED_BACK, FREE, Cell, Edge, Root, Sort, unhold
from modelcheck.lower import Lowered
from modelcheck.record import dataclass, replace
from modelcheck.verdict import Choice, Step, Trace

Values: TypeAlias = Mapping[str, int]
"""What a model says of the constants of a path formula."""
Models: TypeAlias = dict[bytes, Values]
"""Models of path formulas, by the hash of their text: routines that differ only in their locks have the same ones."""


@dataclass(frozen=True, slots=True)
class Feasible:
    trace: Trace


@dataclass(frozen=True, slots=True)
class Infeasible:
    """No run goes this way; following these cells shows it."""

    cells: frozenset[Cell]


@dataclass(frozen=True, slots=True)
class NoAnswer:
    reason: str


def registers(edge: Edge) -> list[encode.Register]:
    """What the registers of an edge stand for; names are those of the choices in a trace."""
    return [
        encode.Register("", -(2**20), 2**20)
        if cell is None
        else encode.Register(_choice_name(cell), cell.low, cell.high, cell.others)
        for cell in edge.cells
    ]


def _choice_name(cell: Cell) -> str:
    match cell.sort:
        case Sort.GHOST:
            return f"var {cell.name}"
        case Sort.HOLD:
            return cell.name.removeprefix("hold ")
        case Sort.CONTEXT:
            return cell.name.removeprefix("context ")
        case _:
            return cell.name


class PathFormula:
    """The formula of one path to one obligation."""

    def __init__(self, lowered: Lowered, root: Root, lives: Lives, moves: list[Move]) -> None:
        self.lowered = lowered
        self.root = root
        self.lives = lives
        self.moves = moves
        self.lines: list[str] = []
        self.assumptions: dict[Cell, str] = {}
        self.now: dict[tuple[Cell, int], str] = {}
        self.starts: dict[Cell, str] = {}
        self.count = 0
        self.names: dict[str, str] = {}
        """Constants for the terms whose values a trace tells: guards, and what is held."""
        self.width = self._width()
        self.executions: list[tuple[Move, encode.Encoded, dict[Cell, str], str, dict[Cell, str]]] = []

    def _width(self) -> int:
        widths = [8]
        for move in self.moves:
            if move.plan.edge.operation is not None:
                widths.append(encode.width_of(move.plan.edge.operation, scratch_aware(move.plan.edge)))
        return max(widths)

    def _fresh(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def _value(self, cell: Cell, frame: int) -> str:
        """What the cell holds now; at first whatever the start allows."""
        where = (cell, -1 if cell.is_global else frame)
        term = self.now.get(where)
        if term is None:
            term = self._fresh("s")
            self.lines.append(f"(declare-const {term} (_ BitVec {self.width}))")
            if cell.is_global:
                values = start_values(self.root, cell, self.lives)
                self.starts[cell] = term
            else:
                values = range(cell.low, cell.high + 1)
            self.lines.append(f"(assert {encode.member(term, values, self.width)})")
            self.now[where] = term
        return term

    def _read(self, cell: Cell, frame: int) -> str:
        """The value of a cell where it is read, kept since it was written only under the cell's assumption."""
        source = self._value(cell, frame)
        term = self._fresh("r")
        self.lines.append(f"(declare-const {term} (_ BitVec {self.width}))")
        self.lines.append(f"(assert {encode.member(term, range(cell.low, cell.high + 1), self.width)})")
        assumption = self.assumptions.get(cell)
        if assumption is None:
            assumption = self.assumptions[cell] = self._fresh("keep")
            self.lines.append(f"(declare-const {assumption} Bool)")
        self.lines.append(f"(assert (=> {assumption} (= {term} {source})))")
        return term

    def build(self, obligation: int) -> None:
        for move in self.moves[:-1]:
            self._move(move)
        last = self.moves[-1]
        edge = last.plan.edge
        bad: list[str] = []
        for check in edge.checks:
            if check.obligation == obligation:
                allowed = encode.member(self._read(check.cell, last.frame), sorted(check.allowed), self.width)
                bad.append(encode.negation(allowed))
        encoded = self._execute(last, final=True)
        for slot, number in enumerate(edge.obligations):
            if number == obligation:
                bad.append(encoded.broken.get(slot, "false"))
                bad += [self._outside(demand, edge, last.frame) for demand in encoded.demands if demand.slot == slot]
        self.lines.append(f"(assert {encode.disjunction(bad)})")

    def _outside(self, demand: encode.LockDemand, edge: Edge, frame: int) -> str:
        """A lock that the operation does not touch is held against the demand."""
        held = []
        for cell in self._locks(edge, demand.spin_only):
            test = encode.negation(f"(= {self._read(cell, frame)} {encode.literal(FREE, self.width)})")
            if demand.level is not None:
                test = encode.conjunction((test, f"(bvslt {demand.level} {encode.literal(cell.level, self.width)})"))
            held.append(test)
        return encode.conjunction((demand.guard, encode.disjunction(held)))

    def _locks(self, edge: Edge, spin_only: bool) -> list[Cell]:
        cells = self.root.environment.cells.values()
        return [c for c in cells if c.sort is Sort.HOLD and c not in edge.cells and (c.spins or not spin_only)]

    def _move(self, move: Move) -> None:
        match move.kind:
            case "step":
                self._execute(move)
            case "enter":
                for actual, formal in move.plan.edge.copies_in:
                    self.now[formal, -1 if formal.is_global else move.other] = self._read(actual, move.frame)
            case "leave":
                for formal, actual in move.plan.edge.copies_out:
                    self.now[actual, -1 if actual.is_global else move.other] = self._read(formal, move.frame)

    def prefer(self, settled: Lives) -> list[list[str]]:
        """The names of assumptions about what others do, those first that are given up first: nobody has written a
        shared variable since the context saw it; or only its declared value; or only what the text says, no call-out
        that comes back writes any, and locks start as they do when earlier phases have ended (`settled`). Their meaning
        is left in `preferences`."""
        wanted = [(c.name, c.constant, c.own) for _, encoded, *_ in self.executions for c in encoded.choices]
        wanted += [(cell.name, term, "") for cell, term in self.starts.items()]
        tests: list[list[str]] = [[], [], []]
        for name, term, own in wanted:
            said = self.lowered.said.get(name.removeprefix("var "))
            if said is not None:
                same = f"(= {term} {own})" if own else "false"
                declared = encode.disjunction((same, encode.member(term, said.declared, self.width)))
                written = encode.disjunction((same, encode.member(term, said.written, self.width)))
                for level, test in zip(tests, (same if own else declared, declared, written), strict=True):
                    level.append(test)
            elif name.startswith(CALLED_BACK):
                tests[-1].append(f"(= {term} {encode.literal(0, self.width)})")
        tests[-1] += [
            encode.member(term, settled[cell.name], self.width)
            for cell, term in self.starts.items()
            if cell.name in settled
        ]
        self.preferences = []
        names: list[list[str]] = []
        for level in tests:
            names.append([])
            for test in dict.fromkeys(level):
                if test != "true":
                    names[-1].append(f"preferred{len(self.preferences)}")
                    self.preferences.append(
                        f"(declare-const {names[-1][-1]} Bool)\n(assert (=> {names[-1][-1]} {test}))"
                    )
        return names

    preferences: list[str]

    def definitions(self) -> list[str]:
        """Constants for the terms whose values a trace tells; which is left in `names`."""
        lines = []
        for _, encoded, _, _, holds in self.executions:
            guards = [*(choice.guard for choice in encoded.choices), *(taken.guard for taken in encoded.taken)]
            numbers = [*holds.values(), *(choice.own for choice in encoded.choices if choice.own)]
            for sort, terms in (("Bool", guards), (f"(_ BitVec {self.width})", numbers)):
                for term in terms:
                    if term not in self.names:
                        name = self.names[term] = f"shown{len(self.names)}"
                        lines.append(f"(declare-const {name} {sort})\n(assert (= {name} {term}))")
        return lines

    def _execute(self, move: Move, final: bool = False) -> encode.Encoded:
        edge = move.plan.edge
        assert edge.operation is not None
        inputs: list[str] = []
        for index, cell in enumerate(edge.cells):
            if cell is not None and index in edge.operation.reads:
                inputs.append(self._read(cell, move.frame))
            else:
                term = self._fresh("x")
                self.lines.append(f"(declare-const {term} (_ BitVec {self.width}))")
                inputs.append(term)
        encoded = encode.encode(edge.operation, registers(edge), inputs, self._fresh("e") + "_", self.width)
        self.lines += encoded.lines
        if not final:
            self.lines.append(f"(assert {encoded.alive})")
        after: dict[Cell, str] = {}
        for index in edge.operation.writes:
            cell = edge.cells[index]
            if cell is not None:
                self.now[cell, -1 if cell.is_global else move.frame] = after[cell] = encoded.outputs[index]
        holds = {
            cell: self.now[cell, -1]
            for cell in edge.cells
            if cell is not None and cell.sort in (Sort.HOLD, Sort.IRQL) and (cell, -1) in self.now
        }
        self.executions.append((move, encoded, after, "", holds))
        return encoded


def scratch_aware(edge: Edge) -> list[encode.Register]:
    """Registers for measuring the width: scratch registers take their range from what is written to them."""
    return [
        encode.Register("", 0, 0) if cell is None else encode.Register(cell.name, cell.low, cell.high, cell.others)
        for cell in edge.cells
    ]


def decide(
    lowered: Lowered,
    root: Root,
    lives: Lives,
    moves: list[Move],
    obligation: int,
    known: frozenset[Cell],
    milliseconds: int,
    settled: Lives = MappingProxyType({}),
    models: Models | None = None,
) -> Feasible | Infeasible | NoAnswer:
    """Whether some run takes the path and breaks the obligation at its end. `known` are cells followed already,
    `settled` the lives of locks with which a root starts, unless it is enabled early: a run with these comes first.
    `models`: of path formulas that were asked about before, of this driver."""
    formula = PathFormula(lowered, root, lives, moves)
    formula.build(obligation)
    preferred = [[z3.Bool(name) for name in names] for names in formula.prefer(settled)]
    definitions = formula.definitions()
    key = sha256("\n".join((*formula.lines, *formula.preferences, *definitions)).encode()).digest()
    models = {} if models is None else models
    if key in models:
        return Feasible(_trace(formula, models[key], root))
    solver = z3.SolverFor("QF_FD")
    solver.set("timeout", milliseconds)
    solver.from_string("\n".join(formula.lines))
    assumptions = {name: cell for cell, name in formula.assumptions.items()}
    literals = [z3.Bool(name) for name in assumptions]
    solver.from_string("\n".join(formula.preferences))
    answer = solver.check(*literals, *chain(*preferred))
    while answer == z3.unsat:  # a run that rests on as little as can be of what others do
        spoken = {str(c) for c in solver.unsat_core()}
        level = next((level for level in preferred if any(str(c) in spoken for c in level)), None)
        if level is None:
            break
        level[:] = [c for c in level if str(c) not in spoken]
        answer = solver.check(*literals, *chain(*preferred))
    if answer == z3.unknown:
        answer = solver.check(*literals)
    if answer == z3.sat:
        values = _values(formula, solver, literals, definitions)
        if values is None:
            return NoAnswer("Z3 did not say in time how the path is taken")
        models[key] = values
        return Feasible(_trace(formula, values, root))
    if answer == z3.unknown:
        return NoAnswer(f"Z3 gave no answer on the path ({solver.reason_unknown()})")
    core = _minimal(solver, [z3.Bool(str(c)) for c in solver.unsat_core()], assumptions, known)
    return Infeasible(frozenset(assumptions[str(c)] for c in core))


def _values(
    formula: PathFormula, solver: z3.Solver, literals: list[z3.BoolRef], definitions: list[str]
) -> Values | None:
    """What the model that a solver has just found says of all constants, also of those that definitions add: asked of
    the same solver, which is given the others. None where it does not answer."""
    found = solver.model()
    constants = [(declaration.name(), found[declaration]) for declaration in found.decls()]
    fixed = [
        f"(assert (= {n} {encode.literal(v.as_long(), formula.width)}))" for n, v in constants if z3.is_bv_value(v)
    ]
    solver.from_string("\n".join((*fixed, *definitions)))
    answer = solver.check(*literals)
    if answer != z3.sat:
        assert answer == z3.unknown, "a model that is none"
        return None
    model = solver.model()
    told = [(declaration.name(), model[declaration]) for declaration in model.decls()]
    return {n: v.as_signed_long() if z3.is_bv_value(v) else int(z3.is_true(v)) for n, v in told}


def _minimal(
    solver: z3.Solver, core: list[z3.BoolRef], assumptions: dict[str, Cell], known: frozenset[Cell]
) -> list[z3.BoolRef]:
    """A core none of whose members can be left out; new cells are given up first."""
    kept = sorted(core, key=lambda c: (assumptions[str(c)] in known, assumptions[str(c)].name))
    if len(kept) > 40:
        return kept
    for candidate in list(kept):
        rest = [c for c in kept if c is not candidate]
        if solver.check(*rest) == z3.unsat:
            kept = rest
    return kept


def _trace(formula: PathFormula, values: Values, root: Root) -> Trace:
    """The run that a model of the formula is."""

    def number(term: str) -> int:
        return values.get(formula.names.get(term, term), 0)  # what a model leaves out can be anything

    start = _start(formula, number)
    steps: list[Step] = []
    depths = {formula.moves[0].frame: 0}
    for move in formula.moves:
        if move.kind == "enter":
            depths[move.other] = depths[move.frame] + 1
    irql = 0
    holding: dict[str, tuple[str, str, int]] = {}
    passed: tuple[tuple[str, str], ...] = ()
    for move, encoded, _, _, holds in formula.executions:
        choices = tuple(
            Choice(choice.name, value, own=bool(choice.own) and value == number(choice.own))
            for choice in encoded.choices
            if choice.name
            and number(choice.guard)
            and ((value := number(choice.constant)) or not choice.name.startswith(CALLED_BACK))
        )
        edge = move.plan.edge
        for cell, term in holds.items():
            value, lock = number(term), cell.name.removeprefix("hold ")
            if cell.sort is Sort.IRQL:
                irql = value
            elif value != FREE:
                shared, count, _tag = unhold(value)
                holding[lock] = (lock, "shared" if shared else "exclusive", count)
            else:
                holding.pop(lock, None)
        held = [holding[lock] for lock in sorted(holding)]
        acquired = _acquired(move, encoded, number)
        if edge.step or not steps:
            depth = max(depths[move.frame] - 1, 0)
            routine = move.plan.layout.graph.routine
            passed = acquired
            here = Step(routine, depth, edge.span, choices, irql, tuple(held), edge.taken, joined=edge.joined)
            steps.append(here)
        else:
            passed += acquired
            steps[-1] = replace(steps[-1], choices=steps[-1].choices + choices, irql=irql, held=tuple(held))
        kept = [(lock, mode) for lock, mode, _ in held]
        steps[-1] = replace(steps[-1], passed=tuple(taken for taken in dict.fromkeys(passed) if taken not in kept))
    return Trace(root.routine, start, tuple(steps))


def _acquired(move: Move, encoded: encode.Encoded, number: Callable[[str], int]) -> tuple[tuple[str, str], ...]:
    """The locks that an executed edge acquires, with their modes, whether it keeps them or not."""
    found = []
    for taken in encoded.taken:
        cell = move.plan.edge.cells[taken.register]
        if cell is not None and number(taken.guard):
            found.append((cell.name.removeprefix("hold "), "shared" if taken.shared else "exclusive"))
    return tuple(found)


def _start(formula: PathFormula, number: Callable[[str], int]) -> tuple[Choice, ...]:
    found: list[Choice] = []
    for cell, term in formula.starts.items():
        match cell.sort:
            case Sort.IRQL | Sort.LIFE | Sort.SHARED:
                found.append(Choice(cell.name, number(term)))
            case Sort.GHOST:
                found.append(Choice(f"var {cell.name}", number(term)))
            case _:
                pass
    return tuple(sorted(found, key=lambda c: c.name))


__all__ = ["Alarm", "Feasible", "Infeasible", "Models", "NoAnswer", "PathFormula", "decide"]
