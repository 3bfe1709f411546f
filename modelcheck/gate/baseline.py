"""Violations that are known already: a run fails on others only.

An entry is matched by what it means: the property, the driver, the routine, what it is about, the world it belongs to,
and the shape of the run: which routines, what is held and at which IRQL, step by step where that changes. Lines and
texts are not part of it. An entry stands for one violation; a second one of the same shape is new. What is unknown is
never known.
"""

from __future__ import annotations

import datetime
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from modelcheck.record import dataclass, replace
from modelcheck.report.outcome import Outcome
from modelcheck.report.paths import Usage
from modelcheck.report.shape import shape
from modelcheck.verdict import Result, Undecided, Violated

FORMAT = 1
_KEY = ("driver", "code", "routine", "subject", "scenario", "shape")
_ALL = (*_KEY, "reason", "expires")

HEAD = """\
# Violations that `modelcheck verify --baseline` accepts. `modelcheck baseline write` keeps what you add to an entry:
#   reason = "why this is accepted"
#   expires = 2030-12-31      # the last day on which it is
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One accepted violation. `expires` is the last day on which it is."""

    driver: str
    code: str
    routine: str
    subject: str
    scenario: str
    shape: str
    reason: str = ""
    expires: datetime.date | None = None

    @property
    def key(self) -> tuple[str, ...]:
        return (self.driver, self.code, self.routine, self.subject, self.scenario, self.shape)

    def __str__(self) -> str:
        where = f" in {self.scenario}" if self.scenario else ""
        about = f": {self.subject}" if self.subject else ""
        return f"{self.driver}: {self.code} {self.routine or '-'}{about}{where}"


@dataclass(frozen=True, slots=True)
class Compared:
    """A run beside a baseline. `fixed` are entries of drivers of this run whose violation is gone; `expired` those that
    are still there after their day; `outcomes` know which violations are accepted."""

    outcomes: tuple[Outcome, ...]
    known: tuple[Entry, ...]
    expired: tuple[Entry, ...]
    fixed: tuple[Entry, ...]
    new: tuple[Entry, ...]


def entry_of(driver: str, result: Result) -> Entry:
    obligation, verdict = result.obligation, result.verdict
    assert isinstance(verdict, Violated)
    return Entry(
        driver,
        str(obligation.code),
        obligation.routine,
        obligation.subject,
        obligation.scenario,
        shape(verdict.trace),
    )


def violations(outcomes: Iterable[Outcome]) -> list[Entry]:
    """An entry for each violation of a run. One that was not confirmed is our own fault and cannot be accepted."""
    return [
        entry_of(outcome.report.driver, result)
        for outcome in outcomes
        if outcome.report
        for result in outcome.report.violated
        if isinstance(result.verdict, Violated) and result.verdict.replayed
    ]


# ---- comparing ----


def compare(outcomes: Sequence[Outcome], entries: Sequence[Entry], today: datetime.date) -> Compared:
    """What of a run is known, new, fixed or expired."""
    left: dict[tuple[str, ...], list[Entry]] = {}
    for entry in entries:
        left.setdefault(entry.key, []).append(entry)
    known: list[Entry] = []
    expired: list[Entry] = []
    new: list[Entry] = []
    compared: list[Outcome] = []
    for outcome in outcomes:
        accepted: list[Result] = []
        for result in outcome.report.violated if outcome.report else ():
            found = entry_of(outcome.report.driver, result) if outcome.report else None
            if found is None or not (isinstance(result.verdict, Violated) and result.verdict.replayed):
                continue
            matching = left.get(found.key)
            if not matching:
                new.append(found)
                continue
            entry = matching.pop(0)
            if entry.expires is not None and entry.expires < today:
                expired.append(entry)
            else:
                known.append(entry)
                accepted.append(result)
        compared.append(replace(outcome, known=tuple(accepted)) if accepted else outcome)
    fixed = [e for rest in left.values() for e in rest if _is_gone(e, outcomes)]
    return Compared(tuple(compared), tuple(known), tuple(expired), tuple(sorted(fixed, key=str)), tuple(new))


