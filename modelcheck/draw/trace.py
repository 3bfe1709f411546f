"""A counterexample as lanes: time runs down, a lane for each context, lanes of one processor side by side.

In a lane stand its steps as boxes, its IRQL as a line that moves between columns named by level, and a bar for each
lock from where it is acquired to where it is released. All places are worked out here, from the widths of a monospaced
font; Graphviz only draws (engine `nop2`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from modelcheck.draw.picture import (
    ADVANCE,
    AMBER,
    BLUE,
    FAINT,
    INK,
    PALE_AMBER,
    PALE_BLUE,
    PALE_RED,
    PAPER,
    RED,
    SIZE,
    SMALL,
    Picture,
    graph,
    label,
    quoted,
    wide,
    wrap,
    wrap_source,
)
from modelcheck.record import dataclass
from modelcheck.report.explain import title
from modelcheck.report.fold import Row, fold
from modelcheck.report.run import Case, Lane, Moment, Run
from modelcheck.report.words import clean, held_words, level_name, longest_word, place_words, stuck_words

if TYPE_CHECKING:
    import graphviz

LINE = 13.0
"""Distance of two lines of text, in points, as all that follows."""
PAD, GAP, RAIL = 5.0, 12.0, 14.0
"""Around text; between columns; where a lane's life line runs, left of its steps."""
TRACK, PORT = 16.0, 10.0
"""Distance of two arrows that run side by side, and of two that end at one place."""
_COLUMNS = {1: 64, 2: 46, 3: 38}
_NARROW, _WIDEST = 32, 64


@dataclass(frozen=True, slots=True)
class _Bar:
    """A lock held in one way, from row `first` (its step acquires it) to row `last` (its step ends that; None: held to
    the end), in column `column` of its lane."""

    lock: str
    words: str
    column: int
    first: int
    last: int | None
    shared: bool


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a lane is: its ends, the width of its steps, where each level's column begins, (left, width) of bars."""

    left: float
    text: float
    levels: dict[int, float]
    level_widths: dict[int, float]
    bars: tuple[tuple[float, float], ...]
    right: float

    @property
    def rail(self) -> float:
        return self.left + RAIL / 2


@dataclass(frozen=True, slots=True)
class _Pause:
    """Rows `first` to `last` in which a lane does not run because `by` has its processor."""

    first: int
    last: int
    by: str


class _Canvas:
    """A graph whose nodes and edges have places, measured from the top left corner."""

    def __init__(self, made: graphviz.Digraph) -> None:
        self.graph = made
        self.count = 0

    def _name(self, kind: str) -> str:
        self.count += 1
        return f"{kind} {self.count}"

    def box(
        self, kind: str, left: float, top: float, width: float, height: float, text: str = "", **attributes: str
    ) -> None:
        """A node with its text; `kind` is its class."""
        place = {
            "pos": f"{left + width / 2:.2f},{-(top + height / 2):.2f}",
            "width": f"{width / 72:.4f}",
            "height": f"{height / 72:.4f}",
        }
        look = {"shape": "box", "fixedsize": "true", "margin": f"{PAD / 72:.4f},0.02", "class": kind, **attributes}
        name = self._name(kind.split()[0])
        self.graph.node(name, label=quoted(text), **place, **{key: quoted(value) for key, value in look.items()})

    def text(self, kind: str, left: float, top: float, lines: Sequence[str], size: float = SIZE, **more: str) -> None:
        """Lines of text without a border."""
        width, height = wide(lines, size) + 2 * PAD, len(lines) * LINE
        self.box(kind, left, top, width, height, label(lines), shape="plaintext", fontsize=f"{size:g}", **more)

    def line(self, kind: str, points: Sequence[tuple[float, float]], **attributes: str) -> None:
        """A line through points. With an arrow it ends where its head begins."""
        names = [self._name("point"), self._name("point")]
        for name, (x, y) in zip(names, (points[0], points[-1]), strict=True):
            self.graph.node(name, label="", shape="point", style="invis", width="0", pos=f"{x:.2f},{-y:.2f}")
        bends = [f"{points[0][0]:.2f},{-points[0][1]:.2f}"]
        for before, after in pairwise(points):
            bends += [f"{x:.2f},{-y:.2f}" for x, y in (before, after, after)]
        head = ""
        if "arrowhead" in attributes:
            x, y = points[-1]
            head = f"e,{x:.2f},{-y + 8:.2f} "
        look = {"arrowhead": "none", "class": kind, **attributes}
        self.graph.edge(*names, pos=head + " ".join(bends), **look)


