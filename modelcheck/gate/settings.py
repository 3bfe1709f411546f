"""What a run is asked to do, and who said so: flag, environment, `modelcheck.toml`, `[tool.modelcheck]`, default.

The first that gives a value wins. A key that does not exist is an error wherever it stands: a misspelt limit must not
be a limit that is not there. Paths in a file are relative to that file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from modelcheck.record import dataclass
from modelcheck.report.paths import Usage

FILE = "modelcheck.toml"
PROJECT = "pyproject.toml"
PREFIX = "MODELCHECK_"


@dataclass(frozen=True, slots=True)
class Setting:
    """One thing that can be set. `read` makes a value of what was written (text of a flag or variable, or a value of
    TOML), and raises `ValueError` saying what is wanted. `help` is one line. A setting with `local` is not taken from
    files: it names code to run."""

    name: str
    read: Callable[[Any], Any]
    default: Any
    help: str
    is_path: bool = False
    local: bool = False

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper().replace("-", "_")

    @property
    def field(self) -> str:
        """Its name among parsed arguments."""
        return self.name.replace("-", "_")


@dataclass(frozen=True, slots=True)
class Value:
    """A value and where it came from: `flag`, the name of a variable, the path of a file, or `default`."""

    value: Any
    origin: str


# ---- how values are read ----


def _text(raw: Any) -> str:
    if not isinstance(raw, str) or not raw.strip():
        raise ValueError(f"a text is wanted, not {raw!r}")
    return raw


def _one_of(*words: str) -> Callable[[Any], str]:
    def read(raw: Any) -> str:
        if raw not in words:
            raise ValueError(f"one of {', '.join(words)} is wanted, not {raw!r}{suggestion(str(raw), words)}")
        return str(raw)

    return read


_TRUTH = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def _truth(raw: Any) -> bool:
    value = raw if isinstance(raw, bool) else _TRUTH.get(str(raw).lower())
    if value is None:
        raise ValueError(f"true or false is wanted, not {raw!r}")
    return value


def _whole(raw: Any) -> int | None:
    """A whole number above 0; None for what is none."""
    if isinstance(raw, int) and not isinstance(raw, bool) and raw > 0:
        return raw
    return int(raw) if isinstance(raw, str) and raw.isdecimal() and int(raw) > 0 else None


def read_jobs(raw: Any) -> int:
    """A number of processes; `auto` is one for each processor."""
    if raw == "auto":
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    value = _whole(raw)
    if value is None or value > 1024:
        raise ValueError(f"a number from 1 to 1024, or auto, is wanted, not {raw!r}")
    return value


def read_budget(raw: Any) -> int:
    value = _whole(raw)
    if value is None:
        raise ValueError(f"a number of steps above 0 is wanted, not {raw!r}")
    return value


def read_seconds(raw: Any) -> float:
    try:
        value = 0.0 if isinstance(raw, bool) else float(raw)
    except (TypeError, ValueError):
        value = 0.0
    if not 0 < value < float("inf"):
        raise ValueError(f"a number of seconds above 0 is wanted, not {raw!r}")
    return value


def read_columns(raw: Any) -> int:
    from modelcheck.report.text import MIN_WIDTH

    value = _whole(raw)
    if value is None or not MIN_WIDTH <= value <= 1000:
        raise ValueError(f"a number from {MIN_WIDTH} to 1000 is wanted, not {raw!r}")
    return value


def read_properties(raw: Any) -> frozenset[str]:
    from modelcheck.verdict import Property

    words = _words(raw.split(",") if isinstance(raw, str) else raw)
    asked = [code.strip().upper() for code in words if code.strip()]
    unknown = [code for code in asked if code not in set(Property)]
    if unknown or not asked:
        raise ValueError(f"no property {', '.join(unknown) or repr(raw)}; see `modelcheck explain`")
    return frozenset(asked)


def _words(raw: Any) -> tuple[str, ...]:
    words = (raw,) if isinstance(raw, str) else raw
    if not isinstance(words, list | tuple) or not words or not all(isinstance(w, str) and w for w in words):
        raise ValueError(f"a text or a list of texts is wanted, not {raw!r}")
    return tuple(words)


FORMATS = ("text", "json", "sarif", "junit", "github", "markdown", "html")


def read_format(raw: Any) -> str:
    """`NAME` or `NAME=FILE`."""
    name, separator, file = _text(raw).partition("=")
    if name not in FORMATS:
        raise ValueError(f"one of {', '.join(FORMATS)} is wanted, not {name!r}{suggestion(name, FORMATS)}")
    if separator and not file:
        raise ValueError(f"{raw!r} names no file")
    return str(raw)


def _formats(raw: Any) -> tuple[str, ...]:
    return tuple(read_format(word) for word in _words(raw.split(",") if isinstance(raw, str) else raw))


SETTINGS = (
    Setting("paths", lambda raw: _words(raw.split(os.pathsep) if isinstance(raw, str) else raw), (), "what to verify"),
    Setting("format", _formats, (), "reports: NAME or NAME=FILE, several possible"),
    Setting("undecided", _one_of("fail", "warn"), "fail", "warn: what is unknown does not fail the run"),
    Setting("only", read_properties, frozenset(), "these properties and no others"),
    Setting("strict", _truth, False, "also D04: the order of locks, where no deadlock can come of it"),
    Setting("baseline", _text, None, "violations that are known already", is_path=True),
    Setting("proofs", _text, None, "a folder for certificates", is_path=True),
    Setting("budget", read_budget, None, "steps of an analysis before it gives up"),
    Setting("timeout", read_seconds, None, "seconds for one file before its process is killed"),
    Setting("jobs", read_jobs, 1, "worker processes, or auto"),
    Setting("executor", _text, None, "where the work runs: dask://HOST:PORT or MODULE:NAME", local=True),
    Setting("cache", _one_of("on", "off", "verify"), "on", "verify: some kept verdicts are checked again"),
    Setting("cache-dir", _text, None, "where verdicts are kept", is_path=True),
    Setting("full", _truth, False, "certify every obligation by itself"),
    Setting("quiet", _truth, False, "only what is not proved"),
    Setting("width", read_columns, None, "columns of text"),
)
BY_NAME = {setting.name: setting for setting in SETTINGS}


# ---- where values come from ----


def effective(flags: Mapping[str, Any], environment: Mapping[str, str], folder: Path = Path()) -> dict[str, Value]:
    """Every setting by name. `flags` holds values that are read already, None for those not given.

    Raises:
        Usage: an unknown key, a value that does not fit, a file that cannot be read.
    """
    layers = [_from_environment(environment), *_from_files(folder)]
    chosen: dict[str, Value] = {}
    for setting in SETTINGS:
        given = flags.get(setting.field)
        if given is not None and given != []:
            chosen[setting.name] = Value(given, "flag")
            continue
        chosen[setting.name] = next(
            (layer[setting.name] for layer in layers if setting.name in layer), Value(setting.default, "default")
        )
    return chosen


def _from_environment(environment: Mapping[str, str]) -> dict[str, Value]:
    variables = {setting.variable: setting for setting in SETTINGS}
    found: dict[str, Value] = {}
    for name in sorted(environment):
        if not name.startswith(PREFIX) or not environment[name]:
            continue
        setting = variables.get(name)
        if setting is None:
            raise Usage(f"there is no setting {name}{suggestion(name, variables)}")
        found[setting.name] = Value(_read(setting, environment[name], name), name)
    return found


def _from_files(folder: Path) -> Iterator[dict[str, Value]]:
    """The settings of the nearest folder that has any, upward from `folder`: of `modelcheck.toml`, then of
    `pyproject.toml`."""
    for place in (folder, *_above(folder)):
        found = [
            _values(table, place, file)
            for file, table in ((FILE, _table(place / FILE)), (PROJECT, _project_table(place / PROJECT)))
            if table is not None
        ]
        if found:
            yield from found
            return


def _above(folder: Path) -> Iterator[Path]:
    here = Path(os.path.abspath(folder))
    for number, _ in enumerate(here.parents, 1):
        yield folder.joinpath(*([".."] * number))


def _project_table(path: Path) -> dict[str, Any] | None:
    tool = (_table(path, "modelcheck") or {}).get("tool", {})
    table = tool.get("modelcheck") if isinstance(tool, dict) else None
    if table is not None and not isinstance(table, dict):
        raise Usage(f"{path}: [tool.modelcheck] is no table")
    return table


def _table(path: Path, needle: str = "") -> dict[str, Any] | None:
    """What a TOML file says; None where there is none, or nothing in it that contains `needle`."""
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Usage(f"cannot read {path}: {error.strerror or error}") from None
    if needle.encode() not in content:
        return None
    import tomllib

    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Usage(f"{path}: {error}") from None


def _values(table: Mapping[str, Any], folder: Path, file: str) -> dict[str, Value]:
    origin = f"{folder / file}" + (" [tool.modelcheck]" if file == PROJECT else "")
    found: dict[str, Value] = {}
    for name, raw in table.items():
        setting = BY_NAME.get(name)
        if setting is None:
            raise Usage(f"{origin}: there is no setting {name!r}{suggestion(name, BY_NAME)}")
        if setting.local:
            raise Usage(f"{origin}: {name!r} is not taken from a file; use --{name} or {setting.variable}")
        found[name] = Value(_placed(setting, _read(setting, raw, f"{origin}: {name}"), folder), origin)
    return found


def _read(setting: Setting, raw: Any, place: str) -> Any:
    try:
        return setting.read(raw)
    except ValueError as error:
        raise Usage(f"{place}: {error}") from None


def _placed(setting: Setting, value: Any, folder: Path) -> Any:
    """Paths as seen from here."""
    if setting.is_path:
        return str(folder / value)
    if setting.name == "paths":
        return tuple(str(folder / path) for path in value)
    if setting.name == "format":
        parts = [word.partition("=") for word in value]
        return tuple(f"{name}={folder / file}" if file else name for name, _, file in parts)
    return value


def suggestion(word: str, known: Any) -> str:
    """`; did you mean timeout?`, or nothing."""
    from difflib import get_close_matches

    near = get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""
