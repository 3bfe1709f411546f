"""What is asked, and what comes back: obligations, verdicts with their evidence, traces.

A verdict is `Proved`, `Violated` or `Undecided`, and each carries its evidence or its reason. Printing them is the work
of `report`; finding them that of `engines`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

from modelcheck.diagnostics import Diagnostic
from modelcheck.record import dataclass
from modelcheck.source import Span

PASSIVE_LEVEL, APC_LEVEL, DISPATCH_LEVEL, HIGH_LEVEL = 0, 1, 2, 31
NO_LEVEL = 32
"""The value of a KIRQL that was never written."""


class Property(StrEnum):
    """The properties of docs/properties.md."""

    B01 = "B01"
    B02 = "B02"
    B03 = "B03"
    B04 = "B04"
    B05 = "B05"
    B06 = "B06"
    B07 = "B07"
    B08 = "B08"
    I01 = "I01"
    I02 = "I02"
    I03 = "I03"
    I04 = "I04"
    I05 = "I05"
    I06 = "I06"
    I07 = "I07"
    I08 = "I08"
    D01 = "D01"
    D02 = "D02"
    D03 = "D03"
    D04 = "D04"
    R01 = "R01"
    R02 = "R02"
    R03 = "R03"
    R04 = "R04"
    T01 = "T01"
    C01 = "C01"
    C02 = "C02"
    C03 = "C03"
    C04 = "C04"


RACES = frozenset({Property.R03, Property.R04})
"""What two contexts break that stand where they must not be at once."""

MUTUAL = frozenset({Property.D01, Property.D02, Property.D03, Property.D04}) | RACES
"""What only several contexts together can break."""


SEEN_TO = "is for the driver to see to"
BEGUN_AGAIN = "may go on or begin again"
"""How reasons end why it is not known whether two contexts are there at once."""


@dataclass(frozen=True, slots=True)
class Obligation:
    """One place that could break one property.

    `routine` is where it stands ("" for a declaration), `subject` the lock, variable or callee it is about, `why` what
    must hold there in the words of the model. `scenario` names the closed world it is asked of, "" the open world. Two
    obligations are the same when code, place, subject, reason and world are.
    """

    code: Property
    routine: str
    span: Span
    subject: str
    why: str
    scenario: str = ""

    @property
    def id(self) -> str:
        """Stable while the file is: `B03 Read:17:9 QueueLock`, `D01 Read:17:9 QueueLock in both_at_once`."""
        line, column = self.span.source.line_column(self.span.start)
        place = f"{self.code} {self.routine or '-'}:{line}:{column} {self.subject}".rstrip()
        return f"{place} in {self.scenario}" if self.scenario else place


@dataclass(frozen=True, slots=True)
class Choice:
    """How something the model leaves open went: `*`, a try-acquire, what another routine wrote meanwhile.

    `shown` is the value as the model writes it (`true`, `busy`), "" where that is the number.

    Names: `*`, `try`, `uninit x`, `var x`, `result`, `out x`, `counter x`, `count L`. docs/language.md says where each
    arises. `own`: of `var x`, nobody else has written it since the context itself saw or wrote that value.
    """

    name: str
    value: int
    shown: str = ""
    own: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One executed statement or condition, and the state after it.

    `depth` counts calls from the root (0). `held` lists locks as (name, mode, how often). `choices` are the open
    choices it made, in order of evaluation. `taken` tells how a condition went, None where there is none. `passed`
    lists locks, as (name, mode), that a run of one context acquired and gave back again within the step. `joined`:
    nothing comes between the step before and this one (`atomic`).
    """

    routine: str
    depth: int
    span: Span
    choices: tuple[Choice, ...] = ()
    irql: int = 0
    held: tuple[tuple[str, str, int], ...] = ()
    taken: bool | None = None
    note: str = ""
    passed: tuple[tuple[str, str], ...] = ()
    joined: bool = False


@dataclass(frozen=True, slots=True)
class Trace:
    """A run of one routine from its start to the failed obligation, which fails in the last step.

    `start` gives what was open at the start: (`irql`, level), (`var x`, value), (`life L`, 0 uninitialised,
    1 initialised, 2 freed), (`param p`, value).
    """

    root: str
    start: tuple[Choice, ...]
    steps: tuple[Step, ...]

    def __hash__(self) -> int:
        """Of its length alone: a run is long, and looked up often."""
        return hash((self.root, self.start, len(self.steps)))

    @property
    def choices(self) -> list[Choice]:
        """All that was open in the run, in the order in which it went."""
        return [*self.start, *(choice for step in self.steps for choice in step.choices)]


