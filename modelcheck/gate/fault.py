"""What is told of a fault of ours."""

from __future__ import annotations

from pathlib import Path


def told(error: BaseException) -> str:
    """Stage, broken promise and stack trace: enough to find our fault."""
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    stage = next((Path(f.filename).stem for f in reversed(frames) if "modelcheck" in Path(f.filename).parts), "cli")
    trace = "".join(traceback.format_exception(error))
    return (
        f"internal error in {stage}: {type(error).__name__}: {error}\n{trace}A fault of modelcheck; please report it."
    )
