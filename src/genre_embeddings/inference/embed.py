"""The embedding of a new movie, from its genres."""

from __future__ import annotations

import math

import numpy as np
import polars as pl

from genre_embeddings.errors import InputError
from genre_embeddings.inference.trained import Trained, require_finite


def embed(model: Trained, names: list[str], replica: int = 0) -> pl.DataFrame:
    """The vector of a new movie with these genres: the sum of theirs / sqrt(number of genres).

    Returns:
        dimension, value and deviation (of the posterior), a row for each dimension. Each replica
        has its own basis: vectors of different replicas cannot be compared.
    """
    model.require_replica(replica)
    genres = sorted({model.genre(name) for name in names})
    if not genres:
        raise InputError(
            f"no genre is given; allowed, separated by commas: {', '.join(model.genre_names)}."
        )
    mean, deviation = (part[genres, replica] for part in model.network.genre_posterior())
    root = math.sqrt(len(genres))
    return pl.DataFrame(
        {
            "dimension": np.arange(mean.shape[1]),
            "value": require_finite((mean.sum(0) / root).numpy()),
            "deviation": require_finite((deviation.square().sum(0).sqrt() / root).numpy()),
        }
    )
