"""A scenario in Promela, the language of SPIN (Holzmann, *The Spin Model Checker*, 2004).

Each context is a process, each place where it can be interrupted a label, what it does up to the next such place one
`atomic`; a step that nobody else can notice is joined to the one before. Who may run is a guard: the rules of
docs/language.md section 7. A `goto` as the last statement of an `atomic` ends it, so others come in between.

A deadlock is an invalid end state. An obligation is a `CHECK`, an assertion with its number; the list of numbers stands
at the top. A context whose assumption does not hold goes to `gone`, where it alone goes on for ever: what comes of that
is no run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from modelcheck import ir
from modelcheck.export.names import Names
from modelcheck.export.promela_code import MAX_SPREAD, Code, Lines, Variables, branch, one_of, select
from modelcheck.export.refusal import NotExportable
from modelcheck.export.scenario import Shape, waits
from modelcheck.ir import FREE, Cell, Edge, Graph, Instruction, Sort, instructions, unhold
from modelcheck.lower.closed import Closed, is_common
from modelcheck.record import dataclass
from modelcheck.verdict import DISPATCH_LEVEL, Property

OUT = 255
"""The level of a context that has not started or has ended."""
MAX_LINES = 200_000
MAX_JOINED = 100
"""Steps that nobody sees are joined to the one before, so many."""
MAX_FRAMES = 40
"""Calls in calls that are followed."""
CHECKS = """\
#ifdef ONLY
#define CHECK(n, c) assert((n) != ONLY || (c))
#else
#define CHECK(n, c) assert((n) < 0 || (c))
#endif
"""


def promela(closed: Closed) -> str:
    """The scenario as a Promela model.

    Raises:
        NotExportable: it has something that Promela cannot say, or that is not known.
    """
    shape = Shape(closed)
    first = _Model(shape, pruning=False)
    text = first.text()
    return _Model(shape, pruning=True).text() if first.pruned else text


@dataclass(frozen=True, slots=True, eq=False)
class _Frame:
    """A graph called from somewhere, with names for its local cells."""

    graph: Graph
    number: int
    parent: _Frame | None = None
    call: Edge | None = None

    @property
    def depth(self) -> int:
        return 0 if self.parent is None else self.parent.depth + 1


@dataclass(frozen=True, slots=True)
class _Stop:
    """A place where others may come in between: before a location, or before an acquisition or wait in an edge."""

    frame: _Frame
    location: int
    edge: Edge | None = None
    rest: tuple[Instruction, ...] = ()


class _Model:
    """`pruning`: assumptions can fail; `pruned`: some can."""

    def __init__(self, shape: Shape, pruning: bool) -> None:
        self.shape = shape
        self.closed = shape.closed
        self.pruning = pruning
        self.pruned = False
        self.names = Names(used={"q", "top", "below", "norun"})
        self.globals: dict[Cell | tuple[int, Cell], str] = {}
        self.accesses = {cell: self._touching(cell) for cell in self.closed.races}
        self.waiting: dict[tuple[int, Cell], str] = {}

    def text(self) -> str:
        contexts = [_Process(self, index).text() for index in range(len(self.closed.contexts))]
        return "\n".join([*self._header(), CHECKS, *self._variables(), "", *contexts, *self._init()]) + "\n"

    def _header(self) -> Lines:
        lines = [f"/* scenario {self.closed.name} of {self.closed.program.driver}", ""]
        for number in self.closed.listed:
            obligation = self.closed.obligations[number]
            if obligation.code not in (Property.D01, Property.D02, Property.D03):
                lines.append(f"   {number}: {obligation.id.replace('*/', '* /')}")
        return [*lines, "*/", ""]

    # ---- variables ----

    def common(self, cell: Cell) -> str:
        name = self.names.of(cell, cell.name)
        self.globals[cell] = name
        return name

    def hold(self, index: int, cell: Cell) -> str:
        """How a context holds a lock that others touch too."""
        name = self.names.of((index, cell), f"{cell.name}_{index}")
        self.globals[index, cell] = name
        return name

    def waits(self, index: int, cell: Cell) -> str:
        """Whether a writer has come to wait."""
        name = self.names.of(("waits", index, cell), f"waits_{cell.name.removeprefix('hold ')}_{index}")
        self.waiting[index, cell] = name
        return name

    def level(self, index: int) -> str:
        return f"q[{index}]"

    def _variables(self) -> Lines:
        lines = []
        starts = dict(self.closed.starts)
        for key, name in sorted(self.globals.items(), key=lambda item: item[1]):
            cell = key if isinstance(key, Cell) else key[1]
            values = starts.get(cell, (0,)) if isinstance(key, Cell) else (FREE,)
            given = f" = {values[0]}" if len(values) == 1 and values[0] else ""
            lines.append(f"{type_of(cell)} {name}{given};")
        lines += [f"bit {name};" for name in sorted(self.waiting.values())]
        for cell, users in self.accesses.items():
            lines += [f"byte {self.stands(index, cell)};" for index in sorted(users)]
        if any(self.shape.shows_level(i) for i in range(len(self.closed.contexts))):
            lines.append(f"byte q[{len(self.closed.contexts)}] = {OUT}; /* levels; {OUT}: does not run */")
        if self._stacked():
            lines.append(f"byte top[{self.closed.processors}]; /* what lies on top of each processor, from 1 */")
            lines.append(f"byte below[{len(self.closed.contexts)}]; /* what it lies on */")
        if self.pruning:
            lines.append("bit norun; /* an assumption has failed */")
        return lines

    def _stacked(self) -> bool:
        shape = self.shape
        return any(not shape.is_thread(i) and shape.beside(i) for i in range(len(self.closed.contexts)))

    # ---- races ----

    def _touching(self, cell: Cell) -> set[int]:
        """The contexts that touch data for which there can be a race."""
        users: set[int] = set()
        writes = False
        for index, graphs in enumerate(self.shape.graphs):
            for graph in graphs:
                for edge in graph.edges:
                    for instruction in instructions(edge.operation.code if edge.operation else ()):
                        if isinstance(instruction, ir.Access) and edge.cells[instruction.register] is cell:
                            users.add(index)
                            writes = writes or instruction.write
        return users if writes and len(users) > 1 else set()

    def stands(self, index: int, cell: Cell) -> str:
        """Before which access a context stands: 0 none, 1 a read, 2 a write, 3 and 4 in `atomic`."""
        return self.names.of(("stands", index, cell), f"at_{cell.name.removeprefix('data ')}_{index}")

    # ---- who may run ----

    def may_run(self, index: int, started: bool) -> str:
        """The guard of a context's steps."""
        tests = ["!norun"] if self.pruning else []
        contexts = self.closed.contexts
        beside = self.shape.beside(index)
        processor = contexts[index].processor
        threads = [i for i in beside if self.shape.is_thread(i)]
        interrupts = [i for i in beside if not self.shape.is_thread(i)]
        if self.shape.is_thread(index):
            if interrupts:
                tests.append(f"top[{processor}] == 0")
            ruling = [self._low(i) for i in threads if self.shape.uses[i].high]
            own = f"({self.level(index)} >= {DISPATCH_LEVEL} && {self.level(index)} != {OUT})"
            if ruling and self.shape.uses[index].high:
                tests.append(f"({own} || {' && '.join(ruling)})")
            else:
                tests += ruling
        elif started:
            tests += [f"top[{processor}] == {index + 1}"] if beside else []
        elif beside:
            tests.append(self._admitted(index, processor, threads, bool(interrupts)))
        return " && ".join(tests) or "true"

    def _low(self, index: int) -> str:
        return f"({self.level(index)} < {DISPATCH_LEVEL} || {self.level(index)} == {OUT})"

    def _admitted(self, index: int, processor: int, threads: list[int], stacked: bool) -> str:
        """Whether a DPC or an ISR may start."""
        limit = self.closed.contexts[index].admitted
        ruled = [f"({self._low(i)} || {self.level(i)} < {limit})" for i in threads]
        if limit < DISPATCH_LEVEL and threads:
            none = " && ".join(f"{self.level(i)} == {OUT}" for i in threads)
            ruled.append(f"({none} || {' || '.join(f'{self.level(i)} < {limit}' for i in threads)})")
        empty = " && ".join(ruled) or "true"
        top = f"top[{processor}]"
        return f"({top} != 0 -> q[{top} - 1] < {limit} : ({empty}))" if stacked else f"({empty})"

    def refused(self, index: int, cell: Cell, shared: bool) -> str:
        """A test that others keep a context from getting a lock it does not hold; "" if nobody else touches it."""
        tests = []
        for other in self.shape.others(index, cell):
            held = self.hold(other, cell)
            if not shared:
                tests.append(f"{held} != {FREE}")
                continue
            tests.append(one_of(held, (v for v in range(1, cell.high + 1) if not unhold(v)[0])))
            if cell in self.shape.queued and cell in self.shape.uses[other].exclusive:
                tests.append(f"{self.waits(other, cell)}")
        return " || ".join(tests)

    # ---- the beginning ----

    def _init(self) -> Lines:
        lines: Lines = []
        for cell, values in self.closed.starts:
            if cell in self.globals and len(values) > 1:
                if len(values) > MAX_SPREAD:
                    raise NotExportable(f"`{cell.name}` can start with {len(values)} values")
                lines += select(self.globals[cell], values[0], values[-1])
        lines += [f"run c{index}();" for index in range(len(self.closed.contexts))]
        return ["init {", "  atomic {", *(f"    {line}" for line in lines), "  }", "}"]


