"""What a report says, from made-up results: text, JSON, exit status."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modelcheck.diagnostics import Code, Diagnostic, Note
from modelcheck.report.json import dumps
from modelcheck.report.outcome import Exit, Outcome, overall, status, tally, worst
from modelcheck.report.run import run_of
from modelcheck.report.text import Style, file_report, run_total
from modelcheck.report.words import clean, condition_words, statement_words, wait_words
from modelcheck.source import Source, Span
from modelcheck.verdict import (
    Choice,
    Obligation,
    Property,
    Proved,
    Report,
    Result,
    Step,
    Trace,
    Turn,
    Undecided,
    Verdict,
    Violated,
    Wait,
)
from tests import made_up

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "report.schema.json").read_text(encoding="utf-8"))

TEXT = """\
driver toaster;
import wdm;
lock QueueLock : KSPIN_LOCK;
var removed : bool = false;
routine Read(Irp) as DRIVER_DISPATCH {
    KeAcquireSpinLock(&QueueLock, &old);
    if (removed) {
        return;
    }
    KeReleaseSpinLock(&QueueLock, old);
}
"""
SOURCE = Source("examples/toaster.drvm", TEXT)
HELD = (("QueueLock", "exclusive", 1),)


def at(text: str, source: Source = SOURCE, behind: str = "") -> Span:
    start = source.text.index(behind + text) + len(behind)
    return Span(source, start, start + len(text))


def result(code: str, place: str, verdict: Verdict, subject: str = "QueueLock") -> Result:
    return Result(Obligation(Property(code), "Read", at(place), subject, "what must hold"), verdict)


TRACE = Trace(
    "Read",
    (Choice("irql", 0), Choice("var removed", 0), Choice("life QueueLock", 1)),
    (
        Step("Read", 0, at("KeAcquireSpinLock(&QueueLock, &old);"), (), 2, HELD),
        Step(
            "Read",
            0,
            at("removed", behind="if ("),
            (Choice("var removed", 1),),
            2,
            HELD,
            True,
            "Remove writes `removed`",
        ),
        Step("Read", 0, at("return;"), (), 2, HELD),
    ),
)
PROVED = result("B01", "KeAcquireSpinLock", Proved("q1"))
DEAD = result("I02", "return;", Proved("q2", unreachable=True), "")
VIOLATED = result("B03", "return;", Violated(TRACE, True))
UNKNOWN = result("I03", "KeReleaseSpinLock", Undecided("`FooDo` is not modelled", "up to line 9"))
WARNING = Diagnostic(Code.UNUSED, "unused", at("removed"), (Note("here", at("driver")),), "remove it")


def report(*results: Result, **more: Any) -> Report:
    return Report("toaster", "examples/toaster.drvm", results, **more)


def text(of: Report, style: Style = Style(), quiet: bool = False) -> str:  # noqa: B008
    return file_report(of, style, lambda d: f"<{d.code}>", quiet)


FULL = report(PROVED, VIOLATED, UNKNOWN, DEAD, warnings=(WARNING,), unmodelled=("FooDo",))


def test_a_violation_shows_its_trace() -> None:
    shown = text(report(VIOLATED))
    assert shown.startswith(
        "B03 violated: the locks held at exit are not those held at entry\n"
        "  --> examples/toaster.drvm:8:9 in Read: QueueLock\n"
        "   |\n"
        " 8 |         return;\n"
        "   |         ^^^^^^^\n"
        "  must hold: what must hold\n"
        "\n"
        "  start: IRQL is PASSIVE; removed is 0\n"
        "\n"
        "   routine  line  source                                     IRQL      held\n"
        "   Read        6  KeAcquireSpinLock(&QueueLock, &old);       DISPATCH  QueueLock\n"
        "               7  if (removed) {  (true)                     DISPATCH  QueueLock\n"
        "                    - removed is 1\n"
        "                    - Remove writes `removed`\n"
        " >             8  return;                                    DISPATCH  QueueLock\n"
        "  note: QueueLock was acquired at examples/toaster.drvm:6\n"
    )


def test_a_run_that_breaks_two_obligations_is_shown_once() -> None:
    shown = text(report(VIOLATED, replace(VIOLATED, obligation=replace(VIOLATED.obligation, code=Property.I02))))
    assert shown.count("start: IRQL") == 1
    assert "the run is that of B03 at examples/toaster.drvm:8:9, above" in shown


def test_what_others_did_with_a_lock_is_told_where_it_matters() -> None:
    step = Step("Read", 0, at("return;"), (Choice("var QueueLock.use", 1),))
    violated = replace(VIOLATED, verdict=Violated(Trace("Read", (Choice("life QueueLock", 0),), (step,)), True))
    assert "QueueLock.use" not in text(report(violated))
    assert "QueueLock is not initialised" in text(report(violated))
    mixed = replace(violated, obligation=replace(violated.obligation, code=Property.B08))
    assert "- QueueLock.use is 1" in text(report(mixed))


def test_unknown_says_why_and_what_would_help() -> None:
    shown = text(report(UNKNOWN, unmodelled=("FooDo",)))
    assert "why: `FooDo` is not modelled" in shown
    assert "known: up to line 9" in shown
    assert "`extern FooDo(..)`" in shown
    assert "--timeout" not in text(report(UNKNOWN))
    slow = replace(UNKNOWN, verdict=Undecided("Z3 did not answer in time"))
    assert "--timeout" in text(report(slow))


def test_what_is_proved_is_counted() -> None:
    shown = text(FULL)
    assert re.search(r"^B01 .* 1 +- +-$", shown, re.MULTILINE)
    assert "<W0505>" in shown
    assert shown.endswith("\ntoaster: 2 proved, 1 violated, 1 unknown (1 unreachable)\n")


def test_what_is_never_reached_taken_or_used_is_a_warning(tmp_path: Path) -> None:
    from modelcheck.pipeline import verify

    model = tmp_path / "d.drvm"
    model.write_text(
        "driver d;\nimport wdm;\nlock Taken : KSPIN_LOCK initialised;\nlock Left : KSPIN_LOCK initialised;\n"
        "data Queue;\nvar count : int 0..7;\nvar seen : bool;\nrole R { irql PASSIVE_LEVEL; thread; }\n"
        "routine Read(Irp) as R {\n    KIRQL old;\n    KIRQL spare; // spare\n    seen = true;\n    return;\n"
        "    KeAcquireSpinLock(&Taken, &old);\n    KeReleaseSpinLock(&Taken, old);\n}\n"
    )
    found = verify(model)
    assert [(d.code, d.span.line) for d in found.warnings if d.span] == [
        (Code.LOCK_NEVER_TAKEN, 4),
        (Code.UNUSED, 5),
        (Code.UNUSED, 6),
        (Code.UNUSED, 11),
        (Code.UNREACHABLE, 14),
    ]
    assert not found.violated


NEVER = """\
driver d;
import wdm;
lock L : KSPIN_LOCK initialised;
var removed : bool = false;
var stage : enum { idle, busy };
role CALLBACK { irql PASSIVE_LEVEL; thread; any number; entry { if (removed) { acquire L; } } exit { } }
routine Reads() as CALLBACK {
    bool on = removed;
    if (removed) {
        on = false;
        return;
    }
    switch (stage) {
    case idle:
        break;
    case busy:
        break;
    default:
        assert false;
    }
    stage = idle;
}
routine Polls() as CALLBACK {
    while (true) {
        stage = busy;
    }
    stage = idle;
}
routine Branches(Irp) as CALLBACK {
    if (*) {
        Helps(true);
    } else {
        Helps(false);
    }
}
routine Helps(bool fast) {
    if (fast) {
        stage = idle;
    }
}
"""


def test_a_statement_that_no_path_comes_to_is_told_once_for_a_stretch(tmp_path: Path) -> None:
    """Also where nothing has to hold; not a part of a role's entry, not a `default` that has no value left."""
    from modelcheck.pipeline import verify

    model = tmp_path / "d.drvm"
    model.write_text(NEVER)
    said = [(d.span.line, d.message) for d in verify(model).warnings if d.span and d.code is Code.UNREACHABLE]
    assert said == [
        (10, "no path comes to these 2 statements"),
        (23, "no path comes to the end of `Polls`: what must hold there (B03, I02) holds for that reason only"),
        (27, "no path comes here"),
    ]


