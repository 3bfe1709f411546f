"""Short rings: the shortest that the formula of all rings allows, against trying all of them."""

from __future__ import annotations

import random
from itertools import permutations

import pytest
import z3

from modelcheck.engines.short import ShortRings
from modelcheck.mutual.cycles import Link, Ring, Stand, formula, link_name


def made_up(seed: int) -> Ring:
    """A few contexts with a few locks, some of whose roots do not go together."""
    pick = random.Random(seed)
    locks = [f"L{n}" for n in range(4)]
    stands = [
        Stand(
            pick.randrange(6),
            tuple((lock, pick.choice("xs?")) for lock in pick.sample(locks, pick.randrange(2))),
            (("var v", pick.randrange(2)),) if pick.random() < 0.3 else (),
        )
        for _ in range(8)
    ]
    links = []
    for _ in range(12):
        stand, ground = pick.sample(range(8), 2)
        source, target = ((lock, pick.choice("xxs")) for lock in pick.sample(locks, 2))
        links.append(Link(stand, source, target, ground if pick.random() < 0.3 else -1))
    pairs = frozenset((a, b) for a in range(6) for b in range(a + 1, 6) if pick.random() < 0.15)
    single = frozenset(n for n in range(6) if pick.random() < 0.5)
    barred = {(pick.randrange(8), pick.randrange(6)) for _ in range(pick.randrange(2))}
    barred = {(stand, root) for stand, root in barred if stands[stand].root != root}
    return Ring(stands, links, pairs, single, frozenset(barred))


def leaving(ring: Ring) -> dict[tuple[str, str], list[int]]:
    found: dict[tuple[str, str], list[int]] = {}
    for number, link in enumerate(ring.links):
        found.setdefault(link.source, []).append(number)
    return found


def allowed(ring: Ring, chosen: tuple[int, ...]) -> bool:
    """Whether just these links are a ring of the formula."""
    made = formula(ring)
    solver = z3.Solver()
    solver.from_string("\n".join(made.lines))
    terms = [z3.Bool(link_name(n)) if n in chosen else z3.Not(z3.Bool(link_name(n))) for n in range(len(ring.links))]
    return bool(solver.check(*terms, *map(z3.Bool, made.reasons)) == z3.sat)


def closed(ring: Ring, order: tuple[int, ...]) -> bool:
    links = [ring.links[n] for n in order]
    return all(one.target == other.source for one, other in zip(links, (*links[1:], links[0]), strict=True))


@pytest.mark.parametrize("seed", range(60))
def test_the_shortest_ring_is_found_if_there_is_one(seed: int) -> None:
    ring = made_up(seed)
    search = ShortRings(ring, leaving(ring))
    for start in range(len(ring.links)):
        rest = [n for n in range(len(ring.links)) if n != start]
        orders = ((start, *others) for size in range(4) for others in permutations(rest, size))
        shortest = next((o for o in orders if closed(ring, o) and allowed(ring, o)), None)
        found = search.through([start])
        assert (found is None) == (shortest is None)
        if found is not None and shortest is not None:
            assert len(found) == len(shortest)
            assert closed(ring, tuple(found))
            assert allowed(ring, tuple(found))


@pytest.mark.parametrize("seed", range(20))
def test_a_ring_whatever_is_held_is_never_longer(seed: int) -> None:
    ring = made_up(seed)
    search = ShortRings(ring, leaving(ring))
    for start in range(len(ring.links)):
        found, possible = search.whatever_held(start), search.through([start])
        assert found is None or closed(ring, tuple(found))
        assert possible is None or (found is not None and len(found) <= len(possible))
