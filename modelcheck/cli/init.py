"""`modelcheck init`: a file of settings with every setting explained, and a first model."""

from __future__ import annotations

import argparse
from pathlib import Path

from modelcheck.cli.arguments import Commands

EXAMPLE = "drivers/example.drvm"

SETTINGS = """\
# Settings of `modelcheck verify`, for this folder and all below it. A flag or an environment variable (MODELCHECK_JOBS,
# MODELCHECK_TIMEOUT, ...) goes before what stands here. `modelcheck config` shows what holds and why.

paths = ["drivers"]             # what is verified where the command line names nothing

# ---- what makes a run fail

# undecided = "warn"            # let what is unknown pass, and say so (default: fail)
# only = ["B03", "D01"]         # these properties and no others (default: all)
# strict = true                 # also D04: locks in one order, even where no deadlock can come of it
# baseline = "baseline.toml"    # fail on new violations only; `modelcheck baseline write`
# full = true                   # certify every obligation by itself, equal ones too

# ---- how long it may take

# budget = 50000000             # steps of an analysis; the same on every machine
# timeout = 300                 # seconds for one file, then its process is killed: unknown
# jobs = "auto"                 # files at once: a number, or one for each processor

# ---- what is written

# format = ["text", "sarif=modelcheck.sarif", "junit=modelcheck.xml"]
# proofs = "proofs"             # certificates, for `modelcheck recheck proofs`
# cache = "verify"              # prove some kept verdicts again (default: on; or off)
# cache-dir = ".modelcheck"     # where verdicts are kept (default: the user's cache folder)
# quiet = true                  # only what is not proved
# width = 100                   # columns of text
"""

MODEL = """\
// A driver with one queue. `modelcheck verify` proves that its lock is balanced on every path.
driver example;

import wdm;

lock QueueLock : KSPIN_LOCK;
data Queue guarded by QueueLock;
var stopped : bool = false;

routine AddDevice() : NTSTATUS as DRIVER_ADD_DEVICE {
    KeInitializeSpinLock(&QueueLock);
    return STATUS_SUCCESS;
}

routine Read(Irp) as DRIVER_DISPATCH {
    KIRQL old;
    KeAcquireSpinLock(&QueueLock, &old);
    if (!stopped) {
        write Queue;
    }
    KeReleaseSpinLock(&QueueLock, old);  // leave it out, and see what happens
}

routine Remove(Irp) as DRIVER_DISPATCH(IRP_MJ_PNP) {
    stopped = true;
}
"""


def add(commands: Commands) -> None:
    init = commands.add_parser("init", help="write a commented modelcheck.toml and a first model")
    init.add_argument("folder", metavar="DIR", nargs="?", default=".", help="where (default: here)")
    init.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from modelcheck.gate.settings import FILE
    from modelcheck.report.paths import Usage, write_whole

    folder = Path(options.folder)
    wanted = {folder / FILE: SETTINGS, folder / EXAMPLE: MODEL}
    there = [str(path) for path in wanted if path.exists() or path.is_symlink()]
    if there:
        raise Usage(f"{' and '.join(there)} {'exists' if len(there) == 1 else 'exist'} already; nothing was written")
    for path, text in wanted.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Usage(f"cannot write {path}: {error.strerror or error}") from None
        write_whole(path, text)
        print(f"wrote {path}")
    where = "" if folder == Path(".") else f"cd {options.folder} && "
    print(f"now: {where}modelcheck verify")
    return 0
