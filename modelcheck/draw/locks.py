"""The order of locks: the hierarchy where there is one, the cycle where there is none, who waits for whom in it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from modelcheck.draw.picture import (
    AMBER,
    FAINT,
    PALE_AMBER,
    PALE_RED,
    PAPER,
    RED,
    Picture,
    graph,
    label,
    plain,
    quoted,
    wrap,
)
from modelcheck.report.order import direct, later
from modelcheck.report.run import Case, Moment, Run
from modelcheck.report.words import and_list, clean, place_words, ruled_words
from modelcheck.source import Span
from modelcheck.verdict import Hierarchy, Wait

if TYPE_CHECKING:
    import graphviz

_NAME, _SENTENCE = 34, 44
_SHOWN, _BESIDE = 3, 4
"""Places of an arrow that are named; locks side by side."""


def hierarchy_picture(order: Hierarchy, driver: str) -> Picture:
    """Locks by rank, from the top down; an arrow from each lock to those waited for while it is held, as far as that
    does not follow from two others. Where it happens stands with the lock that is waited for.

    Arrows of a cycle that cannot close, against the order, are dashed; what rules it out, and where they are, stands in
    a note. Locks that no order binds stand in one, too.
    """
    title = f"The lock hierarchy of {clean(driver)}: who holds a lock waits only for those below it"
    made = graph(label=quoted(label(wrap(title, 60))), labelloc="t", rankdir="TB", nodesep="0.4", ranksep="0.5")
    ranks = dict(order.ranks)
    bound = {lock for held, wanted, _ in order.order for lock in (held, wanted) if lock in ranks}
    bound |= {lock for ruled in order.ruled for lock in ruled.locks if lock in ranks}
    free = sorted(ranks.keys() - bound)
    names = {lock: f"lock {number}" for number, lock in enumerate(sorted(bound, key=lambda n: (ranks[n], n)))}
    places = {(held, wanted): spans for held, wanted, spans in order.order if {held, wanted} <= bound}
    arrows = direct(bound, later([pair for pair in places if ranks[pair[0]] < ranks[pair[1]]], ranks))
    files = {span.source for spans in places.values() for span in spans}
    where = {pair: _where(spans, len(files) > 1) for pair, spans in places.items()}

    def words(lock: str) -> str:
        return f"{lock} (event)" if lock in order.events else lock

    _rows(made, ranks, names, {lock: [words(lock), *_notes(lock, arrows, where)] for lock in names})
    for held, wanted in arrows:
        made.edge(names[held], names[wanted], **{"class": "edge"})
    against = [(held, wanted, where[held, wanted]) for held, wanted in sorted(places) if ranks[held] >= ranks[wanted]]
    for held, wanted, _ in against:
        made.edge(names[held], names[wanted], style="dashed", color=FAINT, **{"class": "faint"})
    for number, ruled in enumerate(order.ruled):
        ring = [lock for lock in ruled.locks if lock in names]
        lines = wrap(ruled_words(ruled), _SENTENCE)
        for held, wanted, places_said in against:
            if held in ring and wanted in ring:
                lines += wrap(f"- {wanted} under {held}: {places_said}", _SENTENCE)
        look = {"shape": "note", "color": FAINT, "style": "dashed", "class": "faint"}
        made.node(f"ruled {number}", label=quoted(label(lines)), **look)
        lowest = max(ring, key=lambda lock: ranks[lock], default=None)
        if lowest is not None:
            look = {"style": "dotted", "arrowhead": "none", "color": FAINT, "class": "faint"}
            made.edge(names[lowest], f"ruled {number}", **look)
    if free:
        said = f"In no order with others: {', '.join(map(words, free))}"
        look = {"shape": "note", "color": FAINT, "style": "dashed", "class": "faint"}
        made.node("free", label=quoted(label(wrap(said, _SENTENCE))), **look)
    return Picture(made.source, "dot", title)


def _rows(
    made: graphviz.Digraph, ranks: Mapping[str, int], names: Mapping[str, str], said: Mapping[str, list[str]]
) -> None:
    """Locks of one rank side by side, in several rows where they are many; what is `said` of each, its name first."""
    by_rank: defaultdict[int, list[str]] = defaultdict(list)
    for lock in names:
        by_rank[ranks[lock]].append(lock)
    rows = [
        (rank, first, locks[first : first + _BESIDE])
        for rank, locks in sorted(by_rank.items())
        for first in range(0, len(locks), _BESIDE)
    ]
    for rank, first, locks in rows:
        with made.subgraph() as row:
            row.attr(rank="same")
            row.node(
                f"rank {rank} {first}",
                label=quoted(label([f"rank {rank}"] if not first else [], "")),
                shape="plaintext",
                fontcolor=FAINT,
                **{"class": "faint"},
            )
            for lock in locks:
                text = label(wrap(said[lock][0], _NAME), r"\n") + label(said[lock][1:])
                row.node(names[lock], **{**_lock_look(lock), "label": quoted(text), "shape": "box"})
    for (above, first, _), (below, second, _) in pairwise(rows):
        made.edge(f"rank {above} {first}", f"rank {below} {second}", style="invis")


def _notes(lock: str, arrows: Iterable[tuple[str, str]], where: Mapping[tuple[str, str], str]) -> list[str]:
    """Where a lock is waited for while another is held."""
    return [
        line
        for held, wanted in arrows
        if wanted == lock
        for line in wrap(f"under {held}: {where[held, wanted]}", _NAME)
    ]


def cycles(found: Iterable[Case]) -> list[tuple[Case, int]]:
    """The cycles of locks, each with the number of further runs that close it at the same places with the same locks or
    others of their families."""
    alike: dict[object, list[Case]] = {}
    for case in found:
        if case.run.blocked:
            alike.setdefault(_cycle_key(case.run), []).append(case)
    return [(group[0], len(group) - 1) for group in alike.values()]


def _cycle_key(run: Run) -> object:
    """Equal for runs in which contexts of the same routines wait at the same places for locks of the same families."""
    waits = []
    for blocked in run.blocked:
        wait, last = blocked.wait, _last(run, blocked.wait.actor)
        by = tuple(sorted(run.lanes[other].routine for other in wait.by))
        place = None if last is None else (last.step.span.source.name, last.step.span.start)
        waits.append((run.lanes[wait.actor].routine, wait.reason, wait.subject.partition("[")[0], place, by))
    return tuple(sorted(waits, key=repr))


def _alike(more: int) -> str:
    if not more:
        return ""
    runs = "one more run ends" if more == 1 else f"{more} more runs end"
    return f"; {runs} alike, with these locks or others of their families"


def cycle_picture(case: Case, more: int = 0) -> Picture:
    """The locks of a deadlock in a ring: an arrow from what a context holds to what it waits for. `more`: how many
    further runs close the same cycle."""
    first = case.results[0].obligation
    title = f"The cycle of locks behind {first.code} at {clean(str(first.span))}{_alike(more)}"
    made = graph(label=quoted(label(wrap(title, 60))), labelloc="t", nodesep="0.6", ranksep="0.8")
    run, names = case.run, _Names(made, case.run)
    wanted = {blocked.wait.subject for blocked in run.blocked}
    for blocked in run.blocked:
        _cycle_part(run, blocked.wait, wanted, names, made)
    return Picture(made.source, "dot", title)


def _cycle_part(run: Run, wait: Wait, wanted: set[str], names: _Names, made: graphviz.Digraph) -> None:
    """What one context adds to the cycle: arrows from what others want of it to what it wants."""
    lane, last = run.lanes[wait.actor], _last(run, wait.actor)
    others = [(other, run.lanes[other].title) for other in wait.by]
    if wait.reason in ("interrupted", "displaced"):
        own = names.context(wait.actor, lane.title)
        for other in others:
            words = quoted(_edge([_VERBS[wait.reason]]))
            made.edge(own, names.context(*other), label=words, style="dashed", **{"class": "edge"})
        if wait.subject:
            made.edge(names.lock(wait.subject), own, label=quoted(_edge(["is held by"])), **{"class": "edge"})
        return
    at = [f"at {place_words(last.step.span)}"] if last else []
    held = [name for name, _, _ in last.step.held if name in wanted] if last else []
    sources = [names.lock(name) for name in held] or [names.context(wait.actor, lane.title)]
    look = {"color": RED, "fontcolor": RED, "penwidth": "2", "class": "ring"}
    for source in sources:
        made.edge(source, names.lock(wait.subject), label=quoted(_edge([f"{lane.name} waits", *at])), **look)
    if wait.reason in ("ended", "event"):
        for other in others:
            words = quoted(_edge([_HOLDERS[wait.reason]]))
            made.edge(names.lock(wait.subject), names.context(*other), label=words, **{"class": "edge"})


_HOLDERS = {"writer": "is wanted exclusively by", "event": "would be set by", "ended": "was held at the end of"}
_VERBS = {
    "held": "waits for",
    "self": "waits for",
    "writer": "waits to share",
    "ended": "waits for",
    "event": "waits for",
    "interrupted": "is interrupted by",
    "displaced": "lost its processor to",
}


_STUCK = {"fillcolor": PALE_RED, "color": RED, "penwidth": "2", "class": "bad"}


class _Names:
    """Nodes of locks and contexts, made when they are first spoken of."""

    def __init__(self, made: graphviz.Digraph, run: Run, group: str = "") -> None:
        self.made = made
        self.stuck = {blocked.wait.actor for blocked in run.blocked}
        self.group = group
        self.known: dict[tuple[str, str | int], str] = {}

    def lock(self, name: str) -> str:
        return self._node(("lock", name), _lock_look(name))

    def context(self, number: int, *lines: str) -> str:
        look = {
            "label": quoted(label([part for line in lines for part in wrap(line, _NAME)], r"\n")),
            "shape": "box",
            "style": "filled",
            "tooltip": quoted(plain(" ".join(lines))),
            **(_STUCK if number in self.stuck else {"fillcolor": PAPER, "color": FAINT, "class": "paper"}),
        }
        return self._node(("context", number), look)

    def _node(self, key: tuple[str, str | int], look: Mapping[str, str]) -> str:
        if key not in self.known:
            self.known[key] = f"{self.group}{key[0]} {len(self.known)}"
            self.made.node(self.known[key], **look)
        return self.known[key]


def waits_picture(case: Case, more: int = 0) -> Picture:
    """Who waits for whom when nothing moves any more: contexts as boxes, locks as ellipses, a ring for each cycle.
    `more`: how many further runs end alike."""
    first = case.results[0].obligation
    title = f"Who waits for whom: {first.code} at {clean(str(first.span))}{_alike(more)}"
    made = graph(label=quoted(label(wrap(title, 60))), labelloc="t", nodesep="0.6", ranksep="0.6")
    run = case.run
    groups = rings(run)
    for number, group in enumerate(groups, 1):
        with made.subgraph(name=f"cluster_{number}") as ring:
            heading = f"{f'ring {number}: ' if len(groups) > 1 else ''}in red, who can never go on"
            ring.attr(
                label=quoted(label(wrap(heading, 40))),
                labeljust="l",
                peripheries="0",
                bgcolor="transparent",
                fontcolor=FAINT,
                **{"class": "faint"},
            )
            names = _Names(ring, run, f"ring {number} ")
            for actor in group:
                _waits(run, actor, names, ring)
    return Picture(made.source, "dot", title)


def _waits(run: Run, actor: int, names: _Names, ring: graphviz.Digraph) -> None:
    """What one context waits for, and who would have to go on for it."""
    edge = ring.edge
    for blocked in run.blocked:
        if blocked.wait.actor != actor:
            continue
        lane, last, wait = run.lanes[actor], _last(run, actor), blocked.wait
        source = names.context(actor, *_context_lines(run, actor))
        at = f"at {place_words(last.step.span)}" if last else ""
        targets = [names.context(other, *_context_lines(run, other)) for other in wait.by]
        if wait.reason in ("interrupted", "displaced") or not wait.subject:
            for target in targets:
                edge(
                    source,
                    target,
                    label=quoted(_edge([_VERBS.get(wait.reason, wait.reason)])),
                    style="dashed",
                    **{"class": "edge"},
                )
            continue
        lock = names.lock(wait.subject)
        words = [_VERBS.get(wait.reason, wait.reason), at]
        edge(source, lock, label=quoted(_edge(words)), color=RED, fontcolor=RED, penwidth="2", **{"class": "ring"})
        for other, target in zip(wait.by, targets, strict=True):
            taken = _acquired(run, other, wait.subject)
            verb = _HOLDERS.get(wait.reason, "is held by")
            place = f"since {place_words(taken.step.span)}" if taken and verb == "is held by" else ""
            edge(lock, target, label=quoted(_edge([verb, place])), **{"class": "edge"})
        if not wait.by:
            edge(
                lock,
                source,
                label=quoted(_edge(["nobody else", f"can wake {lane.name}"])),
                style="dashed",
                **{"class": "edge"},
            )


def _context_lines(run: Run, number: int) -> list[str]:
    lane = run.lanes[number]
    return [lane.title] if lane.processor is None else [lane.title, f"on processor {lane.processor}"]


def rings(run: Run) -> list[list[int]]:
    """The blocked contexts in groups that have nothing to do with each other, each in the order of the run's waits."""
    group = {blocked.wait.actor: blocked.wait.actor for blocked in run.blocked}

    def root(actor: int) -> int:
        while group[actor] != actor:
            actor = group[actor]
        return actor

    for blocked in run.blocked:
        for other in blocked.wait.by:
            if other in group:
                group[root(other)] = root(blocked.wait.actor)
    found: defaultdict[int, list[int]] = defaultdict(list)
    for blocked in run.blocked:
        if blocked.wait.actor not in found[root(blocked.wait.actor)]:
            found[root(blocked.wait.actor)].append(blocked.wait.actor)
    return list(found.values())


