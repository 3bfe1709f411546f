"""The peer for several contexts: SPIN on the exported scenario, `pan` compiled with -O2."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from modelcheck.export.promela import promela
from modelcheck.lower.closed import lower_scenarios
from modelcheck.pipeline import load

MISSING = next((f"{tool} is not installed" for tool in ("spin", "gcc") if shutil.which(tool) is None), "")
MEMORY = 4096
"""Megabytes for the search."""


@dataclass(frozen=True, slots=True)
class Search:
    """`verdict`: deadlock, none or unknown (time or memory ran out). Seconds of `pan` alone and of all: making it,
    compiling it, running it. `megabytes` at the peak."""

    verdict: str
    pan: float
    whole: float
    megabytes: float
    states: int


def version() -> str:
    if MISSING:
        return MISSING
    return subprocess.run(["spin", "-V"], capture_output=True, text=True, check=True).stdout.strip()


def search(path: Path, seconds: float) -> Search:
    """What SPIN says of the only scenario of a model; it stops at the first deadlock. Writing the Promela is not
    counted."""
    text = promela(lower_scenarios(load(path)[0])[0])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model.pml").write_text(text)
        started = time.perf_counter()
        _run(["spin", "-DONLY=-1", "-a", "model.pml"], folder)
        _run(["gcc", "-O2", "-DSAFETY", "-DNOFAIR", f"-DMEMLIM={MEMORY}", "-w", "-o", "pan", "pan.c"], folder)
        made = time.perf_counter()
        output, peak = _limited(["./pan", "-m1000000"], folder, seconds)
        ended = time.perf_counter()
    stored = re.search(r"([\d.e+]+) states, stored", output)
    verdict = "unknown"
    if "invalid end state (at depth" in output:
        verdict = "deadlock"
    elif stored and "Search not completed" not in output and "search depth too small" not in output:
        verdict = "none"
    return Search(verdict, ended - made, ended - started, peak, int(float(stored[1])) if stored else 0)


def _run(command: list[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def _limited(command: list[str], folder: Path, seconds: float) -> tuple[str, float]:
    """What a process printed, and its peak memory; killed at its limit."""
    limit = MEMORY * 1024**2 + 2**28

    def bound() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, int(seconds) + 2))

    with tempfile.TemporaryFile("w+") as output:
        child = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT, preexec_fn=bound)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read() if child.returncode >= 0 else ""
    return text, usage.ru_maxrss / 1024
