"""Who does the work: this process, worker processes, or an executor of somebody else's.

Any executor of the interface of `concurrent.futures` will do, on this machine or on others that see the same files.
Wherever a task runs, a process of its own does it there, so that its limit holds and its end is nobody else's.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from modelcheck.gate.cache import program_key
from modelcheck.gate.task import Answer, Task, list_only, perform
from modelcheck.gate.workers import OverLimit, WorkerDied, Workers
from modelcheck.report.outcome import Outcome
from modelcheck.report.paths import Usage

LISTING_SECONDS = 10.0
"""What listing the obligations of a file that was not decided in time may take besides."""
CONNECT_SECONDS = 5.0
"""How long to wait for a scheduler."""


def over_limit(seconds: float) -> str:
    """Why a file is unknown that was not decided in time."""
    return f"not decided within {seconds:g} s (--timeout)"


class Here(Executor):
    """In this process: the work is done when it is submitted."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


class Elsewhere(Executor):
    """An executor of somebody else's. A task that it loses is a task that died."""

    def __init__(self, inner: Executor, close: Callable[[], object] | None = None) -> None:
        self._inner = inner
        self._close = close
        self._program = program_key() or ""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if fn is not perform:
            return self._inner.submit(fn, *args, **kwargs)
        return self._inner.submit(perform_guarded, args[0], self._program)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._inner.shutdown(wait=wait)
        if self._close:
            self._close()


_idle: dict[float | None, list[Workers]] = {}
_guard = threading.Lock()


def perform_guarded(task: Task, program: str) -> Answer:
    """Decides a file in a process of its own, with its limit. The other machine must have the same program."""
    if (program_key() or "") != program:
        return died(task, "the worker runs another version of modelcheck or of Z3")
    limit = task.limits.timeout
    with _guard:
        idle = _idle.setdefault(limit, [])
        workers = idle.pop() if idle else Workers(1, limit)
    try:
        return settled(workers.submit(perform, task), workers, task)
    finally:
        with _guard:
            idle.append(workers)


def settled(future: Future[Any], executor: Executor, task: Task) -> Answer:
    """What a future comes to: its answer; at the limit, all obligations unknown; if its worker died, that."""
    try:
        answer = future.result()
    except OverLimit:
        return _unknown(executor, task)
    except Exception as error:
        return died(task, str(error) if isinstance(error, WorkerDied) else f"{type(error).__name__}: {error}")
    return answer if isinstance(answer, Answer) else died(task, "its worker gave no answer")


def _unknown(executor: Executor, task: Task) -> Answer:
    seconds = task.limits.timeout or 0.0
    reason = over_limit(seconds)
    try:
        if isinstance(executor, Workers):
            answer = executor.submit_within(seconds + LISTING_SECONDS, list_only, task, reason).result()
        else:
            answer = executor.submit(list_only, task, reason).result()
    except Exception:
        return died(task, f"{reason}, nor were its obligations listed")
    return answer if isinstance(answer, Answer) else died(task, reason)


def died(task: Task, how: str) -> Answer:
    return Answer(Outcome(task.path, crashed=how), f"{task.path}: no verdict: {how}")


def executor_for(name: str | None, jobs: int, timeout: float | None, watch: Any = None) -> Executor:
    """The executor asked for.

    Raises:
        Usage: there is none of that name, or nobody answers there.
    """
    if name is None:
        if jobs == 1 and timeout is None:
            return Here()
        began, ended = (watch.began, watch.ended) if watch else (None, None)
        return Workers(jobs, timeout, began, ended)
    if name.startswith("dask://"):
        return _dask(name.removeprefix("dask://"))
    module, separator, attribute = name.partition(":")
    if not separator or "/" in name:
        raise Usage(f"no executor is called {name!r}; dask://HOST:PORT or MODULE:NAME is wanted")
    try:
        made = getattr(importlib.import_module(module), attribute)()
    except Exception as error:
        raise Usage(f"executor {name}: {type(error).__name__}: {error}") from None
    return Elsewhere(made)


def _dask(address: str) -> Executor:
    try:
        distributed: Any = importlib.import_module("distributed")
    except ImportError:
        raise Usage("dask is not installed: pip install 'modelcheck[dask]'") from None
    try:
        client = distributed.Client(f"tcp://{address}", timeout=CONNECT_SECONDS, set_as_default=False)
    except Exception as error:
        raise Usage(f"no Dask scheduler answers at {address}: {type(error).__name__}") from None
    return Elsewhere(client.get_executor(pure=False), client.close)
