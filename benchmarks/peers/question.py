"""What all peers for one context are asked: can any of some obligations of a driver be broken?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from benchmarks.measure import Answer
from benchmarks.peers import bounded, induction, spacer, transitions
from modelcheck import system as flat
from modelcheck.export.root import single, system
from modelcheck.invariant import Lives
from modelcheck.ir import Root
from modelcheck.lower import Lowered

flat.MAX_EDGES = 10**6  # how large a root may be is no question here

SPACER = (spacer.BLOCKS, spacer.POINTS)
UNROLLED = (bounded.NAME, induction.NAME)


class Question:
    """Obligations of a driver that one context alone can break, as transition systems of the roots that come to them.

    Raises:
        NotExportable: a root calls itself, or what no model knows.
    """

    def __init__(self, lowered: Lowered, lives: dict[Root, Lives], numbers: Iterable[int] | None = None) -> None:
        found = single(lowered)
        self.numbers = tuple(found if numbers is None else (n for n in numbers if n in found))
        roots = [root for root in lowered.roots if any(root in found[n] for n in self.numbers)]
        self.asked = {number: lowered.obligations[number] for number in self.numbers}
        self.systems = [
            system(lowered, root, (n for n in self.numbers if root in found[n]), lives[root]) for root in roots
        ]

    def tools(self, seconds: Mapping[str, float], folder: Path) -> dict[str, Callable[[], Answer]]:
        """How each of these peers is asked, by its name, with the seconds it has."""
        ways: dict[str, Callable[[float], Answer]] = {
            spacer.BLOCKS: partial(spacer.ask, self.systems, True, folder=folder),
            spacer.POINTS: partial(spacer.ask, self.systems, False, folder=folder),
            bounded.NAME: lambda most: bounded.ask(transitions.write(self.systems, self.asked, folder), most),
            induction.NAME: lambda most: induction.ask(transitions.write(self.systems, self.asked, folder), most),
        }
        return {name: partial(ways[name], most) for name, most in seconds.items()}
