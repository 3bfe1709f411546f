"""A model file as text, and places in it.

Everything that is reported points into a `Source` through a `Span` of character offsets; lines and columns are worked
out only when something is printed.
"""

from bisect import bisect_right
from pathlib import Path

from modelcheck.record import dataclass, field


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """One file's text. `name` is what people see; `path` is where it was read, None for text given directly."""

    name: str
    text: str
    path: Path | None = None
    line_starts: list[int] = field(default_factory=lambda: [0], repr=False)

    def __post_init__(self) -> None:
        find, position = self.text.find, -1
        while (position := find("\n", position + 1)) >= 0:
            self.line_starts.append(position + 1)

    def line_column(self, offset: int) -> tuple[int, int]:
        """Line and column of an offset, both from 1."""
        line = bisect_right(self.line_starts, offset)
        return line, offset - self.line_starts[line - 1] + 1

    def line(self, number: int) -> str:
        """The text of line `number` (from 1), without its end."""
        start = self.line_starts[number - 1]
        end = self.line_starts[number] if number < len(self.line_starts) else len(self.text)
        return self.text[start:end].rstrip("\r\n")


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `start` to `end` (exclusive) of a source."""

    source: Source
    start: int
    end: int

    @property
    def line(self) -> int:
        return self.source.line_column(self.start)[0]

    @property
    def column(self) -> int:
        return self.source.line_column(self.start)[1]

    @property
    def text(self) -> str:
        return self.source.text[self.start : self.end]

    def __str__(self) -> str:
        return f"{self.source.name}:{self.line}:{self.column}"
