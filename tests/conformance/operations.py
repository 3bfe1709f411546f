"""How each operation of the notation is written in a driver model.

Operations are calls of the Windows routines they name, from the shipped `wdm` model. Where the notation asks for less
than the Windows routine does (`raise` and `lower` of a plain level, `require_max`), or applies a routine to a lock of
another kind, the model of the case declares an extern of its own, made of primitives.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LEVELS = {"PASSIVE": 0, "APC": 1, "DISPATCH": 2, "DIRQL": 5, "HIGH": 15}
KINDS = {
    "spin": "KSPIN_LOCK",
    "rwspin": "EX_SPIN_LOCK",
    "fastmutex": "FAST_MUTEX",
    "kmutex": "KMUTEX",
    "eresource": "ERESOURCE",
    "interrupt": "KSPIN_LOCK",
}
ZERO_INITIALISED = ("rwspin", "interrupt")
"""Kinds that a driver does not initialise with a routine: an explicit flag follows their initialisation."""


class Inexpressible(Exception):
    """The case says something that no driver model can say; the message says what."""


def level(text: str) -> int:
    """The number of a level's name. Raises Inexpressible."""
    name = text.strip().upper().removesuffix("_LEVEL")
    numbered = re.fullmatch(r"(?:DIRQL)?(\d+)", name)
    value = LEVELS.get(name) if numbered is None else int(numbered.group(1))
    if value is None or value > 31:
        raise Inexpressible(f"`{text}` is not a level")
    return value


def is_level(text: str) -> bool:
    try:
        level(text)
    except Inexpressible:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Template:
    """How an operation on a lock is written. `{L}` is the lock, `{s}` the saved level. `kinds`: the lock kinds that the
    statement takes; on any other kind the extern `local` is called, whose declaration is in `LOCAL`."""

    statement: str
    kinds: tuple[str, ...]
    local: str
    sort: str
    exclusive: bool = True


OPERATIONS = {
    "acquire": Template("KeAcquireSpinLock(&{L}, &{s});", ("spin", "interrupt"), "CaseAcquire({L}, {s});", "acquire"),
    "release": Template("KeReleaseSpinLock(&{L}, {s});", ("spin", "interrupt"), "CaseRelease({L}, {s});", "release"),
    "acquire_dpc": Template(
        "KeAcquireSpinLockAtDpcLevel(&{L});", ("spin", "interrupt"), "CaseAcquireDpc({L});", "acquire"
    ),
    "release_dpc": Template(
        "KeReleaseSpinLockFromDpcLevel(&{L});", ("spin", "interrupt"), "CaseReleaseDpc({L});", "release"
    ),
    "read_acquire": Template(
        "{s} = ExAcquireSpinLockShared(&{L});", ("rwspin",), "CaseReadAcquire({L}, {s});", "acquire", False
    ),
    "read_release": Template(
        "ExReleaseSpinLockShared(&{L}, {s});", ("rwspin",), "CaseReadRelease({L}, {s});", "release", False
    ),
    "write_acquire": Template(
        "{s} = ExAcquireSpinLockExclusive(&{L});", ("rwspin",), "CaseAcquire({L}, {s});", "acquire"
    ),
    "write_release": Template(
        "ExReleaseSpinLockExclusive(&{L}, {s});", ("rwspin",), "CaseRelease({L}, {s});", "release"
    ),
    "read_acquire_dpc": Template(
        "ExAcquireSpinLockSharedAtDpcLevel(&{L});", ("rwspin",), "CaseReadAcquireDpc({L});", "acquire", False
    ),
    "read_release_dpc": Template(
        "ExReleaseSpinLockSharedFromDpcLevel(&{L});", ("rwspin",), "CaseReadReleaseDpc({L});", "release", False
    ),
    "write_acquire_dpc": Template(
        "ExAcquireSpinLockExclusiveAtDpcLevel(&{L});", ("rwspin",), "CaseAcquireDpc({L});", "acquire"
    ),
    "write_release_dpc": Template(
        "ExReleaseSpinLockExclusiveFromDpcLevel(&{L});", ("rwspin",), "CaseReleaseDpc({L});", "release"
    ),
    "acquire_irq": Template(
        "{s} = KeAcquireInterruptSpinLock({I});", ("interrupt",), "CaseAcquireIrq({L}, {s});", "acquire"
    ),
    "release_irq": Template(
        "KeReleaseInterruptSpinLock({I}, {s});", ("interrupt",), "CaseReleaseIrq({L}, {s});", "release"
    ),
    "mutex_acquire": Template("ExAcquireFastMutex(&{L});", ("fastmutex",), "CaseBlockingAcquire({L});", "acquire"),
    "mutex_release": Template("ExReleaseFastMutex(&{L});", ("fastmutex",), "CaseBlockingRelease({L});", "release"),
    "kmutex_acquire": Template(
        "KeWaitForSingleObject(&{L}, Executive, KernelMode, FALSE, NULL);",
        ("kmutex",),
        "CaseBlockingAcquire({L});",
        "acquire",
    ),
    "kmutex_release": Template("KeReleaseMutex(&{L}, FALSE);", ("kmutex",), "CaseBlockingRelease({L});", "release"),
    "res_shared": Template(
        "ExAcquireResourceSharedLite(&{L}, TRUE);", ("eresource",), "CaseBlockingAcquireShared({L});", "acquire", False
    ),
    "res_excl": Template(
        "ExAcquireResourceExclusiveLite(&{L}, TRUE);", ("eresource",), "CaseBlockingAcquire({L});", "acquire"
    ),
    "res_release": Template("ExReleaseResourceLite(&{L});", ("eresource",), "CaseBlockingRelease({L});", "release"),
}


