"""What of a scenario decides its verdicts: the cells that matter, and who else looks at them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set

from modelcheck import ir
from modelcheck.export.refusal import NotExportable
from modelcheck.ir import Cell, Edge, Graph, Instruction, Sort, instructions
from modelcheck.lower import every_graph
from modelcheck.lower.builder import registers_of
from modelcheck.lower.closed import Closed, Context, is_common
from modelcheck.record import dataclass, field
from modelcheck.syntax import ContextKind
from modelcheck.verdict import DISPATCH_LEVEL


def waits(instruction: Instruction) -> bool:
    """Whether a step ends before the instruction: an acquisition or a wait."""
    return isinstance(instruction, ir.Await) or (isinstance(instruction, ir.Take) and instruction.result is None)


@dataclass(slots=True)
class Use:
    """The cells one context touches, the locks among them, and how; `high`: whether it may come to DISPATCH_LEVEL."""

    cells: set[Cell] = field(default_factory=set)
    holds: set[Cell] = field(default_factory=set)
    shared: set[Cell] = field(default_factory=set)
    exclusive: set[Cell] = field(default_factory=set)
    high: bool = False


class Shape:
    """A scenario taken apart. `relevant`: the cells whose values can matter for what is asked.

    Raises:
        NotExportable: what a context does is not known.
    """

    def __init__(self, closed: Closed) -> None:
        self.closed = closed
        self.asked = frozenset(closed.listed)
        self.graphs = [every_graph([context.graph]) for context in closed.contexts]
        self._refuse()
        self.relevant = self._relevant()
        self.uses = [self._use(context, graphs) for context, graphs in zip(closed.contexts, self.graphs, strict=True)]
        read = set().union(*(use.shared for use in self.uses))
        self.queued = {cell for cell in read if cell.writers_first}
        """Locks where a waiting writer stops readers, and there are some."""
        self.counted = set(self._counted())
        """Locks that a context can acquire more than once."""

    def _refuse(self) -> None:
        handed = {f"event {name}" for name in self.closed.handed} | self.closed.handed
        for edge in self.edges():
            if edge.operation is None:
                continue
            for instruction in instructions(edge.operation.code):
                match instruction:
                    case ir.Await(register) if (cell := edge.cells[register]) is not None and cell.name in handed:
                        raise NotExportable(f"the system may set `{cell.name}`, which is handed to it")
                    case _:
                        pass
            for register in edge.operation.writes:
                cell = edge.cells[register]
                if cell is not None and cell.sort is Sort.TAINT:
                    unknown = ", ".join(f"`{name}`" for name in sorted(self.closed.unmodelled))
                    raise NotExportable(f"no model knows {unknown or 'a routine that is called'}")

    def edges(self) -> Iterator[Edge]:
        for graphs in self.graphs:
            for graph in graphs:
                yield from graph.edges

    # ---- what matters ----

    def _relevant(self) -> set[Cell]:
        """Backwards from what is asked and from what decides the way on."""
        found: set[Cell] = {check.cell for context in self.closed.contexts for check in context.checks}
        changed = True
        while changed:
            size = len(found)
            for edge in self.edges():
                found |= {cell for r in self.needed(edge, found) if (cell := edge.cells[r]) is not None}
                found |= {source for source, target in (*edge.copies_in, *edge.copies_out) if target in found}
            changed = len(found) != size
        return {cell for cell in found if cell.sort not in (Sort.TAINT, Sort.CLOCK, Sort.LIFE, Sort.DATA)}

    def is_asked(self, edge: Edge, slot: int | None) -> bool:
        return slot is not None and edge.obligations[slot] in self.asked

    def needed(self, edge: Edge, wanted: Set[Cell]) -> set[int]:
        """The registers whose values matter at an edge, if those of the wanted cells do."""
        if edge.operation is None:
            return set()
        found: set[int] = set()
        sets: list[ir.Set] = []
        for instruction in instructions(edge.operation.code):
            match instruction:
                case ir.Guess(condition) | ir.Choose(condition):
                    found |= registers_of(condition)
                case ir.Demand(condition, slot) if self.is_asked(edge, slot):
                    found |= registers_of(condition)
                case ir.Set(_, value, slot=slot):
                    sets.append(instruction)
                    found |= registers_of(value) if self.is_asked(edge, slot) else set()
                case ir.Change(register, level):
                    found |= registers_of(level) | {register}
                case ir.Take(register) | ir.Drop(register) | ir.Convert(register) | ir.Await(register):
                    found.add(register)
                case _:
                    pass
        found |= {register for register, cell in enumerate(edge.cells) if cell is not None and cell in wanted}
        changed = True
        while changed:
            size = len(found)
            for one in sets:
                if one.register in found:
                    found |= registers_of(one.value)
            changed = len(found) != size
        return found

    def _counted(self) -> Iterator[Cell]:
        for edge in self.edges():
            if edge.operation is not None:
                for instruction in instructions(edge.operation.code):
                    if isinstance(instruction, ir.Take) and instruction.allowed:
                        cell = edge.cells[instruction.register]
                        assert cell is not None
                        yield cell

    def _use(self, context: Context, graphs: Iterable[Graph]) -> Use:
        use = Use(high=context.level >= DISPATCH_LEVEL)
        for graph in graphs:
            for edge in graph.edges:
                if edge.operation is None:
                    continue
                use.cells.update(c for c in edge.cells if c is not None)
                for instruction in instructions(edge.operation.code):
                    match instruction:
                        case ir.Take(register, shared):
                            cell = edge.cells[register]
                            assert cell is not None
                            (use.shared if shared else use.exclusive).add(cell)
                        case ir.Convert(register):
                            cell = edge.cells[register]
                            assert cell is not None
                            use.shared.add(cell)
                            use.exclusive.add(cell)
                        case ir.Change():
                            use.high = True
                        case _:
                            pass
        use.cells.update(check.cell for check in context.checks)
        use.holds.update(cell for cell in use.cells if cell.sort is Sort.HOLD)
        return use

    # ---- who else ----

    def is_seen(self, index: int, edge: Edge) -> bool:
        """Whether others may notice the first part of an edge, up to where it waits, or it may depend on them."""
        if self.beside(index):
            return True
        for instruction in edge.operation.code if edge.operation is not None else ():
            if waits(instruction):
                return False
            for inner in instructions([instruction]):
                if waits(inner) or isinstance(inner, ir.Guess | ir.Signal | ir.Access):
                    return True
                if any((cell := edge.cells[r]) is not None and self._meets(index, cell) for r in _touched(inner)):
                    return True
        return False

    def _meets(self, index: int, cell: Cell) -> bool:
        shared = is_common(cell) or cell.sort is Sort.HOLD
        return shared and any(cell in use.cells for i, use in enumerate(self.uses) if i != index)

    def others(self, index: int, cell: Cell) -> list[int]:
        """The other contexts that touch a lock."""
        return [i for i, use in enumerate(self.uses) if i != index and cell in use.holds]

    def beside(self, index: int) -> list[int]:
        """The other contexts of its processor."""
        contexts = self.closed.contexts
        return [i for i, c in enumerate(contexts) if i != index and c.processor == contexts[index].processor]

    def is_thread(self, index: int) -> bool:
        return self.closed.contexts[index].kind is ContextKind.THREAD

    def shows_level(self, index: int) -> bool:
        """Whether its IRQL decides when others of its processor can run."""
        beside = self.beside(index)
        interrupted = any(not self.is_thread(i) for i in beside)
        return bool(beside) and (interrupted or self.uses[index].high)


def _touched(instruction: Instruction) -> set[int]:
    """The registers an instruction looks at or changes; of a branch, those of its condition."""
    match instruction:
        case ir.Choose(condition) | ir.Demand(condition) | ir.Guess(condition):
            return registers_of(condition)
        case ir.Set(register, value):
            return registers_of(value) | {register}
        case ir.Change(register, level):
            return registers_of(level) | {register}
        case ir.Take(register) | ir.Drop(register) | ir.Convert(register) | ir.Pick(register):
            return {register}
        case ir.CounterStep(register) | ir.Interfere(register) | ir.Await(register) | ir.Signal(register):
            return {register}
        case ir.Access(register):
            return {register}
        case ir.DemandFree() | ir.Enable() | ir.Reenter():
            return set()
