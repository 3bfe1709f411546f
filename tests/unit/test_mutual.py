"""What contexts can do to each other, as facts and formulas: read off small drivers, and asked of Z3 directly."""

from __future__ import annotations

from pathlib import Path

import pytest
import z3

from modelcheck import ir
from modelcheck.engines.analyse import Analysis, Limits
from modelcheck.engines.deadlock import Deadlock
from modelcheck.lower import lower
from modelcheck.mutual.cycles import EXCLUSIVE, SHARED, Link, Ring, Stand, formula, link_name
from modelcheck.mutual.order import Node, components
from modelcheck.mutual.overlap import takes_over
from modelcheck.mutual.positions import EXCLUSIVE as HELD_X
from modelcheck.mutual.positions import MAY_BE_FREE, Facts, instructions, mask_of, sites, waits
from modelcheck.mutual.positions import SHARED as HELD_S
from modelcheck.mutual.questions import prefix
from modelcheck.mutual.situation import Situation
from modelcheck.pipeline import load
from modelcheck.syntax import BinaryOp

HEAD = """driver meeting;
lockkind SPIN { spins; level DISPATCH_LEVEL; }
lockkind MUTEX { recursive exclusive; }
lockkind RW { recursive shared; }
lockkind FAIR { writers first; }
role LOAD { irql PASSIVE_LEVEL; thread; single; phase load; }
role UNLOAD { irql PASSIVE_LEVEL; thread; single; phase unload; }
role THREAD { irql PASSIVE_LEVEL; thread; any number; }
role ONE { irql PASSIVE_LEVEL; thread; single; }
role DPC { irql DISPATCH_LEVEL; dpc; any number; }
role ISR { irql DIRQL; isr; single; }
extern Take(lock L) { acquire L; }
extern Share(lock L) { acquire L shared; }
extern Give(lock L) { release L either; }
extern Try(lock L) : bool { bool t = false; if (try_acquire L) { t = true; } return t; }
extern Up(KIRQL level, out KIRQL old) { KIRQL before = irql; raise level; old = before; }
extern Down(KIRQL level) { lower level; }
extern Wait(event E) { wait E; }
extern Set(event E) { set E; }
extern Start(routine R) { enable R; }
lock A : MUTEX;
lock B : MUTEX;
lock S : SPIN;
lock R : RW;
lock F : FAIR;
event E;
data D;
"""


def situation(text: str, folder: Path) -> Situation:
    path = folder / "meeting.drvm"
    path.write_text(HEAD + text + "\n", encoding="utf-8")
    lowered = lower(load(path)[0])
    analysis = Analysis(lowered, Limits())
    analysis.run()
    return Deadlock(lowered, analysis, Limits(), lambda _: frozenset(), analysis.held).situation


def read(text: str, folder: Path) -> Facts:
    return situation(text, folder).facts


def held_at(found: Facts, wanted: str) -> set[tuple[tuple[str, int], ...]]:
    """What may be held where `wanted` is waited for."""
    return {p.held for p in found.positions if p.wanted == wanted}


# ---- positions ----


def test_a_position_says_what_is_held_and_at_which_level(tmp_path: Path) -> None:
    found = read(
        "routine T() as THREAD { KIRQL o; Take(&A); Up(DISPATCH_LEVEL, &o); Take(&S); Give(&S); Down(o); Give(&A); }",
        tmp_path,
    )
    (spin,) = [p for p in found.positions if p.wanted == "S"]
    assert (spin.held, spin.irql, spin.spins, spin.shared) == ((("A", HELD_X),), 2, True, False)
    (mutex,) = [p for p in found.positions if p.wanted == "A"]
    assert (mutex.held, mutex.irql, mutex.spins) == ((), 0, False)
    assert found.holding[0] == {0: {"A": HELD_X}, 2: {"A": HELD_X, "S": HELD_X}}


def test_a_lock_that_may_be_held_says_so(tmp_path: Path) -> None:
    found = read("routine T() as THREAD { bool b = *; if (b) { Share(&R); } Take(&A); Give(&A); }", tmp_path)
    assert held_at(found, "A") == {(("R", MAY_BE_FREE | HELD_S),)}


def test_a_try_is_no_position_and_what_it_took_is_held(tmp_path: Path) -> None:
    found = read("routine T() as THREAD { if (Try(&A)) { Take(&B); Give(&B); Give(&A); } }", tmp_path)
    assert held_at(found, "A") == set()
    assert held_at(found, "B") == {(("A", HELD_X),)}


def test_what_is_released_in_between_is_not_held(tmp_path: Path) -> None:
    found = read("routine T() as THREAD { Take(&A); Give(&A); Take(&B); Give(&B); }", tmp_path)
    assert held_at(found, "B") == {()}


def test_positions_of_called_routines_have_the_locks_of_the_caller(tmp_path: Path) -> None:
    found = read("routine In() { Take(&B); Give(&B); } routine T() as THREAD { Take(&A); In(); Give(&A); }", tmp_path)
    assert held_at(found, "B") == {(("A", HELD_X),)}


