"""Exports as text, and what cannot be exported."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelcheck.cli import main
from modelcheck.export.names import Names
from modelcheck.export.promela import promela
from modelcheck.export.promela_code import one_of, select
from modelcheck.export.refusal import NotExportable
from modelcheck.lower.closed import lower_scenarios
from modelcheck.pipeline import load

HEAD = "driver d;\nimport wdm;\nlock L : KSPIN_LOCK initialised;\nevent E;\n"
BODY = "KIRQL old; KeAcquireSpinLock(&L, &old); KeReleaseSpinLock(&L, old);"


def written(folder: Path, text: str) -> Path:
    path = folder / "m.drvm"
    path.write_text(HEAD + text)
    return path


def exported(folder: Path, text: str) -> str:
    return promela(lower_scenarios(load(written(folder, text))[0])[0])


def test_names_are_used_once() -> None:
    names = Names(used={"q"})
    assert [names.of(1, "var x"), names.of(2, "var_x"), names.of(1, "var x"), names.of(3, "q")] == [
        "var_x",
        "var_x_2",
        "var_x",
        "q_2",
    ]


def test_neighbours_are_one_comparison() -> None:
    assert one_of("x", [7, 1, 2, 3]) == "(x >= 1 && x <= 3) || x == 7"
    assert one_of("x", []) == "false"


def test_too_many_values_are_refused() -> None:
    assert select("x", 0, 100) == ["select (x : 0 .. 100);"]
    with pytest.raises(NotExportable, match="10001 values"):
        select("x", 0, 10_000)


def test_the_same_model_gives_the_same_text(tmp_path: Path) -> None:
    text = f"routine R() {{ {BODY} }} scenario s on 2 processors {{ run R() on 0; run R() on 1; }}"
    assert exported(tmp_path, text) == exported(tmp_path, text)


def test_levels_are_shown_to_the_same_processor_only(tmp_path: Path) -> None:
    routine = f"routine R() {{ {BODY} }} "
    apart = exported(tmp_path, routine + "scenario s on 2 processors { run R() on 0; run R() on 1; }")
    beside = exported(tmp_path, routine + "scenario s on 1 processors { run R() on 0; run R() on 0; }")
    assert "byte q[" not in apart
    assert "byte q[2]" in beside


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("Unknown(&L);", "no model knows `Unknown`"),
        ("Again();", "calls itself"),
    ],
)
def test_what_is_not_known_is_refused(tmp_path: Path, body: str, reason: str) -> None:
    text = f"routine Again() {{ if (*) {{ Again(); }} }} routine R() {{ {body} }} scenario s {{ run R(); }}"
    with pytest.raises(NotExportable, match=reason):
        exported(tmp_path, text)


# ---- the command ----

TWO = f"routine R() {{ {BODY} }} scenario one {{ run R(); }} scenario two {{ run R(); run R(); }}"
ROOTS = "".join(f"routine {name}(Irp) as DRIVER_DISPATCH {{ {BODY} }} " for name in ("A", "B"))


def test_several_scenarios_need_a_choice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(written(tmp_path, TWO))
    assert main(["export", path, "--to", "promela"]) == 2
    assert "choose with --scenario" in capsys.readouterr().err
    assert main(["export", path, "--to", "promela", "--scenario", "two"]) == 0
    assert capsys.readouterr().out.startswith("/* scenario two of d")
    assert main(["export", path, "--to", "promela", "--scenario", "three"]) == 2


def test_several_scenarios_are_several_files(tmp_path: Path) -> None:
    assert main(["export", str(written(tmp_path, TWO)), "--to", "promela", "-o", str(tmp_path / "m.pml")]) == 0
    assert sorted(file.name for file in tmp_path.glob("*.pml")) == ["m-one.pml", "m-two.pml"]


def test_one_file_of_clauses_for_all_roots(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(written(tmp_path, ROOTS))
    assert main(["export", path, "--to", "smt2"]) == 0
    blocks = capsys.readouterr().out
    assert "; A\n" in blocks
    assert "; B\n" in blocks
    assert main(["export", path, "--to", "smt2", "--points", "--root", "A"]) == 0
    points = capsys.readouterr().out
    assert "; B\n" not in points
    assert points.count("declare-fun R0_") > blocks.count("declare-fun R0_")


def test_one_obligation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(written(tmp_path, ROOTS))
    assert main(["list", path]) == 0
    ours = next(line.split("  ")[0] for line in capsys.readouterr().out.splitlines() if line.startswith("B03 A:"))
    assert main(["export", path, "--to", "vmt", "--obligation", ours]) == 0
    text = capsys.readouterr().out
    assert text.count(":invar-property") == 1
    assert ours in text
    assert main(["export", path, "--to", "vmt", "--obligation", "B03 Z:1:1"]) == 2


def test_nothing_to_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(written(tmp_path, ROOTS)), "--to", "promela"]) == 5
    assert "it has no scenario" in capsys.readouterr().err


def test_what_cannot_be_said_is_an_exit_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, "routine R() { Unknown(&L); } scenario s { run R(); }")
    assert main(["export", str(path), "--to", "promela"]) == 2
    assert "cannot be exported: no model knows `Unknown`" in capsys.readouterr().err
