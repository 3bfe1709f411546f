"""Diagnostics as text: code, message, the place with its source line, notes and help.

error[E0201]: `QueueLok` is not declared
  --> toaster.drvm:12:27
   |
12 |     KeAcquireSpinLock(&QueueLok, &old);
   |                        ^^^^^^^^
   = help: did you mean `QueueLock`?
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from modelcheck.diagnostics import Diagnostic, Note
from modelcheck.source import Span

MIN_WIDTH = 40
TAB = 4

_RED, _YELLOW, _BLUE, _BOLD, _END = "\x1b[1;31m", "\x1b[1;33m", "\x1b[1;34m", "\x1b[1m", "\x1b[0m"


def render(diagnostic: Diagnostic, width: int = 120, colour: bool = False) -> str:
    """One finding as lines of at most `width` columns where the source is shown; no newline at the end.

    Control characters of the source are never passed on to the terminal.
    """
    paint = _Paint(colour)
    error = diagnostic.code.is_error
    word = paint("error" if error else "warning", _RED if error else _YELLOW)
    lines = [f"{word}[{diagnostic.code}]: {paint(_visible(diagnostic.message), _BOLD)}"]
    spans = [span for span in (diagnostic.span, *(n.span for n in diagnostic.notes)) if span is not None]
    gutter = max((len(str(span.line)) for span in spans), default=1)
    if diagnostic.span is not None:
        mark = _RED if error else _YELLOW
        lines += _place(diagnostic.span, "-->", gutter, width, paint, mark)
    for note in diagnostic.notes:
        lines += _note(note, gutter, width, paint)
    if diagnostic.help is not None:
        lines.append(f"{' ' * gutter} {paint('=', _BLUE)} {paint('help', _BOLD)}: {_visible(diagnostic.help)}")
    return "\n".join(lines)


def render_all(diagnostics: Iterable[Diagnostic], width: int = 120, colour: bool = False) -> str:
    """All findings, an empty line between them, and how many there are."""
    some = list(diagnostics)
    errors = sum(d.code.is_error for d in some)
    counted = ((errors, "error"), (len(some) - errors, "warning"))
    total = ", ".join(f"{n} {word}{'' if n == 1 else 's'}" for n, word in counted if n)
    return "\n\n".join([*(render(d, width, colour) for d in some), *([total] if total else [])])


def excerpt(span: Span, width: int = 120, colour: bool = False) -> list[str]:
    """The source line of a place with carets below it, as lines of at most `width` columns; none for a blank line."""
    return _place(span, "-->", max(2, len(str(span.line))), width, _Paint(colour), _RED)[1:]


class _Paint:
    def __init__(self, colour: bool) -> None:
        self.colour = colour

    def __call__(self, text: str, code: str) -> str:
        return f"{code}{text}{_END}" if self.colour else text


def _note(note: Note, gutter: int, width: int, paint: _Paint) -> list[str]:
    lines = [f"{' ' * gutter} {paint('=', _BLUE)} {paint('note', _BOLD)}: {_visible(note.message)}"]
    return lines if note.span is None else lines + _place(note.span, "-->", gutter, width, paint, _BLUE)


def _place(span: Span, arrow: str, gutter: int, width: int, paint: _Paint, mark: str) -> list[str]:
    """Where it is, the source line, and carets below it."""
    pad, bar = " " * gutter, paint("|", _BLUE)
    where = f"{pad}{paint(arrow, _BLUE)} {_visible(str(span))}"
    line = span.source.line(span.line)
    if not line.strip():
        return [where]
    start = span.column - 1
    length = max(1, min(span.end - span.start, len(line) - start))
    shown, column, carets = _excerpt(line, start, length, max(width, MIN_WIDTH) - gutter - 3)
    number = paint(f"{span.line:>{gutter}}", _BLUE)
    return [where, f"{pad} {bar}", f"{number} {bar} {shown}", f"{pad} {bar} {' ' * column}{paint('^' * carets, mark)}"]


def _excerpt(line: str, start: int, length: int, room: int) -> tuple[str, int, int]:
    """The part of a line to show, the column of the first caret in it, and how many carets.

    Only what can be seen is looked at, so that a line of many megabytes costs nothing.
    """
    first = 0 if start + min(length, room // 2) < room - 3 else start - room // 3
    cut = line[first : first + room]
    before, marked = _visible(line[first:start]), _visible(line[start : start + length][: room + 1])
    text = _visible(cut)
    lead = "..." if first > 0 else ""
    column = _columns(lead) + _columns(before)
    tail = "..." if first + room < len(line) or _columns(lead + text) > room else ""
    shown = _fit(lead + text, room - len(tail)) + tail
    carets = max(1, min(_columns(marked), room - len(tail) - column))
    return shown.rstrip(), column, carets


def _fit(text: str, room: int) -> str:
    """As much of the text as fits into `room` columns."""
    used = 0
    for index, character in enumerate(text):
        used += _columns(character)
        if used > room:
            return text[:index]
    return text


def _visible(text: str) -> str:
    """Tabs as blanks; what a terminal would act on, or what hides in the text, as a replacement character."""
    return "".join(c if c.isprintable() else " " * TAB if c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def _columns(text: str) -> int:
    """How many columns a terminal needs for printable text."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
