"""Z3 as if nothing had been asked of it before.

Which of several models Z3 gives depends on what its context holds already, so a trace would depend on the files that
the same process has verified before. With a context of its own, the same file gives the same bytes.
"""

from __future__ import annotations

import z3.z3


def begin() -> None:
    """Makes an empty context the one that is used from here on. Terms of the last one stay valid, in theirs."""
    z3.z3._main_ctx = None
