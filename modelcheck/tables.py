"""The grammar as parse tables: made by Lark (LALR), kept in a cache, since making them takes a third of a second.

The cache holds plain numbers and words, never code, in the user's own cache folder. It is used only if that folder and
the file belong to the user alone and a checksum holds, and only for the same grammar, Lark and Python; whatever goes
wrong with it, the tables are made anew.
"""

from __future__ import annotations

import hashlib
import marshal
import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from modelcheck.record import dataclass

FORMAT = 1
"""Changes with the meaning of what is kept."""
END = "$END"


@dataclass(frozen=True, slots=True)
class Rule:
    """One production. `keep` says which of its parts its node is made of: (index, spliced in as a list, how many
    absent parts stand before it), and `absent` how many at the end. Without a `method` the parts stay a list;
    `unwrap`: a single part stands for the whole."""

    origin: str
    length: int
    keep: tuple[tuple[int, bool, int], ...]
    absent: int
    method: str
    unwrap: bool


@dataclass(frozen=True, slots=True)
class Tables:
    """What the parser is driven by.

    `actions[state][terminal]` is the next state, or `-1 - rule` to reduce by a rule; `gotos[state][origin]` likewise.
    `pattern` matches blanks and comments, then one token whose group names its terminal, or the end. `keywords` are
    plain names where the parser wants no such keyword. `kept` terminals are parts of nodes. `words` is what to call
    each terminal in a message.
    """

    actions: tuple[dict[str, int], ...]
    gotos: tuple[dict[str, int], ...]
    rules: tuple[Rule, ...]
    start: int
    final: int
    pattern: str
    keywords: dict[str, str]
    kept: frozenset[str]
    words: dict[str, str]


def grammar_text() -> str:
    """The grammar: from the package or, in a checkout, from beside it."""
    here = Path(__file__).parent
    packaged = here / "grammar" / "driver.lark"
    path = packaged if packaged.is_file() else here.parent / "grammar" / "driver.lark"
    return path.read_text(encoding="utf-8")


def load_tables(folder: Path | None = None) -> Tables:
    """The tables of the grammar, from the cache in `folder` (by default the user's) if it holds them."""
    grammar = grammar_text()
    folder = cache_folder() if folder is None else folder
    path = None if folder is None else folder / f"grammar-{_key(grammar)}.tables"
    kept = None if path is None else _read(path)
    if kept is not None:
        return kept
    tables = make_tables(grammar)
    if path is not None:
        _write(path, tables)
    return tables


# ---- the cache ----


def cache_folder() -> Path | None:
    """Where a program keeps what it can make again; None where the system does not say."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
    elif sys.platform == "darwin":
        base = os.path.expanduser("~/Library/Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "modelcheck" if base and os.path.isabs(base) else None


def _key(grammar: str) -> str:
    """Made of all that the tables depend on. Lark is known by its file: asking for its version takes longer."""
    spec = find_spec("lark")
    lark = os.stat(spec.origin) if spec is not None and spec.origin else None
    made_by = "" if lark is None else f"{lark.st_mtime_ns} {lark.st_size}"
    said = f"{FORMAT}\n{made_by}\n{sys.version}\n{grammar}"
    return hashlib.sha256(said.encode()).hexdigest()[:32]


def _belongs_to_user(path: Path) -> bool:
    """Nobody else can write here. On Windows the folder is the user's by its place."""
    if sys.platform == "win32":
        return True
    status = path.lstat()
    return status.st_uid == os.getuid() and not status.st_mode & 0o022 and not path.is_symlink()


def _read(path: Path) -> Tables | None:
    try:
        if not (_belongs_to_user(path.parent) and _belongs_to_user(path)):
            return None
        content = path.read_bytes()
        checksum, payload = content[:32], content[32:]
        if hashlib.sha256(payload).digest() != checksum:
            return None
        actions, gotos, rules, *rest = marshal.loads(payload)
        return Tables(actions, gotos, tuple(Rule(*rule) for rule in rules), *rest)
    except (OSError, ValueError, EOFError, TypeError):
        return None


def _write(path: Path, tables: Tables) -> None:
    """All or nothing: another process never sees half a file. No cache is no error."""
    import tempfile
    from dataclasses import astuple

    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _belongs_to_user(path.parent):
            return
        payload = marshal.dumps(astuple(tables))
        handle, name = tempfile.mkstemp(dir=path.parent, prefix="grammar-", suffix=".new")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(hashlib.sha256(payload).digest() + payload)
            os.replace(name, path)
        except OSError:
            os.unlink(name)
    except OSError:
        return


# ---- from Lark ----


