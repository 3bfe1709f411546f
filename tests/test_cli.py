"""The command line: tests/cli.md as it stands there, and what cannot be shown in a session."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from modelcheck import cli
from modelcheck.cli import explain
from modelcheck.cli.terminal import style

SESSION = Path(__file__).with_name("cli.md")
BLOCK = re.compile(r"^```(?P<kind>drvm|console) ?(?P<name>\S*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Command:
    line: int
    text: str
    output: str


def commands(block: re.Match[str], session: str) -> Iterator[Command]:
    """The commands of a console block, each with what it is to print."""
    first = session[: block.start("text")].count("\n") + 1
    parts = re.split(r"^\$ (.*)\n", block["text"], flags=re.MULTILINE)
    assert not parts[0], "a console block begins with a command"
    line = first
    for text, output in zip(parts[1::2], parts[2::2], strict=True):
        yield Command(line, text, output)
        line += 1 + output.count("\n")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test finds what another left."""
    monkeypatch.setenv("MODELCHECK_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))


def run(command: str, folder: Path) -> tuple[int, str]:
    """Exit status, and standard output with standard error, of a command for a shell."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "COLUMNS": "80", "NO_COLOR": "1"}
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout


def matches(wanted: str, printed: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in wanted.replace("...\n", "...").split("..."))
    return re.fullmatch(pattern, printed, re.DOTALL) is not None


def test_the_session_in_cli_md(tmp_path: Path) -> None:
    session = SESSION.read_text(encoding="utf-8")
    status = 0
    for block in BLOCK.finditer(session):
        if block["kind"] == "drvm":
            (tmp_path / block["name"]).write_text(block["text"], encoding="utf-8")
            continue
        for command in commands(block, session):
            if command.text == "echo $?":
                printed = f"{status}\n"
            else:
                status, printed = run(command.text, tmp_path)
            assert matches(command.output, printed), (
                f"cli.md:{command.line}: $ {command.text}\nwanted:\n{command.output}\nprinted ({status}):\n{printed}"
            )


def test_dots_stand_for_anything_and_nothing_else_does() -> None:
    assert matches("a ... c\n", "a b c\n")
    assert matches("...\nend\n", "1\n2\nend\n")
    assert not matches("a.c\n", "abc\n")
    assert not matches("a\n", "a\nb\n")


SOUND = "driver d;\n\nroutine Read(Irp) {\n    return;\n}\n"


def write(folder: Path, name: str, text: str = SOUND) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_reader_that_goes_away_is_no_fault(tmp_path: Path) -> None:
    status, printed = run("(modelcheck explain; echo status $? >&2) | true", tmp_path)
    assert status == 0
    assert "Traceback" not in printed
    assert "internal" not in printed


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_said(tmp_path: Path) -> None:
    status, printed = run("modelcheck explain B03 > /dev/full", tmp_path)
    assert status == 2
    assert printed.startswith("modelcheck: cannot write")


def test_ctrl_c_ends_with_a_word(tmp_path: Path) -> None:
    program = (
        "import sys, time; from modelcheck import cli; from modelcheck.cli import explain;"
        "explain.run = lambda o: time.sleep(60); sys.exit(cli.main())"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", "print('ready', flush=True);" + program, "explain"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=20)
    assert process.returncode == 130
    assert complaint == "modelcheck: interrupted\n"


def test_an_internal_error_is_4_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: object) -> int:
        raise KeyError("lost")

    monkeypatch.setattr(explain, "run", broken)
    assert cli.main(["explain"]) == 4
    complaint = capsys.readouterr().err
    assert "internal error" in complaint
    assert "Traceback" in complaint


def test_a_fault_in_one_file_does_not_hide_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import modelcheck.pipeline as pipeline

    honest = pipeline.verify

    def verify(path: Path, *rest: object) -> object:
        if path.name == "b.drvm":
            raise RuntimeError("lost")
        return honest(path, *rest)

    monkeypatch.setattr(pipeline, "verify", verify)
    for name in ("a.drvm", "b.drvm", "c.drvm"):
        write(tmp_path, name)
    assert cli.main(["verify", str(tmp_path)]) == 4
    printed = capsys.readouterr()
    assert " ".join(printed.out.split()).count("nothing to check") == 2
    assert "RuntimeError: lost" in printed.err


def test_a_file_that_others_import_needs_no_driver(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "part.drvm", "var count : int 0..7;\n")
    write(tmp_path, "whole.drvm", 'driver d;\n\nimport "part.drvm";\n\nroutine R(Irp) {\n    count = 1;\n}\n')
    assert cli.main(["verify", str(tmp_path)]) in (0, 5)
    assert "checked where it is imported" in capsys.readouterr().err
    (tmp_path / "whole.drvm").unlink()
    assert cli.main(["verify", str(tmp_path)]) == 2


def test_files_are_taken_once_and_in_order(tmp_path: Path) -> None:
    from modelcheck.report.paths import model_files

    for name in ("b.drvm", "a/z.drvm", "a.drvm", "a/no.txt"):
        write(tmp_path, name)
    (tmp_path / "folder.drvm").mkdir()
    found = [str(p.relative_to(tmp_path)) for p, _ in model_files([str(tmp_path / "b.drvm"), str(tmp_path)])]
    assert found == ["b.drvm", "a/z.drvm", "a.drvm"]


def test_an_output_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    from modelcheck.report.paths import Usage, write_whole

    target = write(tmp_path, "out.txt", "before")
    write_whole(target, "after")
    assert target.read_text() == "after"
    with pytest.raises(Usage, match="cannot write"):
        write_whole(tmp_path / "missing" / "out.txt", "text")
    assert [p.name for p in tmp_path.iterdir()] == ["out.txt"]


def test_an_output_can_be_a_pipe(tmp_path: Path) -> None:
    program = "from modelcheck.report.paths import *; write_whole(Path('/dev/stdout'), 'x')"
    assert run(f'{sys.executable} -c "{program}" | cat', tmp_path) == (0, "x")


def test_models_of_one_name_keep_their_proofs_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from modelcheck.report.paths import write_proofs
    from modelcheck.verdict import Certificate, Report

    monkeypatch.chdir(tmp_path)
    files = [(Path("a/d.drvm"), True), (Path("b/d.drvm"), True), (Path("e.drvm"), True)]
    for path, _ in files:
        write_proofs(tmp_path, path, files, Report("d", str(path), (), certificate=Certificate("(check-sat)", "{}")))
    names = ["a-d.json", "a-d.smt2", "b-d.json", "b-d.smt2", "e.json", "e.smt2"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    write_proofs(tmp_path, Path("e.drvm"), files, None)
    assert sorted(p.name for p in tmp_path.iterdir()) == names[:4]


def test_help_is_quick(tmp_path: Path) -> None:
    best = min(_seconds_of(["--help"]) for _ in range(3))
    bare = min(_seconds_of(None) for _ in range(3))
    assert best - bare < 0.15


def _seconds_of(arguments: list[str] | None) -> float:
    command = ["-c", "pass"] if arguments is None else ["-m", "modelcheck", *arguments]
    start = time.perf_counter()
    subprocess.run([sys.executable, *command], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


@pytest.mark.parametrize(
    ("variables", "terminal", "colour"),
    [({}, True, True), ({}, False, False), ({"NO_COLOR": "1"}, True, False), ({"TERM": "dumb"}, True, False)],
)
def test_colour_is_for_terminals(
    variables: dict[str, str], terminal: bool, colour: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    assert style(sys.stdout, None).colour is colour


@pytest.mark.parametrize("wrong", ["0", "-1", "nan", "inf", "soon"])
def test_a_timeout_is_a_time(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["verify", f"--timeout={wrong}", "x.drvm"])
    assert end.value.code == 2
    assert "seconds" in capsys.readouterr().err
