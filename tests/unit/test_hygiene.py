"""What a driver calls its own things changes nothing in the shipped models."""

from __future__ import annotations

from pathlib import Path

import pytest

import modelcheck
from modelcheck.check import check
from modelcheck.resolve import resolve_text
from modelcheck.verdict import Proved, Report, Violated

BODY = """
lock L : KSPIN_LOCK initialised;
lock Q : KSPIN_LOCK initialised;

routine Read(Irp) as DRIVER_DISPATCH {
    KIRQL old;
    KLOCK_QUEUE_HANDLE h;
    KeAcquireSpinLock(&L, &old);
    KeReleaseSpinLock(&L, old);
    KeAcquireInStackQueuedSpinLock(&Q, &h);
    KeReleaseInStackQueuedSpinLock(&h);
}

routine Start() : NTSTATUS as DRIVER_ADD_DEVICE {
    return STATUS_UNSUCCESSFUL;
}
"""
TAKEN = [
    pytest.param("var queued : bool = false;", id="a variable"),
    pytest.param(
        "var plain : int 0..9 = 7;\nvar unused : enum { interlocked, queued } = queued;", id="numbers and enums"
    ),
    pytest.param("const plain = 3;\nconst queued = 1;", id="constants"),
    pytest.param("lock queued : KSPIN_LOCK initialised;\nlock unused : KSPIN_LOCK initialised;", id="locks"),
    pytest.param("event plain;\ndata queued;\ninterrupt unused at DIRQL;", id="objects"),
    pytest.param("enum color { queued, red, plain }\nvar c : color;", id="an enum of its own"),
    pytest.param("var interlocked : bool;\nroutine queued() { interlocked = *; }", id="a routine"),
    pytest.param("device plain { lock Lock : KSPIN_LOCK; var queued : bool; }", id="a device"),
]


def report_of(folder: Path, declarations: str, body: str = BODY) -> Report:
    path = folder / "d.drvm"
    path.write_text(f"driver d;\nimport wdm;\n{declarations}\n{body}", encoding="utf-8")
    return modelcheck.verify(path)


def outcome(report: Report) -> set[tuple[str, str, str, bool]]:
    """The verdicts about the routines, without their places."""
    return {
        (str(r.obligation.code), r.obligation.routine, r.obligation.subject, isinstance(r.verdict, Proved))
        for r in report.results
        if r.obligation.routine in ("Read", "Start")
    }


@pytest.mark.parametrize("declarations", TAKEN)
def test_a_name_of_the_driver_is_not_seen_in_shipped_models(tmp_path: Path, declarations: str) -> None:
    """Constants such as `queued`, which wdm.drvm compares with, keep their meaning."""
    assert outcome(report_of(tmp_path, declarations)) == outcome(report_of(tmp_path, ""))


@pytest.mark.parametrize("declarations", TAKEN)
def test_a_name_of_the_driver_is_no_finding_in_shipped_models(declarations: str) -> None:
    program = resolve_text(f"driver d;\nimport wdm;\n{declarations}\n{BODY}")
    assert not [d for d in check(program) if d.code.is_error]


def test_a_mistake_is_found_and_replayed_all_the_same(tmp_path: Path) -> None:
    """B08 rests on the comparison; engine and interpreter must agree about it."""
    body = BODY.replace("&Q, &h", "&L, &h")
    report = report_of(tmp_path, "var queued : bool = true;\nconst plain = 2;", body)
    found = {str(r.obligation.code) for r in report.violated}
    assert found == {"B08"}
    assert all(isinstance(r.verdict, Violated) and r.verdict.replayed for r in report.violated)


def test_in_the_drivers_own_files_the_name_is_the_drivers(tmp_path: Path) -> None:
    body = """
    routine Read(Irp) as DRIVER_DISPATCH {
        queued = false;
        assert queued == false;
    }
    """
    report = report_of(tmp_path, "var queued : bool = false;", body)
    assert not report.violated
    assert not report.undecided
