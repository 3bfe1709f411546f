"""Makes docs/gallery.md and its pictures from the examples: `python -m docs.gallery` in a checkout.

Each entry is a command line of `modelcheck draw`, a sentence about what there is to see, and a picture.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from modelcheck.draw import (
    Picture,
    cycle_picture,
    flow_picture,
    hierarchy_picture,
    render,
    trace_picture,
    waits_picture,
)
from modelcheck.draw.flow import case_of, graph_of
from modelcheck.lower import lower
from modelcheck.pipeline import load, verify
from modelcheck.report.run import Case, cases
from modelcheck.verdict import Report

ROOT = Path(__file__).parent.parent
PICTURES = Path("docs/pictures")


@dataclass(frozen=True, slots=True)
class Entry:
    """A picture of an example. `kind`: `trace`, `waits`, `order`, `cycle` or `cfg`; `about` chooses the first run that
    breaks this property (`R03`, or `D01:17` on a line), or names the routine of a `cfg`."""

    name: str
    title: str
    model: str
    kind: str
    about: str
    says: str

    @property
    def command(self) -> str:
        flag = {"cycle": "--order", "cfg": f"--cfg {self.about}"}.get(self.kind, f"--{self.kind}")
        return f"modelcheck draw {self.model} {flag}"

    @property
    def file(self) -> Path:
        return PICTURES / f"{self.name}.svg"


VIOLATIONS = (
    Entry(
        "opposite_orders",
        "Two locks in two orders",
        "examples/concurrency/opposite_orders.drvm",
        "trace",
        "D01",
        "Time runs down, a lane for each context. Each of the two holds what the other wants: the red arrows lead from "
        "who waits to the bar of the lock, and close the cycle.",
    ),
    Entry(
        "opposite_orders_waits",
        "Who waits for whom",
        "examples/concurrency/opposite_orders.drvm",
        "waits",
        "D01",
        "The same deadlock as a ring of contexts (boxes) and locks (ellipses), with the lines to look at.",
    ),
    Entry(
        "opposite_orders_cycle",
        "The cycle of locks",
        "examples/concurrency/opposite_orders.drvm",
        "cycle",
        "D01",
        "The same once more, as what stands in the way of a lock hierarchy: each arrow leads from a lock that is held "
        "to one that is waited for meanwhile.",
    ),
    Entry(
        "dpc_on_top",
        "A DPC on top of the holder",
        "examples/concurrency/dpc_on_top.drvm",
        "trace",
        "D02:22",
        "The thread holds a spin lock below DISPATCH_LEVEL. A DPC comes on its processor, the thread's life line is "
        "dashed from there on, and the DPC spins for what only the thread could release.",
    ),
    Entry(
        "waits_under_lock",
        "Waiting for who needs the lock",
        "examples/concurrency/waits_under_lock.drvm",
        "trace",
        "D03",
        "Stop waits for an event with the mutex held; the work item that would set the event waits for the mutex.",
    ),
    Entry(
        "unguarded",
        "A race",
        "examples/concurrency/unguarded.drvm",
        "trace",
        "R03",
        "Two contexts stand before a write of the same data, and nothing keeps either back.",
    ),
    Entry(
        "released_in_wrong_order",
        "Three threads on two processors",
        "examples/seeds/ndis_release_order_bad.drvm",
        "trace",
        "D01:17",
        "Releasing A before B lowers the IRQL with B still held (the blue line goes back to PASSIVE). The thread can "
        "now lose its processor to one that spins, and a third closes the cycle.",
    ),
    Entry(
        "irql_drops",
        "The IRQL drops under a lock",
        "examples/seeds/ndis_release_order_bad.drvm",
        "trace",
        "I05",
        "The cause of the deadlock above, in one context: the bar of B goes on where the blue line falls.",
    ),
    Entry(
        "left_locked",
        "A lock is left locked",
        "examples/seeds/freed_or_released_bad.drvm",
        "trace",
        "B03",
        "On one path the routine ends with its lock held: the bar reaches the end of the lane.",
    ),
    Entry(
        "left_locked_for_others",
        "What a lock left locked does to others",
        "examples/seeds/freed_or_released_bad.drvm",
        "trace",
        "D01",
        "The next context that wants the lock waits for one that has ended.",
    ),
    Entry(
        "held_too_long",
        "A spin lock held too long",
        "examples/seeds/hold_bad.drvm",
        "trace",
        "T01",
        "Neither part takes more than the limit, both together do.",
    ),
    Entry(
        "pcidrv",
        "A long run, folded",
        "examples/drivers/pcidrv.drvm",
        "trace",
        "D01",
        "55 steps through six routines; stretches in which neither IRQL nor locks change are one dashed row each.",
    ),
    Entry(
        "way_through",
        "The failing path in the control flow",
        "examples/drivers/sdv_fail_storport.drvm",
        "cfg",
        "LsiU3StartIo",
        "The routine's statements, with the way of the counterexample in red and bold.",
    ),
)

PROOFS = (
    Entry(
        "one_order",
        "A lock hierarchy",
        "examples/concurrency/one_order.drvm",
        "order",
        "LsiU3StartIo",
        "Proved: who holds a lock waits only for those below it. With each lock stands where it is waited for while "
        "another is held.",
    ),
    Entry(
        "gate",
        "A cycle that cannot close",
        "examples/concurrency/gate.drvm",
        "order",
        "LsiU3StartIo",
        "Proved as well: Left and Right are taken in both orders (dashed), but only under the same Gate.",
    ),
)

HEAD = """\
# Gallery