def trace_picture(case: Case) -> Picture:
    """The picture of a run and of what it breaks."""
    return _Drawing(case).picture()


class _Drawing:
    def __init__(self, case: Case) -> None:
        self.case = case
        self.run: Run = case.run
        self.rows = fold(self.run)
        self.columns = self._columns()
        self.texts = [self._row_text(row) for row in self.rows]
        self.pauses = [tuple(_pauses(self.run, self.rows, lane)) for lane in range(len(self.run.lanes))]
        self.bars = [tuple(_bars(self.rows, lane)) for lane in range(len(self.run.lanes))]
        first = case.results[0].obligation
        self.title = f"{first.code} violated at {clean(str(first.span))}: {title(first.code)}"
        self.graph = graph(pad="0.2")
        self.canvas = _Canvas(self.graph)
        self.places = self._places()
        self.tops: list[float] = []

    def picture(self) -> Picture:
        top = self._heading()
        top = self._headers(top)
        self.top = top
        for number in range(len(self.rows)):
            self.tops.append(top)
            top += self._height(number)
        self.bottom = top + GAP / 2
        for number in range(len(self.run.lanes)):
            self._rail(number)
            self._levels(number)
            self._bars(number)
        for number in range(len(self.rows)):
            self._step(number)
        self._legend(self._ring())
        return Picture(self.graph.source, "nop2", self.title)

    # ---- widths ----

    def _columns(self) -> int:
        """How wide steps are: as many lanes allow, and no name is broken if that can be."""
        needed = [
            len(self._indent(row.moment)) + len(f"{self._line(row.moment)}: ") + longest_word(row.moment.text)
            for row in self.rows
        ]
        return min(_WIDEST, max(_COLUMNS.get(len(self.run.lanes), _NARROW), *needed, 0))

    def _line(self, moment: Moment) -> str:
        """Where a step stands; with the file where that is another than the first step's."""
        span = moment.step.span
        return str(span.line) if span.source is self.run.moments[0].step.span.source else place_words(span)

    def _indent(self, moment: Moment) -> str:
        return "  " * min(moment.step.depth, 4)

    def _row_text(self, row: Row) -> list[str]:
        """What stands in the box of a row."""
        moment = row.moment
        if row.note:
            return wrap(f"({row.note})", self.columns)
        indent = self._indent(moment)
        lines = wrap_source(f"{self._line(moment)}: {moment.text}", self.columns, indent)
        for remark in moment.remarks:
            lines += wrap(f"- {remark}", self.columns, f"{indent}    ", f"{indent}  ")
        if moment.halt:
            lines += wrap(moment.halt, self.columns)
        if moment.number in self.run.bad and not self.run.blocked:
            said = dict.fromkeys((r.obligation.code, r.obligation.why) for r in self.case.results)
            for code, why in said:
                lines += wrap(f"{code} VIOLATED" + (f", expected: {why}" if why else ""), self.columns)
        return lines

    def _places(self) -> list[_Place]:
        """The lanes from left to right, those of one processor together."""
        numbers = wide([row.numbers for row in self.rows], SMALL) + 2 * PAD
        left = numbers + GAP
        places: dict[int, _Place] = {}
        for number in self.run.order:
            lane = self.run.lanes[number]
            texts = [
                line
                for row, lines in zip(self.rows, self.texts, strict=True)
                if row.moment.lane == number
                for line in lines
            ]
            texts += [line for pause in self.pauses[number] for line in self._paused(pause)]
            texts += self._lane_lines(lane)
            text = wide(texts) + 2 * PAD
            at = left + RAIL + text + GAP
            levels, level_widths = {}, {}
            for level in sorted({row.moment.step.irql for row in self.rows if row.moment.lane == number}):
                levels[level], level_widths[level] = at, wide([level_name(level)], SMALL) + 2 * PAD
                at += level_widths[level]
            bars = []
            for column in range(max((bar.column + 1 for bar in self.bars[number]), default=0)):
                width = wide([bar.words for bar in self.bars[number] if bar.column == column], SMALL) + 2 * PAD
                bars.append((at + PAD, width))
                at += width + PAD
            places[number] = _Place(left, text, levels, level_widths, tuple(bars), at)
            left = at + 2 * GAP
        return [places[number] for number in range(len(self.run.lanes))]

    def _lane_lines(self, lane: Lane) -> list[str]:
        start = "; ".join(lane.start)
        return [*wrap(lane.title, self.columns), *(wrap(start, self.columns) if start else [])]

    def _paused(self, pause: _Pause) -> list[str]:
        return wrap(f"paused: {pause.by} runs", self.columns)

    def _height(self, number: int) -> float:
        lines = len(self.texts[number])
        for pauses in self.pauses:
            lines = max(lines, *(len(self._paused(p)) for p in pauses if p.first == number), 1)
        return lines * LINE + 2 * PAD

    @property
    def width(self) -> float:
        return max(place.right for place in self.places)

    # ---- above the rows ----

    def _heading(self) -> float:
        """What is violated, where, and what must hold; comes back with where the next thing begins."""
        columns = max(60, int(self.width / (SIZE * ADVANCE)) - 4)
        lines: list[tuple[str, bool]] = []
        for result in self.case.results[:4]:
            o = result.obligation
            where = f"at {o.span}" + (f" in {o.routine}" if o.routine else "") + (f": {o.subject}" if o.subject else "")
            lines += [(line, True) for line in wrap(f"{o.code} violated: {title(o.code)}", columns)]
            lines += [(line, False) for line in wrap(where, columns)]
            if o.why:
                lines += [(line, False) for line in wrap(f"must hold: {o.why}", columns)]
        if len(self.case.results) > 4:
            lines.append((f"and {len(self.case.results) - 4} more obligations, by the same run", False))
        if self.run.scenario:
            lines += [(line, False) for line in wrap(f"in scenario {self.run.scenario}", columns)]
        top = 0.0
        for line, strong in lines:
            kind = "alarm" if strong else "faint"
            self.canvas.text(kind, 0, top, [line], fontcolor=RED if strong else INK)
            top += LINE
        return top + GAP

    def _headers(self, top: float) -> float:
        """Processors, contexts with their start, and the names of the levels."""
        groups: dict[int | None, list[_Place]] = {}
        for number in self.run.order:
            groups.setdefault(self.run.lanes[number].processor, []).append(self.places[number])
        if None not in groups:
            for processor, places in groups.items():
                name = label([f"processor {processor}"], r"\n")
                left, width = places[0].left, places[-1].right - places[0].left
                self.canvas.box(
                    "head", left, top, width, LINE + PAD, name, style="filled", fillcolor=PALE_BLUE, color=BLUE
                )
            top += LINE + 2 * PAD
        tall = max(len(self._lane_lines(lane)) for lane in self.run.lanes)
        for lane, place in zip(self.run.lanes, self.places, strict=True):
            self.canvas.text("lane", place.left + RAIL, top, self._lane_lines(lane))
            for level, at in place.levels.items():
                self.canvas.text("level", at, top + (tall - 1) * LINE, [level_name(level)], SMALL, fontcolor=BLUE)
        return top + tall * LINE + PAD

    # ---- lanes ----

    def _middle(self, row: int) -> float:
        return self.tops[row] + self._height(row) / 2

    def _span(self, lane: int) -> tuple[float, float]:
        """From where to where a context lives."""
        own = [n for n, row in enumerate(self.rows) if row.moment.lane == lane]
        if not own:
            return self.top, self.top
        ended = self.rows[own[-1]].moment.ends and own[-1] < len(self.rows) - 1
        return self.tops[own[0]], self._middle(own[-1]) if ended else self.bottom

    def _rail(self, lane: int) -> None:
        """The life line: thick while it can run, dashed while it is paused, dotted while it waits."""
        place, (begin, end) = self.places[lane], self._span(lane)
        cuts: list[tuple[float, str]] = [(begin, "solid")]
        state = "solid"
        for number, row in enumerate(self.rows):
            for pause in self.pauses[lane]:
                if pause.first == number:
                    cuts.append((self.tops[number], "dashed"))
                if pause.last == number and number < len(self.rows) - 1:
                    cuts.append((self.tops[number] + self._height(number), state))
            if row.moment.lane == lane:
                state = "dotted" if row.moment.waits else "solid"
                cuts.append((self._middle(number), state))
        cuts.append((end, ""))
        for (above, style), (below, _) in pairwise(cuts):
            if below > above:
                colour, kind = (INK, "rail") if style == "solid" else (FAINT, "faint")
                points = [(place.rail, above), (place.rail, below)]
                self.canvas.line(kind, points, style=style, color=colour, penwidth="1.6" if style == "solid" else "1.2")
        for pause in self.pauses[lane]:
            self.canvas.text(
                "faint", place.left + RAIL, self.tops[pause.first] + PAD, self._paused(pause), fontcolor=FAINT
            )

    def _levels(self, lane: int) -> None:
        """The IRQL as a line that steps between the levels' columns; its name again wherever it changes."""
        place = self.places[lane]
        own = [n for n, row in enumerate(self.rows) if row.moment.lane == lane]
        if not own:
            return
        begin, end = self._span(lane)
        start = self.run.lanes[lane].irql
        first = self.rows[own[0]].moment.step.irql
        level = start if start in place.levels else first
        points = [(place.levels[level] + PAD, begin)]
        for number in own:
            now = self.rows[number].moment.step.irql
            if now != level:
                points += [
                    (place.levels[level] + PAD, self._middle(number)),
                    (place.levels[now] + PAD, self._middle(number)),
                ]
                self.canvas.text(
                    "level", place.levels[now] + PAD, self._middle(number), [level_name(now)], SMALL, fontcolor=BLUE
                )
                level = now
        points.append((place.levels[level] + PAD, end))
        self.canvas.line("level", points, color=BLUE, penwidth="1.8")

    def _bars(self, lane: int) -> None:
        """A bar for each lock held, its name at the top; dashed where it is shared."""
        for bar in self.bars[lane]:
            left, width = self.places[lane].bars[bar.column]
            top = self._middle(bar.first)
            bottom = self.bottom if bar.last is None else self._middle(bar.last)
            self.canvas.box(
                "bar",
                left,
                top,
                width,
                bottom - top,
                style="filled,dashed" if bar.shared else "filled",
                fillcolor=PALE_AMBER,
                color=AMBER,
                tooltip=f"{label([bar.words], '')} is held",
            )
            self.canvas.text("lane", left, top + 2, [bar.words], SMALL)

    def _step(self, number: int) -> None:
        row, place = self.rows[number], self.places[self.rows[number].moment.lane]
        top, height = self.tops[number], self._height(number)
        bad = row.moment.number in self.run.bad and not row.note
        self.canvas.text("faint", 0, top + (height - LINE) / 2, [row.numbers], SMALL, fontcolor=FAINT)
        look = {"style": "filled", "fillcolor": PAPER, "color": FAINT}
        if row.note:
            look |= {"style": "filled,dashed", "fontcolor": FAINT}
        if bad:
            look |= {"fillcolor": PALE_RED, "color": RED, "penwidth": "2.5"}
        kind = "bad" if bad else "paper faint" if row.note else "paper"
        tall = len(self.texts[number]) * LINE + PAD
        self.canvas.box(
            kind, place.left + RAIL, top + (height - tall) / 2, place.text, tall, label(self.texts[number]), **look
        )
        mark = {"fillcolor": RED if bad else INK, "color": RED if bad else INK, "style": "filled"}
        self.canvas.box("bad" if bad else "dot", place.rail - 3, top + height / 2 - 3, 6, 6, shape="circle", **mark)

    # ---- below the rows ----

    def _ring(self) -> float:
        """Who waits for whom at the end: arrows from the one's life line to the other's bar or lane, short ones inside
        long ones; below them in words."""
        asked = [(b, holder) for b in self.run.blocked for holder in b.wait.by if holder != b.wait.actor]
        arcs = [(b, self.places[b.wait.actor].rail, self._ends(holder, b.wait.subject)[0]) for b, holder in asked]
        for number, (blocked, holder) in enumerate(asked):
            others = [(source, end) for n, (_, source, end) in enumerate(arcs) if n != number]
            ends = self._ends(holder, blocked.wait.subject)
            source = self.places[blocked.wait.actor].rail
            end = min((_crossings((source, end), others), n, end) for n, end in enumerate(ends))[2]
            arcs[number] = (blocked, source, end)
        top, taken = self.bottom, dict[float, int]()
        for blocked, source, end in sorted(arcs, key=lambda arc: abs(arc[1] - arc[2])):
            top += TRACK
            target = end + PORT * taken.get(end, 0)
            taken[end] = taken.get(end, 0) + 1
            points = [(source, self.bottom), (source, top), (target, top), (target, self.bottom + 8)]
            words = f"{self.run.lanes[blocked.wait.actor].name} {blocked.words}"
            tip = quoted(label([words], ""))
            self.canvas.line("ring", points, color=RED, penwidth="1.8", style="bold", arrowhead="normal", tooltip=tip)
        if not self.run.blocked:
            return top + GAP
        columns = max(60, int(self.width / (SIZE * ADVANCE)) - 8)
        said = wrap(f"FOR EVER, {stuck_words(len(self.run.blocked))}", columns)
        for blocked in self.run.blocked:
            said += wrap(f"- {self.run.lanes[blocked.wait.actor].title} {blocked.words}", columns, "    ", "  ")
        left = self.places[self.run.order[0]].left
        self.canvas.text("alarm", left, top + PAD, said, fontcolor=RED)
        return top + PAD + len(said) * LINE + GAP

    def _ends(self, lane: int, lock: str) -> tuple[float, ...]:
        """Where an arrow to the holder of a lock can end: at its bar; without one, on either side of its life line."""
        place = self.places[lane]
        for bar in self.bars[lane]:
            if bar.lock == lock and bar.last is None:
                left, width = place.bars[bar.column]
                return (left + width / 2,)
        return place.rail + RAIL, place.rail - RAIL

    def _legend(self, top: float) -> None:
        said = "blue line: IRQL; bar: lock held (dashed: shared); thick red: violated"
        if any(self.pauses):
            said += "; dashed life line: paused"
        if any(row.moment.waits for row in self.rows):
            said += "; dotted life line: waits"
        lines = wrap(said, max(60, int(self.width / (SMALL * ADVANCE)) - 4))
        self.canvas.text("faint", 0, top, lines, SMALL, fontcolor=FAINT)


