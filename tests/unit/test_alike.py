"""One fault, many runs: what is violated for the same reason is told once, and listed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import modelcheck
from modelcheck.report import github, html, markdown
from modelcheck.report import json as as_json
from modelcheck.report.machine import Whole
from modelcheck.report.outcome import Exit, Outcome
from modelcheck.report.run import FEW, Case, cases, leading_first
from modelcheck.report.text import Style, file_report
from modelcheck.verdict import MUTUAL, Report, Violated

WAITER = """\
routine Wait{n}(Irp) as DRIVER_DISPATCH {{
    KIRQL old;
    KeAcquireSpinLock(&Lock, &old);
    KeReleaseSpinLock(&Lock, old);
}}
"""
DRIVER = """\
driver leaking;
import wdm;
lock Lock : KSPIN_LOCK;
var gone : bool = false;
routine Load() as DRIVER_INITIALIZE {
    KeInitializeSpinLock(&Lock);
}
routine Leak(Irp) as DRIVER_DISPATCH {
    KIRQL old;
    KeAcquireSpinLock(&Lock, &old);
    if (gone) {
        KeLowerIrql(old);
        return;
    }
    KeReleaseSpinLock(&Lock, old);
}
routine Remove(Irp) as DRIVER_DISPATCH {
    gone = true;
}
"""
ACQUIRE = next(n for n, line in enumerate(DRIVER.splitlines(), 1) if "KeAcquireSpinLock" in line)


def verified(folder: Path, waiters: int) -> Report:
    path = folder / "leaking.drvm"
    path.write_text(DRIVER + "".join(WAITER.format(n=n) for n in range(waiters)), encoding="utf-8")
    return modelcheck.verify(path)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return verified(tmp_path_factory.mktemp("many"), 6)


def violated(report: Report) -> set[str]:
    return {r.obligation.id for r in report.results if isinstance(r.verdict, Violated)}


def told_of(found: list[Case]) -> set[str]:
    return {r.obligation.id for case in found for r in (*case.results, *case.alike)}


def test_one_run_stands_for_all_who_wait_behind_one_hold(many: Report) -> None:
    found = list(cases(many))
    waiting = [case for case in found if case.results[0].obligation.code in MUTUAL]
    assert len(waiting) == 1
    assert waiting[0].hold is not None
    assert (waiting[0].hold.routine, waiting[0].hold.lock, waiting[0].hold.place.line) == ("Leak", "Lock", ACQUIRE)
    assert {f"Wait{n}" for n in range(6)} <= {r.obligation.routine for r in (*waiting[0].results, *waiting[0].alike)}
    assert told_of(found) == violated(many), "nothing is left out"


def test_the_run_that_is_told_is_the_shortest(many: Report) -> None:
    case = next(case for case in cases(many) if case.alike)
    others = [r.verdict.trace for r in case.alike if isinstance(r.verdict, Violated)]
    assert len(case.run.moments) <= min(len(getattr(other, "turns", ())) for other in others)


def test_what_a_context_breaks_alone_comes_first(many: Report) -> None:
    order = [case.results[0].obligation.code in MUTUAL for case in cases(many)]
    assert order == sorted(order)
    assert order[0] is False
    assert order[-1] is True


def test_few_runs_are_all_told(tmp_path: Path) -> None:
    report = verified(tmp_path, 0)
    found = list(cases(report))
    assert 1 < sum(case.results[0].obligation.code in MUTUAL for case in found) <= FEW
    assert not any(case.alike for case in found)
    assert told_of(found) == violated(report)


def test_the_text_has_one_run_and_all_places(many: Report) -> None:
    text = file_report(many, Style(), lambda _: "")
    assert text.count("D01 violated") + text.count("D02 violated") < 4
    assert f"Leak holds Lock, acquired at leaking.drvm:{ACQUIRE}, in more runs like this" in text
    case = next(case for case in cases(many) if case.alike)
    for result in case.alike:
        assert f"{result.obligation.routine}: " in text
        assert str(result.obligation.span.line) in text.partition("in more runs")[2]
    assert max(map(len, text.splitlines())) <= 80


def test_every_format_names_every_place(many: Report) -> None:
    whole = Whole((Outcome(many.path, many),), Exit.VIOLATED, "0", "Z3")
    lines = {str(result.obligation.span.line) for case in cases(many) for result in case.alike}
    page, summary = html.dumps(whole), markdown.dumps(whole)
    for shown in (page.partition("in more runs")[2], summary.partition("in more runs")[2]):
        assert all(line in shown for line in lines)
    assert summary.count("<details>") == page.count('<details class="case"') == len(list(cases(many)))
    annotated = [line for line in github.dumps(whole).splitlines() if line.startswith("::error")]
    assert len(annotated) == len(violated(many))
    assert "D0" not in annotated[0]


def test_json_has_all_runs(many: Report) -> None:
    document = json.loads(as_json.dumps((Outcome(many.path, many),), Exit.VIOLATED, "0"))
    told = [r for r in document["files"][0]["report"]["results"] if r["verdict"] == "violated"]
    assert len(told) == len(violated(many))
    assert all("schedule" in r or "trace" in r for r in told)


def test_what_is_known_already_does_not_stand_for_what_is_new(many: Report) -> None:
    whole = next(case for case in cases(many) if case.alike)
    news = whole.alike
    found = list(cases(many, news))
    assert told_of(found) == {r.obligation.id for r in news}
    assert {r.obligation.id for r in leading_first(many, news)} == {r.obligation.id for r in news}
