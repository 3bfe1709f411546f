"""Kept verdicts are those of the same content, or none."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zlib
from dataclasses import is_dataclass
from pathlib import Path

import pytest

from modelcheck import verdict
from modelcheck.gate import codec
from modelcheck.gate.cache import Cache, entry_of
from modelcheck.gate.task import Limits
from modelcheck.pipeline import Options, load, verify
from modelcheck.source import Source, Span
from modelcheck.verdict import (
    Actor,
    Choice,
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
    Wait,
)

from .conftest import LEAKS, SOUND, Tree, slow, wait_for_children

USED = (
    "import sys\n"
    "from modelcheck.cli import main\n"
    "status = main(sys.argv[1:])\n"
    "sys.stderr.write('\\n@@ ' + ' '.join(n for n in ('z3', 'cvc5', 'lark') if n in sys.modules))\n"
    "sys.exit(status)\n"
)


def loaded(tree: Tree, *arguments: str) -> tuple[int, set[str], str]:
    """Exit status, the solvers and parsers that a run had to load, and what it printed."""
    command = [sys.executable, "-c", USED, "verify", *arguments]
    done = subprocess.run(
        command, cwd=tree.folder, env=tree.environment(), capture_output=True, text=True, timeout=100, check=False
    )
    return done.returncode, set(done.stderr.rpartition("@@")[2].split()), done.stdout


def test_a_warm_run_loads_no_solver_and_says_the_same(tree: Tree) -> None:
    tree.write("a.drvm", SOUND)
    tree.write("b.drvm", LEAKS)
    status, used, cold = loaded(tree, ".")
    assert (status, "z3" in used) == (1, True)
    assert loaded(tree, ".") == (1, set(), cold)


@pytest.mark.parametrize("form", ["json", "sarif", "junit", "github", "markdown"])
def test_formats_are_the_same_from_kept_verdicts(form: str, tree: Tree) -> None:
    tree.write("a.drvm", SOUND)
    tree.write("b.drvm", LEAKS)
    uncached = tree.verify("--cache", "off", "--format", form, ".")
    cold = tree.verify("--format", form, ".")
    status, used, warm = loaded(tree, "--format", form, ".")
    assert uncached.out == cold.out == warm
    assert not used
    assert status == 1


def test_proofs_come_from_kept_verdicts(tree: Tree) -> None:
    tree.write("a.drvm", SOUND)
    tree.verify("--proofs", "cold", ".")
    assert loaded(tree, "--proofs", "warm", ".")[:2] == (0, set())
    for suffix in ("json", "smt2"):
        assert (tree.folder / f"cold/a.{suffix}").read_bytes() == (tree.folder / f"warm/a.{suffix}").read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(
            lambda tree: tree.write("a.drvm", 'driver a;\nimport "part.drvm";\n' + BODY + "\n"), id="the model"
        ),
        pytest.param(lambda tree: tree.write("part.drvm", "import wdm;\n// other\n"), id="what it imports"),
    ],
)
def test_an_edit_is_seen(change: object, tree: Tree) -> None:
    tree.write("part.drvm", "import wdm;\n")
    tree.write("a.drvm", 'driver a;\nimport "part.drvm";\n' + BODY)
    assert loaded(tree, "a.drvm")[1] >= {"z3"}
    assert loaded(tree, "a.drvm")[1] == set()
    assert callable(change)
    change(tree)
    assert loaded(tree, "a.drvm")[1] >= {"z3"}


BODY = SOUND.split("import wdm;\n", 1)[1]


@pytest.mark.parametrize(
    "more", [["--full"], ["--strict"], ["--only", "B03"], ["--budget", "1000000"], ["--timeout", "99"]]
)
def test_other_options_are_another_question(more: list[str], tree: Tree) -> None:
    tree.write("a.drvm", SOUND)
    tree.verify("a.drvm")
    before = len(list(tree.cache.iterdir()))
    tree.verify(*more, "a.drvm")
    assert len(list(tree.cache.iterdir())) == before + 1


@pytest.mark.parametrize("place", ["head", "report", "proof", "end"])
def test_a_damaged_entry_is_noticed_and_not_used(place: str, tree: Tree) -> None:
    tree.write("a.drvm", LEAKS)
    good = tree.verify("a.drvm")
    (file,) = tree.cache.iterdir()
    content = bytearray(file.read_bytes())
    first = content.index(b"\n")
    at = {"head": 25, "report": first + 500, "proof": len(content) - 10, "end": 0}[place]
    if place == "end":
        file.write_bytes(content[: len(content) // 2])
    else:
        content[at] ^= 1
        file.write_bytes(content)
    done = tree.verify("a.drvm")
    assert (done.status, done.out) == (1, good.out)
    assert "1 damaged entries of the cache were not used" in done.err
    assert tree.verify("a.drvm").err == ""


def forge(tree: Tree) -> None:
    """An entry whose hashes are right and whose verdicts are not: whoever can write to a cache can do this."""
    (file,) = tree.cache.iterdir()
    head, _, rest = file.read_bytes().partition(b"\n")
    mark, length, _, digest = head.decode().rsplit(" ", 3)
    text, proof = rest[: int(length)], rest[int(length) :]
    kept = json.loads(text)
    proved = next(entry[2] for entry in kept["report"][-1][3][1:] if entry[2][0] == 4)
    for entry in kept["report"][-1][3][1:]:
        entry[2] = proved
    text = json.dumps(kept).encode()
    file.write_bytes(f"{mark} {len(text)} {hashlib.sha256(text).hexdigest()} {digest}\n".encode() + text + proof)


def test_cache_verify_finds_kept_verdicts_anew(tree: Tree) -> None:
    tree.write("a.drvm", LEAKS)
    tree.verify("a.drvm")
    done = tree.verify("--cache", "verify", "a.drvm")
    assert done.status == 1
    assert "1 of 1 kept verdicts were found anew" in done.err
    forge(tree)
    assert tree.verify("a.drvm").status == 0, "the forgery is one"
    done = tree.verify("--cache", "verify", "a.drvm")
    assert done.status == 4
    assert "the cache does not agree: B03 Read:12:9 QueueLock was proved and is violated" in done.err
    assert tree.verify("a.drvm").status == 1


def test_a_cache_of_others_is_not_used(tree: Tree) -> None:
    tree.write("a.drvm", LEAKS)
    tree.verify("a.drvm")
    forge(tree)
    tree.cache.chmod(0o777)
    done = tree.verify("a.drvm")
    assert done.status == 1
    assert "others can write to" in done.err


def test_a_cache_that_cannot_be_written_costs_time_only(tree: Tree) -> None:
    tree.write("a.drvm", SOUND)
    blocked = tree.write("file", "no folder")
    done = tree.verify("--cache-dir", str(blocked / "cache"), "a.drvm")
    assert done.status == 0
    done = tree.verify("--cache-dir", "/proc", "a.drvm")
    assert done.status == 0
    assert "nothing can be kept in /proc" in done.err


def test_two_runs_at_once_lose_nothing(tree: Tree) -> None:
    for number in range(8):
        tree.write(f"m{number}.drvm", SOUND.replace("driver sound", f"driver m{number}"))
    both = [tree.start("verify", "."), tree.start("verify", ".")]
    printed = [process.communicate(timeout=100) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert printed[0] == printed[1]
    assert loaded(tree, ".") == (0, set(), printed[0][0])
    assert {path.suffix for path in tree.cache.iterdir()} == {".verdict"}


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks at processes in /proc")
def test_an_entry_is_about_the_text_that_was_verified(tree: Tree) -> None:
    """A file that changes between the look into the cache and the work on it."""
    tree.write("a_slow.drvm", slow())
    changed = tree.write("b.drvm", SOUND)
    process = tree.start("verify", "-q", "--timeout", "100", ".")
    wait_for_children(process.pid)
    changed.write_text(LEAKS)
    process.communicate(timeout=60)
    assert process.returncode == 1
    changed.write_text(SOUND)
    assert tree.verify("b.drvm").status == 0
    changed.write_text(LEAKS)
    assert tree.verify("b.drvm").status == 1


def test_an_import_that_is_moved_out_of_the_folder_is_refused_again(tree: Tree) -> None:
    tree.write("in/a.drvm", 'driver a;\nimport "part.drvm";\n' + BODY)
    part = tree.write("in/part.drvm", "import wdm;\n")
    assert tree.verify("in/a.drvm").status == 0
    tree.write("out/part.drvm", "import wdm;\n")
    part.unlink()
    part.symlink_to("../out/part.drvm")
    assert tree.verify("in/a.drvm").status == 2


# ---- reports as values ----


def decoded(report: Report, sources: list[Source]) -> Report:
    found = codec.decode(json.loads(json.dumps(codec.encode(report, sources))), sources)
    assert isinstance(found, Report)
    return found


def test_nothing_of_a_report_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "a.drvm"
    path.write_text(LEAKS)
    report = verify(path)
    sources = list(
        {r.obligation.span.source for r in report.results} | {w.span.source for w in report.warnings if w.span}
    )
    sources += [s.span.source for r in report.violated for s in steps(r) if s.span.source not in sources]
    assert decoded(report, sources) == report


def steps(result: Result) -> tuple[Step, ...]:
    assert isinstance(result.verdict, Violated)
    trace = result.verdict.trace
    return tuple(turn.step for turn in trace.turns) if isinstance(trace, Schedule) else trace.steps


def test_nothing_of_a_schedule_is_lost() -> None:
    source = Source("a.drvm", "routine A() {}\n")
    step = Step("A", 0, Span(source, 8, 9), (Choice("var x", 1, "true"),), 2, (("L", "shared", 1),), True, "note")
    schedule = Schedule(
        "both",
        2,
        (Actor("A 1", "A", "thread", 0, (Choice("irql", 0),)), Actor("A 2", "A", "isr", 1)),
        (Turn(0, step), Turn(1, step, "waits", "L", "shared")),
        (Wait(1, "held", "L", (0,)),),
    )
    obligation = Obligation(Property.D01, "A", step.span, "L", "no deadlock", "both")
    report = Report("a", "a.drvm", (Result(obligation, Violated(schedule, True)),))
    assert decoded(report, [source]) == report


def test_what_several_results_share_is_written_once() -> None:
    source = Source("a.drvm", "routine A() {}\n")
    trace = Trace("A", (Choice("irql", 0),), (Step("A", 0, Span(source, 8, 9)),))
    broken = tuple(
        Result(Obligation(code, "A", Span(source, 8, 9), "L", ""), Violated(trace, True))
        for code in (Property.B01, Property.D01)
    )
    report = Report("a", "a.drvm", broken)
    assert json.dumps(codec.encode(report, [source])).count("irql") == 1
    first, second = (result.verdict for result in decoded(report, [source]).results)
    assert isinstance(first, Violated)
    assert isinstance(second, Violated)
    assert first == broken[0].verdict
    assert first.trace is second.trace


def test_every_class_of_a_report_has_its_place() -> None:
    classes = {k for k in vars(verdict).values() if is_dataclass(k) and k.__module__ == verdict.__name__}
    assert classes - {verdict.Certificate} <= set(codec._CLASSES)


def test_what_has_no_place_in_an_entry_is_not_kept() -> None:
    with pytest.raises(codec.NotKept):
        codec.encode(object(), [])
    with pytest.raises(codec.NotKept):
        codec.encode(Span(Source("a", "text"), 0, 1), [Source("a", "text")])


def test_an_unknown_that_another_run_may_know_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.drvm").write_text(SOUND)
    program = load(Path("a.drvm"))
    report = verify(Path("a.drvm"), Options(certificate=True), program)
    assert entry_of("key", "a.drvm", Limits(), program[0], report) is not None
    for reason, kept in (("Spacer gave no answer within 60 s", False), ("it comes after a call nobody knows", True)):
        other = Result(report.results[0].obligation, Undecided(reason))
        changed = Report(report.driver, report.path, (other,), certificate=report.certificate)
        assert (entry_of("key", "a.drvm", Limits(), program[0], changed) is not None) is kept


def test_old_entries_go_away(tmp_path: Path) -> None:
    cache = Cache(tmp_path, "key")
    for name, age in (("new.verdict", 0), ("old.verdict", 40 * 86400), ("half.new", 7200)):
        (tmp_path / name).write_bytes(zlib.compress(b""))
        stamp = (tmp_path / name).stat().st_mtime - age
        os.utime(tmp_path / name, (stamp, stamp))
    cache.tidy()
    assert [path.name for path in tmp_path.iterdir()] == ["new.verdict"]
