"""Reports made by hand: schedules, hierarchies, long traces and hostile names, for tests of what is shown."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from modelcheck.source import Source, Span
from modelcheck.verdict import (
    Actor,
    Choice,
    Hierarchy,
    Obligation,
    Property,
    Proved,
    Report,
    Result,
    Ruled,
    Schedule,
    Step,
    Trace,
    Turn,
    Undecided,
    Violated,
    Wait,
)

TEXT = """\
driver cross;
import wdm;
lock A : KSPIN_LOCK initialised;
lock B : KSPIN_LOCK initialised;
routine Read(Irp) as DRIVER_DISPATCH {
    KIRQL old;
    KeAcquireSpinLock(&A, &old);
    Inner();
    KeReleaseSpinLock(&A, old);
}
routine Inner() {
    KeAcquireSpinLockAtDpcLevel(&B);
    KeReleaseSpinLockFromDpcLevel(&B);
}
routine Write(Irp) as DRIVER_DISPATCH {
    KIRQL old;
    KeAcquireSpinLock(&B, &old);
    KeAcquireSpinLockAtDpcLevel(&A);
    KeReleaseSpinLockFromDpcLevel(&A);
    KeReleaseSpinLock(&B, old);
}
routine Tick() as KDEFERRED_ROUTINE {
    KeAcquireSpinLockAtDpcLevel(&A);
    KeReleaseSpinLockFromDpcLevel(&A);
}
"""
SOURCE = Source("examples/cross.drvm", TEXT)


def at(text: str, source: Source = SOURCE, after: str = "") -> Span:
    """The first place of `text`, behind the first one of `after`."""
    start = source.text.index(text, source.text.index(after))
    return Span(source, start, start + len(text))


def hold(*names: str) -> tuple[tuple[str, str, int], ...]:
    return tuple((name, "exclusive", 1) for name in names)


_A, _B = "KeAcquireSpinLock(&A, &old)", "KeAcquireSpinLock(&B, &old)"
_INNER_B, _INNER_A = "KeAcquireSpinLockAtDpcLevel(&B)", "KeAcquireSpinLockAtDpcLevel(&A)"

CROSS = Schedule(
    "",
    2,
    (
        Actor("Read", "Read", "thread", 0, (Choice("irql", 0),)),
        Actor("Write", "Write", "thread", 1, (Choice("irql", 0),)),
    ),
    (
        Turn(0, Step("Read", 0, at("Read"), irql=0)),
        Turn(0, Step("Read", 0, at("KIRQL old;"), irql=0)),
        Turn(0, Step("Read", 0, at(_A), irql=2, held=hold("A"))),
        Turn(1, Step("Write", 0, at("Write"), irql=0)),
        Turn(1, Step("Write", 0, at(_B), irql=2, held=hold("B"))),
        Turn(0, Step("Read", 0, at("Inner()"), irql=2, held=hold("A"))),
        Turn(0, Step("Inner", 1, at(_INNER_B), irql=2, held=hold("A")), "waits", "B"),
        Turn(1, Step("Write", 0, at(_INNER_A, after="Write(Irp)"), irql=2, held=hold("B")), "waits", "A"),
    ),
    (Wait(0, "held", "B", (1,)), Wait(1, "held", "A", (0,))),
)
"""Two threads on two processors take A and B in opposite order."""

INTERRUPTED = Schedule(
    "dpc_comes",
    1,
    (Actor("Write", "Write", "thread", 0, (Choice("irql", 0),)), Actor("Tick", "Tick", "dpc", 0, (Choice("irql", 2),))),
    (
        Turn(0, Step("Write", 0, at("Write"), irql=0)),
        Turn(0, Step("Write", 0, at(_B), irql=0, held=hold("A"), note="A is taken without raising")),
        Turn(1, Step("Tick", 0, at("Tick"), irql=2)),
        Turn(1, Step("Tick", 0, at(_INNER_A, after="Tick()"), irql=2), "waits", "A"),
    ),
    (Wait(1, "held", "A", (0,)), Wait(0, "interrupted", "A", (1,))),
)
"""A DPC spins for what the thread below it holds."""

RACE = Schedule(
    "",
    2,
    (Actor("Read", "Read", "thread", 0, (Choice("irql", 0),)), Actor("Read 2", "Read", "thread", 1)),
    (
        Turn(0, Step("Read", 0, at("Read"), irql=0)),
        Turn(1, Step("Read", 0, at("Read"), irql=0)),
        Turn(0, Step("Read", 0, at("Inner()"), irql=0), "stands"),
        Turn(1, Step("Read", 0, at("Inner()"), irql=0), "stands"),
    ),
)
"""Two contexts stand before the same place."""

HIERARCHY = Hierarchy(
    (("A", 1), ("B", 2), ("C", 2), ("Gate", 0)),
    (
        ("Gate", "A", (at(_A),)),
        ("A", "B", (at(_INNER_B), at(_B))),
        ("B", "C", (at(_INNER_A),)),
        ("C", "B", (at("Inner()"),)),
    ),
    (Ruled(("B", "C"), "both hold Gate"),),
)


def result(
    code: str, place: Span, verdict: Proved | Violated | Undecided, subject: str = "", world: str = ""
) -> Result:
    routine = next((name for name in ("Tick", "Write", "Inner") if place.start >= at(f"routine {name}").start), "Read")
    return Result(
        Obligation(Property(code), routine, place, subject, "no deadlock comes of waiting here", world), verdict
    )


DEADLOCK = result("D01", at(_INNER_B), Violated(CROSS, True), "B")
OTHER_END = result("D01", at(_INNER_A, after="Write(Irp)"), Violated(CROSS, True), "A")
IN_SCENARIO = result("D02", at(_INNER_A, after="Tick()"), Violated(INTERRUPTED, True), "A", "dpc_comes")
RACING = result("R03", at("Inner()"), Violated(RACE, True), "Queue")
SAFE = result("D01", at(_A), Proved("ranks"), "A")
SAFE_THERE = result("D01", at(_A), Proved("states"), "A", "dpc_comes")
OPEN = result("D03", at("Inner()"), Undecided("the search took too many steps", "no deadlock of 2 contexts"))

REPORT = Report(
    "cross",
    SOURCE.name,
    (SAFE, SAFE_THERE, DEADLOCK, OTHER_END, RACING, OPEN, IN_SCENARIO),
    hierarchy=HIERARCHY,
)


def long_trace(steps: int) -> Trace:
    """A loop that is run again and again, taking and releasing a lock."""
    places = [at(_A), at("Inner()"), at("KeReleaseSpinLock(&A, old)")]
    made = [Step("Read", 0, at("Read"))]
    made += [
        Step("Read", 0, places[n % 3], irql=0 if n % 3 == 2 else 2, held=() if n % 3 == 2 else hold("A"))
        for n in range(steps - 2)
    ]
    return Trace("Read", (Choice("irql", 0),), (*made, Step("Read", 0, at("Read"), note="that was all")))


def wide_schedule(turns: int, contexts: int) -> Schedule:
    """Contexts that take turns at taking locks of their own, on as many processors; no two steps are the same."""
    lines = "".join(f"    KeAcquireSpinLock(&Lock{n}, &old{n});\n" for n in range(turns))
    source = Source("wide.drvm", f"routine Work(Irp) {{\n{lines}}}\n")
    actors = tuple(Actor(f"Work {n + 1}", "Work", "thread", n) for n in range(contexts))
    taken: list[tuple[str, ...]] = [() for _ in actors]
    made = []
    for n in range(turns):
        who = n * 7 % contexts
        taken[who] = (*taken[who][-2:], f"Lock{n}")
        place = at(f"KeAcquireSpinLock(&Lock{n}, &old{n})", source)
        made.append(Turn(who, Step("Work", 0, place, irql=2 * (n % 2), held=hold(*taken[who]))))
    return Schedule("", contexts, actors, tuple(made), (Wait(0, "held", "Lock1", (1,)), Wait(1, "held", "Lock0", (0,))))


HOSTILE = (
    '"><script>alert(1)</script>',
    "</script><img src=x onerror=alert(1)>",
    'a"];evil [label="owned',
    "back\\slash\\N\\l",
    "<b>bold</b> &amp; &lt;",
    "\u00fcml\u00e4ut \u6f22\u5b57 \U0001f512",
    ']]> --> <!-- {x|y} \\"',
    "\u202eright-to-left \x1b[31m\x00",
    "-->;${alert(1)}`'",
)
"""Names that break out of quotes, tags, comments and escapes where they are not escaped."""


def hostile() -> Report:
    """A report in which every name, path, note and source line is one of `HOSTILE`."""
    results = []
    for number, name in enumerate(HOSTILE):
        source = Source(f"{name}.drvm", f"call({name});\nnext({name});\n")
        where = Span(source, 0, len(f"call({name})"))
        step = Step(name, 0, where, (Choice(f"var {name}", 1, name),), 2, ((name, name, 1),), note=name)
        actors = (Actor(name, name, "thread", 0), Actor(f"{name} 2", name, "dpc", 1))
        waiting = (Turn(0, step), Turn(1, step), Turn(0, step, "waits", name, name), Turn(1, step, "waits", name))
        waits = (Wait(0, "held", name, (1,)), Wait(1, "held", name, (0,)))
        schedule = Schedule(name, 2, actors, waiting, waits)
        asked = Obligation(Property.D01, name, where, name, name, name)
        trace = Trace(name, (Choice(f"var {name}", 1, name),), (step, replace(step, held=())))
        results.append(Result(asked, Violated(schedule, True)))
        results.append(Result(replace(asked, code=Property.B03, scenario=""), Violated(trace, True)))
        results.append(Result(replace(asked, code=Property.I01, scenario=""), Undecided(name, name)))
        results.append(Result(replace(asked, code=Property.I02, why=f"{name}{number}"), Proved(name)))
    order = Hierarchy(
        tuple((name, number) for number, name in enumerate(HOSTILE)),
        tuple((a, b, (results[0].obligation.span,)) for a, b in pairwise(HOSTILE)),
        (Ruled(HOSTILE[:3], HOSTILE[0]),),
    )
    return Report(HOSTILE[0], f"{HOSTILE[0]}.drvm", tuple(results), hierarchy=order, unmodelled=HOSTILE)