LOCAL = {
    "CaseAcquire": """(lock L, out KIRQL old) requires irql <= DISPATCH_LEVEL {
    KIRQL before = irql; raise DISPATCH_LEVEL; acquire L as ordinary; old = before;
}""",
    "CaseRelease": "(lock L, KIRQL old) requires irql == DISPATCH_LEVEL { release L as ordinary; lower old; }",
    "CaseReadAcquire": """(lock L, out KIRQL old) requires irql <= DISPATCH_LEVEL {
    KIRQL before = irql; raise DISPATCH_LEVEL; acquire L shared as ordinary; old = before;
}""",
    "CaseReadRelease": """(lock L, KIRQL old) requires irql == DISPATCH_LEVEL {
    release L shared as ordinary; lower old;
}""",
    "CaseAcquireDpc": "(lock L) requires irql >= DISPATCH_LEVEL { acquire L as dpc; }",
    "CaseReleaseDpc": "(lock L) requires irql >= DISPATCH_LEVEL { release L as dpc; }",
    "CaseTryDpc": """(lock L) : bool requires irql >= DISPATCH_LEVEL {
    bool taken = try_acquire L as dpc; return taken;
}""",
    "CaseTryReadDpc": """(lock L) : bool requires irql >= DISPATCH_LEVEL {
    bool taken = try_acquire L shared as dpc; return taken;
}""",
    "CaseReadAcquireDpc": "(lock L) requires irql >= DISPATCH_LEVEL { acquire L shared as dpc; }",
    "CaseReadReleaseDpc": "(lock L) requires irql >= DISPATCH_LEVEL { release L shared as dpc; }",
    "CaseAcquireIrq": """(lock L, out KIRQL old) requires irql <= 5 {
    KIRQL before = irql; raise 5; acquire L as interrupt_lock; old = before;
}""",
    "CaseReleaseIrq": "(lock L, KIRQL old) requires irql >= 5 { release L as interrupt_lock; lower old; }",
    "CaseBlockingAcquire": "(lock L) requires irql <= APC_LEVEL { blocks; acquire L; }",
    "CaseBlockingAcquireShared": "(lock L) requires irql <= APC_LEVEL { blocks; acquire L shared; }",
    "CaseBlockingTry": "(lock L) : bool requires irql <= APC_LEVEL { bool taken = try_acquire L; return taken; }",
    "CaseBlockingRelease": "(lock L) requires irql <= DISPATCH_LEVEL { release L either; }",
    "CaseReleaseTo": """(lock L : EX_SPIN_LOCK, KIRQL new) requires irql == DISPATCH_LEVEL {
    if (held(L)) {
        if (L.saved <= HIGH_LEVEL) {
            require new == L.saved else I03 "the level restored is the one saved when this lock was acquired";
        }
    }
    release L either as executive;
    if (new <= irql) { lower new; } else if (new <= HIGH_LEVEL) { raise new; }
}""",
    "CaseInit": "(lock L) { init L; }",
    "CaseRaise": "(KIRQL new) { raise new; }",
    "CaseLower": "(KIRQL new) { if (new != irql) { lower new; } }",
    "CaseCallout": '() { require no_spin_lock else I07 "no call-out with a spin lock held"; }',
}
"""Externs that the notation needs beyond the shipped model."""

