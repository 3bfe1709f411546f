"""One run in every format: nothing left out, nothing that a reader would choke on."""

from __future__ import annotations

import hashlib
import json
import os
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modelcheck.cli.reports import TERMINAL, _places
from modelcheck.diagnostics import Code, Diagnostic, Note
from modelcheck.report import github, junit, markdown, sarif
from modelcheck.report.machine import Whole
from modelcheck.report.outcome import Exit, Outcome, overall, status
from modelcheck.report.paths import Usage
from modelcheck.source import Source, Span
from modelcheck.verdict import (
    Actor,
    Certificate,
    Choice,
    Obligation,
    Property,
    Proved,
    Report,
    Result,
    Schedule,
    Step,
    Trace,
    Turn,
    Undecided,
    Verdict,
    Violated,
    Wait,
)

from .conftest import BROKEN, LEAKS, SOUND, UNKNOWN, Tree

NASTY = 'a|b <b>&"%\x1b[31m`]]>: c, d'
SOURCE = Source("dir with space/a%b.drvm", "routine Read() {\n    take(A);\n    take(B);\n}\n")


def span(line: int) -> Span:
    start = SOURCE.line_starts[line - 1] + (4 if line in (2, 3) else 0)
    return Span(SOURCE, start, start + 4)


def result(verdict: Verdict, code: Property = Property.B03, subject: str = "A", scenario: str = "") -> Result:
    return Result(Obligation(code, "Read", span(2), subject, f"must {NASTY}", scenario), verdict)


def step(line: int, *held: str, irql: int = 2) -> Step:
    return Step("Read", 0, span(line), (), irql, tuple((name, "", 1) for name in held))


TRACE = Trace("Read", (Choice("irql", 0),), (step(1, irql=0), step(2, "A")))
DEADLOCK = Schedule(
    "both",
    2,
    (
        Actor("Read 1", "Read", "thread", 0, (Choice("irql", 0),)),
        Actor("Read 2", "Read", "dpc", 1, (Choice("irql", 2),)),
        Actor("Read 3", "Read", "thread", 1),
    ),
    (
        Turn(0, step(2, "A")),
        Turn(1, step(2, "B")),
        Turn(0, step(3, "A"), "waits", "B"),
        Turn(1, step(3, "B"), "waits", "A"),
    ),
    (Wait(0, "held", "B", (1,)), Wait(1, "held", "A", (0,))),
)
REPORT = Report(
    "d",
    "dir with space/a%b.drvm",
    (
        result(Proved("invariant 0"), Property.B01),
        result(Proved("invariant 0", unreachable=True), Property.B02),
        result(Violated(TRACE, True)),
        result(Violated(DEADLOCK, True), Property.D01, "B", "both"),
        result(Undecided(f"no time {NASTY}", "nothing")),
    ),
    (Diagnostic(Code.UNUSED, f"unused {NASTY}", span(2), (Note("there", span(3)),), "remove it"),),
    certificate=Certificate("(check-sat)\n", "{}"),
)
OUTCOMES = (
    Outcome(REPORT.path, REPORT),
    Outcome("broken.drvm", rejected=(Diagnostic(Code.SYNTAX, f"wrong {NASTY}", span(3)),)),
    Outcome("gone.drvm", rejected=(Diagnostic(Code.UNREADABLE, "does not exist", None),)),
    Outcome("dead.drvm", crashed="its worker process was killed by SIGKILL"),
    Outcome("empty"),
    Outcome("part.drvm", only_imported=True),
)
WHOLE = Whole(OUTCOMES, overall(OUTCOMES), "0.1.0", "Z3 5.4.0", remarks=("baseline: 1 new",))
GREEN = Whole((Outcome("a", Report("d", "a", (result(Proved("x")),))),), Exit.PROVED, "0.1.0", "Z3 5.4.0")
NOTHING = Whole((), Exit.NOTHING_CHECKED, "0.1.0", "Z3 5.4.0")


# ---- SARIF ----


def sarif_run(whole: Whole = WHOLE) -> dict[str, Any]:
    document = json.loads(sarif.dumps(whole))
    assert document["version"] == "2.1.0"
    (run,) = document["runs"]
    assert isinstance(run, dict)
    return run


