"""Building an untrained network from prepared data and settings."""

from __future__ import annotations

import numpy as np
import polars as pl
import torch

from genre_embeddings import storage
from genre_embeddings.model.network import Network
from genre_embeddings.model.ratings import Ratings
from genre_embeddings.seeds import seed_of
from genre_embeddings.settings import Settings


def genre_sets(movies: pl.DataFrame, genres: int) -> torch.Tensor:
    """Which genres each movie has, (M, G) float32 of 0 and 1."""
    membership = np.zeros((movies.height, genres), dtype=np.float32)
    pairs = movies.select("movie", "genres").explode("genres", empty_as_null=False).drop_nulls()
    membership[pairs["movie"].to_numpy(), pairs["genres"].to_numpy()] = 1
    return torch.from_numpy(membership)


def build_network(
    settings: Settings, train: Ratings, membership: torch.Tensor, users: int, meta: storage.Meta
) -> Network:
    """An untrained network for these training ratings, with initial weights from the seed."""
    generator = torch.Generator().manual_seed(seed_of(settings.seed, "initial weights"))
    network = Network(
        settings.in_effect(meta.has_time, meta.sessions, membership.shape[1]),
        settings.train.for_ratings(train.count).replicas,
        (users, *membership.shape),
        (meta.min_rating, meta.max_rating),
        generator,
    )
    network.set_data(train, membership)
    return network
