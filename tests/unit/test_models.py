"""The shipped models: they parse and pass `check`, keep the documented IRQL bounds, and find the documented mistakes.

A case is a routine whose lines say in a comment what fails there. All its runs are explored with the interpreter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

import modelcheck
from modelcheck import documented
from modelcheck import syntax as s
from modelcheck.check import check
from modelcheck.interpret import Failure, Machine, State
from modelcheck.parser import parse
from modelcheck.resolve import BUILTIN_CONSTANTS, apply, resolve_text, shipped_models
from modelcheck.source import Source
from modelcheck.walk import references

T = TypeVar("T")
MODELS = sorted(shipped_models())
LEVELS = (0, 1, 2, 5, 31)
MAX_STATES = 5_000

# Where a model and the documented bounds differ, and why.
KNOWN_DIFFERENCES = {
    "KeReleaseSpinLockFromDpcLevel": "above DISPATCH_LEVEL by setting, as its acquire",
    "KefReleaseSpinLockFromDpcLevel": "above DISPATCH_LEVEL by setting, as its acquire",
    "KeTryToAcquireSpinLockAtDpcLevel": "above DISPATCH_LEVEL by setting, as the other acquire",
    "KeReleaseInStackQueuedSpinLockFromDpcLevel": "its acquire is allowed above DISPATCH_LEVEL",
    "IoSetCancelRoutine": "below DISPATCH_LEVEL by setting",
    "IoRequestDpc": "any device level",
    "KeSynchronizeExecution": "the form for passive-level interrupts waits",
    "KeAcquireInterruptSpinLock": "the form for passive-level interrupts is never right",
    "WdfInterruptAcquireLock": "the form for passive-level interrupts",
    "WdfInterruptReleaseLock": "at the level of the interrupt, whichever it is",
    "WdfInterruptSynchronize": "the form for passive-level interrupts",
}


def items(model: str) -> tuple[s.Item, ...]:
    path = shipped_models()[model]
    return parse(Source(path.name, path.read_text(encoding="utf-8"), path)).items


@pytest.mark.parametrize("model", MODELS)
def test_a_driver_that_imports_it_is_valid(model: str) -> None:
    program = resolve_text(f"driver d;\nimport {model};\n")
    assert not [d for d in check(program, shipped=True) if d.code.is_error]


def _value(expr: s.Expr, irql: int) -> int:
    match expr:
        case s.Irql():
            return irql
        case s.Number(value):
            return value
        case s.Ref(name, ()):
            return BUILTIN_CONSTANTS[name]
        case s.Ref(_, (s.Member("level"),)):
            return BUILTIN_CONSTANTS["DIRQL"]
        case s.Binary(op, left, right):
            value_of = apply(op, _value(left, irql), _value(right, irql))
            assert value_of is not None
            return value_of
        case _:
            raise AssertionError(expr)


def _bounds(extern: s.Extern) -> tuple[int, int]:
    clauses = [c for c in extern.clauses if isinstance(c, s.ConditionClause)]
    values = {param.name for param in extern.params if isinstance(param, s.ValueParam)}
    clauses = [c for c in clauses if values.isdisjoint(ref.name for ref in references(c.condition))]
    allowed = [level for level in LEVELS if all(_value(c.condition, level) for c in clauses)]
    return allowed[0], allowed[-1]


EXTERNS = [(model, item) for model in MODELS for item in items(model) if isinstance(item, s.Extern)]


def test_the_bounds_are_the_documented_ones() -> None:
    """The `requires irql` of each kernel routine against the table; a difference has a reason."""
    different = set()
    for _, extern in EXTERNS:
        known = documented.lookup(extern.name)
        if known is not None and _bounds(extern) != (known.irql_min, known.irql_max):
            different.add(extern.name)
    assert different == set(KNOWN_DIFFERENCES)


FAMILIES = """
KeAcquireSpinLock KeReleaseInStackQueuedSpinLockForDpc ExTryConvertSharedSpinLockExclusive KeReleaseInterruptSpinLock
ExInterlockedPopEntrySList IoReleaseCancelSpinLock IoReleaseVpbSpinLock KzLowerIrql NdisDprReleaseSpinLock
NdisInterlockedAddUlong NdisReleaseRWLock NdisDprReleaseReadWriteLock NDIS_RELEASE_MUTEX NdisMSynchronizeWithInterruptEx
NDIS_LOWER_IRQL WdfSpinLockRelease WdfWaitLockRelease WdfObjectReleaseLock WdfInterruptReleaseLock
StorPortReleaseSpinLock StorPortReleaseMSISpinLock VideoPortReleaseSpinLock VideoPortReleaseDeviceLock
GPIO_CLX_ReleaseInterruptLock DxgkCbSynchronizeExecution KsFilterReleaseProcessingMutex KeReleaseMutex
ExReleaseFastMutexUnsafe
KeReleaseGuardedMutexUnsafe ExReleaseResourceAndLeaveCriticalRegion FltReleaseResource FltReleasePushLockEx
ExReleasePushLockShared KeLeaveGuardedRegion KeWaitForMultipleObjects StorPortWaitForSingleObject
IoReleaseRemoveLockAndWait
ExWaitForRundownProtectionRelease
"""


@pytest.mark.parametrize("name", FAMILIES.split())
def test_every_lock_family_is_modelled(name: str) -> None:
    assert name in {extern.name for _, extern in EXTERNS}


def _outcomes(run: Callable[[Callable[[str, Sequence[int]], int]], T]) -> Iterator[T]:
    """The result of `run` for every way the choices it asks for can go."""
    tape: list[int] = []
    while True:
        used: list[tuple[int, int]] = []

        def choose(_: str, allowed: Sequence[int], used: list[tuple[int, int]] = used, tape: list[int] = tape) -> int:
            index = tape[len(used)] if len(used) < len(tape) else 0
            used.append((index, len(allowed)))
            return allowed[index]

        yield run(choose)
        while used and used[-1][0] + 1 == used[-1][1]:
            used.pop()
        if not used:
            return
        tape = [index for index, _ in used]
        tape[-1] += 1


def findings(text: str, root: str) -> set[tuple[str, int]]:
    """(code, line) of every obligation that fails on some run of `root`."""
    program = resolve_text(text)
    assert [d.message for d in check(program) if d.code.is_error] == []
    machine = Machine(program)
    pending: list[State] = list(_outcomes(lambda choose: machine.start(root, choose)))
    seen: set[object] = set()
    found: set[tuple[str, int]] = set()

    def one(state: State, choose: Callable[[str, Sequence[int]], int]) -> tuple[State, tuple[Failure, ...]]:
        after = state.copy()
        return after, machine.step(after, choose).failures

    while pending:
        state = pending.pop()
        if state.ended or state.key() in seen:
            continue
        seen.add(state.key())
        assert len(seen) < MAX_STATES
        for after, failures in _outcomes(lambda choose, state=state: one(state, choose)):  # type: ignore[misc]
            found |= {(str(f.code), f.span.line) for f in failures}
            pending.append(after)
    return found


def expected(text: str) -> set[tuple[str, int]]:
    """What the comments of a case say."""
    return {
        (code, number)
        for number, line in enumerate(text.splitlines(), 1)
        for code in re.findall(r"\b[A-Z]\d\d\b", line.partition("// ")[2])
    }


# Each block of CASES: `name | import | role | settings and declarations`, then the body, up to an empty line. `@ codes`
# behind the role is what fails at the end of the routine. Declarations may stand in lines of their own, behind `|`.
CASES = """
spin lock | wdm | DRIVER_DISPATCH(IRP_MJ_READ) | lock A : KSPIN_LOCK;
KIRQL old;
KeAcquireSpinLock(&A, &old);
KeReleaseSpinLock(&A, old);

