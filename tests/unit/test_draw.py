"""Pictures: what is in them, that names cannot break them, that every layout route of the machine draws them."""

from __future__ import annotations

import re
import shutil
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelcheck import cli
from modelcheck.draw import (
    NoLayout,
    Picture,
    cycle_picture,
    cycles,
    fonts_installed,
    hierarchy_picture,
    render,
    trace_picture,
    waits_picture,
)
from modelcheck.draw.layout import routes
from modelcheck.draw.locks import rings
from modelcheck.draw.picture import columns, label, wrap
from modelcheck.report.fold import ROOMY, fold
from modelcheck.report.run import Case, Run, calls_of, cases, run_of
from modelcheck.report.words import clean
from modelcheck.source import Source, Span
from modelcheck.verdict import Hierarchy, Report, Schedule, Trace, Violated, Wait
from tests import golden, made_up

GOLDEN = dict(golden.texts())
NEEDS_LAYOUT = pytest.mark.skipif(not routes(), reason="no Graphviz on this machine: neither `dot` nor pygraphviz")
SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"


def case_of(evidence: Trace | Schedule) -> Case:
    broken = made_up.result("D01", made_up.at("Inner()"), Violated(evidence, True), "B")
    return next(cases(Report("cross", "cross.drvm", (broken,))))


def words(svg: bytes) -> str:
    """All text of an SVG, without blanks."""
    texts = ET.fromstring(svg).iter(f"{SVG}text")
    return re.sub(r"\s", "", "".join("".join(text.itertext()) for text in texts))


# ---- as text ----


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_golden_texts(name: str) -> None:
    kept = (golden.FOLDER / name).read_text(encoding="utf-8")
    assert GOLDEN[name] == kept, "look at the difference; `python -m tests.golden` writes it"


def test_no_golden_text_is_left_over() -> None:
    kept = {file.name for file in golden.FOLDER.iterdir() if file.suffix in (".dot", ".json")}
    assert kept == set(GOLDEN)


# ---- the story of a run ----


def test_calls_lead_from_the_root_to_where_it_stands() -> None:
    run = run_of(made_up.CROSS)
    assert [(name, span.line) for name, span in calls_of(run.moments, 0)] == [("Read", 8), ("Inner", 12)]
    assert [(name, span.line) for name, span in calls_of(run.moments, 1)] == [("Write", 18)]
    assert calls_of(run.moments, 7) == ()


def test_what_is_bad_is_known() -> None:
    assert run_of(made_up.CROSS).bad == {7, 8}
    assert run_of(made_up.RACE).bad == {3, 4}
    assert run_of(made_up.long_trace(10)).bad == {10}
    assert run_of(Trace("R", (), ())).bad == frozenset()


def test_violations_of_one_run_are_one_case_and_scenarios_come_last() -> None:
    found = list(cases(made_up.REPORT))
    assert [case.id for case in found] == ["v1", "v2", "v3"]
    assert [len(case.results) for case in found] == [2, 1, 1]
    assert [case.run.scenario for case in found] == ["", "", "dpc_comes"]


# ---- folding ----


def test_a_loop_is_shown_once_with_its_count() -> None:
    rows = fold(run_of(made_up.long_trace(300)))
    assert len(rows) == 7
    assert [row.note for row in rows if row.note] == ["these 3 steps again, 99 times in all"]
    assert [row.numbers for row in rows] == ["1", "2", "3", "4", "5-298", "299", "300"]


def test_uneventful_steps_of_a_long_run_collapse_and_no_event_does() -> None:
    run = run_of(made_up.long_trace(3))
    calm = run.moments[0]
    places = [made_up.at(text) for text in ("KIRQL old;", "Inner()", "KeReleaseSpinLock(&A, old)")]
    steps = [replace(calm.step, span=replace(places[n % 3], end=places[n % 3].start + 1 + n)) for n in range(80)]
    trace = Trace("Read", (), (*steps[:40], replace(steps[0], irql=2, held=made_up.hold("A")), *steps[40:]))
    rows = fold(run_of(trace))
    assert [row.numbers for row in rows] == ["1", "2-40", "41", "42", "43-80", "81"]
    assert len(fold(run_of(Trace("Read", (), trace.steps[:ROOMY])))) == ROOMY


