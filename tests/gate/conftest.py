"""Trees of models, and the real command run on them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

SOUND = """\
driver sound;

import wdm;

lock QueueLock : KSPIN_LOCK initialised;

routine Read(Irp) as DRIVER_DISPATCH {
    KIRQL old;
    KeAcquireSpinLock(&QueueLock, &old);
    KeReleaseSpinLock(&QueueLock, old);
}
"""
LEAKS = """\
driver leaks;

import wdm;

lock QueueLock : KSPIN_LOCK initialised;
var removed : bool = false;

routine Remove(Irp) as DRIVER_DISPATCH(IRP_MJ_PNP) {
    removed = true;
}

routine Read(Irp) as DRIVER_DISPATCH {
    KIRQL old;
    KeAcquireSpinLock(&QueueLock, &old);
    if (removed) {
        return;
    }
    KeReleaseSpinLock(&QueueLock, old);
}
"""
UNKNOWN = """\
driver unknown;

import wdm;

routine Read(Irp) as DRIVER_DISPATCH {
    NobodyKnowsThis(Irp);
    assert irql <= DISPATCH_LEVEL;
}
"""
TINY = """\
driver tiny;

routine Read(Irp) requires irql <= DISPATCH_LEVEL {
    assert irql <= DISPATCH_LEVEL;
}
"""
BROKEN = "driver broken;\nroutine Read(Irp) {\n    return\n}\n"
IDLE = "driver idle;\n\nroutine Read(Irp) {\n    return;\n}\n"


def slow(routines: int = 100) -> str:
    """A model that takes some seconds."""
    parts = ["driver slow;\n\nimport wdm;\n", *(f"lock L{n} : KSPIN_LOCK initialised;" for n in range(8))]
    for number in range(routines):
        body = "".join(
            f"    KeAcquireSpinLock(&L{(number + n) % 8}, &old);\n    KeReleaseSpinLock(&L{(number + n) % 8}, old);\n"
            for n in range(12)
        )
        parts.append(f"\nroutine R{number}(Irp) as DRIVER_DISPATCH {{\n    KIRQL old;\n{body}}}")
    return "\n".join(parts) + "\n"


@dataclass(frozen=True, slots=True)
class Done:
    status: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Tree:
    """A folder with models, and a cache of its own."""

    folder: Path
    cache: Path

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def environment(self, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MODELCHECK_")}
        return {**kept, "MODELCHECK_CACHE_DIR": str(self.cache), "COLUMNS": "80", "NO_COLOR": "1", **more}

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "modelcheck", *arguments]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment(**more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **more: str) -> Done:
        process = self.start(*arguments, **more)
        out, err = process.communicate(timeout=120)
        return Done(process.returncode, out, err)

    def verify(self, *arguments: str, **more: str) -> Done:
        return self.run("verify", *arguments, **more)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    folder = tmp_path / "tree"
    folder.mkdir()
    return Tree(folder, tmp_path / "cache")


def children(process: int) -> list[int]:
    """The processes that a process has started and that still run."""
    found: list[int] = []
    for task in Path(f"/proc/{process}/task").glob("*"):
        try:
            found += [int(word) for word in (task / "children").read_text().split()]
        except OSError:
            continue
    return found


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for_children(process: int, count: int = 1) -> list[int]:
    """The children of a process, once there are so many."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        found = children(process)
        if len(found) >= count:
            return found
        time.sleep(0.01)
    raise AssertionError("no worker was started")
