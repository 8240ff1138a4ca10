"""Ratings in memory, and batches of their positions in random order.

A batch is a slice of one permutation, and its ratings are gathered on their device. A `DataLoader`
over a `TensorDataset` would fetch and stack them one by one, which is slow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from genre_embeddings import storage
from genre_embeddings.model.embedding import take_rows
from genre_embeddings.seeds import seed_of


@dataclass(frozen=True)
class Ratings:
    """Ratings as tensors, all (N,): dense indices int64, rating float32, time in seconds int64."""

    user: Tensor
    movie: Tensor
    rating: Tensor
    time: Tensor

    @classmethod
    def of(cls, side: storage.Side) -> Ratings:
        """The ratings of one side of the split, in the same order (by user, then time)."""
        types = np.int64, np.int64, np.float32, np.int64
        columns = zip(side, types, strict=True)
        return cls(*(torch.from_numpy(column.astype(dtype)) for column, dtype in columns))

    def part(self, rows: slice | Tensor) -> Ratings:
        """The chosen ratings."""
        return Ratings(*(take_rows(column, rows) for column in vars(self).values()))

    def to(self, device: torch.device) -> Ratings:
        """The ratings on another device."""
        return Ratings(*(column.to(device) for column in vars(self).values()))

    @property
    def count(self) -> int:
        """N."""
        return self.user.numel()


class ShuffledPositions:
    """Batches of positions among N ratings, (B,) int64 each, in the order of one epoch.

    The order depends on the seed and the epoch only, so that a resumed training gets the batches
    that it would have had without the interruption.
    """

    def __init__(self, count: int, batch_size: int, seed: int, epoch: int = 0) -> None:
        self.count, self.batch_size, self.seed, self.epoch = count, batch_size, seed, epoch

    def __len__(self) -> int:
        return math.ceil(self.count / self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        seed = seed_of(self.seed, "order of batches", self.epoch)
        order = torch.randperm(self.count, generator=torch.Generator().manual_seed(seed))
        # Batches of equal size: a last one of a few ratings would weigh as much as the others.
        yield from order.tensor_split(len(self))


def slices(stop: int, size: int) -> Iterator[slice]:
    """The positions up to `stop`, at most `size` at a time."""
    for first in range(0, stop, size):
        yield slice(first, min(first + size, stop))
