"""Which photos are the same picture, and which look alike."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from scripts.data.look import Look

# Bits of 64 that may differ. Photos whose hashes differ in no more agree in one of the four bands.
NEAR_BITS = 3
BAND_BITS = 16
# A hash of nearly one value is that of a picture without structure: fog, a blank page.
STRUCTURE_BITS = 8
_ONES = np.array([bin(value).count("1") for value in range(1 << 16)], np.uint8)

Group = tuple[int, ...]
"""Indices of photos, ascending."""


class Groups:
    """Indices that have been joined, directly or through others."""

    def __init__(self, count: int) -> None:
        self._parents = list(range(count))

    def root(self, index: int) -> int:
        while self._parents[index] != index:
            self._parents[index] = index = self._parents[self._parents[index]]
        return index

    def join(self, members: Iterable[int]) -> None:
        first, *others = (self.root(member) for member in members)
        for other in others:
            self._parents[self.root(other)] = self.root(first)

    def of_several(self) -> list[Group]:
        by_root: dict[int, list[int]] = defaultdict(list)
        for index in range(len(self._parents)):
            by_root[self.root(index)].append(index)
        return [tuple(members) for members in by_root.values() if len(members) > 1]


def same_pictures(
    looks: Sequence[Look], whole: Callable[[Sequence[int]], Iterable[bytes | None]]
) -> Groups:
    """Joined are photos of equal bytes, of equal pixels as the network sees them, or of equal
    pixels at full size: `whole` gives those digests, and is asked only for photos that look alike.
    """
    groups = Groups(len(looks))
    readable = [index for index, look in enumerate(looks) if not look.reason]
    for key in ("content", "square"):
        _join_equal(groups, readable, [getattr(looks[index], key) for index in readable])
    suspects = sorted(
        {
            index
            for pair in near_pairs(looks)
            if looks[pair[0]].shape == looks[pair[1]].shape
            and groups.root(pair[0]) != groups.root(pair[1])
            for index in pair
        }
    )
    _join_equal(groups, suspects, list(whole(suspects)))
    return groups


def look_alikes(looks: Sequence[Look], same: Groups) -> list[Group]:
    """Groups of photos that differ, but hardly."""
    alike = Groups(len(looks))
    for one, other in near_pairs(looks):
        if _has_structure(looks[one].dhash) and same.root(one) != same.root(other):
            alike.join((one, other))
    return alike.of_several()


def near_pairs(looks: Sequence[Look]) -> Iterator[tuple[int, int]]:
    """Chains rather than all pairs where many photos share one hash; a pair may come twice."""
    owners: dict[int, list[int]] = defaultdict(list)
    for index, look in enumerate(looks):
        if not look.reason:
            owners[look.dhash].append(index)
    for members in owners.values():
        yield from _chains(looks, members)
    hashes = np.array(sorted(owners), np.uint64)
    for shift in range(0, 64, BAND_BITS):
        for bucket in _buckets(hashes, shift):
            for one, other in _near(bucket):
                yield from _across(looks, owners[one], owners[other])


def _chains(looks: Sequence[Look], members: list[int]) -> Iterator[tuple[int, int]]:
    """Neighbours of the same shape, then of any."""
    by_shape: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index in members:
        by_shape[looks[index].shape].append(index)
    for alike in by_shape.values():
        yield from pairwise(alike)
    firsts = [alike[0] for alike in by_shape.values()]
    yield from pairwise(firsts)


def _across(looks: Sequence[Look], ones: list[int], others: list[int]) -> Iterator[tuple[int, int]]:
    """One pair of each shape that both have, else one pair of any."""
    shapes = {looks[index].shape: index for index in reversed(ones)}
    shared = {
        looks[index].shape: (shapes[looks[index].shape], index)
        for index in others
        if looks[index].shape in shapes
    }
    yield from shared.values() or [(ones[0], others[0])]


def _buckets(hashes: NDArray[np.uint64], shift: int) -> Iterator[NDArray[np.uint64]]:
    """Hashes that agree in the band at `shift`."""
    bands = (hashes >> np.uint64(shift)) & np.uint64((1 << BAND_BITS) - 1)
    order = np.argsort(bands, kind="stable")
    edges = np.flatnonzero(np.diff(bands[order])) + 1
    yield from (bucket for bucket in np.split(hashes[order], edges) if len(bucket) > 1)


def _near(bucket: NDArray[np.uint64]) -> Iterator[tuple[int, int]]:
    for place, one in enumerate(bucket[:-1]):
        rest = bucket[place + 1 :]
        differing = _ONES[(rest ^ one).view(np.uint16)].reshape(-1, 4).sum(axis=1)
        yield from ((int(one), int(other)) for other in rest[differing <= NEAR_BITS])


def _has_structure(value: int) -> bool:
    return STRUCTURE_BITS <= bin(value).count("1") <= 64 - STRUCTURE_BITS


def _join_equal(groups: Groups, indices: Sequence[int], keys: Sequence[bytes | None]) -> None:
    by_key: dict[bytes, list[int]] = defaultdict(list)
    for index, key in zip(indices, keys, strict=True):
        if key is not None:
            by_key[key].append(index)
    for members in by_key.values():
        groups.join(members)