SCENARIO = """\
driver d;
import wdm;
lock L : KSPIN_LOCK initialised;
var off : bool = false;
routine Read() as DRIVER_DISPATCH {
    KIRQL old;
    if (!off) {
        KeAcquireSpinLock(&L, &old);
        KeReleaseSpinLock(&L, old);
    }
}
routine Stop() as DRIVER_UNLOAD {
    off = true;
}
scenario stopped on 1 processors {
    off = true;
    run Read() on 0;
}
"""


def test_what_a_scenario_does_not_come_to_is_told_of_the_scenario(tmp_path: Path) -> None:
    from modelcheck.pipeline import verify

    model = tmp_path / "d.drvm"
    model.write_text(SCENARIO)
    said = [(d.span.line, d.message) for d in verify(model).warnings if d.span and d.code is Code.UNREACHABLE]
    assert len(said) == 1
    assert said[0][0] == 8
    assert said[0][1].startswith("in scenario `stopped` no path comes here: what must hold there (")


def test_quiet_leaves_findings_and_the_last_line() -> None:
    assert text(report(PROVED, warnings=(WARNING,)), quiet=True) == "toaster: 1 proved, 0 violated, 0 unknown\n"
    assert text(FULL, quiet=True).startswith("B03 violated")


def test_no_obligations_are_not_a_success() -> None:
    assert "nothing to check" in text(report())
    assert "nothing to check" in text(report(), quiet=True)


