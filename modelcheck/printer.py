"""Syntax tree to text, in one layout: 4 spaces, braces on the line, one declaration a line, at most 120 columns.

Printing happens in two steps. First every line is made, each with its *anchor*: the offset in the source of what it was
printed from. Then the comments of the source are put between the lines by their offsets: a comment with code before it
on its line goes behind the line with the last anchor before it, any other goes before the line with the next anchor.
Blank lines of the source are kept, at most one. No comment is ever lost, and printing what was printed changes nothing.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable

from modelcheck import syntax as s
from modelcheck.record import dataclass
from modelcheck.source import Source

WIDTH = 120
INDENT = "    "


def print_model(model: s.Model) -> str:
    """The text of a model, with the comments of the source it was parsed from; ends with a newline if not empty."""
    printer = _Printer(model.span.source)
    for item in model.items:
        printer.item(item)
    return printer.finish()


# ---- expressions: the level a text stands at decides about parentheses ----

_OR, _AND, _NOT, _COMPARISON, _SUM, _PRODUCT, _UNARY, _PRIMARY = range(8)

_LEVELS = {
    s.BinaryOp.OR: _OR,
    s.BinaryOp.AND: _AND,
    s.BinaryOp.ADD: _SUM,
    s.BinaryOp.SUB: _SUM,
    s.BinaryOp.MUL: _PRODUCT,
    s.BinaryOp.MOD: _PRODUCT,
}


def expression(expr: s.Expr, level: int = _OR) -> str:
    """The text of an expression where the grammar wants at least `level`; in parentheses if it is looser."""
    text, own = _expression(expr)
    return text if own >= level else f"({text})"


def _expression(expr: s.Expr) -> tuple[str, int]:
    match expr:
        case s.Binary(op, left, right):
            own = _LEVELS.get(op, _COMPARISON)
            first = own + 1 if own == _COMPARISON else own
            return f"{expression(left, first)} {op} {expression(right, own + 1)}", own
        case s.Unary(s.UnaryOp.NEGATE, operand):
            nested = isinstance(operand, s.Unary) and operand.op is s.UnaryOp.NEGATE
            return f"-{expression(operand, _PRIMARY if nested else _UNARY)}", _UNARY
        case s.Unary(s.UnaryOp.NOT, operand):
            return f"!{expression(operand, _UNARY)}", _UNARY
        case s.Address(ref):
            return f"&{reference(ref)}", _UNARY
        case s.TryAcquire(lock, mode, tag):
            return f"try_acquire {reference(lock)}{_mode_tag(mode, tag)}", _PRIMARY
        case s.TryConvert(lock):
            return f"try_convert {reference(lock)}", _PRIMARY
        case _:
            return _primary(expr), _PRIMARY


def _primary(expr: s.Expr) -> str:
    match expr:
        case s.Number(value):
            return str(value)
        case s.Truth(value):
            return "true" if value else "false"
        case s.Unknown():
            return "*"
        case s.Irql():
            return "irql"
        case s.Held(lock, mode):
            return f"held({reference(lock)}{f', {mode}' if mode else ''})"
        case s.NoLocks(spin_only, besides):
            word = "no_spin_lock" if spin_only else "no_lock"
            return f"{word} except ({', '.join(map(reference, besides))})" if besides else word
        case s.Old(operand):
            return f"old({expression(operand)})"
        case s.Call(name, args):
            return f"{name}({arguments(args)})"
        case s.Ref():
            return reference(expr)
        case _:
            raise AssertionError(expr)


def arguments(args: Iterable[s.Expr]) -> str:
    return ", ".join(expression(a) for a in args)


def reference(ref: s.Ref) -> str:
    """`Port.Lock`, `Bucket[i + 1]`."""
    parts = (f".{x.name}" if isinstance(x, s.Member) else f"[{expression(x.value)}]" for x in ref.selectors)
    return ref.name + "".join(parts)


def condition(expr: s.Expr) -> str:
    """The condition of a clause: negation at the top is written `not`."""
    if isinstance(expr, s.Unary) and expr.op is s.UnaryOp.NOT:
        return f"not {expression(expr.operand, _UNARY)}"
    return expression(expr)


def type_text(kind: s.Type) -> str:
    match kind:
        case s.BoolType():
            return "bool"
        case s.IntType(low, high):
            return f"int {low}..{high}"
        case s.CounterType(limit):
            return f"counter {limit}"
        case s.EnumType(values):
            return f"enum {{ {', '.join(values)} }}"
        case s.NamedType(name):
            return name


def parameter(param: s.Param) -> str:
    match param:
        case s.LockParam(name, kind):
            return f"lock {name}" if kind is None else f"lock {name} : {kind}"
        case s.ValueParam(kind_, name, by_ref, if_said):
            return f"{'out ' if by_ref else 'any ' if if_said else ''}{type_text(kind_)} {name}"
        case s.ObjectParam(object_kind, name):
            return f"{object_kind} {name}"
        case s.OpaqueParam(name):
            return name
        case s.RestParam():
            return "..."


def signature(declared: s.Routine | s.Extern) -> str:
    """`KeAcquireSpinLock(lock L : KSPIN_LOCK, out KIRQL old)`."""
    result = "" if declared.result is None else f" : {type_text(declared.result)}"
    return f"{declared.name}({', '.join(map(parameter, declared.params))}){result}"


def clause_text(clause: s.Clause) -> str:
    match clause:
        case s.ConditionClause(kind, expr):
            return f"{kind} {condition(expr)}"
        case s.LockClause(acquires, lock, mode, tag):
            return f"{'acquires' if acquires else 'releases'} {reference(lock)}{_mode_tag(mode, tag)}"
        case s.RaisesClause(level):
            return f"raises irql to {expression(level)}"
        case s.SameIrqlClause():
            return "same irql"


def _mode_tag(mode: s.Mode, tag: str | None) -> str:
    shown = "" if mode is s.Mode.EXCLUSIVE else f" {mode}"
    return shown if tag is None else f"{shown} as {tag}"


def duration(nanoseconds: int) -> str:
    """In the largest unit that shows it exactly."""
    for unit, size in (("ms", 1_000_000), ("us", 1_000)):
        if nanoseconds % size == 0 and nanoseconds:
            return f"{nanoseconds // size}{unit}"
    if nanoseconds < 10**12:
        return f"{nanoseconds}ns"
    return f"{nanoseconds // 1_000}.{nanoseconds % 1_000:03}".rstrip("0") + "us"


# ---- comments and brackets of the source ----

_SCAN = re.compile(r'(?P<comment>//[^\n]*|/\*.*?\*/)|"[^"\n]*"|(?P<open>\{)|(?P<close>\})', re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Comment:
    text: str
    start: int
    trailing: bool
    """Code stands before it on its line."""


class _Layout:
    """Where comments, brackets and blank lines are in a source."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.comments: list[_Comment] = []
        self.opening: list[int] = []
        self.closing: dict[int, int] = {}
        self.code = _SCAN.sub(lambda m: " " * len(m.group()) if m["comment"] else m.group(), source.text)
        pending: list[int] = []
        comment_end = 0
        for match in _SCAN.finditer(source.text):
            at = match.start()
            if match["comment"]:
                line_start = max(source.text.rfind("\n", 0, at) + 1, comment_end)
                code = source.text[line_start:at].strip() or (self.comments and self._continues(at, comment_end))
                self.comments.append(_Comment(match.group().rstrip(), at, bool(code)))
                comment_end = match.end()
            elif match["open"]:
                self.opening.append(at)
                pending.append(at)
            elif match["close"] and pending:
                self.closing[pending.pop()] = at

    def _continues(self, at: int, comment_end: int) -> bool:
        """Whether only the previous comment stands between this one and code on its line."""
        return self.comments[-1].trailing and "\n" not in self.source.text[comment_end:at]

    def close_after(self, offset: int) -> int | None:
        """Where the first bracket opened behind `offset` is closed."""
        at = bisect_right(self.opening, offset)
        return self.closing.get(self.opening[at]) if at < len(self.opening) else None

    def word(self, words: str, start: int, end: int | None) -> int | None:
        """Where `words` begin in the code of a range, whatever blanks stand between them."""
        pattern = r"\b" + r"\s+".join(map(re.escape, words.split()[:2])) + r"\b"
        found = None if end is None else re.compile(pattern).search(self.code, start, end)
        return None if found is None else found.start()

    def line(self, offset: int) -> int:
        return self.source.line_column(offset)[0]

    def blank_above(self, offset: int) -> bool:
        line = self.line(offset)
        return line > 1 and not self.source.line(line - 1).strip()


