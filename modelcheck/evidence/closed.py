"""What the proofs of a scenario rest on: its states are all there are, and in none of them anything breaks.

Two things are checked, neither by what found the states. *What an operation does*: each different execution (an
operation or a part of it, and the values it starts from) is asked of `encode`: there is no outcome beside those in the
table, and nothing breaks that the table does not say. *Who goes when*: the rules of docs/language.md section 7, written
down here a second time, lead from every state only to states of the set; and where a context went on at once because
nobody could see it, that is so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from modelcheck import ir
from modelcheck.engines.closed.layout import taken_shared, tried
from modelcheck.engines.closed.local import ENDED, GONE, UNSTARTED, WAITING, Engine, Execution, Need
from modelcheck.engines.closed.search import Search, State
from modelcheck.engines.closed.segments import Segment
from modelcheck.engines.scenario import Solved
from modelcheck.evidence.conditions import Pool, StepQuery
from modelcheck.ir import FREE, Edge, Instruction, Operation, Sort, unhold
from modelcheck.lower import every_graph
from modelcheck.lower.builder import registers_of
from modelcheck.lower.closed import Closed, is_common
from modelcheck.syntax import BinaryOp, ContextKind
from modelcheck.verdict import DISPATCH_LEVEL


def conditions(solved: Solved, number: int, pool: Pool) -> None:
    """Adds a query for each different execution in a scenario.

    T(x, x') & (x' is not in the table | something breaks that the table has as kept)     must be unsat
    """
    operations: dict[object, Operation] = {}
    for (part, values, elsewhere, refused), (outcomes, edge) in solved.search.memo.items():
        operation = operations.get((part, refused))
        if operation is None:
            operation = operations[part, refused] = _operation(part, refused)
        broken = 0
        for outcome in outcomes:
            broken |= outcome.broken
        targets = tuple(tuple((value,) for value in outcome.values) for outcome in outcomes)
        slots = tuple(slot for slot in range(len(edge.obligations)) if not broken >> slot & 1)
        outside = (elsewhere.any_held, elsewhere.spin_level >= 0, elsewhere.spin_level)
        ranges = _ranges(edge, operation, values, targets)
        pool.add(StepQuery(operation, ranges, tuple((v,) for v in values), targets, slots, outside), number)


def _ranges(
    edge: Edge, operation: Operation, values: tuple[int, ...], targets: tuple[tuple[tuple[int, ...], ...], ...]
) -> tuple[tuple[int, int, object], ...]:
    """A range for each register that holds all it comes to hold."""
    found: list[tuple[int, int, object]] = []
    for register in range(operation.size):
        cell = edge.cells[register] if register < len(edge.cells) else None
        seen = [values[register], *(target[register][0] for target in targets)]
        low, high = (0, 0) if cell is None else (cell.low, cell.high)
        found.append((min(low, *seen), max(high, *seen), None))
    return tuple(found)


def _operation(part: Segment, refused: frozenset[tuple[int, bool]]) -> Operation:
    """A part of an operation as one of its own; a try that others refuse gives false, any other true if it can."""
    code = tuple(_refusing(part.code, refused))
    whole = part.operation
    return replace(whole, code=code, size=whole.size + 1, scratch=whole.scratch | {part.stop})


def _refusing(code: Iterable[Instruction], refused: frozenset[tuple[int, bool]]) -> Iterator[Instruction]:
    for instruction in code:
        match instruction:
            case ir.Choose(condition, then, otherwise):
                yield ir.Choose(condition, tuple(_refusing(then, refused)), tuple(_refusing(otherwise, refused)))
            case ir.Take(register, shared, result=int(result)) if (register, shared) in refused:
                yield ir.Set(result, ir.Const(0), 0, 1, None)
            case ir.Convert(register, shared, result=int(result)) if (register, shared) in refused:
                no = (ir.Set(result, ir.Const(0), 0, 1, None),)
                yield ir.Choose(ir.IsHeld(register, not shared), no, (instruction,))
            case ir.Take(register, shared, allowed=allowed, result=int(result)):
                yield instruction
                forbidden = [ir.IsHeld(register, mode) for mode in (False, True) if (shared, mode) not in allowed]
                yield ir.Guess(_either(ir.Reg(result), *forbidden))
            case ir.Convert(register, shared, result=int(result)):
                yield instruction
                yield ir.Guess(_either(ir.Reg(result), ir.Not(ir.IsHeld(register, not shared))))
            case _:
                yield instruction


def _either(*terms: ir.Term) -> ir.Term:
    first, *rest = terms
    return ir.Arith(BinaryOp.OR, first, _either(*rest)) if rest else first


def gap(solved: Solved) -> str:
    """Why the states of a scenario may not be all there are; "" if they are."""
    return _Rules(solved.closed, solved.search).gap()


class _Rules:
    """Section 7 for the states of a search."""

    def __init__(self, closed: Closed, search: Search) -> None:
        self.closed = closed
        self.search = search
        self.touched = [_touched(context.graph) for context in closed.contexts]
        self.private: dict[tuple[int, int, Segment, bool], bool] = {}
        self.high = self._high()
        self.queued = {
            cell
            for context in closed.contexts
            for graph in every_graph([context.graph])
            for edge in graph.edges
            if edge.operation is not None
            for register in taken_shared(edge.operation.code)
            if (cell := edge.cells[register]) is not None and cell.writers_first
        }
        """The locks where a waiting writer stops readers, and there are some."""
        self.noticed = self.queued | {
            cell
            for context in closed.contexts
            for graph in every_graph([context.graph])
            for edge in graph.edges
            if edge.operation is not None
            for register in tried(edge.operation.code)
            if (cell := edge.cells[register]) is not None
        }

    def _high(self) -> set[int]:
        """The contexts that come to DISPATCH_LEVEL or above in some state or on the way to one."""
        search = self.search
        found = {i for s in search.found.order for i in range(search.count) if self._rules(s, i)}
        for index, settled in enumerate(search.settled):
            levels = (e.level for one in settled.values() for e in one.parts)
            if any(level >= DISPATCH_LEVEL for level in levels):
                found.add(index)
        return found

    def gap(self) -> str:
        search = self.search
        for index, engine in enumerate(search.engines):
            reason = self._unseen(index, engine)
            if reason:
                return reason
        for state in search.found.order:
            if state not in search.found.successors:
                return "a state was not expanded"
            for index in range(len(self.closed.contexts)):
                if self.may_run(state, index):
                    missing = self._missing(state, index)
                    if missing:
                        return missing
        return ""

    # ---- who may run ----

    def mode(self, state: State, index: int) -> int:
        return self.search.engines[index].mode[state[2 + index]]

    def level(self, state: State, index: int) -> int:
        return self.search.engines[index].level[state[2 + index]]

    def active(self, state: State, index: int) -> bool:
        return self.mode(state, index) not in (UNSTARTED, ENDED, GONE)

    def may_run(self, state: State, index: int) -> bool:
        """Whether the processor of a context lets it run, or start."""
        context = self.closed.contexts[index]
        thread = context.kind is ContextKind.THREAD
        if self.mode(state, index) in (ENDED, GONE):
            return False
        stack = self.search.stacks[state[1]][context.processor]
        ruling = [i for i in self._threads(context.processor) if self._rules(state, i)]
        if thread:
            return not stack and (not ruling or index in ruling)
        if self.mode(state, index) != UNSTARTED:
            return stack[-1] == index
        if stack:
            return self.level(state, stack[-1]) < context.admitted
        if ruling:
            return self.level(state, ruling[0]) < context.admitted
        started = [self.level(state, i) for i in self._threads(context.processor) if self.active(state, i)]
        return min(started, default=-1) < context.admitted

    def _threads(self, processor: int) -> list[int]:
        contexts = enumerate(self.closed.contexts)
        return [i for i, c in contexts if c.kind is ContextKind.THREAD and c.processor == processor]

    def _rules(self, state: State, index: int) -> bool:
        return self.active(state, index) and self.level(state, index) >= DISPATCH_LEVEL

    # ---- what a step leads to ----

    def _missing(self, state: State, index: int) -> str:
        """Why a step of a context leads out of the states; "" if none does."""
        search, engine, local = self.search, self.search.engines[index], state[2 + index]
        need = engine.needs[local]
        if need is not None and not self._possible(state, index, need):
            waits = not need.shared and not need.is_event and search.layout.own[need.cell] in self.queued
            if waits and self.mode(state, index) != WAITING:
                return self._absent(state, index, engine.comes_to_wait(local), state[0])
            return ""
        expansion = engine.expand(local, search.commons[state[0]], search.view(state, index))
        if expansion.unknown:
            return expansion.unknown
        for micro, values in expansion.ways:
            if micro.broken - search.found.broken.keys() and search.is_real(state):
                return "something breaks that is not among what breaks"
            common = search.common_number.get(values)
            if common is None:
                return "common values that no state has"
            stops = search.settle(index, micro.after).stops if search.reduce else [(micro.after, ())]
            for after, _ in stops:
                missing = self._absent(state, index, after, common)
                if missing:
                    return missing
        return ""

    def _absent(self, state: State, index: int, after: int, common: int) -> str:
        new = list(state)
        new[0], new[2 + index] = common, after
        context, engine = self.closed.contexts[index], self.search.engines[index]
        if context.kind is not ContextKind.THREAD:
            stacks = [list(stack) for stack in self.search.stacks[state[1]]]
            here = stacks[context.processor]
            ended = engine.mode[after] in (ENDED, GONE)
            if ended and index in here:
                here.remove(index)
            elif not ended and index not in here:
                here.append(index)
            number = self.search.stack_number.get(tuple(tuple(stack) for stack in stacks))
            if number is None:
                return "processors as no state has them"
            new[1] = number
        return "" if tuple(new) in self.search.found.arrivals else "a step leads to a state that is not among them"

    def _possible(self, state: State, index: int, need: Need) -> bool:
        search = self.search
        if need.is_event:
            return bool(search.commons[state[0]][need.cell])
        if need.own:
            return not need.forbidden
        at = search.layout.holds.index(need.cell)
        for other, engine in enumerate(search.engines):
            if other == index:
                continue
            hold = engine.held[state[2 + other]][at]
            if hold != FREE and not (need.shared and unhold(hold)[0]):
                return False
            theirs = engine.needs[state[2 + other]]
            writer = self.mode(state, other) == WAITING and theirs is not None and theirs.cell == need.cell
            if writer and need.shared and search.layout.own[need.cell] in self.queued:
                return False
        return True

    # ---- what nobody sees ----

    def _unseen(self, index: int, engine: Engine) -> str:
        """Why a step that was taken at once can be seen by others; "" if none can."""
        for local, settled in self.search.settled[index].items():
            if engine.mode[local] == UNSTARTED and settled.edges and not self._starts_unseen(index):
                return "the start of a context was taken for unseen"
            for execution in settled.parts:
                if not self._private_execution(index, execution):
                    return "a step was taken for unseen that others can see"
        return ""

    def _beside(self, index: int) -> list[int]:
        """The other contexts of its processor."""
        contexts = self.closed.contexts
        return [i for i, c in enumerate(contexts) if i != index and c.processor == contexts[index].processor]

    def _starts_unseen(self, index: int) -> bool:
        context = self.closed.contexts[index]
        low = context.kind is ContextKind.THREAD and context.level < DISPATCH_LEVEL
        return low or not self._beside(index)

    def _runs_always(self, index: int, level: int) -> bool:
        """Whether nothing on its processor can keep a context at that level from running: there is nothing else, or
        there are only threads and either it is at DISPATCH_LEVEL itself or none of them ever is."""
        group = [index, *self._beside(index)]
        if len(group) == 1:
            return True
        threads = all(self.closed.contexts[i].kind is ContextKind.THREAD for i in group)
        return threads and (level >= DISPATCH_LEVEL or not any(i in self.high for i in group))

    def _private_execution(self, index: int, execution: Execution) -> bool:
        """Whether nobody sees what was executed, nor the change of the IRQL in it."""
        before, after = execution.before, execution.level
        always = self._runs_always(index, before)
        low = before < DISPATCH_LEVEL and after < DISPATCH_LEVEL
        if not (before == after or always or (low and self.closed.contexts[index].kind is ContextKind.THREAD)):
            return False
        if execution.edge is self.closed.contexts[index].end and not always:
            return False
        key = (index, id(execution.edge), execution.segment, always)
        if key not in self.private:
            self.private[key] = self._is_private(index, execution.segment.code, execution.edge, always)
        return self.private[key]

    def _is_private(self, index: int, code: Iterable[Instruction], edge: Edge, always: bool) -> bool:
        return all(self._one_private(index, instruction, edge, always) for instruction in code)

    def _one_private(self, index: int, instruction: Instruction, edge: Edge, always: bool) -> bool:
        others = set().union(*(t for i, t in enumerate(self.touched) if i != index))

        def mine(registers: Iterable[int]) -> bool:
            cells = (edge.cells[r] for r in registers if r < len(edge.cells))
            return all(c is None or not is_common(c) or c not in others or self._constant(c) for c in cells)

        match instruction:
            case ir.Choose(condition, then, otherwise):
                inner = all(self._is_private(index, way, edge, always) for way in (then, otherwise))
                return mine(registers_of(condition)) and inner
            case ir.Await() | ir.Signal():
                return False
            case ir.Change(_, level):
                return mine(registers_of(level))
            case ir.Drop(register):
                cell = edge.cells[register]
                assert cell is not None
                return cell not in others or (always and cell not in self.noticed)
            case ir.Take(register) | ir.Convert(register):
                return edge.cells[register] not in others
            case ir.Guess(condition):
                return mine(registers_of(condition))
            case ir.Demand(condition, slot):
                asked = edge.obligations[slot] in self.closed.listed
                return not asked or mine(registers_of(condition))
            case ir.Set(register, value):
                return mine({register, *registers_of(value)})
            case ir.Pick(register) | ir.CounterStep(register) | ir.Access(register):
                return mine({register})
            case ir.DemandFree() | ir.Interfere() | ir.Enable() | ir.Reenter():
                return True

    def _constant(self, cell: ir.Cell) -> bool:
        """Whether the search keeps no value of a common cell that contexts could tell each other by."""
        return cell not in self.search.layout.contended


def _touched(graph: ir.Graph) -> set[ir.Cell]:
    return {
        cell
        for inner in every_graph([graph])
        for edge in inner.edges
        for cell in (*edge.cells, *(c for pair in (*edge.copies_in, *edge.copies_out) for c in pair))
        if cell is not None and (is_common(cell) or cell.sort is Sort.HOLD)
    }
