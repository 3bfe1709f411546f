"""Small random drivers without scenarios: a few roots that take locks, one in the other, at different levels.

Every text is a function of its seed. Threads, DPCs and ISRs, roots of which there is one or any number, spin locks,
mutexes, reader/writer locks, try-acquires, flags, data without a guard.
"""

from __future__ import annotations

import random

_ROLES = {
    "thread": "role R{n} {{ irql {low}; thread; {many}; }}",
    "dpc": "role R{n} {{ irql 2; dpc; {many}; }}",
    "isr": "role R{n} {{ irql {level}; isr; {many}; }}",
}
_TAKE = {
    ("spin", "low"): ("KeAcquireSpinLock(&{lock}, &o{n});", "KeReleaseSpinLock(&{lock}, o{n});"),
    ("spin", "high"): ("KeAcquireSpinLockAtDpcLevel(&{lock});", "KeReleaseSpinLockFromDpcLevel(&{lock});"),
    ("rw", "low", "x"): ("o{n} = ExAcquireSpinLockExclusive(&{lock});", "ExReleaseSpinLockExclusive(&{lock}, o{n});"),
    ("rw", "low", "s"): ("o{n} = ExAcquireSpinLockShared(&{lock});", "ExReleaseSpinLockShared(&{lock}, o{n});"),
    ("rw", "high", "x"): (
        "ExAcquireSpinLockExclusiveAtDpcLevel(&{lock});",
        "ExReleaseSpinLockExclusiveFromDpcLevel(&{lock});",
    ),
    ("rw", "high", "s"): (
        "ExAcquireSpinLockSharedAtDpcLevel(&{lock});",
        "ExReleaseSpinLockSharedFromDpcLevel(&{lock});",
    ),
    ("mutex", "low"): ("ExAcquireFastMutex(&{lock});", "ExReleaseFastMutex(&{lock});"),
    ("kmutex", "low"): (
        "KeWaitForSingleObject(&{lock}, Executive, KernelMode, FALSE, NULL);",
        "KeReleaseMutex(&{lock}, FALSE);",
    ),
}
_KINDS = {"spin": "KSPIN_LOCK", "rw": "EX_SPIN_LOCK", "mutex": "FAST_MUTEX", "kmutex": "KMUTEX"}


class _Writer:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.lines: list[str] = []
        self.saved = 0

    def driver(self) -> str:
        pick = self.random
        kinds = [pick.choice(["spin", "spin", "rw", "mutex", "kmutex"]) for _ in range(pick.randint(2, 3))]
        self.locks = [(f"L{n}", kind) for n, kind in enumerate(kinds)]
        self.flag = pick.random() < 0.3
        self.event = pick.random() < 0.2
        head = ["driver example;", "import wdm;", "setting at_dpc_above_dispatch = true;"]
        head += [f"lock {name} : {_KINDS[kind]} initialised;" for name, kind in self.locks]
        head += ["data D;", "event E;", "var flag : bool = false;"]
        roots = []
        for number in range(pick.randint(1, 3)):
            kind = pick.choice(["thread", "thread", "thread", "dpc", "isr"])
            many = pick.choice(["any number", "single"])
            level = pick.choice([3, 5])
            low = pick.choice(["0", "0", "0", "2"])
            head.append(_ROLES[kind].format(n=number, many=many, level=level, low=low))
            start = {"thread": int(low), "dpc": 2, "isr": level}[kind]
            roots += self.root(number, start)
        return "\n".join([*head, *roots]) + "\n"

    def root(self, number: int, level: int) -> list[str]:
        self.lines, self.saved = [], 0
        body = self.statements(level, [], 2)
        declared = [f"    KIRQL o{n};" for n in range(self.saved)]
        return [f"routine F{number}() as R{number} {{", *declared, *body, "}"]

    def statements(self, level: int, held: list[str], depth: int) -> list[str]:
        found: list[str] = []
        for _ in range(self.random.randint(1, 2 if depth == 2 else 1)):
            found += self.statement(level, held, depth)
        return found

    def statement(self, level: int, held: list[str], depth: int) -> list[str]:
        choice = self.random.random()
        if choice < 0.62 and depth:
            return self.section(level, held, depth)
        if choice < 0.70:
            return [f"    {self.random.choice(['write', 'read'])} D;"]
        if choice < 0.78 and depth:
            condition = "flag" if self.flag else "*"
            inner = self.statements(level, held, depth - 1)
            return [f"    if ({condition}) {{", *inner, "    }"]
        if choice < 0.82 and self.flag:
            return [f"    flag = {self.random.choice(['true', 'false'])};"]
        if choice < 0.88 and self.event:
            wait = "KeWaitForSingleObject(&E, Executive, KernelMode, FALSE, NULL);"
            return [f"    {wait}" if level == 0 and self.random.random() < 0.5 else "    KeSetEvent(&E, 0, FALSE);"]
        return ["    read D;"] if self.random.random() < 0.2 else []

    def section(self, level: int, held: list[str], depth: int) -> list[str]:
        pick = self.random
        free = [(name, kind) for name, kind in self.locks if name not in held or pick.random() < 0.05]
        if level >= 2:
            free = [(name, kind) for name, kind in free if kind in ("spin", "rw")]
        if not free:
            return []
        name, kind = pick.choice(free)
        high = level >= 2 or (kind in ("spin", "rw") and pick.random() < 0.15)
        if kind == "spin" and level >= 2 and pick.random() < 0.15:
            inner = self.statements(level, [*held, name], depth - 1)
            release = f"        KeReleaseSpinLockFromDpcLevel(&{name});"
            return [f"    if (KeTryToAcquireSpinLockAtDpcLevel(&{name})) {{", *inner, release, "    }"]
        key = (kind, "high" if high else "low", *([pick.choice("xs")] if kind == "rw" else []))
        take, give = _TAKE[key]
        number = self.saved
        if "{n}" in take:
            self.saved += 1
        after = level if high else {"spin": 2, "rw": 2, "mutex": max(level, 1), "kmutex": level}[kind]
        inner = self.statements(after, [*held, name], depth - 1)
        closing = [] if pick.random() < 0.04 else [f"    {give.format(lock=name, n=number)}"]
        return [f"    {take.format(lock=name, n=number)}", *inner, *closing]


def random_driver(seed: int) -> str:
    """The text of the driver of a seed."""
    return _Writer(seed).driver()
