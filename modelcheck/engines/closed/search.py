"""Breadth-first search over the states of a scenario, straight from docs/language.md section 7.

A state is a tuple: common values, stacks of the processors, then the local state of each context, all as small numbers.
NOTE(settled): what a context does that nobody else can see it does at once after its last step that can be seen. Such a
step neither depends on others nor changes what they can do, so it commutes with all they do: every run has a run of
this search that ends in a state from where the same can still happen, and in which the same contexts stand before the
same accesses. Where it would go on like that for ever, it stays in one state, in which it can always take a step.
Touching a variable is such a step while the context holds the lock that guards it, if all contexts do so whenever they
touch it (`Unguarded`): the first step of a run that did not would be found, since up to it the argument holds.
NOTE(exchanged): of states that an exchange of alike contexts leads to each other (`symmetry`) one is kept, with the
exchange behind each step. Every run is a run of kept states with the contexts exchanged, of the same length.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable
from typing import TypeAlias, TypeVar

from modelcheck.engines.closed.layout import Layout
from modelcheck.engines.closed.local import (
    ENDED,
    GONE,
    RUNNING,
    UNSTARTED,
    WAITING,
    Agitated,
    Engine,
    Execution,
    Expansion,
    Incomplete,
    Memo,
    Micro,
    Need,
    Unguarded,
    Values,
    View,
    edges_of,
    shared_mode,
)
from modelcheck.engines.closed.segments import Segment
from modelcheck.engines.closed.symmetry import Exchange, Stacks, Symmetry, exchanged
from modelcheck.ir import Cell, Operation
from modelcheck.lower.closed import Closed
from modelcheck.record import dataclass, field
from modelcheck.syntax import ContextKind
from modelcheck.verdict import DISPATCH_LEVEL

State: TypeAlias = tuple[int, ...]
Path: TypeAlias = tuple[Micro, ...]
COMMON, STACKS, FIRST = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Arrival:
    """How a state was reached first: from where, by whom, over which steps, and how contexts were exchanged then."""

    before: State | None
    actor: int
    path: Path
    exchange: Exchange


@dataclass(frozen=True, slots=True)
class Fault:
    """What an obligation fails in: the steps of a context from a state (None: before the first one) when the contexts
    are exchanged there. The steps are those of the first context that is like it."""

    state: State | None
    actor: int
    path: Path
    exchange: Exchange


@dataclass(slots=True)
class Explored:
    """The states that were reached, in order of discovery, each in its normal form. `broken`: for each obligation that
    fails in a step where that is. `races`: for each data the state, and the two contexts before their accesses.
    `complete` "" when every state was expanded, else why not."""

    order: list[State] = field(default_factory=list)
    arrivals: dict[State, Arrival] = field(default_factory=dict)
    successors: dict[State, tuple[tuple[tuple[State, Exchange], ...], int]] = field(default_factory=dict)
    """The next states, each with how contexts were exchanged there, and which contexts can take a step (a bit each)."""
    exchanges: dict[State, Exchange] = field(default_factory=dict)
    """For states that were come to and are not in their normal form how contexts are exchanged."""
    broken: dict[int, Fault] = field(default_factory=dict)
    races: dict[int, tuple[State, int, int]] = field(default_factory=dict)
    met: set[int] = field(default_factory=set)
    """Identities of edges that some run comes to."""
    started: dict[State, tuple[tuple[int, Path], ...]] = field(default_factory=dict)
    """For each first state what contexts did already, unseen."""
    values: dict[State, dict[str, int]] = field(default_factory=dict)
    """For each first state the open values of variables."""
    opening: dict[int, dict[str, int]] = field(default_factory=dict)
    """Those values for obligations that fail before the first state."""
    complete: str = ""


def explore(closed: Closed, budget: int, reduce: bool = True) -> Search:
    """The states of a scenario.

    That no thread of a processor comes to DISPATCH_LEVEL is taken for granted until one does, and that a variable is
    touched only under its lock until it is not.
    """
    agitated: frozenset[int] = frozenset()
    unguarded: frozenset[Cell] = frozenset()
    while True:
        search = Search(closed, budget, reduce, agitated, unguarded)
        try:
            search.run()
        except Agitated as found:
            agitated |= search.symmetry.processors_like(found.processor)
        except Unguarded as found:
            unguarded |= {found.cell}
        else:
            return search


class Search:
    def __init__(
        self,
        closed: Closed,
        budget: int,
        reduce: bool = True,
        agitated: frozenset[int] = frozenset(),
        unguarded: frozenset[Cell] = frozenset(),
    ) -> None:
        self.closed = closed
        self.budget = budget
        self.reduce = reduce
        self.layout = Layout(closed)
        self.symmetry = Symmetry(closed, reduce)
        self.guards = {c: guard for c, guard in self.layout.guards.items() if reduce and c not in unguarded}
        """The locks that variables are taken to be guarded by."""
        segments: dict[Operation, Segment] = {}
        self.memo: Memo = {}
        self.engines: list[Engine] = []
        """One for all contexts that are like each other; its edges are those of the first of them."""
        for index, context in enumerate(closed.contexts):
            first = self.symmetry.first[index]
            self.engines.append(
                Engine(self.layout, context, segments, self.memo, reduce, agitated, self.guards)
                if first == index
                else self.engines[first]
            )
        self.count = len(self.engines)
        self.commons: list[Values] = []
        self.common_number: dict[Values, int] = {}
        self.stacks: list[Stacks] = []
        self.stack_number: dict[Stacks, int] = {}
        self.is_thread = [c.kind is ContextKind.THREAD for c in closed.contexts]
        self.processor = [c.processor for c in closed.contexts]
        self.members = [
            [i for i, p in enumerate(self.processor) if p == processor] for processor in range(closed.processors)
        ]
        self.hold_at = {cell: i for i, cell in enumerate(self.layout.holds)}
        own: list[_Known] = [_Known() for _ in self.engines]
        self.known = [own[first] for first in self.symmetry.first]
        self.found = Explored()
        self.queue: list[State] = []

    # ---- the search ----

    def run(self) -> Explored:
        found = self.found
        try:
            self._begin()
            position = 0
            while position < len(found.order):
                if position >= self.budget:
                    found.complete = f"there are more than {self.budget} states"
                    break
                self._expand(found.order[position])
                position += 1
        except Incomplete as trouble:
            found.complete = str(trouble)
        for index, first in enumerate(self.symmetry.first):
            if index != first:
                images = self.symmetry.images[index].edges
                found.met.update(id(place.edge) for edge, place in images.items() if edge in found.met)
        return found

    def _begin(self) -> None:
        varied = self.layout.varied
        for combination in itertools.product(*(values for _, values in varied)):
            values = {cell: value for (cell, _), value in zip(varied, combination, strict=True)}
            starts = dict(self.closed.starts)
            own = {cell: values.get(cell, starts[cell][0]) for cell in starts}
            common = tuple(own[cell] for cell in self.layout.common)
            alternatives: list[list[tuple[int, Path]]] = []
            for index, engine in enumerate(self.engines):
                first = engine.initial(own)
                if not (engine.starts_unseen and self.reduce):
                    alternatives.append([(first, ())])
                    continue
                settled = self.settle(index, first, self._common(common))
                alternatives.append([(local, path) for local, _, path in settled.stops])
                known = set(self.found.broken)
                self._note(None, index, settled.faults, settled.edges)
                for number in self.found.broken.keys() - known:
                    self.found.opening[number] = {cell.name: value for cell, value in values.items()}
            for ways in itertools.product(*alternatives):
                self._first(common, ways, {cell.name: value for cell, value in values.items()})

    def _first(self, common: Values, ways: tuple[tuple[int, Path], ...], values: dict[str, int]) -> None:
        """A state at the start."""
        stacks = tuple(
            tuple(i for i in members if not self.is_thread[i] and self._started(i, ways[i][0]))
            for members in self.members
        )
        found = self.found
        first = (self._common(common), self._stacks(stacks), *(local for local, _ in ways))
        state, exchange = self.normal(first)
        if state not in found.arrivals:
            found.arrivals[state] = Arrival(None, -1, (), exchange)
            found.started[state] = tuple((exchange[i], path) for i, (_, path) in enumerate(ways) if path)
            found.values[state] = values
            found.order.append(state)

    def _started(self, index: int, local: int) -> bool:
        return self.engines[index].mode[local] in (RUNNING, WAITING)

    def _common(self, values: Values) -> int:
        number = self.common_number.get(values)
        if number is None:
            number = self.common_number[values] = len(self.commons)
            self.commons.append(values)
        return number

    def _stacks(self, stacks: Stacks) -> int:
        number = self.stack_number.get(stacks)
        if number is None:
            number = self.stack_number[stacks] = len(self.stacks)
            self.stacks.append(stacks)
        return number

    def _note(self, state: State | None, index: int, faults: list[Path], edges: set[int]) -> None:
        """Remembers what fails first, and where runs come. What fails for a context does for those that are like it."""
        found, symmetry = self.found, self.symmetry
        found.met |= edges
        for path in faults:
            for number in path[-1].broken:
                for other in (index, *symmetry.alike[index]):
                    own = symmetry.number(other, number)
                    if own not in found.broken:
                        exchange = symmetry.same if other == index else symmetry.carry(index, other)
                        found.broken[own] = Fault(state, index, path, exchange)

    def _expand(self, state: State) -> None:
        found, able, real = self.found, 0, self.is_real(state)
        targets: dict[tuple[State, Exchange], None] = {}
        for index in self.runnable(state):
            try:
                macro = self.following(state, index)
            except Incomplete as trouble:
                found.complete, able = str(trouble), -1
                continue
            if macro is None:
                continue
            if not macro.only_waits:
                able |= 1 << index
            if not macro.noted and real:
                self._note(state, index, macro.faults, macro.edges)
                macro.noted = True
            for (local, common), path in zip(macro.targets, macro.paths, strict=True):
                target, exchange = self.normal(self.moved(state, index, local, common))
                targets[target, exchange] = None
                if target not in found.arrivals:
                    found.arrivals[target] = Arrival(state, index, path, exchange)
                    found.order.append(target)
        found.successors[state] = (tuple(targets), able)
        if real:
            self._races(state)

    # ---- exchanges of contexts ----

    def normal(self, state: State) -> tuple[State, Exchange]:
        """The state that is kept for this one, and the exchange that leads there."""
        symmetry = self.symmetry
        if symmetry.is_trivial or state in self.found.arrivals:
            return state, symmetry.same
        exchange = self.found.exchanges.get(state)
        if exchange is None:
            exchange = symmetry.normal(state[FIRST:], self.stacks[state[STACKS]])
            if exchange != symmetry.same:
                self.found.exchanges[state] = exchange
        return self.exchanged(state, exchange), exchange

    def exchanged(self, state: State, exchange: Exchange) -> State:
        """The state with the contexts exchanged."""
        if exchange == self.symmetry.same:
            return state
        stacks = self._stacks(self.symmetry.stacks(self.stacks[state[STACKS]], exchange))
        return (state[COMMON], stacks, *exchanged(state[FIRST:], exchange))

    def is_real(self, state: State) -> bool:
        """Whether no assumption has failed on the way."""
        return all(engine.mode[state[FIRST + i]] != GONE for i, engine in enumerate(self.engines))

    def moved(self, state: State, index: int, local: int, common: int) -> State:
        """The state after a context went to that local state."""
        engine = self.engines[index]
        stacks = state[STACKS]
        if not self.is_thread[index]:
            before, after = engine.mode[state[FIRST + index]], engine.mode[local]
            if before == UNSTARTED and after not in (ENDED, GONE):
                stacks = self._stacks(_pushed(self.stacks[stacks], self.processor[index], index))
            elif before != UNSTARTED and after in (ENDED, GONE):
                stacks = self._stacks(_popped(self.stacks[stacks], self.processor[index], index))
        new = list(state)
        new[COMMON], new[STACKS], new[FIRST + index] = common, stacks, local
        return tuple(new)

    # ---- who can run ----

    def runnable(self, state: State) -> list[int]:
        """The contexts that their processor lets run, or start."""
        stacks = self.stacks[state[STACKS]]
        able: list[int] = []
        for processor, members in enumerate(self.members):
            if not members:
                continue
            stack = stacks[processor]
            level = self._occupied(state, members, stack, able)
            for index in members:
                engine = self.engines[index]
                starts = not self.is_thread[index] and engine.mode[state[FIRST + index]] == UNSTARTED
                if starts and level < engine.context.admitted:
                    able.append(index)
        return able

    def _occupied(self, state: State, members: list[int], stack: tuple[int, ...], able: list[int]) -> int:
        """Adds the started contexts and the threads that run on a processor; the level of what runs there."""
        if stack:
            able.append(stack[-1])
            return self.engines[stack[-1]].level[state[FIRST + stack[-1]]]
        threads = [i for i in members if self.is_thread[i]]
        high = self.occupant(state, threads)
        if high >= 0:
            able.append(high)
            return self.engines[high].level[state[FIRST + high]]
        lowest = 0
        levels = []
        for index in threads:
            mode = self.engines[index].mode[state[FIRST + index]]
            if mode not in (ENDED, GONE):
                able.append(index)
            if mode in (RUNNING, WAITING):
                levels.append(self.engines[index].level[state[FIRST + index]])
        return min(levels, default=lowest)

    def occupant(self, state: State, threads: list[int]) -> int:
        """The started thread at DISPATCH_LEVEL or above, -1 if there is none."""
        for index in threads:
            engine, local = self.engines[index], state[FIRST + index]
            if engine.mode[local] in (RUNNING, WAITING) and engine.level[local] >= DISPATCH_LEVEL:
                return index
        return -1

    # ---- what a context does next ----

    def following(self, state: State, index: int) -> _Macro | None:
        """What the context can do from here; None if it has to wait."""
        engine, local = self.engines[index], state[FIRST + index]
        need = engine.needs[local]
        if need is not None:
            if need.is_event:
                if not self.commons[state[COMMON]][need.cell]:
                    name = self.layout.common[need.cell].name.partition(" ")[2]
                    if name in self.closed.handed:
                        raise Incomplete(f"the system may set `{name}`, which is handed to it")
                    return None
            elif need.forbidden or not self.available(state, index, need):
                if need.writers_first and not need.shared and engine.mode[local] != WAITING:
                    return self._comes_to_wait(state, index, local)
                return None
        view = self.view(state, index)
        key = (local, state[COMMON], view)
        macros = self.known[index].macros
        macro = macros.get(key)
        if macro is None:
            macro = macros[key] = self._macro(index, local, state[COMMON], view)
        return macro

    def available(self, state: State, index: int, need: Need) -> bool:
        """Whether what others hold, and writers that wait, admit the acquisition."""
        if need.own:
            return not need.forbidden
        at = self.hold_at[need.cell]
        for other, engine in enumerate(self.engines):
            if other == index:
                continue
            local = state[FIRST + other]
            mode = shared_mode(engine.held[local][at])
            if mode and not (need.shared and mode == 1):
                return False
            if need.shared and need.writers_first and engine.mode[local] == WAITING:
                theirs = engine.needs[local]
                if theirs is not None and theirs.cell == need.cell:
                    return False
        return True

    def view(self, state: State, index: int) -> View:
        engine = self.engines[index]
        if not engine.tried:
            return ()
        found = []
        for cell in engine.tried:
            at, most = self.hold_at[cell], 0
            first = self.layout.own[cell] in self.layout.queued
            for other, theirs in enumerate(self.engines):
                if other != index:
                    local = state[FIRST + other]
                    mode = shared_mode(theirs.held[local][at])
                    need = theirs.needs[local]
                    waits = first and theirs.mode[local] == WAITING and need is not None and need.cell == cell
                    most = max(most, mode, 3 if waits and not mode else 0) if mode < 2 else 2
                    if mode == 2:
                        break
            found.append(most)
        return tuple(found)

    def _comes_to_wait(self, state: State, index: int, local: int) -> _Macro:
        key = (local, -1, ())
        macros = self.known[index].macros
        macro = macros.get(key)
        if macro is None:
            engine = self.engines[index]
            need = engine.needs[local]
            assert need is not None
            after = engine.comes_to_wait(local)
            frames = engine.locals[local][1]
            routine = engine.graphs[frames[-1][0]].routine
            micro = Micro(after, need.edge, routine, max(len(frames) - 2, 0), (), frozenset(), False)
            macro = macros[key] = _Macro([(after, -1)], [(micro,)])
        targets = [(local, state[COMMON]) for local, _ in macro.targets]
        return _Macro(targets, macro.paths, noted=True, only_waits=True)

    def _macro(self, index: int, local: int, common: int, view: View) -> _Macro:
        """A step and all that follows it unseen."""
        expansion = self.engines[index].expand(local, self.commons[common], view)
        if expansion.unknown:
            raise Incomplete(expansion.unknown)
        macro = _Macro()
        if not expansion.ways:
            engine = self.engines[index]
            macro.targets.append((local if engine.is_endless(local) else engine.gone(local), common))
            macro.paths.append(())
        known: set[tuple[int, int]] = set()
        for micro, values in expansion.ways:
            number = self._common(values)
            macro.edges |= edges_of(micro)
            if micro.broken:
                macro.faults.append((micro,))
            if not self.reduce:
                macro.targets.append((micro.after, number))
                macro.paths.append((micro,))
                continue
            settled = self.settle(index, micro.after, number)
            macro.edges |= settled.edges
            macro.faults += [(micro, *path) for path in settled.faults]
            for after, changed, path in settled.stops:
                target = after, number if changed < 0 else changed
                if target not in known:
                    known.add(target)
                    macro.targets.append(target)
                    macro.paths.append((micro, *path))
        macro.faults += [(micro,) for micro in expansion.cut]
        return macro

    def settle(self, index: int, local: int, common: int) -> _Settled:
        """Where the context comes to by steps that nobody else can see, each with a shortest way. What is common
        matters for that only where locks guard some of it."""
        key = local, common if self.guards else -1
        settled = self.known[index].settled
        found = settled.get(key)
        if found is None:
            found = settled[key] = self._settle(self.engines[index], key)
        return found

    def _settle(self, engine: Engine, first: tuple[int, int]) -> _Settled:
        paths: dict[tuple[int, int], Path] = {first: ()}
        order, settled = [first], _Settled()
        successors: dict[tuple[int, int], list[tuple[int, int]]] = {}
        position = 0
        while position < len(order):
            here = order[position]
            position += 1
            if position > self.budget:
                raise Incomplete(f"there are more than {self.budget} states")
            unseen = self._unseen(engine, *here)
            if unseen is None:
                settled.stops.append((*here, paths[here]))
                continue
            successors[here] = []
            for micro, values in unseen.ways:
                path = (*paths[here], micro)
                after = micro.after, self._common(values) if self.guards else -1
                successors[here].append(after)
                settled.edges |= edges_of(micro)
                settled.parts.update(micro.executions)
                if micro.broken:
                    settled.faults.append(path)
                if after not in paths:
                    paths[after] = path
                    order.append(after)
            settled.faults += [(*paths[here], micro) for micro in unseen.cut]
            settled.guarded |= unseen.guarded
        if len(settled.stops) < len(order) and successors:
            stops = {(local, common) for local, common, _ in settled.stops}
            settled.stops += [(*here, paths[here]) for here in _trapped(order, successors, stops)]
        return settled

    def _unseen(self, engine: Engine, local: int, common: int) -> Expansion | None:
        """The next steps if nobody else can see them; None otherwise, and where there is none."""
        mode = engine.mode[local]
        if mode in (ENDED, GONE, WAITING) or (mode == UNSTARTED and not engine.starts_unseen):
            return None
        need = engine.needs[local]
        if need is not None and (need.is_event or need.forbidden):
            return None
        view = (0,) * len(engine.tried)
        values = self.commons[common] if common >= 0 else self._first_common()
        try:
            expansion = engine.expand(local, values, view)
        except Incomplete:
            return None  # it stays here, and a step from here says why
        if expansion.seen or expansion.unknown or not expansion.ways:
            return None
        return expansion

    def _first_common(self) -> Values:
        starts = dict(self.closed.starts)
        return tuple(starts[cell][0] for cell in self.layout.common)

    # ---- races ----

    def _races(self, state: State) -> None:
        standing = [i for i, e in enumerate(self.engines) if e.may_touch[state[FIRST + i]]]
        if len(standing) < 2:
            return
        touches = {i: self._touches(state, i) for i in standing}
        for one, two in itertools.combinations(standing, 2):
            for cell, write, atomic in touches[one]:
                if cell in self.found.races:
                    continue
                for other_cell, other_write, other_atomic in touches[two]:
                    if cell == other_cell and (write or other_write) and not (atomic and other_atomic):
                        self.found.races[cell] = (state, one, two)

    def _touches(self, state: State, index: int) -> frozenset[tuple[int, bool, bool]]:
        key = (state[FIRST + index], state[COMMON])
        touched = self.known[index].touched
        found = touched.get(key)
        if found is None:
            view = self.view(state, index)
            expansion = self.engines[index].expand(key[0], self.commons[key[1]], view)
            found = touched[key] = expansion.touches
        return found


@dataclass(slots=True)
class _Settled:
    """Where unseen steps lead (local state, number of the common values, -1 where these stay as they are; the way),
    ways on which something fails last, and the edges they go over."""

    stops: list[tuple[int, int, Path]] = field(default_factory=list)
    faults: list[Path] = field(default_factory=list)
    edges: set[int] = field(default_factory=set)
    parts: set[Execution] = field(default_factory=set)
    guarded: set[Execution] = field(default_factory=set)


@dataclass(slots=True)
class _Macro:
    """Where a step and what follows it unseen lead: local and common states, each with its way."""

    targets: list[tuple[int, int]] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    faults: list[Path] = field(default_factory=list)
    edges: set[int] = field(default_factory=set)
    noted: bool = False
    only_waits: bool = False


@dataclass(slots=True)
class _Known:
    """What contexts that are like each other do, as far as it was asked."""

    macros: dict[tuple[int, int, View], _Macro] = field(default_factory=dict)
    settled: dict[tuple[int, int], _Settled] = field(default_factory=dict)
    touched: dict[tuple[int, int], frozenset[tuple[int, bool, bool]]] = field(default_factory=dict)


def _pushed(stacks: Stacks, processor: int, index: int) -> Stacks:
    return tuple((*s, index) if p == processor else s for p, s in enumerate(stacks))


def _popped(stacks: Stacks, processor: int, index: int) -> Stacks:
    return tuple(tuple(i for i in s if i != index) if p == processor else s for p, s in enumerate(stacks))


Node = TypeVar("Node", bound=Hashable)


def _trapped(order: list[Node], successors: dict[Node, list[Node]], stops: set[Node]) -> list[Node]:
    """One state of each loop from where nothing else can be reached: what a context does there for ever is all one."""
    found = []
    for component in components(order, lambda node: successors.get(node, ())):
        inside = set(component)
        leaves = any(target not in inside for node in component for target in successors.get(node, ()))
        if not leaves and not inside & stops:
            found.append(min(component, key=order.index))
    return found


def components(nodes: Iterable[Node], following: Callable[[Node], Iterable[Node]]) -> list[list[Node]]:
    """The strongly connected components, each behind those that can be reached from it (Tarjan 1972)."""
    numbers: dict[Node, int] = {}
    low: dict[Node, int] = {}
    waiting: list[Node] = []
    on_stack: set[Node] = set()
    found: list[list[Node]] = []
    for root in nodes:
        if root in numbers:
            continue
        numbers[root] = low[root] = len(numbers)
        waiting.append(root)
        on_stack.add(root)
        work = [(root, iter(following(root)))]
        while work:
            node, rest = work[-1]
            for target in rest:
                if target not in numbers:
                    numbers[target] = low[target] = len(numbers)
                    waiting.append(target)
                    on_stack.add(target)
                    work.append((target, iter(following(target))))
                    break
                if target in on_stack:
                    low[node] = min(low[node], numbers[target])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == numbers[node]:
                    component = []
                    while True:
                        member = waiting.pop()
                        on_stack.discard(member)
                        component.append(member)
                        if member == node:
                            break
                    found.append(component)
    return found
