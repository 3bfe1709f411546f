"""Every code has a page, and the examples on it are true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from modelcheck.diagnostics import Code, Diagnostic, Rejected
from modelcheck.report import explain
from modelcheck.verdict import Property

DOCS = Path(__file__).parents[2] / "docs"
DIAGNOSTICS = [code for code in Code if explain.page(code) and explain.page(code).examples("bad")]  # type: ignore[union-attr]


def page(code: str) -> explain.Page:
    found = explain.page(code)
    assert found is not None, f"{code} has no page"
    return found


@pytest.mark.parametrize("code", [*Property, *Code])
def test_every_code_has_a_page(code: str) -> None:
    found = page(code)
    assert found.title
    assert "**Why it matters.**" in found.text or "**What to do.**" in found.text


def test_no_page_stands_for_nothing() -> None:
    assert set(explain.codes()) == {*map(str, Property), *map(str, Code)}


@pytest.mark.parametrize("code", list(Property))
def test_a_property_page_is_complete(code: Property) -> None:
    found = page(code)
    for part in ("**Why it matters.**", "**Rule.**", "**Documentation.**"):
        assert part in found.text
    assert found.examples("bad")
    assert found.examples("good")


def test_letter_case_does_not_matter_and_nonsense_has_no_page() -> None:
    assert explain.page("b03") == explain.page("B03") != None  # noqa: E711
    assert explain.page("B99") is None
    assert explain.page("../properties/B03") is None


def test_plain_text_has_no_markdown_left() -> None:
    for code in explain.codes():
        text = explain.plain(page(code).text)
        assert "```" not in text
        assert "**" not in text
        assert text.startswith(f"{code}: ")
        assert all(len(line) <= 80 for line in text.splitlines())


def test_the_index_lists_every_page_by_its_title() -> None:
    listed = dict(
        re.findall(r"^\| \[(\w+)\]\(\w+/\w+\.md\) \| (.+?) \|$", (DOCS / "properties.md").read_text(), re.MULTILINE)
    )
    assert listed == {code: explain.title(code) for code in explain.codes()}


def findings(text: str, folder: Path) -> tuple[Diagnostic, ...]:
    """Everything that is said about a model, verdicts aside."""
    from modelcheck.pipeline import verify

    path = folder / "example.drvm"
    path.write_text(text, encoding="utf-8")
    try:
        return verify(path).warnings
    except Rejected as rejected:
        return rejected.diagnostics


@pytest.mark.parametrize("code", DIAGNOSTICS)
def test_a_bad_example_earns_its_diagnostic(code: Code, tmp_path: Path) -> None:
    for text in page(code).examples("bad"):
        found = {d.code for d in findings(text, tmp_path)}
        assert code in found
        assert code is Code.SYNTAX or not any(c.is_error for c in found - {code})


@pytest.mark.parametrize("code", DIAGNOSTICS)
def test_a_good_example_does_not(code: Code, tmp_path: Path) -> None:
    for text in page(code).examples("good"):
        assert code not in (found := {d.code for d in findings(text, tmp_path)})
        assert not any(c.is_error for c in found)


@pytest.mark.parametrize("code", list(Property))
def test_a_bad_example_is_violated(code: Property, tmp_path: Path) -> None:
    from modelcheck.pipeline import Options, verify

    for number, text in enumerate(page(code).examples("bad")):
        path = tmp_path / f"bad{number}.drvm"
        path.write_text(text, encoding="utf-8")
        assert code in {r.obligation.code for r in verify(path, Options(strict=code is Property.D04)).violated}


@pytest.mark.parametrize("code", list(Property))
def test_a_good_example_is_proved(code: Property, tmp_path: Path) -> None:
    from modelcheck.pipeline import Options, verify

    for number, text in enumerate(page(code).examples("good")):
        path = tmp_path / f"good{number}.drvm"
        path.write_text(text, encoding="utf-8")
        report = verify(path, Options(strict=code is Property.D04))
        assert not report.violated
        assert not report.undecided
        assert code in {r.obligation.code for r in report.results}