spin lock, level given back | wdm | DRIVER_DISPATCH | lock A : KSPIN_LOCK;
KIRQL old = KeAcquireSpinLockRaiseToDpc(&A);
KeReleaseSpinLock(&A, old);

spin lock not released | wdm | DRIVER_DISPATCH(IRP_MJ_READ) @ B03 I02 | lock A : KSPIN_LOCK;
KIRQL old;
KeAcquireSpinLock(&A, &old);

spin lock taken twice | wdm | KDEFERRED_ROUTINE | lock A : KSPIN_LOCK;
KIRQL old;
KeAcquireSpinLock(&A, &old);
KeAcquireSpinLock(&A, &old); // B01

released but not held | wdm | KDEFERRED_ROUTINE | lock A : KSPIN_LOCK;
KeReleaseSpinLock(&A, DISPATCH_LEVEL); // B02

one variable for two locks | wdm | DRIVER_DISPATCH(IRP_MJ_CREATE) @ I02 | lock A : KSPIN_LOCK; lock B : KSPIN_LOCK;
KIRQL old;
KeAcquireSpinLock(&A, &old);
KeAcquireSpinLock(&B, &old);
KeReleaseSpinLock(&B, old);
KeReleaseSpinLock(&A, old); // I03

level of another variable | wdm | DRIVER_DISPATCH(IRP_MJ_CREATE) @ I02 | lock A : KSPIN_LOCK;
KIRQL old, never;
KeAcquireSpinLock(&A, &old);
KeReleaseSpinLock(&A, never); // I03

release of the wrong form | wdm | DRIVER_DISPATCH(IRP_MJ_CREATE) @ I02 | lock A : KSPIN_LOCK;
KIRQL old;
KeAcquireSpinLock(&A, &old);
KeReleaseSpinLockFromDpcLevel(&A); // B04

ordinary release after AtDpcLevel | wdm | KDEFERRED_ROUTINE | lock A : KSPIN_LOCK;
KeAcquireSpinLockAtDpcLevel(&A);
KeReleaseSpinLock(&A, DISPATCH_LEVEL); // B04

AtDpcLevel in a thread | wdm | DRIVER_DISPATCH(IRP_MJ_CREATE) | lock A : KSPIN_LOCK;
KeAcquireSpinLockAtDpcLevel(&A); // I01
KeReleaseSpinLockFromDpcLevel(&A); // I01

AtDpcLevel in a DPC | wdm | KDEFERRED_ROUTINE | lock A : KSPIN_LOCK;
KeAcquireSpinLockAtDpcLevel(&A);
KeReleaseSpinLockFromDpcLevel(&A);

AtDpcLevel in a service routine | wdm | KSERVICE_ROUTINE(Line) | interrupt Line at 7; lock A : KSPIN_LOCK;
KeAcquireSpinLockAtDpcLevel(&A); // I01
KeReleaseSpinLockFromDpcLevel(&A); // I01

AtDpcLevel in a service routine, allowed | wdm | KSERVICE_ROUTINE(Line) |
| setting at_dpc_above_dispatch = TRUE; interrupt Line at 7; lock A : KSPIN_LOCK;
KeAcquireSpinLockAtDpcLevel(&A);
KeReleaseSpinLockFromDpcLevel(&A);

ordinary routines in a service routine | wdm | KSERVICE_ROUTINE(Line) | interrupt Line at DIRQL; lock A : KSPIN_LOCK;
KIRQL old;
KeAcquireSpinLock(&A, &old); // I01
KeReleaseSpinLock(&A, old); // I01

threaded DPC | wdm | KDEFERRED_ROUTINE | setting threaded_dpc = TRUE; lock A : KSPIN_LOCK; lock B : KSPIN_LOCK;
KIRQL old = KeAcquireSpinLockForDpc(&A);
KeReleaseSpinLockForDpc(&A, old);
KeAcquireSpinLockAtDpcLevel(&B); // I01
KeReleaseSpinLockFromDpcLevel(&B); // I01

threaded DPC, forms mixed | wdm | KDEFERRED_ROUTINE(THREADED) | lock A : KSPIN_LOCK;
KIRQL old = KeAcquireSpinLockForDpc(&A);
KeReleaseSpinLock(&A, old); // B04

try | wdm | KDEFERRED_ROUTINE | lock A : KSPIN_LOCK;
if (KeTryToAcquireSpinLockAtDpcLevel(&A)) {
KeReleaseSpinLockFromDpcLevel(&A);
}

result of try ignored | wdm | KDEFERRED_ROUTINE | lock A : KSPIN_LOCK;
KeTryToAcquireSpinLockAtDpcLevel(&A);
KeReleaseSpinLockFromDpcLevel(&A); // B02

try, released by the ordinary routine | wdm | KDEFERRED_ROUTINE |
| setting try_at_dpc_released_by_executive = TRUE; lock A : KSPIN_LOCK;
if (KeTryToAcquireSpinLockAtDpcLevel(&A)) {
KeReleaseSpinLock(&A, DISPATCH_LEVEL);
}

