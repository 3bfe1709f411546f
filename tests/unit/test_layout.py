"""States packed into a key and sets of values, and which locals still matter where."""

from __future__ import annotations

import itertools

from modelcheck.ir import Graph, Sort
from modelcheck.layout import Layout, layouts
from modelcheck.lower import Lowered, lower
from modelcheck.resolve import resolve_text

MODEL = """driver d;
lockkind SPIN { spins; level DISPATCH_LEVEL; }
role DPC { irql DISPATCH_LEVEL; dpc; any number; }
extern Take(lock L : SPIN) { acquire L; }
extern Give(lock L : SPIN) { release L; }
extern Up(KIRQL level, out KIRQL old) { KIRQL before = irql; raise level; old = before; }
extern Down(KIRQL level) { lower level; }
extern Complete() { require no_spin_lock else I07 "no spin lock is held"; }
lock A : SPIN;
lock B : SPIN;
"""


def lowered(body: str) -> Lowered:
    return lower(resolve_text(MODEL + body))


def layout_of(body: str, *tracked: str) -> Layout:
    """The layout of routine R, with these variables followed."""
    program = lowered(body)
    found = layouts([root.graph for root in program.roots], frozenset())
    named = [c for graph in found for c in graph.locals if c.name.split()[-1].split(".")[-1] in tracked]
    found = layouts([root.graph for root in program.roots], frozenset(named))
    return next(layout for graph, layout in found.items() if graph.name.startswith("R") and _is_routine(graph, program))


def _is_routine(graph: Graph, program: Lowered) -> bool:
    return all(graph is not root.graph for root in program.roots)


BOTH = "routine R() as DPC { KIRQL o; Take(&A); Up(HIGH_LEVEL, &o); Down(o); Give(&A); Take(&B); Give(&B); }"


def test_no_two_cells_share_a_bit() -> None:
    """Neither in the key nor in the sets."""
    layout = layout_of(BOTH)
    for masks in ([layout.key_mask(c) for c in layout.keys], [layout.set_mask(c) for c in layout.sets]):
        assert all(not one & other for one, other in itertools.combinations(masks, 2))
        assert all(masks)


def test_what_is_packed_comes_out_again() -> None:
    """Every value of every cell, alone and in a set."""
    layout = layout_of(BOTH)
    for cell in layout.keys:
        assert all(layout.key_value(layout.key_bits(cell, v), cell) == v for v in range(cell.low, cell.high + 1))
    for cell in layout.sets:
        values = tuple(range(cell.low, cell.high + 1))[::2]
        assert layout.set_values(layout.set_bits(cell, values), cell) == values


def test_levels_are_followed_exactly_and_locks_as_sets() -> None:
    """The IRQL and saved levels are in the key, holds are not."""
    layout = layout_of(BOTH)
    assert {Sort.IRQL, Sort.LEVEL} <= {cell.sort for cell in layout.keys}
    assert [cell.name for cell in layout.holds] == ["hold A", "hold B"]
    assert set(layout.holds) <= set(layout.sets)


def test_held_is_every_way_but_free() -> None:
    """One bit less than the set has."""
    layout = layout_of(BOTH)
    for cell in layout.holds:
        assert layout.set_mask(cell) & ~layout.held_mask(cell) == layout.set_bits(cell, (0,))


def test_a_graph_keeps_only_what_it_has_to_do_with() -> None:
    """A lock that the routine and its callees do not touch costs nothing there."""
    layout = layout_of("routine R() as DPC { Take(&A); Give(&A); } routine Q() as DPC { Take(&B); Give(&B); }")
    assert [cell.name for cell in layout.holds] == ["hold A"]


def test_a_routine_that_asks_for_all_locks_sees_those_of_its_callers() -> None:
    """`no_spin_lock` in a helper is about what its caller holds."""
    layout = layout_of("routine Q() as DPC { Take(&A); R(); Give(&A); } routine R() { Complete(); }")
    assert [cell.name for cell in layout.holds] == ["hold A"]


def test_a_saved_level_is_live_from_its_write_to_its_last_read() -> None:
    """Not before, not behind; global cells always are."""
    layout = layout_of("routine R() as DPC { KIRQL o; Take(&A); Up(HIGH_LEVEL, &o); Take(&B); Down(o); Give(&B); }")
    (saved,) = (cell for cell in layout.keys if cell.sort is Sort.LEVEL and not cell.is_global)
    live = {location for location in range(layout.graph.size) if layout.live[location] & layout.key_mask(saved)}
    assert layout.graph.entry not in live
    assert layout.graph.exit not in live
    assert live
    (irql,) = (cell for cell in layout.keys if cell.sort is Sort.IRQL)
    assert all(live & layout.key_mask(irql) for live in layout.live)


GUARDED = """var n : int 0..3 guarded by A;
routine Other() as DPC { Take(&A); n = 3; n = *; Give(&A); }
"""
FIRST_LOOK, LAST_LOOK = "n == 1", "n == 2"


def matters(body: str, variable: str = "n") -> tuple[Layout, set[int]]:
    """The layout of routine R with a shared variable followed, and the locations where its value matters."""
    program = lowered(body)
    graphs = list(layouts([root.graph for root in program.roots], frozenset()))
    cells = {c for graph in graphs for edge in graph.edges for c in edge.cells if c is not None}
    (cell,) = (c for c in cells if c.name == f"var {variable}")
    found = layouts([root.graph for root in program.roots], frozenset({cell}))
    layout = next(made for graph, made in found.items() if graph.name == "R" and _is_routine(graph, program))
    return layout, {at for at in range(layout.graph.size) if layout.live[at] & layout.key_mask(cell)}


def places(layout: Layout, text: str) -> set[int]:
    """The locations before the steps that stand at a text."""
    return {edge.source for edge in layout.graph.edges if text in edge.span.text}


def test_a_guarded_variable_matters_until_it_is_last_looked_at_under_its_guard() -> None:
    """Anybody may have written anything to it when the guard is acquired again."""
    layout, live = matters(
        GUARDED + "routine R() as DPC { Take(&A); if (n == 1) { n = 0; } if (n == 2) { n = 1; } Give(&A); }"
    )
    assert places(layout, FIRST_LOOK) | places(layout, LAST_LOOK) <= live
    assert live.isdisjoint(places(layout, "Take(&A)") | places(layout, "Give(&A)") | {layout.graph.exit})


def test_a_guarded_variable_matters_in_a_callee_of_whoever_looks_at_it() -> None:
    """Its value comes through the callee to what the caller does behind the call."""
    layout, live = matters(
        GUARDED
        + """routine R() { if (*) { n = 1; } }
routine Q() as DPC { Take(&A); n = 2; R(); if (n == 2) { n = 0; } Give(&A); }"""
    )
    assert {layout.graph.entry, layout.graph.exit} <= live


def test_a_variable_of_which_others_write_only_some_values_matters_before_too() -> None:
    """It may still have the value it had."""
    some = "var n : int 0..3 = 0 guarded by A; routine Other() as DPC { Take(&A); n = 3; Give(&A); }"
    layout, live = matters(some + "routine R() as DPC { Take(&A); if (n == 1) { n = 0; } Give(&A); }")
    assert layout.graph.entry in live


def test_a_variable_without_a_guard_does_not_matter_before_it_is_looked_at() -> None:
    """Others may write to it at any time."""
    free = "var n : int 0..3; routine Other() as DPC { n = *; } "
    _, live = matters(free + "routine R() as DPC { n = 1; if (n == 1) { n = 0; } }")
    assert not live
