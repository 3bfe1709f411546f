"""SPIN asked about an exported scenario."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

MISSING = next((f"{tool} is not installed" for tool in ("spin", "gcc") if shutil.which(tool) is None), "")
"""Why SPIN cannot be asked; "" where it can."""
MEMORY = 2048
"""Megabytes for one search."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`deadlock`: an invalid end state was reached; `broken`: the numbers of the assertions that fail; `states` that
    were stored. `complete`: nothing was left out."""

    deadlock: bool
    broken: frozenset[int]
    states: int
    complete: bool


def ask(model: str, seconds: float = 60, reduce: bool = True) -> Answer:
    """All errors of a model."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model.pml").write_text(model)
        made = _run(["spin", "-a", "model.pml"], folder, seconds)
        assert (folder / "pan.c").exists(), made.stdout + made.stderr
        assert "error" not in made.stdout.lower(), made.stdout
        options = ["-O1", "-DSAFETY", "-w", f"-DMEMLIM={MEMORY}", *([] if reduce else ["-DNOREDUCE"])]
        built = _run(["gcc", *options, "-o", "pan", "pan.c"], folder, seconds)
        assert built.returncode == 0, built.stderr
        found = _run(["./pan", "-c0", "-m200000"], folder, seconds)
    return read(found.stdout)


def _run(command: list[str], folder: Path, seconds: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=seconds, check=False)


def read(output: str) -> Answer:
    """What `pan` printed."""
    broken = frozenset(int(n) for n in re.findall(r"assertion violated \(\((\d+)<0\)", output))
    stored = re.search(r"(\d+(?:\.\d+)?(?:e\+\d+)?) states, stored", output)
    whole = "max search depth too small" not in output and "Search not completed" not in output and stored is not None
    return Answer("invalid end state (at depth" in output, broken, int(float(stored[1])) if stored else 0, whole)