def test_every_moment_is_in_exactly_one_row() -> None:
    for evidence in (made_up.CROSS, made_up.long_trace(300), made_up.wide_schedule(60, 4)):
        rows = fold(run_of(evidence))
        numbers = [n for row in rows for n in range(row.first, row.moment.number + 1)]
        assert numbers == list(range(1, len(numbers) + 1))


def test_what_breaks_the_obligation_is_never_folded() -> None:
    step = made_up.long_trace(3).steps[1]
    trace = Trace("Read", (), (step,) * 50)
    last = fold(run_of(trace))[-1]
    assert (last.moment.number, last.note) == (50, "")


# ---- the trace ----


@NEEDS_LAYOUT
def test_a_trace_shows_source_levels_locks_and_what_was_expected() -> None:
    drawn = words(render(trace_picture(case_of(made_up.CROSS)), "svg"))
    for said in ("processor0", "processor1", "Read(thread)", "7:KeAcquireSpinLock(&A,&old);", "PASSIVE", "DISPATCH"):
        assert said in drawn
    assert "-Read(thread)waitsforB,whichWriteholds" in drawn
    assert drawn.count("FOREVER") == 1
    assert "musthold:nodeadlockcomesofwaitinghere" in drawn


@NEEDS_LAYOUT
def test_what_is_violated_is_marked_by_more_than_colour() -> None:
    root = ET.fromstring(render(trace_picture(case_of(made_up.long_trace(300))), "svg"))
    bad = [group for group in root.iter(f"{SVG}g") if group.get("class") == "node bad"]
    texts = ["".join(group.itertext()) for group in bad]
    assert any("D01 VIOLATED" in text for text in texts)
    widths = {float(shape.get("stroke-width", "1")) for group in bad for shape in group.iter(f"{SVG}polygon")}
    assert max(widths) >= 2


@NEEDS_LAYOUT
def test_bars_begin_and_end_with_the_lock() -> None:
    root = ET.fromstring(render(trace_picture(case_of(made_up.CROSS)), "svg"))
    bars, boxes = _boxes(root, "bar"), _boxes(root, "paper")
    assert len(bars) == 2
    taken = {text: top + height / 2 for text, _, top, _, height in boxes if "KeAcquireSpinLock(" in text}
    for title, _, top, _, _ in bars:
        name = title.removesuffix(" is held")
        assert any(f"&{name}," in text and abs(middle - top) < 1 for text, middle in taken.items())


@NEEDS_LAYOUT
@pytest.mark.parametrize(
    "evidence",
    [made_up.CROSS, made_up.INTERRUPTED, made_up.RACE, made_up.wide_schedule(60, 4), made_up.long_trace(300)],
)
@pytest.mark.parametrize("route", routes())
def test_nothing_overlaps_and_no_text_leaves_its_box(evidence: Trace | Schedule, route: str) -> None:
    root = ET.fromstring(render(trace_picture(case_of(evidence)), "svg", route))
    boxes = [box for kind in ("paper", "paper faint", "bad", "bar") for box in _boxes(root, kind)]
    for number, (one, left, top, width, height) in enumerate(boxes):
        for other, left2, top2, width2, height2 in boxes[number + 1 :]:
            apart = left + width <= left2 + 1 or left2 + width2 <= left + 1
            assert apart or top + height <= top2 + 1 or top2 + height2 <= top + 1, (one, other)
    assert len(boxes) >= 4
    for group in root.iter(f"{SVG}g"):
        if not group.get("class", "").startswith("node"):
            continue
        for polygon in group.iter(f"{SVG}polygon"):
            left, top, width, height = _box(polygon.get("points", ""))
            for text in group.iter(f"{SVG}text"):
                size = float(text.get("font-size", "10"))
                long = columns("".join(text.itertext())) * size * 0.602
                start = float(text.get("x", "0")) - (long / 2 if text.get("text-anchor") == "middle" else 0)
                assert left - 0.5 <= start
                assert start + long <= left + width + 0.5
                assert top <= float(text.get("y", "0")) <= top + height