raised to SYNCH_LEVEL | wdm | DRIVER_DISPATCH | lock A : KSPIN_LOCK;
KIRQL old = KeAcquireSpinLockRaiseToSynch(&A);
assert irql == SYNCH_LEVEL;
KeReleaseSpinLock(&A, old); // I01

raised to SYNCH_LEVEL, twice | wdm | DRIVER_DISPATCH | lock A : KSPIN_LOCK;
KIRQL old = KeAcquireSpinLockRaiseToSynch(&A);
old = KeAcquireSpinLockRaiseToSynch(&A); // B01

numbered | wdm | DRIVER_DISPATCH | lock A : KSPIN_LOCK; lock B : KSPIN_LOCK;
KIRQL inner = PASSIVE_LEVEL;
KIRQL outer = KeAcquireQueuedSpinLock(A);
if (KeTryToAcquireQueuedSpinLock(B, &inner)) {
    KeReleaseQueuedSpinLock(B, inner);
}
KeReleaseQueuedSpinLock(A, outer);

numbered, tried | wdm | DRIVER_DISPATCH(IRP_MJ_CREATE) | lock A : KSPIN_LOCK;
KIRQL old;
if (KeTryToAcquireQueuedSpinLock(A, &old)) {
    assert irql == DISPATCH_LEVEL;
    KeReleaseQueuedSpinLock(A, old);
}
assert irql == PASSIVE_LEVEL;

numbered, level of another lock | wdm | DRIVER_DISPATCH(IRP_MJ_CREATE) @ I02 | lock A : KSPIN_LOCK; lock B : KSPIN_LOCK;
KIRQL outer = KeAcquireQueuedSpinLock(A);
KIRQL inner = KeAcquireQueuedSpinLock(B);
KeReleaseQueuedSpinLock(B, outer); // I03 I05
KeReleaseQueuedSpinLock(A, inner); // I01 I03

numbered, released as an ordinary one | wdm | DRIVER_DISPATCH | lock A : KSPIN_LOCK;
KIRQL old = KeAcquireQueuedSpinLock(A);
KeReleaseSpinLock(&A, old); // B04

queued | wdm | DRIVER_DISPATCH | lock A : KSPIN_LOCK; lock B : KSPIN_LOCK;
KLOCK_QUEUE_HANDLE h, k;
KeAcquireInStackQueuedSpinLock(&A, &h);
KeAcquireInStackQueuedSpinLockAtDpcLevel(&B, &k);
KeReleaseInStackQueuedSpinLockFromDpcLevel(&k);
KeReleaseInStackQueuedSpinLock(&h);

queued, released twice | wdm | KDEFERRED_ROUTINE | lock A : KSPIN_LOCK;
KLOCK_QUEUE_HANDLE h;
KeAcquireInStackQueuedSpinLock(&A, &h);
KeReleaseInStackQueuedSpinLock(&h);
KeReleaseInStackQueuedSpinLock(&h); // B02

queue handle never used | wdm | KDEFERRED_ROUTINE |
KLOCK_QUEUE_HANDLE h;
KeReleaseInStackQueuedSpinLock(&h); // B02

one queue handle for two locks | wdm | KDEFERRED_ROUTINE @ B03 | lock A : KSPIN_LOCK; lock B : KSPIN_LOCK;
KLOCK_QUEUE_HANDLE h;
KeAcquireInStackQueuedSpinLock(&A, &h);
KeAcquireInStackQueuedSpinLock(&B, &h); // B08
KeReleaseInStackQueuedSpinLock(&h);

queued release of the wrong form | wdm | DRIVER_DISPATCH(IRP_MJ_CREATE) @ I02 | lock A : KSPIN_LOCK;
KLOCK_QUEUE_HANDLE h;
KeAcquireInStackQueuedSpinLock(&A, &h);
KeReleaseInStackQueuedSpinLockFromDpcLevel(&h); // B04

queued and ordinary on one lock | wdm | DRIVER_DISPATCH | lock A : KSPIN_LOCK;
KLOCK_QUEUE_HANDLE h;
KIRQL old;
KeAcquireInStackQueuedSpinLock(&A, &h);
KeReleaseInStackQueuedSpinLock(&h);
KeAcquireSpinLock(&A, &old); // B08
KeReleaseSpinLock(&A, old);

queued, out of order | wdm | DRIVER_DISPATCH(IRP_MJ_CREATE) @ I02 | lock A : KSPIN_LOCK; lock B : KSPIN_LOCK;
KLOCK_QUEUE_HANDLE h, k;
KeAcquireInStackQueuedSpinLock(&A, &h);
KeAcquireInStackQueuedSpinLock(&B, &k);
KeReleaseInStackQueuedSpinLock(&h); // I05
KeReleaseInStackQueuedSpinLock(&k); // I01

reader/writer spin lock | wdm | DRIVER_DISPATCH | lock X : EX_SPIN_LOCK;
KIRQL old = ExAcquireSpinLockShared(&X);
if (ExTryConvertSharedSpinLockExclusive(&X)) {
ExReleaseSpinLockExclusive(&X, old);
} else {
ExReleaseSpinLockShared(&X, old);
}

reader/writer spin lock, reader again | wdm | DRIVER_DISPATCH | lock X : EX_SPIN_LOCK;
KIRQL old = ExAcquireSpinLockShared(&X);
ExAcquireSpinLockSharedAtDpcLevel(&X); // B01

reader/writer spin lock, modes mixed | wdm | DRIVER_DISPATCH | lock X : EX_SPIN_LOCK;
KIRQL old = ExAcquireSpinLockShared(&X);
ExReleaseSpinLockExclusive(&X, old); // B04

reader/writer spin lock at DISPATCH_LEVEL | wdm | KDEFERRED_ROUTINE | lock X : EX_SPIN_LOCK;
ExAcquireSpinLockExclusiveAtDpcLevel(&X);
ExReleaseSpinLockExclusiveFromDpcLevel(&X);
if (ExTryAcquireSpinLockSharedAtDpcLevel(&X)) {
ExReleaseSpinLockSharedFromDpcLevel(&X);
}

interrupt lock | wdm | DRIVER_DISPATCH | interrupt Line at DIRQL; data D guarded by Line.lock;
KIRQL old = KeAcquireInterruptSpinLock(Line);
write D;
KeReleaseInterruptSpinLock(Line, old);
KeSynchronizeExecution(Line, Sync, NULL);

