"""A picture as DOT text, and how a model's words get into it.

Names come from models, so nothing of them is ever DOT: nodes are named by us, and a label goes through `label`, which
leaves no quote, backslash, entity or control character with a meaning. What Graphviz writes as SVG is escaped by it.
"""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING

from modelcheck.record import dataclass
from modelcheck.report.words import broken, clean

if TYPE_CHECKING:
    import graphviz

FONT = "monospace"
SIZE, SMALL = 10.0, 8.5
"""Font sizes in points."""
ADVANCE = 0.61
"""Width of a character of a monospaced font, as a part of its size: the widest in use have 0.602."""

INK, FAINT, PAPER = "#1b1f24", "#5f6670", "#ffffff"
RED, PALE_RED = "#a40e26", "#fde3e3"
BLUE, PALE_BLUE = "#0b4f8a", "#e3eefa"
AMBER, PALE_AMBER = "#7a4b00", "#fdecc8"

DARK = """\
@media (prefers-color-scheme: dark) {
  .graph > polygon { fill: #14171c; }
  text { fill: #e8eaed; }
  .edge path { stroke: #e8eaed; }
  .edge polygon, .dot ellipse { stroke: #e8eaed; fill: #e8eaed; }
  .faint text { fill: #a9b1bb; }
  .faint path, .faint polygon, .faint ellipse { stroke: #a9b1bb; }
  .paper path, .paper polygon, .paper ellipse { fill: #22272e; stroke: #a9b1bb; }
  .level path, .level polygon { stroke: #79b8ff; }
  .level text { fill: #79b8ff; }
  .head path, .head polygon, .head ellipse { fill: #17304d; stroke: #79b8ff; }
  .bar path, .bar polygon, .bar ellipse { fill: #4a3508; stroke: #e3b341; }
  .bad path, .bad polygon, .bad ellipse { fill: #57131c; stroke: #ff9492; }
  .ring path, .way path, .way polygon, .way ellipse { stroke: #ff9492; }
  .ring polygon { stroke: #ff9492; fill: #ff9492; }
  .ring text, .alarm text { fill: #ff9492; }
}
"""
"""What an SVG looks like on a dark page. The classes are those given to nodes and edges."""


@dataclass(frozen=True, slots=True)
class Picture:
    """DOT text, the layout engine it is made for (`dot`, or `nop2`: places are given), and what it shows, in words."""

    dot: str
    engine: str
    title: str


def columns(text: str) -> int:
    """How many columns of a monospaced font a text takes."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def wide(lines: Iterable[str], size: float = SIZE) -> float:
    """The width of the widest line in points."""
    return max((columns(line) for line in lines), default=0) * size * ADVANCE


def wrap(text: str, width: int, deeper: str = "  ", first: str = "") -> list[str]:
    """Lines of at most `width` columns; nothing is cut off. `first` and `deeper` indent the first, the other lines."""
    made = textwrap.wrap(
        clean(text), _narrow(text, width), initial_indent=first, subsequent_indent=deeper, break_on_hyphens=False
    )
    return made or [""]


def wrap_source(text: str, width: int, first: str = "") -> list[str]:
    """Source text as lines of at most `width` columns; nothing is cut off."""
    return broken(clean(text), _narrow(text, width), first)


def _narrow(text: str, width: int) -> int:
    """As many characters as fit into `width` columns for certain."""
    return max(8, width // 2) if columns(text) > len(text) else width


def label(lines: Iterable[str], end: str = r"\l") -> str:
    """Lines as the value of a `label` attribute; `end` is how each is set: `\\l` left, `\\n` centred."""
    return "".join(_literal(_clean_line(line)) + end for line in lines)


def _clean_line(line: str) -> str:
    """The line with its indentation, without control characters."""
    body = line.lstrip(" ")
    return "\N{NO-BREAK SPACE}" * (len(line) - len(body)) + "".join(c if c.isprintable() else "?" for c in body)


def _literal(text: str) -> str:
    """Text that means itself in a label: no escape, no entity."""
    return text.replace("\\", "\\\\").replace("&", "&amp;")


def plain(text: str) -> str:
    """A name as one line of a label, a tooltip or a title."""
    return _literal(clean(text))


def graph(**attributes: str) -> graphviz.Digraph:
    """An empty directed graph in the house's hand."""
    import graphviz

    made = graphviz.Digraph("picture")
    made.attr("graph", bgcolor=PAPER, fontname=FONT, fontsize=f"{SIZE:g}", **attributes)
    made.attr("node", fontname=FONT, fontsize=f"{SIZE:g}", color=INK, fontcolor=INK)
    made.attr("edge", fontname=FONT, fontsize=f"{SMALL:g}", color=INK, fontcolor=INK)
    return made


def quoted(value: str) -> str:
    """The value so that it is a string also where it looks like an HTML label."""
    import graphviz

    marked: str = graphviz.nohtml(value)
    return marked
