"""Finds every error in a resolved program, so that the stages behind it may take it as valid.

What one declaration says is checked here; the inside of routines in `check_body`. Warnings come back too: a routine
that nobody calls, a callee whose name is nearly that of a known one.
"""

from __future__ import annotations

from collections.abc import Iterable

from modelcheck import syntax as s
from modelcheck.check_body import BodyCheck
from modelcheck.devices import MANY, parameters
from modelcheck.diagnostics import Code, Diagnostic, Note, in_source_order
from modelcheck.kinds import Kinds
from modelcheck.names import Meaning, Sort
from modelcheck.printer import expression, parameter, signature
from modelcheck.resolve import INTERRUPT_LOCK_KIND, Program, find_role, following, qualified, run_arguments
from modelcheck.source import Span
from modelcheck.verdict import DISPATCH_LEVEL

MAX_FAMILY = 1024
MAX_PROCESSORS = 64
PHASES = ("load", "add", "start", "run", "stop", "unload")


def check(program: Program, shipped: bool = False) -> tuple[Diagnostic, ...]:
    """Every error and warning about a program, in source order; without an error in them the program is valid.
    `shipped`: the shipped models that it imports are looked at too."""
    checker = _Check(program)
    checker.all(shipped)
    return in_source_order([*program.findings, *checker.body.found])


