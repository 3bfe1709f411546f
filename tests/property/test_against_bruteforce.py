"""The engines against a search of all runs: what some run fails is never proved, what is violated some run fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelcheck.pipeline import Options, verify
from modelcheck.resolve import resolve
from modelcheck.verdict import MUTUAL, Obligation, Proved, Violated
from tests.bruteforce import Explored, analyse
from tests.random_models import random_model

FEW, MANY = 150, 3000
BATCH = 25
OPTIONS = Options(steps=40_000, timeout=10.0)
MAX_STATES = 1_500


def disagreements(path: Path) -> list[str]:
    """Where the report on a model and the search of its runs contradict each other."""
    runs = analyse(resolve(path), MAX_STATES)
    report = verify(path, OPTIONS)
    complete = all(found.complete for found in runs.values())
    wrong = []
    for result in report.results:
        obligation, verdict = result.obligation, result.verdict
        if obligation.code in MUTUAL:
            continue
        broken = any(found.breaks(obligation) for found in runs.values())
        if isinstance(verdict, Proved) and broken:
            wrong.append(f"proved, but a run fails it: {obligation.id} ({obligation.why})")
        if isinstance(verdict, Violated) and not verdict.replayed:
            wrong.append(f"not replayed: {obligation.id}")
        if isinstance(verdict, Violated) and complete and not broken and obligation.routine:
            wrong.append(f"violated, but no run fails it: {obligation.id} ({obligation.why})")
    return wrong + [f"not an obligation: {text}" for text in _unlisted(runs, [r.obligation for r in report.results])]


def _unlisted(runs: dict[str, Explored], obligations: list[Obligation]) -> list[str]:
    """Failures of runs for which the report has no line."""
    failures = {f for found in runs.values() for f in found.failures}
    missing = [f for f in failures if not any(f.breaks(o) for o in obligations)]
    return sorted(f"{f.code} {f.routine}:{f.span.line} {f.subject} {f.why}" for f in missing)


def _agree(folder: Path, seeds: range) -> None:
    wrong = []
    for seed in seeds:
        path = folder / f"random{seed}.drvm"
        path.write_text(random_model(seed), encoding="utf-8")
        wrong += [f"seed {seed}: {text}" for text in disagreements(path)]
    assert wrong == []


@pytest.mark.parametrize("first", range(0, FEW, BATCH))
def test_engines_agree_with_the_search_of_all_runs(first: int, tmp_path: Path) -> None:
    _agree(tmp_path, range(first, first + BATCH))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(FEW, MANY, BATCH))
def test_engines_agree_with_the_search_of_all_runs_at_length(first: int, tmp_path: Path) -> None:
    _agree(tmp_path, range(first, first + BATCH))
