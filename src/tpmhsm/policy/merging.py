"""Alternatives merged by PolicyOR, which takes eight: how, and the way from each to the whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tpmhsm.policy.steps import MAX_BRANCHES, START, Or


@dataclass(frozen=True)
class Merged:
    """`digest`: of all alternatives together; `ways`: from each alternative's digest the PolicyORs
    that lead there, in their order. One alternative alone stands for itself.
    """

    digest: bytes
    ways: Mapping[bytes, tuple[Or, ...]]


def in_eights(digests: Sequence[bytes]) -> Merged:
    """Merge distinct digests in eights, from the left, level by level; one that is left alone rises
    as it is.
    """
    ways: dict[bytes, tuple[Or, ...]] = dict.fromkeys(digests, ())
    level: list[tuple[bytes, tuple[bytes, ...]]] = [(digest, (digest,)) for digest in digests]
    while len(level) > 1:
        risen = []
        for i in range(0, len(level), MAX_BRANCHES):
            eight = level[i : i + MAX_BRANCHES]
            leaves = tuple(leaf for _, below in eight for leaf in below)
            if len(eight) > 1:
                step = Or(tuple(digest for digest, _ in eight))
                ways.update((leaf, (*ways[leaf], step)) for leaf in leaves)
                risen.append((step.extend(START), leaves))
            else:
                risen.append(eight[0])
        level = risen
    return Merged(level[0][0], ways)


def first_direct(digests: Sequence[bytes], together: int) -> Merged:
    """Merge distinct digests so that as many of the first as can be stand in the last PolicyOR
    themselves; the others in PolicyORs of their own below it.

    `together` (1 or 2): this many neighbours belong together and always stand side by side.
    """
    if len(digests) <= MAX_BRANCHES:
        return in_eights(digests)
    room = MAX_BRANCHES
    while not (direct := _direct(len(digests), together, room)):
        room *= MAX_BRANCHES
    nested = [in_eights(digests[i : i + room]) for i in range(direct, len(digests), room)]
    top = Or((*digests[:direct], *(one.digest for one in nested)))
    ways: dict[bytes, tuple[Or, ...]] = dict.fromkeys(digests[:direct], (top,))
    for one in nested:
        ways.update((digest, (*way, top)) for digest, way in one.ways.items())
    return Merged(top.extend(START), ways)


def _direct(count: int, together: int, room: int) -> int:
    """How many stand directly when each of the other places has room for so many; 0: too little."""
    for direct in range(MAX_BRANCHES - together, 0, -together):
        if direct + (MAX_BRANCHES - direct) * room >= count:
            return direct
    return 0