@dataclass(slots=True)
class _Line:
    text: str
    depth: int
    anchor: int | None
    spaced: bool = False
    """A blank line stands before it, whatever the source has."""


class _Printer:
    """Collects lines; `finish` puts comments and blank lines between them."""

    def __init__(self, source: Source) -> None:
        self.layout = _Layout(source)
        self.lines: list[_Line] = []
        self.depth = 0
        self.after_block = False

    def emit(self, text: str, anchor: int | None, spaced: bool = False) -> None:
        self.lines.append(_Line(text, self.depth, anchor, spaced))

    # items

    def item(self, item: s.Item) -> None:
        tall = self._is_tall(item)
        self.spaced = bool(self.lines) and (tall or self.after_block)
        self.after_block = tall
        match item:
            case s.Routine() | s.Extern():
                self._routine(item)
            case s.DeviceDecl(name, members):
                self._members(f"device {name}", item.span.start, members)
            case s.LockKind():
                self._lock_kind(item)
            case s.HandleKind(name, fields):
                self._members(f"handlekind {name}", item.span.start, fields)
            case s.Role():
                self._role(item)
            case s.Scenario():
                self._scenario(item)
            case _:
                self.emit(_declaration(item), item.span.start, self.spaced)

    @staticmethod
    def _is_tall(item: s.Item) -> bool:
        match item:
            case s.Extern():
                return item.body is not None
            case s.Routine() | s.DeviceDecl() | s.LockKind() | s.HandleKind() | s.Role() | s.Scenario():
                return True
            case _:
                return False

    def _open(self, head: str, anchor: int) -> None:
        self.emit(f"{head} {{", anchor, self.spaced)
        self.spaced = False
        self.depth += 1

    def _close(self, anchor: int | None) -> None:
        self.depth -= 1
        self.emit("}", anchor)

    def _members(self, head: str, anchor: int, members: Iterable[s.Item | s.Field | s.LockField]) -> None:
        close = self.layout.close_after(anchor)
        self._open(head, anchor)
        for member in members:
            self.emit(_declaration(member), member.span.start)
        self._close(close)

    def _lock_kind(self, item: s.LockKind) -> None:
        """Attributes first, in one order, then the fields."""
        close = self.layout.close_after(item.span.start)
        self._open(f"lockkind {item.name}", item.span.start)
        for word in _attributes(item):
            self.emit(f"{word};", self.layout.word(word, item.span.start, close))
        for field in item.fields:
            self.emit(_declaration(field), field.span.start)
        self._close(close)

    def _role(self, item: s.Role) -> None:
        params = f"({', '.join(map(parameter, item.params))})" if item.params else ""
        close = self.layout.close_after(item.params[-1].span.end if item.params else item.span.start)
        self._open(f"role {item.name}{params}", item.span.start)
        if item.irql is not None:
            low, high = map(expression, item.irql)
            self.emit(f"irql {low};" if low == high else f"irql {low} .. {high};", item.irql[0].span.start)
        single = f"single {item.among}" if item.among else "single"
        said = [str(item.kind), single if item.single else "any number"]
        said += ["last"] if item.last else []
        then = " again" if item.again else f" then {item.resumes}" if item.resumes else ""
        said += [] if item.phase is None else [f"phase {item.phase}{then}"]
        said += [] if item.continues is None else [f"continues if {condition(item.continues)}"]
        for text in said:
            self.emit(f"{text};", self.layout.word(text, item.span.start, close))
        if item.holds:
            self.emit(f"holds {', '.join(map(reference, item.holds))};", item.holds[0].span.start)
        for word, roles in (("apart", item.apart), ("follows", item.follows), ("awaits", item.awaits)):
            if roles:
                self.emit(f"{word} {', '.join(role.name for role in roles)};", roles[0].span.start)
        for word, block in (("entry", item.entry), ("exit", item.exit)):
            if block is not None:
                self._block(word, block, block.span.start)
        self._close(close)

    def _scenario(self, item: s.Scenario) -> None:
        close = self.layout.close_after(item.span.start)
        on = "" if item.processors is None else f" on {item.processors} processors"
        self._open(f"scenario {item.name}{on}", item.span.start)
        for step in item.steps:
            text = _assignment(step) if isinstance(step, s.Assign) else _run(step)
            self.emit(f"{text};", step.span.start)
        self._close(close)

    def _routine(self, item: s.Routine | s.Extern) -> None:
        clauses = [clause_text(c) for c in item.clauses]
        if isinstance(item, s.Routine):
            role = item.role
            as_role = "" if role is None else f" as {role.name}{f'({arguments(role.args)})' if role.args else ''}"
            head = f"{'paged ' if item.paged else ''}routine {signature(item)}{as_role}"
        else:
            head = f"extern {signature(item)}"
        spaced, self.spaced = self.spaced, False
        whole, anchor = " ".join([head, *clauses]), item.span.start
        if clauses and len(whole) + 2 > WIDTH:
            self.emit(head, anchor, spaced)
            for clause, text in zip(item.clauses[:-1], clauses, strict=False):
                self.emit(INDENT * 2 + text, clause.span.start)
            whole, anchor, spaced = INDENT * 2 + clauses[-1], item.clauses[-1].span.start, False
        if item.body is None:
            self.emit(f"{whole};", anchor, spaced)
        else:
            self._block(whole, item.body, anchor, spaced)

    # statements

    def _block(self, head: str, block: s.Block, anchor: int | None, spaced: bool = False, tail: str = "") -> None:
        """`head { .. } tail`."""
        self.emit(f"{head} {{" if head else "{", anchor, spaced)
        self._body(block.body)
        self.emit(f"}}{tail}", _close_of(block))

    def _body(self, body: Iterable[s.Stmt]) -> None:
        self.depth += 1
        for stmt in body:
            self._statement(stmt)
        self.depth -= 1

    def _statement(self, stmt: s.Stmt) -> None:
        at = stmt.span.start
        match stmt:
            case s.Block():
                self._block("", stmt, at)
            case s.If(arms, otherwise):
                self._if(arms, otherwise, at)
            case s.While(test, body):
                self._block(f"while ({expression(test)})", body, at)
            case s.DoWhile(body, test):
                self._block("do", body, at, tail=f" while ({expression(test)});")
            case s.For(start, test, step, body):
                first, last = ("" if p is None else _for_part(p) for p in (start, step))
                middle = "" if test is None else f" {expression(test)}"
                self._block(f"for ({first};{middle};{f' {last}' if last else ''})", body, at)
            case s.Switch(subject, cases):
                self._switch(subject, cases, at)
            case s.Try(body, final):
                self.emit("try {", at)
                self._body(body.body)
                self.emit("} finally {", _close_of(body))
                self._body(final.body)
                self.emit("}", _close_of(final))
            case s.Atomic(body):
                self._block("atomic", body, at)
            case s.Label(name):
                self.emit(f"{name}:", at)
            case _:
                self.emit(f"{_simple(stmt)};", at)

    def _if(self, arms: tuple[s.Arm, ...], otherwise: s.Block | None, at: int) -> None:
        head: str = "if"
        anchor: int | None = at
        for arm in arms:
            self.emit(f"{head} ({expression(arm.condition)}) {{", anchor)
            self._body(arm.body.body)
            head, anchor = "} else if", _close_of(arm.body)
        if otherwise is not None:
            self.emit("} else {", anchor)
            self._body(otherwise.body)
            anchor = _close_of(otherwise)
        self.emit("}", anchor)

    def _switch(self, subject: s.Expr, cases: tuple[s.Case, ...], at: int) -> None:
        close = self.layout.close_after(subject.span.end - 1)
        self.emit(f"switch ({expression(subject)}) {{", at)
        for case in cases:
            self.emit("default:" if case.value is None else f"case {expression(case.value)}:", case.span.start)
            self._body(case.body)
        self.emit("}", close)

    # comments and blank lines

    def finish(self) -> str:
        before, behind, rest = self._place_comments()
        out: list[str] = []
        previous_line = 0

        def put(text: str, depth: int, anchor: int | None, spaced: bool) -> None:
            nonlocal previous_line
            line = previous_line if anchor is None else self.layout.line(anchor)
            new = anchor is not None and line > previous_line and self.layout.blank_above(anchor)
            inner = not out or out[-1].endswith("{") or text.startswith("}")
            if out and (spaced or (new and not inner)):
                out.append("")
            out.extend(_wrap(text, depth) if not text.startswith(("//", "/*")) else _reindent(text, depth))
            previous_line = max(previous_line, line)

        for index, line in enumerate(self.lines):
            depth = line.depth + (1 if line.text.startswith("}") else 0)
            for comment in before.get(index, ()):
                put(comment.text, depth, comment.start, line.spaced)
                line.spaced = False
            put(line.text, line.depth, line.anchor, line.spaced)
            if index in behind:
                out[-1] += f"  {behind[index].text}"
        for comment in rest:
            put(comment.text, 0, comment.start, False)
        return "".join(f"{text}\n" for text in out)

    def _place_comments(self) -> tuple[dict[int, list[_Comment]], dict[int, _Comment], list[_Comment]]:
        """Comments before each line, behind a line, and after the last."""
        before: dict[int, list[_Comment]] = {}
        behind: dict[int, _Comment] = {}
        rest: list[_Comment] = []
        anchored: list[tuple[int, int]] = []
        for index, line in enumerate(self.lines):
            if line.anchor is not None and (not anchored or line.anchor >= anchored[-1][0]):
                anchored.append((line.anchor, index))
        anchors = [anchor for anchor, _ in anchored]
        for comment in self.layout.comments:
            at = bisect_right(anchors, comment.start)
            if comment.trailing and at > 0:
                index = anchored[at - 1][1]
                if index not in behind and "\n" not in comment.text:
                    behind[index] = comment
                else:
                    before.setdefault(index, []).append(comment)
            elif at < len(anchors):
                before.setdefault(anchored[at][1], []).append(comment)
            else:
                rest.append(comment)
        return before, behind, rest