def test_a_trace_that_does_not_replay_is_our_error() -> None:
    wrong = report(replace(VIOLATED, verdict=Violated(TRACE, False)))
    assert "internal error" in text(wrong)
    assert status(Outcome("a", wrong)) is Exit.INTERNAL_ERROR


@pytest.mark.parametrize("width", [60, 80, 120])
def test_every_line_fits_the_width(width: int) -> None:
    long = Source("a/rather/deep/folder/with_a_model.drvm", "x" * 300 + " " + "word " * 60)
    steps = tuple(
        Step(
            "ARoutineWithQuiteALongName" * (d + 1),
            d,
            Span(long, 0, len(long.text)),
            (),
            31,
            (("L" * 50, "shared", 3),) * 3,
        )
        for d in range(6)
    )
    wide = report(replace(VIOLATED, verdict=Violated(Trace("R", (), steps), True)), UNKNOWN, DEAD, PROVED)
    for line in text(wide, Style(width)).splitlines():
        assert len(line) <= width


def test_a_model_cannot_send_control_characters_to_the_terminal() -> None:
    evil = Source("evil\x1b[2J.drvm", "call(\x1b[31m\x07\u202e);")
    step = Step("R", 0, Span(evil, 0, len(evil.text)), note="\x1b]0;x\x07")
    shown = text(report(replace(VIOLATED, verdict=Violated(Trace("R", (), (step,)), True))))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", shown)
    assert clean("a\tb\x00") == "a b?"


def test_colour_is_decoration_only() -> None:
    coloured = text(FULL, Style(80, colour=True))
    assert "\x1b[31m" in coloured
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == text(FULL)


def test_steps_in_other_files_name_the_file() -> None:
    other = Source("models/wdm.drvm", "\n\nacquire L;")
    steps = (*TRACE.steps, Step("KeAcquireSpinLock", 1, at("acquire L;", other), (), 2, HELD))
    assert "  wdm.drvm:3  acquire L;" in text(
        report(replace(VIOLATED, verdict=Violated(Trace("Read", (), steps), True)))
    )