def make_tables(grammar: str) -> Tables:
    """The tables, made by Lark from the text of the grammar."""
    from lark import Lark

    lark = Lark(grammar, parser="lalr", maybe_placeholders=True)
    table: Any = lark.parser.parser._parse_table
    rules = {rule: index for index, rule in enumerate(lark.rules)}
    terminals = {terminal.name for terminal in lark.terminals} | {END}
    (start,), (final,) = table.start_states.values(), table.end_states.values()
    numbers = _numbered(table.states, start)
    actions: list[dict[str, int]] = []
    gotos: list[dict[str, int]] = []
    for state in numbers:
        row = sorted(table.states[state].items(), key=lambda move: move[0])
        moves = {name: numbers[to] if _is_state(to) else -1 - rules[to] for name, (_, to) in row}
        actions.append({name: to for name, to in moves.items() if name in terminals})
        gotos.append({name: to for name, to in moves.items() if name not in terminals})
    made = tuple(_rule(rule) for rule in rules)
    kept = frozenset(
        symbol.name for rule in rules for symbol in rule.expansion if symbol.is_term and not _dropped(symbol)
    )
    pattern, keywords = _lexing(lark)
    words = {t.name: _READABLE.get(t.name, f"`{t.pattern.value}`") for t in lark.terminals} | {END: _READABLE[END]}
    words |= {name: f"`{word}`" for word, name in keywords.items()}
    return Tables(tuple(actions), tuple(gotos), made, numbers[start], numbers[final], pattern, keywords, kept, words)


_READABLE = {
    "NAME": "a name",
    "INT": "a number",
    "STRING": "a text in quotes",
    "DURATION": "a time such as `3us`",
    "OLD": "`old`",
    END: "the end of the file",
}


def _is_state(target: Any) -> bool:
    return type(target) is int


def _numbered(states: dict[Any, dict[str, Any]], start: Any) -> dict[Any, int]:
    """States in an order that depends on the grammar alone: breadth first by the names of symbols."""
    order = {start: 0}
    pending = [start]
    for state in pending:
        for _, (_, target) in sorted(states[state].items(), key=lambda move: move[0]):
            if _is_state(target) and target not in order:
                order[target] = len(order)
                pending.append(target)
    return order


def _dropped(symbol: Any) -> bool:
    return bool(symbol.filter_out)


def _rule(rule: Any) -> Rule:
    """What Lark's tree builder does for a rule: parts left out, lists spliced in, absent optional parts as None."""
    absent_before = _absent(rule)
    keep: list[tuple[int, bool, int]] = []
    waiting = 0
    for index, symbol in enumerate(rule.expansion):
        waiting += absent_before[index]
        if not symbol.is_term or not _dropped(symbol):
            keep.append((index, not symbol.is_term and symbol.name.startswith("_"), waiting))
            waiting = 0
    waiting += absent_before[-1]
    name = str(rule.alias or rule.origin.name)
    method = "" if name.startswith("_") else name
    unwrap = bool(rule.options.expand1) and not rule.alias
    return Rule(str(rule.origin.name), len(rule.expansion), tuple(keep), waiting, method, unwrap)


def _absent(rule: Any) -> list[int]:
    """How many optional parts are absent before each part of a rule, and at its end."""
    if not rule.options.empty_indices:
        return [0] * (len(rule.expansion) + 1)
    return [len(run) for run in "".join(str(int(b)) for b in rule.options.empty_indices).split("0")]


def _lexing(lark: Any) -> tuple[str, dict[str, str]]:
    """One pattern for all tokens, and the keywords among the names."""
    by_name = {terminal.name: terminal for terminal in lark.terminals}
    fixed = [t for t in lark.terminals if type(t.pattern).__name__ == "PatternStr"]
    keywords = {t.pattern.value: t.name for t in fixed if re.fullmatch(r"[A-Za-z_]\w*", t.pattern.value)}
    symbols = sorted((t for t in fixed if t.pattern.value not in keywords), key=lambda t: -len(t.pattern.value))
    free = [t for t in lark.terminals if t not in fixed and t.name not in lark.ignore_tokens]
    free.sort(key=lambda t: (-t.priority, t.name != "NAME", t.name != "DURATION"))
    blank = "|".join(f"(?:{_source(by_name[name])})" for name in lark.ignore_tokens)
    groups = [f"(?P<{t.name}>{_source(t)})" for t in free]
    groups += [f"(?P<{t.name}>{re.escape(t.pattern.value)})" for t in symbols]
    return f"(?:{blank})*(?:{'|'.join(groups)}|\\Z)", keywords


def _source(terminal: Any) -> str:
    """The pattern without groups of its own."""
    return re.sub(r"(?<!\\)\((?!\?)", "(?:", terminal.pattern.value)


def methods(tables: Tables) -> frozenset[str]:
    """The name of every method that the tables need of whoever builds the tree."""
    return frozenset(r.method for r in tables.rules if r.method and not (r.unwrap and len(r.keep) == 1))
