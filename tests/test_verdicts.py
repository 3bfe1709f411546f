"""Every model in tests/verdicts gets the verdicts that it names itself; each of them is about one idea."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelcheck.verdict import Property, Violated
from tests.test_examples import expected, places_of, report_of

FOLDER = Path(__file__).parent / "verdicts"
FILES = sorted(FOLDER.rglob("*.drvm"))
TIMED = {Property.T01}
"""Properties whose twins stand with the examples."""

every_model = pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(FOLDER).as_posix())


@every_model
def test_verdicts_are_the_expected_ones(path: Path) -> None:
    """What is violated, what is unknown, and nothing else; every violation replays."""
    wanted, report = expected(path), report_of(path)
    assert wanted.proved != bool(wanted.violated | wanted.unknown)
    assert places_of(report.violated) == wanted.violated
    assert places_of(report.undecided) == wanted.unknown
    assert all(isinstance(r.verdict, Violated) and r.verdict.replayed for r in report.violated)


@every_model
def test_says_what_it_is_about(path: Path) -> None:
    """A comment comes first, and the driver is named like the file."""
    text = path.read_text(encoding="utf-8")
    assert text.startswith("// ")
    assert f"\ndriver {path.stem};\n" in text


@pytest.mark.parametrize("code", sorted(set(Property) - TIMED))
def test_every_property_is_shown_violated_and_proved(code: Property) -> None:
    """A pair of twins for each property; the proved one has an obligation of that property that some path reaches."""
    bad, good = (FOLDER / "properties" / f"{code.lower()}_{end}.drvm" for end in ("bad", "good"))
    assert code in {found for _, found in expected(bad).violated}
    assert expected(good).proved
