"""SPIN on an exported scenario (`modelcheck export --to promela`), `pan` compiled with -O2, up to the first error."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Answer, run

MISSING = next((f"{tool} is not installed" for tool in ("spin", "gcc") if shutil.which(tool) is None), "")
WHOLE = "SPIN, with gcc"
PAN = "SPIN, pan alone"
MEGABYTES = 4096
"""For the states."""


@dataclass(frozen=True, slots=True)
class Search:
    """The same answer with the time of `pan` alone, and with making and compiling it."""

    pan: Answer
    whole: Answer


def version() -> str:
    return MISSING or subprocess.run(["spin", "-V"], capture_output=True, text=True, check=True).stdout.strip()


def search(promela: str, seconds: float, folder: Path) -> Search:
    """Whether the contexts of a scenario can come to a deadlock. Writing the Promela is not counted."""
    (folder / "model.pml").write_text(promela)
    options = ["-O2", "-DSAFETY", "-DNOFAIR", f"-DMEMLIM={MEGABYTES}", "-w"]
    made = run(["spin", "-DONLY=-1", "-a", "model.pml"], folder=folder)
    built = run(["gcc", *options, "-o", "pan", "pan.c"], folder=folder)
    if made.status or built.status:
        failed = Answer("unknown", made.seconds + built.seconds, built.megabytes, "no pan: " + made.output[-200:])
        return Search(failed, failed)
    found = run(["./pan", "-m1000000"], seconds, MEGABYTES + 256, folder)
    making = made.seconds + built.seconds
    verdict, note = read(found.output)
    note = "out of time" if found.late else note
    if verdict == "unknown" and not note:
        note = "out of memory"
    pan = Answer(verdict, found.seconds, found.megabytes, note)
    whole = Answer(verdict, found.seconds + making, max(p.megabytes for p in (made, built, found)), note)
    return Search(pan, whole)


def read(output: str) -> tuple[str, str]:
    """What `pan` printed, as a verdict and a note."""
    stored = re.search(r"([\d.e+]+) states, stored", output)
    note = f"{int(float(stored[1])):,} states" if stored else ""
    if "invalid end state (at depth" in output:
        return "unsafe", note
    if stored and "Search not completed" not in output and "search depth too small" not in output:
        return "safe", note
    return "unknown", note