# ---- several contexts ----


def test_a_lock_that_is_free_is_not_waited_for_yet() -> None:
    """Read stands before B when nobody has it; the end says that it waits for it for ever."""
    turns = made_up.CROSS.turns
    early = replace(made_up.CROSS, turns=(*turns[:3], *turns[5:7], *turns[3:5], turns[7]))
    run = run_of(early)
    assert [moment.halt for moment in run.moments if moment.halt] == [
        "comes to B, which it could still take",
        "has to wait for A",
    ]
    assert [blocked.words for blocked in run.blocked] == [
        "waits for B, which Write holds",
        "waits for A, which Read holds",
    ]


def test_a_reader_waits_for_a_writer_only_once_that_waits() -> None:
    def shared(turn: Turn) -> Turn:
        mode = "shared" if turn.lock else ""
        return replace(
            turn, mode=mode, step=replace(turn.step, held=tuple((n, "shared", 1) for n, _, _ in turn.step.held))
        )

    turns = tuple(map(shared, made_up.CROSS.turns))
    assert [m.free for m in run_of(replace(made_up.CROSS, turns=turns)).moments if m.waits] == [True, True]
    writer = Turn(2, Step("Write", 0, at("driver")), "waits", "B")
    behind = (*turns[:6], writer, *turns[6:])
    actors = (*made_up.CROSS.actors, replace(made_up.CROSS.actors[1], name="Write 2"))
    run = run_of(replace(made_up.CROSS, turns=behind, actors=actors))
    assert [m.free for m in run.moments if m.waits] == [False, False, True]


def test_a_long_trace_is_folded_as_in_pictures() -> None:
    shown = text(report(replace(VIOLATED, verdict=Violated(made_up.long_trace(300), True))))
    assert shown.count("(these 3 steps again, 99 times in all)") == 1
    assert len(shown.splitlines()) < 30


def test_a_schedule_shows_contexts_processors_and_the_ring() -> None:
    shown = text(report(made_up.DEADLOCK, made_up.OTHER_END))
    assert (
        "   context  cpu  line  source                                     IRQL      held\n"
        "   Read       0     5  start of Read                              PASSIVE\n"
        "                    6  KIRQL old;                                 PASSIVE\n"
        "                    7  KeAcquireSpinLock(&A, &old);               DISPATCH  A\n"
        "   Write      1    15  start of Write                             PASSIVE\n"
        "                   17  KeAcquireSpinLock(&B, &old);               DISPATCH  B\n"
        "   Read       0     8  Inner();                                   DISPATCH  A\n"
        " >   Inner         12  KeAcquireSpinLockAtDpcLevel(&B);           DISPATCH  A\n"
        "                         - has to wait for B\n"
        " > Write      1    18  KeAcquireSpinLockAtDpcLevel(&A);           DISPATCH  B\n"
        "                         - has to wait for A\n"
        "\n"
        "  from here on none of these can ever go on:\n"
        "    Read (thread) on processor 0 waits for B, which Write holds\n"
        "      in Read at cross.drvm:8 > Inner at cross.drvm:12\n"
        "    Write (thread) on processor 1 waits for A, which Read holds\n"
        "  note: A was acquired by Read at examples/cross.drvm:7\n"
        "  note: B was acquired by Write at examples/cross.drvm:17\n"
    ) in shown


def test_a_schedule_that_several_obligations_share_is_shown_once() -> None:
    shown = text(report(made_up.DEADLOCK, made_up.OTHER_END))
    assert shown.count("from here on") == 1
    assert "the run is that of D01 at examples/cross.drvm:12:5, above" in shown


def test_both_accesses_of_a_race_are_marked() -> None:
    shown = text(report(made_up.RACING))
    assert [line.split()[1] for line in shown.splitlines() if line.startswith(" > ")] == ["Read", "Read"]
    assert shown.count("- comes next") == 2
    assert "from here on" not in shown


