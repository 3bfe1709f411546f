"""Names of a model in a language that knows only letters, digits and underscores."""

from __future__ import annotations

import re
from collections.abc import Hashable

from modelcheck.record import dataclass, field


@dataclass(slots=True)
class Names:
    """A name for each thing, readable and used once."""

    known: dict[Hashable, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def of(self, thing: Hashable, wanted: str) -> str:
        """The name of a thing: what was wanted, or the same with a number."""
        name = self.known.get(thing)
        if name is None:
            stem = re.sub(r"\W+", "_", wanted, flags=re.ASCII)
            name, count = stem, 1
            while name in self.used:
                count += 1
                name = f"{stem}_{count}"
            self.known[thing] = name
            self.used.add(name)
        return name
