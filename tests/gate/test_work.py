"""Whoever does the work, the same bytes come out; whoever does not, it is not green."""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest

from modelcheck.gate.executors import Elsewhere, Here, died, executor_for, perform_guarded, settled
from modelcheck.gate.progress import Progress
from modelcheck.gate.task import Answer, Limits, Task, perform
from modelcheck.gate.workers import OverLimit, WorkerDied, Workers
from modelcheck.report.paths import Usage

from .conftest import LEAKS, SOUND, TINY, UNKNOWN, Tree, slow


@pytest.fixture
def workers() -> Iterator[Workers]:
    made = Workers(1, 20.0)
    yield made
    made.shutdown(cancel_futures=True)


def task(tree: Tree, name: str, timeout: float | None = None) -> Task:
    return Task(name, Limits(timeout=timeout), False, "", str(tree.folder))


@pytest.mark.parametrize("looking", [True, False])
def test_garbage_is_looked_for_as_before_when_a_file_is_done(
    looking: bool, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose process it is decides that: an executor's goes on with other work."""
    tree.write("a.drvm", SOUND)
    monkeypatch.chdir(tree.folder)
    before = gc.isenabled()
    (gc.enable if looking else gc.disable)()
    try:
        assert perform(task(tree, "a.drvm")).outcome.report is not None
        assert gc.isenabled() is looking
    finally:
        (gc.enable if before else gc.disable)()


# ---- worker processes ----


def test_a_worker_gives_back_what_a_function_does(workers: Workers) -> None:
    assert workers.submit(pow, 2, 10).result(timeout=20) == 1024


def test_what_is_printed_in_a_worker_is_no_answer(workers: Workers) -> None:
    assert workers.submit(os.write, 1, b"").result(timeout=20) == 0
    assert workers.submit(print, "noise").result(timeout=20) is None
    assert workers.submit(pow, 2, 3).result(timeout=20) == 8


def test_an_exception_comes_back_and_the_worker_goes_on(workers: Workers) -> None:
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        workers.submit(divmod, 1, 0).result(timeout=20)
    (before,) = workers.numbers()
    assert workers.submit(os.getpid).result(timeout=20) == before


@pytest.mark.parametrize(
    ("call", "how"),
    [
        ((os.abort,), "killed by SIGABRT"),
        ((os._exit, 3), "ended with status 3"),
        ((os._exit, 0), "ended with status 0"),
    ],
)
def test_a_worker_that_dies_says_how_and_is_replaced(call: tuple[Any, ...], how: str, workers: Workers) -> None:
    with pytest.raises(WorkerDied, match=how):
        workers.submit(*call).result(timeout=20)
    assert workers.submit(pow, 2, 3).result(timeout=20) == 8


def test_a_call_over_its_limit_is_killed(workers: Workers) -> None:
    started = time.monotonic()
    with pytest.raises(OverLimit):
        workers.submit_within(0.5, time.sleep, 60).result(timeout=20)
    assert time.monotonic() - started < 10
    assert workers.submit(pow, 2, 3).result(timeout=20) == 8


def test_shutdown_kills_what_runs_and_cancels_what_waits() -> None:
    workers = Workers(1)
    running, waiting = workers.submit(time.sleep, 60), workers.submit(pow, 2, 3)
    while not workers.numbers():
        time.sleep(0.01)
    workers.shutdown(cancel_futures=True)
    with pytest.raises(WorkerDied):
        running.result(timeout=10)
    assert waiting.cancelled()
    with pytest.raises(RuntimeError):
        workers.submit(pow, 2, 3)


def test_a_module_in_the_folder_of_the_models_is_not_run(tree: Tree) -> None:
    tree.write("a.drvm", SOUND)
    tree.write("z3.py", "raise SystemExit('not this one')\n")
    tree.write("modelcheck.py", "raise SystemExit('not this one')\n")
    assert tree.verify("--timeout", "100", "a.drvm", PYTHONSAFEPATH="1").status == 0


# ---- the same bytes ----


def test_the_same_bytes_for_any_number_of_workers(tree: Tree) -> None:
    for number in range(4):
        tree.write(f"{number}.drvm", (SOUND, LEAKS, UNKNOWN, TINY)[number])
    tree.write("broken.drvm", "driver broken;\nroutine R( {\n")
    reports = ("--format", "text", *(f"--format={name}=out.{name}" for name in ("json", "sarif", "junit", "markdown")))
    seen = []
    for jobs in (["-j", "1"], ["-j", "3"], ["--executor", "concurrent.futures:ProcessPoolExecutor"]):
        done = tree.verify("--cache", "off", *reports, *jobs, ".")
        written = [path.read_bytes() for path in sorted(tree.folder.glob("out.*"))]
        seen.append((done, written))
    assert seen[0] == seen[1] == seen[2]
    assert seen[0][0].status == 2


def test_five_hundred_models(tree: Tree) -> None:
    for number in range(500):
        tree.write(f"m{number:03}.drvm", TINY.replace("driver tiny", f"driver m{number:03}"))
    done = tree.verify("-q", "-j", "2", ".")
    assert done.status == 0
    lines = done.out.splitlines()
    assert lines[:2] == ["m000: 2 proved, 0 violated, 0 unknown", "m001: 2 proved, 0 violated, 0 unknown"]
    assert lines[-1] == "500 files: 1000 proved, 0 violated, 0 unknown"
    assert tree.verify("-q", ".").out == done.out


# ---- executors ----


def test_an_executor_by_name_or_why_not() -> None:
    assert isinstance(executor_for(None, 1, None), Here)
    for wrong in ("nothing", "no_such_module:Thing", "concurrent.futures:NoSuchThing", "http://x:1"):
        with pytest.raises(Usage):
            executor_for(wrong, 1, None)


class Loses(Executor):
    """Loses whatever it is given."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_exception(ConnectionError("lost"))
        return future


class Babbles(Executor):
    """Gives back something else."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result("proved")
        return future


@pytest.mark.parametrize(("inner", "how"), [(Loses(), "ConnectionError: lost"), (Babbles(), "no answer")])
def test_work_that_is_lost_is_no_verdict(inner: Executor, how: str, tree: Tree) -> None:
    tree.write("a.drvm", SOUND)
    executor, asked = Elsewhere(inner), task(tree, "a.drvm")
    answer = settled(executor.submit(perform, asked), executor, asked)
    assert how in answer.outcome.crashed
    assert answer.outcome.report is None


def test_another_version_there_is_no_verdict_here(tree: Tree) -> None:
    tree.write("a.drvm", SOUND)
    answer = perform_guarded(task(tree, "a.drvm"), "another program")
    assert "another version" in answer.outcome.crashed


def test_a_limit_holds_on_somebody_elses_executor(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.write("slow.drvm", slow())
    monkeypatch.chdir(tree.folder)
    executor = executor_for("concurrent.futures:ThreadPoolExecutor", 1, 0.5)
    asked = task(tree, "slow.drvm", 0.5)
    answer = settled(executor.submit(perform, asked), executor, asked)
    executor.shutdown()
    assert answer.outcome.report is not None
    assert len(answer.outcome.report.undecided) == len(answer.outcome.report.results) > 1000


def test_dask_with_a_worker_killed_during_the_run(tree: Tree) -> None:
    """A real scheduler and real workers; one of them is killed while it works, and nothing of the report shows it."""
    distributed = pytest.importorskip("distributed")
    for number in range(6):
        text = slow(40).replace("driver slow", f"driver m{number}") if number else LEAKS
        tree.write(f"m{number}.drvm", text)
    here = tree.verify("-q", "--cache", "off", ".")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        address = cluster.scheduler_address.removeprefix("tcp://")
        process = tree.start("verify", "-q", "--cache", "off", "--executor", f"dask://{address}", ".")
        victim = _busy_worker(cluster)
        os.kill(victim, signal.SIGKILL)
        out, err = process.communicate(timeout=100)
    assert (process.returncode, out) == (here.status, here.out), err
    assert here.status == 1


def _busy_worker(cluster: Any) -> int:
    """The process id of a worker that has work, once there is one."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        for state in list(cluster.scheduler.workers.values()):
            if state.processing:
                worker = cluster.workers.get(state.name)
                if worker is not None and worker.pid:
                    time.sleep(0.3)
                    return int(worker.pid)
        time.sleep(0.01)
    raise AssertionError("no worker has work")


# ---- progress ----


class Recorder:
    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass


def test_progress_has_a_line_for_each_worker_and_wipes_it() -> None:
    stream: Any = Recorder()
    progress = Progress(stream, 3, True)
    progress.began(0, (Task("a.drvm", Limits(), False, "", "."),))
    progress.began(1, (Task("long/" * 30 + "b.drvm", Limits(), False, "", "."),))
    progress.finished()
    lines = progress.lines(80)
    assert lines[0] == "1/3 files  worker 1: 0 s a.drvm"
    assert lines[1].endswith("/b.drvm")
    assert all(len(line) <= 80 for line in lines)
    progress._redraw()
    with progress.paused():
        assert stream.text.endswith("\x1b[2F\x1b[J")
        stream.write("a report\n")
    progress.wipe()
    assert stream.text.endswith("a report\n"), "nothing of a report is wiped"
    progress.ended(0)
    progress.ended(1)
    assert progress.lines(80) == ["1/3 files"]


def test_a_short_run_shows_nothing(tree: Tree) -> None:
    tree.write("a.drvm", TINY)
    assert tree.verify("a.drvm").err == ""


def test_progress_starts_and_ends() -> None:
    stream: Any = Recorder()
    progress = Progress(stream, 1, True)
    progress.start()
    time.sleep(1.5)
    progress.close()
    assert "0/1 files" in stream.text
    assert stream.text.endswith("\x1b[J")


def test_who_died_is_told(tree: Tree) -> None:
    answer = died(task(tree, "a.drvm"), "lost")
    assert isinstance(answer, Answer)
    assert answer.complaint == "a.drvm: no verdict: lost"
    assert Path(answer.outcome.path) == Path("a.drvm")