class _Check:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.body = BodyCheck(program)
        self.names = self.body.names
        self.error = self.body.error
        self.help = self.names.suggestions.help
        self.device: s.DeviceDecl | None = None

    def all(self, shipped: bool) -> None:
        for item in self.program.items:
            if shipped or item.span.source in self.program.own:
                self.item(item)
        self._recursive_kernel_routines()
        self._kinds_given()
        self._never_called()

    def item(self, item: s.Item) -> None:
        body = self.body
        match item:
            case s.Setting():
                self._setting(item)
            case s.SettingDecl(_, kind, default):
                if body.type(kind, "a setting") is not None:
                    body.initial(kind, default, "the default of a setting")
            case s.EnumDecl(name, values):
                body.enum(values, item.span)
                self._enum_constants(name, values, item.span)
            case s.LockDecl():
                self._lock(item)
            case s.DeviceDecl(_, members):
                self.device = item
                for member in members:
                    self.item(member)
                self.device = None
            case s.DataDecl(_, _, guards):
                self._guards(guards)
            case s.VarDecl(_, kind, value, guards):
                self._variable(kind, value)
                self._guards(guards)
                if isinstance(kind, s.EnumType):
                    self._enum_constants(item.name, kind.values, kind.span)
            case s.ContextVar(_, kind, value):
                self._variable(kind, value)
            case s.InterruptDecl():
                self._interrupt(item)
            case s.DeferredDecl(_, _, routine):
                self._deferred(routine, item.span)
            case s.Routine():
                self._routine(item)
            case s.Extern():
                body.extern(item)
            case s.Scenario():
                self._scenario(item)
            case s.LockKind():
                if item.level is not None:
                    self._constant_level(item.level, "the level of a lock kind")
                self._fields(item.fields)
            case s.HandleKind(_, fields):
                self._fields(fields)
            case s.Role():
                self._role(item)
            case s.Driver() | s.Import() | s.Const() | s.EventDecl():
                pass

    # ---- declarations ----

    def _setting(self, item: s.Setting) -> None:
        declared = self.program.settings.get(item.name)
        if declared is None:
            help_ = self.help(item.name, self.program.settings)
            message = f"no imported model has a setting `{item.name}`"
            self.error(Code.UNDECLARED, message, item.span, help=help_)
        else:
            self.body.initial(declared.type, item.value, "the value of a setting")

    def _enum_constants(self, name: str, values: tuple[str, ...], span: Span) -> None:
        """A constant and an object of one name could not be told apart. Only among the user's own names."""
        if span.source not in self.program.own:
            return
        for value in values:
            other = self.names.globals.get(value)
            if other is not None:
                notes = () if other.span is None else (Note(f"`{value}` is also declared here", other.span),)
                message = f"`{value}` in `{name}` is the name of something else too"
                self.error(Code.DECLARED_TWICE, message, span, *notes)

    def _lock(self, item: s.LockDecl) -> None:
        if item.kind not in self.program.lock_kinds:
            help_ = self.help(item.kind, self.program.lock_kinds)
            if help_ is None and not self.program.lock_kinds:
                help_ = "`import wdm;` declares the lock kinds of the kernel"
            self.error(Code.UNDECLARED, f"there is no lock kind `{item.kind}`", item.span, help=help_)
        if item.size is not None and not 1 <= item.size <= MAX_FAMILY:
            message = f"a family has 1 to {MAX_FAMILY} locks, not {item.size}"
            self.error(Code.OUT_OF_RANGE, message, item.span)

    def _guards(self, guards: tuple[s.Ref, ...]) -> None:
        for guard in guards:
            own = None if self.device is None else f"{self.device.name}.{guard.name}"
            if own is not None and own in self.program.locks and self.device is not None:
                guard = s.Ref(self.device.name, (s.Member(guard.name, guard.span), *guard.selectors), guard.span)
            self.body.lock(guard)

    def _variable(self, kind: s.Type, value: s.Expr | None) -> None:
        if self.body.type(kind, "a shared variable") is not None and value is not None:
            self.body.initial(kind, value, "the value of a variable at the start")

    def _interrupt(self, item: s.InterruptDecl) -> None:
        self._constant_level(item.level, "the level of an interrupt")
        if INTERRUPT_LOCK_KIND not in self.program.lock_kinds:
            message = f"an interrupt has a lock of kind {INTERRUPT_LOCK_KIND}, which no imported model declares"
            self.error(Code.UNDECLARED, message, item.span, help="write `import wdm;`")

    def _constant_level(self, level: s.Expr, what: str) -> int | None:
        before = len(self.body.found)
        self.body.level(level)
        value = self.program.constant(level)
        if value is None:
            self.body.not_constant(level, what, before)
        return value

    def _deferred(self, routine: str, span: Span) -> None:
        self.body.where = ""
        self.body.mention(routine)
        if routine in self.program.routines:
            if self.program.routines[routine].role is None:
                self._no_lock(self.program.routines[routine])
        else:
            help_ = self.help(routine, self.program.routines)
            self.error(Code.UNDECLARED, f"there is no routine `{routine}`", span, help=help_)

    def _fields(self, fields: Iterable[s.Field | s.LockField]) -> None:
        seen: dict[str, Span] = {}
        for field in fields:
            first = seen.setdefault(field.name, field.span)
            if first is not field.span:
                note = Note("the first one", first)
                self.error(Code.KIND_FIELDS, f"the field `{field.name}` is declared twice", field.span, note)
            if isinstance(field, s.Field) and self.body.type(field.type, "a field") is not None and field.value:
                self.body.initial(field.type, field.value, "the value of a field at the start")

    def _role(self, item: s.Role) -> None:
        body = self.body
        body.role(item)
        if item.irql is None:
            message = f"the role `{item.name}` does not say at which IRQL it runs"
            self.error(Code.ROLE, message, item.span, help="write `irql PASSIVE_LEVEL;` or a range")
        else:
            self._role_levels(item.irql)
        if item.phase is not None and item.phase not in PHASES:
            help_ = f"the phases are {', '.join(PHASES)}"
            self.error(Code.ROLE, f"there is no phase `{item.phase}`", item.span, help=help_)
        if item.again and item.phase != "start":
            self.error(Code.ROLE, "only a routine of `start` comes again", item.span)
        if item.resumes and item.phase != "stop":
            self.error(Code.ROLE, "only behind a routine of `stop` a device goes on", item.span)
        elif item.resumes and not any(r.phase == "start" for r in self.program.roles.get(item.resumes, ())):
            self.error(Code.ROLE, f"`{item.resumes}` is no role of the phase `start`", item.span)
        self._other_roles(item)
        for other in self.program.roles[item.name]:
            if other is item:
                break
            if list(map(parameter, other.params)) == list(map(parameter, item.params)):
                note = Note("the first one", other.span)
                self.error(Code.DECLARED_TWICE, f"the role `{item.name}` is declared twice", item.span, note)
                break

    def _other_roles(self, item: s.Role) -> None:
        """The roles that one speaks of are there; those that it follows are of its phase, and do not follow it."""
        roles = self.program.roles
        for name in (*item.apart, *item.follows, *(name for name in item.awaits if name.name != "any")):
            if name.name not in roles:
                self.error(Code.ROLE, f"there is no role `{name.name}`", name.span, help=self.help(name.name, roles))
        for name in item.follows:
            if item.phase in (None, "run"):
                self.error(Code.ROLE, "routines of the phase `run` come in any order", name.span)
            elif any(other.phase != item.phase for other in roles.get(name.name, ())):
                message = f"`{name.name}` is of another phase, which decides who comes first"
                self.error(Code.ROLE, message, name.span)
            elif item.name in following(roles, name.name):
                self.error(Code.ROLE, f"`{item.name}` and `{name.name}` follow each other", name.span)

    def _role_levels(self, irql: tuple[s.Expr, s.Expr]) -> None:
        low, high = map(self.program.constant, irql)
        if low is not None and high is not None and low > high:
            self.error(Code.ROLE, f"the levels {low} .. {high} are none", irql[0].span)

    # ---- routines ----

    def _routine(self, item: s.Routine) -> None:
        self.body.routine(item, primitives=item.span.source not in self.program.own)
        self._few_devices(item)
        if item.role is None:
            return
        self._no_lock(item)
        use, program = item.role, self.program
        if use.name not in program.roles:
            help_ = self.help(use.name, program.roles)
            if help_ is None and not program.roles:
                help_ = "`import wdm;` declares the roles of the kernel"
            self.error(Code.ROLE, f"there is no role `{use.name}`", use.span, help=help_)
            return
        try:
            find_role(program, use)
        except KeyError:
            forms = [f"`{use.name}({', '.join(map(parameter, r.params))})`" for r in program.roles[use.name]]
            shown = f"{', '.join(forms[:8])}{' and others' if len(forms) > 8 else ''}".replace("()", "")
            message = f"the role `{use.name}` does not come with these arguments"
            self.error(Code.ROLE, message, use.span, help=f"it comes as {shown}")

    def _no_lock(self, item: s.Routine) -> None:
        """What the system starts is given no lock by it: which one would be meant is open."""
        for param in item.params:
            if isinstance(param, s.LockParam):
                message = f"the system starts `{item.name}`, and gives it no lock"
                help_ = "name the lock in the body, or call a helper with it"
                self.error(Code.ROLE, message, param.span, help=help_)

    def _few_devices(self, item: s.Routine) -> None:
        """Every way in which parameters can be the same device is looked at: there can be only so many."""
        taken = parameters(self.program, item)
        for param in item.params:
            name = param.name if isinstance(param, s.ValueParam) else ""
            if name in taken and list(taken.values())[: list(taken).index(name) + 1].count(taken[name]) > MANY:
                message = f"`{item.name}` takes more than {MANY} instances of the device `{taken[name]}`"
                self.error(Code.ALIASED, message, param.span)

    def _kinds_given(self) -> None:
        """A routine that leaves the kind of a lock open is given locks that its body goes with."""
        kinds = Kinds(self.program, self.body.found)
        for given in self.body.given:
            cause = kinds.refusal(given)
            if cause is not None:
                named = " and ".join(f"a {kind} as `{name}`" for name, kind in given.kinds.items())
                message = f"`{given.declared.name}` cannot be given {named}"
                self.error(Code.LOCK_KIND, message, given.span, Note(cause.message, cause.span))

    def _recursive_kernel_routines(self) -> None:
        """Kernel routines are written out at each call, so none may come to call itself."""
        calls = self.body.extern_calls
        done: set[int] = set()
        for forms in self.program.externs.values():
            for form in forms:
                self._descend(form, calls, done)

    def _descend(self, root: s.Extern, calls: dict[int, list[tuple[s.Extern, Span]]], done: set[int]) -> None:
        """Depth first from one form; a call back to one that is still open is recursion."""
        if id(root) in done:
            return
        open_forms = {id(root)}
        stack = [(root, iter(calls.get(id(root), ())))]
        while stack:
            form, rest = stack[-1]
            for callee, span in rest:
                if id(callee) in open_forms:
                    message = f"`{callee.name}` calls itself here, directly or through others"
                    self.error(Code.RECURSION, message, span, Note(f"`{signature(callee)}`", callee.span))
                elif id(callee) not in done:
                    open_forms.add(id(callee))
                    stack.append((callee, iter(calls.get(id(callee), ()))))
                    break
            else:
                stack.pop()
                open_forms.discard(id(form))
                done.add(id(form))

    def _never_called(self) -> None:
        for routine in self.program.routines.values():
            users = self.body.called.get(routine.name, set()) - {routine.name}
            if routine.role is None and not routine.clauses and not users and routine.span.source in self.program.own:
                message = f"`{routine.name}` has no role and no clauses and is never called: it is not checked"
                help_ = f"say who starts it, `routine {routine.name}(..) as ROLE`, or what it needs"
                self.body.found.append(Diagnostic(Code.NEVER_CALLED, message, routine.span, help=help_))

    # ---- scenarios ----

    def _scenario(self, item: s.Scenario) -> None:
        count = 1 if item.processors is None else item.processors
        if not 1 <= count <= MAX_PROCESSORS:
            message = f"a scenario runs on 1 to {MAX_PROCESSORS} processors, not {count}"
            self.error(Code.SCENARIO, message, item.span)
        if not any(isinstance(step, s.Run) for step in item.steps):
            self.error(Code.SCENARIO, f"the scenario `{item.name}` runs nothing", item.span)
        self.body.where = ""
        for step in item.steps:
            if isinstance(step, s.Run):
                self._run(step, count)
            else:
                self._start_value(step)

    def _as_its_role_says(self, run: s.Run, routine: s.Routine) -> None:
        """A role says of which kind its contexts are, and an interrupt at which level."""
        if routine.role is None:
            return
        try:
            role, arguments = find_role(self.program, routine.role)
        except KeyError:
            return
        if run.kind is not None and run.kind is not role.kind:
            message = f"`{run.routine}` runs as {_A[role.kind]}, not as {_A[run.kind]}"
            self.error(Code.SCENARIO, message, run.span, Note(f"its role is `{role.name}`", routine.role.span))
        elif run.kind is s.ContextKind.ISR and run.level is not None:
            for value in arguments.values():
                if isinstance(value, s.Ref) and value.name in self.program.interrupts:
                    self._at_its_level(run.level, self.program.interrupts[value.name])

    def _at_its_level(self, expr: s.Expr, interrupt: s.InterruptDecl) -> None:
        """An interrupt has one level, whoever runs for it."""
        declared, level = self.program.constant(interrupt.level), self.program.constant(expr)
        if None not in (declared, level) and declared != level:
            message = f"the interrupt `{interrupt.name}` has the level {declared}, not {level}"
            note = Note(f"`{interrupt.name}` is declared here", interrupt.span)
            self.error(Code.SCENARIO, message, expr.span, note)

    def _start_value(self, step: s.Assign) -> None:
        if qualified(step.target) not in self.program.variables:
            meaning: Meaning = self.names.resolve(step.target)
            if meaning.sort is not Sort.UNKNOWN:
                message = f"{self.names.describe(step.target, meaning)}; a scenario gives values to shared variables"
                self.error(Code.SCENARIO, message, step.target.span)
            return
        variable = self.program.variables[qualified(step.target)]
        self.body.initial(variable.type, step.value, "the value of a variable at the start")

    def _run(self, run: s.Run, processors: int) -> None:
        routine = self.program.routines.get(run.routine)
        if routine is None:
            help_ = self.help(run.routine, self.program.routines)
            self.error(Code.UNDECLARED, f"there is no routine `{run.routine}`", run.span, help=help_)
        else:
            self.body.mention(run.routine)
            note = Note(f"`{signature(routine)}`", routine.span)
            args = run_arguments(routine, run)
            self.body.arguments(run.routine, args, routine.params, run.span, note)
            self.body.give(routine, args, run.span)
            self._as_its_role_says(run, routine)
        if run.processor is not None and run.processor >= processors:
            message = f"the scenario has the processors 0 to {processors - 1}, not {run.processor}"
            self.error(Code.SCENARIO, message, run.span)
        if run.kind is s.ContextKind.ISR and run.level is None:
            message = "an `isr` needs its level"
            self.error(Code.SCENARIO, message, run.span, help=f"write `run {run.routine}(..) as isr at DIRQL`")
        if run.level is not None:
            self._run_level(run, run.level)

    def _run_level(self, run: s.Run, expr: s.Expr) -> None:
        level = self._constant_level(expr, "the level of a context")
        if level is None:
            return
        if run.kind is s.ContextKind.ISR and level <= DISPATCH_LEVEL:
            self.error(Code.SCENARIO, f"an `isr` runs above DISPATCH_LEVEL, not at {expression(expr)}", expr.span)
        elif run.kind is s.ContextKind.DPC and level != DISPATCH_LEVEL:
            self.error(Code.SCENARIO, f"a `dpc` runs at DISPATCH_LEVEL, not at {expression(expr)}", expr.span)


_A = {s.ContextKind.THREAD: "a `thread`", s.ContextKind.DPC: "a `dpc`", s.ContextKind.ISR: "an `isr`"}