def _box(points: str) -> tuple[float, float, float, float]:
    pairs = [tuple(map(float, pair.split(","))) for pair in points.split()]
    xs, ys = [x for x, _ in pairs], [y for _, y in pairs]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def _boxes(root: ET.Element, kind: str) -> list[tuple[str, float, float, float, float]]:
    """(text, left, top, width, height) of the nodes of a class; without a text, what is told of them."""
    found = []
    for group in root.iter(f"{SVG}g"):
        if group.get("class") == f"node {kind}":
            told = " ".join(link.get(f"{XLINK}title", "") for link in group.iter(f"{SVG}a"))
            text = " ".join("".join(text.itertext()) for text in group.iter(f"{SVG}text")) or told
            found += [(text, *_box(shape.get("points", ""))) for shape in group.iter(f"{SVG}polygon")]
    return found


@NEEDS_LAYOUT
def test_a_context_without_its_processor_is_paused() -> None:
    drawn = words(render(trace_picture(case_of(made_up.INTERRUPTED)), "svg"))
    assert "paused:Tickruns" in drawn
    assert "dashedlifeline:paused" in drawn
    assert "paused" not in words(render(trace_picture(case_of(made_up.CROSS)), "svg"))


@NEEDS_LAYOUT
def test_sixty_steps_in_four_lanes_are_drawn_in_time() -> None:
    case = case_of(made_up.wide_schedule(60, 4))
    render(trace_picture(case), "svg")
    start = time.perf_counter()
    render(trace_picture(case), "svg")
    assert time.perf_counter() - start <= 0.3


# ---- locks ----


def test_independent_cycles_are_rings_of_their_own() -> None:
    waits = (
        Wait(0, "held", "A", (1,)),
        Wait(2, "held", "C", (3,)),
        Wait(1, "held", "B", (0,)),
        Wait(3, "self", "C", (3,)),
    )
    actors = tuple(replace(made_up.CROSS.actors[0], name=f"Read {n}") for n in range(4))
    run = run_of(replace(made_up.CROSS, actors=actors, waits=waits))
    assert rings(run) == [[0, 1], [2, 3]]
    dot = waits_picture(replace(case_of(made_up.CROSS), run=run)).dot
    assert dot.count("subgraph cluster_") == 2


def test_the_hierarchy_points_down_but_for_what_is_ruled_out() -> None:
    dot = hierarchy_picture(made_up.HIERARCHY, "cross").dot
    assert dot.count("style=dashed") >= 2
    assert "B -> C -> B cannot close: both hold Gate" in dot
    rising = replace(made_up.HIERARCHY, ruled=(), order=made_up.HIERARCHY.order[:2])
    plain = hierarchy_picture(rising, "cross").dot
    assert "In no order with others: C" in plain
    assert " -> " in plain
    assert (
        "dashed"
        not in hierarchy_picture(replace(rising, ranks=tuple(r for r in rising.ranks if r[0] != "C")), "cross").dot
    )


def test_what_follows_from_two_arrows_has_none() -> None:
    places = (made_up.at("Inner()"),)
    order = (("A", "B", places), ("B", "C", places), ("A", "C", places))
    dot = hierarchy_picture(Hierarchy((("A", 0), ("B", 1), ("C", 2)), order), "cross").dot
    assert re.findall(r'"(lock \d)" -> "(lock \d)"', dot) == [("lock 0", "lock 1"), ("lock 1", "lock 2")]
    assert "under A: line 8" in dot
    assert dot.count("under B") == 1


