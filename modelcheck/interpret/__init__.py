"""Runs contexts of a driver on plain values, straight from docs/language.md: one by itself (sections 2 to 6), or
several on their processors (section 7).

It exists to check others: counterexamples are replayed here, and the tests explore all runs of small models with it. So
it shares nothing with the encoding or the engines. A routine becomes a flat list of instructions for a stack machine;
a `State` is a value that can be copied and compared, and `Machine.step` runs one step of it. Whatever the model leaves
open is asked of the caller: `choose(name, allowed)`, in the order of the table of choices in section 4. A `World` holds
several contexts, whose steps `Player`, a machine, divides before each acquisition.

A failed obligation is reported and the run goes on.
"""

from __future__ import annotations

from modelcheck.interpret.configuration import Configuration, Entrant
from modelcheck.interpret.entrants import closed_world
from modelcheck.interpret.machine import Machine
from modelcheck.interpret.player import Player, TooLong
from modelcheck.interpret.replay import Replay, replay, replay_on
from modelcheck.interpret.schedule import Outcome, replay_schedule
from modelcheck.interpret.state import Divergence, State
from modelcheck.interpret.values import (
    FREED,
    INITIALISED,
    MAX_COUNT,
    MAX_FRAMES,
    RETURNED,
    UNINITIALISED,
    Choose,
    Environment,
    Failure,
    Stepped,
)
from modelcheck.interpret.world import World

__all__ = [
    "FREED",
    "INITIALISED",
    "MAX_COUNT",
    "MAX_FRAMES",
    "RETURNED",
    "UNINITIALISED",
    "Choose",
    "Configuration",
    "Divergence",
    "Entrant",
    "Environment",
    "Failure",
    "Machine",
    "Outcome",
    "Player",
    "Replay",
    "State",
    "Stepped",
    "TooLong",
    "World",
    "closed_world",
    "replay",
    "replay_on",
    "replay_schedule",
]
