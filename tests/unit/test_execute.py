"""The fixpoint's reading of operations: exact on values, over-approximate exactly where a value is not followed."""

from __future__ import annotations

import pytest

from modelcheck import ir
from modelcheck.engines.execute import MAX_SPREAD, Content, Pending, State, TooWide, run, taken
from modelcheck.ir import FREE, MAX_COUNT, Instruction, Operation, hold
from modelcheck.syntax import BinaryOp
from modelcheck.verdict import NO_LEVEL

LOCK = ((0, True, 2),)


def after(
    *code: Instruction, inputs: list[Content], others: tuple[int, ...] = (), followed: bool = True
) -> list[State]:
    """What the instructions make of these registers; register 0 is a spin lock of level 2."""
    every = frozenset(range(len(inputs)))
    operation = Operation(code, len(inputs), LOCK, every, every, frozenset(), frozenset(), False, False, frozenset())
    return run(operation, inputs, [others] * len(inputs), [followed] * len(inputs))


def values(states: list[State], register: int) -> set[object]:
    """What a register can hold afterwards."""
    found: set[object] = set()
    for state in states:
        content = state.values[register]
        found |= set(content.values) if isinstance(content, Pending) else {content}
    return found


def test_a_set_of_values_is_split_only_where_it_is_looked_at() -> None:
    """A register nobody asks about stays one state."""
    both = Pending((FREE, hold(False, 1, 0)))
    assert len(after(ir.CounterStep(1, True, 3), inputs=[both, 0])) == 1
    assert len(after(ir.Drop(0, None, None, 0, 1), inputs=[both, 0])) == 2


def test_an_assumption_keeps_only_what_fulfils_it() -> None:
    """Values that do not are gone; what is not known stays."""
    small = ir.Guess(ir.Arith(BinaryOp.LT, ir.Reg(1), ir.Const(2)))
    assert values(after(small, inputs=[FREE, Pending((0, 1, 2, 3))]), 1) == {0, 1}
    assert len(after(small, inputs=[FREE, None])) == 1


def test_an_obligation_about_an_unknown_value_may_be_broken() -> None:
    """Not known to hold counts as broken."""
    (state,) = after(ir.Demand(ir.Reg(1), 0), inputs=[FREE, None])
    assert state.failed == 1


def test_both_branches_of_an_unknown_condition_are_taken() -> None:
    """And only one of a known one."""
    branch = ir.Choose(ir.Reg(1), (ir.Set(2, ir.Const(1), 0, 3, None),), (ir.Set(2, ir.Const(2), 0, 3, None),))
    assert values(after(branch, inputs=[FREE, None, 0]), 2) == {1, 2}
    assert values(after(branch, inputs=[FREE, 0, 0]), 2) == {2}


@pytest.mark.parametrize(("value", "kept", "failed"), [(-1, 0, 1), (0, 0, 0), (3, 3, 0), (4, 3, 1)])
def test_a_value_out_of_range_takes_the_nearest_bound(value: int, kept: int, failed: int) -> None:
    """C04 beyond a bound, not at it."""
    (state,) = after(ir.Set(1, ir.Const(value), 0, 3, 0), inputs=[FREE, 0])
    assert (state.values[1], state.failed) == (kept, failed)


def test_a_forbidden_acquire_leaves_nothing_but_its_failure() -> None:
    """The run waits for ever; what comes behind is not executed."""
    take = ir.Take(0, False, 0, frozenset(), 0)
    (state,) = after(take, ir.Demand(ir.Const(0), 1), inputs=[hold(False, 1, 0)])
    assert state.stopped
    assert state.failed == 1


def test_an_acquire_that_is_allowed_keeps_mode_and_tag() -> None:
    """A shared acquire under an exclusive hold counts up and stays exclusive."""
    take = ir.Take(0, True, 3, frozenset({(True, False)}), 0)
    assert taken(hold(False, 1, 2), take) == hold(False, 2, 2)
    assert taken(hold(True, 1, 2), take) is None
    assert taken(hold(False, MAX_COUNT, 2), take) == hold(False, MAX_COUNT, 2)


def test_a_try_where_it_is_forbidden_fails_without_a_fault() -> None:
    """Never B01."""
    (state,) = after(ir.Take(0, False, 0, frozenset(), None, 1), inputs=[hold(False, 1, 0), 1])
    assert (state.values[1], state.failed) == (0, 0)


def test_interference_adds_what_others_write() -> None:
    """To the own value; an unknown one stays unknown."""
    assert values(after(ir.Interfere(1), inputs=[FREE, 3], others=(1, 5)), 1) == {1, 3, 5}
    assert values(after(ir.Interfere(1), inputs=[FREE, None], others=(1, 5)), 1) == {None}


def test_a_level_that_is_not_known_can_be_any_and_none() -> None:
    """NO_LEVEL too: it breaks I04 even at HIGH_LEVEL, where no level is above."""
    states = after(ir.Change(1, ir.Reg(2), False, 0, 1), inputs=[FREE, 31, None])
    assert values(states, 1) == set(range(NO_LEVEL))
    assert any(state.failed & 1 for state in states)


def test_what_is_asked_of_other_locks_is_handed_on() -> None:
    """A fall of the level asks that no spin lock above it is held outside; a rise asks nothing."""
    change = ir.Change(1, ir.Reg(2), False, 0, 1)
    (fall,) = after(change, inputs=[FREE, 2, 0])
    assert fall.wanted == ((1, True, 0),)
    (stay,) = after(change, inputs=[FREE, 2, 2])
    assert stay.wanted == ()


def test_a_value_that_is_not_followed_is_forgotten() -> None:
    """None is any value."""
    (state,) = after(ir.Pick(1, "result", 0, 3), inputs=[FREE, 0], followed=False)
    assert state.values[1] is None


def test_a_followed_variable_may_be_too_wide() -> None:
    """The register that takes too many values is named."""
    with pytest.raises(TooWide) as wide:
        after(ir.Pick(1, "result", 0, MAX_SPREAD), inputs=[FREE, 0])
    assert wide.value.register == 1


@pytest.mark.parametrize(("op", "known", "result"), [(BinaryOp.AND, 0, 0), (BinaryOp.OR, 1, 1), (BinaryOp.OR, 0, None)])
def test_one_side_can_decide_a_junction(op: BinaryOp, known: int, result: int | None) -> None:
    """`false && unknown` is false, `true || unknown` true."""
    for left, right in ((1, 2), (2, 1)):
        junction = ir.Set(3, ir.Arith(op, ir.Reg(left), ir.Reg(right)), 0, 1, None)
        states = after(junction, inputs=[FREE, None, known, 0])
        assert values(states, 3) == ({0, 1} if result is None else {result})