def test_many_locks_of_one_rank_stand_in_several_rows() -> None:
    names = [f"L{n}" for n in range(10)]
    order = tuple(("Top", name, (made_up.at("Inner()"),)) for name in names)
    dot = hierarchy_picture(Hierarchy((("Top", 0), *((name, 1) for name in names)), order), "cross").dot
    assert dot.count("rank=same") == 4
    assert dot.count('label="rank 1"') == 1


def test_a_cycle_is_drawn_once_whichever_locks_of_a_family_close_it() -> None:
    def renamed(names: dict[str, str], number: int) -> Case:
        turns = tuple(
            replace(
                t,
                lock=names.get(t.lock, t.lock),
                step=replace(t.step, held=tuple((names[lock], mode, count) for lock, mode, count in t.step.held)),
            )
            for t in made_up.CROSS.turns
        )
        waits = tuple(replace(w, subject=names[w.subject]) for w in made_up.CROSS.waits)
        evidence = replace(made_up.CROSS, turns=turns, waits=waits)
        return replace(case_of(made_up.CROSS), number=number, evidence=evidence, run=run_of(evidence))

    families = [renamed({"A": f"L[{n}]", "B": f"L[{n + 1}]"}, n) for n in range(5)]
    found = cycles([*families, case_of(made_up.CROSS), case_of(made_up.RACE)])
    assert [(case.number, more) for case, more in found] == [(0, 4), (case_of(made_up.CROSS).number, 0)]
    assert "; 4 more runs end alike" in cycle_picture(*found[0]).title
    assert cycle_picture(*found[1]).title == cycle_picture(case_of(made_up.CROSS)).title


@NEEDS_LAYOUT
def test_no_name_is_broken_and_who_begins_first_stands_left() -> None:
    long = "ExAcquireSpinLockSharedAtDpcLevel(&A);"
    source = Source("d.drvm", f"    {long}\n")
    base = made_up.wide_schedule(60, 4)
    turns = [replace(t, step=replace(t.step, span=Span(source, 4, 4 + len(long)))) for t in reversed(base.turns)]
    case = replace(case_of(base), run=run_of(replace(base, turns=tuple(turns))))
    root = ET.fromstring(render(trace_picture(case), "svg"))
    assert "ExAcquireSpinLockSharedAtDpcLevel(" in "\n".join(t.text or "" for t in root.iter(f"{SVG}text"))
    first: dict[int, int] = {}
    for turn in turns:
        first.setdefault(turn.actor, len(first))
    texts = {"".join(t.itertext()): float(t.get("x", "0")) for t in root.iter(f"{SVG}text")}
    heads = {text.removesuffix(" (thread)"): x for text, x in texts.items() if re.fullmatch(r"\w.* \(thread\)", text)}
    left_to_right = [name for name, _ in sorted(heads.items(), key=lambda item: item[1])]
    assert left_to_right == [base.actors[actor].name for actor in sorted(first, key=lambda a: first[a])]


@NEEDS_LAYOUT
def test_arrows_of_a_ring_end_apart_and_short_ones_run_inside_long_ones() -> None:
    root = ET.fromstring(render(trace_picture(case_of(made_up.CROSS)), "svg"))
    rings_drawn = [g for g in root.iter(f"{SVG}g") if g.get("class") == "edge ring"]
    lines = []
    for group in rings_drawn:
        numbers = [float(n) for n in re.findall(r"-?[\d.]+", next(group.iter(f"{SVG}path")).get("d", ""))]
        lines.append((numbers[::2], numbers[1::2]))
    lines.sort(key=lambda line: max(line[0]) - min(line[0]))
    (short, _), (long, _) = [(xs, ys) for xs, ys in lines]
    assert min(long) < min(short) < max(short) < max(long)
    assert max(lines[0][1]) < max(lines[1][1])
    ends = sorted(x for xs, _ in lines for x in (xs[0], xs[-1]))
    assert all(after - before > 8 for before, after in pairwise(ends))


