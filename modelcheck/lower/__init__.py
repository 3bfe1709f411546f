"""From a checked program to graphs of operations."""

from modelcheck.ir import every_graph
from modelcheck.lower.program import Lowered, frames, lower, strangers

__all__ = ["Lowered", "every_graph", "frames", "lower", "strangers"]