class _Process:
    """One context as a process."""

    def __init__(self, model: _Model, index: int) -> None:
        self.model = model
        self.index = index
        self.shape = model.shape
        self.context = model.closed.contexts[index]
        self.leaving: dict[Graph, dict[int, list[Edge]]] = {}
        for graph in self.shape.graphs[index]:
            table = self.leaving[graph] = {}
            for edge in graph.edges:
                table.setdefault(edge.source, []).append(edge)
        self.local = Names(used={"gone", "end"})
        self.locals: dict[Cell | tuple[Cell, int], str] = {}
        self.variables = Variables(lambda cell: self.place(cell, self.frame))
        self.frame = _Frame(self.context.graph, 0)
        self.frames = 1
        self.stops: dict[tuple[_Frame, int, int | None, tuple[int, ...]], int] = {}
        self.pending: list[_Stop] = []
        self.touches: dict[tuple[_Frame, int], frozenset[tuple[Cell, int]]] = {}
        self.calls: dict[tuple[_Frame, int], _Frame] = {}
        self.lines: Lines = []
        self.gone_used = False
        self.inside: list[tuple[_Frame, int]] = []
        """Where the step that is written has passed already."""
        self.holds = [
            (cell, self.place(cell, self.frame)) for cell in sorted(self.shape.uses[index].holds, key=lambda c: c.name)
        ]

    def text(self) -> str:
        self.label(_Stop(self.frame, self.context.graph.entry))
        done = 0
        while done < len(self.pending):
            self.lines += self.stop(self.pending[done], done)
            done += 1
            if len(self.lines) > MAX_LINES:
                raise NotExportable(f"`{self.context.name}` is too long with all it calls")
        declared = [f"{type_of(k if isinstance(k, Cell) else k[0])} {name};" for k, name in self.locals.items()]
        declared += [f"int {name};" for name in self.variables.scratch.values()]
        declared += [f"int star{number};" for number in range(self.variables.stars)]
        tail = ["gone: norun = 1; goto gone;"] if self.gone_used else []
        tail.append("end: false")
        body = [*(f"  {line}" for line in (*declared, "goto L0;", *self.lines, *tail))]
        return "\n".join([f"proctype c{self.index}() {{ /* {self.context.name} */", *body, "}", ""])

    # ---- where values are ----

    def place(self, cell: Cell, frame: _Frame) -> str:
        """The variable of a cell."""
        if is_common(cell):
            return self.model.common(cell)
        if cell.sort is Sort.HOLD and self.shape.others(self.index, cell):
            return self.model.hold(self.index, cell)
        if cell.sort is Sort.IRQL and self.shape.shows_level(self.index):
            return self.model.level(self.index)
        key = cell if cell.is_global else (cell, frame.number)
        if key not in self.locals:
            self.locals[key] = self.local.of(key, f"{cell.name}")
        return self.locals[key]

    # ---- labels ----

    def label(self, stop: _Stop) -> str:
        edge = None if stop.edge is None else id(stop.edge)
        key = (stop.frame, stop.location, edge, tuple(id(i) for i in stop.rest))
        number = self.stops.get(key)
        if number is None:
            number = self.stops[key] = len(self.pending)
            self.pending.append(stop)
        return f"L{number}"

    def stop(self, stop: _Stop, number: int) -> Lines:
        """A label with the step that begins there."""
        self.frame = stop.frame
        if stop.edge is not None:
            return [f"L{number}:", *self.acquisition(stop, number)]
        edges = self.leaving[stop.frame.graph].get(stop.location, [])
        span = edges[0].span if edges else stop.frame.graph.span
        comment = f"/* {stop.frame.graph.routine}, line {span.line} */"
        started = number > 0
        guard = self.model.may_run(self.index, started)
        if not edges:
            return [f"L{number}: {comment}", f"{guard}; goto L{number};"]
        body = self.begin() if not started else []
        body += self.left(stop)
        body += self.ways(stop.frame, edges)
        return [f"L{number}: {comment}", *atomic(guard, body)]

    def begin(self) -> Lines:
        """The context starts: on its processor, at its level."""
        irql = next(
            (c for e in self.context.graph.edges for c in e.cells if c is not None and c.sort is Sort.IRQL), None
        )
        lines = [] if irql is None else [f"{self.place(irql, self.frame)} = {self.context.level};"]
        if not self.shape.is_thread(self.index) and self.shape.beside(self.index):
            top = f"top[{self.context.processor}]"
            lines += [f"below[{self.index}] = {top};", f"{top} = {self.index + 1};"]
        return lines

    def finish(self) -> Lines:
        """The context ends: what it holds stays held."""
        lines = []
        if self.shape.shows_level(self.index):
            lines.append(f"{self.model.level(self.index)} = {OUT};")
        if not self.shape.is_thread(self.index) and self.shape.beside(self.index):
            lines += [f"top[{self.context.processor}] = below[{self.index}];", f"below[{self.index}] = 0;"]
        kept = {name for _, name in self.holds}
        lines += [f"{name} = 0;" for name in self.locals.values() if name not in kept]
        return [*lines, "goto end"]

    def gone(self) -> Lines:
        self.model.pruned = self.gone_used = True
        return ["norun = 1;", "goto gone"] if self.model.pruning else ["goto gone"]

    # ---- races ----

    def left(self, stop: _Stop) -> Lines:
        """It no longer stands before its accesses."""
        found = self.before(stop.frame, stop.location)
        return [f"{self.model.stands(self.index, cell)} = 0;" for cell, _ in sorted(found, key=_by_name)]

    def arrived(self, frame: _Frame, location: int) -> Lines:
        """It stands before accesses from now on: nobody else may stand before one of the same data."""
        lines = []
        for cell, how in sorted(self.before(frame, location), key=_by_name):
            lines.append(f"{self.model.stands(self.index, cell)} = {how};")
            clash = {1: (2, 4), 2: (1, 2, 3, 4), 3: (2,), 4: (1, 2)}[how]
            others = [i for i in sorted(self.model.accesses[cell]) if i != self.index]
            free = " && ".join(f"!({one_of(self.model.stands(i, cell), clash)})" for i in others)
            lines.append(f"CHECK({self.model.closed.races[cell]}, {free});")
        return lines

    def before(self, frame: _Frame, location: int) -> frozenset[tuple[Cell, int]]:
        """The accesses in the step that begins at a location, each data with how it is touched.

        Raises:
            NotExportable: it depends on more than the location.
        """
        key = (frame, location)
        found = self.touches.get(key)
        if found is None:
            self.touches[key] = frozenset()
            found = self.touches[key] = frozenset(self._accesses(frame, location))
        return found

    def _accesses(self, frame: _Frame, location: int) -> Iterable[tuple[Cell, int]]:
        edges = self.leaving[frame.graph].get(location, [])
        found: dict[Cell, int] = {}
        for edge in edges:
            here: dict[Cell, int] = {}
            for instruction in edge.operation.code if edge.operation is not None else ():
                if waits(instruction):
                    break
                inner = [i for i in instructions([instruction]) if isinstance(i, ir.Access)]
                for access in inner:
                    cell = edge.cells[access.register]
                    assert cell is not None
                    if not self.model.accesses.get(cell):
                        continue
                    if isinstance(instruction, ir.Choose):
                        raise NotExportable(f"whether `{cell.name}` is touched depends on values")
                    here[cell] = max(here.get(cell, 0), 1 + access.write + 2 * access.atomic)
            if edge.callee is None and self._joined(frame, edge.target):
                for cell, how in self.before(frame, edge.target):
                    here[cell] = max(here.get(cell, 0), how)
            for cell in here.keys() | found.keys():
                if edge is not edges[0] and here.get(cell) != found.get(cell):
                    raise NotExportable(f"whether `{cell.name}` is touched depends on values")
            found = here
        return found.items()

    def _joined(self, frame: _Frame, location: int) -> bool:
        edges = self.leaving[frame.graph].get(location, [])
        return bool(edges) and location != frame.graph.exit and not any(e.step and not e.joined for e in edges)

    # ---- steps ----

    def go_on(self, frame: _Frame, location: int) -> Lines:
        """On to the next place where others may come in between."""
        self.frame = frame
        if location == frame.graph.exit and frame.parent is not None:
            return self.return_(frame)
        edges = self.leaving[frame.graph].get(location, [])
        leaves = frame.parent is None and location == self.context.leaves
        ends = leaves or not edges or any(e.step and not e.joined for e in edges)
        if ends and not self.is_unseen(frame, location, edges):
            arrived = self.arrived(frame, location)
            return [*arrived, f"goto {self.label(_Stop(frame, location))}"]
        if sum(map(len, self.lines)) > 40 * MAX_LINES:
            raise NotExportable(f"`{self.context.name}` is too long with all it calls")
        self.inside.append((frame, location))
        lines = self.ways(frame, edges)
        self.inside.pop()
        return lines

    def is_unseen(self, frame: _Frame, location: int, edges: Sequence[Edge]) -> bool:
        """Whether the next step is nobody else's business: then it needs no place of its own. The first of an `atomic`
        block does, for the sake of the others."""
        if len(edges) != 1 or (frame, location) in self.inside or len(self.inside) > MAX_JOINED:
            return False
        if any(edge.joined for edge in self.leaving[frame.graph].get(edges[0].target, ())):
            return False
        return not self.shape.is_seen(self.index, edges[0]) and not self.before(frame, location)

    def ways(self, frame: _Frame, edges: Sequence[Edge]) -> Lines:
        """What leads away from a location: one of its edges."""
        if len(edges) == 1:
            return self.edge(frame, edges[0])
        guards = _branching(edges)
        opened: list[Lines] = []
        tests: list[str] = []
        code = self.code(edges[0], frame)
        for guard in guards:
            opened.append([])
            tests.append(code.opened(guard.condition, opened[-1]))
        if not guards or any(lines != opened[0] for lines in opened):
            return [*branch([("", self.edge(frame, edge)) for edge in edges])[:-1], "fi"]
        assert edges[0].operation is not None
        lines = [*code.sequence(edges[0].operation.code[:-1]), *opened[0]]
        if len(edges) == 2 and guards[1].condition == ir.Not(guards[0].condition):
            tests[1] = "else"
        ways = []
        for edge, test in zip(edges, tests, strict=True):
            ways.append((test, [*code.forget(), *self.go_on(frame, edge.target)]))
        return [*lines, *branch(ways)[:-1], "fi"]

    def code(self, edge: Edge, frame: _Frame) -> Code:
        self.frame = frame
        return Code(
            self.shape,
            edge,
            self.variables,
            lambda cell, shared: self.model.refused(self.index, cell, shared),
            self.holds,
            self.gone,
        )

    def edge(self, frame: _Frame, edge: Edge) -> Lines:
        if edge.callee is not None:
            return self.call(frame, edge)
        assert edge.operation is not None
        return self.run(frame, edge, edge.operation.code, self.code(edge, frame))

    def run(self, frame: _Frame, edge: Edge, code: tuple[Instruction, ...], made: Code) -> Lines:
        """The rest of an operation up to where it waits, and what follows."""
        lines: Lines = []
        for index, instruction in enumerate(code):
            if waits(instruction):
                return lines + self.wait(frame, edge, code[index:], made)
            if isinstance(instruction, ir.Choose) and any(map(waits, instructions([instruction]))):
                test = made.opened(instruction.condition, lines)
                after = code[index + 1 :]
                ways = []
                for guard, inner in ((test, instruction.then), ("else", instruction.otherwise)):
                    ways.append((guard, self.run(frame, edge, (*inner, *after), made)))
                    self.frame = frame
                return [*lines, *branch(ways)[:-1], "fi"]
            lines += made.one(instruction)
        if edge is self.context.end:
            for check in self.context.checks:
                if check.obligation in self.shape.asked:
                    holds = one_of(self.place(check.cell, frame), check.allowed)
                    lines.append(f"CHECK({check.obligation}, {holds});")
            return [*lines, *made.forget(), *self.finish()]
        return [*lines, *made.forget(), *self.go_on(frame, edge.target)]

    def wait(self, frame: _Frame, edge: Edge, rest: tuple[Instruction, ...], made: Code) -> Lines:
        """It comes to an acquisition or a wait; the rest is another step."""
        head = rest[0]
        lines: Lines = []
        if isinstance(head, ir.Take) and head.slot is not None:
            held = f"{made.register(head.register)} == {FREE}"
            lines = made.check(head.slot, f"{held} || {made.again(head)}" if head.allowed else held)
        return [*lines, f"goto {self.label(_Stop(frame, edge.source, edge, rest))}"]

    def acquisition(self, stop: _Stop, number: int) -> Lines:
        """A step that begins with an acquisition or a wait."""
        head, edge = stop.rest[0], stop.edge
        assert edge is not None
        made = self.code(edge, stop.frame)
        made.written = {
            index for index in self.variables.scratch if index < len(edge.cells) and edge.cells[index] is None
        }
        guard = self.model.may_run(self.index, True)
        if isinstance(head, ir.Await):
            return atomic(_both(guard, made.register(head.register)), self.run(stop.frame, edge, stop.rest[1:], made))
        assert isinstance(head, ir.Take)
        cell = edge.cells[head.register]
        assert cell is not None
        possible = made.possible(head)
        queues = not head.shared and cell in self.shape.queued
        came = self.model.waits(self.index, cell) if queues else ""
        body = [f"{came} = 0;"] if queues else []
        body += [*made.taken(head), *self.run(stop.frame, edge, stop.rest[1:], made)]
        step = atomic(_both(guard, f"({possible})"), body)
        if not queues:
            return step
        comes = atomic(_both(guard, f"!({possible}) && !{came}"), [f"{came} = 1;", f"goto L{number}"])
        return ["if", *_way(step), *_way(comes), "fi;"]

    # ---- calls ----

    def call(self, frame: _Frame, edge: Edge) -> Lines:
        assert edge.callee is not None
        inner = self.calls.get((frame, id(edge)))
        if inner is None:
            active: _Frame | None = frame
            while active is not None:
                if active.graph is edge.callee:
                    raise NotExportable(f"`{edge.callee.name}` calls itself")
                active = active.parent
            inner = self.calls[frame, id(edge)] = _Frame(edge.callee, self.frames, frame, edge)
            self.frames += 1
        relevant = self.shape.relevant
        given = {theirs: ours for ours, theirs in edge.copies_in}
        lines = []
        for cell in edge.callee.locals:
            if cell in relevant:
                value = self.place(given[cell], frame) if cell in given else str(cell.low)
                if cell in given or cell.low:
                    lines.append(f"{self.place(cell, inner)} = {value};")
        return [*lines, *self.go_on(inner, edge.callee.entry)]

    def return_(self, frame: _Frame) -> Lines:
        assert frame.parent is not None
        assert frame.call is not None
        relevant = self.shape.relevant
        lines = [
            f"{self.place(ours, frame.parent)} = {self.place(theirs, frame)};"
            for theirs, ours in frame.call.copies_out
            if ours in relevant
        ]
        lines += [f"{self.place(cell, frame)} = 0;" for cell in frame.graph.locals if cell in relevant]
        return [*lines, *self.go_on(frame.parent, frame.call.target)]


