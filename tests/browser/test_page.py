"""The HTML report in a real browser: it opens without an error, can be stepped through, and fits its window."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from modelcheck.diagnostics import Code, Diagnostic
from modelcheck.report.html import dumps
from modelcheck.report.machine import Whole
from modelcheck.report.outcome import Exit, Outcome
from modelcheck.verdict import Proved, Report, Result, Violated
from tests import made_up

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PATIENCE = 20_000
"""Milliseconds for anything the browser is asked."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium: the system's, else Playwright's own."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    system = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_api.sync_playwright() as playwright:
        if system is None and not Path(playwright.chromium.executable_path).exists():
            pytest.skip("no Chromium: `apt install chromium`, or `playwright install chromium`")
        started = playwright.chromium.launch(executable_path=system, args=["--no-sandbox"], timeout=60_000)
        yield started
        started.close()


class Opened:
    """A page of the browser with a report, and everything that went wrong in it."""

    def __init__(self, browser: Browser, file: Path, fragment: str = "", **options: Any) -> None:
        self.trouble: list[str] = []
        self.context = browser.new_context(offline=True, **options)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.page.on("console", lambda message: self.trouble.append(message.text))
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.trouble.append(dialog.message), dialog.dismiss()))
        self.page.on("request", self._asked)
        self.page.goto(f"{file.as_uri()}{fragment}")

    def _asked(self, request: Any) -> None:
        if not request.url.startswith("file:"):
            self.trouble.append(f"asks for {request.url}")

    def number(self, case: int = 1) -> str:
        """The step that a run shows."""
        row = self.page.locator(f"#v{case} tr[aria-current]")
        return row.locator("td").first.inner_text()

    def close(self) -> list[str]:
        self.context.close()
        return self.trouble


