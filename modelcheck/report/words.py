"""What a report says about levels, choices, holds and steps: the same words on a terminal, in a picture, on a page."""

from __future__ import annotations

import re
from collections.abc import Iterator

from modelcheck.devices import plain
from modelcheck.source import Span
from modelcheck.verdict import (
    APC_LEVEL,
    BEGUN_AGAIN,
    DISPATCH_LEVEL,
    HIGH_LEVEL,
    NO_LEVEL,
    PASSIVE_LEVEL,
    SEEN_TO,
    Choice,
    Ruled,
    Step,
    Undecided,
    Wait,
)

_LEVELS = {
    PASSIVE_LEVEL: "PASSIVE",
    APC_LEVEL: "APC",
    DISPATCH_LEVEL: "DISPATCH",
    5: "DIRQL",
    HIGH_LEVEL: "HIGH",
    NO_LEVEL: "none",
}
_HOLD = {0: "free", 1: "held", 2: "held shared"}
INITIALISED = 1
_LIFE = {0: "not initialised", INITIALISED: "initialised", 2: "freed"}
_CLOSING = re.compile(r";?")
_HEAD = re.compile(r"\b(?:else\s+)?(?:if|while|switch)\s*\($")
_LEAD = re.compile(r"\s*(?:\}\s*)?(?:else\s+)?(?:if|while|for)\s*\((?:[^;{}]*;\s*)?")
_TRAIL = re.compile(r"(?:;[^{}]*)?\)\s*[{;]?\s*")
_COMMENT = re.compile(r"\s*//.*")
_CHUNKS = re.compile(r"\s+|[^\s(,]+[(,]*|[(,]+")
_OUT_OF_TIME = re.compile(r"\b(time|steps|limit|budget)\b")


def level_name(level: int) -> str:
    """An IRQL by name; device levels without a name as numbers."""
    return _LEVELS.get(level, str(level))


def clean(text: str) -> str:
    """One line without control characters: a model cannot move the cursor of whoever reads the report."""
    line = " ".join(text.split())
    return line if line.isprintable() else "".join(c if c.isprintable() else "?" for c in line)


def start_words(choice: Choice) -> str:
    """What was open at the start, in words; empty for what goes without saying."""
    kind, _, name = clean(choice.name).partition(" ")
    match kind:
        case "irql":
            return f"IRQL is {level_name(choice.value)}"
        case "life":
            return "" if choice.value == INITIALISED else f"{name} is {_LIFE.get(choice.value, str(choice.value))}"
        case "held":
            return f"{name} is {_HOLD.get(choice.value, str(choice.value))}"
        case "var" | "param":
            return f"{name} is {_value(choice)}"
        case _:
            return f"{clean(choice.name)} is {_value(choice)}"


def _value(choice: Choice) -> str:
    return clean(choice.shown) or str(choice.value)


def choice_words(choice: Choice) -> str:
    """How something left open went, in words."""
    kind, _, name = clean(choice.name).partition(" ")
    match kind:
        case "*":
            return f"`*` is {_value(choice)}"
        case "try":
            return "the attempt succeeds" if choice.value else "the attempt fails"
        case "var" | "param":
            return f"{name} is {_value(choice)}"
        case "uninit":
            return f"{name} happens to be {_value(choice)}"
        case "result":
            return f"gives back {_value(choice)}"
        case "out":
            return f"{name} becomes {choice.value}"
        case "counter":
            return f"counter {name} becomes {choice.value}"
        case "held":
            return f"{name} is {_HOLD.get(choice.value, str(choice.value))}"
        case "param":
            return f"{name} is {_value(choice)}"
        case "count":
            return f"{name} is then held {choice.value} times"
        case _:
            return f"{clean(choice.name)} is {_value(choice)}"


def held_words(name: str, mode: str, count: int) -> str:
    """A hold: `L`, `L (shared)`, `L x2`."""
    text = clean(name) if mode in ("", "exclusive") else f"{clean(name)} ({clean(mode)})"
    return text if count == 1 else f"{text} x{count}"


def source_words(step: Step, first: bool) -> str:
    """The statement as written, up to its `;`: the first line; of a condition what it belongs to, and how it went.

    `first`: it is the first step of its context.
    """
    text = step.span.text
    if text == step.routine:
        return f"{'start' if first else 'end'} of {clean(text)}"
    if step.taken is not None:
        return f"{condition_words(step.span)}  ({'true' if step.taken else 'false'})"
    return statement_words(step.span)


def condition_words(span: Span) -> str:
    """A condition in its line, without the comment; only `if (..)` where more stands in the line."""
    line, start = span.source.line(span.line), span.column - 1
    end = start + span.end - span.start
    before, behind = line[:start], _COMMENT.sub("", line[end:])
    if end > len(line) or (_LEAD.fullmatch(before) and _TRAIL.fullmatch(behind)):
        return clean(_COMMENT.sub("", line))
    return statement_words(span).removesuffix(";")


