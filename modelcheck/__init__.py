"""modelcheck: a formal model checker for the locking of Windows kernel drivers.

`verify(path)` proves or refutes every obligation of a driver model and gives a `Report`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelcheck.pipeline import Options, obligations, verify
    from modelcheck.verdict import Report

__version__ = "0.1.0"
__all__ = ["Options", "Report", "__version__", "obligations", "verify"]


def __getattr__(name: str) -> Any:
    """Loads what is asked for only then: most of the package is not needed for `--help`."""
    if name in ("Options", "obligations", "verify"):
        from modelcheck import pipeline

        return getattr(pipeline, name)
    if name == "Report":
        from modelcheck.verdict import Report

        return Report
    raise AttributeError(name)
