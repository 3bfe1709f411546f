"""How quick the gate is; `python -m benchmarks.gate [--models N]` prints one table.

A warm run of `examples/`, many small models with one and with two workers, one edited routine of a large driver.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.generator import driver

EXAMPLES = Path(__file__).parents[1] / "examples"


def verify(cache: Path, *arguments: str) -> float:
    """Seconds of a whole `modelcheck verify` that proves or refutes everything."""
    compiled = str(cache.parent / "compiled")
    environment = {**os.environ, "MODELCHECK_CACHE_DIR": str(cache), "PYTHONPYCACHEPREFIX": compiled}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-m", "modelcheck", "verify", *arguments]
    started = time.perf_counter()
    done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(arguments)}: status {done.returncode}")
    return time.perf_counter() - started


def warm(folder: Path) -> float:
    verify(folder / "warm", str(EXAMPLES))
    return min(verify(folder / "warm", str(EXAMPLES)) for _ in range(5))


def many(folder: Path, models: int, jobs: int) -> float:
    tree = folder / f"models{models}"
    tree.mkdir(exist_ok=True)
    for number in range(models):
        (tree / f"m{number:03}.drvm").write_text(driver(100, 2, seed=number).text)
    return verify(folder / f"none{jobs}", "--cache", "off", "-j", str(jobs), "-q", str(tree))


def edited(folder: Path) -> tuple[float, float]:
    """Seconds cold, and after an edit in the body of one routine."""
    path = folder / "large.drvm"
    path.write_text(driver(10_000, 8, seed=1).text)
    cold = verify(folder / "large", "-q", str(path))
    path.write_text(re.sub(r"(routine \w+\([^{]*\{\n)", r"\1    if (*) { }\n", path.read_text(), count=1))
    return cold, verify(folder / "large", "-q", str(path))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gate", description=__doc__)
    parser.add_argument("--models", type=int, default=500)
    models = parser.parse_args().models
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"| warm run of examples/, process | {warm(folder):.2f} s |")
        one, two = many(folder, models, 1), many(folder, models, 2)
        print(f"| {models} models of 100 statements, cold, -j 2 | {two:.1f} s |")
        print(f"| the same, -j 1, and how much faster -j 2 is | {one:.1f} s, {one / two:.2f} times |")
        cold, again = edited(folder)
        print(f"| one routine of 10,000 statements edited | {again:.1f} s, {again / cold:.0%} of {cold:.1f} s |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
