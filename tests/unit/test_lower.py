"""What becomes of a driver: graphs that hang together, an obligation for each place, what each root sees."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelcheck.ir import (
    FREED,
    INITIALISED,
    UNINITIALISED,
    Choose,
    Graph,
    Instruction,
    Interfere,
    Operation,
    Root,
    Sort,
)
from modelcheck.lower import Lowered, every_graph, frames, lower, program
from modelcheck.lower.builder import Builder
from modelcheck.resolve import resolve, resolve_text
from tests.random_models import random_model
from tests.unit.test_layout import MODEL

PHASED = """
role ADD { irql PASSIVE_LEVEL; thread; any number; phase add; }
role ISR { irql 5; isr; single; }
role ANY { irql PASSIVE_LEVEL .. DISPATCH_LEVEL; thread; any number; }
"""


def lowered(body: str) -> Lowered:
    return lower(resolve_text(MODEL + PHASED + body))


def root(found: Lowered, name: str) -> Root:
    return next(root for root in found.roots if root.routine == name)


def graphs(found: Lowered) -> list[Graph]:
    return list(every_graph([root.graph for root in found.roots]))


def listed(found: Lowered) -> list[tuple[str, str, str]]:
    """(code, routine, subject) of the user's obligations."""
    return [(o.code.value, o.routine, o.subject) for n, o in enumerate(found.obligations) if n not in found.questions]


def interferes(code: tuple[Instruction, ...]) -> bool:
    return any(
        isinstance(i, Interfere) or (isinstance(i, Choose) and (interferes(i.then) or interferes(i.otherwise)))
        for i in code
    )


def operations(found: Lowered) -> list[Operation]:
    return [edge.operation for graph in graphs(found) for edge in graph.edges if edge.operation is not None]


@pytest.mark.parametrize("seed", range(40))
def test_graphs_hang_together(seed: int, tmp_path: Path) -> None:
    """Locations exist, an edge is an operation or a call, obligations exist, and registers fit their cells."""
    path = tmp_path / "m.drvm"
    path.write_text(random_model(seed), encoding="utf-8")
    found = lower(resolve(path))
    for graph in graphs(found):
        for edge in graph.edges:
            assert 0 <= edge.source < graph.size
            assert 0 <= edge.target < graph.size
            assert (edge.operation is None) != (edge.callee is None)
            assert all(0 <= number < len(found.obligations) for number in edge.obligations)
            if edge.operation is not None:
                assert len(edge.cells) == edge.operation.size
                assert {i for i, cell in enumerate(edge.cells) if cell is None} == edge.operation.scratch
                assert edge.operation.kills <= edge.operation.writes
                assert not edge.operation.kills & edge.operation.reads
        assert all(edge.source != graph.exit for edge in graph.edges)


@pytest.mark.parametrize("seed", range(10))
def test_lowering_depends_on_the_text_alone(seed: int, tmp_path: Path) -> None:
    """Twice the same obligations in the same order, and the same edges."""
    path = tmp_path / "m.drvm"
    path.write_text(random_model(seed), encoding="utf-8")
    first, second = lower(resolve(path)), lower(resolve(path))
    assert [o.id for o in first.obligations] == [o.id for o in second.obligations]
    shapes = [[[(e.source, e.target, e.obligations) for e in g.edges] for g in graphs(f)] for f in (first, second)]
    assert shapes[0] == shapes[1]


def test_the_same_statement_on_another_lock_is_the_same_operation() -> None:
    """So that what is worked out once serves both."""
    found = lowered("routine R() as DPC { Take(&A); Give(&A); Take(&B); Give(&B); }")
    takes = [e for g in graphs(found) for e in g.edges if e.span.text.startswith("Take")]
    first, second = (e.operation for e in takes if e.operation is not None)
    assert first is second
    assert takes[0].cells != takes[1].cells


def test_each_place_has_its_obligations() -> None:
    """One B01 for each acquire, one B02 and B04 for each release, B03 and I02 for each root."""
    found = lowered("routine R() as DPC { Take(&A); Give(&A); Take(&A); Give(&A); }")
    codes = [code for code, _, _ in listed(found)]
    assert [codes.count(code) for code in ("B01", "B02", "B04", "I02")] == [2, 2, 2, 1]
    assert ("B03", "R", "A") in listed(found)


def test_an_obligation_in_a_helper_is_one_however_often_it_is_called() -> None:
    """It stands in the helper."""
    body = "routine In() { Take(&A); Give(&A); } routine R() as DPC { In(); In(); } routine Q() as DPC { In(); }"
    found = lowered(body)
    assert listed(found).count(("B01", "In", "A")) == 1


def test_a_helper_is_lowered_once_for_each_lock_it_is_given() -> None:
    """Bindings of lock parameters make graphs of their own."""
    found = lowered("routine In(lock L) { Take(L); Give(L); } routine R() as DPC { In(&A); In(&B); In(&A); }")
    assert len([graph for graph in graphs(found) if graph.routine == "In"]) == 2


