"""What makes two counterexamples the same one, when lines have moved.

The shape of a run is which routines it is in, what is held and at which IRQL, step by step where that changes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from modelcheck.verdict import Schedule, Step, Trace


def shape(evidence: Trace | Schedule) -> str:
    """Equal for runs that do the same to locks and IRQL in the same routines, wherever their lines are."""
    if isinstance(evidence, Trace):
        told: Any = _changes([(0, step) for step in evidence.steps])
    else:
        actors = [[actor.routine, actor.kind] for actor in evidence.actors]
        waits = [[wait.actor, wait.reason, wait.subject, list(wait.by)] for wait in evidence.waits]
        told = [actors, _changes([(turn.actor, turn.step) for turn in evidence.turns]), waits]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def _changes(steps: Sequence[tuple[int, Step]]) -> list[Any]:
    """The steps after which a context is in another routine, holds other locks or has another IRQL than before."""
    told: list[Any] = []
    last: dict[int, Any] = {}
    for actor, step in steps:
        state = [step.routine, step.depth, step.irql, [list(hold) for hold in step.held]]
        if last.get(actor) != state:
            told.append([actor, *state])
            last[actor] = state
    return told
