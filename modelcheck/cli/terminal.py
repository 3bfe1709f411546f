"""What is said to the person who runs a command: complaints, colours, the width of lines."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from modelcheck.diagnostics import Diagnostic
    from modelcheck.report.text import Style


def say(message: str) -> None:
    """A word on stderr for whoever runs this. Where nobody listens, the exit status still tells."""
    with contextlib.suppress(OSError):
        print(f"modelcheck: {message}", file=sys.stderr, flush=True)


def complain(message: str, code: int) -> int:
    """Says it; gives back the exit status."""
    say(message)
    return code


def version() -> str:
    """The version that is installed."""
    from modelcheck import __version__

    return __version__


def style(stream: TextIO, width: int | None) -> Style:
    """Colour on a terminal only, and not where NO_COLOR asks for none."""
    from modelcheck.report.text import MIN_WIDTH, Style

    terminal = stream.isatty()
    colour = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    if width is None:
        width = 80
        if terminal:
            import shutil

            width = max(MIN_WIDTH, min(shutil.get_terminal_size().columns, 120))
    return Style(width, colour)


def show_rejected(diagnostics: Sequence[Diagnostic], width: int | None) -> None:
    """Why a model is refused, on stderr."""
    from modelcheck.render import render

    look = style(sys.stderr, width)
    sys.stdout.flush()
    for diagnostic in diagnostics:
        print(render(diagnostic, look.width, look.colour).rstrip("\n"), file=sys.stderr, end="\n\n")
