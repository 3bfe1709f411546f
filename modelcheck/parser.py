"""Text to syntax tree by the LALR tables of the grammar, and every syntax error that can be found in one run.

The tree is built while parsing, at each reduction, so that no parse tree of a large model is ever held. A word is a
keyword where the parser wants that keyword, and a name everywhere else.

After an error parsing goes on for the sake of further errors, without building: the smallest repair is made after which
the next tokens are accepted (a word taken for the keyword it resembles, a missing `;` put in, a token left out), and
where there is none, everything up to the end of the statement is skipped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from modelcheck import syntax as s
from modelcheck.build import MAX_DEPTH, Builder, Token, too_deep
from modelcheck.diagnostics import Code, Diagnostic, Note, Rejected, in_source_order
from modelcheck.garbage import no_collection
from modelcheck.record import dataclass
from modelcheck.source import Source, Span
from modelcheck.tables import END, Rule, Tables, grammar_text, load_tables

__all__ = ["MAX_DEPTH", "MAX_ERRORS", "grammar_text", "parse"]

MAX_ERRORS = 20
LOOKAHEAD = 5
"""So many tokens must be accepted behind a repair."""
MAX_GIVEN_UP = 1_000
"""So much of the parser's stack may be given up to go on behind an error."""

_OPENING, _CLOSING = frozenset({"LBRACE", "LPAR", "LSQB"}), frozenset({"RBRACE", "RPAR", "RSQB"})


def parse(source: Source) -> s.Model:
    """The model written in `source`.

    Raises:
        Rejected: with every syntax error found, at most about `MAX_ERRORS`.
    """
    errors: list[Diagnostic] = []
    with no_collection():  # looking for garbage takes a third of the time
        model = _Run(_machine(), source, errors).model()
    if errors or model is None:
        raise Rejected(in_source_order(errors))
    return model


@dataclass(frozen=True, slots=True)
class _Machine:
    """The tables, made ready for one process."""

    tables: Tables
    match: Callable[[str, int], re.Match[str] | None]
    search: Callable[[str, int], re.Match[str] | None]
    bracket: dict[str, int]
    terminal: dict[str, str]
    """By what stands in a text: the terminal of each symbol and keyword."""


@cache
def _machine() -> _Machine:
    tables = load_tables()
    pattern = re.compile(tables.pattern)
    bracket = {name: 1 for name in _OPENING} | {name: -1 for name in _CLOSING}
    terminal = {word.strip("`"): name for name, word in tables.words.items()}
    return _Machine(tables, pattern.match, pattern.search, bracket, terminal)


# How the value of a reduction is made.
_PASS, _CALL, _LIST, _GENERAL = range(4)


def _makers(rules: tuple[Rule, ...], builder: Builder) -> list[tuple[str, int, int, Any, Any]]:
    """For each rule: origin, length, kind of making, what to keep, the method."""
    made = []
    for rule in rules:
        method = getattr(builder, rule.method, None) if rule.method else None
        plain = rule.keep == tuple((i, False, 0) for i in range(rule.length)) and not rule.absent
        alone = rule.length == 1 and plain
        if alone and (rule.unwrap or rule.method in Builder.transparent):
            kind = _PASS
        elif not rule.method:
            kind = _LIST
        else:
            kind = _CALL if plain else _GENERAL
        if method is None and not rule.unwrap and rule.method:
            raise LookupError(rule.method)
        made.append((rule.origin, rule.length, kind, (rule.keep, rule.absent, rule.unwrap), method))
    return made


def _kept(parts: list[Any], keep: tuple[tuple[int, bool, int], ...], absent: int) -> list[Any]:
    """The parts of a node; a list that comes first is taken over, so that long lists cost no more than their length."""
    chosen: list[Any] = []
    for index, splice, before in keep:
        if before:
            chosen.extend([None] * before)
        if not splice:
            chosen.append(parts[index])
        elif chosen:
            chosen.extend(parts[index])
        else:
            chosen = parts[index]
    if absent:
        chosen.extend([None] * absent)
    return chosen


