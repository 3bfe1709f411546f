"""The gallery shows what the examples show now: `python -m docs.gallery` makes it."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from docs import gallery

ENTRIES = (*gallery.VIOLATIONS, *gallery.PROOFS)


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(gallery.ROOT)


def test_there_are_enough() -> None:
    assert len(gallery.VIOLATIONS) >= 8
    assert len(gallery.PROOFS) >= 2


def test_the_page_is_up_to_date() -> None:
    assert Path("docs/gallery.md").read_text(encoding="utf-8") == gallery.page()
    assert {path.name for path in gallery.PICTURES.iterdir()} == {entry.file.name for entry in ENTRIES}


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_each_picture_shows_its_example(entry: gallery.Entry) -> None:
    """The kept file has the title of the picture as it is made now, and marks as much as violated."""
    made = gallery.picture(entry)
    kept = ET.parse(entry.file).getroot()
    assert kept.get("aria-label") == made.title
    bad = [group for group in kept.iter("{http://www.w3.org/2000/svg}g") if group.get("class") == "node bad"]
    assert len(bad) == len(re.findall(r"\bclass=bad\b", made.dot))
    assert bool(bad) == (entry not in gallery.PROOFS and entry.kind != "cycle")


def test_the_readme_shows_a_trace_and_a_hierarchy() -> None:
    readme = Path("README.md").read_text(encoding="utf-8")
    for entry in (gallery.VIOLATIONS[0], gallery.PROOFS[0]):
        assert f"]({entry.file})" in readme