def _close_of(block: s.Block) -> int | None:
    """The offset of the closing bracket; None for a block that was not parsed."""
    return block.span.end - 1 if block.span.end else None


def _simple(stmt: s.Stmt) -> str:
    """A statement of one line, without its `;`."""
    match stmt:
        case s.Declare(kind, name, value):
            return f"{type_text(kind)} {name}{_value(value)}"
        case s.Assign():
            return _assignment(stmt)
        case s.CallStmt(call):
            return expression(call)
        case s.Goto(label):
            return f"goto {label}"
        case s.Jump(kind_):
            return str(kind_)
        case s.Return(value):
            return "return" if value is None else f"return {expression(value)}"
        case s.Assume(test):
            return f"assume {expression(test)}"
        case s.Assert(test):
            return f"assert {expression(test)}"
        case s.Access(write, data):
            return f"{'write' if write else 'read'} {reference(data)}"
        case s.Cost(nanoseconds, times):
            return f"cost {'' if times is None else f'{reference(times)} * '}{duration(nanoseconds)}"
        case _:
            return _primitive(stmt)


def _primitive(stmt: s.Stmt) -> str:
    match stmt:
        case s.Init(lock):
            return f"init {reference(lock)}"
        case s.Free(lock):
            return f"free {reference(lock)}"
        case s.Acquire(lock, mode, tag):
            return f"acquire {reference(lock)}{_mode_tag(mode, tag)}"
        case s.Release(lock, mode, tag):
            return f"release {reference(lock)}{_mode_tag(mode, tag)}"
        case s.Convert(lock, mode):
            return f"convert {reference(lock)} to {mode}"
        case s.Raise(level):
            return f"raise {expression(level)}"
        case s.Lower(level):
            return f"lower {expression(level)}"
        case s.Blocks():
            return "blocks"
        case s.Signal(op, event):
            return f"{op} {reference(event)}"
        case s.Enable(enable, name, again):
            return f"{'enable' if enable else 'disable'} {name}{' again' if again else ''}"
        case s.Require(test, code, why):
            return f'require {condition(test)} else {code} "{why}"'
        case s.Callback(name, args):
            return f"call {name}({arguments(args)})"
        case s.MayReenter(role):
            return f"may reenter {role}"
        case _:
            raise AssertionError(stmt)


