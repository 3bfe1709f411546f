"""Scenarios against a search of all interleavings: the report says of each obligation what the search says, and what a
scenario breaks is not proved in the open world."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelcheck.pipeline import Options, verify
from modelcheck.resolve import Program, resolve
from modelcheck.verdict import Obligation, Property, Proved, Report, Schedule, Undecided, Violated
from tests.concurrent_bruteforce import Together, TooManyStates, explore_scenario
from tests.random_scenarios import random_scenario

FEW, MANY = 150, 3000
BATCH = 25
OPTIONS = Options(steps=40_000, timeout=10.0)
MAX_STATES = 6_000


def _closed(report: Report, found: Together) -> list[str]:
    """Where what is said about the scenario and the search of its runs contradict each other."""
    wrong = []
    results = [r for r in report.results if r.obligation.scenario]
    for result in results:
        obligation, verdict = result.obligation, result.verdict
        broken = found.breaks(obligation)
        match verdict:
            case Proved() if broken:
                wrong.append(f"proved, but a run breaks it: {obligation.id} ({obligation.why})")
            case Violated() if not broken:
                wrong.append(f"violated, but no run breaks it: {obligation.id} ({obligation.why})")
            case Violated(Schedule(), replayed) if replayed:
                pass
            case Violated():
                wrong.append(f"no replayed schedule: {obligation.id}")
            case Undecided(reason):
                wrong.append(f"not decided, though it is small: {obligation.id}: {reason}")
    listed = [r.obligation for r in results]
    return wrong + [f"not an obligation: {text}" for text in _unlisted(found, listed)]


def _unlisted(found: Together, obligations: list[Obligation]) -> list[str]:
    """What fails in some run and has no line in the report."""
    missing = [f for f in found.failures if not any(f.breaks(o) for o in obligations)]
    return sorted(f"{f.code} {f.routine}:{f.span.line} {f.subject} {f.why}" for f in missing)


def _open(program: Program, report: Report, found: Together) -> list[str]:
    """What the scenario breaks and the report says to be proved in the open world, of which the scenario is a part."""
    if any(not hasattr(step, "routine") for step in program.scenarios["together"].steps):
        return []  # it starts with values that perhaps nobody writes
    proved = [r.obligation for r in report.results if not r.obligation.scenario and isinstance(r.verdict, Proved)]
    return [
        f"proved in the open world, but the scenario breaks it: {obligation.id} ({obligation.why})"
        for obligation in proved
        if obligation.code is not Property.D03 and any(f.breaks(obligation) for f in found.firm)
    ]


def disagreements(path: Path) -> list[str]:
    """Where the report on a model and the search of the runs of its scenario contradict each other."""
    program = resolve(path)
    try:
        found = explore_scenario(program, "together", MAX_STATES)
    except TooManyStates:
        return []
    report = verify(path, OPTIONS)
    return [*found.inconsistent, *_closed(report, found), *_open(program, report, found)]


def _agree(folder: Path, seeds: range) -> None:
    wrong = []
    for seed in seeds:
        path = folder / f"scenario{seed}.drvm"
        path.write_text(random_scenario(seed), encoding="utf-8")
        wrong += [f"seed {seed}: {text}" for text in disagreements(path)]
    assert wrong == []


@pytest.mark.parametrize("first", range(0, FEW, BATCH))
def test_scenarios_agree_with_the_search_of_all_interleavings(first: int, tmp_path: Path) -> None:
    _agree(tmp_path, range(first, first + BATCH))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(FEW, MANY, BATCH))
def test_scenarios_agree_with_the_search_of_all_interleavings_at_length(first: int, tmp_path: Path) -> None:
    _agree(tmp_path, range(first, first + BATCH))
