"""Worker processes that can be killed: at their limit, and when whoever started them is gone.

`Workers` is an executor as `concurrent.futures` has them, with a limit for each call. A process that dies takes one
call with it, and that call's future says how it died. Nobody waits longer than the limit.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import struct
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import IO, Any

from modelcheck.record import dataclass

LENGTH = struct.Struct(">Q")


class WorkerDied(Exception):
    """A worker process ended without an answer; the message says how."""


class OverLimit(Exception):
    """A call took longer than its limit, and its process was killed."""


def send(stream: IO[bytes], value: Any) -> None:
    import pickle  # only here and below: a run in one process loads neither this nor subprocess

    content = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    stream.write(LENGTH.pack(len(content)))
    stream.write(content)
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    """
    Raises:
        EOFError: the other side is gone, perhaps in the middle of a value.
    """
    import pickle

    (length,) = LENGTH.unpack(_exactly(stream, LENGTH.size))
    return pickle.loads(_exactly(stream, length))


def _exactly(stream: IO[bytes], length: int) -> bytes:
    content = stream.read(length)
    if len(content) != length:
        raise EOFError
    return content


class Process:
    """One worker process, in a process group of its own: Ctrl-C is for whoever started it."""

    def __init__(self) -> None:
        import subprocess

        # Not `-m`: that would let a module in the folder of the models stand in for one of ours.
        start = "import sys; sys.path.append(sys.argv[1]); from modelcheck.gate.worker import main; main()"
        command = [sys.executable, "-P", "-c", start, str(Path(__file__).parents[2])]
        self._child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._requests, self._replies = self._child.stdin, self._child.stdout
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        try:
            while True:
                self._answers.put(receive(self._replies))
        except Exception:  # whatever cannot be read as an answer is none
            self._answers.put(EOFError)
        finally:
            self._replies.close()

    def call(self, fn: Callable[..., Any], arguments: tuple[Any, ...], limit: float | None) -> Any:
        """What the function gives back there.

        Raises:
            WorkerDied, OverLimit: the process is no longer of use.
        """
        try:
            send(self._requests, (fn, arguments))
            answer = self._answers.get(timeout=limit)
        except queue.Empty:
            self.kill()
            raise OverLimit from None
        except OSError:
            answer = EOFError
        if answer is EOFError:
            raise WorkerDied(self._end())
        good, value = answer
        if not good:
            raise value
        return value

    def _end(self) -> str:
        import subprocess

        try:
            status = self._child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "its worker process fell silent"
        finally:
            self.kill()
        if status >= 0:
            return f"its worker process ended with status {status}"
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        return f"its worker process was killed by {name}"

    @property
    def number(self) -> int:
        return self._child.pid

    def kill(self) -> None:
        """Ends it and what it started."""
        if sys.platform != "win32":
            with contextlib.suppress(OSError):
                os.killpg(self._child.pid, signal.SIGKILL)
        self._child.kill()
        self._child.wait()
        with contextlib.suppress(OSError):
            self._requests.close()
        self._listener.join(timeout=5)


@dataclass(frozen=True, slots=True)
class Call:
    """What waits for a worker. `limit` in seconds."""

    future: Future[Any]
    fn: Callable[..., Any]
    arguments: tuple[Any, ...]
    limit: float | None


class Workers(Executor):
    """So many worker processes, started when there is work. `limit` are the seconds for one call, None for no limit.

    `began` and `ended` are told which slot works on which call's arguments, for whoever shows the progress.
    """

    def __init__(
        self,
        count: int,
        limit: float | None = None,
        began: Callable[[int, tuple[Any, ...]], None] | None = None,
        ended: Callable[[int], None] | None = None,
    ) -> None:
        self._limit = limit
        self._began, self._ended = began, ended
        self._waiting: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._processes: dict[int, Process] = {}
        self._guard = threading.Lock()
        self._closed = False
        self._threads = [threading.Thread(target=self._serve, args=(slot,), daemon=True) for slot in range(count)]
        for thread in self._threads:
            thread.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if kwargs:
            raise TypeError("arguments by position only")
        return self.submit_within(self._limit, fn, *args)

    def submit_within(self, limit: float | None, fn: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Like `submit`, with a limit of its own."""
        with self._guard:
            if self._closed:
                raise RuntimeError("the workers have been sent home")
        call = Call(Future(), fn, args, limit)
        self._waiting.put(call)
        return call.future

    def numbers(self) -> list[int]:
        """The process ids of the workers that run."""
        with self._guard:
            return [process.number for process in self._processes.values()]

    def _serve(self, slot: int) -> None:
        while (call := self._waiting.get()) is not None:
            future = call.future
            if not future.set_running_or_notify_cancel():
                continue
            if self._began:
                self._began(slot, call.arguments)
            try:
                answer = self._process(slot).call(call.fn, call.arguments, call.limit)
            except (WorkerDied, OverLimit) as error:
                with self._guard:
                    self._processes.pop(slot, None)
                future.set_exception(error)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(answer)
            if self._ended:
                self._ended(slot)

    def _process(self, slot: int) -> Process:
        with self._guard:
            if self._closed:
                raise WorkerDied("it was not begun")
            if slot not in self._processes:
                self._processes[slot] = Process()
            return self._processes[slot]

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """With `cancel_futures` nothing is waited for: what runs is killed."""
        with self._guard:
            self._closed = self._closed or cancel_futures
            running = list(self._processes.values()) if cancel_futures else []
        if cancel_futures:
            with contextlib.suppress(queue.Empty):
                while (call := self._waiting.get_nowait()) is not None:
                    call.future.cancel()
        for _ in self._threads:
            self._waiting.put(None)
        for process in running:
            process.kill()
        if not wait:
            return
        for thread in self._threads:
            thread.join()
        with self._guard:
            self._closed = True
            rest = list(self._processes.values())
            self._processes.clear()
        for process in rest:
            process.kill()