def written(folder: Path, report: Report) -> Path:
    file = folder / "report.html"
    warning = Diagnostic(Code.UNUSED, "unused", made_up.at("Inner"))
    rejected = Outcome("b.drvm", rejected=(warning,))
    checked = Outcome(report.path, replace(report, warnings=(warning,)))
    file.write_text(dumps(Whole((checked, rejected), Exit.VIOLATED, "0.1.0", "Z3")), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of one and of several contexts; the third, of 300 steps."""
    long = made_up.result("C01", made_up.at("Inner()"), Violated(made_up.long_trace(300), True), "", "dpc_comes")
    whole = replace(made_up.REPORT, results=(made_up.DEADLOCK, long, *made_up.REPORT.results))
    return written(tmp_path_factory.mktemp("page"), whole)


def test_slider_buttons_keys_and_clicks_move_through_a_run(browser: Browser, report: Path) -> None:
    opened = Opened(browser, report)
    page = opened.page
    assert opened.number() == "8"
    slider = page.locator("#v1 input[type=range]")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    assert opened.number() == "7"
    page.keyboard.press("Home")
    assert opened.number() == "1"
    page.get_by_role("button", name="Step on").first.click()
    assert opened.number() == "2"
    page.locator("#v1 .steps").focus()
    page.keyboard.press("ArrowDown")
    assert opened.number() == "3"
    page.locator("#v1 .controls button").first.focus()
    page.keyboard.press("ArrowRight")
    assert opened.number() == "4"
    page.locator("#v1 .steps tbody tr").nth(4).locator(".what").click()
    assert opened.number() == "5"
    assert page.evaluate("location.hash") == "#v1-5"
    assert opened.close() == []


def test_the_step_shows_its_line_and_what_it_changes(browser: Browser, report: Path) -> None:
    opened = Opened(browser, report, "#v1-3")
    current = opened.page.locator("#v1 .source [aria-current]")
    assert "KeAcquireSpinLock(&A, &old)" in current.inner_text()
    assert current.locator("span").inner_text() == "7"
    state = opened.page.locator("#v1 .state")
    assert state.locator("mark").all_inner_texts() == ["PASSIVE \u2192 DISPATCH", "+ A"]
    assert "Write has not started" in state.inner_text()
    opened.page.locator("#v1 .steps").focus()
    opened.page.keyboard.press("ArrowDown")
    assert state.locator("mark").count() == 0
    assert opened.close() == []


def test_a_deep_link_opens_its_run_at_its_step(browser: Browser, report: Path) -> None:
    opened = Opened(browser, report, "#v3-12")
    assert opened.number(3) == "12"
    row = opened.page.locator("#v3 tr[aria-current]")
    box, view = row.bounding_box(), opened.page.locator("#v3 .steps").bounding_box()
    assert box
    assert view
    assert view["y"] <= box["y"] <= view["y"] + view["height"]
    opened.page.evaluate("location.hash = '#v1-2'")
    opened.page.wait_for_function("document.querySelector('#v1 tr[aria-current] td').innerText === '2'")
    opened.page.evaluate("location.hash = '#v3-9999'")
    opened.page.wait_for_function("document.querySelector('#v3 tr[aria-current] td').innerText === '300'")
    assert opened.close() == []


def test_bars_and_levels_follow_the_locks(browser: Browser, report: Path) -> None:
    opened = Opened(browser, report)
    rows = opened.page.locator("#v1 .steps tbody tr")
    bars = [rows.nth(n).locator(".bar").count() for n in range(8)]
    assert bars == [0, 0, 1, 1, 2, 2, 2, 2]
    across = [rows.nth(n).locator(".across").count() for n in range(8)]
    assert across == [0, 0, 1, 0, 1, 0, 0, 0]
    opened.close()


def test_a_paused_context_says_so(browser: Browser, report: Path) -> None:
    opened = Opened(browser, report, "#v4-3")
    paused = opened.page.locator("#v4 td.paused")
    assert paused.first.inner_text() == "\u2016 paused"
    assert "paused: Tick runs" in opened.page.locator("#v4 .state").inner_text()
    opened.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1440])
def test_the_page_fits_its_window_in_both_colour_schemes(
    browser: Browser, report: Path, scheme: str, width: int
) -> None:
    size = {"width": width, "height": 800}
    opened = Opened(browser, report, "#v3-12", color_scheme=scheme, viewport=size)
    page = opened.page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert _contrast(page, "body") >= 7
    assert min(_contrast(page, kind) for kind in (".violated", ".unknown", ".proved", ".faint")) >= 4.5
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    assert opened.close() == []


def _contrast(page: Page, selector: str) -> float:
    """The contrast ratio of an element's text and the page (WCAG 2, 1.4.3)."""
    colours = page.evaluate(
        "s => [getComputedStyle(document.querySelector(s)).color, getComputedStyle(document.body).backgroundColor]",
        selector,
    )
    light, dark = sorted((_luminance(colour) for colour in colours), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_everything_has_a_label_and_is_reached_by_keyboard(browser: Browser, report: Path) -> None:
    opened = Opened(browser, report)
    page = opened.page
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll('input, select, button, a[href], [tabindex="0"], summary')]
        .filter(e => !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length))
        .map(e => e.outerHTML)"""
    )
    assert unnamed == []
    reached = set()
    for _ in range(80):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("e => { e = document.activeElement; return e.id || e.className || e.type || e.tagName }")
        )
    assert {"range", "button", "steps", "source", "SUMMARY", "words-1", "verdict-1"} <= reached
    assert opened.close() == []


def test_text_scales(browser: Browser, report: Path) -> None:
    opened = Opened(browser, report, viewport={"width": 1440, "height": 800})
    opened.page.evaluate("document.documentElement.style.fontSize = '200%'")
    heights = opened.page.evaluate(
        "[...document.querySelectorAll('button, select, th, td')].filter(e => e.scrollHeight > e.clientHeight + 1 "
        "&& getComputedStyle(e).overflowY === 'hidden').length"
    )
    assert heights == 0
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 1440
    opened.close()


def test_obligations_can_be_filtered(browser: Browser, report: Path) -> None:
    opened = Opened(browser, report)
    page = opened.page
    rows = page.locator("#obligations-1 tbody tr")
    assert rows.count() == 9
    page.get_by_label("Verdict", exact=True).select_option("proved")
    assert rows.filter(visible=True).count() == 2
    page.get_by_label("Find").fill("dpc_comes d01")
    assert rows.filter(visible=True).count() == 1
    assert page.locator("#count-1").inner_text() == "1 obligations"
    assert opened.close() == []


def test_hostile_names_are_text(browser: Browser, tmp_path: Path) -> None:
    opened = Opened(browser, written(tmp_path, made_up.hostile()))
    page = opened.page
    for number in range(1, 2 * len(made_up.HOSTILE) + 1):
        page.evaluate(f"location.hash = '#v{number}-1'")
        page.wait_for_selector(f"#v{number} tr[aria-current]")
    assert page.evaluate("document.querySelectorAll('script').length") == 2
    assert page.evaluate("document.querySelectorAll('img, b, iframe, object, link').length") == 0
    shown = page.locator("body").inner_text()
    for name in ('"><script>alert(1)</script>', "</script><img src=x onerror=alert(1)>", "back\\slash\\N\\l"):
        assert name in shown
    assert "\u202e" not in shown
    assert opened.close() == []


def test_a_thousand_obligations_and_twenty_long_runs_open_at_once(browser: Browser, tmp_path: Path) -> None:
    traces = [replace(made_up.long_trace(300), root=f"Read{n}") for n in range(20)]
    place = made_up.at("Inner()")
    results = [made_up.result("B03", place, Violated(trace, True), f"L{n}") for n, trace in enumerate(traces)]
    results += [Result(replace(results[0].obligation, subject=f"M{n}"), Proved(f"invariant {n}")) for n in range(980)]
    big = Report("big", "big.drvm", tuple(results))
    start = time.perf_counter()
    file = written(tmp_path, big)
    assert time.perf_counter() - start <= 1
    assert file.stat().st_size <= 2_000_000
    opened = Opened(browser, file)
    opened.page.wait_for_selector("#v1 tr[aria-current]")
    ready = opened.page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    assert 0 < ready <= 2000
    assert opened.close() == []
