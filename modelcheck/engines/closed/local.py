"""One context of a scenario: its states, as small numbers, and its steps.

A local state says where the context stands and what it alone sees: IRQL, holds, its variables, and the shared variables
that nobody else looks at. Common variables and events are a second tuple. A step of the context depends on both, and on
which locks a try cannot get. What it does is worked out once for each combination.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from modelcheck import ir
from modelcheck.engines.closed.layout import Layout
from modelcheck.engines.closed.segments import Segment, segment
from modelcheck.engines.closed.values import Elsewhere, Outcome, TooWide, outcomes
from modelcheck.engines.execute import taken
from modelcheck.ir import FREE, Cell, Edge, Graph, Instruction, Sort, unhold
from modelcheck.lower import every_graph, strangers
from modelcheck.lower.builder import registers_of
from modelcheck.lower.closed import CODES, Context
from modelcheck.record import dataclass, replace
from modelcheck.syntax import ContextKind
from modelcheck.verdict import DISPATCH_LEVEL

UNSTARTED, RUNNING, WAITING, ENDED, GONE = range(5)
"""Modes of a local state. WAITING: a writer that has come to wait. GONE: an assumption failed, so this is no run; what
others could do then is looked at all the same, since only what no run forbids is a deadlock."""

MAX_FRAMES = 40
"""Calls in calls that are followed."""

Values: TypeAlias = tuple[int, ...]
Frame: TypeAlias = tuple[int, int, int, Values]
"""Graph, location, the call edge it is in (-1: none), its local variables."""
Pending: TypeAlias = tuple[int, int, Values]
"""The middle of an operation: its edge, the segment that comes next (by number), the scratch registers."""
Local: TypeAlias = tuple[int, tuple[Frame, ...], Pending | None, Values]
View: TypeAlias = tuple[int, ...]
"""For each lock that is tried: how others hold it, 0 not, 1 shared, 2 exclusively, 3 a writer of theirs waits."""


Asked: TypeAlias = tuple[Segment, Values, Elsewhere, frozenset[tuple[int, bool]]]
"""An execution: a segment, the values of its registers, the locks held besides, the tries that others refuse."""
Memo: TypeAlias = dict[Asked, tuple[tuple[Outcome, ...], Edge]]
"""What executions led to, each with an edge where it came up."""


class Agitated(Exception):
    """A thread comes to DISPATCH_LEVEL on a processor where none was thought to."""

    def __init__(self, processor: int) -> None:
        super().__init__(f"processor {processor}")
        self.processor = processor


class Unguarded(Exception):
    """A variable is touched without the lock that was thought to guard it."""

    def __init__(self, cell: Cell) -> None:
        super().__init__(cell.name)
        self.cell = cell


class Incomplete(Exception):
    """The search cannot go on here; the message says why."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a local state waits for: a lock (by index of its cell) in a mode, or an event. `own`: it holds the lock
    itself; `forbidden`: in a way that does not count up. `edge` has the obligations, `waits` and `slot` are theirs."""

    cell: int
    shared: bool
    is_event: bool
    own: bool
    forbidden: bool
    writers_first: bool
    edge: Edge
    waits: tuple[int, ...]
    slot: int | None


@dataclass(frozen=True, slots=True)
class Micro:
    """One step: the local state after it, and what a trace says of it. `broken` are numbers of obligations."""

    after: int
    edge: Edge
    routine: str
    depth: int
    choices: tuple[tuple[str, int], ...]
    broken: frozenset[int]
    begins: bool
    """Whether it begins its statement: otherwise it goes on in one."""
    executions: tuple[Execution, ...] = ()


@dataclass(frozen=True, slots=True)
class Execution:
    """One segment that was executed, where, and the IRQL before and after it. `held`: how the context held the locks
    before, where the edge touches what one of them guards."""

    segment: Segment
    edge: Edge
    before: int
    level: int
    held: Values = ()


@dataclass(frozen=True, slots=True)
class Expansion:
    """All a context can do next. `seen`: others see something of it, or it depends on them. `ways`: a step and the
    common values after it; none where an assumption does not hold. `cut`: steps that break something before one does
    not. `guarded`: executions that touch what a lock guards, whatever came of them. `touches`: (data cell index, write,
    atomic) of what it stands before. `unknown`: why it cannot be told what it does."""

    seen: bool
    ways: tuple[tuple[Micro, Values], ...]
    touches: frozenset[tuple[int, bool, bool]]
    unknown: str
    cut: tuple[Micro, ...]
    guarded: frozenset[Execution]


@dataclass(slots=True)
class _EdgeCode:
    """An edge made ready: for each register where it is kept, and which slots are asked about."""

    edge: Edge
    number: int
    first: Segment | None
    places: tuple[tuple[str, int], ...]
    routine: str
    asked: int
    taints: bool
    guarded: tuple[tuple[int, int], ...]
    """(register, where among `own` its guard is) of each variable that a lock guards."""


class Engine:
    """The steps of one context. Segments are shared with the other contexts through `segments`."""

    def __init__(
        self,
        layout: Layout,
        context: Context,
        segments: dict[ir.Operation, Segment],
        memo: Memo,
        reduce: bool,
        agitated: frozenset[int],
        guards: dict[Cell, Cell],
    ) -> None:
        self.layout = layout
        self.context = context
        self.segments = segments
        self.memo = memo
        self.reduce = reduce
        closed = layout.closed
        beside = [c for c in closed.contexts if c.processor == context.processor and c is not context]
        self.is_thread = context.kind is ContextKind.THREAD
        self.alone = not beside
        self.among_threads = self.is_thread and all(c.kind is ContextKind.THREAD for c in beside)
        """Nothing interrupts it; at DISPATCH_LEVEL nothing displaces it either."""
        low = all(c.level < DISPATCH_LEVEL for c in (context, *beside))
        self.calm = self.among_threads and low and context.processor not in agitated
        """No thread of its processor comes to DISPATCH_LEVEL: it can run at any time."""
        self.own_at = {cell: i for i, cell in enumerate(layout.own)}
        self.common_at = {cell: i for i, cell in enumerate(layout.common)}
        self.data_at = {cell: i for i, cell in enumerate(layout.data)}
        self.constants = {cell: values[0] for cell, values in closed.starts}
        self.graphs = every_graph([context.graph])
        self.graph_at = {graph: i for i, graph in enumerate(self.graphs)}
        self.local_at = [{cell: i for i, cell in enumerate(graph.locals)} for graph in self.graphs]
        self.edges: list[_EdgeCode] = []
        self.leaving: list[dict[int, list[_EdgeCode]]] = []
        self.numbers: list[Segment] = []
        self.number_of: dict[Segment, int] = {}
        self._seen: dict[tuple[int, Segment, bool], bool] = {}
        self.guards = {cell: self.own_at[guard] for cell, guard in guards.items()}
        for graph in self.graphs:
            self.leaving.append(self._ready(graph))
        self.touching = self._touching()
        self.tried = tuple(sorted({self.own_at[c] for c in self._tried()}))
        # local states by number, and what is known of each
        self.locals: list[Local] = []
        self.number: dict[Local, int] = {}
        self.mode: list[int] = []
        self.level: list[int] = []
        self.held: list[Values] = []
        self.needs: list[Need | None] = []
        self.may_touch: list[bool] = []

    # ---- making ready ----

    def _ready(self, graph: Graph) -> dict[int, list[_EdgeCode]]:
        leaving: dict[int, list[_EdgeCode]] = {}
        locals_at = self.local_at[self.graph_at[graph]]
        obligations = self.layout.closed.obligations
        for edge in graph.edges:
            first: Segment | None = None
            places: tuple[tuple[str, int], ...] = ()
            asked, taints = 0, False
            if edge.operation is not None:
                operation = edge.operation
                known = self.segments.get(operation)
                first = self.segments[operation] = known or segment(operation)
                places = tuple(self._place(cell, locals_at) for cell in edge.cells)
                for slot, number in enumerate(edge.obligations):
                    if obligations[number].code in CODES:
                        asked |= 1 << slot
                taints = any(
                    c is not None and c.sort is Sort.TAINT and r in operation.writes for r, c in enumerate(edge.cells)
                )
            guarded = tuple(
                (register, self.guards[cell]) for register, cell in enumerate(edge.cells) if cell in self.guards
            )
            code = _EdgeCode(edge, len(self.edges), first, places, graph.routine, asked, taints, guarded)
            self.edges.append(code)
            leaving.setdefault(edge.source, []).append(code)
        return leaving

    def _place(self, cell: Cell | None, locals_at: dict[Cell, int]) -> tuple[str, int]:
        if cell is None:
            return "scratch", 0
        if cell in locals_at:
            return "local", locals_at[cell]
        if cell in self.own_at:
            return "own", self.own_at[cell]
        if cell in self.common_at:
            return "common", self.common_at[cell]
        if cell.sort is Sort.DATA:
            return "data", self.data_at[cell]
        return "constant", self.constants.get(cell, 0)

    def _tried(self) -> set[Cell]:
        """The locks that others hold too and that this context tries to get."""
        found: set[Cell] = set()

        def visit(code: Iterable[Instruction], edge: Edge) -> None:
            for instruction in code:
                if isinstance(instruction, ir.Choose):
                    visit(instruction.then, edge)
                    visit(instruction.otherwise, edge)
                elif isinstance(instruction, ir.Take | ir.Convert) and instruction.result is not None:
                    cell = edge.cells[instruction.register]
                    if cell is not None and cell in self.layout.contended:
                        found.add(cell)

        for code in self.edges:
            if code.edge.operation is not None:
                visit(code.edge.operation.code, code.edge)
        return found

    def _touching(self) -> set[tuple[int, int]]:
        """(graph, location) from where a step may touch data that others touch too."""
        found = set()
        for number, leaving in enumerate(self.leaving):
            for location, codes in leaving.items():
                for code in codes:
                    if any(
                        c is not None and c in self.layout.data and c in self.layout.contended for c in code.edge.cells
                    ):
                        found.add((number, location))
        # what is joined to a step counts as the step's
        changed = True
        while changed:
            changed = False
            for number, leaving in enumerate(self.leaving):
                for location, codes in leaving.items():
                    if (number, location) in found:
                        continue
                    for code in codes:
                        target = code.edge.target
                        quiet = all(not c.edge.step or c.edge.joined for c in leaving.get(target, ()))
                        inner = (
                            code.edge.callee is not None
                            and (
                                self.graph_at[code.edge.callee],
                                code.edge.callee.entry,
                            )
                            in found
                        )
                        if inner or (quiet and (number, target) in found):
                            found.add((number, location))
                            changed = True
                            break
        return found

    # ---- local states ----

    def intern(self, local: Local) -> int:
        number = self.number.get(local)
        if number is None:
            number = self.number[local] = len(self.locals)
            self.locals.append(local)
            mode, frames, pending, own = local
            self.mode.append(mode)
            self.level.append(own[self.layout.irql])
            self.held.append(tuple(own[i] for i in self.layout.holds))
            self.needs.append(self._need(local))
            self.may_touch.append(
                mode == RUNNING and pending is None and (frames[-1][0], frames[-1][1]) in self.touching
            )
        return number

    def initial(self, values: dict[Cell, int]) -> int:
        """The state before the context starts. `values` of the shared variables that only it looks at."""
        own = []
        for cell in self.layout.own:
            if cell.sort is Sort.IRQL:
                own.append(self.context.level)
            elif cell in values:
                own.append(values[cell])
            else:
                own.append(cell.start[0] if cell.start else 0 if cell.low <= 0 else cell.low)
        graph = self.context.graph
        frame = (0, graph.entry, -1, self._fresh(0))
        return self.intern((UNSTARTED, (frame,), None, tuple(own)))

    def _fresh(self, graph: int) -> Values:
        return tuple(cell.low for cell in self.graphs[graph].locals)

    def _need(self, local: Local) -> Need | None:
        _, _, pending, own = local
        if pending is None:
            return None
        number, rest, _ = pending
        code, head = self.edges[number], self.numbers[rest].head
        place = 0 if head is None else code.places[head.register][1]
        edge = code.edge
        match head:
            case ir.Await(slot=slot):
                return Need(place, False, True, False, False, False, edge, (), slot)
            case ir.Take():
                value = own[place]
                cell = self.layout.own[place]
                forbidden = taken(value, head) is None
                return Need(
                    place,
                    head.shared,
                    False,
                    value != FREE,
                    forbidden,
                    cell in self.layout.queued,
                    edge,
                    head.waits,
                    head.slot,
                )
            case None:
                raise AssertionError("a rest begins with what it waits for")

    def numbered(self, part: Segment) -> int:
        number = self.number_of.get(part)
        if number is None:
            number = self.number_of[part] = len(self.numbers)
            self.numbers.append(part)
        return number

    def comes_to_wait(self, number: int) -> int:
        """The state of a writer that has come to wait."""
        _, frames, pending, own = self.locals[number]
        return self.intern((WAITING, frames, pending, own))

    def gone(self, number: int) -> int:
        """The state behind an assumption that fails: nothing is held any more."""
        own = tuple(0 for _ in self.locals[number][3])
        return self.intern((GONE, (), None, own))

    def is_endless(self, number: int) -> bool:
        """Whether it stands in a loop without statements."""
        mode, frames, pending, _ = self.locals[number]
        return mode == RUNNING and pending is None and not self.leaving[frames[-1][0]].get(frames[-1][1])

    def is_outside(self, number: int) -> bool:
        """Whether it runs, holds nothing, and is before or behind the body of its routine: what keeps it there keeps
        nobody else."""
        mode, frames, pending, _ = self.locals[number]
        return mode == RUNNING and pending is None and len(frames) == 1 and not any(self.held[number])

    @property
    def starts_unseen(self) -> bool:
        """Whether nobody sees that it starts, and nothing can keep it from it at the very start."""
        return self.alone or (self.is_thread and self.context.level < DISPATCH_LEVEL)

    def is_steady(self, level: int) -> bool:
        """Whether the context, at that level, can run whatever the others do."""
        return self.alone or self.calm or (self.among_threads and level >= DISPATCH_LEVEL)

    def sees_level(self, before: int, after: int) -> bool:
        """Whether a change of its IRQL changes what others can do, other than to admit them.

        Raises:
            Agitated: a thread comes to DISPATCH_LEVEL where none was thought to.
        """
        if self.alone or before == after:
            return False
        if self.calm and after >= DISPATCH_LEVEL:
            raise Agitated(self.context.processor)
        if self.is_thread and before < DISPATCH_LEVEL and after < DISPATCH_LEVEL:
            return False
        return not self.is_steady(before)

    # ---- steps ----

    def expand(self, number: int, common: Values, view: View) -> Expansion:
        """All that the context can do next; the processor and the lock it waits for admit it.

        Raises:
            Incomplete: it cannot be followed here.
        """
        mode, frames, pending, own = self.locals[number]
        walk = _Walk(self, common, view)
        try:
            if pending is not None:
                code = self.edges[pending[0]]
                walk.run(code, self.numbers[pending[1]], frames, own, common, pending[2], _Sofar(code, len(frames)))
            else:
                walk.step(frames, own, common)
        except TooWide:
            raise Incomplete("something in it can take too many values") from None
        if mode == UNSTARTED and not self.starts_unseen:
            walk.seen = True
        cut, guarded = tuple(walk.cut), frozenset(walk.guarded)
        return Expansion(walk.seen, tuple(walk.ways), frozenset(walk.touches), walk.unknown, cut, guarded)

    def refused(self, code: _EdgeCode, view: View, given: Values) -> frozenset[tuple[int, bool]]:
        """Which tries at this edge fail because of others. A waiting writer (3) stops only who does not hold the
        lock."""
        if not self.tried:
            return frozenset()
        found = set()
        for register, (kind, place) in enumerate(code.places):
            if kind == "own" and place in self.tried:
                others = view[self.tried.index(place)]
                if others:
                    found.add((register, False))
                if others == 2 or (others == 3 and given[register] == FREE):
                    found.add((register, True))
        return frozenset(found)

    def execute(
        self, code: _EdgeCode, part: Segment, values: Values, elsewhere: Elsewhere, refused: frozenset[tuple[int, bool]]
    ) -> tuple[Outcome, ...]:
        key = (part, values, elsewhere, refused)
        found = self.memo.get(key)
        if found is None:
            found = self.memo[key] = (outcomes(part.code, part.operation, values, elsewhere, refused), code.edge)
        return found[0]

    def is_seen(self, code: _EdgeCode, part: Segment, level: int) -> bool:
        """Whether others see something of what the segment does, or it depends on what they do. The IRQL aside."""
        steady = self.is_steady(level)
        key = (code.number, part, steady)
        found = self._seen.get(key)
        if found is None:
            found = self._seen[key] = self._looks(code, part.code, steady)
        return found

    def check_guards(self, code: _EdgeCode, part: Segment, own: Values) -> None:
        """That the context holds the guards of what the segment touches all the while; exclusively for a write.

        Raises:
            Unguarded: it does not.
        """
        writes = part.operation.writes
        for register, at in code.guarded:
            mode = shared_mode(own[at])
            moves = any(code.places[r] == ("own", at) for r in writes)
            if not mode or moves or (mode == 1 and register in writes):
                cell = code.edge.cells[register]
                assert cell is not None
                raise Unguarded(cell)

    def _looks(self, code: _EdgeCode, instructions: Sequence[Instruction], steady: bool) -> bool:
        cells, contended = code.edge.cells, self.layout.contended - self.guards.keys()

        def others_see(registers: set[int]) -> bool:
            """What a context holds itself only it can change, so reading that is no matter. NOTE(guarded): while it
            holds the guard of a variable nobody else touches that; `check_guards` says that everybody does."""
            found = (cells[r] for r in registers if r < len(cells))
            return any(c in contended and c.sort is not Sort.HOLD for c in found if c is not None)

        for instruction in instructions:
            match instruction:
                case ir.Choose(condition, then, otherwise):
                    seen = others_see(registers_of(condition))
                    seen = seen or self._looks(code, then, steady) or self._looks(code, otherwise, steady)
                case ir.Change(_, level):
                    seen = others_see(registers_of(level))
                case ir.Drop(register):
                    cell = cells[register]
                    assert cell is not None
                    seen = cell in contended and (not steady or cell in self.layout.noticed)
                case ir.Take(register) | ir.Convert(register):
                    seen = cells[register] in contended
                case ir.Await() | ir.Signal():
                    seen = True
                case ir.Demand(condition, slot):
                    seen = bool(code.asked >> slot & 1) and others_see(registers_of(condition))
                case ir.Guess(condition):
                    seen = others_see(registers_of(condition))
                case ir.Set(register, value):
                    seen = others_see(registers_of(value) | {register})
                case ir.Pick(register) | ir.CounterStep(register) | ir.Access(register):
                    seen = others_see({register})
                case _:
                    seen = False
            if seen:
                return True
        return False


@dataclass(frozen=True, slots=True)
class _Sofar:
    """What a step has done so far; `code` is the last statement it went through."""

    code: _EdgeCode
    depth: int
    choices: tuple[tuple[str, int], ...] = ()
    broken: frozenset[int] = frozenset()
    executions: tuple[Execution, ...] = ()
    begins: bool = False


class _Walk:
    """One step of a context: from where it stands to the next place where others may come in between."""

    def __init__(self, engine: Engine, common: Values, view: View) -> None:
        self.engine = engine
        self.view = view
        self.seen = False
        self.ways: list[tuple[Micro, Values]] = []
        self.touches: set[tuple[int, bool, bool]] = set()
        self.cut: list[Micro] = []
        self.guarded: set[Execution] = set()
        self.unknown = ""

    def step(self, frames: tuple[Frame, ...], own: Values, common: Values) -> None:
        graph, location, _, _ = frames[-1]
        for code in self.engine.leaving[graph].get(location, ()):
            sofar = _Sofar(code, len(frames), begins=True)
            if code.edge.callee is not None:
                self.call(code, frames, own, common, sofar)
            else:
                assert code.first is not None
                self.run(code, code.first, frames, own, common, (), sofar)

    def run(
        self,
        code: _EdgeCode,
        part: Segment,
        frames: tuple[Frame, ...],
        own: Values,
        common: Values,
        scratch: Values,
        sofar: _Sofar,
    ) -> None:
        engine, operation = self.engine, part.operation
        if code.taints:
            callees = strangers(engine.layout.closed.unmodelled)
            self.seen, self.unknown = True, f"it comes after a call of {callees}, which no model knows"
            return
        if code.guarded:
            engine.check_guards(code, part, own)
            level = own[engine.layout.irql]
            self.guarded.add(Execution(part, code.edge, level, level, tuple(own[i] for i in engine.layout.holds)))
        self.seen = self.seen or not engine.reduce or engine.is_seen(code, part, own[engine.layout.irql])
        values, place = [], 0
        frame = frames[-1]
        for kind, at in code.places:
            match kind:
                case "own":
                    values.append(own[at])
                case "local":
                    values.append(frame[3][at])
                case "common":
                    values.append(common[at])
                case "scratch":
                    values.append(scratch[place] if scratch else 0)
                    place += 1
                case "constant":
                    values.append(at)
                case _:
                    values.append(0)
        values.append(0)
        elsewhere = self.elsewhere(code, own) if operation.demands_free else _NOTHING
        given = tuple(values)
        refused = engine.refused(code, self.view, given)
        if code.edge.step and code is not sofar.code:
            sofar = replace(sofar, code=code, depth=len(frames))
        found = engine.execute(code, part, given, elsewhere, refused)
        if not found and sofar.broken:
            self.stop(frames, own, sofar, sofar.choices, set(sofar.broken))
        for outcome in found:
            self.after(code, part, frames, own, common, outcome, sofar)

    def elsewhere(self, code: _EdgeCode, own: Values) -> Elsewhere:
        """The locks that the context holds and the operation does not touch."""
        layout = self.engine.layout
        here = {at for kind, at in code.places if kind == "own"}
        any_held, level = False, -1
        for at in layout.holds:
            if own[at] != FREE and at not in here:
                any_held = True
                if layout.own[at].spins:
                    level = max(level, layout.own[at].level)
        return Elsewhere(any_held, level)

    def after(
        self,
        code: _EdgeCode,
        part: Segment,
        frames: tuple[Frame, ...],
        own: Values,
        common: Values,
        outcome: Outcome,
        sofar: _Sofar,
    ) -> None:
        engine, edge = self.engine, code.edge
        new_own, new_common, new_local = list(own), list(common), list(frames[-1][3])
        for register in part.operation.writes:
            kind, at = code.places[register]
            if kind == "own":
                new_own[at] = outcome.values[register]
            elif kind == "common":
                new_common[at] = outcome.values[register]
            elif kind == "local":
                new_local[at] = outcome.values[register]
        for register, on in outcome.signals:
            new_common[code.places[register][1]] = int(on)
        if part.head is None:
            for register, write, atomic in outcome.touched:
                self.touches.add((code.places[register][1], write, atomic))
        broken = set(sofar.broken)
        bits = outcome.broken & code.asked
        for slot, number in enumerate(edge.obligations):
            if bits >> slot & 1:
                broken.add(number)
        choices = sofar.choices + tuple(
            (f"{name} {_named(edge.cells[about])}" if about >= 0 else name, value)
            for name, about, value in outcome.choices
        )
        graph, location, call, _ = frames[-1]
        if outcome.ends:
            self.stop(frames, own, sofar, choices, broken)
            return
        stop = outcome.values[part.stop]
        results = (tuple(new_own), tuple(new_common))
        levels = own[engine.layout.irql], new_own[engine.layout.irql]
        self.seen = self.seen or engine.sees_level(*levels)
        execution = Execution(part, edge, *levels, tuple(own[i] for i in engine.layout.holds) if code.guarded else ())
        executions = (*sofar.executions, execution)
        if stop:
            rest = part.rest(stop)
            number = engine.numbered(rest)
            scratch = tuple(
                outcome.values[register] for register, (kind, _) in enumerate(code.places) if kind == "scratch"
            )
            here = (*frames[:-1], (graph, location, call, tuple(new_local)))
            local = engine.intern((RUNNING, here, (code.number, number, scratch), results[0]))
            need = engine.needs[local]
            if need is not None and need.forbidden and need.slot is not None:
                broken.add(edge.obligations[need.slot])
            self.end(local, results[1], sofar, choices, broken, executions)
            return
        here = (*frames[:-1], (graph, edge.target, call, tuple(new_local)))
        context = engine.context
        checks = context.checks if edge is context.end else ()
        for check in checks:
            if results[0][engine.own_at[check.cell]] not in check.allowed:
                broken.add(check.obligation)
        now = _Sofar(sofar.code, sofar.depth, choices, frozenset(broken), executions, sofar.begins)
        if edge is context.end:
            self.seen = self.seen or not engine.is_steady(new_own[engine.layout.irql])
            cells = engine.layout.own
            kept = tuple(v if c.sort in (Sort.HOLD, Sort.IRQL) else 0 for c, v in zip(cells, results[0], strict=True))
            self.end(engine.intern((ENDED, (), None, kept)), results[1], now, choices, broken, executions)
            return
        self.go_on(here, results[0], results[1], now)

    def call(self, code: _EdgeCode, frames: tuple[Frame, ...], own: Values, common: Values, sofar: _Sofar) -> None:
        engine, edge = self.engine, code.edge
        assert edge.callee is not None
        if len(frames) > MAX_FRAMES:
            raise Incomplete(f"calls are more than {MAX_FRAMES} deep")
        graph, location, _, values = frames[-1]
        callee = engine.graph_at[edge.callee]
        inner = list(engine._fresh(callee))
        for ours, theirs in edge.copies_in:
            inner[engine.local_at[callee][theirs]] = self.value(ours, graph, values, own, common)
        here = (*frames[:-1], (graph, location, code.number, values))
        self.go_on((*here, (callee, edge.callee.entry, -1, tuple(inner))), own, common, sofar)

    def value(self, cell: Cell, graph: int, values: Values, own: Values, common: Values) -> int:
        engine = self.engine
        if cell in engine.local_at[graph]:
            return values[engine.local_at[graph][cell]]
        if cell in engine.own_at:
            return own[engine.own_at[cell]]
        self.seen = self.seen or cell in engine.layout.contended
        return common[engine.common_at[cell]]

    def go_on(self, frames: tuple[Frame, ...], own: Values, common: Values, sofar: _Sofar) -> None:
        """To the next place where others may come in between."""
        engine = self.engine
        graph, location, _, _ = frames[-1]
        if location == engine.graphs[graph].exit and len(frames) > 1:
            self.return_(frames, own, common, sofar)
            return
        codes = engine.leaving[graph].get(location, ())
        leaves = len(frames) == 1 and location == engine.context.leaves
        if leaves or not codes or any(c.edge.step and not c.edge.joined for c in codes):
            local = engine.intern((RUNNING, frames, None, own))
            self.end(local, common, sofar, sofar.choices, set(sofar.broken), sofar.executions)
            return
        for code in codes:
            if code.edge.callee is not None:
                self.call(code, frames, own, common, sofar)
            else:
                assert code.first is not None
                self.run(code, code.first, frames, own, common, (), sofar)

    def return_(self, frames: tuple[Frame, ...], own: Values, common: Values, sofar: _Sofar) -> None:
        engine = self.engine
        callee, _, _, inner = frames[-1]
        graph, _, call, values = frames[-2]
        edge = engine.edges[call].edge
        new, new_own, new_common = list(values), list(own), list(common)
        for theirs, ours in edge.copies_out:
            value = inner[engine.local_at[callee][theirs]]
            if ours in engine.local_at[graph]:
                new[engine.local_at[graph][ours]] = value
            elif ours in engine.own_at:
                new_own[engine.own_at[ours]] = value
            else:
                new_common[engine.common_at[ours]] = value
                self.seen = self.seen or ours in engine.layout.contended
        here = (*frames[:-2], (graph, edge.target, -1, tuple(new)))
        self.go_on(here, tuple(new_own), tuple(new_common), sofar)

    def stop(
        self,
        frames: tuple[Frame, ...],
        own: Values,
        sofar: _Sofar,
        choices: tuple[tuple[str, int], ...],
        broken: set[int],
    ) -> None:
        """An assumption fails, behind something that breaks."""
        here = self.engine.intern((RUNNING, frames, None, own))
        self.cut.append(_micro(here, sofar, choices, broken, sofar.executions))

    def end(
        self,
        local: int,
        common: Values,
        sofar: _Sofar,
        choices: tuple[tuple[str, int], ...],
        broken: set[int],
        executions: tuple[Execution, ...],
    ) -> None:
        self.ways.append((_micro(local, sofar, choices, broken, executions), common))


def _micro(
    local: int,
    sofar: _Sofar,
    choices: tuple[tuple[str, int], ...],
    broken: set[int],
    executions: tuple[Execution, ...],
) -> Micro:
    depth = max(sofar.depth - 2, 0)
    edge, routine = sofar.code.edge, sofar.code.routine
    return Micro(local, edge, routine, depth, choices, frozenset(broken), sofar.begins, executions)


_NOTHING = Elsewhere(False, -1)


def _named(cell: Cell | None) -> str:
    """A cell as choices name it."""
    if cell is None:
        return ""
    name = cell.name
    for prefix in ("hold ", "context ", "var "):
        name = name.removeprefix(prefix) if cell.sort is not Sort.SHARED or prefix == "var " else name
    return name


def edges_of(micro: Micro) -> set[int]:
    """Identities of the edges a step goes over."""
    return {id(execution.edge) for execution in micro.executions}


def shared_mode(value: int) -> int:
    """How a hold looks to others: 0 not held, 1 shared, 2 exclusively."""
    return 0 if value == FREE else 1 if unhold(value)[0] else 2


__all__ = [
    "ENDED",
    "RUNNING",
    "UNSTARTED",
    "WAITING",
    "Engine",
    "Expansion",
    "Incomplete",
    "Micro",
    "Need",
    "shared_mode",
]