def test_what_a_scenario_asks_stands_under_its_name() -> None:
    shown = text(made_up.REPORT)
    assert shown.index("D03 unknown") < shown.index("In scenario dpc_comes:") < shown.index("D02 violated")
    assert shown.index("property  ") < shown.index("in scenario dpc_comes  ")
    assert "Write (thread) on processor 0 is interrupted by Tick" in shown


def test_the_lock_hierarchy_is_told_with_what_rules_cycles_out() -> None:
    shown = text(report(made_up.SAFE, hierarchy=made_up.HIERARCHY))
    assert (
        "lock hierarchy: who holds one waits only for those further down\n"
        "  0  Gate\n  1  A\n  2  B, C\n  but for: B -> C -> B cannot close: both hold Gate\n"
    ) in shown
    assert "hierarchy" not in text(report(made_up.SAFE, hierarchy=made_up.HIERARCHY), quiet=True)


@pytest.mark.parametrize(
    ("wait", "words"),
    [
        (Wait(0, "held", "L", (1, 2)), "waits for L, which Write and Tick hold"),
        (Wait(0, "self", "L", (0,)), "waits for L, which it holds itself"),
        (Wait(0, "writer", "L", (1,)), "waits to share L, for which Write is waiting exclusively"),
        (Wait(0, "ended", "L", (1,)), "waits for L, which Write held when it ended"),
        (Wait(0, "event", "E", ()), "waits for E, and nobody can set it"),
        (Wait(0, "event", "E", (1,)), "waits for E, and Write, who could set it, cannot go on"),
        (Wait(0, "displaced", "L", (1,)), "has lost its processor to Write (it holds L)"),
    ],
)
def test_each_reason_to_wait_has_words(wait: Wait, words: str) -> None:
    assert wait_words(wait, ["Read", "Write", "Tick"]) == words


@pytest.mark.parametrize("width", [60, 80, 120])
def test_schedules_fit_the_width(width: int) -> None:
    wide = replace(made_up.DEADLOCK, verdict=Violated(made_up.wide_schedule(40, 4), True))
    for line in text(replace(made_up.REPORT, results=(wide, *made_up.REPORT.results)), Style(width)).splitlines():
        assert len(line) <= width


def test_hostile_names_stay_on_their_lines() -> None:
    shown = text(made_up.hostile())
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", shown)


# ---- exit status ----


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Outcome("a", report(PROVED)), Exit.PROVED),
        (Outcome("a", report(PROVED, VIOLATED, UNKNOWN)), Exit.VIOLATED),
        (Outcome("a", report(PROVED, UNKNOWN)), Exit.UNKNOWN),
        (Outcome("a", report()), Exit.NOTHING_CHECKED),
        (Outcome("a"), Exit.NOTHING_CHECKED),
        (Outcome("a", rejected=(WARNING,)), Exit.WRONG_INPUT),
        (Outcome("a", crashed="KeyError: x"), Exit.INTERNAL_ERROR),
    ],
)
def test_status_of_one_file(outcome: Outcome, expected: Exit) -> None:
    assert status(outcome) is expected


def test_the_worst_status_wins() -> None:
    order = [Exit(n) for n in (4, 2, 1, 3, 5, 0)]
    for number, first in enumerate(order):
        assert worst(order[number:]) is first
        assert worst(reversed(order[number:])) is first
    assert worst([]) is Exit.NOTHING_CHECKED


def test_undecided_can_be_a_warning_but_never_hides_a_violation() -> None:
    assert status(Outcome("a", report(UNKNOWN)), undecided_is_error=False) is Exit.PROVED
    assert status(Outcome("a", report(UNKNOWN, VIOLATED)), undecided_is_error=False) is Exit.VIOLATED


