"""One edge on packed states: which bits it touches, what it makes of them, how a call is entered and returned from.

What an operation does is remembered twice: for each edge by the bits it touches, and, free of the layout, for each
operation by what its registers hold (`Way`), since many edges are the same operation on other cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import TypeAlias

from modelcheck.engines.execute import Content, Pending, TooWide, Wanted, run
from modelcheck.ir import Cell, Edge, Graph, Operation
from modelcheck.layout import Layout
from modelcheck.record import dataclass, field

MAX_KEYS = 3_000
"""Different keys at one location; beyond, the variables followed are too many."""
MAX_WANTED = 200
"""Variables of more values are not asked for."""


class GaveUp(Exception):
    """The fixpoint stopped without an answer. `wanted`: variables that may help when they are followed."""

    def __init__(self, reason: str, wanted: frozenset[Cell] = frozenset()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wanted = wanted


@dataclass(slots=True)
class Outcome:
    """One way an edge can go for certain touched bits: the touched bits afterwards, what failed, what remains to be
    looked at."""

    key: int
    sets: int
    failed: int
    wanted: tuple[tuple[int, int, int], ...]
    """(slot, set bits and key bits none of which may be set)"""
    stops: bool = False


@dataclass(frozen=True, slots=True)
class _Register:
    """Where the cell of a register is kept: in the key, in the sets, or not at all (`mask` 0). `low`, `high`: its
    range."""

    is_key: bool
    offset: int
    mask: int
    low: int
    high: int


@dataclass(slots=True)
class Way:
    """One way through an operation. `values`: for each register the number above its lowest value (in the key), bits
    for its values (in the sets), 0 otherwise."""

    values: tuple[int, ...]
    failed: int
    wanted: tuple[Wanted, ...]
    stops: bool


Ways: TypeAlias = dict[tuple[int, ...], tuple[Way, ...]]
Shape: TypeAlias = tuple[Operation, tuple[Sequence[int], ...], tuple[tuple[bool, bool, int, int], ...]]
"""All that decides the ways of an operation but what its registers hold."""


@dataclass(slots=True, eq=False)
class Plan:
    """An edge prepared for one layout. `live`: the key bits that matter at its target."""

    edge: Edge
    layout: Layout
    number: int
    live: int
    key_mask: int = 0
    set_mask: int = 0
    memo: dict[tuple[int, int], tuple[Outcome, ...]] = field(default_factory=dict)
    checks: tuple[tuple[int, int, frozenset[int]], ...] = ()
    """(obligation, bad set bits, keys' values that are bad for a cell that is followed)"""
    registers: tuple[_Register, ...] = ()
    ways: Ways = field(default_factory=dict)
    """Shared by all plans of one shape."""
    others: tuple[Sequence[int], ...] = ()
    """For each register what others may write to it."""


def prepare(
    edge: Edge, layout: Layout, all_layouts: dict[Graph, Layout], number: int, shapes: dict[Shape, Ways]
) -> Plan:
    """Which bits an edge touches."""
    plan = Plan(edge, layout, number, layout.live[edge.target])
    if edge.callee is None:
        assert edge.operation is not None
        plan.registers = tuple(_register(cell, layout) for cell in edge.cells)
        for register in plan.registers:
            if register.is_key:
                plan.key_mask |= register.mask << register.offset
            else:
                plan.set_mask |= register.mask << register.offset
        plan.others = tuple(() if cell is None else cell.others for cell in edge.cells)
        spread = tuple((r.is_key, r.mask != 0, r.low, r.high) for r in plan.registers)
        plan.ways = shapes.setdefault((edge.operation, plan.others, spread), {})
    else:
        inner = all_layouts[edge.callee]
        shared = [c for c in (*inner.keys, *inner.sets) if c.is_global]
        for cell in (*shared, *(c for c, _ in edge.copies_in), *(c for _, c in edge.copies_out)):
            if cell in layout.keys:
                plan.key_mask |= layout.key_mask(cell)
            elif cell in layout.sets:
                plan.set_mask |= layout.set_mask(cell)
    if edge.checks:
        plan.checks = tuple(_checks(edge, layout))
    return plan


def _register(cell: Cell | None, layout: Layout) -> _Register:
    if cell is not None:
        kept = layout.keys.get(cell)
        if kept is not None:
            return _Register(True, kept[0], (1 << kept[1]) - 1, cell.low, cell.high)
        kept = layout.sets.get(cell)
        if kept is not None:
            return _Register(False, kept[0], (1 << kept[1]) - 1, cell.low, cell.high)
    return _NOWHERE


_NOWHERE = _Register(False, 0, 0, 0, 0)


def _checks(edge: Edge, layout: Layout) -> Iterable[tuple[int, int, frozenset[int]]]:
    for check in edge.checks:
        wrong = frozenset(v for v in range(check.cell.low, check.cell.high + 1) if v not in check.allowed)
        in_sets = check.cell in layout.sets
        bits = layout.set_bits(check.cell, wrong) if in_sets else 0
        yield check.obligation, bits, frozenset() if in_sets else wrong


def outcomes_of(plan: Plan, key: int, sets: int) -> tuple[Outcome, ...]:
    """What the operation makes of the touched bits."""
    inputs = tuple([(key if r.is_key else sets) >> r.offset & r.mask for r in plan.registers])
    ways = plan.ways.get(inputs)
    if ways is None:
        ways = plan.ways[inputs] = _ways(plan, inputs)
    found = []
    for way in ways:
        key_bits = set_bits = 0
        for register, value in zip(plan.registers, way.values, strict=True):
            if register.is_key:
                key_bits |= value << register.offset
            else:
                set_bits |= value << register.offset
        wanted = tuple((slot, *_lock_masks(plan.layout, plan.edge, spin, level)) for slot, spin, level in way.wanted)
        found.append(Outcome(key_bits, set_bits, way.failed, wanted, way.stops))
    return tuple(found)


def _ways(plan: Plan, inputs: tuple[int, ...]) -> tuple[Way, ...]:
    """Every way through the operation; those that agree in the key are one."""
    operation = plan.edge.operation
    assert operation is not None
    registers = plan.registers
    contents: list[Content] = []
    for register, raw in zip(registers, inputs, strict=True):
        if not register.mask:
            contents.append(None)
        elif register.is_key:
            contents.append(register.low + raw)
        else:
            values = tuple(register.low + i for i in range(raw.bit_length()) if raw >> i & 1)
            contents.append(values[0] if len(values) == 1 else Pending(values))
    try:
        states = run(operation, contents, plan.others, [register.mask != 0 for register in registers])
    except TooWide as wide:
        cell = plan.edge.cells[wide.register]
        assert cell is not None
        raise GaveUp(f"`{cell.name}` takes too many values", _unknown(plan)) from None
    found: dict[object, Way] = {}
    nothing = (0,) * len(registers)
    for state in states:
        if state.stopped:
            way = found.setdefault((None, state.wanted), Way(nothing, 0, state.wanted, True))
            way.failed |= state.failed
            continue
        given = [_raw(content, register) for content, register in zip(state.values, registers, strict=True)]
        sets = [0 if r.is_key else _bits(values) & r.mask for r, values in zip(registers, given, strict=True)]
        keys = [values if r.is_key else (0,) for r, values in zip(registers, given, strict=True)]
        for number, chosen in enumerate(product(*keys)):
            if number >= MAX_KEYS:
                raise GaveUp("too many variables are correlated here")
            mark = (chosen, state.wanted)
            known = found.get(mark)
            before = nothing if known is None else known.values
            failed = state.failed if known is None else known.failed | state.failed
            joined = tuple(c if r.is_key else b | s for c, s, b, r in zip(chosen, sets, before, registers, strict=True))
            found[mark] = Way(joined, failed, state.wanted, False)
    return tuple(found.values())


def _unknown(plan: Plan) -> frozenset[Cell]:
    """The local variables of few values that an operation reads and that are not followed."""
    assert plan.edge.operation is not None
    read = (plan.edge.cells[r] for r in plan.edge.operation.reads if not plan.registers[r].mask)
    return frozenset(c for c in read if c is not None and not c.is_global and c.high - c.low < MAX_WANTED)


def _raw(content: Content, register: _Register) -> Sequence[int]:
    """What a register may hold, counted from the lowest value of its cell."""
    if not register.mask:
        return ()
    if content is None:
        return range(register.high - register.low + 1)
    return [v - register.low for v in (content.values if isinstance(content, Pending) else (content,))]


def _bits(values: Iterable[int]) -> int:
    bits = 0
    for value in values:
        if value >= 0:
            bits |= 1 << value
    return bits


def _lock_masks(layout: Layout, edge: Edge, spin_only: bool, level: int) -> tuple[int, int]:
    """Set and key bits of "held" of every lock the operation does not itself touch and that is above `level` (-1: of
    any)."""
    set_bits = key_bits = 0
    for cell, mask, is_set in layout.held:
        if cell not in edge.cells and (cell.spins or not spin_only) and cell.level > level:
            if is_set:
                set_bits |= mask
            else:
                key_bits |= mask
    return set_bits, key_bits


def enter(plan: Plan, inner: Layout, key: int, sets: int) -> tuple[int, int]:
    """The callee's entry state for the caller's touched bits."""
    outer = plan.layout
    entry_key = entry_sets = 0
    sources = {formal: actual for actual, formal in plan.edge.copies_in}
    for cell in inner.keys:
        source = cell if cell.is_global else sources.get(cell)
        if source is None:
            continue
        if source in outer.keys:
            entry_key |= inner.key_bits(cell, outer.key_value(key, source))
    for cell in inner.sets:
        if cell.is_global:
            entry_sets |= outer.carried(sets, cell, inner)
    return entry_key, entry_sets


def returned(plan: Plan, inner: Layout, exits: dict[int, int], key: int, sets: int) -> list[tuple[int, int]]:
    """The caller's states after the call, for each state at the callee's exit."""
    outer, edge = plan.layout, plan.edge
    written = {actual for _, actual in edge.copies_out}
    key_out = set_out = 0
    for cell in (*(c for c in inner.keys if c.is_global), *(c for c in written if c in outer.keys)):
        key_out |= outer.key_mask(cell)
    for cell in inner.sets:
        if cell.is_global:
            set_out |= outer.set_mask(cell)
    results: list[tuple[int, int]] = []
    for exit_key, exit_sets in exits.items():
        new_key, new_sets = key & ~key_out, sets & ~set_out
        for cell in inner.keys:
            if cell.is_global:
                new_key |= outer.key_bits(cell, inner.key_value(exit_key, cell))
        for formal, actual in edge.copies_out:
            if actual in outer.keys and formal in inner.keys:
                new_key |= outer.key_bits(actual, inner.key_value(exit_key, formal))
        for cell in inner.sets:
            if cell.is_global:
                new_sets |= inner.carried(exit_sets, cell, outer)
        results.append((new_key, new_sets))
    return results
