"""In which state a lock is when a routine starts: what the routines of earlier phases leave, and those that overlap."""

from __future__ import annotations

from pathlib import Path

import pytest

import modelcheck

HEAD = "driver d;\nimport ndis;\nimport wdf;\nimport storport;\nlock L : NDIS_SPIN_LOCK;\nlock W : WDFSPINLOCK;\n"
USE = "NdisAcquireSpinLock(&L); NdisReleaseSpinLock(&L);"
START = "routine Start() as MINIPORT_INITIALIZE { NdisAllocateSpinLock(&L); }\n"


def broken(folder: Path, text: str) -> set[tuple[str, str]]:
    """Routine and code of every violation of B05 and B06; nothing may be undecided."""
    path = folder / "d.drvm"
    path.write_text(HEAD + text, encoding="utf-8")
    report = modelcheck.verify(path)
    assert not report.undecided
    return {(r.obligation.routine, str(r.obligation.code)) for r in report.violated}


CLEAN = [
    pytest.param(START + "routine Stop() as MINIPORT_HALT { NdisFreeSpinLock(&L); }", id="freed once at the end"),
    pytest.param(
        START
        + f"routine Stop() as DRIVER_DISPATCH(IRP_MN_STOP_DEVICE) {{ {USE} }}\n"
        + f"routine Remove() as DRIVER_DISPATCH(IRP_MN_REMOVE_DEVICE) {{ {USE} NdisFreeSpinLock(&L); }}",
        id="stop routines do not start from each other's end",
    ),
    pytest.param(
        f"routine Unload() as MINIPORT_UNLOAD {{ {USE} NdisFreeSpinLock(&L); }}\n"
        "routine Load() : NTSTATUS as DRIVER_INITIALIZE { NdisAllocateSpinLock(&L); return STATUS_SUCCESS; }",
        id="unloaded once",
    ),
    pytest.param(
        "routine Bind() : NTSTATUS as PROTOCOL_BIND_ADAPTER_EX {\n"
        "    if (*) { return STATUS_UNSUCCESSFUL; }\n    NdisAllocateSpinLock(&L);\n"
        "    if (*) { NdisFreeSpinLock(&L); return STATUS_UNSUCCESSFUL; }\n"
        "    if (*) { return STATUS_PENDING; }\n    return STATUS_SUCCESS;\n}\n"
        f"routine Send() as PROTOCOL_STATUS_EX {{ {USE} }}",
        id="a binding that fails has no later phases",
    ),
    pytest.param(START + f"routine Again() as MINIPORT_RESTART {{ {USE} }}", id="restarts come after the start"),
    pytest.param(START + f"routine Pause() as FILTER_PAUSE {{ {USE} }}", id="pauses come after the start"),
    pytest.param(
        "routine Prepare() as EVT_WDF_DEVICE_PREPARE_HARDWARE { NdisAllocateSpinLock(&L); }\n"
        f"routine Power() as EVT_WDF_DEVICE_D0_ENTRY {{ {USE} }}",
        id="a device powers up after its hardware is prepared",
    ),
    pytest.param(
        "routine Find() : SP_RETURN as HW_FIND_ADAPTER {\n"
        "    if (*) { return SP_RETURN_NOT_FOUND; }\n    NdisAllocateSpinLock(&L);\n    return SP_RETURN_FOUND;\n}\n"
        f"routine Io() as HW_BUILDIO {{ {USE} }}",
        id="an adapter that is not found has no requests",
    ),
]


@pytest.mark.parametrize("text", CLEAN)
def test_a_life_in_order_is_clean(tmp_path: Path, text: str) -> None:
    assert broken(tmp_path, text) == set()


def test_a_routine_of_run_can_come_after_itself(tmp_path: Path) -> None:
    """Even one that is `single`: the second run finds what the first left."""
    text = START + "routine Again() as MINIPORT_RESTART { NdisFreeSpinLock(&L); }"
    assert broken(tmp_path, text) == {("Again", "B06")}


def test_stop_starts_from_what_run_can_leave(tmp_path: Path) -> None:
    text = START + (
        f"routine Request() as MINIPORT_PAUSE {{ NdisFreeSpinLock(&L); }}\nroutine Stop() as MINIPORT_HALT {{ {USE} }}"
    )
    assert broken(tmp_path, text) == {("Request", "B06"), ("Stop", "B06")}


def test_unload_starts_from_what_stop_leaves(tmp_path: Path) -> None:
    text = START + (
        "routine Stop() as MINIPORT_HALT { NdisFreeSpinLock(&L); }\n"
        "routine Unload() as MINIPORT_UNLOAD { NdisFreeSpinLock(&L); }"
    )
    assert broken(tmp_path, text) == {("Unload", "B06")}


def test_what_a_pending_binding_leaves_counts(tmp_path: Path) -> None:
    text = (
        "routine Bind() : NTSTATUS as PROTOCOL_BIND_ADAPTER_EX {\n"
        "    if (*) { return STATUS_PENDING; }\n    NdisAllocateSpinLock(&L);\n    return STATUS_SUCCESS;\n}\n"
        f"routine Send() as PROTOCOL_STATUS_EX {{ {USE} }}"
    )
    assert broken(tmp_path, text) == {("Send", "B05")}
