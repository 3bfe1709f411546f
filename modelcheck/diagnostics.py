"""Findings about the input, as values: stable code, message in the user's words, place, notes, help.

Rendering is here too, because every command prints them the same way.
"""

import re
from enum import StrEnum

from modelcheck.record import dataclass, replace
from modelcheck.source import Source, Span


class Code(StrEnum):
    """Stable codes: E01xx reading and syntax, E02xx names, E03xx types and arguments, E04xx structure, W warnings."""

    UNREADABLE = "E0101"
    NOT_UTF8 = "E0102"
    TOO_LARGE = "E0103"
    TOO_DEEP = "E0104"
    SYNTAX = "E0105"
    BAD_NUMBER = "E0106"
    EMPTY = "E0107"

    UNDECLARED = "E0201"
    DECLARED_TWICE = "E0202"
    NO_SUCH_IMPORT = "E0203"
    CYCLIC_IMPORT = "E0204"
    IMPORT_OUTSIDE = "E0205"
    NO_DRIVER = "E0206"
    WRONG_SORT = "E0207"
    RESERVED = "E0208"

    ARGUMENT_COUNT = "E0301"
    ARGUMENT_KIND = "E0302"
    TYPE = "E0303"
    NOT_CONSTANT = "E0304"
    OUT_OF_RANGE = "E0305"
    NOT_ASSIGNABLE = "E0306"
    CALL_PLACE = "E0307"
    LOCK_KIND = "E0308"
    ALIASED = "E0309"

    LABEL = "E0401"
    JUMP_PLACE = "E0402"
    SWITCH = "E0403"
    ROLE = "E0404"
    CLAUSE = "E0405"
    SCENARIO = "E0406"
    PRIMITIVE_PLACE = "E0407"
    KIND_FIELDS = "E0408"
    RECURSION = "E0409"

    NEVER_CALLED = "W0501"
    LOCK_NEVER_TAKEN = "W0502"
    UNREACHABLE = "W0503"
    UNMODELLED = "W0504"
    UNUSED = "W0505"
    ASSUMED_COST = "W0506"
    LEFT_OUT = "W0507"

    @property
    def is_error(self) -> bool:
        return self.value.startswith("E")


@dataclass(frozen=True, slots=True)
class Note:
    """Something said about another place: "`L` was acquired here"."""

    message: str
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding. `help` says what to write instead, when that is known."""

    code: Code
    message: str
    span: Span | None
    notes: tuple[Note, ...] = ()
    help: str | None = None


MAX_REPORTED = 100
MAX_NAME = 80
_LONG_NAME = re.compile(rf"\w{{{MAX_NAME},}}")


class Rejected(Exception):
    """The input cannot be used; `diagnostics` says why, in source order, at least one of them an error."""

    def __init__(self, diagnostics: tuple[Diagnostic, ...]) -> None:
        super().__init__("; ".join(d.message for d in diagnostics[:3]))
        self.diagnostics = diagnostics


def in_source_order(diagnostics: list[Diagnostic]) -> tuple[Diagnostic, ...]:
    """Sorted by file and place, without repeats."""
    unique = dict.fromkeys(diagnostics)
    return tuple(
        sorted(unique, key=lambda d: (d.span.source.name, d.span.start, d.code) if d.span else ("", 0, d.code))
    )


def reported(diagnostics: tuple[Diagnostic, ...]) -> tuple[Diagnostic, ...]:
    """What is told of findings in source order: of each file the first `MAX_REPORTED`, errors before warnings, and how
    many more there are; long names shortened."""
    files: dict[Source | None, list[Diagnostic]] = {}
    for diagnostic in diagnostics:
        files.setdefault(diagnostic.span.source if diagnostic.span else None, []).append(diagnostic)
    told: list[Diagnostic] = []
    for found in files.values():
        ranked = sorted(found, key=lambda d: not d.code.is_error)
        told += map(_shortened, in_source_order(ranked[:MAX_REPORTED]))
        told += _left_out(ranked[MAX_REPORTED:])
    return tuple(told)


def _left_out(diagnostics: list[Diagnostic]) -> list[Diagnostic]:
    errors = sum(d.code.is_error for d in diagnostics)
    counted = ((errors, "error"), (len(diagnostics) - errors, "warning"))
    words = " and ".join(f"{n} more {word}{'' if n == 1 else 's'}" for n, word in counted if n)
    place = diagnostics[0].span if diagnostics else None
    where = "" if place is None else f" in `{place.source.name}`"
    return [Diagnostic(Code.LEFT_OUT, f"{words}{where}", None)] if words else []


def _shortened(diagnostic: Diagnostic) -> Diagnostic:
    notes = tuple(replace(note, message=_short(note.message)) for note in diagnostic.notes)
    help_ = None if diagnostic.help is None else _short(diagnostic.help)
    return replace(diagnostic, message=_short(diagnostic.message), notes=notes, help=help_)


def _short(message: str) -> str:
    return _LONG_NAME.sub(lambda name: name[0][: MAX_NAME // 2] + "...", message)
