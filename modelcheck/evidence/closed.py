"""What the proofs of a scenario rest on: its states are all there are, and in none of them anything breaks.

These things are checked, none by what found the states. *What an operation does*: each different execution (an
operation or a part of it, and the values it starts from) is asked of `encode`: there is no outcome beside those in the
table, and nothing breaks that the table does not say. *Who goes when*: the rules of docs/language.md section 7, written
down here a second time, lead from every first state only to states of the set; and where a context went on at once
because nobody could see it, that is so.

NOTE(up-to-exchange): the set need not be closed itself. The search says of a state outside it by which exchange of
contexts it becomes one inside. An exchange puts contexts into the places of others such that (1) their graphs are the
same, with the same operations on the same common cells, the same kind and the same levels, which `_same_code` compares
here; (2) contexts of one processor come to one processor. The rules of section 7 speak of contexts by nothing else. So
steps and exchanges commute: if u can be reached and x(u) is in the set, and u steps to v, then x(u) steps to x(v), and
y(x(v)) is in the set for some y; y after x is an exchange. By induction every state that can be reached is in the set
behind an exchange, and what breaks there breaks here, for the context that was put in that place. So what breaks in a
state of the set has to be known as broken for all contexts with the same code. Nothing that the search concluded from
contexts being alike is taken over: an exchange that is none is found out, and so is one that is missing.

NOTE(deadlocks): who can ever take a step again is worked out here once more, against the steps that were checked. Where
contexts wait and can never go on, something has to be known as broken by it.

NOTE(under-guard): a step that touches a variable under a lock counts as unseen if *every* execution in the set that
touches it does so with that lock held, exclusively where it writes. If some run touched it otherwise, take the first
such step of all runs: up to it all steps were as assumed, so the set has a state from where that step is taken, and it
is among the executions that were looked at.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence, Set

from modelcheck import ir
from modelcheck.engines.closed.layout import taken_shared, tried
from modelcheck.engines.closed.local import (
    ENDED,
    GONE,
    UNSTARTED,
    WAITING,
    Engine,
    Execution,
    Need,
    Values,
    View,
)
from modelcheck.engines.closed.search import Search, State
from modelcheck.engines.closed.segments import Segment
from modelcheck.engines.closed.symmetry import Exchange
from modelcheck.engines.scenario import Broken, Solved
from modelcheck.evidence.conditions import Pool, Ranges, StepQuery
from modelcheck.ir import FREE, Edge, Instruction, Operation, Sort, unhold
from modelcheck.lower import every_graph
from modelcheck.lower.builder import registers_of
from modelcheck.lower.closed import Closed, Context, is_common
from modelcheck.record import dataclass, field, replace
from modelcheck.syntax import BinaryOp, ContextKind
from modelcheck.verdict import DISPATCH_LEVEL, Property


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
        targets = tuple(tuple((value,) for value in outcome.values) for outcome in outcomes if not outcome.ends)
        slots = tuple(slot for slot in range(len(edge.obligations)) if not broken >> slot & 1)
        outside = (elsewhere.any_held, elsewhere.spin_level >= 0, elsewhere.spin_level)
        ranges = _ranges(edge, operation, values, targets)
        pool.add(StepQuery(operation, ranges, tuple((v,) for v in values), targets, slots, outside), number)


def _ranges(
    edge: Edge, operation: Operation, values: tuple[int, ...], targets: tuple[tuple[tuple[int, ...], ...], ...]
) -> Ranges:
    """A range for each register that holds all it comes to hold."""
    found: list[tuple[int, int, Sequence[int] | None]] = []
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
    broken = {number for number, decision in solved.decisions.items() if isinstance(decision, Broken)}
    return _Rules(solved.closed, solved.search, broken).gap()


@dataclass(slots=True)
class _Steps:
    """What a step of a context and what follows it unseen lead to: local states and numbers of common values; and what
    it breaks, as the first context with that code numbers it. `trouble`: "", or why it cannot be told."""

    targets: list[tuple[int, int]] = field(default_factory=list)
    broken: set[int] = field(default_factory=set)
    trouble: str = ""


class _Rules:
    """Section 7 for the states of a search."""

    def __init__(self, closed: Closed, search: Search, broken: set[int]) -> None:
        self.closed = closed
        self.search = search
        self.broken = broken
        self.count = len(closed.contexts)
        self.touched = [_touched(context.graph) for context in closed.contexts]
        self.private: dict[tuple[int, int, Segment, bool, Values], bool] = {}
        self.steps: dict[tuple[int, int, int, View], _Steps] = {}
        self.valid: dict[Exchange, bool] = {}
        self.running: dict[tuple[object, ...], tuple[int, ...]] = {}
        self.able: dict[State, int] = {}
        """For each state which contexts can take a step, a bit each; in the end, which ever can."""
        self.waiting: dict[State, list[int]] = {}
        """For each state the contexts that their processors let run, and that wait for something."""
        self.assuming: set[State] = set()
        """States in which an assumption fails whatever a context does."""
        self.before: dict[State, list[tuple[State, Exchange]]] = {}
        """For each state from where it is come to, and the exchange on the way."""
        contexts = list(enumerate(closed.contexts))
        processors = {context.processor for context in closed.contexts}
        self.beside = {p: [i for i, c in contexts if c.processor == p] for p in processors}
        """The contexts of each processor."""
        self.threads = {p: [i for i in m if self._is_thread(i)] for p, m in self.beside.items()}
        self.same = tuple(range(self.count))
        self.first = [search.engines.index(engine) for engine in search.engines]
        """For each context the one whose engine tells its steps; `gap` asks whether they have the same code."""
        self.code: list[_Code | None] = [
            _same_code(closed, closed.contexts[first], context)
            for first, context in zip(self.first, closed.contexts, strict=True)
        ]
        self.high: set[int] = set()
        """The contexts that come to DISPATCH_LEVEL or above in some state or on the way to one."""
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
        """All with the code of one that does."""
        search = self.search
        found = set()
        for index in range(self.count):
            known = {state[2 + index]: state for state in search.found.order}
            if any(self._rules(state, index) for state in known.values()):
                found.add(self.first[index])
        for index in set(self.first):
            levels = (e.level for one in search.known[index].settled.values() for e in one.parts)
            if any(level >= DISPATCH_LEVEL for level in levels):
                found.add(index)
        return {i for i in range(self.count) if self.first[i] in found}

    def gap(self) -> str:
        search = self.search
        own = all(search.engines[first].context is self.closed.contexts[first] for first in self.first)
        if None in self.code or not own:
            return "contexts were taken for alike that are not"
        if not self._guarded_at_calls():
            return _UNGUARDED
        missing = self._begins()
        if missing:
            return missing
        for state in search.found.order:
            if state not in search.found.successors:
                return "a state was not expanded"
            self.able[state] = 0
            for index in self.may_run(state):
                missing = self._missing(state, index)
                if missing:
                    return missing
        # behind that, since what was looked at so far may have been followed on unseen only now
        self.high = self._high()
        for index, engine in enumerate(search.engines):
            reason = self._unseen(index, engine)
            if reason:
                return reason
        return self._deadlock()

    # ---- states up to an exchange ----

    def _known(self, state: State) -> tuple[State, Exchange] | None:
        """The state of the set that this one is, and behind which exchange."""
        found = self.search.found
        if state in found.arrivals:
            return state, self.same
        exchange = found.exchanges.get(state)
        if exchange is None or not self._is_exchange(exchange):
            return None
        behind = self._behind(state, exchange)
        return (behind, exchange) if behind in found.arrivals else None

    def _is_exchange(self, exchange: Exchange) -> bool:
        """Whether contexts take the places of such with the same code, those of one processor on one."""
        known = self.valid.get(exchange)
        if known is None:
            contexts = self.closed.contexts
            processors = {(contexts[i].processor, contexts[to].processor) for i, to in enumerate(exchange)}
            known = self.valid[exchange] = (
                sorted(exchange) == list(self.same)
                and all(self.first[i] == self.first[to] for i, to in enumerate(exchange))
                and len(processors) == len({one for one, _ in processors}) == len({two for _, two in processors})
            )
        return known

    def _behind(self, state: State, exchange: Exchange) -> State | None:
        """The state with the contexts exchanged; None where no state has processors like that."""
        new, stacks = list(state), list(self.search.stacks[state[1]])
        for index, to in enumerate(exchange):
            new[2 + to] = state[2 + index]
            here, there = self.closed.contexts[index].processor, self.closed.contexts[to].processor
            stacks[there] = tuple(exchange[i] for i in self.search.stacks[state[1]][here])
        number = self.search.stack_number.get(tuple(stacks))
        if number is None:
            return None
        new[1] = number
        return tuple(new)

    def _begins(self) -> str:
        """Why a state that contexts can start in is not known; "" if all are. Only what nobody sees has started."""
        search, layout = self.search, self.search.layout
        starts = dict(self.closed.starts)
        kept = {*layout.own, *layout.common}
        for values in itertools.product(*(v if cell in kept else v[:1] for cell, v in starts.items())):
            given = dict(zip(starts, values, strict=True))
            common = search.common_number.get(tuple(given[cell] for cell in layout.common))
            if common is None:
                return "common values that no state has"
            ways: list[list[int]] = []
            for index, engine in enumerate(search.engines):
                first = engine.initial(given)
                settled = search.known[self.first[index]].settled.get((first, common if search.guards else -1))
                ways.append([first] if settled is None else [local for local, _, _ in settled.stops])
                faults = () if settled is None else settled.faults
                if not all(self._all_broken(index, set(path[-1].broken)) for path in faults):
                    return "something breaks at the start that is not among what breaks"
            for locals_ in itertools.product(*ways):
                state = self._first_state(common, locals_)
                if state is None or self._known(state) is None:
                    return "a first state is not among them"
        return ""

    def _first_state(self, common: int, locals_: tuple[int, ...]) -> State | None:
        stacks = [list[int]() for _ in range(self.closed.processors)]
        for index, local in enumerate(locals_):
            started = self.search.engines[index].mode[local] not in (UNSTARTED, ENDED, GONE)
            if started and not self._is_thread(index):
                stacks[self.closed.contexts[index].processor].append(index)
        number = self.search.stack_number.get(tuple(map(tuple, stacks)))
        return None if number is None else (common, number, *locals_)

    # ---- who may run ----

    def _is_thread(self, index: int) -> bool:
        return self.closed.contexts[index].kind is ContextKind.THREAD

    def mode(self, state: State, index: int) -> int:
        return self.search.engines[index].mode[state[2 + index]]

    def level(self, state: State, index: int) -> int:
        return self.search.engines[index].level[state[2 + index]]

    def active(self, state: State, index: int) -> bool:
        return self.mode(state, index) not in (UNSTARTED, ENDED, GONE)

    def may_run(self, state: State) -> Iterator[int]:
        """The contexts that their processors let run, or start; a processor knows of its own alone."""
        stacks = self.search.stacks[state[1]]
        for processor, contexts in self.beside.items():
            key = (processor, stacks[processor], *(state[2 + i] for i in contexts))
            found = self.running.get(key)
            if found is None:
                found = self.running[key] = tuple(self._may_run(state, processor, stacks[processor]))
            yield from found

    def _may_run(self, state: State, processor: int, stack: tuple[int, ...]) -> Iterator[int]:
        threads = self.threads[processor]
        ruling = [i for i in threads if self._rules(state, i)]
        if stack:
            level = self.level(state, stack[-1])
        elif ruling:
            level = self.level(state, ruling[0])
        else:
            level = min((self.level(state, i) for i in threads if self.active(state, i)), default=-1)
        for index in self.beside[processor]:
            mode = self.mode(state, index)
            if mode in (ENDED, GONE):
                continue
            if index in threads:
                runs = not stack and (not ruling or index in ruling)
            elif mode != UNSTARTED:
                runs = stack[-1] == index
            else:
                runs = level < self.closed.contexts[index].admitted
            if runs:
                yield index

    def _rules(self, state: State, index: int) -> bool:
        return self._is_thread(index) and self.active(state, index) and self.level(state, index) >= DISPATCH_LEVEL

    # ---- what a step leads to ----

    def _missing(self, state: State, index: int) -> str:
        """Why a step of a context leads out of the states; "" if none does."""
        search, engine, local = self.search, self.search.engines[index], state[2 + index]
        need = engine.needs[local]
        if need is not None and not self._possible(state, index, need):
            self.waiting.setdefault(state, []).append(index)
            waits = not need.shared and not need.is_event and search.layout.own[need.cell] in self.queued
            if waits and self.mode(state, index) != WAITING:
                return self._absent(state, index, engine.comes_to_wait(local), state[0])
            return ""
        self.able[state] |= 1 << index
        view = search.view(state, index)
        key = (self.first[index], local, state[0], view)
        steps = self.steps.get(key)
        if steps is None:
            steps = self.steps[key] = self._steps(engine, self.first[index], local, state[0], view)
        if steps.trouble:
            return steps.trouble
        if not steps.targets and not engine.is_endless(local):
            self.assuming.add(state)
        if steps.broken and search.is_real(state) and not self._all_broken(index, steps.broken):
            return "something breaks that is not among what breaks"
        for after, common in steps.targets:
            missing = self._absent(state, index, after, common)
            if missing:
                return missing
        return ""

    def _steps(self, engine: Engine, first: int, local: int, common: int, view: View) -> _Steps:
        search, found = self.search, _Steps()
        expansion = engine.expand(local, search.commons[common], view)
        if expansion.unknown:
            return _Steps(trouble=expansion.unknown)
        found.broken.update(*(micro.broken for micro in expansion.cut))
        executions = itertools.chain(expansion.guarded, *(micro.executions for micro, _ in expansion.ways))
        if search.guards and not all(map(self._covered, executions)):
            return _Steps(trouble=_UNGUARDED)
        for micro, values in expansion.ways:
            found.broken |= micro.broken
            number = search.common_number.get(values)
            if number is None:
                return _Steps(trouble="common values that no state has")
            if not search.reduce:
                found.targets.append((micro.after, number))
                continue
            settled = search.settle(first, micro.after, number)
            for path in settled.faults:
                found.broken |= path[-1].broken
            found.targets += [(after, number if changed < 0 else changed) for after, changed, _ in settled.stops]
        return found

    def _all_broken(self, index: int, numbers: set[int]) -> bool:
        """Whether all that breaks is known to, for every context with the same code."""
        return self._all_in(numbers, index, self.search.found.broken.keys())

    def _all_in(self, numbers: set[int], index: int, broken: Set[int]) -> bool:
        codes = [c for i, c in enumerate(self.code) if self.first[i] == self.first[index] and c is not None]
        return all(number in broken for code in codes for n in numbers for number in code.numbers.get(n, (n,)))

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
        known = self._known(tuple(new))
        if known is None:
            return "a step leads to a state that is not among them"
        self.before.setdefault(known[0], []).append((state, known[1]))
        return ""

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

    # ---- who can never go on ----

    def _deadlock(self) -> str:
        """Why contexts may wait for each other where nothing is said to be broken by it; "" if they do not.

        Whose waiting a deadlock breaks is for the engine to say. Asked is that from each state in which a context waits
        and can never go on one is come to in which waiting like that is known to break something: so where nothing else
        goes on, it does there. What follows on an assumption that fails is no run, and shows nothing.
        """
        self._look_ahead()
        real, stuck = self.search.is_real, dict[State, list[int]]()
        for state, waiting in self.waiting.items():
            never = [i for i in waiting if not self.able[state] >> i & 1]
            if never and real(state):
                stuck[state] = never
        if not stuck:
            return ""
        shown = {state for state, never in stuck.items() if any(self._breaks(state, i) for i in never)}
        shown |= self.assuming
        pending = list(shown)
        while pending:
            for before, _ in self.before.get(pending.pop(), ()):
                if before not in shown:
                    shown.add(before)
                    pending.append(before)
        return "" if shown >= stuck.keys() else "contexts can never go on, and nothing is said to be broken by it"

    def _look_ahead(self) -> None:
        """Lets each state know which contexts can ever take a step: against the steps, until nothing is new."""
        able, pending = self.able, list(self.search.found.order)
        while pending:
            state = pending.pop()
            for before, exchange in self.before.get(state, ()):
                bits = able[state]
                if exchange != self.same:
                    bits = sum((bits >> to & 1) << index for index, to in enumerate(exchange))
                if bits & ~able[before]:
                    able[before] |= bits
                    pending.append(before)

    def _breaks(self, state: State, index: int) -> bool:
        """Whether it is known as broken that a context waits where it does, for all with the same code."""
        need = self.search.engines[index].needs[state[2 + index]]
        if need is None:
            return False
        slots = need.waits if need.slot is None else (need.slot, *need.waits)
        numbers = {n for n in (need.edge.obligations[slot] for slot in slots) if self._is_about_waiting(n)}
        return any(self._all_in({number}, index, self.broken) for number in numbers)

    def _is_about_waiting(self, number: int) -> bool:
        return self.closed.obligations[number].code in (Property.D01, Property.D02, Property.D03)

    # ---- what nobody sees ----

    def _unseen(self, index: int, engine: Engine) -> str:
        """Why a step that was taken at once can be seen by others; "" if none can."""
        for (local, _), settled in self.search.known[self.first[index]].settled.items():
            if engine.mode[local] == UNSTARTED and settled.edges and not self._starts_unseen(index):
                return "the start of a context was taken for unseen"
            if not all(map(self._covered, settled.guarded | settled.parts)):
                return _UNGUARDED
            for execution in settled.parts:
                if not self._private_execution(index, execution):
                    return "a step was taken for unseen that others can see"
        return ""

    def _covered(self, execution: Execution) -> bool:
        """Whether what locks are said to guard is touched under them, exclusively where it may be written."""
        edge, guards = execution.edge, self.search.guards
        for register, cell in enumerate(edge.cells if guards else ()):
            if cell in guards:
                lock = self.search.layout.own.index(guards[cell])
                held = execution.held[self.search.layout.holds.index(lock)] if execution.held else FREE
                writes = execution.segment.operation.writes
                moved = any(edge.cells[r] is guards[cell] for r in writes if r < len(edge.cells))
                if held == FREE or moved or (register in writes and unhold(held)[0]):
                    return False
        return True

    def _guarded_at_calls(self) -> bool:
        """Whether no call hands over what locks are said to guard: there nothing is looked at."""
        guards = self.search.guards
        return not any(
            cell in guards
            for graph in every_graph([context.graph for context in self.closed.contexts])
            for edge in graph.edges
            for pair in (*edge.copies_in, *edge.copies_out)
            for cell in pair
        )

    def _beside(self, index: int) -> list[int]:
        """The other contexts of its processor."""
        return [i for i in self.beside[self.closed.contexts[index].processor] if i != index]

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
        code = self.code[index]
        assert code is not None
        edge = code.edges[id(execution.edge)]
        if edge is self.closed.contexts[index].end and not always:
            return False
        key = (index, id(edge), execution.segment, always, execution.held)
        if key not in self.private:
            self.private[key] = self._is_private(index, execution.segment.code, edge, always)
        return self.private[key]

    def _is_private(self, index: int, code: Iterable[Instruction], edge: Edge, always: bool) -> bool:
        return all(self._one_private(index, instruction, edge, always) for instruction in code)

    def _one_private(self, index: int, instruction: Instruction, edge: Edge, always: bool) -> bool:
        others = set().union(*(t for i, t in enumerate(self.touched) if i != index))

        def mine(registers: Iterable[int]) -> bool:
            cells = (edge.cells[r] for r in registers if r < len(edge.cells))
            return all(
                c is None or not is_common(c) or c not in others or self._constant(c) or c in self.search.guards
                for c in cells
            )

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


@dataclass(slots=True)
class _Code:
    """How a context's code corresponds to that of another one: the own edge for each of its edges, by identity, and the
    own numbers for each of its obligations."""

    edges: dict[int, Edge] = field(default_factory=dict)
    numbers: dict[int, set[int]] = field(default_factory=dict)


def _same_code(closed: Closed, one: Context, other: Context) -> _Code | None:
    """The correspondence, if there is one: None where the contexts differ in more than places of the source."""
    if (one.kind, one.level, one.admitted, one.leaves) != (other.kind, other.level, other.admitted, other.leaves):
        return None
    found = _Code()
    graphs, cells = {one.graph: other.graph}, dict[ir.Cell, ir.Cell]()
    pending = [one.graph]
    for ours in pending:
        theirs = graphs[ours]
        if ours is not theirs and [(c.sort, c.low, c.high, c.start) for c in ours.locals] != [
            (c.sort, c.low, c.high, c.start) for c in theirs.locals
        ]:
            return None
        cells.update(zip(ours.locals, theirs.locals, strict=True))
        if (ours.entry, ours.exit, len(ours.edges)) != (theirs.entry, theirs.exit, len(theirs.edges)):
            return None
        for mine, its in zip(ours.edges, theirs.edges, strict=True):
            found.edges[id(mine)] = its
            if mine.callee is not None and its.callee is not None:
                if mine.callee not in graphs:
                    pending.append(mine.callee)
                if graphs.setdefault(mine.callee, its.callee) is not its.callee:
                    return None
    for ours in graphs:
        for mine, its in zip(ours.edges, graphs[ours].edges, strict=True):
            if _written(mine, cells) != _written(its, {}) or len(mine.obligations) != len(its.obligations):
                return None
            for number, own in zip(mine.obligations, its.obligations, strict=True):
                found.numbers.setdefault(number, set()).add(own)
    if [(cells.get(c.cell, c.cell), c.allowed) for c in one.checks] != [(c.cell, c.allowed) for c in other.checks]:
        return None
    for check, own_check in zip(one.checks, other.checks, strict=True):
        found.numbers.setdefault(check.obligation, set()).add(own_check.obligation)
    codes = [closed.obligations[number].code for number in found.numbers]
    own_codes = [{closed.obligations[n].code for n in numbers} for numbers in found.numbers.values()]
    same = own_codes == [{code} for code in codes]
    return found if same and found.edges[id(one.end)] is other.end else None


def _written(edge: Edge, cells: dict[ir.Cell, ir.Cell]) -> tuple[object, ...]:
    """All of an edge that a context's steps depend on, in the other context's cells."""

    def copies(pairs: Iterable[tuple[ir.Cell, ir.Cell]]) -> list[tuple[ir.Cell, ir.Cell]]:
        return [(cells.get(one, one), cells.get(two, two)) for one, two in pairs]

    return (
        *(edge.source, edge.target, edge.step, edge.joined, edge.operation, edge.callee is None),
        [None if cell is None else cells.get(cell, cell) for cell in edge.cells],
        *(copies(edge.copies_in), copies(edge.copies_out)),
    )


_UNGUARDED = "a variable is touched without the lock that was thought to guard it"