def _assignment(stmt: s.Assign) -> str:
    match stmt.value:
        case s.Binary(s.BinaryOp.ADD | s.BinaryOp.SUB as op, s.Ref() as left, s.Number(1)) if left == stmt.target:
            return f"{reference(stmt.target)}{'++' if op is s.BinaryOp.ADD else '--'}"
        case _:
            return f"{reference(stmt.target)} = {expression(stmt.value)}"


def _for_part(part: s.Assign | s.CallStmt) -> str:
    return _assignment(part) if isinstance(part, s.Assign) else expression(part.call)


def _value(value: s.Expr | None) -> str:
    return "" if value is None else f" = {expression(value)}"


def _run(run: s.Run) -> str:
    text = f"run {run.routine}({arguments(run.args)})"
    if run.kind is not None:
        text += f" as {run.kind}" + ("" if run.level is None else f" at {expression(run.level)}")
    return text if run.processor is None else f"{text} on {run.processor}"


def _attributes(kind: s.LockKind) -> list[str]:
    """What stands before the fields of a lock kind."""
    words = ["spins"] if kind.spins else []
    if kind.level is not None:
        words.append(f"level {expression(kind.level)}")
    words += [f"recursive {r.mode}" + ("" if r.under is r.mode else f" under {r.under}") for r in kind.recursion]
    said = (
        ("init required", kind.init_required),
        ("resident", kind.resident),
        ("writers first", kind.writers_first),
        ("doubtful", kind.doubtful),
        ("closes", kind.closes),
        ("each device", kind.each_device),
    )
    return words + [word for word, holds in said if holds]


