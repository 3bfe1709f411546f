"""SPIN decides exported scenarios as modelcheck does: the same deadlocks, the same assertions."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from modelcheck.engines.scenario import Broken, Open, solve
from modelcheck.export.promela import promela
from modelcheck.lower.closed import Closed, lower_scenarios
from modelcheck.pipeline import load
from modelcheck.verdict import Property
from tests.conformance.notation import read_case
from tests.conformance.operations import Inexpressible
from tests.conformance.translate import Question, question, translate
from tests.export import spin
from tests.random_scenarios import random_scenario

pytestmark = pytest.mark.skipif(bool(spin.MISSING), reason=f"SPIN cannot be asked: {spin.MISSING}")

ROOT = Path(__file__).parent.parent.parent
FILES = sorted(
    path
    for folder in ("tests/verdicts", "examples")
    for path in (ROOT / folder).rglob("*.drvm")
    if "\nscenario " in path.read_text()
)
FEW, MANY = 4, 150
DEADLOCKS = (Property.D01, Property.D02, Property.D03)
CASES = os.environ.get("MODELCHECK_CASES", "")
"""A file of conformance cases to compare too."""


def disagreements(path: Path, reduce: bool = True) -> list[str]:
    """Where SPIN and modelcheck differ about the scenarios of a file."""
    return [text for closed in lower_scenarios(load(path)[0]) for text in _disagreements(closed, reduce)]


def _disagreements(closed: Closed, reduce: bool) -> list[str]:
    decisions = solve(closed).decisions
    if any(isinstance(decision, Open) for decision in decisions.values()):
        return []
    answer = spin.ask(promela(closed), reduce=reduce)
    assert answer.complete, "SPIN left states out"
    found = []
    broken = {number for number in closed.listed if isinstance(decisions[number], Broken)}
    deadlock = {number for number in broken if closed.obligations[number].code in DEADLOCKS}
    if bool(deadlock) != answer.deadlock:
        found.append(f"{closed.name}: a deadlock {'only here' if deadlock else 'only in SPIN'}")
    for number in sorted((broken - deadlock) ^ answer.broken):
        where = "only here" if number in broken else "only in SPIN"
        found.append(f"{closed.name}: {closed.obligations[number].id} is broken {where}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_scenarios_of_the_models(path: Path) -> None:
    assert disagreements(path) == []


@pytest.mark.parametrize("seed", range(FEW))
def test_random_scenarios(seed: int, tmp_path: Path) -> None:
    _random(seed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(FEW, MANY))
def test_many_random_scenarios(seed: int, tmp_path: Path) -> None:
    _random(seed, tmp_path)


def _random(seed: int, folder: Path) -> None:
    path = folder / f"seed{seed}.drvm"
    path.write_text(random_scenario(seed))
    assert disagreements(path) == []


@pytest.mark.slow
@pytest.mark.skipif(not CASES, reason="MODELCHECK_CASES names no file of cases")
def test_conformance_cases(tmp_path: Path) -> None:
    wrong, compared = [], 0
    for source in json.loads(Path(CASES).read_text()):
        case = read_case(source)
        if not any(question(claim).together for claim in case.claims):
            continue
        path = tmp_path / "case.drvm"
        try:
            path.write_text(translate(case, Question(False, True, False)).text)
        except Inexpressible:
            continue
        compared += 1
        wrong += [f"{case.id}: {text}" for text in disagreements(path)]
    assert wrong == []
    assert compared


def test_a_forgotten_guard_is_noticed(tmp_path: Path) -> None:
    """The comparison can fail: where a lock does not keep others out, SPIN misses the deadlock."""
    path = ROOT / "tests/verdicts/scenarios/opposite_order.drvm"
    text = promela(lower_scenarios(load(path)[0])[0])
    assert spin.ask(text).deadlock
    assert not spin.ask(text.replace("!(hold_A_0 != 0)", "true")).deadlock


def test_a_step_ends_where_its_goto_leads(tmp_path: Path) -> None:
    """What the exporter rests on: `goto` as the last statement of an `atomic` lets others in, also into another."""
    text = """
    byte x;
    active proctype A() {
      L0: atomic { x == 0 -> if :: x = 1; goto L1 :: x = 1; goto L1 fi };
      L1: atomic { x == 1 -> x = 2; goto end };
      end: false
    }
    active proctype B() { atomic { x == 1 -> assert((7) < 0 || (false)) } }
    """
    assert spin.ask(text).broken == {7}