interrupt lock, wrong level back | wdm | DRIVER_DISPATCH(IRP_MJ_CREATE) @ I02 | interrupt Line at DIRQL;
KIRQL old = KeAcquireInterruptSpinLock(Line);
KeReleaseInterruptSpinLock(Line, DISPATCH_LEVEL); // I03

interrupt lock in its own service routine | wdm | KSERVICE_ROUTINE(Line) | interrupt Line at DIRQL;
KIRQL old = KeAcquireInterruptSpinLock(Line); // B01

synchronised in its own service routine | wdm | KSERVICE_ROUTINE(Line) | interrupt Line at DIRQL;
KeSynchronizeExecution(Line, Sync, NULL); // B01

level dropped under the interrupt lock | wdm | DRIVER_DISPATCH(IRP_MJ_CREATE) | interrupt Line at DIRQL;
KIRQL old = KeAcquireInterruptSpinLock(Line);
KeLowerIrql(DISPATCH_LEVEL); // I03 I05
KeReleaseInterruptSpinLock(Line, old); // I01

passive-level interrupt | wdm | DRIVER_DISPATCH(IRP_MJ_CREATE) | lock Line : PASSIVE_INTERRUPT initialised;
KeSynchronizeExecution(Line, Sync, NULL);
KIRQL old = KeAcquireInterruptSpinLock(Line); // I01

interlocked list | wdm | KSERVICE_ROUTINE(Line) | interrupt Line at DIRQL; lock A : KSPIN_LOCK;
ExInterlockedInsertTailList(Head, Entry, &A);
ExInterlockedRemoveHeadList(Head, &A);

lock of an interlocked list used elsewhere | wdm | DRIVER_DISPATCH | lock A : KSPIN_LOCK;
KIRQL old;
ExInterlockedInsertTailList(Head, Entry, &A);
KeAcquireSpinLock(&A, &old); // B08
KeReleaseSpinLock(&A, old);

lock of an interlocked list used elsewhere, allowed | wdm | DRIVER_DISPATCH |
| setting interlocked_lock_shared = TRUE; lock A : KSPIN_LOCK;
KIRQL old;
ExInterlockedInsertTailList(Head, Entry, &A);
KeAcquireSpinLock(&A, &old);
KeReleaseSpinLock(&A, old);

interlocked list with its lock held | wdm | DRIVER_DISPATCH |
| setting interlocked_lock_shared = TRUE; lock A : KSPIN_LOCK;
KIRQL old;
KeAcquireSpinLock(&A, &old);
ExInterlockedInsertTailList(Head, Entry, &A); // B01

cancel routine | wdm | DRIVER_CANCEL |
IoReleaseCancelSpinLock(Irp.CancelIrql);
IoCompleteRequest(Irp, IO_NO_INCREMENT);

cancel routine that keeps the lock | wdm | DRIVER_CANCEL @ B03 I02 |
KIRQL old;

cancel routine that completes under the lock | wdm | DRIVER_CANCEL |
IoCompleteRequest(Irp, IO_NO_INCREMENT); // I07
IoReleaseCancelSpinLock(Irp.CancelIrql);

cancel routine that takes the lock again | wdm | DRIVER_CANCEL |
KIRQL old;
IoAcquireCancelSpinLock(&old); // B01

cancel lock | wdm | DRIVER_DISPATCH |
KIRQL old;
IoAcquireCancelSpinLock(&old);
IoReleaseCancelSpinLock(old);
IoAcquireVpbSpinLock(&old);
IoReleaseVpbSpinLock(old);

raise and lower | wdm | DRIVER_DISPATCH(IRP_MJ_READ) |
KIRQL old, higher;
KeRaiseIrql(DISPATCH_LEVEL, &old);
higher = KfRaiseIrql(DIRQL);
KeLowerIrql(higher);
KeLowerIrql(old);
old = KeRaiseIrqlToDpcLevel();
KeLowerIrql(old);

raise that lowers | wdm | KDEFERRED_ROUTINE @ I02 |
KIRQL old;
KeRaiseIrql(APC_LEVEL, &old); // I04

lower that raises | wdm | DRIVER_DISPATCH(IRP_MJ_CREATE) @ I02 |
KeLowerIrql(DISPATCH_LEVEL); // I04

lowered without a raise | wdm | KDEFERRED_ROUTINE |
KIRQL old;
KeLowerIrql(PASSIVE_LEVEL); // I03
KeRaiseIrql(DISPATCH_LEVEL, &old);

not what the latest raise found | wdm | DRIVER_DISPATCH(IRP_MJ_CREATE) |
KIRQL old, higher;
KeRaiseIrql(DISPATCH_LEVEL, &old);
KeRaiseIrql(DIRQL, &higher);
KeLowerIrql(old); // I03

lowered under a spin lock | wdm | DRIVER_DISPATCH(IRP_MJ_CREATE) @ I02 | lock A : KSPIN_LOCK;
KIRQL old, before;
KeRaiseIrql(DISPATCH_LEVEL, &before);
KeAcquireSpinLock(&A, &old);
KeLowerIrql(before); // I05
KeReleaseSpinLock(&A, old); // I01

mutex object, twice | wdm | DRIVER_DISPATCH(IRP_MJ_CREATE) | lock M : KMUTEX;
KeWaitForSingleObject(&M, Executive, KernelMode, FALSE, NULL);
KeWaitForMutexObject(&M, Executive, KernelMode, FALSE, NULL);
KeReleaseMutex(&M, FALSE);
KeReleaseMutex(&M, FALSE);

mutex object, timeout taken for success | wdm | DRIVER_DISPATCH(IRP_MJ_CREATE) | lock M : KMUTEX;
NTSTATUS status = KeWaitForSingleObject(&M, Executive, KernelMode, FALSE, 100);
if (NT_SUCCESS(status)) {
KeReleaseMutex(&M, FALSE); // B02
}

mutex object, timeout looked at | wdm | DRIVER_DISPATCH(IRP_MJ_CREATE) | lock M : KMUTEX;
NTSTATUS status = KeWaitForSingleObject(&M, Executive, KernelMode, FALSE, 100);
if (status == STATUS_SUCCESS) {
KeReleaseMutex(&M, FALSE);
}

mutex object, alert overlooked | wdm | DRIVER_DISPATCH(IRP_MJ_CREATE) | lock M : KMUTEX;
KeWaitForSingleObject(&M, Executive, KernelMode, TRUE, NULL);
KeReleaseMutex(&M, FALSE); // B02