def test_a_root_starts_at_every_level_of_its_role() -> None:
    """All levels between that anything in the program names."""
    found = lowered("routine R() as ANY { } routine I() as ISR { } routine D() as DPC { }")
    assert [root(found, name).levels for name in "RID"] == [(0, 1, 2), (5,), (2,)]


def test_a_routine_by_clauses_alone_starts_in_every_state_they_allow() -> None:
    """Every level there is, up to what `requires` says."""
    found = lowered("routine I() as ISR { } routine R() requires irql >= DISPATCH_LEVEL { }")
    assert set(root(found, "R").levels) >= {2, 5, 31}


def test_a_routine_that_nobody_calls_is_not_looked_at() -> None:
    """Neither role nor clauses nor callers."""
    found = lowered("routine R() { Take(&A); }")
    assert [routine.name for routine in found.uncalled] == ["R"]
    assert not found.roots


def values_seen(found: Lowered, name: str, variable: str) -> tuple[set[int], set[int]]:
    """What a root can find a shared variable to be at its start, and what others write meanwhile."""
    one = root(found, name)
    cell = one.environment.cells.get(f"var {variable}")
    return set(one.starts[variable]), set() if cell is None else set(cell.others)


SHARED = "var x : int 0..9 = 1; "


def test_a_variable_starts_as_declared_or_as_an_earlier_phase_leaves_it() -> None:
    """And as routines of its own phase write it; not as later ones do."""
    found = lowered(SHARED + "routine S() as ADD { x = 3; assert x > 0; } routine R() as DPC { x = 5; assert x > 0; }")
    assert values_seen(found, "S", "x")[0] == {1, 3}
    assert values_seen(found, "R", "x")[0] == {1, 3, 5}


def test_routines_of_load_and_add_interfere_with_nobody() -> None:
    """What they write comes before."""
    found = lowered(SHARED + "routine S() as ADD { x = 3; assert x > 0; } routine R() as DPC { assert x > 0; }")
    assert values_seen(found, "S", "x")[1] == set()
    assert values_seen(found, "R", "x")[1] == set()
    assert not any(interferes(operation.code) for operation in operations(found))


@pytest.mark.parametrize(("role", "others"), [("DPC", {5}), ("ISR", set())])
def test_only_a_role_of_any_number_interferes_with_itself(role: str, others: set[int]) -> None:
    """A `single` one does not."""
    found = lowered(f"{SHARED}routine R() as {role} {{ x = 5; assert x > 0; }}")
    assert values_seen(found, "R", "x")[1] == others


def test_nothing_comes_in_between_behind_the_first_statement_of_atomic() -> None:
    """Only the first one looks at what others wrote."""
    body = "routine R() as DPC { bool b; atomic { b = x > 1; b = x > 2; b = x > 3; } } routine Q() as DPC { x = 5; }"
    found = lowered(SHARED + body)
    assert sum(interferes(operation.code) for operation in operations(found)) == 1


def test_lives_are_asked_about_only_where_a_routine_changes_them() -> None:
    """A question for each value that a root could leave."""
    kind = "lockkind OWN { init required; } extern Make(lock L : OWN) { init L; } lock N : OWN; "
    found = lowered(kind + "routine S() as ADD { Make(&N); } routine R() as DPC { }")
    assert {value for _, value in root(found, "S").outcomes} <= {UNINITIALISED, INITIALISED, FREED}
    assert INITIALISED in {value for _, value in root(found, "S").outcomes}
    assert not root(found, "R").outcomes
    assert set(root(found, "S").outcomes.values()) == found.questions


def test_a_call_that_no_model_knows_is_kept_in_mind() -> None:
    """With the first place it is called at."""
    found = lowered("routine R() as DPC { Nobody(1, A); }")
    assert list(found.unmodelled) == ["Nobody"]
    assert any(cell.sort is Sort.TAINT for cells in frames([r.graph for r in found.roots]).values() for cell in cells)


def test_operations_with_the_same_code_are_one_object() -> None:
    """Whatever cells they were built for."""
    from modelcheck import ir

    known: dict[object, Operation] = {}
    built = []
    for name in "xy":
        builder = Builder(known)
        register = builder.register(ir.Cell(f"local {name}", Sort.LOCAL, 0, 3))
        builder.assign(register, ir.Const(2), 0, 3, None)
        built.append(builder.finish())
    assert built[0] is built[1]


def test_a_write_that_nobody_is_told_of_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What others may write meanwhile is collected from the text; a write that was overlooked there is our fault."""
    text = "driver d; import wdm; var flag : bool = false; routine W() as KDEFERRED_ROUTINE { flag = true; }"
    assert lower(resolve_text(text)).roots
    monkeypatch.setattr(program._ProgramLowerer, "_routine_writes", lambda *_: {})
    monkeypatch.setattr(program._ProgramLowerer, "_fixed", lambda *_: {})
    with pytest.raises(AssertionError, match="W writes var flag, and nobody is told"):
        lower(resolve_text(text))