@dataclass(frozen=True, slots=True)
class Actor:
    """A context of a schedule. `name` is its routine, numbered where several run it (`Read 2`); `kind` is `thread`,
    `dpc` or `isr`; `start` what was open when it started, its level first, as in a `Trace`. `within`: the actor in
    whose call-out it runs, which came back into the driver, by index; -1 for none."""

    name: str
    routine: str
    kind: str
    processor: int
    start: tuple[Choice, ...] = ()
    within: int = -1


@dataclass(frozen=True, slots=True)
class Turn:
    """One step of one context, by its index in `Schedule.actors`.

    `event` is "" for a step that goes through to the end of its statement, whatever it acquires on the way; `waits`
    for one that goes only as far as an acquisition of `lock` in `mode` ("" or `shared`), or a wait for the event
    `lock` (mode `event`), and stands before it (a writer that cannot take the lock has come to wait then); a later turn
    goes on from there. `calls`: as far as a call-out that may come back into the driver with the role `lock`; an actor
    `within` this one starts there. `stands`: nothing is done, the statement of the step is the context's next (R03,
    R04; in the mode `freed` it has freed `lock`). The step tells the state of that context after the turn.
    """

    actor: int
    step: Step
    event: str = ""
    lock: str = ""
    mode: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    """Why a context cannot go on at the end of a schedule, and which contexts (`by`) would have to.

    `reason`: `held` (they hold the lock `subject`), `self` (it holds it itself), `writer` (they wait for it
    exclusively, which stops new readers), `ended` (they have ended with it held), `event` (nobody who could set it
    can go on), `interrupted` (they have interrupted it), `displaced` (they have its processor), `called` (it has
    called out, and they have come back into the driver in its place; `subject` is "" or the role).
    """

    actor: int
    reason: str
    subject: str
    by: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Schedule:
    """A run of several contexts. `scenario` names the closed world it belongs to, "" in the open world.

    Of a deadlock `waits` has an entry for each context of the set that can never go on. Where it is empty, the last
    turn breaks the obligation (R03: the last turns of two contexts stand before accesses of the same data; R04: one of
    them before a use of a lock that the other is about to free, or has freed).
    """

    scenario: str
    processors: int
    actors: tuple[Actor, ...]
    turns: tuple[Turn, ...]
    waits: tuple[Wait, ...] = ()

    def __hash__(self) -> int:
        """Of its lengths alone: a run is long, and looked up often."""
        return hash((self.scenario, self.processors, len(self.actors), len(self.turns)))


@dataclass(frozen=True, slots=True)
class Proved:
    """Holds on every path. `certificate` names the queries that show it; `unreachable` when no path comes here at
    all."""

    certificate: str
    unreachable: bool = False


@dataclass(frozen=True, slots=True)
class Violated:
    trace: Trace | Schedule
    replayed: bool


@dataclass(frozen=True, slots=True)
class Undecided:
    """`reason` in the user's words, `reached` what is known all the same."""

    reason: str
    reached: str = ""


Verdict: TypeAlias = Proved | Violated | Undecided


@dataclass(frozen=True, slots=True)
class Result:
    obligation: Obligation
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Ruled:
    """A cycle of locks that nothing can come of: the locks in order, and by what it is ruled out, in words (`both hold
    Gate`, `Start and Stop never overlap`, `readers only`)."""

    locks: tuple[str, ...]
    by: str


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """The order in which a driver takes its locks.

    `ranks` gives every lock and event that is waited for its rank; who holds one waits only for higher ones, but for
    the cycles in `ruled`. `order` are the pairs (held, wanted) that occur, each with the places where it does.
    """

    ranks: tuple[tuple[str, int], ...]
    order: tuple[tuple[str, str, tuple[Span, ...]], ...] = ()
    ruled: tuple[Ruled, ...] = ()
    events: tuple[str, ...] = ()
    """Which of the ranked are events: who is to set one waits only for those further down."""


@dataclass(frozen=True, slots=True)
class Report:
    """All that was found about one driver. `results` has exactly one entry for each obligation of the model, in source
    order; `warnings` are what a green run should still be looked at for; `unmodelled` names callees that no model
    knows."""

    driver: str
    path: str
    results: tuple[Result, ...]
    warnings: tuple[Diagnostic, ...] = ()
    unmodelled: tuple[str, ...] = ()
    certificate: Certificate | None = None
    hierarchy: Hierarchy | None = None

    @property
    def violated(self) -> tuple[Result, ...]:
        return tuple(r for r in self.results if isinstance(r.verdict, Violated))

    @property
    def undecided(self) -> tuple[Result, ...]:
        return tuple(r for r in self.results if isinstance(r.verdict, Undecided))


@dataclass(frozen=True, slots=True)
class Certificate:
    """What `--proofs` writes: SMT-LIB text whose every `check-sat` must answer unsat, and what each query is for."""

    smt: str
    manifest: str
    """JSON: model hashes, obligations covered, the invariant tables the queries were made from."""