def atomic(guard: str, body: Lines) -> Lines:
    """One step."""
    return ["atomic {", f"  {guard} ->", *(f"  {line}" for line in body), "};"]


def _way(step: Lines) -> Lines:
    return [f":: {step[0]}", *(f"   {line}" for line in step[1:])]


def _both(one: str, other: str) -> str:
    return other if one == "true" else f"{one} && {other}"


def _branching(edges: Sequence[Edge]) -> list[ir.Guess]:
    """The conditions of edges that do the same and differ in the condition at the end alone; one of these always holds.
    Empty where it is not so."""
    operations = [edge.operation for edge in edges if edge.operation is not None]
    if len(operations) < len(edges) or any(map(waits, instructions(operations[0].code))):
        return []
    first = edges[0]
    same = all(edge.cells == first.cells and edge.obligations == first.obligations for edge in edges)
    same = same and all(o.code[:-1] == operations[0].code[:-1] for o in operations)
    guards = [last for o in operations if o.code and isinstance(last := o.code[-1], ir.Guess)]
    return guards if same and len(guards) == len(edges) else []


def _by_name(item: tuple[Cell, int]) -> str:
    return item[0].name


def type_of(cell: Cell) -> str:
    """The smallest type that holds the values of a cell.

    Raises:
        NotExportable: none does.
    """
    if cell.low >= 0 and cell.high <= 1:
        return "bit"
    if cell.low >= 0 and cell.high <= 255:
        return "byte"
    if cell.low >= -(2**15) and cell.high < 2**15:
        return "short"
    if cell.low >= -(2**31) and cell.high < 2**31:
        return "int"
    raise NotExportable(f"`{cell.name}` has values of more than 32 bits")
