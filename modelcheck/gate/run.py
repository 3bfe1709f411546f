"""A run: which files, which answers are kept already, who finds the others, and all of it in the order of the files."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelcheck.garbage import no_collection
from modelcheck.gate.cache import Cache, Hit, contradiction
from modelcheck.gate.task import Answer, Limits, Task, perform
from modelcheck.record import dataclass, field
from modelcheck.report.outcome import Outcome

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

    from modelcheck.gate.progress import Progress

INTERRUPTED = "interrupted before it had a verdict"
SAMPLE = 10
"""With `--cache verify` one in so many kept verdicts is found anew, and at least one."""


@dataclass(frozen=True, slots=True)
class Work:
    """How a run does its work. `jobs`, `executor` as the settings have them; `certificate`: reports carry theirs."""

    limits: Limits = field(default_factory=Limits)
    certificate: bool = False
    jobs: int = 1
    executor: str | None = None
    verify_cache: bool = False


@dataclass(slots=True)
class Run:
    """The files of a run on their way to outcomes.

    `complaints` are faults to tell about, file by file. After Ctrl-C `missing` names the files without a verdict.
    """

    files: Sequence[Path]
    work: Work
    cache: Cache | None = None
    progress: Progress | None = None
    hits: int = 0
    rechecked: int = 0
    interrupted: bool = False
    missing: list[str] = field(default_factory=list)
    _waiting: bool = False

    @contextlib.contextmanager
    def catching(self) -> Iterator[None]:
        """Ctrl-C ends the work and nothing else in here; a second one ends everything."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, self._interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _interrupt(self, _number: int, _frame: object) -> None:
        again, self.interrupted = self.interrupted, True
        if self._waiting or again:
            raise KeyboardInterrupt

    def answers(self) -> Iterator[Answer]:
        """One for each file, in order. Ctrl-C ends the work, not the answers: a file without one says so."""
        with no_collection():  # all of it is kept to the end
            found = {path: hit for path in self.files if (hit := self._find(path)) is not None}
            gc.freeze()
        doubted = _sample(list(found.values())) if self.work.verify_cache else set()
        asked = [p for p in self.files if p not in found or found[p].key in doubted]
        if not asked:
            self.hits = len(found)
            for path in self.files:
                yield Answer(Outcome(str(path), found[path].report))
            return
        yield from self._with_work(found, set(asked))

    def _find(self, path: Path) -> Hit | None:
        return self.cache.find(str(path), self.work.limits, self.work.certificate) if self.cache else None

    def _with_work(self, found: dict[Path, Hit], asked: set[Path]) -> Iterator[Answer]:
        from modelcheck.gate.executors import Here, executor_for

        executor = executor_for(self.work.executor, self.work.jobs, self.work.limits.timeout, self.progress)
        here = isinstance(executor, Here)
        if self.progress:
            self.progress.start()
        try:
            futures: dict[Path, Future[Any]] = {}
            if not here:
                futures = {path: executor.submit(perform, self._task(path)) for path in self.files if path in asked}
                for future in futures.values():
                    future.add_done_callback(self._count)
            for path in self.files:
                if path not in asked:
                    self.hits += 1
                    if here and self.progress:
                        self.progress.finished()
                    yield Answer(Outcome(str(path), found[path].report))
                    continue
                answer = self._answer(path, executor, futures)
                if path in found and not self.interrupted:
                    answer = self._compared(found[path], answer)
                yield answer
        finally:
            executor.shutdown(wait=not self.interrupted, cancel_futures=True)

    def _count(self, _: object) -> None:
        if self.progress:
            self.progress.finished()

    def _answer(self, path: Path, executor: Executor, futures: dict[Path, Future[Any]]) -> Answer:
        """What becomes of a file that has to be worked on."""
        try:
            if self.interrupted:
                return self._rest(path, executor, futures)
            self._waiting = True
            try:
                answer = self._wait(path, executor, futures)
            finally:
                self._waiting = False
            return self._kept(answer)
        except KeyboardInterrupt:
            self.interrupted = True
            answer = self._rest(path, executor, futures)
            if futures:
                executor.shutdown(wait=False, cancel_futures=True)
            return answer

    def _wait(self, path: Path, executor: Executor, futures: dict[Path, Future[Any]]) -> Answer:
        from modelcheck.gate.executors import settled

        task = self._task(path)
        if path in futures:
            return settled(futures.pop(path), executor, task)
        if self.progress:
            self.progress.began(0, (task,))
        answer = settled(executor.submit(perform, task), executor, task)
        if self.progress:
            self.progress.ended(0)
            self.progress.finished()
        return answer

    def _rest(self, path: Path, executor: Executor, futures: dict[Path, Future[Any]]) -> Answer:
        """After Ctrl-C: what is there already, and nothing else."""
        future = futures.get(path)
        if future is not None and future.done() and not future.cancelled() and future.exception() is None:
            return self._kept(self._wait(path, executor, futures))
        self.missing.append(str(path))
        return Answer(Outcome(str(path), crashed=INTERRUPTED))

    def _kept(self, answer: Answer) -> Answer:
        if self.cache and answer.entry:
            self.cache.keep(answer.entry)
        return answer

    def _compared(self, hit: Hit, answer: Answer) -> Answer:
        """A kept verdict beside the one found anew: they agree, or nothing is believed."""
        self.rechecked += 1
        fresh = answer.outcome.report
        if fresh is None:
            return answer
        wrong = contradiction(hit.report, fresh)
        if not wrong:
            return answer
        if self.cache:
            self.cache.forget(hit.key)
        why = f"the cache does not agree: {wrong}"
        return Answer(Outcome(answer.outcome.path, crashed=why), f"{answer.outcome.path}: {why}")

    def _task(self, path: Path) -> Task:
        keep_under = self.cache.program_hash if self.cache else ""
        return Task(str(path), self.work.limits, self.work.certificate, keep_under, os.getcwd())


def _sample(hits: list[Hit]) -> set[str]:
    """The keys of those to be found anew, others each time."""
    import random

    count = -(-len(hits) // SAMPLE)
    return {hit.key for hit in random.sample(hits, count)}