@dataclass(frozen=True, slots=True)
class _Found:
    """A token as it is read: its terminal unless the parser wants it as a keyword."""

    kind: str
    word: str
    start: int
    end: int


class _Run:
    """One text being parsed. `states` is the parser's stack; `values` goes with it until the first error."""

    def __init__(self, machine: _Machine, source: Source, errors: list[Diagnostic]) -> None:
        self.machine = machine
        self.tables = machine.tables
        self.source = source
        self.errors = errors
        self.states = [self.tables.start]
        self.last_line = 0

    def model(self) -> s.Model | None:
        """The tree; None after an error."""
        stopped = self._build()
        if not isinstance(stopped, _Found):
            return stopped
        self._continue(stopped)
        return None

    def _build(self) -> s.Model | _Found | None:
        """Parses up to the first syntax error, and then gives back the token it stands at.

        The inner loop of reading a model: what it uses is bound to local names.
        """
        tables, text, source = self.tables, self.source.text, self.source
        actions, gotos, keywords, kept = tables.actions, tables.gotos, tables.keywords, tables.kept
        match, bracket, final = self.machine.match, self.machine.bracket, tables.final
        builder = Builder(source, self.errors)
        makers = _makers(tables.rules, builder)
        states = self.states
        values: list[Any] = []
        position = depth = 0
        while True:
            found = match(text, position)
            if found is None:
                return self._unreadable(position)
            kind = found.lastgroup or END
            start, position = found.span(kind) if kind is not END else (found.end(), found.end())
            row = actions[states[-1]]
            if kind == "NAME":
                keyword = keywords.get(text[start:position])
                if keyword is not None and keyword in row:
                    kind = keyword
            elif kind not in row:
                kind = self._as_name(kind, text[start:position])
            move = row.get(kind)
            while move is not None and move < 0:
                origin, length, making, plan, method = makers[-1 - move]
                if making == _PASS:
                    states.pop()
                else:
                    if length:
                        parts = values[-length:]
                        del values[-length:], states[-length:]
                    else:
                        parts = []
                    if making == _CALL:
                        values.append(method(*parts))
                    else:
                        parts = _kept(parts, plan[0], plan[1])
                        if making == _LIST:
                            values.append(parts)
                        else:
                            values.append(parts[0] if plan[2] and len(parts) == 1 else method(*parts))
                state = gotos[states[-1]][origin]
                states.append(state)
                if state == final and kind is END:
                    model = values[-1]
                    assert isinstance(model, s.Model)
                    return model
                move = actions[state].get(kind)
            if move is None:
                return _Found(kind, text[start:position], start, position)
            states.append(move)
            if kind in kept:
                token = Token(text[start:position])
                token.type, token.start_pos, token.end_pos = kind, start, position
                values.append(token)
            else:
                values.append(None)
            change = bracket.get(kind)
            if change is not None:
                depth += change
                if depth > MAX_DEPTH:
                    self.errors.append(too_deep(Span(source, start, position)))
                    return None

    def _as_name(self, kind: str, word: str) -> str:
        """Words that mean something only in some places are names in the others."""
        return "NAME" if word[:1].isalpha() and word.isidentifier() and kind != "NAME" else kind

    # ---- after an error ----

    def _continue(self, at: _Found) -> None:
        """Goes on behind the first error, token by token, as long as there are not too many."""
        token: _Found | None = at
        depth = 0
        while token is not None and len(self.errors) < MAX_ERRORS:
            if self._feed(self.states, token):
                if token.kind == END:
                    return
                depth += self.machine.bracket.get(token.kind, 0)
                if depth > MAX_DEPTH:
                    return
                token = self._token(token.end)
            else:
                token = self._repair(token)

    def _feed(self, states: list[int], token: _Found, kind: str | None = None) -> bool:
        """Whether the parser takes a token; then `states` has moved on."""
        actions, gotos, rules = self.tables.actions, self.tables.gotos, self.tables.rules
        kind = kind or self._kind(states[-1], token)
        move = actions[states[-1]].get(kind)
        while move is not None and move < 0:
            rule = rules[-1 - move]
            if rule.length:
                del states[-rule.length :]
            state = gotos[states[-1]][rule.origin]
            states.append(state)
            if state == self.tables.final and kind == END:
                return True
            move = actions[state].get(kind)
        if move is None:
            return False
        states.append(move)
        return True

    def _kind(self, state: int, token: _Found) -> str:
        row = self.tables.actions[state]
        if token.kind in row and token.kind != "NAME":
            return token.kind
        keyword = self.tables.keywords.get(token.word)
        return keyword if keyword is not None and keyword in row else self._as_name(token.kind, token.word)

    def _token(self, position: int) -> _Found:
        """The next token; what is no part of the language is reported and left out."""
        found = self.machine.match(self.source.text, position)
        if found is None:
            return self._unreadable(position)
        kind = found.lastgroup or END
        start, end = found.span(kind) if kind != END else (found.end(), found.end())
        return _Found(kind, self.source.text[start:end], start, end)

    def _unreadable(self, position: int) -> _Found:
        """Reports what cannot be read at or behind a place; the token that comes after it."""
        text = self.source.text
        blank = _BLANK.match(text, position)
        at = position if blank is None else blank.end()
        if text.startswith("/*", at):
            place = Span(self.source, at, at + 2)
            self._add(Diagnostic(Code.SYNTAX, "this comment is not closed", place, help="write `*/`"))
            return _Found(END, "", len(text), len(text))
        if text.startswith('"', at):
            line_end = text.find("\n", at)
            end = len(text) if line_end < 0 else line_end
            self._add(Diagnostic(Code.SYNTAX, "this text is not closed", Span(self.source, at, end), help='write `"`'))
            return _Found("STRING", text[at:end], at, end)
        message = f"{_character(text[at])} is not part of the language"
        self._add(Diagnostic(Code.SYNTAX, message, Span(self.source, at, at + 1)))
        found = self.machine.search(text, at + 1)
        return self._token(len(text) if found is None else found.start())

    def _add(self, diagnostic: Diagnostic) -> None:
        """What follows on the line of an error is most often the same mistake."""
        line = diagnostic.span.line if diagnostic.span else 0
        if line != self.last_line:
            self.errors.append(diagnostic)
            self.last_line = line

    def _repair(self, token: _Found) -> _Found | None:
        """Reports an error and gets over it: the token to go on with, None if there is no going on."""
        for attempt in (self._keyword, self._missing, self._superfluous, self._bare_body):
            after = attempt(token)
            if after is not None:
                return after
        self._report(token)
        return self._skip(token)

    def _keyword(self, token: _Found) -> _Found | None:
        """A word that looks like a keyword which is wanted here."""
        if not token.word.isidentifier() or len(token.word) < 2:
            return None
        from difflib import get_close_matches

        wanted = {self.tables.words[kind].strip("`"): kind for kind in self._accepted()}
        near = get_close_matches(token.word, [w for w in wanted if w.isalpha()], n=2, cutoff=0.7)
        for word in near:
            if self._survives([(token, wanted[word])], token.end):
                message = f"`{_shorten(token.word)}` cannot stand here"
                self._add(Diagnostic(Code.SYNTAX, message, self._span(token), help=f"did you mean `{word}`?"))
                self._feed(self.states, token, wanted[word])
                return self._token(token.end)
        return None

    def _missing(self, token: _Found) -> _Found | None:
        """Something short is missing before this token."""
        end = self._end_before(token.start)
        place = Span(self.source, max(end - 1, 0), end)
        for words in ((";",), (")",), (")", ";"), (",",), ("(", ")"), ("=",)):
            inserted = [(_Found(kind, "", end, end), kind) for kind in map(self.machine.terminal.__getitem__, words)]
            if token.kind == END and words[-1] != ";":
                continue
            ends_line = words == (";",) and (token.kind == "RBRACE" or "\n" in self.source.text[end : token.start])
            if self._survives(inserted, token.start, 1 if ends_line else LOOKAHEAD):
                for put, kind in inserted:
                    self._feed(self.states, put, kind)
                word = "".join(words)
                if word == ";" and token.kind == "LBRACE" and self._misspelt(token):
                    return token
                help_ = "end the statement with `;`" if word == ";" else None
                self._add(Diagnostic(Code.SYNTAX, f"`{word}` is missing here", place, help=help_))
                return token
        return None

    def _misspelt(self, token: _Found) -> bool:
        """`wihle (x) {`: reports the first word of the line if it looks like one that a block follows."""
        from difflib import get_close_matches

        line = self.source.line_column(token.start)[0]
        first = self._token(self.source.line_starts[line - 1])
        near = get_close_matches(first.word, _WITH_BLOCK, n=1, cutoff=0.7)
        if not near or first.start >= token.start:
            return False
        message = f"`{_shorten(first.word)}(..)` is a call, and no block can follow it"
        self._add(Diagnostic(Code.SYNTAX, message, self._span(first), help=f"did you mean `{near[0]}`?"))
        return True

    def _superfluous(self, token: _Found) -> _Found | None:
        """Without this token it would be right."""
        if token.kind == END or not self._survives([], token.end):
            return None
        self._report(token)
        return self._token(token.end)

    def _bare_body(self, token: _Found) -> _Found | None:
        """`if (c) f();`: the body is taken up to its `;`."""
        if token.kind == END or self._accepted() != ["LBRACE"]:
            return None
        trial = list(self.states)
        self._feed(trial, token, "LBRACE")
        depth, current = 0, token
        while current.kind != END and self._feed(trial, current):
            depth += self.machine.bracket.get(current.kind, 0)
            if depth == 0 and current.kind in ("SEMICOLON", "RBRACE"):
                if not self._feed(trial, current, "RBRACE"):
                    return None
                help_ = "a body is always a block, of one statement too: `{ .. }`"
                self._add(Diagnostic(Code.SYNTAX, "`{` is missing before this", self._span(token), help=help_))
                self.states[:] = trial
                return self._token(current.end)
            current = self._token(current.end)
        return None

    def _survives(self, first: list[tuple[_Found, str]], position: int, count: int = LOOKAHEAD) -> bool:
        """Whether the parser takes these tokens, and then the next few of the text from `position`."""
        trial = list(self.states)
        if not all(self._feed(trial, token, kind) for token, kind in first):
            return False
        known = len(self.errors), self.last_line
        for _ in range(count):
            token = self._token(position)
            taken = self._feed(trial, token)
            del self.errors[known[0] :]
            self.last_line = known[1]
            if not taken:
                return False
            if token.kind == END:
                return True
            position = token.end
        return True

    def _skip(self, token: _Found) -> _Found | None:
        """Leaves out the rest of the statement or declaration, and goes back to where the next one can begin."""
        current, depth = token, 0
        while current.kind != END:
            if depth == 0 and current.kind == "RBRACE" and current is not token and self._resume(current):
                return current
            if self._begins_item(current) and current is not token and self._resume(current):
                return current
            depth = max(depth + self.machine.bracket.get(current.kind, 0), 0)
            ends = depth == 0 and current.kind in ("SEMICOLON", "RBRACE")
            current = self._token(current.end)
            if ends and self._resume(current):
                return current
        return current if self._resume(current) else None

    def _begins_item(self, token: _Found) -> bool:
        """A keyword of a declaration at the start of a line."""
        begins = token.start == 0 or self.source.text[token.start - 1] == "\n"
        return begins and self.tables.keywords.get(token.word) in self.tables.actions[self.tables.start]

    def _resume(self, token: _Found) -> bool:
        """Gives up as little as possible of what has begun so that parsing can go on with `token`.

        What follows may have errors of its own, so fewer tokens do if not all of the next few are accepted.
        """
        whole = self.states
        for count in (LOOKAHEAD, 2, 1):
            for length in range(len(whole), max(len(whole) - MAX_GIVEN_UP, 0), -1):
                self.states = whole[:length]
                if self._is_between(self.states[-1]) and self._survives([], token.start, count):
                    return True
        self.states = whole
        return False

    def _is_between(self, state: int) -> bool:
        """Whether a state is one between statements, declarations or members."""
        row = self.tables.actions[state]
        return ("RBRACE" in row or END in row) and "COMMA" not in row

    # ---- messages ----

    def _accepted(self) -> list[str]:
        """The terminals that the parser would take now."""
        dummy = _Found("", "", 0, 0)
        return [kind for kind in self.tables.actions[self.states[-1]] if self._feed(list(self.states), dummy, kind)]

    def _report(self, token: _Found) -> None:
        words = _grouped({self.tables.words[kind] for kind in self._accepted()})
        wanted = "" if len(words) > 6 else " or ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))
        if token.kind == END:
            end = self._end_before(len(self.source.text))
            span, found = Span(self.source, max(end - 1, 0), end), "the file ends"
        else:
            span, found = self._span(token), f"`{_shorten(token.word)}` stands"
        message = f"{found} where {wanted} is expected" if wanted else f"{found} where it cannot"
        opening = self._unclosed() if token.kind == END else None
        notes = () if opening is None else (Note("this `{` is not closed", Span(self.source, opening, opening + 1)),)
        self._add(Diagnostic(Code.SYNTAX, message, span, notes))

    def _span(self, token: _Found) -> Span:
        return Span(self.source, token.start, token.end)

    def _unclosed(self) -> int | None:
        """The innermost `{` that is never closed."""
        opened: list[int] = []
        for token in self._tokens():
            if token.kind == "LBRACE":
                opened.append(token.start)
            elif token.kind == "RBRACE" and opened:
                opened.pop()
        return opened[-1] if opened else None

    def _end_before(self, offset: int) -> int:
        """Where the last token before `offset` ends; looks back over some lines only."""
        line = self.source.line_column(offset)[0]
        begin = self.source.line_starts[max(line - 50, 0)]
        end = begin
        for token in self._tokens(begin):
            if token.end > offset or token.start >= offset:
                break
            end = token.end
        return end

    def _tokens(self, position: int = 0) -> Iterator[_Found]:
        """Tokens from a place on, as far as they can be read."""
        while True:
            found = self.machine.match(self.source.text, position)
            kind = None if found is None else found.lastgroup
            if found is None or kind is None:
                return
            position = found.end()
            yield _Found(kind, found.group(kind), found.start(kind), position)


_BLANK = re.compile(r"(?:\s|//[^\n]*|/\*[^*]*\*+(?:[^*/][^*]*\*+)*/)*")


_WITH_BLOCK = ("if", "while", "for", "switch")
_GROUPS = (
    ("a declaration", {"`routine`", "`lock`", "`driver`"}, set[str]()),
    ("a statement", {"`if`", "`while`", "`goto`"}, {"`case`", "`default`", "`}`"}),
    ("an expression", {"a name", "a number", "`irql`"}, {"`)`", "`;`", "`,`"}),
    ("an operator", {"`+`", "`%`"}, {"`)`", "`]`", "`;`", "`,`", "`:`", "`{`", "`else`"}),
)


def _grouped(words: set[str]) -> list[str]:
    """What is expected, in a few words: instead of all that can begin a statement, "a statement"."""
    for name, telling, others in _GROUPS:
        if telling <= words:
            return [name, *sorted(words & others)]
    return sorted(words)


def _character(character: str) -> str:
    return f"`{character}`" if character.isprintable() else f"the character U+{ord(character):04X}"


def _shorten(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."
