"""Batches cover every rating once an epoch, in an order that the seed and the epoch decide."""

import torch

from genre_embeddings.model.ratings import ShuffledPositions
from genre_embeddings.seeds import seed_of


def test_an_epoch_sees_every_rating_once_in_batches_of_like_size():
    first, again, epoch, seed = (
        list(ShuffledPositions(103, 10, *order)) for order in ((1, 0), (1, 0), (1, 1), (2, 0))
    )
    assert torch.cat(first).sort().values.tolist() == list(range(103))
    assert {len(batch) for batch in first} == {9, 10}
    assert torch.equal(torch.cat(first), torch.cat(again))
    assert not torch.equal(torch.cat(first), torch.cat(epoch))
    assert not torch.equal(torch.cat(first), torch.cat(seed))


def test_parts_of_one_seed_matter():
    parts = [(0, "a"), (1, "a"), (0, "b"), (0, "a", 0), (0, "a", 1), (1, "a", 0), (0, "a", 0, 1)]
    seeds = {seed_of(*part) for part in parts}
    assert len(seeds) == len(parts)
    assert all(0 <= seed < 2**63 for seed in seeds)
