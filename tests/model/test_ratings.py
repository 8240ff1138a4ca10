"""Batches cover every rating once an epoch, in an order that the seed and the epoch decide."""

import torch

from genre_embeddings.model.ratings import ShuffledPositions, Slices
from genre_embeddings.seeds import seed_of


def test_an_epoch_sees_every_rating_once_in_batches_of_like_size():
    batches = list(ShuffledPositions(103, 10, seed=1))
    assert torch.cat(batches).sort().values.tolist() == list(range(103))
    assert {len(batch) for batch in batches} == {9, 10}


def test_the_order_depends_on_seed_and_epoch_alone():
    def order(seed: int, epoch: int) -> torch.Tensor:
        return torch.cat(list(ShuffledPositions(50, 8, seed, epoch)))

    assert torch.equal(order(1, 0), order(1, 0))
    assert not torch.equal(order(1, 0), order(1, 1))
    assert not torch.equal(order(1, 0), order(2, 0))


def test_slices_cover_all_once():
    assert list(Slices(5, 2)) == [slice(0, 2), slice(2, 4), slice(4, 5)]


def test_parts_of_one_seed_matter():
    parts = [(0, "a"), (1, "a"), (0, "b"), (0, "a", 0), (0, "a", 1), (1, "a", 0), (0, "a", 0, 1)]
    seeds = {seed_of(*part) for part in parts}
    assert len(seeds) == len(parts)
    assert all(0 <= seed < 2**63 for seed in seeds)