def _guards(guards: tuple[s.Ref, ...]) -> str:
    return f" guarded by {', '.join(map(reference, guards))}" if guards else ""


def _declaration(item: s.Item | s.Field | s.LockField) -> str:
    """A declaration of one line."""
    match item:
        case s.Driver(name):
            return f"driver {name};"
        case s.Import(name, is_path):
            return f'import "{name}";' if is_path else f"import {name};"
        case s.Setting(name, value):
            return f"setting {name} = {expression(value)};"
        case s.SettingDecl(name, kind, default):
            return f"setting {name} : {type_text(kind)} = {expression(default)};"
        case s.Const(name, value):
            return f"const {name} = {expression(value)};"
        case s.EnumDecl(name, values):
            return f"enum {name} {{ {', '.join(values)} }}"
        case s.LockDecl(name, size, kind_name, ordered, initialised, paged):
            said = ((" ordered", ordered), (" initialised", initialised), (" in paged", paged))
            attributes = "".join(word for word, holds in said if holds)
            return f"lock {name}{'' if size is None else f'[{size}]'} : {kind_name}{attributes};"
        case s.DataDecl(name, paged, guards):
            return f"data {name}{' in paged' if paged else ''}{_guards(guards)};"
        case s.EventDecl(name):
            return f"event {name};"
        case s.VarDecl(name, kind, value, guards):
            return f"var {name} : {type_text(kind)}{_value(value)}{_guards(guards)};"
        case s.ContextVar(name, kind, value):
            return f"context {type_text(kind)} {name}{_value(value)};"
        case s.InterruptDecl(name, level):
            return f"interrupt {name} at {expression(level)};"
        case s.DeferredDecl(kind_, name, routine):
            return f"{kind_} {name} runs {routine};"
        case s.Field(kind, name, value, ghost):
            return f"{'ghost ' if ghost else ''}{type_text(kind)} {name}{_value(value)};"
        case s.LockField(name):
            return f"lock {name};"
        case _:
            raise AssertionError(item)


_PIECE = re.compile(r'(?:"[^"]*"|[^" ])+ ?')


def _wrap(text: str, depth: int) -> list[str]:
    """A line, broken at blanks outside of quotes where it is too long."""
    lead = INDENT * depth
    if len(lead) + len(text) <= WIDTH:
        return [lead + text]
    inner = len(text) - len(text.lstrip())
    pieces = _PIECE.findall(text.lstrip())
    lines, current = [], lead + " " * inner + pieces[0]
    for piece in pieces[1:]:
        if len(current) + len(piece.rstrip()) > WIDTH:
            lines.append(current.rstrip())
            current = lead + " " * inner + INDENT * 2
        current += piece
    return [*lines, current.rstrip()]


def _reindent(comment: str, depth: int) -> list[str]:
    """A comment at its new depth; the stars of a block comment stay below one another."""
    lead = INDENT * depth
    first, *others = comment.splitlines()
    if all(line.lstrip().startswith("*") for line in others):
        return [lead + first.rstrip(), *(f"{lead} {line.strip()}" for line in others)]
    return [lead + first.rstrip(), *(line.rstrip() for line in others)]
