"""Batches cover every rating once an epoch, in an order that the seed and the epoch decide."""

import numpy as np
import torch

from genre_embeddings.model.ratings import Ratings, ShuffledPositions, Slices
from genre_embeddings.seeds import seed_of
from genre_embeddings.storage import Side


def test_an_epoch_sees_every_rating_once_in_batches_of_like_size():
    batches = list(ShuffledPositions(103, 10, seed=1))
    assert torch.cat(batches).sort().values.tolist() == list(range(103))
    assert {len(batch) for batch in batches} == {9, 10}


def test_the_order_depends_on_seed_and_epoch_alone():
    first, second = (ShuffledPositions(50, 8, seed=1, epoch=epoch) for epoch in (0, 1))
    one, two = torch.cat(list(first)), torch.cat(list(second))
    assert not torch.equal(one, two)
    assert torch.equal(torch.cat(list(first)), one)  # a second look changes nothing
    assert not torch.equal(torch.cat(list(ShuffledPositions(50, 8, seed=2))), one)


def test_slices_cover_all():
    assert [(s.start, s.stop) for s in Slices(5, 2)] == [(0, 2), (2, 4), (4, 5)]
    assert list(Slices(0, 2)) == []


def test_parts_of_one_seed_matter():
    seeds = [
        seed_of(0, "prediction"),
        seed_of(1, "prediction"),
        seed_of(0, "initial weights"),
        seed_of(0, "order of batches"),
        seed_of(0, "order of batches", 0),
        seed_of(0, "order of batches", 1),
        seed_of(1, "order of batches", 0),
        seed_of(0, "training noise", 0),
        seed_of(0, "training noise", 0, 1),
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_ratings_as_tensors():
    side = Side(
        np.array([1, 0], np.uint32),
        np.array([2, 3], np.uint32),
        np.array([4.5, 1.0], np.float32),
        np.array([10**9, 5], np.int64),
    )
    ratings = Ratings.of(side)
    assert ratings.count == 2
    assert ratings.part(torch.tensor([1])).rating.tolist() == [1.0]
    assert ratings.user.dtype == ratings.time.dtype == torch.int64