def test_sarif_has_a_result_for_each_obligation_and_diagnostic() -> None:
    run = sarif_run()
    kinds = [(r["ruleId"], r["kind"], r["level"]) for r in run["results"]]
    assert kinds == [
        ("B01", "pass", "none"),
        ("B02", "pass", "none"),
        ("B03", "fail", "error"),
        ("D01", "fail", "error"),
        ("B03", "open", "none"),
        ("W0505", "fail", "note"),
        ("E0105", "fail", "error"),
        ("E0101", "fail", "error"),
    ]
    assert [run["tool"]["driver"]["rules"][r["ruleIndex"]]["id"] for r in run["results"]] == [k[0] for k in kinds]


def test_a_proof_says_how_far_it_goes() -> None:
    passed = sarif_run()["results"][1]["properties"]
    assert passed == {
        "strength": "unbounded",
        "contexts": "any number",
        "evidence": "invariant 0",
        "unreachable": True,
        "certifiedBy": "Z3 5.4.0",
        "certificateSha256": hashlib.sha256(b"(check-sat)\n").hexdigest(),
    }


def test_a_deadlock_has_a_thread_flow_for_each_context_that_acts() -> None:
    (flow,) = sarif_run()["results"][3]["codeFlows"]
    flows = flow["threadFlows"]
    assert [f["message"]["text"] for f in flows] == ["Read 1 (thread)", "Read 2 (dpc)"]
    assert [[place["executionOrder"] for place in f["locations"]] for f in flows] == [[1, 3], [2, 4]]
    assert [f["initialState"]["irql"]["text"] for f in flows] == ["PASSIVE", "DISPATCH"]
    last = flows[0]["locations"][-1]
    assert last["state"] == {"irql": {"text": "DISPATCH"}, "held": {"text": "A"}}
    assert last["importance"] == "essential"
    assert "has to wait for B" in last["location"]["message"]["text"]
    assert "Read 1 waits for B, which Read 2 holds" in flow["message"]["text"]


def test_a_trace_is_one_thread_flow() -> None:
    (flow,) = sarif_run()["results"][2]["codeFlows"]
    (thread,) = flow["threadFlows"]
    assert [place["state"]["held"]["text"] for place in thread["locations"]] == ["nothing", "A"]


def test_places_are_relative_uris_and_lines_from_one() -> None:
    place = sarif_run()["results"][0]["locations"][0]
    assert place["physicalLocation"]["artifactLocation"]["uri"] == "dir%20with%20space/a%25b.drvm"
    assert place["physicalLocation"]["region"] == {"startLine": 2, "startColumn": 5, "endLine": 2, "endColumn": 9}
    assert sarif.uri("/a b/c.drvm") == "file:///a%20b/c.drvm"


def test_what_is_no_verdict_is_told_and_nothing_is_successful() -> None:
    (invocation,) = sarif_run()["invocations"]
    assert (invocation["executionSuccessful"], invocation["exitCode"]) == (False, 4)
    said = " ".join(n["message"]["text"] for n in invocation["toolExecutionNotifications"])
    assert "dead.drvm: no verdict: its worker process was killed by SIGKILL" in said
    assert "empty: nothing was checked" in said
    assert "baseline: 1 new" in said
    (nothing,) = sarif_run(NOTHING)["invocations"]
    assert nothing["executionSuccessful"] is False
    assert sarif_run(GREEN)["invocations"][0]["executionSuccessful"] is True


def test_what_the_baseline_has_is_suppressed() -> None:
    known = Outcome(REPORT.path, REPORT, known=(REPORT.results[2],))
    found = sarif_run(Whole((known,), Exit.VIOLATED, "0.1.0", "Z3"))["results"]
    assert [bool(r.get("suppressions")) for r in found] == [False, False, True, False, False, False]