TRIES = {
    "try_acquire_dpc": Template("KeTryToAcquireSpinLockAtDpcLevel(&{L})", ("spin",), "CaseTryDpc({L})", "acquire"),
    "try_write_acquire_dpc": Template(
        "ExTryAcquireSpinLockExclusiveAtDpcLevel(&{L})", ("rwspin",), "CaseTryDpc({L})", "acquire"
    ),
    "try_read_acquire_dpc": Template(
        "ExTryAcquireSpinLockSharedAtDpcLevel(&{L})", ("rwspin",), "CaseTryReadDpc({L})", "acquire", False
    ),
    "try_mutex": Template("ExTryToAcquireFastMutex(&{L})", ("fastmutex",), "CaseBlockingTry({L})", "acquire"),
}
TRY_SPELLINGS = {
    "try_acquire": "try_acquire_dpc",
    "try_write_acquire": "try_write_acquire_dpc",
    "try_write_dpc": "try_write_acquire_dpc",
    "try_write": "try_write_acquire_dpc",
    "try_read_acquire": "try_read_acquire_dpc",
    "try_read_dpc": "try_read_acquire_dpc",
    "try_read": "try_read_acquire_dpc",
    "try_mutex_acquire": "try_mutex",
}
INITIALISERS = {
    "spin": "KeInitializeSpinLock(&{L});",
    "fastmutex": "ExInitializeFastMutex(&{L});",
    "kmutex": "KeInitializeMutex(&{L}, 0);",
    "eresource": "ExInitializeResourceLite(&{L});",
}
RELEASING_TO = {
    "rwspin": Template("CaseReleaseTo(&{L}, {s});", ("rwspin",), "", "release"),
    "interrupt": OPERATIONS["release_irq"],
}
"""`release_to` says only to which level: it ends what has saved a level, in either mode. On other kinds: `release`."""
CALLOUTS = {
    "complete_irp": "IoCompleteRequest(NULL, 0);",
    "send_irp": "IoCallDriver(NULL, NULL);",
    "request_dpc": "IoRequestDpc(NULL, NULL, NULL);",
}
SIGNALS = {
    "wait": "KeWaitForSingleObject(&{E}, Executive, KernelMode, FALSE, NULL);",
    "wait0": "KeWaitForSingleObject(&{E}, Executive, KernelMode, FALSE, 0);",
    "set_event": "KeSetEvent(&{E}, 0, FALSE);",
    "set_event_wait": "KeSetEvent(&{E}, 0, TRUE);",
}
RAISING = {
    "acquire": LEVELS["DISPATCH"],
    "read_acquire": LEVELS["DISPATCH"],
    "write_acquire": LEVELS["DISPATCH"],
    "acquire_irq": LEVELS["DIRQL"],
    "mutex_acquire": LEVELS["APC"],
}
"""The level to which an acquire raises, before it waits for the lock."""
BOUNDS = {"require_max": "<=", "require_min": ">=", "require_eq": "=="}
