"""Texts that are compared as a whole: `python -m tests.golden` writes them again, the difference is for reading."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

from modelcheck.draw import cycle_picture, flow_picture, hierarchy_picture, trace_picture, waits_picture
from modelcheck.draw.flow import case_of, graph_of
from modelcheck.lower import lower
from modelcheck.pipeline import load, verify
from modelcheck.report import json
from modelcheck.report.outcome import Exit, Outcome
from modelcheck.report.run import cases
from tests import made_up

FOLDER = Path(__file__).parent
MODEL = FOLDER / "branches.drvm"


def texts() -> Iterator[tuple[str, str]]:
    """Each golden text with its file's name. Titles of properties are not part of them."""
    with (
        patch("modelcheck.draw.trace.title", _title),
        patch("modelcheck.report.json.title", _title),
    ):
        for name, case in zip(("cross", "race", "interrupted"), cases(made_up.REPORT), strict=True):
            yield f"trace-{name}.dot", trace_picture(case).dot
            if case.run.blocked:
                yield f"waits-{name}.dot", waits_picture(case).dot
                yield f"order-{name}.dot", cycle_picture(case).dot
        yield "hierarchy.dot", hierarchy_picture(made_up.HIERARCHY, "cross").dot
        yield "report.json", json.dumps([Outcome("cross.drvm", made_up.REPORT)], Exit.VIOLATED, "0.1.0")
    yield "flow.dot", _flow()


def _title(code: str) -> str:
    return f"what {code} is about"


def _flow() -> str:
    graph = graph_of(lower(load(MODEL)[0]), "Read")
    assert graph is not None
    found = verify(MODEL)
    return flow_picture(graph, case_of(tuple(cases(found)), "Read")).dot.replace(str(MODEL), MODEL.name)
