"""A report as plain JSON values and back, nothing lost: what the cache keeps.

A record is a list that begins with the number of its class, a tuple one that begins with 0, a place `{"s": ..}`. What
several results share, the run that breaks them, is written once, before all else, and named by its number, `{"e": ..}`:
a deadlock of many contexts breaks as many obligations, and its run is long. Only the classes named here can come out of
it. Sources are kept by their number: their text is read anew, so that a verdict never speaks of a text that is not
there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

from modelcheck import verdict as v
from modelcheck.diagnostics import Code, Diagnostic, Note
from modelcheck.record import fields
from modelcheck.source import Source, Span

_CLASSES: tuple[Any, ...] = (
    v.Report,
    v.Result,
    v.Obligation,
    v.Proved,
    v.Violated,
    v.Undecided,
    v.Trace,
    v.Step,
    v.Choice,
    v.Schedule,
    v.Actor,
    v.Turn,
    v.Wait,
    v.Hierarchy,
    v.Ruled,
    Diagnostic,
    Note,
)
_NAMES = [fields(kind) for kind in _CLASSES]
SHAPE = "\n".join(f"{kind.__name__} {' '.join(names)}" for kind, names in zip(_CLASSES, _NAMES, strict=True))
"""Changes when a class gets another field."""


class NotKept(Exception):
    """A value that has no place in a kept report."""


def encode(value: Any, sources: Sequence[Source]) -> Any:
    """
    Raises:
        NotKept: it holds something that is not of these classes, or a place in another source.
    """
    numbers = {source: number for number, source in enumerate(sources)}
    runs: dict[int, int] = {}
    written: list[Any] = []
    writers = {
        kind: (number, [attrgetter(name) for name in names])
        for number, (kind, names) in enumerate(zip(_CLASSES, _NAMES, strict=True), 1)
    }

    def write(part: Any) -> Any:
        kind = type(part)
        if part is None or kind in (str, int, bool):
            return part
        if kind is tuple:
            return [0, *map(write, part)]
        if kind in writers:
            number, getters = writers[kind]
            if kind not in _SHARED:
                return [number, *(write(get(part)) for get in getters)]
            if id(part) not in runs:
                written.append([number, *(write(get(part)) for get in getters)])
                runs[id(part)] = len(written) - 1
            return {"e": runs[id(part)]}
        if kind is Span and part.source in numbers:
            return {"s": [numbers[part.source], part.start, part.end]}
        if kind is v.Property:
            return {"p": part.value}
        if kind is Code:
            return {"c": part.value}
        raise NotKept(kind.__name__)

    last = write(value)
    return [*written, last]


def decode(value: Any, sources: Sequence[Source]) -> Any:
    """
    Raises:
        ValueError, TypeError, IndexError, KeyError: it is not what `encode` writes.
    """
    properties = {code.value: code for code in v.Property}
    kinds: tuple[Callable[..., Any], ...] = (_together, *_CLASSES)

    def read(part: Any) -> Any:
        if part.__class__ is list:
            return kinds[part[0]](*[read(p) if p.__class__ in _NESTED else p for p in part[1:]])
        if part.__class__ is dict:
            if "p" in part:
                return properties[part["p"]]
            if "c" in part:
                return Code(part["c"])
            if "e" in part:
                return runs[part["e"]]
            number, start, end = part["s"]
            return Span(sources[number], start, end)
        return part

    runs: list[Any] = []
    for part in value:
        runs.append(read(part))
    return runs[-1]


_SHARED = {v.Trace, v.Schedule}
_NESTED = {list, dict}


def _together(*parts: Any) -> tuple[Any, ...]:
    return parts
