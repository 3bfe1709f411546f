"""What a code means: one page for each property and each diagnostic.

The pages are Markdown in `docs/properties` and `docs/diagnostics`, shipped inside the package as `pages`. A page begins
with `# CODE: title`; its examples are whole models, which tests run.
"""

from __future__ import annotations

import re
import textwrap
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from modelcheck.record import dataclass

_FOLDERS = ("properties", "diagnostics")
_TITLE = re.compile(r"# (?P<code>[A-Z]\d+): (?P<title>.+)")
_EXAMPLE = re.compile(r"^```drvm (?P<label>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Page:
    code: str
    title: str
    text: str
    """The Markdown source."""

    def examples(self, label: str) -> tuple[str, ...]:
        """The models marked `drvm label`; the labels in use are `bad` and `good`."""
        return tuple(m["text"] for m in _EXAMPLE.finditer(self.text) if m["label"] == label)


def folder(name: str) -> Traversable:
    """`properties` or `diagnostics`: in the package or, in a checkout, in `docs` beside it."""
    packaged = files("modelcheck") / "pages" / name
    if packaged.is_dir():
        return packaged
    return Path(__file__).parents[2] / "docs" / name


def codes() -> tuple[str, ...]:
    """Every code that has a page, properties first."""
    return tuple(
        name.removesuffix(".md")
        for kind in _FOLDERS
        for name in sorted(entry.name for entry in folder(kind).iterdir())
        if name.endswith(".md")
    )


@cache
def page(code: str) -> Page | None:
    """The page of a code, None if there is none. Letter case does not matter."""
    code = code.upper()
    if not re.fullmatch(r"[A-Z]\d+", code):
        return None
    for kind in _FOLDERS:
        file = folder(kind) / f"{code}.md"
        if file.is_file():
            text = file.read_text(encoding="utf-8")
            title = _TITLE.match(text)
            if title is None or title["code"] != code:
                raise ValueError(f"{kind}/{code}.md does not begin with `# {code}: title`")
            return Page(code, title["title"].strip(), text)
    return None


def title(code: str) -> str:
    """The one-line meaning of a code."""
    found = page(code)
    return found.title if found else code


def plain(text: str, width: int = 80) -> str:
    """Markdown as it reads on a terminal: headings without their marks, examples indented, paragraphs of `width`."""
    blocks: list[str] = []
    for part in re.split(r"^(```drvm.*?^```)$", text, flags=re.MULTILINE | re.DOTALL):
        if part.startswith("```"):
            model = part.split("\n", 1)[1].removesuffix("```")
            blocks.append(textwrap.indent(model.rstrip(), "    "))
        else:
            blocks += [_paragraph(p, width) for p in part.split("\n\n") if p.strip()]
    return "\n\n".join(blocks) + "\n"


def _paragraph(text: str, width: int) -> str:
    words = " ".join(text.lstrip("#").replace("**", "").split())
    return textwrap.fill(words, width, break_long_words=False, break_on_hyphens=False)