mutex object released at another level | wdm | DRIVER_DISPATCH(IRP_MJ_CREATE) | lock M : KMUTEX;
KIRQL old;
KeWaitForSingleObject(&M, Executive, KernelMode, FALSE, NULL);
KeRaiseIrql(DISPATCH_LEVEL, &old);
KeReleaseMutex(&M, FALSE); // I01
KeLowerIrql(old);

wait under a spin lock | wdm | DRIVER_DISPATCH(IRP_MJ_CREATE) | lock A : KSPIN_LOCK; event E;
KIRQL old;
KeAcquireSpinLock(&A, &old);
KeWaitForSingleObject(&E, Executive, KernelMode, FALSE, NULL); // I01 I07
KeWaitForSingleObject(&E, Executive, KernelMode, FALSE, 0);
KeReleaseSpinLock(&A, old);

wait for any object | wdm | KDEFERRED_ROUTINE |
KeWaitForSingleObject(Semaphore, Executive, KernelMode, FALSE, 0);
KeWaitForMultipleObjects(2, Objects, WaitAll, Executive, KernelMode, FALSE, NULL, NULL); // I01
KeDelayExecutionThread(KernelMode, FALSE, Interval); // I01

event set with a wait to follow | wdm | DRIVER_DISPATCH(IRP_MJ_CREATE) | event E; event F;
KeSetEvent(&E, 0, TRUE);
KeWaitForSingleObject(&F, Executive, KernelMode, FALSE, NULL);

event set with no wait to follow | wdm | DRIVER_DISPATCH(IRP_MJ_CREATE) @ I02 | event E;
KeSetEvent(&E, 0, TRUE);

event set with a wait to follow in a DPC | wdm | KDEFERRED_ROUTINE | event E;
KeSetEvent(&E, 0, FALSE);
KeSetEvent(&E, 0, TRUE); // I01

fast mutex | wdm | DRIVER_DISPATCH(IRP_MJ_CLOSE) | lock F : FAST_MUTEX; lock G : FAST_MUTEX;
ExAcquireFastMutex(&F);
if (ExTryToAcquireFastMutex(&G)) {
ExReleaseFastMutex(&G);
}
ExReleaseFastMutex(&F);

fast mutexes out of order | wdm | DRIVER_DISPATCH(IRP_MJ_CREATE) @ I02 | lock F : FAST_MUTEX; lock G : FAST_MUTEX;
ExAcquireFastMutex(&F);
ExAcquireFastMutex(&G);
ExReleaseFastMutex(&F);
ExReleaseFastMutex(&G); // I01

fast mutex under a spin lock | wdm | KDEFERRED_ROUTINE @ B03 | lock A : KSPIN_LOCK; lock F : FAST_MUTEX;
KeAcquireSpinLockAtDpcLevel(&A);
ExAcquireFastMutex(&F); // I01 I07
KeReleaseSpinLockFromDpcLevel(&A);

unsafe fast mutex | wdm | DRIVER_DISPATCH(IRP_MJ_CREATE) | lock F : FAST_MUTEX;
KeEnterCriticalRegion();
ExAcquireFastMutexUnsafe(&F);
ExReleaseFastMutexUnsafe(&F);
KeLeaveCriticalRegion();
ExAcquireFastMutexUnsafe(&F); // I08
ExReleaseFastMutexUnsafe(&F); // I08

unsafe fast mutex, forms mixed | wdm | DRIVER_DISPATCH(IRP_MJ_CREATE) | lock F : FAST_MUTEX;
KeEnterCriticalRegion();
ExAcquireFastMutexUnsafe(&F);
ExReleaseFastMutex(&F); // B04 I01
KeLeaveCriticalRegion();

guarded mutex | wdm | DRIVER_DISPATCH(IRP_MJ_CREATE) | lock G : KGUARDED_MUTEX; lock R : ERESOURCE;
KeAcquireGuardedMutex(&G);
ExAcquireResourceSharedLite(&R, TRUE);
ExReleaseResourceLite(&R);
KeReleaseGuardedMutex(&G);

guarded mutex twice | wdm | DRIVER_DISPATCH(IRP_MJ_CREATE) | lock G : KGUARDED_MUTEX;
KeAcquireGuardedMutex(&G);
KeAcquireGuardedMutex(&G); // B01

resource | wdm | DRIVER_DISPATCH(IRP_MJ_CREATE) | lock R : ERESOURCE;
KeEnterCriticalRegion();
ExAcquireResourceExclusiveLite(&R, TRUE);
ExAcquireResourceSharedLite(&R, TRUE);
ExReleaseResourceLite(&R);
ExReleaseResourceLite(&R);
if (ExAcquireResourceSharedLite(&R, FALSE)) {
ExReleaseResourceForThreadLite(&R, Thread);
}
KeLeaveCriticalRegion();
ExEnterCriticalRegionAndAcquireResourceExclusive(&R);
ExConvertExclusiveToSharedLite(&R);
ExReleaseResourceAndLeaveCriticalRegion(&R);

resource outside of a critical region | wdm | DRIVER_DISPATCH(IRP_MJ_CREATE) | lock R : ERESOURCE;
ExAcquireResourceExclusiveLite(&R, TRUE); // I08
ExReleaseResourceLite(&R); // I08

resource, shared to exclusive | wdm | DRIVER_DISPATCH(IRP_MJ_CREATE) | lock R : ERESOURCE;
KeEnterCriticalRegion();
ExAcquireResourceSharedLite(&R, TRUE);
ExAcquireResourceExclusiveLite(&R, TRUE); // B01

resource, result not looked at | wdm | DRIVER_DISPATCH(IRP_MJ_CREATE) | lock R : ERESOURCE;
KeEnterCriticalRegion();
ExAcquireResourceExclusiveLite(&R, FALSE);
ExReleaseResourceLite(&R); // B02
KeLeaveCriticalRegion();

critical region not left | wdm | DRIVER_DISPATCH(IRP_MJ_CREATE) @ I08 |
KeEnterCriticalRegion();

guarded region not entered | wdm | DRIVER_DISPATCH(IRP_MJ_CREATE) |
KeLeaveGuardedRegion(); // I08

push lock | wdm | DRIVER_DISPATCH(IRP_MJ_CREATE) | lock P : EX_PUSH_LOCK in paged;
KeEnterCriticalRegion();
ExAcquirePushLockShared(&P);
ExAcquirePushLockShared(&P);
ExReleasePushLockShared(&P);
ExReleasePushLockShared(&P);
KeLeaveCriticalRegion();
ExAcquirePushLockExclusive(&P); // I08
ExReleasePushLockExclusive(&P); // I08

