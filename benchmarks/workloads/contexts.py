"""Drivers whose contexts meet: rings, philosophers, interrupts in chains, the classic exercises; as model text.

Each is there for the open world, where any number of contexts runs every routine, and as a `scenario` in which each
routine runs once. The same arguments give the same text.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Model:
    """`text` for the open world; `runs` is what the scenario adds. `broken`: the properties that are violated in the
    open world, `stuck`: whether the contexts of the scenario can come to a deadlock."""

    name: str
    text: str
    runs: tuple[str, ...]
    processors: int
    broken: frozenset[str] = frozenset()
    stuck: bool = False

    @property
    def scenario(self) -> str:
        """The model with its routines run once each."""
        lines = [f"scenario once on {self.processors} processors {{", *(f"    {run}" for run in self.runs), "}"]
        return "\n".join([self.text, *lines, ""])


D01 = frozenset({"D01"})


def _model(name: str, declared: Sequence[str], routines: Sequence[str], **more: object) -> Model:
    text = "\n".join([f"driver {name};", "import wdm;", *declared, *routines, ""])
    count = len(routines)
    runs = tuple(f"run R{number}(NULL) on {number};" for number in range(count))
    return Model(name, text, **({"runs": runs, "processors": count} | more))  # type: ignore[arg-type]


def routine(number: int, body: Sequence[str], role: str = "DRIVER_DISPATCH") -> str:
    return "\n".join([f"routine R{number}(Irp) as {role} {{", *(f"    {line}" for line in body), "}"])


def locks(count: int) -> list[str]:
    return [f"lock L{number} : KSPIN_LOCK initialised;" for number in range(count)]


def section(*names: str, inner: Sequence[str] = ()) -> list[str]:
    """A critical section under locks, taken in this order."""
    first, *rest = names
    taken = [f"KeAcquireSpinLockAtDpcLevel(&{name});" for name in rest]
    given = [f"KeReleaseSpinLockFromDpcLevel(&{name});" for name in reversed(rest)]
    return [
        "KIRQL old;",
        f"KeAcquireSpinLock(&{first}, &old);",
        *taken,
        *inner,
        *given,
        f"KeReleaseSpinLock(&{first}, old);",
    ]


def ring(k: int, kind: str) -> Model:
    """k routines, each takes its lock and the next. `bug`: all round; `ordered`: the lower one first; `gated`: all
    round, under one lock more."""
    routines = []
    for number in range(k):
        pair = (number, (number + 1) % k)
        names = [f"L{n}" for n in (sorted(pair) if kind == "ordered" else pair)]
        routines.append(routine(number, section(*(["Gate"] if kind == "gated" else []), *names)))
    gate = ["lock Gate : KSPIN_LOCK initialised;"] if kind == "gated" else []
    bad = kind == "bug"
    return _model(f"ring_{kind}", [*gate, *locks(k)], routines, broken=D01 if bad else frozenset(), stuck=bad)


def philosophers(k: int, kind: str) -> Model:
    """k forks, k philosophers, each eats once: a ring, as `ring` has it, whose contexts also touch a variable while
    both forks are held."""
    declared = [*locks(k), *(f"var eaten{n} : bool = false;" for n in range(k))]
    if kind == "gated":
        declared.append("lock Gate : KSPIN_LOCK initialised;")
    routines = []
    for number in range(k):
        pair = (number, (number + 1) % k)
        names = [f"L{n}" for n in (sorted(pair) if kind == "ordered" else pair)]
        gate = ["Gate"] if kind == "gated" else []
        routines.append(routine(number, section(*gate, *names, inner=[f"eaten{number} = true;"])))
    bad = kind == "bug"
    return _model("philosophers", declared, routines, broken=D01 if bad else frozenset(), stuck=bad)


def preemption(k: int, bug: bool) -> Model:
    """A thread and k - 1 interrupts of rising level; each takes the lock of the next, at its level. `bug`: the last
    spins for a lock that the thread holds at DISPATCH_LEVEL."""
    declared = ["setting at_dpc_above_dispatch = true;", "lock Low : KSPIN_LOCK initialised;"]
    declared += [f"interrupt I{n} at {3 + (n - 1) * 26 // k};" for n in range(1, k)]
    routines = []
    for number in range(k):
        body = ["KIRQL old;"]
        if number + 1 < k:
            body += [f"old = KeAcquireInterruptSpinLock(I{number + 1});"]
            body += [f"KeReleaseInterruptSpinLock(I{number + 1}, old);"]
        elif bug:
            body += ["KeAcquireSpinLockAtDpcLevel(&Low);", "KeReleaseSpinLockFromDpcLevel(&Low);"]
        if number == 0:
            body += section("Low")[1:]
        routines.append(routine(number, body, f"KSERVICE_ROUTINE(I{number})" if number else "DRIVER_DISPATCH"))
    runs = tuple(f"run R{number}(NULL) on 0;" for number in range(k))
    broken = frozenset({"D01", "D02"}) if bug else frozenset[str]()
    return _model("preemption", declared, routines, runs=runs, processors=1, broken=broken, stuck=bug)


def mixed(k: int, bug: bool) -> Model:
    """k work items, each takes a mutex, a reader/writer lock and two spin locks; `bug`: the spin locks all round."""
    declared = [*locks(k), "lock Table : EX_SPIN_LOCK initialised;"]
    declared += [f"lock M{number} : FAST_MUTEX initialised;" for number in range(k)]
    routines = []
    for number in range(k):
        pair = (number, (number + 1) % k)
        first, second = pair if bug else sorted(pair)
        mode = "Exclusive" if number % 3 == 0 else "Shared"
        body = [
            "KIRQL old;",
            f"ExAcquireFastMutex(&M{number});",
            f"old = ExAcquireSpinLock{mode}(&Table);",
            f"ExReleaseSpinLock{mode}(&Table, old);",
            *section(f"L{first}", f"L{second}")[1:],
            f"ExReleaseFastMutex(&M{number});",
        ]
        routines.append(routine(number, body, "IO_WORKITEM_ROUTINE"))
    return _model("mixed", declared, routines, broken=D01 if bug else frozenset(), stuck=bug)


def nested(routines: int, count: int, acquisitions: int, seed: int = 0) -> Model:
    """Routines with nested sections over `count` locks, always in rising order; so many acquisitions together."""
    chance = random.Random(seed)
    made = []
    for number in range(routines):
        body = ["KIRQL old;"]
        left = acquisitions // routines
        while left > 0:
            names = [f"L{n}" for n in sorted(chance.sample(range(count), min(left, chance.randint(2, 6))))]
            body += section(*names)[1:]
            left -= len(names)
        made.append(routine(number, body))
    return _model("nested", locks(count), made)


# ---- the classic exercises ----


def bank(k: int, bug: bool) -> Model:
    """k accounts; each transfer locks the payer and the payee, in this order or by number."""
    declared = [*locks(k), *(f"var balance{n} : int 0..9 = 5 guarded by L{n};" for n in range(k))]
    routines = []
    for number in range(k):
        payer, payee = number, (number + 2) % k
        names = [f"L{n}" for n in ((payer, payee) if bug else sorted((payer, payee)))]
        inner = [
            f"if (balance{payer} > 0 && balance{payee} < 9) {{",
            f"    balance{payer} = balance{payer} - 1;",
            f"    balance{payee} = balance{payee} + 1;",
            "}",
        ]
        routines.append(routine(number, section(*names, inner=inner)))
    return _model("bank", declared, routines, broken=D01 if bug else frozenset(), stuck=bug)


def traffic(k: int, bug: bool) -> Model:
    """A crossing of k lanes: each car takes its own field and the next. Without `bug` a light lets one in at a time."""
    made = ring(k, "bug" if bug else "gated")
    return Model("traffic", made.text, made.runs, made.processors, made.broken, made.stuck)


def upgrade(k: int, bug: bool) -> Model:
    """Readers that become writers of a resource: while they still hold it shared (`bug`), or after giving it back."""
    declared = ["lock Table : ERESOURCE initialised;"]
    back = ["ExReleaseResourceLite(&Table);"]
    body = [
        "KeEnterCriticalRegion();",
        "ExAcquireResourceSharedLite(&Table, TRUE);",
        *([] if bug else back),
        "ExAcquireResourceExclusiveLite(&Table, TRUE);",
        *(back * 2 if bug else back),
        "KeLeaveCriticalRegion();",
    ]
    routines = [routine(number, body, "IO_WORKITEM_ROUTINE") for number in range(k)]
    return _model("upgrade", declared, routines, broken=frozenset({"B01", "D01"}) if bug else frozenset(), stuck=bug)


def workqueue(k: int, bug: bool) -> Model:
    """One producer that signals under the queue's mutex, k - 1 consumers that wait: holding the mutex (`bug`), or
    before they take it."""
    declared = ["lock Queue : FAST_MUTEX initialised;", "event Work;"]
    wait = ["KeWaitForSingleObject(&Work, Executive, KernelMode, FALSE, NULL);"]
    take, give = ["ExAcquireFastMutex(&Queue);"], ["ExReleaseFastMutex(&Queue);"]
    routines = [routine(0, [*take, "KeSetEvent(&Work, 0, FALSE);", *give], "IO_WORKITEM_ROUTINE")]
    for number in range(1, k):
        body = [*take, *wait, *give] if bug else [*wait, *take, *give]
        routines.append(routine(number, body, "IO_WORKITEM_ROUTINE"))
    broken = frozenset({"D01", "D03"}) if bug else frozenset[str]()
    return _model("workqueue", declared, routines, broken=broken, stuck=bug)


def classic(k: int) -> list[tuple[str, Model]]:
    """All of them, each right and wrong."""
    return [
        ("philosophers", philosophers(k, "ordered")),
        ("philosophers, wrong", philosophers(k, "bug")),
        ("bank", bank(k, False)),
        ("bank, wrong", bank(k, True)),
        ("traffic", traffic(k, False)),
        ("traffic, wrong", traffic(k, True)),
        ("upgrade", upgrade(k, False)),
        ("upgrade, wrong", upgrade(k, True)),
        ("work queue", workqueue(k, False)),
        ("work queue, wrong", workqueue(k, True)),
    ]
