"""From a checked program to graphs of operations."""

from modelcheck.lower.program import Lowered, frames, lower

__all__ = ["Lowered", "frames", "lower"]