def test_a_lock_left_held_is_seen_at_the_end(tmp_path: Path) -> None:
    found = read("routine T() as THREAD { Take(&A); if (*) { Give(&A); } }", tmp_path)
    assert found.ending == [{"A": HELD_X}]


def test_events_accesses_and_what_is_enabled_are_read(tmp_path: Path) -> None:
    text = """routine T() as THREAD { Set(E); Take(&A); write D; Give(&A); atomic { read D; } Start(W); }
        routine W() as THREAD { Wait(E); }"""
    found = read(text, tmp_path)
    assert [set(signals) for signals in found.signals] == [{"E"}, set()]
    assert [(a.write, a.atomic, a.held) for a in found.accesses] == [
        (True, False, (("A", HELD_X),)),
        (False, True, ()),
    ]
    assert situation(text, tmp_path).overlap.enabled == [{"W"}, set()]
    assert [(p.sort, p.wanted) for p in found.positions if p.root == 1] == [("event", "E")]


def test_holds_become_masks() -> None:
    assert mask_of((ir.FREE,)) == MAY_BE_FREE
    assert mask_of((ir.FREE, ir.hold(True, 1, 0), ir.hold(False, 2, 0))) == MAY_BE_FREE | HELD_S | HELD_X


# ---- instructions ----

GUESS = ir.Arith(BinaryOp.EQ, ir.Reg(0), ir.Const(1))
SIGNAL = ir.Signal(1, True)
OTHER = ir.Signal(2, True)


def test_a_prefix_is_what_is_done_before() -> None:
    """With the condition of the branch it is in."""
    first = ir.Set(0, ir.Const(1), 0, 1, None)
    code = (first, ir.Choose(GUESS, (SIGNAL,), (OTHER,)))
    assert prefix(code, SIGNAL) == (first, ir.Guess(GUESS))
    assert prefix(code, OTHER) == (first, ir.Guess(ir.Not(GUESS)))
    assert prefix(code, ir.Signal(3, True)) is None
    assert list(instructions(code)) == [first, code[1], SIGNAL, OTHER]


def test_only_what_can_last_is_waited_for(tmp_path: Path) -> None:
    """Not a try, not a release."""
    found = situation("routine T() as THREAD { if (Try(&A)) { Give(&A); } Take(&B); Give(&B); Wait(E); }", tmp_path)
    edges = [edge for graph in found.graphs for edge in graph.edges]
    waiting = [i for e in edges if e.operation is not None for i in sites(e.operation) if waits(i)]
    assert [type(i) for i in waiting] == [ir.Take, ir.Await]


# ---- the order ----


def test_components_are_numbered_along_the_edges() -> None:
    a: Node = ("a",)
    b: Node = ("b",)
    c: Node = ("c",)
    d: Node = ("d",)
    edges: dict[Node, dict[Node, None]] = {d: {a: None}, a: {b: None}, b: {c: None}, c: {b: None}}
    found = components(edges)
    assert found[b] == found[c]
    assert found[d] < found[a] < found[b]


def test_a_lock_on_itself_is_a_component_of_its_own() -> None:
    found = components({("a",): {("a",): None}, ("b",): {}})
    assert found["a",] != found["b",]


def cyclic(found: Situation) -> set[tuple[object, ...]]:
    """The locks that lie on a cycle of the order."""
    order = found.order
    return {
        node[1:2]
        for node in order.edges
        if node[0] == "lock" and any(order.cyclic(node, target) and target != node for target in order.edges[node])
    }


NEST = "routine T() as THREAD {{ Take(&{0}); Take(&{1}); Give(&{1}); Give(&{0}); }}"
NEST_2 = NEST.replace(" T()", " U()")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (NEST.format("A", "B") + NEST_2.format("A", "B"), set()),
        (NEST.format("A", "B") + NEST_2.format("B", "A"), {("A",), ("B",)}),
        ("routine T() as THREAD { Take(&A); Take(&A); Give(&A); Give(&A); }", set()),
        ("routine T() as THREAD { Share(&R); Give(&R); } routine U() as DPC { Share(&R); Give(&R); }", set()),
        ("routine T() as THREAD { Take(&S); Give(&S); } routine U() as DPC { Take(&S); Give(&S); }", {("S",)}),
        ("routine T() as DPC { Take(&S); Give(&S); } routine U() as DPC { Take(&S); Give(&S); }", set()),
        ("routine T() as DPC { Take(&S); Give(&S); } routine U() as ISR { Take(&S); Give(&S); }", {("S",)}),
        ("routine T() as LOAD { Take(&S); Give(&S); } routine U() as DPC { Take(&S); Give(&S); }", set()),
    ],
    ids=["in order", "crossed", "again", "readers", "interrupted", "same level", "isr", "apart"],
)
def test_cycles_of_the_order(text: str, expected: set[tuple[object, ...]], tmp_path: Path) -> None:
    assert cyclic(situation(text, tmp_path)) == expected


