"""modelcheck as it is measured: whole processes as a user waits for them, and its engine alone, in this process."""

from __future__ import annotations

import gc
import json
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import Answer, Process, python
from modelcheck.engines.analyse import Analysis, Broken, Held, Limits, Open
from modelcheck.engines.deadlock import Deadlock
from modelcheck.engines.finding import Deadlocked, Excluded, Ranked
from modelcheck.evidence import meetings
from modelcheck.evidence.certify import certify
from modelcheck.evidence.conditions import Pool, conditions, formula_conditions, life_conditions
from modelcheck.evidence.meetings import Grounds
from modelcheck.lower import Lowered

PROCESS = "modelcheck, process"
ENGINE = "modelcheck, engine"
VERDICTS = {0: "safe", 1: "unsafe", 3: "unknown"}
"""By exit status."""

Results = list[dict[str, Any]]


def verify(path: Path, *flags: str) -> Process:
    return python("-m", "modelcheck", "verify", *flags, str(path))


def whole(path: Path, complaint: Callable[[Results], str] | None = None) -> Answer:
    """A whole `modelcheck verify`; `complaint`: what is wrong with the results in detail."""
    done = verify(path, "-q", *(("--format", "json") if complaint else ()))
    if done.status not in VERDICTS:
        return Answer("unknown", done.seconds, done.megabytes, wrong=f"exit {done.status}: {done.output[-200:]}")
    wrong, note = "", ""
    if complaint is not None:
        results = json.loads(done.output)["files"][0]["report"]["results"]
        wrong = complaint(results)
        unknown = sum(result["verdict"] == "unknown" for result in results)
        note = f"{unknown} of {len(results)} unknown" if unknown else ""
    return Answer(VERDICTS[done.status], done.seconds, done.megabytes, note, wrong)


@dataclass(frozen=True, slots=True)
class Certified:
    """A driver that the engine has been through: seconds from graphs to certified verdicts."""

    seconds: float
    analysis: Analysis

    def verdict(self, numbers: Iterable[int]) -> str:
        """About some obligations together."""
        decisions = [self.analysis.decisions.get(number) for number in numbers]
        if any(isinstance(decision, Broken) for decision in decisions):
            return "unsafe"
        return "safe" if all(isinstance(decision, Held) for decision in decisions) else "unknown"


def certified(lowered: Lowered) -> Certified:
    """Fixpoint, conditions and their check by Z3."""
    with uncollected():
        started = time.perf_counter()
        analysis = _analysed(lowered)
        return Certified(time.perf_counter() - started, analysis)


def engine(lowered: Lowered, numbers: Iterable[int]) -> Answer:
    """What `certified` says of some obligations; it is always about all that one context alone can break."""
    done = certified(lowered)
    return Answer(done.verdict(numbers), done.seconds, 0)


def meeting(lowered: Lowered) -> Answer:
    """The same and all about deadlocks: positions, order, rings, and the conditions of these proofs."""
    with uncollected():
        started = time.perf_counter()
        analysis = _analysed(lowered)
        deadlock = Deadlock(lowered, analysis, Limits(), lambda _: frozenset(), analysis.held)
        deadlock.run(strict=False)
        proved = sorted(n for n, found in deadlock.findings.items() if isinstance(found, Ranked | Excluded))
        never = {q: n for asked in deadlock.rounds for q, n in zip(asked.questions, asked.never, strict=True)}
        pool = Pool()
        for asked in deadlock.rounds:
            for number, invariant in enumerate(asked.answers.invariants):
                conditions(invariant, number, invariant.roots, pool)
        grounds = Grounds(lowered, deadlock.situation, deadlock.cases, never, analysis.held, deadlock.splits)
        meetings.conditions(grounds, proved, pool)
        _check(pool)
        seconds = time.perf_counter() - started
    found = deadlock.findings.values()
    if any(isinstance(one, Deadlocked) for one in found):
        return Answer("unsafe", seconds, 0)
    return Answer("unknown" if any(isinstance(one, Open) for one in found) else "safe", seconds, 0)


def _analysed(lowered: Lowered) -> Analysis:
    analysis = Analysis(lowered, Limits())
    analysis.run()
    pool = Pool()
    for number, invariant in enumerate(analysis.invariants):
        conditions(invariant, number, lowered.roots, pool)
    for number, formula in enumerate(analysis.formulas):
        formula_conditions(formula, -1 - number, lowered.roots, pool)
    life_conditions(analysis.invariants, analysis.formulas, lowered.roots, pool)
    _check(pool)
    return analysis


def _check(pool: Pool) -> None:
    checked = certify(pool, 60_000)
    assert not checked.rejected
    assert not checked.unanswered


@contextmanager
def uncollected() -> Iterator[None]:
    """Without garbage collection, as on the command line, from a clean start."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def middle(measure: Callable[[], float], times: int) -> float:
    return statistics.median(measure() for _ in range(times))