def _lock_look(name: str) -> dict[str, str]:
    return {
        "label": quoted(label(wrap(name, _NAME), r"\n")),
        "shape": "ellipse",
        "style": "filled",
        "fillcolor": PALE_AMBER,
        "color": AMBER,
        "class": "bar",
        "tooltip": quoted(plain(name)),
    }


def _where(places: Sequence[Span], files: bool) -> str:
    """The lines of an arrow, a few of them; with their `files` where there are several."""
    said = list(dict.fromkeys(place_words(s) if files else str(s.line) for s in sorted(places, key=_place)))
    begin = "" if files else "lines " if len(said) > 1 else "line "
    more = len(said) - _SHOWN
    return begin + and_list([*said[:_SHOWN], *([f"{more} more"] if more > 0 else [])])


def _place(span: Span) -> tuple[str, int]:
    return span.source.name, span.start


def _edge(words: Iterable[str]) -> str:
    """The label of an edge, with room on its left so that it stands clear of its arrow."""
    return label([f"  {clean(line)}" for line in words if line])


def _last(run: Run, lane: int) -> Moment | None:
    return next((m for m in reversed(run.moments) if m.lane == lane), None)


def _acquired(run: Run, lane: int, lock: str) -> Moment | None:
    """Where a context last came to hold a lock."""
    found, held = None, False
    for moment in run.moments:
        if moment.lane == lane:
            now = any(name == lock for name, _, _ in moment.step.held)
            if now and not held:
                found = moment
            held = now
    return found


__all__ = ["cycle_picture", "cycles", "hierarchy_picture", "rings", "waits_picture"]