def statement_words(span: Span) -> str:
    """A statement up to its `;`, of several lines the first; of a condition or the subject of a `switch` the head."""
    lines = span.text.splitlines()
    if len(lines) > 1:
        return clean(lines[0])
    text, start = span.source.text, span.source.line_starts[span.line - 1]
    head = _HEAD.search(text[start : span.start])
    if head is not None:
        return clean(f"{head[0]}{span.text})")
    closing = _CLOSING.match(text, span.end)
    return clean(span.text + (closing.group() if closing else ""))


def remarks(step: Step, quiet_about: frozenset[str] = frozenset()) -> Iterator[str]:
    """How the open choices of a step went, as far as its text does not say it. `quiet_about` names locks whose fields
    are not told."""
    for choice in step.choices:
        if not is_field(choice, quiet_about) and not (choice.name == "*" and step.taken is not None):
            yield choice_words(choice)
    if step.note:
        yield clean(step.note)


def is_field(choice: Choice, locks: frozenset[str]) -> bool:
    """Whether it is about a field of one of these locks, of whichever device."""
    return plain(choice.name.rpartition(" ")[2].rpartition(".")[0]) in locks


def and_list(names: list[str]) -> str:
    """`A`, `A and B`, `A, B and C`."""
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def stuck_words(waits: int) -> str:
    """What a list of so many contexts that cannot go on begins with."""
    return f"from here on {'none of these' if waits > 1 else 'this'} can {'ever' if waits > 1 else 'never'} go on:"


def wait_words(wait: Wait, name_of: list[str]) -> str:
    """Why a context cannot go on, as what follows its name: `waits for B, which Write holds`."""
    subject = clean(wait.subject)
    by = [name_of[number] for number in wait.by]
    who, many = and_list(by), len(by) > 1
    match wait.reason:
        case "held":
            return f"waits for {subject}, which {who} hold{'' if many else 's'}"
        case "self":
            return f"waits for {subject}, which it holds itself"
        case "writer":
            return f"waits to share {subject}, for which {who} {'are' if many else 'is'} waiting exclusively"
        case "ended":
            return f"waits for {subject}, which {who} held when {'they' if many else 'it'} ended"
        case "event":
            nobody = f"{who}, who could set it, cannot go on" if by else "nobody can set it"
            return f"waits for {subject}, and {nobody}"
        case "interrupted":
            return f"is interrupted by {who}, which never ends{_on(subject)}"
        case "displaced":
            return f"has lost its processor to {who}{_on(subject)}"
        case _:
            return f"cannot go on: {clean(wait.reason)} {subject}"


def _on(subject: str) -> str:
    return f" (it holds {subject})" if subject else ""


def ruled_words(ruled: Ruled) -> str:
    """`A -> B -> A cannot close: both hold Gate`."""
    ring = [clean(name) for name in (*ruled.locks, *ruled.locks[:1])]
    return f"{' -> '.join(ring)} cannot close: {clean(ruled.by)}"


def advice(verdict: Undecided, unmodelled: tuple[str, ...] | list[str]) -> str:
    """What would help to decide it."""
    for name in unmodelled:
        if f"`{name}`" in verdict.reason:
            return f"say what it does: `extern {clean(name)}(..)` with clauses or a body, in a model that you import"
    if "which object is meant" in verdict.reason:
        return "declare the object and name it in the call, where the model of that routine has a declaration for it"
    if verdict.reason.endswith(SEEN_TO):
        return "look at how the driver counts or waits there; the reason can be kept with it in a baseline"
    if verdict.reason.endswith(BEGUN_AGAIN):
        return "declare what is waited for, and name it in the call; wait when nobody is left who could start it"
    simpler = "say it more simply here: clauses on a called routine, a narrower int, constants for what is computed"
    return f"give it more time (--timeout), or {simpler}" if _OUT_OF_TIME.search(verdict.reason) else simpler


def longest_word(text: str) -> int:
    """How many columns source text needs at least so that nothing is broken inside a name."""
    return max((len(chunk) for chunk in _CHUNKS.findall(text.strip())), default=0)


def broken(text: str, width: int, indent: str = "") -> list[str]:
    """Source text as lines of at most `width` columns, broken at blanks, else behind `(` and `,`, else anywhere.

    `indent` begins the first line, and deeper the others.
    """
    lines, line, bare = [], indent, indent
    for chunk in _CHUNKS.findall(text.strip()):
        if len(line) + len(chunk.rstrip()) > width and line != bare:
            lines.append(line.rstrip())
            line = bare = f"{indent}  "
            chunk = chunk.lstrip()
        while len(line) + len(chunk.rstrip()) > width:
            room = max(1, width - len(line))
            lines.append(line + chunk[:room])
            line = bare = f"{indent}  "
            chunk = chunk[room:]
        line += chunk
    return [*lines, line.rstrip()]


def place_words(span: Span) -> str:
    """`queue.drvm:12`."""
    return f"{file_name(span)}:{span.line}"


def file_name(span: Span) -> str:
    """The file's name without its folders."""
    return clean(span.source.name).rsplit("/", 1)[-1].rsplit("\\", 1)[-1]