remove lock and rundown protection | wdm | DRIVER_DISPATCH(IRP_MJ_CREATE) |
NTSTATUS status = IoAcquireRemoveLock(RemoveLock, Irp);
if (NT_SUCCESS(status)) {
IoReleaseRemoveLock(RemoveLock, Irp);
}
ExWaitForRundownProtectionRelease(Rundown);

calls under a spin lock | wdm | DRIVER_DISPATCH(IRP_MJ_READ) | lock A : KSPIN_LOCK;
KIRQL old;
KeAcquireSpinLock(&A, &old);
IoCompleteRequest(Irp, IO_NO_INCREMENT); // I07
IoCallDriver(LowerDevice, Irp); // I07
IoStartNextPacket(DeviceObject, TRUE); // I07
KeReleaseSpinLock(&A, old);

cancel-safe queue, acquire | wdm | IO_CSQ_ACQUIRE_LOCK(A) | lock A : KSPIN_LOCK;
KIRQL old;
KeAcquireSpinLock(&A, &old);

cancel-safe queue, release | wdm | IO_CSQ_RELEASE_LOCK(A) | lock A : KSPIN_LOCK;
KeReleaseSpinLock(&A, Irp.CsqIrql);

cancel-safe queue, insert | wdm | IO_CSQ_INSERT_IRP(A) | lock A : KSPIN_LOCK; data Q guarded by A;
write Q;

NDIS spin lock | ndis | MINIPORT_SEND_NET_BUFFER_LISTS | lock A : NDIS_SPIN_LOCK;
NdisAcquireSpinLock(&A);
NdisReleaseSpinLock(&A);
NdisInterlockedInsertHeadList(Head, Entry, &A);

NDIS spin locks out of order | ndis | MINIPORT_HALT @ I02 | lock A : NDIS_SPIN_LOCK; lock B : NDIS_SPIN_LOCK;
NdisAcquireSpinLock(&A);
NdisAcquireSpinLock(&B);
NdisReleaseSpinLock(&A); // I05
NdisReleaseSpinLock(&B); // I01

NDIS forms mixed | ndis | MINIPORT_INTERRUPT_DPC | lock A : NDIS_SPIN_LOCK;
NdisAcquireSpinLock(&A);
NdisDprReleaseSpinLock(&A); // B04
NdisDprAcquireSpinLock(&A);
NdisReleaseSpinLock(&A); // B04

NDIS Dpr form in a thread | ndis | MINIPORT_HALT | lock A : NDIS_SPIN_LOCK;
NdisDprAcquireSpinLock(&A); // I01
NdisDprReleaseSpinLock(&A); // I01

NDIS reader/writer lock | ndis | MINIPORT_SEND_NET_BUFFER_LISTS | lock R : NDIS_RW_LOCK_EX;
LOCK_STATE_EX s, t;
NdisAcquireRWLockRead(&R, &s, 0);
NdisAcquireRWLockRead(&R, &t, NDIS_RWL_AT_DISPATCH_LEVEL);
NdisReleaseRWLock(&R, &t);
NdisReleaseRWLock(&R, &s);

NDIS reader/writer lock promoted | ndis | MINIPORT_SEND_NET_BUFFER_LISTS | lock R : NDIS_RW_LOCK_EX;
LOCK_STATE_EX s, t;
NdisAcquireRWLockRead(&R, &s, 0);
NdisAcquireRWLockWrite(&R, &t, 0); // B01

NDIS lock state used twice | ndis | MINIPORT_INTERRUPT_DPC | lock R : NDIS_RW_LOCK_EX;
LOCK_STATE_EX s;
NdisAcquireRWLockRead(&R, &s, 0);
NdisAcquireRWLockRead(&R, &s, 0); // B08
NdisReleaseRWLock(&R, &s);
NdisReleaseRWLock(&R, &s); // B08

NDIS dispatch flag in a thread | ndis | MINIPORT_HALT | lock R : NDIS_RW_LOCK_EX;
LOCK_STATE_EX s;
NdisAcquireRWLockWrite(&R, &s, NDIS_RWL_AT_DISPATCH_LEVEL); // I01
NdisReleaseRWLock(&R, &s);

NDIS reader/writer lock of the first generation | ndis | MINIPORT_INTERRUPT_DPC | lock R : NDIS_RW_LOCK;
LOCK_STATE s;
NdisAcquireReadWriteLock(&R, TRUE, &s);
NdisReleaseReadWriteLock(&R, &s);
NdisDprAcquireReadWriteLock(&R, FALSE, &s);
NdisReleaseReadWriteLock(&R, &s); // B04

NDIS interrupt, mutex, level | ndis | MINIPORT_HALT | lock M : KMUTEX; interrupt Line at 9;
KIRQL old;
NdisMSynchronizeWithInterruptEx(Line, 0, Sync, NULL);
NDIS_WAIT_FOR_MUTEX(&M);
NDIS_RELEASE_MUTEX(&M);
NDIS_RAISE_IRQL_TO_DISPATCH(&old);
NDIS_LOWER_IRQL(old, DISPATCH_LEVEL);

NDIS indication under a spin lock | ndis | MINIPORT_INTERRUPT_DPC | lock A : NDIS_SPIN_LOCK;
NdisDprAcquireSpinLock(&A);
NdisMIndicateReceiveNetBufferLists(Adapter, Lists, 0, 1, 0); // I07
NdisDprReleaseSpinLock(&A);

WDF spin locks out of order | wdf | EVT_WDF_DEVICE_D0_ENTRY @ I02 | lock A : WDFSPINLOCK; lock B : WDFSPINLOCK;
WdfSpinLockAcquire(&A);
WdfSpinLockAcquire(&B);
WdfSpinLockRelease(&A); // I05
WdfSpinLockRelease(&B); // I01

WDF wait lock | wdf | EVT_WDF_IO_QUEUE_IO_READ |
| setting wdf_execution_level = WdfExecutionLevelPassive; lock W : WDFWAITLOCK;
WdfWaitLockAcquire(&W, NULL);
WdfWaitLockRelease(&W);

WDF wait lock at DISPATCH_LEVEL | wdf | EVT_WDF_IO_QUEUE_IO_READ | lock W : WDFWAITLOCK;
WdfWaitLockAcquire(&W, NULL); // I01
WdfWaitLockRelease(&W);

