"""The HTML report as text: complete, self-contained, and nothing of a model in it is markup."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

from modelcheck.diagnostics import Code, Diagnostic, Note
from modelcheck.report.html import dumps
from modelcheck.report.machine import Whole
from modelcheck.report.outcome import Exit, Outcome
from modelcheck.verdict import Proved, Report, Result, Violated
from tests import made_up


class Page(HTMLParser):
    """Tags with their attributes, the text outside of scripts and styles, and the data."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words = ""
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif not self.open or self.open[-1] != "style":
            self.words += data

    @property
    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.scripts[0])
        return found


def page(report: Report, *more: Outcome) -> str:
    return dumps(Whole((Outcome(report.path, report), *more), Exit.VIOLATED, "0.1.0", "Z3 5", remarks=("a remark",)))


def test_every_obligation_has_a_row_with_verdict_and_strength() -> None:
    shown = Page(page(made_up.REPORT))
    rows = [attributes for tag, attributes in shown.tags if tag == "tr" and "data-v" in attributes]
    assert [row["data-v"] for row in rows].count("violated") == 4
    assert len(rows) == len(made_up.REPORT.results)
    assert "certified by ranks" in shown.words
    assert "replayed step by step" in shown.words
    assert "What would help: give it more time" in shown.words
    assert "B -> C -> B cannot close: both hold Gate" in shown.words
    assert "a remark" in shown.words


def test_each_run_is_data_once() -> None:
    shown = Page(page(made_up.REPORT))
    assert len(shown.data["runs"]) == 3
    run = shown.data["runs"][0]
    assert [lane["name"] for lane in run["lanes"]] == ["Read", "Write"]
    assert [step["l"] for step in run["steps"]] == [5, 6, 7, 15, 17, 8, 12, 18]
    assert [step.get("b", []) for step in run["steps"]][-1] == [
        "for ever: Read waits for B, which Write holds",
        "for ever: Write waits for A, which Read holds",
    ]
    assert [step.get("x", 0) for step in run["steps"]] == [0, 0, 0, 0, 0, 0, 1, 1]
    assert [step.get("n", []) for step in run["steps"]][6] == ["has to wait for B"]
    assert len(shown.data["sources"]) == 1
    assert shown.data["sources"][0]["lines"] == made_up.TEXT.splitlines()


def test_what_is_not_replayed_is_said() -> None:
    wrong = replace(made_up.DEADLOCK, verdict=Violated(made_up.CROSS, False))
    assert "did not confirm" in Page(page(replace(made_up.REPORT, results=(wrong,)))).words


def test_other_outcomes_are_told() -> None:
    note = Diagnostic(Code.UNUSED, "unused", made_up.at("Inner"), (Note("here", made_up.at("Read")),), "remove it")
    others = (
        Outcome("b.drvm", rejected=(note,)),
        Outcome("c.drvm", crashed="KeyError: x"),
        Outcome("d.drvm", only_imported=True),
        Outcome("e.drvm", Report("idle", "e.drvm", ())),
    )
    words = Page(page(made_up.REPORT, *others)).words
    for said in ("Help: remove it", "Internal error: KeyError: x", "checked where it is imported", "nothing to check"):
        assert said in words


def test_nothing_is_loaded_from_anywhere() -> None:
    text = page(made_up.REPORT)
    links = [attributes.get("href") or attributes.get("src") for _, attributes in Page(text).tags]
    assert all(link.startswith("#") for link in links if link)
    assert not re.search(r"url\(|@import|https?:", text)


def test_only_our_own_script_may_run() -> None:
    shown = Page(page(made_up.hostile()))
    policy = next(a["content"] or "" for tag, a in shown.tags if a.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(shown.scripts[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_hostile_names_are_no_markup() -> None:
    kind = {tag for tag, _ in Page(page(made_up.REPORT)).tags}
    text = page(made_up.hostile())
    shown = Page(text)
    assert {tag for tag, _ in shown.tags} <= kind
    assert not any(name.startswith("on") for _, attributes in shown.tags for name in attributes)
    for name in made_up.HOSTILE[:7]:
        assert name in shown.words
    assert shown.data["sources"][0]["lines"][0] == f"call({made_up.HOSTILE[0]});"
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202e]", text)


def test_the_same_input_gives_the_same_bytes() -> None:
    assert page(made_up.REPORT) == page(made_up.REPORT)


def test_a_thousand_obligations_and_twenty_traces_are_quick_and_small() -> None:
    place = made_up.at("Inner()")
    traces = [replace(made_up.long_trace(300), root=f"Read{n}") for n in range(20)]
    results = [made_up.result("B03", place, Violated(trace, True), f"L{n}") for n, trace in enumerate(traces)]
    results += [Result(replace(results[0].obligation, subject=f"M{n}"), Proved(f"invariant {n}")) for n in range(980)]
    report = Report("big", "big.drvm", tuple(results))
    start = time.process_time()
    text = page(report)
    assert time.process_time() - start <= 1
    assert len(text.encode()) <= 2_000_000
