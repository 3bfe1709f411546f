"""A peer that is a Python program: asked in a process of its own, with limits of time and memory."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.measure import Answer, python

READING = 60
"""Seconds to begin and to read the files, which are not counted."""


def ask(module: str, seconds: float, files: list[Path], *more: str) -> Answer:
    """What `module` makes of the files. It prints one JSON object: verdict, seconds without reading, note."""
    arguments = ("-m", f"benchmarks.peers.{module}", str(seconds), *more, *map(str, files))
    done = python(*arguments, seconds=seconds + READING)
    last = done.output.strip().rpartition("\n")[2]
    if done.status != 0 or not last.startswith("{"):
        why = "out of time" if done.late else "out of memory" if "memory" in done.output else f"exit {done.status}"
        return Answer("unknown", max(seconds, done.seconds) if done.late else done.seconds, done.megabytes, why)
    said = json.loads(last)
    return Answer(said["verdict"], said["seconds"], done.megabytes, said["note"])


def answer(verdict: str, seconds: float, note: str = "") -> None:
    """What the child prints."""
    print(json.dumps({"verdict": verdict, "seconds": seconds, "note": note}))