WDF wait lock, timeout taken for success | wdf | EVT_WDF_WORKITEM | lock W : WDFWAITLOCK;
NTSTATUS status = WdfWaitLockAcquire(&W, 100);
if (NT_SUCCESS(status)) {
WdfWaitLockRelease(&W); // B02
}

WDF callback lock taken again | wdf | EVT_WDF_IO_QUEUE_IO_READ |
| setting wdf_synchronization_scope = WdfSynchronizationScopeDevice;
WdfObjectAcquireLock(Device); // B01

WDF callback lock | wdf | EVT_WDF_IO_QUEUE_IO_READ |
WdfObjectAcquireLock(Device);
WdfObjectReleaseLock(Device);

WDF request sent from a serialised callback | wdf | EVT_WDF_IO_QUEUE_IO_READ |
| setting wdf_synchronization_scope = WdfSynchronizationScopeQueue; lock A : WDFSPINLOCK;
WdfRequestSend(Request, Target, NULL);
WdfSpinLockAcquire(&A);
WdfRequestSend(Request, Target, NULL); // I07
WdfSpinLockRelease(&A);

WDF serialised callbacks | wdf | EVT_WDF_TIMER |
| setting wdf_synchronization_scope = WdfSynchronizationScopeDevice;
| setting wdf_execution_level = WdfExecutionLevelPassive;
WdfObjectAcquireLock(Device); // B01

WDF interrupt lock | wdf | EVT_WDF_IO_QUEUE_IO_READ | interrupt Line at 6; data D guarded by Line.lock;
WdfInterruptAcquireLock(Line);
write D;
WdfInterruptReleaseLock(Line);
WdfInterruptSynchronize(Line, Sync2, NULL);

WDF passive-level interrupt | wdf | EVT_WDF_WORKITEM | lock Line : PASSIVE_INTERRUPT initialised;
WdfInterruptAcquireLock(&Line);
WdfInterruptReleaseLock(&Line);
if (WdfInterruptTryToAcquireLock(&Line)) {
WdfInterruptReleaseLock(&Line);
}
WdfInterruptSynchronize(&Line, Sync2, NULL);

WDF passive-level interrupt lock taken again | wdf | EVT_WDF_INTERRUPT_ISR(Line) |
| lock Line : PASSIVE_INTERRUPT initialised;
WdfInterruptAcquireLock(&Line); // B01

StorPort order | storport | HW_BUILDIO |
STOR_LOCK_HANDLE h, k;
StorPortAcquireSpinLock(Extension, StartIoLock, NULL, &h);
StorPortAcquireSpinLock(Extension, InterruptLock, NULL, &k);
StorPortReleaseSpinLock(Extension, &k);
StorPortReleaseSpinLock(Extension, &h);

StorPort wrong order | storport | HW_BUILDIO |
STOR_LOCK_HANDLE h, k;
StorPortAcquireSpinLock(Extension, InterruptLock, NULL, &h);
StorPortAcquireSpinLock(Extension, DpcLock, Dpc, &k); // I07
StorPortReleaseSpinLock(Extension, &k);
StorPortReleaseSpinLock(Extension, &h);

StorPort lock that is held on entry | storport | HW_STARTIO |
STOR_LOCK_HANDLE h;
StorPortAcquireSpinLock(Extension, StartIoLock, NULL, &h); // B01

StorPort lock that is not held on entry | storport | HW_STARTIO | setting concurrent_channels = TRUE;
STOR_LOCK_HANDLE h;
StorPortAcquireSpinLock(Extension, StartIoLock, NULL, &h);
StorPortReleaseSpinLock(Extension, &h);

StorPort timer, half-duplex | storport | HW_TIMER | setting half_duplex = TRUE;
STOR_LOCK_HANDLE h;
StorPortAcquireSpinLock(Extension, InterruptLock, NULL, &h); // B01

StorPort timer, full-duplex | storport | HW_TIMER |
STOR_LOCK_HANDLE h;
StorPortAcquireSpinLock(Extension, InterruptLock, NULL, &h);
StorPortReleaseSpinLock(Extension, &h);

StorPort lock in a service routine | storport | HW_INTERRUPT |
STOR_LOCK_HANDLE h;
StorPortAcquireSpinLock(Extension, StartIoLock, NULL, &h); // I07
StorPortReleaseSpinLock(Extension, &h);

StorPort, others | storport | HW_DPC_ROUTINE |
| lock K : STOR_KSPIN_LOCK; lock Message[2] : STORPORT_MSI_LOCK initialised;
KIRQL old;
StorPortInterlockedInsertTailList(Extension, Head, Entry, &K);
StorPortAcquireMSISpinLock(Extension, Message[1], &old);
StorPortReleaseMSISpinLock(Extension, Message[1], old);
StorPortSynchronizeAccess(Extension, Sync2, NULL);

StorPort and executive spin locks | storport | HW_FIND_ADAPTER | lock A : KSPIN_LOCK;
KeInitializeSpinLock(&A); // B04 B05

minifilter | fltmgr | PFLT_PRE_OPERATION_CALLBACK | lock R : ERESOURCE; lock P : EX_PUSH_LOCK;
FltAcquireResourceExclusive(&R);
FltReleaseResource(&R);
FltAcquirePushLockShared(&P);
FltReleasePushLock(&P);
FltAcquirePushLockExclusiveEx(&P, 0);
FltReleasePushLockEx(&P, 0);

minifilter, post-operation | fltmgr | PFLT_POST_OPERATION_CALLBACK | lock R : ERESOURCE;
FltAcquireResourceShared(&R); // I01
FltReleaseResource(&R);

minifilter, forms mixed | fltmgr | PFLT_PRE_OPERATION_CALLBACK | lock R : ERESOURCE;
FltAcquireResourceExclusive(&R);
ExReleaseResourceLite(&R); // B04

video | video | PVIDEO_HW_START_IO | lock A : VIDEO_SPIN_LOCK; interrupt Line at DIRQL;
KIRQL old;
VideoPortAcquireSpinLock(Extension, &A, &old);
VideoPortReleaseSpinLock(Extension, &A, old);
VideoPortSynchronizeExecution(Line, VpMediumPriority, Sync, NULL);
VideoPortAcquireDeviceLock(Extension);
VideoPortReleaseDeviceLock(Extension);

