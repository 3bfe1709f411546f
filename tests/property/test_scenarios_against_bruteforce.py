"""Several contexts against a search of all interleavings: the report says of each obligation of a scenario what the
search says, and what a scenario or any two contexts break is not proved in the open world."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from modelcheck import syntax as s
from modelcheck.interpret import replay_schedule
from modelcheck.pipeline import Options, verify
from modelcheck.resolve import Program, resolve
from modelcheck.verdict import Obligation, Property, Proved, Report, Schedule, Undecided, Violated
from tests.concurrent_bruteforce import Together, TooManyStates, environments, explore_open, explore_scenario
from tests.random_scenarios import random_crowd, random_scenario, random_waits

FEW, MANY = 150, 3000
BATCH = 25
FEW_CROWDS, MANY_CROWDS = 25, 1000
BATCH_CROWDS = 5
FEW_OPEN, MANY_OPEN = 25, 500
FEW_WAITING = 20
BATCH_OPEN = 5
OPTIONS = Options(steps=40_000, timeout=10.0)
MAX_STATES = 6_000
MAX_OPEN_STATES = 3_000


def _closed(report: Report, found: Together) -> list[str]:
    """Where what is said about the scenario and the search of its runs contradict each other."""
    wrong = []
    results = [r for r in report.results if r.obligation.scenario]
    for result in results:
        obligation, verdict = result.obligation, result.verdict
        match verdict:
            case Proved() if found.certainly_breaks(obligation):
                wrong.append(f"proved, but a run breaks it: {obligation.id} ({obligation.why})")
            case Violated() if not found.breaks(obligation):
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
    return _proved(report, found) if _is_open(program) else []


def _proved(report: Report, found: Together) -> list[str]:
    """What is said to be proved in the open world and fails in some run."""
    proved = [r.obligation for r in report.results if not r.obligation.scenario and isinstance(r.verdict, Proved)]
    return [
        f"proved in the open world, but a run breaks it: {obligation.id} ({obligation.why})"
        for obligation in proved
        if obligation.code is not Property.D03 and any(f.breaks(obligation) for f in found.firm)
    ]


def _is_open(program: Program) -> bool:
    """Whether the scenario is a part of the open world: it starts with the declared values, and runs no service routine
    twice."""
    steps = program.scenarios["together"].steps
    runs = [step.routine for step in steps if isinstance(step, s.Run)]
    return len(runs) == len(steps) and all(runs.count(name) == 1 or "Isr" not in name for name in runs)


def disagreements(path: Path) -> list[str]:
    """Where the report on a model and the search of the runs of its scenario contradict each other."""
    program = resolve(path)
    try:
        found = explore_scenario(program, "together", MAX_STATES)
    except TooManyStates:
        return []
    report = verify(path, OPTIONS)
    return [*found.inconsistent, *_closed(report, found), *_open(program, report, found)]


def _agree(folder: Path, seeds: range, make: Callable[[int], str] = random_scenario) -> None:
    wrong = []
    for seed in seeds:
        path = folder / f"scenario{seed}.drvm"
        path.write_text(make(seed), encoding="utf-8")
        wrong += [f"seed {seed}: {text}" for text in disagreements(path)]
    assert wrong == []


def open_disagreements(path: Path) -> list[str]:
    """What is said to be proved in the open world, and two contexts on two processors break."""
    program = resolve(path)
    seen = environments(program)
    try:
        found = explore_open(program, seen, limit=MAX_OPEN_STATES)
    except TooManyStates:
        return []
    wrong = [*found.inconsistent]
    for failure in found.firm:
        obligation = Obligation(failure.code, failure.routine, failure.span, failure.subject, failure.why)
        outcome = replay_schedule(program, found.schedules[failure], obligation, seen)
        if not outcome.reproduced:
            wrong.append(f"not replayed: {obligation.id}: {outcome.reason}")
    return wrong + _proved(verify(path, OPTIONS), found)


def _agree_openly(folder: Path, seeds: range, make: Callable[[int], str] = random_scenario) -> None:
    wrong = []
    for seed in seeds:
        path = folder / f"open{seed}.drvm"
        path.write_text(make(seed), encoding="utf-8")
        wrong += [f"seed {seed}: {text}" for text in open_disagreements(path)]
    assert wrong == []


@pytest.mark.parametrize("first", range(0, FEW_OPEN, BATCH_OPEN))
def test_what_two_contexts_break_is_not_proved(first: int, tmp_path: Path) -> None:
    _agree_openly(tmp_path, range(first, first + BATCH_OPEN))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(FEW_OPEN, MANY_OPEN, BATCH_OPEN))
def test_what_two_contexts_break_is_not_proved_at_length(first: int, tmp_path: Path) -> None:
    _agree_openly(tmp_path, range(first, first + BATCH_OPEN))


@pytest.mark.parametrize("first", range(0, FEW, BATCH))
def test_scenarios_agree_with_the_search_of_all_interleavings(first: int, tmp_path: Path) -> None:
    _agree(tmp_path, range(first, first + BATCH))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(FEW, MANY, BATCH))
def test_scenarios_agree_with_the_search_of_all_interleavings_at_length(first: int, tmp_path: Path) -> None:
    _agree(tmp_path, range(first, first + BATCH))


@pytest.mark.parametrize("first", range(0, FEW_CROWDS, BATCH_CROWDS))
def test_contexts_that_are_alike_agree_with_the_search_of_all_interleavings(first: int, tmp_path: Path) -> None:
    _agree(tmp_path, range(first, first + BATCH_CROWDS), random_crowd)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(FEW_CROWDS, MANY_CROWDS, BATCH_CROWDS))
def test_contexts_that_are_alike_agree_with_the_search_at_length(first: int, tmp_path: Path) -> None:
    _agree(tmp_path, range(first, first + BATCH_CROWDS), random_crowd)


@pytest.mark.parametrize("first", range(0, FEW_WAITING, BATCH_OPEN))
def test_who_waits_for_routines_agrees_with_the_search_of_all_runs(first: int, tmp_path: Path) -> None:
    _agree(tmp_path, range(first, first + BATCH_OPEN), random_waits)
    _agree_openly(tmp_path, range(first, first + BATCH_OPEN), random_waits)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(FEW_WAITING, MANY_OPEN, BATCH_OPEN))
def test_who_waits_for_routines_agrees_with_the_search_of_all_runs_at_length(first: int, tmp_path: Path) -> None:
    _agree(tmp_path, range(first, first + BATCH_OPEN), random_waits)
    _agree_openly(tmp_path, range(first, first + BATCH_OPEN), random_waits)