# ---- layout ----


@NEEDS_LAYOUT
@pytest.mark.parametrize("route", routes())
@pytest.mark.parametrize(
    ("form", "magic"), [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF"), ("dot", b"digraph")]
)
def test_every_route_of_this_machine_draws(route: str, form: str, magic: bytes) -> None:
    for picture in (trace_picture(case_of(made_up.CROSS)), hierarchy_picture(made_up.HIERARCHY, "cross")):
        assert render(picture, form, route).startswith(magic)


@NEEDS_LAYOUT
@pytest.mark.parametrize("route", routes())
def test_an_svg_has_a_name_and_colours_for_dark_pages(route: str) -> None:
    drawn = ET.fromstring(render(trace_picture(case_of(made_up.CROSS)), "svg", route))
    assert drawn.get("role") == "img"
    assert "D01 violated" in drawn.get("aria-label", "")
    style = drawn.find(f"{SVG}style")
    assert style is not None
    used = {name for group in drawn.iter(f"{SVG}g") for name in group.get("class", "").split()}
    for kind in ("bar", "bad", "paper", "level", "head", "faint", "ring", "edge", "dot"):
        assert kind in used
        assert f".{kind} " in (style.text or "")


@NEEDS_LAYOUT
def test_the_same_run_gives_the_same_bytes() -> None:
    one, two = (render(trace_picture(case_of(made_up.CROSS)), "svg") for _ in range(2))
    assert one == two


def test_without_graphviz_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    picture = hierarchy_picture(made_up.HIERARCHY, "cross")
    with pytest.raises(NoLayout, match=r"apt install graphviz.*modelcheck\[viz\]'"):
        render(picture, "svg")
    assert render(picture, "dot").startswith(b"digraph")


@NEEDS_LAYOUT
@pytest.mark.parametrize("route", routes())
def test_what_graphviz_refuses_is_told(route: str) -> None:
    with pytest.raises(NoLayout):
        render(Picture("digraph {", "dot", "broken"), "svg", route)


def test_fonts_are_looked_for_where_systems_keep_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("modelcheck.draw.layout._FONTS", (str(tmp_path),))
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    assert not fonts_installed()
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "A.TTF").touch()
    assert fonts_installed()


# ---- names ----


def _hostile_pictures() -> list[Picture]:
    report = made_up.hostile()
    assert report.hierarchy
    pictures = [hierarchy_picture(report.hierarchy, report.driver)]
    for case in cases(report):
        pictures.append(trace_picture(case))
        if case.run.blocked:
            pictures += [waits_picture(case), cycle_picture(case)]
    return pictures


@NEEDS_LAYOUT
@pytest.mark.parametrize("route", routes())
def test_hostile_names_are_text_in_every_picture(route: str) -> None:
    everything = ""
    for picture in _hostile_pictures():
        drawn = render(picture, "svg", route)
        root = ET.fromstring(drawn)
        names = {element.tag.removeprefix(SVG) for element in root.iter()}
        assert names <= {"svg", "style", "g", "title", "text", "polygon", "path", "ellipse", "polyline", "a"}
        links = [link.attrib for link in root.iter(f"{SVG}a")]
        assert all("href" not in key for attributes in links for key in attributes)
        assert not any(key.startswith("on") for element in root.iter() for key in element.attrib)
        everything += words(drawn)
    for name in made_up.HOSTILE[:7]:
        assert re.sub(r"\s", "", name) in everything
    assert "\u202e" not in everything


@NEEDS_LAYOUT
def test_a_name_makes_no_node_of_its_own() -> None:
    for picture in _hostile_pictures():
        assert "evil" not in re.sub(r'"(?:[^"\\]|\\.)*"', '""', picture.dot)


