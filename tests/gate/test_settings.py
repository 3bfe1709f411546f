"""Settings: who wins, and that a misspelt one is never silently nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from modelcheck.gate.settings import SETTINGS, effective, read_jobs
from modelcheck.report.paths import Usage

from .conftest import SOUND, Tree


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_flag_then_environment_then_file_then_project(folder: Path) -> None:
    layers = {"flags": {"jobs": 2}, "environment": {"MODELCHECK_JOBS": "3"}}
    (folder / "modelcheck.toml").write_text("jobs = 4\ntimeout = 40\n")
    (folder / "pyproject.toml").write_text("[tool.modelcheck]\njobs = 5\ntimeout = 50\nbudget = 500\n")
    origins = []
    for _ in range(5):
        found = effective(layers["flags"], layers["environment"])
        origins.append((found["jobs"].value, found["jobs"].origin))
        if layers["flags"]:
            layers["flags"] = {}
        elif layers["environment"]:
            layers["environment"] = {}
        elif (folder / "modelcheck.toml").exists():
            (folder / "modelcheck.toml").unlink()
        else:
            (folder / "pyproject.toml").write_text("")
    assert origins == [
        (2, "flag"),
        (3, "MODELCHECK_JOBS"),
        (4, "modelcheck.toml"),
        (5, "pyproject.toml [tool.modelcheck]"),
        (1, "default"),
    ]


def test_files_of_one_folder_complete_each_other(folder: Path) -> None:
    (folder / "modelcheck.toml").write_text("timeout = 40\n")
    (folder / "pyproject.toml").write_text("[tool.modelcheck]\nbudget = 500\n")
    found = effective({}, {})
    assert (found["timeout"].value, found["budget"].value) == (40.0, 500)


def test_the_nearest_folder_counts_and_its_paths_are_its_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "modelcheck.toml").write_text(
        'paths = ["drivers"]\nbaseline = "known.toml"\nformat = ["sarif=x.sarif"]\n'
    )
    inner = folder / "drivers" / "net"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    found = effective({}, {})
    assert found["paths"].value == ("../../drivers",)
    assert found["baseline"].value == "../../known.toml"
    assert found["format"].value == ("sarif=../../x.sarif",)
    (inner / "modelcheck.toml").write_text("quiet = true\n")
    assert effective({}, {})["paths"].value == ()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("timeot = 3\n", "there is no setting 'timeot'; did you mean timeout?"),
        ("timeout = 'soon'\n", "a number of seconds above 0 is wanted, not 'soon'"),
        ("timeout = true\n", "a number of seconds above 0"),
        ("jobs = 0\n", "a number from 1 to 1024, or auto"),
        ("undecided = 'wran'\n", "did you mean warn?"),
        ("only = ['B99']\n", "no property B99"),
        ("only = []\n", "a text or a list of texts"),
        ("format = 'sarfi'\n", "did you mean sarif?"),
        ("format = 'sarif='\n", "names no file"),
        ("quiet = 'perhaps'\n", "true or false"),
        ("budget = 1.5\n", "a number of steps above 0"),
        ("width = 3\n", "a number from 60 to 1000"),
        ("executor = 'evil:run'\n", "is not taken from a file"),
        ("paths = 3\n", "a text or a list of texts"),
        ("proofs = ''\n", "a text is wanted"),
        ("timeout = \n", "Invalid value"),
    ],
)
@pytest.mark.parametrize("file", ["modelcheck.toml", "pyproject.toml"])
def test_what_does_not_fit_is_an_error(text: str, complaint: str, file: str, folder: Path) -> None:
    head = "[tool.modelcheck]\n" if file == "pyproject.toml" else ""
    (folder / file).write_text(head + text)
    with pytest.raises(Usage) as error:
        effective({}, {})
    assert complaint in str(error.value)
    assert file in str(error.value)


def test_a_misspelt_variable_is_an_error(folder: Path) -> None:
    with pytest.raises(Usage, match="did you mean MODELCHECK_TIMEOUT"):
        effective({}, {"MODELCHECK_TIMOUT": "3"})
    with pytest.raises(Usage, match="MODELCHECK_TIMEOUT: a number of seconds"):
        effective({}, {"MODELCHECK_TIMEOUT": "soon"})
    assert effective({}, {"MODELCHECK_TIMEOUT": "", "OTHER": "x"})["timeout"].origin == "default"


def test_other_tools_in_pyproject_are_none_of_our_business(folder: Path) -> None:
    (folder / "pyproject.toml").write_text('[tool.other]\nmodelcheck = "x"\n')
    assert all(value.origin == "default" for value in effective({}, {}).values())
    (folder / "pyproject.toml").write_text("[tool]\nmodelcheck = 3\n")
    with pytest.raises(Usage, match="no table"):
        effective({}, {})


def test_auto_is_one_for_each_processor() -> None:
    assert read_jobs("auto") >= 1


def test_config_says_where_each_value_comes_from(tree: Tree) -> None:
    tree.write("modelcheck.toml", "jobs = 4\n")
    done = tree.run("config", "--timeout", "3", MODELCHECK_UNDECIDED="warn")
    rows = {line.split()[0]: line.split()[1:] for line in done.out.splitlines()}
    assert rows["jobs"] == ["4", "modelcheck.toml"]
    assert rows["timeout"] == ["3", "flag"]
    assert rows["undecided"] == ["warn", "MODELCHECK_UNDECIDED"]
    assert rows["full"] == ["false", "default"]
    assert set(rows) == {setting.name for setting in SETTINGS}
    assert all(len(line) <= 80 or str(tree.cache) in line for line in done.out.splitlines())


def test_every_setting_is_a_flag_and_can_be_switched_off_again(tree: Tree) -> None:
    shown = tree.run("verify", "--help").out
    for setting in SETTINGS:
        assert setting.name == "paths" or f"--{setting.name}" in shown
    tree.write("modelcheck.toml", "quiet = true\n")
    tree.write("a.drvm", SOUND)
    assert len(tree.verify("a.drvm").out.splitlines()) == 1
    assert len(tree.verify("--no-quiet", "a.drvm").out.splitlines()) > 1


def test_init_writes_what_verify_reads_and_touches_nothing_that_is_there(tree: Tree) -> None:
    assert tree.run("init").status == 0
    done = tree.verify()
    assert done.status == 0
    assert "example: " in done.out
    before = (tree.folder / "modelcheck.toml").read_bytes()
    again = tree.run("init")
    assert again.status == 2
    assert "exist already; nothing was written" in again.err
    assert (tree.folder / "modelcheck.toml").read_bytes() == before


def test_every_setting_of_a_file_is_in_what_init_writes(tree: Tree) -> None:
    tree.run("init", "new")
    text = (tree.folder / "new" / "modelcheck.toml").read_text()
    commented = [line.removeprefix("# ") for line in text.splitlines() if " = " in line]
    names = {line.split(" = ")[0] for line in commented}
    assert names == {setting.name for setting in SETTINGS if not setting.local}
    (tree.folder / "new" / "modelcheck.toml").write_text("\n".join(commented))
    assert tree.run("config", "--cache-dir", os.devnull).status == 0
    assert effective({}, {}, tree.folder / "new")["jobs"].origin.endswith("modelcheck.toml")
