"""What is known passes, what is new fails, wherever the lines are."""

from __future__ import annotations

import datetime
import tomllib
from pathlib import Path

import pytest

from modelcheck.gate.baseline import Entry, compare, read, written
from modelcheck.report.outcome import Outcome
from modelcheck.report.paths import Usage
from modelcheck.report.shape import shape
from modelcheck.source import Source, Span
from modelcheck.verdict import (
    Actor,
    Obligation,
    Property,
    Report,
    Result,
    Schedule,
    Step,
    Trace,
    Turn,
    Undecided,
    Violated,
)

from .conftest import LEAKS, SOUND, UNKNOWN, Tree

TODAY = datetime.date(2030, 1, 1)
SOURCE = Source("a.drvm", "x" * 100)
LEAKS_TWICE = LEAKS.replace("driver leaks", "driver leaks").replace(
    "routine Read",
    "routine Write(Irp) as DRIVER_DISPATCH {\n    KIRQL o;\n    KeAcquireSpinLock(&QueueLock, &o);\n}\n\nroutine Read",
)


def step(at: int, held: tuple[str, ...] = (), irql: int = 0) -> Step:
    return Step("Read", 0, Span(SOURCE, at, at + 1), irql=irql, held=tuple((name, "", 1) for name in held))


def violated(at: int = 0, code: Property = Property.B03, replayed: bool = True) -> Result:
    trace = Trace("Read", (), (step(at), step(at + 1, ("L",), 2)))
    return Result(Obligation(code, "Read", Span(SOURCE, at, at + 1), "L", "why"), Violated(trace, replayed))


def outcome(*results: Result) -> Outcome:
    return Outcome("a.drvm", Report("d", "a.drvm", results))


def entry(result: Result, reason: str = "", expires: datetime.date | None = None) -> Entry:
    assert isinstance(result.verdict, Violated)
    o = result.obligation
    return Entry("d", str(o.code), o.routine, o.subject, o.scenario, shape(result.verdict.trace), reason, expires)


# ---- shapes ----


def test_the_shape_is_that_of_locks_and_levels_not_of_lines() -> None:
    short = Trace("Read", (), (step(0), step(1, ("L",), 2)))
    longer = Trace("Read", (), (step(50), step(51), step(52), step(60, ("L",), 2), step(61, ("L",), 2)))
    assert shape(short) == shape(longer)


def test_other_locks_levels_and_routines_are_other_shapes() -> None:
    runs = [
        Trace("Read", (), (step(0), step(1, ("L",), 2))),
        Trace("Read", (), (step(0), step(1, ("M",), 2))),
        Trace("Read", (), (step(0), step(1, ("L",), 1))),
        Trace("Read", (), (step(0), step(1, ("L",), 2), step(2), step(3, ("L",), 2))),
    ]
    actors = (Actor("Read 1", "Read", "thread", 0), Actor("Read 2", "Read", "thread", 1))
    turns = (Turn(0, step(0, ("L",))), Turn(1, step(0, ("M",))))
    schedules = [
        Schedule("", 2, actors, turns),
        Schedule("", 2, actors, turns[::-1]),
        Schedule("", 2, (actors[0], Actor("Read 2", "Read", "isr", 1)), turns),
    ]
    assert len({shape(run) for run in (*runs, *schedules)}) == 7


# ---- comparing ----


def test_known_new_and_fixed() -> None:
    known, new = violated(), violated(code=Property.I02)
    gone = entry(violated(code=Property.B01))
    compared = compare([outcome(known, new)], [entry(known), gone], TODAY)
    assert compared.outcomes[0].known == (known,)
    assert compared.outcomes[0].news == (new,)
    assert [e.code for e in compared.new] == ["I02"]
    assert compared.fixed == (gone,)


def test_a_second_violation_of_the_same_shape_is_new() -> None:
    first, second = violated(0), violated(50)
    compared = compare([outcome(first, second)], [entry(first)], TODAY)
    assert len(compared.known) == len(compared.new) == 1


@pytest.mark.parametrize(("expires", "passes"), [(TODAY, True), (TODAY - datetime.timedelta(1), False), (None, True)])
def test_an_entry_holds_to_its_last_day(expires: datetime.date | None, passes: bool) -> None:
    result = violated()
    compared = compare([outcome(result)], [entry(result, "later", expires)], TODAY)
    assert (compared.outcomes[0].news == ()) is passes
    assert len(compared.expired) == (not passes)


