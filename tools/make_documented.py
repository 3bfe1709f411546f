"""Writes modelcheck/data/documented.tsv from the catalogue of documented facts: `make_documented.py CSV_FOLDER`.

The folder holds ddi_irql.csv (levels of the reference pages), irql_overrides.csv (where a page head must not be taken
as it stands), header_annotations.csv (SAL contracts), locks.csv (lock routines) and call_constraints.csv. What it has
no level for is in documented_more.tsv beside this file. Functions only. A routine whose level is not known is left out:
unknown is not "any".
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

OUTPUT = Path(__file__).parent.parent / "modelcheck" / "data" / "documented.tsv"
BY_HAND = Path(__file__).parent / "documented_more.tsv"

LEVELS = {
    "PASSIVE_LEVEL": 0,
    "APC_LEVEL": 1,
    "DISPATCH_LEVEL": 2,
    "DPC_LEVEL": 2,
    "DIRQL": 5,
    "DISPATCH_LEVEL+1": 5,  # how KMDF headers write a device level
    "HIGH_LEVEL": 31,
}
ANY = (LEVELS["PASSIVE_LEVEL"], LEVELS["HIGH_LEVEL"])
Bounds = dict[str, tuple[int, int]]

# Routines that take or give back a lock although no annotation says so.
_LOCK_NAME = re.compile(
    r"(Acquire|Release)\w*(Lock|Mutex|Resource|Control|Device|Fcb)|(Raise|Lower)Irql|(Lock|Unlock)SubjectContext"
)
_NOT_A_LOCK = re.compile(r"RemoveLock|RundownProtection")
_EFFECT_COLUMNS = (
    "acquires",
    "releases",
    "irql_raises",
    "irql_saves_to",
    "irql_restores_from",
    "irql_saves_global",
    "irql_restores_global",
)
# The filtering platform's routines have names with a version, which sources leave to a macro (fwpsk.h, fwpmk.h).
_VERSIONED = re.compile(r"(Fwp[ms]\w*[A-Za-z])\d")
_NO_EFFECT_FAMILIES = {"Not locks despite the name", "Waits and signals"}


def rows(folder: Path, name: str) -> Iterator[dict[str, str]]:
    with (folder / name).open(encoding="utf-8", newline="") as stream:
        yield from csv.DictReader(stream)


def page_bounds(folder: Path) -> Bounds:
    """From the heads of the reference pages. Two pages of one name: what both allow."""
    bounds: Bounds = {}
    for row in rows(folder, "ddi_irql.csv"):
        if row["kind"] != "function" or not row["irql_min"]:
            continue
        low, high = LEVELS[row["irql_min"]], LEVELS[row["irql_max"]]
        for name in filter(None, (row["name"], row["alias"])):
            before = bounds.get(name, ANY)
            bounds[name] = max(low, before[0]), min(high, before[1])
    return bounds


def header_bounds(folder: Path) -> Bounds:
    """From SAL annotations of functions. A minimum alone says nothing about the highest level."""
    bounds: Bounds = {}
    for row in rows(folder, "header_annotations.csv"):
        if row["kind"] != "function" or row["function_class"] or "IRQL_requires" in row["conditional"]:
            continue
        low = row["irql_requires"] or row["irql_requires_min"] or "PASSIVE_LEVEL"
        high = row["irql_requires"] or row["irql_requires_max"]
        if high in LEVELS and low in LEVELS:
            bounds[row["name"]] = LEVELS[low], LEVELS[high]
    return bounds


def overrides(folder: Path) -> Bounds:
    return {r["name"]: (LEVELS[r["use_min"]], LEVELS[r["use_max"]]) for r in rows(folder, "irql_overrides.csv")}


def by_hand() -> Iterator[tuple[str, tuple[int, int], str]]:
    """Routine, bounds and flags of each that documented_more.tsv lists."""
    for line in BY_HAND.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            low, high, flags, names = line.split("\t")
            yield from ((name, (LEVELS[low], LEVELS[high]), flags) for name in names.split())


def without_version(bounds: Bounds) -> Bounds:
    """Names that are macros for one of several versions: what all of them allow."""
    short: Bounds = {}
    for name, (low, high) in bounds.items():
        if match := _VERSIONED.fullmatch(name):
            before = short.get(match[1], ANY)
            short[match[1]] = max(low, before[0]), min(high, before[1])
    return {name: levels for name, levels in short.items() if name not in bounds}


def lock_routines(folder: Path, names: Iterable[str]) -> set[str]:
    """Routines with an effect on locks or the IRQL: without a model of it, what follows is not known."""
    known = set(names)
    found = {n for n in known if _LOCK_NAME.search(n) and not _NOT_A_LOCK.search(n)}
    for row in rows(folder, "header_annotations.csv"):
        if any(row[c] for c in _EFFECT_COLUMNS) or re.search("_(Acquires|Releases)_", row["conditional"]):
            found.add(row["name"])
    for row in rows(folder, "locks.csv"):
        if row["family"] not in _NO_EFFECT_FAMILIES and row["op"] != "test":
            found.update(_spelled_out(re.findall(r"\w+", row["routine"]), known))
    return found


def _spelled_out(words: list[str], known: set[str]) -> Iterator[str]:
    """The routines of a row: `NdisInterlockedInsertHeadList / InsertTailList` leaves out how the second one begins."""
    for word in words:
        if word[:2] == words[0][:2]:
            yield word
        else:
            longer = (words[0][:length] + word for length in range(len(words[0]), 0, -1))
            yield from (name for name in longer if name in known)


def forbidden_under_spin_lock(folder: Path) -> set[str]:
    named = {r["routine"] for r in rows(folder, "call_constraints.csv") if r["constraint"] == "no_spin_lock_held"}
    return named | {r["alias"] for r in rows(folder, "ddi_irql.csv") if r["name"] in named and r["alias"]}


def table(folder: Path) -> str:
    """One line for each routine, sorted: name, lowest and highest level, `S` not under a spin lock, `L` lock effect."""
    bounds = header_bounds(folder) | page_bounds(folder) | overrides(folder)
    bounds |= without_version(bounds)
    locks, safe = lock_routines(folder, bounds), forbidden_under_spin_lock(folder)
    lines = {
        name: f"{name}\t{low}\t{high}\t{'S' * (name in safe)}{'L' * (name in locks)}\n"
        for name, (low, high) in bounds.items()
        if name.isidentifier()
    }
    for name, (low, high), flags in by_hand():
        if name in lines:
            raise ValueError(f"{name} is in the catalogue, or twice in {BY_HAND.name}")
        lines[name] = f"{name}\t{low}\t{high}\t{flags}\n"
    return "".join(lines[name] for name in sorted(lines))


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(table(Path(arguments[0])), encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
