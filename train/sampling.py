"""Which photos a step takes, in which order, and which of them are this process's.

All randomness follows from the seed and the place in the training (epoch, step, rank), so a
training that goes on from a checkpoint sees what it would have seen without the interruption.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor


class TooFew(Exception):
    """A process would get fewer than two photos a step; the sentence says what to change."""


@dataclass(frozen=True)
class Sampler:
    """Draws steps of `batch_size` photos of `count`; every rank computes the same ones."""

    count: int
    batch_size: int
    seed: int
    rank: int = 0
    ranks: int = 1

    def __post_init__(self) -> None:
        least = 2 * self.ranks  # batch norms need two
        if self.batch_size < least:
            raise TooFew(
                f"batch_size={self.batch_size} leaves some of {self.ranks} processes fewer than "
                f"two photos a step. Set batch_size to at least {least}."
            )
        if self.count < least:
            raise TooFew(
                f"{self.count} training photos are too few for {self.ranks} processes, which need "
                f"two each a step. Use fewer instances or GPUs, or add photos."
            )

    @property
    def steps(self) -> int:
        """Of an epoch; a last one that is too small for all processes is left out."""
        rest = self.count % self.batch_size
        return self.count // self.batch_size + (rest >= 2 * self.ranks)

    def epoch(self, epoch: int, first_step: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Row numbers, a step at a time from `first_step` on: the whole step's, and our own."""
        order = torch.randperm(self.count, generator=seeded(self.seed, epoch))
        for step in range(first_step, self.steps):
            rows = order[step * self.batch_size : (step + 1) * self.batch_size]
            yield rows, torch.tensor_split(rows, self.ranks)[self.rank]

    def variation(self, epoch: int, step: int) -> Generator:
        """The random source of one step's augmentation on this rank."""
        return seeded(self.seed, epoch, step, self.rank)


def seeded(*place: int) -> Generator:
    """A random source of its own for each place."""
    state = np.random.SeedSequence(place).generate_state(1, np.uint64)
    return Generator().manual_seed(int(state[0] >> np.uint64(1)))


def in_order(count: int, batch_size: int, rank: int, ranks: int) -> Iterator[slice]:
    """Our own parts of 0..count, as many on every rank; the last ones may be empty."""
    for start in range(0, count, batch_size * ranks):
        own = start + rank * batch_size
        yield slice(min(own, count), min(own + batch_size, count))