def test_a_file_that_is_only_imported_stands_for_nothing() -> None:
    imported = Outcome("b", only_imported=True)
    assert overall([imported, Outcome("a", report(PROVED))]) is Exit.PROVED
    assert overall([imported]) is Exit.NOTHING_CHECKED


def test_the_total_counts_every_file() -> None:
    outcomes = [Outcome("a", FULL), Outcome("b", report(PROVED)), Outcome("c", rejected=(WARNING,))]
    assert run_total(outcomes, Style()) == "3 files: 3 proved, 1 violated, 1 unknown (1 unreachable), 1 rejected\n"
    assert run_total(outcomes[:1], Style()) == ""
    assert tally(FULL.results).proved == 2


# ---- JSON ----

OUTCOMES = (
    Outcome("examples/toaster.drvm", FULL),
    Outcome("b.drvm", rejected=(WARNING, Diagnostic(Code.UNREADABLE, "gone", None))),
    Outcome("c.drvm", crashed="KeyError: x"),
    Outcome("d.drvm", only_imported=True),
)


def errors(value: Any, schema: dict[str, Any], where: str = "$") -> list[str]:
    """How `value` breaks the schema; the keywords that our schema uses, and no others."""
    known = {
        "$schema",
        "$defs",
        "$ref",
        "title",
        "description",
        "type",
        "required",
        "properties",
        "additionalProperties",
    }
    assert set(schema) <= known | {"items", "const", "enum", "pattern", "minimum", "maximum", "anyOf", "oneOf"}
    if "$ref" in schema:
        return errors(value, SCHEMA["$defs"][schema["$ref"].rsplit("/", 1)[-1]], where)
    found: list[str] = []
    types = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool, "null": type(None)}
    wanted = [schema["type"]] if isinstance(schema.get("type"), str) else schema.get("type", [])
    if wanted and not any(isinstance(value, types[t]) and (t != "integer" or value is not True) for t in wanted):
        return [f"{where}: {value!r} is not {wanted}"]
    if ("const" in schema and value != schema["const"]) or ("enum" in schema and value not in schema["enum"]):
        found.append(f"{where}: {value!r} is not allowed")
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        found.append(f"{where}: {value!r} does not match")
    if isinstance(value, int) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        found.append(f"{where}: {value!r} is out of range")
    for keyword, fits in (("anyOf", lambda n: n >= 1), ("oneOf", lambda n: n == 1)):
        if keyword in schema and not fits(sum(not errors(value, s, where) for s in schema[keyword])):
            found.append(f"{where}: {keyword} does not fit")
    if isinstance(value, list):
        found += [e for n, item in enumerate(value) for e in errors(item, schema.get("items", {}), f"{where}[{n}]")]
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        found += [f"{where}: {name} is missing" for name in schema.get("required", ()) if name not in value]
        if schema.get("additionalProperties") is False:
            found += [f"{where}: {name} is not in the schema" for name in value if name not in properties]
        found += [e for n, item in value.items() for e in errors(item, properties.get(n, {}), f"{where}.{n}")]
    return found


def test_json_is_as_the_schema_says() -> None:
    document = json.loads(dumps(OUTCOMES, Exit.INTERNAL_ERROR, "0.1.0"))
    assert errors(document, SCHEMA) == []
    assert [f["status"] for f in document["files"]] == ["violated", "rejected", "internal error", "only imported"]


def test_json_is_laid_out_as_the_library_does() -> None:
    for outcomes in (OUTCOMES, [], [Outcome('a "b".drvm\n')]):
        text = dumps(outcomes, Exit.VIOLATED, "0.1.0")
        assert text == json.dumps(json.loads(text), indent=2) + "\n"


def test_the_schema_check_has_teeth() -> None:
    good = dumps(OUTCOMES, Exit.INTERNAL_ERROR, "0.1.0")
    for before, after in (
        ('"verdict": "proved"', '"verdict": "fine"'),
        ('"proved": 2', '"proved": -1'),
        ('"exit": 4', '"status": 4'),
        ('"exit": 4', '"exit": 9'),
        ('"unreachable": true', '"unreachable": "yes"'),
        ('"format": 1', '"format": 1, "more": 1'),
    ):
        assert before in good
        assert errors(json.loads(good.replace(before, after)), SCHEMA)


