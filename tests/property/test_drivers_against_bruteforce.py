"""Deadlocks and races of random drivers in the open world, against a search of all runs of a few contexts.

What the search breaks must not be proved: two contexts on two processors are among any number. What the engine breaks
it shows by a schedule that replays, so nothing is to be compared there. Few answers may be unknown."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from modelcheck.pipeline import Options, load, verify
from modelcheck.verdict import Proved, Violated
from tests.concurrent_bruteforce import TooManyStates, environments, explore_open
from tests.random_drivers import random_driver

MEETINGS = Options(only=frozenset({"D01", "D02", "D03", "R03"}))
CONTEXTS, PROCESSORS = 2, 2
LIMIT = 6_000


def wrongly_proved(seed: int, folder: Path) -> tuple[list[str], Counter[str]]:
    """The obligations proved that a few contexts break, and how many got which verdict."""
    path = folder / "driver.drvm"
    path.write_text(random_driver(seed), encoding="utf-8")
    report = verify(path, MEETINGS)
    counts = Counter(type(result.verdict).__name__ for result in report.results)
    program, _ = load(path)
    try:
        found = explore_open(program, environments(program), CONTEXTS, PROCESSORS, LIMIT)
    except TooManyStates:
        return [], counts
    wrong = []
    for result in report.results:
        failures = found.certain
        if isinstance(result.verdict, Proved) and any(f.breaks(result.obligation) for f in failures):
            wrong.append(f"seed {seed}: {result.obligation.id}")
        if isinstance(result.verdict, Violated):
            assert result.verdict.replayed
    return wrong, counts


@pytest.mark.parametrize("first", range(0, 60, 10))
def test_nothing_is_proved_that_two_contexts_break(first: int, tmp_path: Path) -> None:
    total: Counter[str] = Counter()
    for seed in range(first, first + 10):
        wrong, counts = wrongly_proved(seed, tmp_path)
        assert not wrong
        total += counts
    assert total["Undecided"] * 10 <= sum(total.values())


@pytest.mark.slow
@pytest.mark.parametrize("first", range(60, 3000, 60))
def test_nothing_is_proved_that_two_contexts_break_at_length(first: int, tmp_path: Path) -> None:
    for seed in range(first, first + 60):
        wrong, _ = wrongly_proved(seed, tmp_path)
        assert not wrong
