"""Time and memory against size, on logarithmic axes, with the fitted exponent of each series."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Point:
    series: str
    size: int
    seconds: float
    megabytes: float


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """The slope of the line through the points on logarithmic axes, least squares; 0 for fewer than two sizes."""
    xs = [math.log(size) for size, _ in points]
    ys = [math.log(value) for _, value in points]
    if len(set(xs)) < 2:
        return 0.0
    x, y = statistics.fmean(xs), statistics.fmean(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)


def groups(points: Sequence[Point]) -> dict[str, list[Point]]:
    """The points of each series with more than one size."""
    found: dict[str, list[Point]] = {}
    for point in points:
        found.setdefault(point.series, []).append(point)
    return {name: own for name, own in found.items() if len({p.size for p in own}) > 1}


def draw(points: Sequence[Point], folder: Path) -> list[Path]:
    """`time.svg` and `memory.svg`; nothing where matplotlib is missing (the extra `bench`)."""
    try:
        import matplotlib
    except ImportError:
        return []
    matplotlib.use("svg")
    from matplotlib import pyplot

    files = []
    for name, unit in (("time", "s"), ("memory", "MB")):
        figure, axes = pyplot.subplots(figsize=(9, 6))
        for series, own in sorted(groups(points).items()):
            values = [(p.size, p.seconds if name == "time" else p.megabytes) for p in own]
            slope = exponent(values)
            axes.loglog(*zip(*values, strict=True), marker="o", markersize=3, label=f"{series}: {slope:.2f}")
        axes.set_xlabel("size (statements, contexts)")
        axes.set_ylabel(f"{name}, {unit}")
        axes.grid(True, which="both", linewidth=0.3)
        axes.legend(fontsize=6, ncols=2)
        files.append(folder / f"{name}.svg")
        figure.savefig(files[-1])
        pyplot.close(figure)
    return files
