"""The models of real drivers in `examples/drivers`, each with the verdicts it says it must get.

`// expect: violated B03, I02` or `// expect: unknown T01` stands behind the line that earns it; all else is proved.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[2] / "examples"
_EXPECTATION = re.compile(r"// expect: (violated|unknown) ([A-Z]\d\d(?:, ?[A-Z]\d\d)*)\s*$")

Place = tuple[int, str, str]
"""A line, the code of a property and the verdict."""


@dataclass(frozen=True, slots=True)
class Real:
    path: Path
    lines: int
    places: frozenset[Place]
    """Where something is not proved."""

    @property
    def expected(self) -> str:
        verdicts = {verdict for _, _, verdict in self.places}
        return "unsafe" if "violated" in verdicts else "unknown" if verdicts else "safe"

    def complaint(self, results: list[dict[str, Any]]) -> str:
        found = {(r["place"]["line"], r["code"], r["verdict"]) for r in results if r["verdict"] != "proved"}
        different = sorted(found ^ self.places)
        return f"not as the model says: {different[0]}" if different else ""


def drivers() -> list[Real]:
    found = []
    for path in sorted((EXAMPLES / "drivers").glob("*.drvm")):
        lines = path.read_text(encoding="utf-8").splitlines()
        found.append(Real(path, len(lines), _places(lines)))
    return found


def _places(lines: list[str]) -> frozenset[Place]:
    found: set[Place] = set()
    for number, line in enumerate(lines, start=1):
        if match := _EXPECTATION.search(line):
            found.update((number, code.strip(), match[1]) for code in match[2].split(","))
    return frozenset(found)