def _is_gone(entry: Entry, outcomes: Sequence[Outcome]) -> bool:
    """Whether this run has decided the driver of an entry, and none of the obligations it may be about is unknown."""
    reports = [o.report for o in outcomes if o.report and o.report.driver == entry.driver]
    unknown = {
        (str(r.obligation.code), r.obligation.routine, r.obligation.subject, r.obligation.scenario)
        for report in reports
        for r in report.results
        if isinstance(r.verdict, Undecided)
    }
    return bool(reports) and (entry.code, entry.routine, entry.subject, entry.scenario) not in unknown


def told(compared: Compared) -> str:
    """The comparison in words: counts, then what is fixed, expired, new and still there."""
    parts = [
        ("new", compared.new),
        ("expired", compared.expired),
        ("still there", compared.known),
        ("fixed", compared.fixed),
    ]
    lines = [f"baseline: {', '.join(f'{len(entries)} {word}' for word, entries in parts)}"]
    for word, entries in parts:
        for entry in entries:
            since = f" (until {entry.expires})" if entry.expires and word == "expired" else ""
            why = f": {entry.reason}" if entry.reason else ""
            lines.append(f"  {word}{since}  {entry}{why}")
    return "\n".join(lines) + "\n"


# ---- files ----


def read(path: Path) -> list[Entry]:
    """
    Raises:
        Usage: it cannot be read, or says something else than a baseline does.
    """
    import tomllib

    try:
        content = tomllib.loads(path.read_bytes().decode("utf-8"))
    except FileNotFoundError:
        raise Usage(f"{path}: no such baseline; `modelcheck baseline write` makes one") from None
    except OSError as error:
        raise Usage(f"cannot read {path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Usage(f"{path}: {error}") from None
    listed = content.get("entry", [])
    if content.get("format") != FORMAT or not isinstance(listed, list) or set(content) - {"format", "entry"}:
        raise Usage(f"{path}: no baseline of format {FORMAT}")
    return [_entry(path, number, raw) for number, raw in enumerate(listed, 1)]


def _entry(path: Path, number: int, raw: Any) -> Entry:
    place = f"{path}: entry {number}"
    if not isinstance(raw, dict):
        raise Usage(f"{place} is no table")
    for name, value in raw.items():
        if name not in _ALL:
            from modelcheck.gate.settings import suggestion

            raise Usage(f"{place}: there is no key {name!r}{suggestion(name, _ALL)}")
        day = isinstance(value, datetime.date) and not isinstance(value, datetime.datetime)
        if not (day if name == "expires" else isinstance(value, str)):
            raise Usage(f"{place}: {name} is {'a date such as 2030-12-31' if name == 'expires' else 'a text'}")
    missing = [name for name in _KEY if name not in raw]
    if missing:
        raise Usage(f"{place}: {', '.join(missing)} is missing")
    return Entry(**raw)


def written(found: Sequence[Entry], before: Sequence[Entry]) -> str:
    """The text of a baseline with these entries; reasons and days of those that were there before are kept."""
    left: dict[tuple[str, ...], list[Entry]] = {}
    for entry in before:
        left.setdefault(entry.key, []).append(entry)
    entries = [(left.get(entry.key) or [entry]).pop(0) for entry in sorted(found, key=lambda e: e.key)]
    blocks = [HEAD + f"\nformat = {FORMAT}\n"]
    for entry in entries:
        lines = ["[[entry]]", *(f"{name} = {_quoted(getattr(entry, name))}" for name in _KEY)]
        lines.append(f"reason = {_quoted(entry.reason)}")
        if entry.expires:
            lines.append(f"expires = {entry.expires.isoformat()}")
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def _quoted(text: str) -> str:
    """A basic string of TOML: what JSON writes is one, but for the character that JSON leaves as it is."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def counts(entries: Iterable[Entry]) -> Counter[str]:
    """How many entries each driver has."""
    return Counter(entry.driver for entry in entries)