def test_what_is_unknown_is_neither_known_nor_fixed() -> None:
    result = violated()
    unknown = Result(result.obligation, Undecided("no time"))
    compared = compare([outcome(unknown)], [entry(result)], TODAY)
    assert (compared.known, compared.fixed, compared.new) == ((), (), ())


def test_what_was_not_looked_at_is_not_fixed() -> None:
    compared = compare([Outcome("a.drvm", crashed="lost")], [entry(violated())], TODAY)
    assert compared.fixed == ()


def test_a_trace_that_was_not_confirmed_is_never_accepted() -> None:
    result = violated(replayed=False)
    compared = compare([outcome(result)], [entry(result)], TODAY)
    assert compared.outcomes[0].known == ()


# ---- files ----


def test_reasons_and_days_survive_a_rewrite(tmp_path: Path) -> None:
    kept = entry(violated(), 'a "reason"\nof two lines \x7f \\ \U0001f512', TODAY)
    other = entry(violated(code=Property.I02))
    text = written([entry(violated()), other], [kept])
    path = tmp_path / "baseline.toml"
    path.write_text(text, encoding="utf-8")
    assert set(read(path)) == {kept, other}
    assert tomllib.loads(text)["format"] == 1


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no baseline of format 1"),
        ("format = 2\n", "no baseline of format 1"),
        ("format = 1\nentrys = []\n", "no baseline of format 1"),
        ("format = 1\nentry = [3]\n", "entry 1 is no table"),
        ('format = 1\n[[entry]]\ndriver = "d"\n', "is missing"),
        ('format = 1\n[[entry]]\nreson = "x"\n', "did you mean reason?"),
        ('format = 1\n[[entry]]\nexpires = "soon"\n', "a date such as 2030-12-31"),
        ("format = 1\n[[entry]]\ncode = 3\n", "code is a text"),
        ("format = \n", "Invalid value"),
    ],
)
def test_a_file_that_is_no_baseline_is_refused(text: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "baseline.toml"
    path.write_text(text)
    with pytest.raises(Usage) as error:
        read(path)
    assert complaint in str(error.value)


# ---- the commands ----


def test_a_baseline_is_written_and_holds_when_lines_move(tree: Tree) -> None:
    model = tree.write("a.drvm", LEAKS)
    assert tree.run("baseline", "write", "a.drvm").out == "wrote baseline.toml: 2 violations accepted\n".replace(
        "2", str(len(read(tree.folder / "baseline.toml")))
    )
    assert tree.verify("--baseline", "baseline.toml", "a.drvm").status == 0
    model.write_text(LEAKS.replace("    if (removed)", "\n    // moved\n\n    if (removed)"))
    done = tree.verify("--baseline", "baseline.toml", "a.drvm")
    assert done.status == 0
    assert "baseline: 0 new, 0 expired, " in done.out
    model.write_text(LEAKS_TWICE)
    done = tree.verify("--baseline", "baseline.toml", "a.drvm")
    assert done.status == 1
    assert "new  leaks: B03 Write: QueueLock" in done.out
    model.write_text(SOUND.replace("driver sound", "driver leaks"))
    done = tree.verify("--baseline", "baseline.toml", "a.drvm")
    assert done.status == 0
    assert "fixed  leaks: B03 Read: QueueLock" in done.out


def test_an_expired_entry_fails(tree: Tree) -> None:
    tree.write("a.drvm", LEAKS)
    tree.run("baseline", "write", "a.drvm")
    file = tree.folder / "baseline.toml"
    file.write_text(file.read_text().replace('reason = ""', 'reason = "later"\nexpires = 2020-12-31', 1))
    done = tree.verify("--baseline", "baseline.toml", "a.drvm")
    assert done.status == 1
    assert "expired (until 2020-12-31)  leaks: B03 Read: QueueLock: later" in done.out
    assert "(over: it fails)\n    later\n" in tree.run("baseline", "show").out


def test_a_baseline_is_not_written_from_half_a_run(tree: Tree) -> None:
    tree.write("a.drvm", LEAKS)
    tree.write("b.drvm", "driver b;\nroutine R( {\n")
    done = tree.run("baseline", "write", ".")
    assert done.status == 2
    assert "was not written" in done.err
    assert not (tree.folder / "baseline.toml").exists()


def test_a_baseline_does_not_let_unknowns_pass(tree: Tree) -> None:
    tree.write("a.drvm", UNKNOWN)
    tree.run("baseline", "write", "a.drvm")
    assert tree.verify("--baseline", "baseline.toml", "a.drvm").status == 3
