"""Data classes that are cheap to define and to make.

`dataclasses` writes, for each class, the text of up to six methods and compiles it: a tenth of a millisecond a method,
and a program of some hundred classes pays for that at every start. Here only `__init__` is compiled; comparing, hashing
and showing are done by functions that all classes share. Nor is it checked at run time that a frozen object is not
assigned to, which makes each one four times as quick to make: mypy checks that, for which this *is* `dataclasses`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(
        cls: type | None = None, /, *, frozen: bool = False, slots: bool = False, eq: bool = True, repr: bool = True
    ) -> Any:
        """As in `dataclasses`; `frozen` makes objects hashable, and that they never change is up to mypy."""
        if cls is None:
            return lambda given: dataclass(given, frozen=frozen, slots=slots, eq=eq, repr=repr)
        own = vars(cls)
        if cls.__doc__ is None:
            cls.__doc__ = cls.__name__  # or its signature would be worked out
        made = dataclasses.dataclass(cls, slots=slots, eq=False, repr=False)
        fields = dataclasses.fields(made)
        if repr and "__repr__" not in own:
            made.__repr__ = _shown(tuple(field.name for field in fields if field.repr))
        if eq:
            key = _key(tuple(field.name for field in fields if field.compare))
            if "__eq__" not in own:
                made.__eq__ = _equal(key)
            if "__hash__" not in own:
                made.__hash__ = _hashed(key) if frozen else None
        return made


def _key(names: tuple[str, ...]) -> Callable[[Any], Any]:
    """What two objects of a class are compared by."""
    return attrgetter(*names) if names else lambda _: ()


def _equal(key: Callable[[Any], Any]) -> Callable[[Any, object], bool]:
    def __eq__(self: Any, other: object) -> bool:
        if self is other:
            return True
        return key(self) == key(other) if other.__class__ is self.__class__ else NotImplemented

    return __eq__


def _hashed(key: Callable[[Any], Any]) -> Callable[[Any], int]:
    def __hash__(self: Any) -> int:
        return hash((key(self), self.__class__))

    return __hash__


def _shown(names: tuple[str, ...]) -> Callable[[Any], str]:
    def __repr__(self: Any) -> str:
        return f"{self.__class__.__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    return __repr__


__all__ = ["dataclass"]