def _crossings(arc: tuple[float, float], others: Sequence[tuple[float, float]]) -> int:
    """How many of the others begin inside and end outside, or the other way round."""
    left, right = sorted(arc)
    return sum((left < one < right) != (left < other < right) for one, other in others)


def _pauses(run: Run, rows: Sequence[Row], lane: int) -> Iterator[_Pause]:
    """When a started context stands still because another has come to run on its processor, until that one ends."""
    processor = run.lanes[lane].processor
    if processor is None:
        return
    runs, first, by = False, 0, -1
    for number, row in enumerate(rows):
        other, ends = row.moment.lane, row.moment.ends
        if other == lane:
            if by >= 0:
                yield _Pause(first, number - 1, run.lanes[by].name)
            runs, by = not ends and not row.moment.waits, -1
        elif runs and by < 0 and run.lanes[other].processor == processor:
            first, by = number, other
        if by >= 0 and other == by and ends:
            yield _Pause(first, number, run.lanes[by].name)
            by = -1
    if by >= 0:
        yield _Pause(first, len(rows) - 1, run.lanes[by].name)


def _bars(rows: Sequence[Row], lane: int) -> Iterator[_Bar]:
    """Each hold of a lane, in as few columns as keep them apart; a lock keeps its column while it is held."""
    open_bars: dict[str, tuple[str, int, int, bool]] = {}
    for number, row in enumerate(rows):
        if row.moment.lane != lane:
            continue
        now = {
            clean(name): (held_words(name, mode, count), "shared" in mode) for name, mode, count in row.moment.step.held
        }
        for lock, (words, column, first, shared) in list(open_bars.items()):
            if now.get(lock, ("", False))[0] != words:
                yield _Bar(lock, words, column, first, number, shared)
                del open_bars[lock]
                if lock in now:
                    open_bars[lock] = (now[lock][0], column, number, now[lock][1])
        for lock, (words, shared) in now.items():
            if lock not in open_bars:
                taken = {bar[1] for bar in open_bars.values()}
                column = next(n for n in range(len(taken) + 1) if n not in taken)
                open_bars[lock] = (words, column, number, shared)
    for lock, (words, column, first, shared) in open_bars.items():
        yield _Bar(lock, words, column, first, None, shared)
