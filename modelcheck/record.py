"""Data classes that are cheap to define and to make.

`dataclasses` takes a tenth of a millisecond for each class, and as long as for a hundred of them to be loaded: that is
much for a program of some hundred classes. Here only `__init__` is compiled; comparing, hashing and showing are done by
functions that all classes share. Nor is it checked at run time that a frozen object is not assigned to, which makes
each one four times as quick to make: mypy checks that, for which this *is* `dataclasses`. What knows only that, such as
its `replace`, can work with these classes too.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass, field, replace
else:

    def dataclass(
        cls: type | None = None, /, *, frozen: bool = False, slots: bool = False, eq: bool = True, repr: bool = True
    ) -> Any:
        """As in `dataclasses`, always with slots, and without a class above it that has fields. `frozen` makes objects
        hashable, and that they never change is up to mypy."""
        if cls is None:
            return lambda given: dataclass(given, frozen=frozen, slots=slots, eq=eq, repr=repr)
        own = dict(vars(cls))
        names = tuple(own.get("__annotations__", ()))
        defaults = {name: own.pop(name) for name in names if name in own}
        hows = {name: value.how for name, value in defaults.items() if isinstance(value, _Field)}
        own.pop("__dict__", None)
        own.pop("__weakref__", None)
        own |= {"__slots__": names, "__match_args__": names, "__dataclass_fields__": _Fields(defaults)}
        own["__init__"] = _initialising(cls, names, defaults)
        if repr:
            own.setdefault("__repr__", _shown(tuple(n for n in names if hows.get(n, {}).get("repr", True))))
        if eq:
            key = _key(tuple(n for n in names if hows.get(n, {}).get("compare", True)))
            own.setdefault("__eq__", _equal(key))
            own.setdefault("__hash__", _hashed(key) if frozen else None)
        made = type(cls)(cls.__name__, cls.__bases__, own)
        made.__qualname__ = cls.__qualname__
        return made

    def field(**how: Any) -> Any:
        """What is special about a field: its `default_factory`, that it does not `compare`, has no `repr`."""
        return _Field(how)

    def replace(record: Any, /, **changes: Any) -> Any:
        """A record of the same class with these changes."""
        for name in record.__match_args__:
            if name not in changes:
                changes[name] = getattr(record, name)
        return record.__class__(**changes)


def fields(kind: type) -> tuple[str, ...]:
    """The names of the fields of a class, none if it is no record."""
    return getattr(kind, "__match_args__", ())


class _Field:
    def __init__(self, how: dict[str, Any]) -> None:
        self.how = how


class _Fields:
    """The fields as `dataclasses` describes them, worked out when it asks."""

    def __init__(self, defaults: dict[str, Any]) -> None:
        self.defaults = defaults

    def __get__(self, _: object, cls: Any) -> Any:
        import dataclasses

        own = {n: dataclasses.field(**d.how) if isinstance(d, _Field) else d for n, d in self.defaults.items()}
        same: Any = type(cls.__name__, (), {"__annotations__": cls.__annotations__, "__doc__": "", **own})
        cls.__dataclass_fields__ = dataclasses.dataclass(same).__dataclass_fields__
        return cls.__dataclass_fields__


_NONE = object()
"""There is no default."""
_OWN = object()
"""In the place of an argument: the field gets something of its own."""


def _initialising(cls: type, names: tuple[str, ...], defaults: dict[str, Any]) -> Any:
    """`__init__` with an argument for each field."""
    scope: dict[str, Any] = {"_OWN": _OWN}
    arguments, body = ["self"], []
    for name in names:
        argument = value = name
        default = defaults.get(name, _NONE)
        if not isinstance(default, _Field):
            scope[f"_default_{name}"] = default
            argument = name if default is _NONE else f"{name}=_default_{name}"
        elif "default_factory" in default.how:
            scope[f"_default_{name}"] = default.how["default_factory"]
            argument = f"{name}=_OWN"
            value = f"_default_{name}() if {name} is _OWN else {name}"
        arguments.append(argument)
        body.append(f" self.{name} = {value}")
    body.append(" self.__post_init__()" if hasattr(cls, "__post_init__") else " pass")
    exec("\n".join([f"def __init__({', '.join(arguments)}):", *body]), scope)
    scope["__init__"].__qualname__ = f"{cls.__qualname__}.__init__"
    return scope["__init__"]


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


__all__ = ["dataclass", "field", "fields", "replace"]
