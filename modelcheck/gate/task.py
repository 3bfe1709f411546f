"""The work on one file, wherever it is done: in this process, in a worker, on another machine."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelcheck.garbage import no_collection
from modelcheck.gate.cache import Entry, entry_of
from modelcheck.gate.fault import told
from modelcheck.record import dataclass, replace
from modelcheck.report.outcome import Outcome

if TYPE_CHECKING:
    from modelcheck.pipeline import Options

QUESTION_SECONDS = 60.0
"""The most for one question to a solver, where a file has no limit that is lower."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What is asked of every file. `budget`: steps of an analysis, None for the usual number; `timeout`: seconds for a
    file, None for no limit."""

    budget: int | None = None
    timeout: float | None = None
    full: bool = False
    only: frozenset[str] = frozenset()
    strict: bool = False

    def said(self) -> list[Any]:
        """All that a verdict can depend on, as JSON."""
        return [self.budget, self.timeout, self.full, sorted(self.only), self.strict]


@dataclass(frozen=True, slots=True)
class Task:
    """One file to decide. `keep_under` is the hash of the program if an entry for the cache is wanted; `folder` where
    relative names begin."""

    path: str
    limits: Limits
    certificate: bool
    keep_under: str
    folder: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a file. `complaint` is what to tell about a fault of ours."""

    outcome: Outcome
    complaint: str = ""
    entry: Entry | None = None


def perform(task: Task) -> Answer:
    """Decides a file. A fault of ours is an answer too."""
    gc.collect(0)  # of the file before, where nobody else looks
    with no_collection():
        return _perform(task)


def _perform(task: Task) -> Answer:
    from modelcheck.diagnostics import Rejected

    try:
        _be_in(task.folder)
        from modelcheck import pipeline

        loaded = pipeline.load(Path(task.path))
        report = pipeline.verify(Path(task.path), _options(task), loaded)
        entry = entry_of(task.keep_under, task.path, task.limits, loaded[0], report) if task.keep_under else None
        return Answer(Outcome(task.path, report), entry=entry)
    except Rejected as error:
        return Answer(Outcome(task.path, rejected=error.diagnostics))
    except Exception as error:
        return Answer(Outcome(task.path, crashed=f"{type(error).__name__}: {error}"), told(error))


def list_only(task: Task, reason: str) -> Answer:
    """The report of a file that nobody decided: all its obligations, each unknown for `reason`."""
    from modelcheck.diagnostics import Rejected
    from modelcheck.verdict import Report, Result, Undecided

    try:
        _be_in(task.folder)
        from modelcheck import pipeline

        program, findings = pipeline.load(Path(task.path))
        found = [
            Result(obligation, Undecided(reason))
            for obligation in pipeline.obligations(Path(task.path), _options(task).ordered)
            if not task.limits.only or obligation.code in task.limits.only
        ]
        return Answer(Outcome(task.path, Report(program.driver, task.path, tuple(found), findings)))
    except Rejected as error:
        return Answer(Outcome(task.path, rejected=error.diagnostics))
    except Exception as error:
        return Answer(Outcome(task.path, crashed=f"{type(error).__name__}: {error}"), told(error))


def _options(task: Task) -> Options:
    from modelcheck.pipeline import Options

    limits = task.limits
    seconds = QUESTION_SECONDS if limits.timeout is None else min(limits.timeout, QUESTION_SECONDS)
    wanted = task.certificate or bool(task.keep_under)
    options = Options(timeout=seconds, full=limits.full, only=limits.only, certificate=wanted, strict=limits.strict)
    return options if limits.budget is None else replace(options, steps=limits.budget)


def _be_in(folder: str) -> None:
    if os.getcwd() != folder:
        os.chdir(folder)
