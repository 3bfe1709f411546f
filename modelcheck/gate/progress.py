"""What is going on, for whoever waits: a line for each worker on a terminal, a line now and then elsewhere.

All of it goes to stderr, is wiped before anything else is printed, and says nothing that a report says.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Iterator
from typing import Any, TextIO

from modelcheck.record import dataclass, field

TERMINAL_SECONDS = 0.2
PIPE_SECONDS = 30.0
FIRST_SECONDS = 1.0
"""A run that is shorter shows nothing."""


@dataclass(slots=True)
class Progress:
    """`total` files, of which `done` are. `began` and `ended` may be called from any thread."""

    stream: TextIO
    total: int
    terminal: bool
    done: int = 0
    _active: dict[int, tuple[str, float]] = field(default_factory=dict)
    _lines: int = 0
    _guard: Any = field(default_factory=threading.RLock)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._tick, daemon=True)
        self._thread.start()

    def began(self, slot: int, arguments: tuple[Any, ...]) -> None:
        with self._guard:
            self._active[slot] = (arguments[0].path, time.monotonic())

    def ended(self, slot: int) -> None:
        with self._guard:
            self._active.pop(slot, None)

    def finished(self) -> None:
        """One more file has its verdicts."""
        with self._guard:
            self.done += 1

    def lines(self, width: int) -> list[str]:
        """What is shown now."""
        now = time.monotonic()
        with self._guard:
            active = sorted(self._active.items())
            total = f"{self.done}/{self.total} files"
            if not active:
                return [total]
            return [
                f"{total}  worker {slot + 1}: {now - since:.0f} s {_end_of(path, max(10, width - 40))}"
                for slot, (path, since) in active
            ]

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """While something else is printed on the terminal: nothing is shown."""
        with self._guard:
            self.wipe()
            yield

    def wipe(self) -> None:
        """Takes back what is shown."""
        with self._guard:
            if self._lines:
                self._write(f"\x1b[{self._lines}F\x1b[J")
                self._lines = 0

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self.wipe()

    def _tick(self) -> None:
        if self._stop.wait(FIRST_SECONDS if self.terminal else PIPE_SECONDS):
            return
        while True:
            if self.terminal:
                self._redraw()
            else:
                self._write("".join(f"modelcheck: {line}\n" for line in self.lines(120)))
            if self._stop.wait(TERMINAL_SECONDS if self.terminal else PIPE_SECONDS):
                return

    def _redraw(self) -> None:
        width = shutil.get_terminal_size().columns
        with self._guard:
            lines = [line[: width - 1] for line in self.lines(width)]
            self.wipe()
            self._write("".join(f"{line}\n" for line in lines))
            self._lines = len(lines)

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self.stream.write(text)
            self.stream.flush()


def _end_of(path: str, width: int) -> str:
    """The end of a path: that is where files differ."""
    printable = "".join(c if c.isprintable() else "?" for c in path)
    return printable if len(printable) <= width else f"...{printable[3 - width :]}"