def test_every_edge_that_is_on_no_cycle_rises(tmp_path: Path) -> None:
    found = situation(NEST.format("A", "B") + NEST_2.format("B", "A") + "routine V() as DPC { Take(&S); }", tmp_path)
    order = found.order
    for source, targets in order.edges.items():
        for target in targets:
            assert order.components[source] <= order.components[target]


# ---- who is there together ----


def test_who_meets_whom(tmp_path: Path) -> None:
    """Load and unload are alone but for what they enable; one `single` root at a time."""
    found = situation(
        """routine L() as LOAD { Start(Q); } routine T() as THREAD { } routine Q() as ONE { }
        routine U() as UNLOAD { }""",
        tmp_path,
    )
    number = {root.routine: n for n, root in enumerate(found.roots)}

    def meet(one: str, other: str) -> bool:
        assert found.overlap.meet(number[one], number[other]) == found.overlap.meet(number[other], number[one])
        return found.overlap.meet(number[one], number[other])

    assert meet("T", "T")
    assert meet("T", "Q")
    assert meet("L", "Q")
    assert not meet("Q", "Q")
    assert not meet("L", "T")
    assert not meet("L", "L")
    assert not meet("U", "T")
    assert not meet("L", "U")


def test_who_takes_the_processor_of_whom(tmp_path: Path) -> None:
    """A DPC below its level, a thread that has raised from a thread that has not."""
    found = situation("routine T() as THREAD { } routine Q() as DPC { } routine I() as ISR { }", tmp_path)
    roots = {root.routine: root for root in found.roots}
    thread, dpc, isr = roots["T"], roots["Q"], roots["I"]
    assert takes_over(1, thread, dpc, 2)
    assert not takes_over(2, thread, dpc, 2)
    assert takes_over(2, dpc, isr, 5)
    assert not takes_over(5, isr, isr, 5)
    assert takes_over(1, thread, thread, 2)
    assert not takes_over(2, thread, thread, 2)
    assert not takes_over(0, thread, thread, 1)
    assert not takes_over(0, dpc, thread, 2)


# ---- the formula of a ring ----


def possible(ring: Ring) -> bool:
    """Whether the ring can be, all reasons assumed."""
    made = formula(ring)
    solver = z3.SolverFor("QF_FD")
    solver.from_string("\n".join([*made.lines, *(f"(assert {name})" for name in made.reasons)]))
    answer = solver.check()
    assert answer in (z3.sat, z3.unsat)
    return bool(answer == z3.sat)


def cross(first: Stand, second: Stand, **given: frozenset[object]) -> Ring:
    """Two stands, the first holds A and waits for B, the second the other way round."""
    a, b = ("A", EXCLUSIVE), ("B", EXCLUSIVE)
    apart: frozenset[tuple[int, int]] = given.get("apart", frozenset())  # type: ignore[assignment]
    single: frozenset[int] = given.get("single", frozenset())  # type: ignore[assignment]
    return Ring([first, second], [Link(0, a, b), Link(1, b, a)], apart, single)


A_HELD, B_HELD = ("A", EXCLUSIVE), ("B", EXCLUSIVE)


def test_a_ring_of_two_can_be() -> None:
    assert possible(cross(Stand(0, (A_HELD,)), Stand(1, (B_HELD,))))


def test_a_link_that_leads_nowhere_makes_no_ring() -> None:
    ring = Ring([Stand(0, (A_HELD,))], [Link(0, A_HELD, B_HELD)], frozenset(), frozenset())
    assert not possible(ring)


@pytest.mark.parametrize(("one", "other"), [(EXCLUSIVE, EXCLUSIVE), (EXCLUSIVE, SHARED), (SHARED, EXCLUSIVE)])
def test_a_gate_keeps_two_apart(one: str, other: str) -> None:
    assert not possible(cross(Stand(0, (A_HELD, ("G", one))), Stand(1, (B_HELD, ("G", other)))))


@pytest.mark.parametrize(("one", "other"), [(SHARED, SHARED), (EXCLUSIVE, "?"), ("?", "?")])
def test_a_gate_that_goes_together_or_may_be_open_does_not(one: str, other: str) -> None:
    assert possible(cross(Stand(0, (A_HELD, ("G", one))), Stand(1, (B_HELD, ("G", other)))))


def test_roots_that_never_meet_make_no_ring() -> None:
    assert not possible(cross(Stand(0, (A_HELD,)), Stand(1, (B_HELD,)), apart=frozenset({(0, 1)})))


def test_of_a_single_root_there_is_one() -> None:
    assert not possible(cross(Stand(0, (A_HELD,)), Stand(0, (B_HELD,)), single=frozenset({0})))
    assert possible(cross(Stand(0, (A_HELD,)), Stand(0, (B_HELD,))))


def test_a_variable_that_cannot_change_has_one_value() -> None:
    assert not possible(cross(Stand(0, (A_HELD,), (("x", 0),)), Stand(1, (B_HELD,), (("x", 1),))))
    assert possible(cross(Stand(0, (A_HELD,), (("x", 1),)), Stand(1, (B_HELD,), (("x", 1),))))


def test_every_link_has_a_name_of_its_own() -> None:
    names = [link_name(number) for number in range(20)]
    assert len(set(names)) == 20
