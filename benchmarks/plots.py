"""Time and memory against size, on logarithmic axes, with the fitted exponent of each series."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.measure import Run


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """The slope of the line through the points on logarithmic axes, least squares; 0 for fewer than two sizes."""
    xs = [math.log(size) for size, _ in points]
    ys = [math.log(value) for _, value in points]
    if len(set(xs)) < 2:
        return 0.0
    x, y = statistics.fmean(xs), statistics.fmean(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)


Values = Callable[[Run], float]


def seconds(run: Run) -> float:
    return run.seconds


def megabytes(run: Run) -> float:
    return run.answer.megabytes


def series(runs: Sequence[Run], value: Values) -> dict[str, list[tuple[float, float]]]:
    """Sizes and values of each series with more than one size; of right answers only."""
    found: dict[str, list[tuple[float, float]]] = {}
    for run in runs:
        if run.state == "right" and run.size > 0 and value(run) > 0:
            found.setdefault(run.series, []).append((run.size, value(run)))
    return {name: points for name, points in sorted(found.items()) if len({size for size, _ in points}) > 1}


def draw(runs: Sequence[Run], folder: Path) -> list[Path]:
    """`time.svg` and `memory.svg`; nothing where matplotlib is missing (the extra `bench`)."""
    try:
        import matplotlib
    except ImportError:
        return []
    matplotlib.use("svg")
    from matplotlib import pyplot

    files = []
    for name, unit, value in (("time", "s", seconds), ("memory", "MB", megabytes)):
        found = series(runs, value)
        if not found:
            continue
        figure, axes = pyplot.subplots(figsize=(10, 8))
        for number, (label, points) in enumerate(found.items()):
            style = {"marker": "osv^Dx*"[number // 10 % 7], "markersize": 3, "linewidth": 0.8}
            axes.loglog(*zip(*points, strict=True), label=f"{label}: {exponent(points):.2f}", **style)
        axes.set_xlabel("size (statements, contexts, models, locks: as the series says)")
        axes.set_ylabel(f"{name}, {unit}")
        axes.grid(True, which="both", linewidth=0.3)
        axes.legend(fontsize=5, ncols=2, loc="center left", bbox_to_anchor=(1, 0.5))
        files.append(folder / f"{name}.svg")
        figure.savefig(files[-1], bbox_inches="tight")
        pyplot.close(figure)
    return files