def every(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for part in value.values():
            yield from every(part)
    elif isinstance(value, list):
        for part in value:
            yield from every(part)


def test_no_message_is_empty_and_no_level_stands_beside_a_pass() -> None:
    for part in every(sarif_run()):
        if "text" in part and not part.get("markdown"):
            assert part["text"].strip()
        if part.get("kind") in ("pass", "open"):
            assert part["level"] == "none"
        if "threadFlows" in part:
            assert all(flow["locations"] for flow in part["threadFlows"])


@pytest.mark.skipif("SARIF_SCHEMA" not in os.environ, reason="SARIF_SCHEMA names no copy of the OASIS schema")
@pytest.mark.parametrize("whole", [WHOLE, GREEN, NOTHING])
def test_sarif_is_valid_against_the_oasis_schema(whole: Whole) -> None:
    """The schema is that of docs.oasis-open.org; docs/ci.md says how to get it."""
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(Path(os.environ["SARIF_SCHEMA"]).read_text(encoding="utf-8"))
    kind = jsonschema.validators.validator_for(schema)
    kind(schema, format_checker=kind.FORMAT_CHECKER).validate(json.loads(sarif.dumps(whole)))


# ---- JUnit ----


def test_junit_counts_what_it_lists() -> None:
    root = ElementTree.fromstring(junit.dumps(WHOLE))
    assert {name: root.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "9",
        "failures": "2",
        "errors": "5",
        "skipped": "0",
    }
    for suite in root:
        cases = list(suite)
        assert cases, "an empty suite would be green"
        assert int(suite.get("tests", "")) == len(cases)
        for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(suite.get(name, "")) == sum(case.find(tag) is not None for case in cases)


def test_junit_shows_the_run_and_who_waits_for_whom() -> None:
    root = ElementTree.fromstring(junit.dumps(WHOLE))
    texts = [failure.text or "" for failure in root.iter("failure")]
    assert "Read 1 waits for B, which Read 2 holds" in texts[1]


def test_junit_of_nothing_is_an_error() -> None:
    assert ElementTree.fromstring(junit.dumps(NOTHING)).get("errors") == "1"
    crashed = Whole(GREEN.outcomes, Exit.INTERNAL_ERROR, "0.1.0", "Z3")
    assert ElementTree.fromstring(junit.dumps(crashed)).get("errors") == "1"


def test_junit_skips_what_is_accepted() -> None:
    known = Outcome(REPORT.path, REPORT, known=(REPORT.results[2],))
    root = ElementTree.fromstring(junit.dumps(Whole((known,), Exit.VIOLATED, "0.1.0", "Z3", undecided_is_error=False)))
    assert (root.get("failures"), root.get("errors"), root.get("skipped")) == ("1", "0", "2")


# ---- GitHub ----


def test_github_says_one_line_for_each_finding() -> None:
    lines = github.dumps(WHOLE).splitlines()
    assert all(re.fullmatch(r"::(error|warning|notice) [^\n]*title=[^:,]*::.+", line) for line in lines)
    levels = [line.split()[0] for line in lines]
    assert levels == ["::error"] * 7 + ["::warning", "::notice"]
    violated = next(line for line in lines if "B03 violated" in line)
    assert violated.startswith("::error file=dir with space/a%25b.drvm,line=2,col=5,endLine=2,endColumn=9,title=B03")
    assert "\x1b" not in github.dumps(WHOLE)


def test_github_is_silent_where_all_is_proved_and_only_there() -> None:
    assert github.dumps(GREEN) == ""
    assert github.dumps(NOTHING).startswith("::error ")


def test_github_follows_what_may_pass() -> None:
    outcome = Outcome(REPORT.path, REPORT, known=(REPORT.results[2],))
    text = github.dumps(Whole((outcome,), Exit.VIOLATED, "0.1.0", "Z3", undecided_is_error=False))
    assert "::warning file" in text
    assert "::notice file" in text
    assert text.count("::error") == 1


# ---- Markdown ----


def test_markdown_shows_counts_findings_and_runs() -> None:
    text = markdown.dumps(WHOLE)
    assert text.startswith("## modelcheck: no verdict (2 proved, 2 violated, 1 unknown)\n")
    for path in (REPORT.path, "broken.drvm", "gone.drvm", "dead.drvm", "empty"):
        assert path in text
    assert "part.drvm" not in text
    assert "Read 1 waits for B, which Read 2 holds" in text
    assert "<b>" not in re.sub(r"`[^`]*`", "", text).replace("\\<b\\>", "")


def test_markdown_says_what_may_pass() -> None:
    text = markdown.dumps(Whole(OUTCOMES, WHOLE.exit_status, "0.1.0", "Z3", undecided_is_error=False))
    assert "1 unknown pass because of `--undecided warn`." in text


def test_markdown_is_cut_with_a_word() -> None:
    many = tuple(result(Undecided("no time"), subject=f"L{n}") for n in range(markdown.MOST + 3))
    text = markdown.dumps(Whole((Outcome("a", Report("d", "a", many)),), Exit.UNKNOWN, "0.1.0", "Z3"))
    assert "... and 3 more." in text


# ---- what is said of a place ----


@pytest.mark.parametrize("dumps", [sarif.dumps, junit.dumps, github.dumps, markdown.dumps])
def test_what_must_hold_is_never_said_as_what_holds(dumps: Callable[[Whole], str]) -> None:
    """`L is held when it is released` by itself would be the opposite of the finding."""
    why = "L is held when it is released"
    verdicts = (Violated(TRACE, True), Undecided("no time"), Proved("x"))
    results = tuple(Result(Obligation(Property.B02, "Read", span(2), "L", why), verdict) for verdict in verdicts)
    text = dumps(Whole((Outcome("a", Report("d", "a", results)),), Exit.VIOLATED, "0.1.0", "Z3"))
    assert text.count(why) >= 2
    assert text.count(why) == len(re.findall(f"must hold: {why}", text, re.IGNORECASE))


# ---- statuses ----


def test_a_known_violation_does_not_fail_a_file() -> None:
    report = Report("d", "a", (REPORT.results[0], REPORT.results[2]))
    assert status(Outcome("a", report)) is Exit.VIOLATED
    assert status(Outcome("a", report, known=(REPORT.results[2],))) is Exit.PROVED


# ---- where reports go ----


@pytest.mark.parametrize(
    ("formats", "output", "places"),
    [
        ((), None, [("text", TERMINAL)]),
        ((), "o.txt", [("text", "o.txt")]),
        (("json",), None, [("json", TERMINAL)]),
        (("json",), "o.json", [("json", "o.json")]),
        (("sarif=o.sarif",), None, [("text", TERMINAL), ("sarif", "o.sarif")]),
        (("sarif=o.sarif", "json"), None, [("sarif", "o.sarif"), ("json", TERMINAL)]),
        (("text", "github"), None, [("text", TERMINAL), ("github", TERMINAL)]),
        (("sarif=o.sarif",), "o.txt", [("sarif", "o.sarif"), ("text", "o.txt")]),
    ],
)
def test_each_format_has_its_place(formats: tuple[str, ...], output: str | None, places: list[tuple[str, str]]) -> None:
    assert _places(formats, output) == places


@pytest.mark.parametrize(
    ("formats", "output"),
    [(("json", "sarif"), None), (("sarif=o", "junit=o"), None), (("json", "text"), None), (("json", "text"), "o")],
)
def test_two_formats_cannot_have_one_place(formats: tuple[str, ...], output: str | None) -> None:
    with pytest.raises(Usage):
        _places(formats, output)


def test_several_formats_from_one_run(tree: Tree) -> None:
    for name, text in {"a": LEAKS, "b": SOUND, "c": UNKNOWN, "d": BROKEN}.items():
        tree.write(f"{name}.drvm", text)
    wanted = [f"--format={name}=out.{name}" for name in ("json", "sarif", "junit", "markdown", "github")]
    done = tree.verify(*wanted, ".")
    assert done.status == 2
    assert "B03 violated" in done.out
    assert json.loads((tree.folder / "out.json").read_text())["exit"] == 2
    (run,) = json.loads((tree.folder / "out.sarif").read_text())["runs"]
    assert run["invocations"][0]["exitCode"] == 2
    assert ElementTree.parse(tree.folder / "out.junit").getroot().get("failures") != "0"
    assert (tree.folder / "out.markdown").read_text().startswith("## modelcheck: not a model")
    assert "::error file=a.drvm,line=12" in (tree.folder / "out.github").read_text()
    listed = sum(len(tree.run("list", f"{n}.drvm").out.split("\n    ")) - 1 for n in "abc")
    assert sum(r["kind"] != "informational" and r["ruleId"][0] in "BIDRTC" for r in run["results"]) == listed