@pytest.mark.parametrize("name", made_up.HOSTILE)
def test_a_label_has_no_line_that_is_not_its_own(name: str) -> None:
    text = label([name])
    assert text.endswith(r"\l")
    body = text.removesuffix(r"\l")
    assert re.sub(r"\\\\", "", body).count("\\") == 0
    assert not re.search(r"&(?!amp;)", body)


def test_wide_characters_count_twice_and_nothing_is_cut_off() -> None:
    assert columns("a\u6f22") == 3
    assert "".join(wrap("x" * 300, 40, "")) == "x" * 300
    assert max(columns(line) for line in wrap("\u6f22" * 100, 40)) <= 42


# ---- the command ----


def _model(folder: Path) -> Path:
    return Path(shutil.copy(golden.MODEL, folder / "branches.drvm"))


@NEEDS_LAYOUT
def test_draw_writes_what_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    _model(tmp_path)
    assert cli.main(["draw", "branches.drvm", "--only", "B03"]) == 0
    assert "branches.svg: B03 violated at branches.drvm:12:9" in capsys.readouterr().out
    assert cli.main(["draw", "branches.drvm", "--only", "B03", "--cfg", "Read", "--trace", "-o", "x.dot"]) == 0
    assert {file.name for file in tmp_path.glob("x*")} == {"x-trace-1.dot", "x-cfg-Read.dot"}
    assert cli.main(["draw", "branches.drvm", "--only", "B01"]) == 5
    assert "nothing is violated" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["branches.drvm", "-o", "x.gif"], "use one of .svg, .png, .pdf, .dot"),
        (["nowhere.drvm"], "no such file"),
        (["branches.drvm", "--only", "B03", "--cfg", "Nobody"], "no routine 'Nobody'"),
        (["branches.drvm", "-o", "nowhere/x.svg"], "no such folder"),
    ],
)
def test_draw_says_what_is_wrong(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    _model(tmp_path)
    assert cli.main(["draw", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_draw_leaves_dot_where_nothing_can_lay_it_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    _model(tmp_path)
    which: Callable[..., str | None] = lambda *_, **__: None  # noqa: E731
    monkeypatch.setattr(shutil, "which", which)
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    assert cli.main(["draw", "branches.drvm", "--only", "B03", "-o", "x.svg"]) == 2
    assert (tmp_path / "x.dot").read_text().startswith("digraph")
    assert not (tmp_path / "x.svg").exists()
    assert "pip install 'modelcheck[viz]'" in capsys.readouterr().err


def test_png_warns_where_there_are_no_fonts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    _model(tmp_path)
    monkeypatch.setattr("modelcheck.draw.fonts_installed", lambda: False)
    monkeypatch.setattr("modelcheck.draw.render", lambda picture, form: b"drawn")
    cli.main(["draw", "branches.drvm", "--only", "B03", "-o", "x.png"])
    assert "no fonts" in capsys.readouterr().err
    cli.main(["draw", "branches.drvm", "--only", "B03", "-o", "x.svg"])
    assert "no fonts" not in capsys.readouterr().err


def test_an_empty_hierarchy_is_no_picture() -> None:
    from modelcheck.cli.draw import _order

    assert list(_order(replace(made_up.REPORT, results=(), hierarchy=Hierarchy(())))) == []
    assert [drawn.name for drawn in _order(replace(made_up.REPORT, hierarchy=None))] == ["order-1", "order-3"]


def test_a_run_without_lanes_is_none() -> None:
    run = run_of(Trace("", (), ()))
    assert isinstance(run, Run)
    assert fold(run) == ()


@NEEDS_LAYOUT
@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=12, unique=True))
def test_any_names_come_out_as_they_went_in(names: list[str]) -> None:
    order = Hierarchy(tuple((name, number) for number, name in enumerate(names)))
    drawn = words(render(hierarchy_picture(order, names[0]), "svg"))
    for name in names:
        assert re.sub(r"\s", "", clean(name)) in drawn