video, release of the wrong form | video | PMINIPORT_DPC_ROUTINE | lock A : VIDEO_SPIN_LOCK;
VideoPortAcquireSpinLockAtDpcLevel(Extension, &A);
VideoPortReleaseSpinLock(Extension, &A, DISPATCH_LEVEL); // B04

streaming | ports | DRIVER_DISPATCH(IRP_MJ_CREATE) |
| lock D : KSDEVICE; lock C : KS_CONTROL_MUTEX; lock P : KS_PROCESSING_MUTEX;
KsAcquireDevice(&D);
KsFilterAcquireControl(&C);
KsFilterAcquireProcessingMutex(&P);
KsFilterReleaseProcessingMutex(&P);
KsFilterReleaseControl(&C);
KsReleaseDevice(&D);

streaming, wrong order | ports | PFNKSFILTERPROCESS(P) | lock C : KS_CONTROL_MUTEX; lock P : KS_PROCESSING_MUTEX;
KsFilterAcquireControl(&C); // I07
KsFilterReleaseControl(&C);

NDIS memory and counts | ndis | MINIPORT_OID_REQUEST | var count : int 0..9 = 0;
NdisFreeMemory(Block, Length, NDIS_MEMORY_CONTIGUOUS);
NdisMoveMemory(To, From, Length);
NdisZeroMemory(To, Length);
int 0..9 now = 4;
NdisInterlockedIncrement(&now);
assert now == 5;
if (NdisInterlockedDecrement(&now) != 4) { assert false; }

NDIS memory, freed too high | ndis | MINIPORT_INTERRUPT_DPC |
NdisFreeMemory(Block, Length, 0);
NdisFreeMemory(Block, Length, NDIS_MEMORY_CONTIGUOUS); // I01
NdisFreeMemory(Block, Length, NDIS_MEMORY_NONCACHED); // I01

framework objects | wdf | EVT_WDF_IO_QUEUE_IO_READ |
WdfObjectReference(Handle);
WdfObjectDereference(Handle);

an interrupt with a spin lock of the driver | wdm | DRIVER_DISPATCH(IRP_MJ_PNP) |
| lock A : KSPIN_LOCK; interrupt Line at DIRQL;
IoConnectInterrupt(Line, Sync2, Context, &A, 1, 5, 5, *, FALSE, *, FALSE);
IoConnectInterruptEx(Line, Sync2, Context, NULL);
IoConnectInterrupt(&A, Sync2, Context);
KeSynchronizeExecution(&A, Sync, NULL);

GPIO and display | ports | DRIVER_DISPATCH(IRP_MJ_CREATE) |
| interrupt Line at DIRQL; lock Bank : PASSIVE_INTERRUPT initialised;
GPIO_CLX_AcquireInterruptLock(Controller, Line);
GPIO_CLX_ReleaseInterruptLock(Controller, Line);
GPIO_CLX_AcquireInterruptLock(Controller, &Bank);
GPIO_CLX_ReleaseInterruptLock(Controller, &Bank);
DxgkCbSynchronizeExecution(Line, Sync, NULL, 0, NULL);
"""


def _cases() -> Iterator[tuple[str, str]]:
    for block in re.split(r"\n\s*\n", CASES.strip()):
        head, *body = block.splitlines()
        while body and body[0].startswith("|"):
            head += body.pop(0)[1:]
        name, model, role, declarations = (part.strip() for part in head.split("|"))
        role, _, at_end = role.partition("@")
        text = [
            "driver d;",
            f"import {model};",
            declarations,
            f"routine Body(Irp) as {role.strip()} {{ // {at_end.strip()}",
            *body,
            "}",
            "routine Sync(Context) : bool { return TRUE; }",
            "routine Sync2(Object, Context) : bool { return TRUE; }",
        ]
        yield name, "\n".join(text)


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in _cases()])
def test_finds_what_is_wrong_and_nothing_else(text: str) -> None:
    """Every documented way to use the routines is clean, every documented mistake is found where it is made."""
    assert findings(text, "Body") == expected(text)


INTERRUPT = """
driver d;
import wdm;
lock A : KSPIN_LOCK;
interrupt Line at DIRQL;
routine Start() : NTSTATUS as DRIVER_ADD_DEVICE {
    IoConnectInterrupt(Line, Service, *, &A, *, *, *, *, *, *, *);
    return STATUS_SUCCESS;
}
routine Service() as KSERVICE_ROUTINE(Line) { }
routine Together() { }
routine Read(Irp) as DRIVER_DISPATCH { KeSynchronizeExecution(&A, Together, *); }
"""


def test_the_lock_of_an_interrupt_is_initialised_before(tmp_path: Path) -> None:
    """kernel/initializing-spin-locks: before IoConnectInterrupt and KeSynchronizeExecution."""
    path = tmp_path / "d.drvm"
    path.write_text(INTERRUPT, encoding="utf-8")
    found = {(r.obligation.routine, str(r.obligation.code)) for r in modelcheck.verify(path).violated}
    assert found == {("Start", "B05"), ("Read", "B05")}
    path.write_text(INTERRUPT.replace("    IoC", "    KeInitializeSpinLock(&A);\n    IoC"), encoding="utf-8")
    assert not modelcheck.verify(path).violated


@pytest.mark.parametrize(
    ("model", "role", "result"),
    [
        ("wdm", "DRIVER_ADD_DEVICE", "bool"),
        ("ndis", "PROTOCOL_BIND_ADAPTER_EX", "int 0..1"),
        ("storport", "HW_FIND_ADAPTER", "NTSTATUS"),
        ("video", "PVIDEO_HW_FIND_ADAPTER", "bool"),
    ],
)
def test_a_role_that_looks_at_the_result_gets_one_of_its_type(model: str, role: str, result: str) -> None:
    program = resolve_text(f"driver d;\nimport {model};\nroutine R() : {result} as {role} {{ return *; }}\n")
    assert [str(d.code) for d in check(program) if d.code.is_error] == ["E0404"]


@pytest.mark.parametrize("model", MODELS)
def test_every_dpc_is_waited_for_where_all_are(model: str) -> None:
    """wdm/nf-wdm-keflushqueueddpcs"""
    dpcs = [item for item in items(model) if isinstance(item, s.Role) and item.kind is s.ContextKind.DPC]
    for role in dpcs:
        assert {ref.name for ref in role.holds} & {"RunningDpcs", "RunningPerhapsInDpc"}, role.name