What `modelcheck draw` makes of the examples. In a trace time runs down; each context has a lane with its steps, its
IRQL as a blue line between named levels, and a bar for each lock from where it is acquired to where it is released.
What is violated is red, thick and says so in words; pictures follow the dark mode of the browser. This page is made by
`python -m docs.gallery`.
"""


@cache
def _verified(model: str) -> Report:
    return verify(Path(model))


def _case(entry: Entry) -> Case:
    code, _, line = entry.about.partition(":")
    for case in cases(_verified(entry.model)):
        for result in case.results:
            o = result.obligation
            if not o.scenario and o.code == code and line in ("", str(o.span.line)):
                return case
    raise LookupError(f"{entry.model}: nothing violates {entry.about}")


def picture(entry: Entry) -> Picture:
    """The picture of an entry.

    Raises:
        LookupError: the example no longer shows it.
    """
    report = _verified(entry.model)
    match entry.kind:
        case "order":
            if report.hierarchy is None or report.violated:
                raise LookupError(f"{entry.model}: no hierarchy is proved")
            return hierarchy_picture(report.hierarchy, report.driver)
        case "cfg":
            graph = graph_of(lower(load(Path(entry.model))[0]), entry.about)
            if graph is None:
                raise LookupError(f"{entry.model}: no routine {entry.about}")
            return flow_picture(graph, case_of(tuple(cases(report)), entry.about))
        case kind:
            return {"trace": trace_picture, "waits": waits_picture, "cycle": cycle_picture}[kind](_case(entry))


def page() -> str:
    """The text of docs/gallery.md."""
    return "\n".join([HEAD, *_section("Violations", VIOLATIONS), *_section("Proofs", PROOFS)])


def _section(title: str, entries: tuple[Entry, ...]) -> Iterator[str]:
    yield f"## {title}\n"
    for entry in entries:
        shown = entry.file.relative_to("docs")
        yield f"### {entry.title}\n\n{entry.says}\n\n```sh\n{entry.command}\n```\n\n![{entry.title}]({shown})\n"


def main() -> None:
    """Writes the page and every picture."""
    with contextlib.chdir(ROOT):
        PICTURES.mkdir(exist_ok=True)
        for entry in (*VIOLATIONS, *PROOFS):
            entry.file.write_bytes(render(picture(entry), "svg"))
            print(entry.file)
        Path("docs/gallery.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