def test_json_holds_every_step() -> None:
    document = json.loads(dumps(OUTCOMES, Exit.VIOLATED, "0.1.0"))
    violated = document["files"][0]["report"]["results"][1]
    assert violated["place"] == {
        "path": "examples/toaster.drvm", "line": 8, "column": 9, "end_line": 8, "end_column": 16,
    }  # fmt: skip
    assert [s["text"] for s in violated["trace"]["steps"]][-1] == "return;"
    assert violated["trace"]["steps"][1]["choices"] == [{"name": "var removed", "value": 1}]
    assert violated["trace"]["steps"][0]["held"] == [{"lock": "QueueLock", "mode": "exclusive", "count": 1}]


def test_json_holds_schedules_once_and_the_hierarchy() -> None:
    outcome = Outcome(made_up.REPORT.path, made_up.REPORT)
    document = json.loads(dumps([outcome], Exit.VIOLATED, "0.1.0"))
    assert errors(document, SCHEMA) == []
    found = document["files"][0]["report"]
    assert [r.get("schedule") for r in found["results"]] == [None, None, 0, 0, 1, None, 2]
    assert [s["scenario"] for s in found["schedules"]] == ["", "", "dpc_comes"]
    assert found["schedules"][0]["turns"][6] | {"step": None} == {
        "context": 0, "event": "waits", "lock": "B", "mode": "", "step": None,
    }  # fmt: skip
    assert found["schedules"][0]["waits"][1] == {"context": 1, "reason": "held", "subject": "A", "by": [0]}
    assert found["hierarchy"]["ruled_out"] == [{"locks": ["B", "C"], "by": "both hold Gate"}]
    assert [r["scenario"] for r in found["results"] if r["scenario"]] == ["dpc_comes", "dpc_comes"]


def test_json_holds_hostile_names_as_they_are() -> None:
    document = json.loads(dumps([Outcome("a", made_up.hostile())], Exit.VIOLATED, "0.1.0"))
    assert errors(document, SCHEMA) == []
    assert {r["routine"] for r in document["files"][0]["report"]["results"]} == set(made_up.HOSTILE)


def test_the_same_input_gives_the_same_bytes() -> None:
    assert dumps(OUTCOMES, Exit.VIOLATED, "0.1.0") == dumps(OUTCOMES, Exit.VIOLATED, "0.1.0")
    assert text(FULL) == text(FULL)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("    if (<a && (b)>) {  // so", "if (a && (b)) {"),
        ("    } else if (<f(x)>) {", "} else if (f(x)) {"),
        ("    } while (<c>);", "} while (c);"),
        ("for (i = 0; <i == 3>; i++) {", "for (i = 0; i == 3; i++) {"),
        ("routine R() { if (<a>) { f(); } }", "if (a)"),
        ("routine R() { while (<a>) { f(); } }", "while (a)"),
        ("{ for (i = 0; <i == 3>; i++) { f(); } }", "i == 3"),
    ],
)
def test_a_condition_is_shown_with_what_it_belongs_to_and_nothing_else(line: str, shown: str) -> None:
    assert condition_words(marked(line)) == shown


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("routine R() { <h()>; i++; }", "h();"),
        ("{ for (i = 0; i == 3; <i++>) { f(); } }", "i++"),
        ("{ switch (<m>) { case 1: } }", "switch (m)"),
    ],
)
def test_a_statement_is_shown_up_to_its_semicolon(line: str, shown: str) -> None:
    assert statement_words(marked(line)) == shown


def marked(line: str) -> Span:
    """The place between `<` and `>`."""
    start, end = line.index("<"), line.index(">") - 1
    return Span(Source("a.drvm", line.replace("<", "").replace(">", "")), start, end)
