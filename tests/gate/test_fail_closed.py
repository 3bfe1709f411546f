"""None of these is green: what is not proved is told, and the exit status says which way."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from .conftest import BROKEN, IDLE, LEAKS, SOUND, TINY, UNKNOWN, Tree, is_running, slow, wait_for_children

needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks at processes in /proc")


@pytest.mark.parametrize(
    ("files", "arguments", "status"),
    [
        pytest.param({"a.drvm": SOUND}, ["."], 0, id="proved"),
        pytest.param({"a.drvm": LEAKS}, ["."], 1, id="violated"),
        pytest.param({"a.drvm": BROKEN}, ["."], 2, id="no model"),
        pytest.param({"a.drvm": SOUND, "b.drvm": BROKEN}, ["."], 2, id="one of two is no model"),
        pytest.param({"a.drvm": LEAKS, "b.drvm": BROKEN}, ["."], 2, id="no model goes before violated"),
        pytest.param({"a.drvm": UNKNOWN}, ["."], 3, id="unknown"),
        pytest.param({"a.drvm": UNKNOWN, "b.drvm": LEAKS}, ["."], 1, id="violated goes before unknown"),
        pytest.param({}, ["."], 5, id="no file"),
        pytest.param({"a.drvm": IDLE}, ["."], 5, id="no obligation"),
        pytest.param({"a.drvm": SOUND, "empty/x.txt": ""}, ["a.drvm", "empty"], 5, id="one folder has no model"),
        pytest.param({"a.drvm": SOUND}, ["a.drvm", "b.drvm"], 2, id="a file that is not there"),
        pytest.param({"a.drvm": SOUND}, [], 2, id="nothing named"),
        pytest.param({"a.drvm": SOUND}, ["--only", "T01", "a.drvm"], 5, id="none of the properties asked for"),
        pytest.param({"a.drvm": SOUND}, ["--baseline", "none.toml", "."], 2, id="no baseline"),
        pytest.param({"a.drvm": SOUND, "modelcheck.toml": "jbos = 2\n"}, ["."], 2, id="a misspelt setting"),
        pytest.param({"a.drvm": SOUND}, ["--executor", "dask://127.0.0.1:1", "."], 2, id="nobody to do the work"),
        pytest.param(
            {"a.drvm": SOUND}, ["--format", "json", "--format", "sarif", "."], 2, id="two reports in one place"
        ),
    ],
)
def test_exit_status(files: dict[str, str], arguments: list[str], status: int, tree: Tree) -> None:
    for name, text in files.items():
        tree.write(name, text)
    done = tree.verify(*arguments)
    assert done.status == status, done.out + done.err
    assert "Traceback" not in done.err


def test_unknown_passes_only_if_asked_and_is_printed(tree: Tree) -> None:
    tree.write("a.drvm", UNKNOWN)
    done = tree.verify("-q", "--undecided", "warn", "a.drvm")
    assert done.status == 0
    assert "unknown pass because of --undecided warn" in done.err


def test_a_link_that_leads_nowhere_is_a_model_that_cannot_be_read(tree: Tree) -> None:
    tree.write("a.drvm", SOUND)
    (tree.folder / "b.drvm").symlink_to("gone.drvm")
    assert tree.verify(".").status == 2


@needs_proc
def test_a_worker_that_is_killed_is_no_proof(tree: Tree) -> None:
    tree.write("a_slow.drvm", slow())
    tree.write("b.drvm", TINY)
    process = tree.start("verify", "-j", "1", "--timeout", "100", "--format", "json=report.json", ".")
    os.kill(wait_for_children(process.pid)[0], signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 4
    assert "a_slow.drvm: no verdict: its worker process was killed by SIGKILL" in err
    report = json.loads((tree.folder / "report.json").read_text())
    assert [file["status"] for file in report["files"]] == ["internal error", "proved"]


@needs_proc
def test_workers_end_when_their_parent_is_killed(tree: Tree) -> None:
    tree.write("a.drvm", slow())
    tree.write("b.drvm", slow())
    process = tree.start("verify", "-j", "2", ".")
    workers = wait_for_children(process.pid, 2)
    process.kill()
    process.communicate(timeout=20)
    end = time.monotonic() + 10
    while any(map(is_running, workers)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(is_running, workers))


def test_a_file_over_its_time_is_unknown_and_all_its_obligations_are_there(tree: Tree) -> None:
    tree.write("slow.drvm", slow())
    done = tree.verify("-q", "--timeout", "0.6", "--format", "json", "slow.drvm")
    assert done.status == 3
    listed = [line for line in tree.run("list", "slow.drvm").out.splitlines() if line and line[0] != " "][:-1]
    results = json.loads(done.out)["files"][0]["report"]["results"]
    assert [result["id"] for result in results] == listed
    assert {result["reason"] for result in results} == {"not decided within 0.6 s (--timeout)"}


@needs_proc
def test_ctrl_c_leaves_the_verdicts_that_are_there_and_says_what_is_missing(tree: Tree) -> None:
    tree.write("a.drvm", SOUND)
    tree.write("slow.drvm", slow(400))
    process = tree.start("verify", "-q", "-j", "2", "--format", "text", "--format", "json=report.json", ".")
    assert process.stdout is not None
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert first.startswith("sound: ")
    assert " proved, 0 violated, 0 unknown" in first + out
    assert "interrupted; without a verdict: slow.drvm" in err
    report = json.loads((tree.folder / "report.json").read_text())
    assert [file["status"] for file in report["files"]] == ["proved", "internal error"]


@needs_proc
def test_a_file_that_goes_away_meanwhile_is_no_model(tree: Tree) -> None:
    tree.write("a_slow.drvm", slow())
    gone = tree.write("b.drvm", SOUND)
    process = tree.start("verify", "-q", "--timeout", "100", ".")
    wait_for_children(process.pid)
    gone.unlink()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "E0101" in err


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files")
def test_a_report_for_which_there_is_no_room_is_not_written_at_all(tree: Tree) -> None:
    """The limit on file sizes is a disk that is full after 4 KiB."""
    import resource

    tree.write("a.drvm", SOUND)
    before = tree.write("old.sarif", "before")
    soft = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, soft[1]))
    try:
        process = tree.start("verify", "--format", "sarif=old.sarif", "--format", "junit=new.xml", ".")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, soft)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "cannot write old.sarif" in err
    assert before.read_text() == "before"
    assert ElementTree.parse(tree.folder / "new.xml").getroot().tag == "testsuites"
    assert sorted(p.name for p in tree.folder.iterdir()) == ["a.drvm", "new.xml", "old.sarif"]


@pytest.mark.parametrize("suffix", ["json", "smt2"])
def test_a_certificate_that_is_half_there_is_refused(suffix: str, tree: Tree) -> None:
    tree.write("a.drvm", SOUND)
    assert tree.verify("-q", "--proofs", "proofs", "a.drvm").status == 0
    part = tree.folder / "proofs" / f"a.{suffix}"
    part.write_bytes(part.read_bytes()[: part.stat().st_size // 2])
    assert tree.run("recheck", "proofs").status == 4
    part.unlink()
    assert tree.run("recheck", "proofs").status == 4
