"""The inside of a worker process: reads calls, writes what they give back, until its input ends.

Its input ends when whoever started it is gone, however that came about: then it ends at once with all it started, also
in the middle of a question to a solver.
"""

from __future__ import annotations

import contextlib
import gc
import os
import queue
import signal
import sys
import threading
from typing import IO, Any, NoReturn

from modelcheck.gate.workers import receive, send


def main() -> NoReturn:
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what anybody prints here is no answer
    gc.disable()  # each call collects what the one before has left
    calls: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, calls), daemon=True).start()
    while True:
        fn, arguments = calls.get()
        try:
            reply = (True, fn(*arguments))
        except Exception as error:
            reply = (False, RuntimeError(f"{type(error).__name__}: {error}"))
        send(replies, reply)


def _listen(stream: IO[bytes], calls: queue.SimpleQueue[Any]) -> None:
    try:
        while True:
            calls.put(receive(stream))
    finally:
        _end()


def _end() -> NoReturn:
    if sys.platform != "win32" and os.getpgrp() == os.getpid():
        with contextlib.suppress(OSError):
            os.killpg(0, signal.SIGKILL)
    os._exit(1)
