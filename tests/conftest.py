"""What holds for all tests."""

from __future__ import annotations

from typing import Any

import pytest

from modelcheck import pipeline
from modelcheck.verdict import Undecided


@pytest.fixture(autouse=True)
def no_run_fails_to_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user gets `unknown` for a run that does not replay; here it is a failure."""
    right = pipeline._Replays.together

    def strict(self: Any, *given: Any) -> Any:
        verdict = right(self, *given)
        if isinstance(verdict, Undecided) and verdict.reason.startswith(pipeline.NO_REPLAY):
            raise pipeline.InternalError(verdict.reason)
        return verdict

    monkeypatch.setattr(pipeline._Replays, "together", strict)
