"""What runs where it is used: the script of the GitHub Action, the pre-commit hooks, completion."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from modelcheck.cli.entry import command_line

from .conftest import LEAKS, SOUND, UNKNOWN, Tree

yaml = pytest.importorskip("yaml")
ROOT = Path(__file__).parents[2]


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def act(tree: Tree, paths: str, arguments: str = "") -> tuple[int, dict[str, str], str]:
    """Runs the step `verify` of the action as GitHub does; exit status, outputs, summary."""
    (step,) = (step for step in read("action.yml")["runs"]["steps"] if step.get("id") == "verify")
    temp = tree.folder.parent / "runner"
    temp.mkdir(exist_ok=True)
    for name in ("output", "summary"):
        (temp / name).write_text("")
    environment = tree.environment(
        RUNNER_TEMP=str(temp),
        GITHUB_OUTPUT=str(temp / "output"),
        GITHUB_STEP_SUMMARY=str(temp / "summary"),
        INPUT_PATHS=paths,
        INPUT_ARGS=arguments,
        INPUT_JOBS="auto",
        INPUT_TIMEOUT="60",
        INPUT_CACHE="on",
        PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    )
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    done = subprocess.run(
        command, cwd=tree.folder, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    outputs = dict(line.split("=", 1) for line in (temp / "output").read_text().splitlines())
    return done.returncode, outputs, (temp / "summary").read_text()


def test_the_action_fails_uploads_findings_and_writes_a_summary(tree: Tree) -> None:
    tree.write("drivers/a b.drvm", LEAKS)
    tree.write("drivers/b.drvm", UNKNOWN)
    status, outputs, summary = act(tree, "drivers/a b.drvm\ndrivers/b.drvm\n")
    assert status == 1
    assert outputs["exit-status"] == "1"
    assert summary.startswith("## modelcheck: violated")
    results = json.loads(Path(outputs["findings"]).read_text())["runs"][0]["results"]
    assert {(r["kind"], r["level"]) for r in results} <= {("fail", "error"), ("fail", "warning"), ("fail", "note")}
    complete = json.loads(Path(outputs["sarif"]).read_text())["runs"][0]["results"]
    assert len(complete) > len(results)


def test_the_action_passes_what_is_proved_and_fails_without_models(tree: Tree) -> None:
    tree.write("drivers/a.drvm", SOUND)
    assert act(tree, "drivers")[0] == 0
    assert act(tree, "drivers\nnowhere")[0] == 2
    (tree.folder / "empty").mkdir()
    assert act(tree, "empty")[0] == 5
    assert act(tree, "")[0] == 2


def test_hooks_call_commands_that_exist(tree: Tree) -> None:
    tree.write("a.drvm", SOUND)
    for hook in read(".pre-commit-hooks.yaml"):
        assert {"id", "name", "entry", "language", "files"} <= set(hook)
        names = ["a.drvm"] if hook.get("pass_filenames", True) else []
        words = hook["entry"].split() + hook.get("args", []) + names
        assert words[0] == "modelcheck"
        assert tree.run(*words[1:]).status == 0


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_every_command(shell: str, tree: Tree) -> None:
    pytest.importorskip("shtab")
    done = tree.run("completion", shell)
    assert done.status == 0
    assert "--undecided" in done.out
    for action in command_line()._subparsers._group_actions:  # type: ignore[union-attr]
        for name in action.choices or ():
            assert name in done.out


def test_the_bash_completion_is_bash(tree: Tree) -> None:
    pytest.importorskip("shtab")
    script = tree.run("completion", "bash").out
    subprocess.run(["bash", "-n"], input=script, text=True, check=True, timeout=20)


def test_snippets_of_the_documentation_are_yaml_and_use_flags_that_exist() -> None:
    text = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    blocks = [part.split("```", 1)[0] for part in text.split("```yaml\n")[1:]]
    assert len(blocks) == 4
    for block in blocks:
        assert yaml.safe_load(block)
    parser = command_line()
    for line in text.splitlines():
        words = line.strip().removeprefix("- ").split("  #")[0].split()
        if words[:2] == ["modelcheck", "verify"] and len(words) > 2 and "$(" not in line:
            parser.parse_args(words[1:])
