"""From a checked program to graphs of operations."""

from modelcheck.lower.program import Lowered, every_graph, frames, lower, strangers

__all__ = ["Lowered", "every_graph", "frames", "lower", "strangers"]
