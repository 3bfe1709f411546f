"""What a proof about several contexts rests on: queries that fail where the ground is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from modelcheck.engines.analyse import Analysis, Limits
from modelcheck.engines.deadlock import Deadlock
from modelcheck.evidence.certify import certify
from modelcheck.evidence.conditions import ArrivalQuery, FormulaQuery, Impossible, Pool
from modelcheck.evidence.meetings import Grounds, conditions
from modelcheck.lower import lower
from modelcheck.pipeline import load
from modelcheck.verdict import MUTUAL, Property

HEAD = """driver grounds;
lockkind MUTEX { }
role ONE { irql PASSIVE_LEVEL; thread; single; }
role ADD { irql PASSIVE_LEVEL; thread; any number; phase add; }
extern Acquire(lock L) { acquire L; }
extern Release(lock L) { release L; }
lock A : MUTEX;
lock B : MUTEX;
data D;
var rising : bool = true;
"""
A_B = "Acquire(&A); Acquire(&B); Release(&B); Release(&A);"
B_A = "Acquire(&B); Acquire(&A); Release(&A); Release(&B);"
ORDERED = f"routine P() as ONE {{ {A_B} }} routine Q() as ONE {{ {A_B} }}"
CROSSED = f"routine P() as ONE {{ {A_B} }} routine Q() as ONE {{ {B_A} }}"
DECIDED = f"""routine Add() as ADD {{ rising = *; }}
routine P() as ONE {{ if (rising) {{ {A_B} }} }} routine Q() as ONE {{ if (!rising) {{ {B_A} }} }}"""
RACE = "routine P() as ONE { read D; } routine Q() as ONE { write D; }"


def grounds(text: str, folder: Path) -> Grounds:
    """The grounds that the engine has for what it finds."""
    path = folder / "grounds.drvm"
    path.write_text(f"{HEAD}{text}\n", encoding="utf-8")
    lowered = lower(load(path)[0])
    analysis = Analysis(lowered, Limits())
    analysis.run()
    engine = Deadlock(lowered, analysis, Limits(), lambda _: frozenset(), analysis.held)
    engine.run(False)
    never = {q: n for asked in engine.rounds for q, n in zip(asked.questions, asked.never, strict=True)}
    return Grounds(lowered, engine.situation, engine.cases, never, analysis.held, engine.splits)


def claims(found: Grounds, code: Property | None = None) -> list[int]:
    """All obligations that several contexts can break, or those of a code."""
    wanted = {code} if code else MUTUAL - {Property.D04}
    return [n for n, o in enumerate(found.lowered.obligations) if o.code in wanted and n not in found.lowered.questions]


def name_of(found: Grounds, number: int) -> str:
    """What an obligation is about; `all` for what is asked once for every one."""
    if number < 0:
        return "all"
    o = found.lowered.obligations[number]
    return f"{o.code} {o.routine} {o.subject}".replace("  ", " ")


def rejected(found: Grounds, code: Property | None = None) -> set[str]:
    """The obligations for which a query fails."""
    pool = Pool()
    conditions(found, claims(found, code), pool)
    checked = certify(pool, 10_000)
    assert not checked.unanswered
    return {name_of(found, number) for number in checked.rejected}


def test_nothing_claimed_needs_nothing(tmp_path: Path) -> None:
    pool = Pool()
    conditions(grounds(ORDERED, tmp_path), [], pool)
    assert not list(pool.queries)


@pytest.mark.parametrize("text", [ORDERED, DECIDED], ids=["ranks", "exact states"])
def test_what_holds_is_accepted(text: str, tmp_path: Path) -> None:
    assert rejected(grounds(text, tmp_path)) == set()


def test_a_deadlock_is_rejected_where_it_stands(tmp_path: Path) -> None:
    """The claims about the outer locks hold all the same."""
    assert rejected(grounds(CROSSED, tmp_path)) == {"D01 P B", "D01 Q A"}


def test_a_race_is_rejected(tmp_path: Path) -> None:
    assert rejected(grounds(RACE, tmp_path)) == {"R03 D"}


def test_every_claim_rests_on_arrivals_and_ranks(tmp_path: Path) -> None:
    pool = Pool()
    found = grounds(ORDERED, tmp_path)
    conditions(found, claims(found)[:1], pool)
    kinds = [type(query) for query in pool.queries]
    assert ArrivalQuery in kinds
    assert FormulaQuery in kinds
    assert Impossible not in kinds


def _no_arrivals(found: Grounds) -> Grounds:
    return replace(found, cases=dict.fromkeys(found.cases, ()))


def _rough(found: Grounds) -> Grounds:
    """States are not told apart."""
    assert found.splits
    return replace(found, splits={})


def _nothing_never(found: Grounds) -> Grounds:
    assert any(found.never.values())
    return replace(found, never=dict.fromkeys(found.never, False))


def _nothing_asked(found: Grounds) -> Grounds:
    return replace(found, never={})


def _nothing_proved(found: Grounds) -> Grounds:
    """Not even that nobody waits for himself."""
    assert found.proved
    return replace(found, proved=frozenset())


@pytest.mark.parametrize(
    "without",
    [_no_arrivals, _rough, _nothing_never, _nothing_asked, _nothing_proved],
    ids=lambda f: f.__name__.strip("_"),
)
def test_without_its_grounds_it_is_rejected(without: Callable[[Grounds], Grounds], tmp_path: Path) -> None:
    assert rejected(without(grounds(DECIDED, tmp_path)), Property.D01) != set()


def test_ranks_that_do_not_rise_are_rejected(tmp_path: Path) -> None:
    """All nodes in one rank each, but the wrong way round."""
    found = grounds(ORDERED, tmp_path)
    order = found.situation.order
    most = max(order.components.values())
    order.components = {node: most - rank for node, rank in order.components.items()}
    assert "all" in rejected(found)


def test_a_lock_that_may_be_left_held_is_rejected(tmp_path: Path) -> None:
    text = "routine P() as ONE { Acquire(&A); } routine Q() as ONE { Acquire(&A); Release(&A); }"
    assert "D01 Q A" in rejected(grounds(text, tmp_path), Property.D01)


def test_a_lock_that_is_held_already_is_rejected(tmp_path: Path) -> None:
    text = "routine P() as ONE { Acquire(&A); Acquire(&A); Release(&A); }"
    assert "D01 P A" in rejected(grounds(text, tmp_path), Property.D01)
