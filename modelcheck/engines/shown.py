"""A ring of waiting contexts as a schedule: who they are, why each waits, who has to be there besides."""

from __future__ import annotations

from modelcheck.engines.analyse import Open
from modelcheck.engines.finding import Deadlocked, mode_of
from modelcheck.engines.meeting import Meeting
from modelcheck.engines.schedule import Member
from modelcheck.mutual.positions import EXCLUSIVE, SHARED
from modelcheck.mutual.rings import Rings
from modelcheck.record import replace
from modelcheck.verdict import Choice, Trace


class Shown:
    """A ring as a schedule."""

    def __init__(self, meeting: Meeting, rings: Rings, runs: dict[int, Trace]) -> None:
        self.meeting = meeting
        self.runs = runs
        self.links = rings.links
        self.stands = rings.stands
        self.states = rings.states
        self.position_of = rings.position_of
        self.members: list[Member] = []
        self.index: dict[int, int] = {}

    def show(self, ring: list[int]) -> Deadlocked | Open:
        """A schedule that leads to the ring."""
        facts = self.meeting.facts
        for number in ring:
            link = self.links[number]
            position = facts.positions[self.position_of[link.stand]]
            kind = "calls" if position.sort == "role" else "waits"
            ways = [(link.stand, kind, position.wanted, mode_of(position))]
            if link.ground >= 0:
                writer = link.source[1] == "w"
                ways.insert(0, (link.ground, "waits" if writer else "held", link.source[0] if writer else "", ""))
            for stand, kind, subject, mode in ways:
                if stand not in self.runs:
                    return Open(f"whether {link.source[0]} is held there is not known")
                self._add(stand, kind, subject, mode)
        for number in ring:
            link = self.links[number]
            at = self.index[link.stand]
            if link.ground >= 0:
                self.members[at] = replace(self.members[at], over=self.index[link.ground])
            if link.source[1] == "role":
                caller = next(self.index[self.links[n].stand] for n in ring if self.links[n].target == link.source)
                level = self.members[caller].trace.steps[-1].irql
                run = _begun_at(self.members[at].trace, level)
                self.members[at] = replace(self.members[at], trace=run, over=caller, within=True)
        waits = self._waits(ring)
        reason = self._arrivals(ring)
        if reason:
            return Open(reason)
        unset = self._may_be_set(ring)
        if unset:
            return Open(f"somebody else may set {unset}")
        return self.meeting.together(self.members, waits)

    def _may_be_set(self, ring: list[int]) -> str:
        """An event of the ring that somebody may set without a lock held in it, "" if there is none."""
        kept: dict[str, int] = {}
        for number in ring:
            for stand in (self.links[number].stand, self.links[number].ground):
                if stand >= 0:
                    for lock, mode, _ in self.runs[stand].steps[-1].held:
                        kept[lock] = max(kept.get(lock, 0), SHARED if mode == "shared" else EXCLUSIVE)
        positions = [self.meeting.facts.positions[self.position_of[self.links[number].stand]] for number in ring]
        unset = [position.wanted for position in positions if position.sort == "event"]
        for position in positions:
            if position.sort == "event" and not self.meeting.all_need(position, kept, unset):
                return position.wanted
        return ""

    def _add(self, stand: int, kind: str, subject: str, mode: str) -> None:
        run = self.runs[stand]
        if stand not in self.index:
            self.index[stand] = len(self.members)
            self.members.append(Member(self.meeting.roots[self.stands[stand].root], run, kind, subject, mode))

    def _waits(self, ring: list[int]) -> list[tuple[int, str, str, tuple[int, ...]]]:
        """Who waits for whom."""
        holder = {self.links[n].source: self.links[n] for n in ring}
        waits: list[tuple[int, str, str, tuple[int, ...]]] = []
        for number in ring:
            link = self.links[number]
            position = self.meeting.facts.positions[self.position_of[link.stand]]
            following = holder[link.target]
            by = self.index[following.stand if following.ground < 0 else following.ground]
            reason = {"event": "event", "role": "called"}.get(position.sort, "held")
            if link.target[1] == "w":
                alone = [n for n, member in enumerate(self.members) if _holds(member, position.wanted, "exclusive")]
                reason, by = ("held", alone[0]) if alone else ("writer", by)
            waits.append((self.index[link.stand], reason, position.wanted, (by,)))
            if link.ground >= 0:
                kinds = {self.meeting.roots[self.stands[stand].root].kind for stand in (link.ground, link.stand)}
                displaced = "displaced" if kinds == {"thread"} else "interrupted"
                waits.append((self.index[link.ground], displaced, "", (self.index[link.stand],)))
        return waits

    def _arrivals(self, ring: list[int]) -> str:
        """Sees to it that every writer that keeps readers out comes to wait: that somebody holds the lock then. Why
        nobody can, "" otherwise."""
        for number in ring:
            link = self.links[number]
            if link.source[1] != "w":
                continue
            writer = link.stand if link.ground < 0 else link.ground
            lock = link.source[0]
            holders = [at for at, member in enumerate(self.members) if _holds(member, lock)]
            if not holders:
                holder = self._holder(lock)
                if holder is None:
                    return f"nobody was found who holds {lock} while a writer comes to wait for it"
                holders = [len(self.members)]
                self.members.append(holder)
            at = self.index[writer]
            last = len(self.members[at].trace.steps) - 1
            self.members[at] = replace(self.members[at], gates=((last, holders[0]),))
        return ""

    def _holder(self, lock: str) -> Member | None:
        """Somebody who holds a lock beside the members."""
        situation = self.meeting.situation
        taken = {name for member in self.members for name, _, _ in member.trace.steps[-1].held}
        for root, levels in enumerate(self.meeting.facts.holding):
            if any(not situation.overlap.meet(root, self.meeting.roots.index(m.root)) for m in self.members):
                continue
            for at, locks in sorted(levels.items()):
                for mode in (SHARED, EXCLUSIVE):
                    if locks.get(lock, 0) & mode:
                        candidates = situation.standing(root, at, ("lock", lock, mode))
                        free = [(f"hold {name}", 0) for name, _ in candidates.held if name in taken and name != lock]
                        run = self.meeting.run_to(candidates, tuple(sorted([*free, (f"hold {lock}", mode)])))
                        if run is not None:
                            return Member(self.meeting.roots[root], run, "held", "", "")
        return None


def _begun_at(run: Trace, level: int) -> Trace:
    """The run begun at another level: what is at the level of the start now is at the new one."""
    before = next((c.value for c in run.start if c.name == "irql"), level)
    start = (*(c for c in run.start if c.name != "irql"), Choice("irql", level))
    steps = list(run.steps)
    for number, step in enumerate(steps):
        if step.irql != before:
            break
        steps[number] = replace(step, irql=level)
    return replace(run, start=tuple(sorted(start, key=lambda c: c.name)), steps=tuple(steps))


def _holds(member: Member, lock: str, mode: str = "") -> bool:
    """Whether a member holds a lock at its place, in any mode where none is given."""
    return any(name == lock and mode in ("", how) for name, how, _ in member.trace.steps[-1].held)
