"""Predicted ratings and their standard deviations, from a trained network."""

from __future__ import annotations

import numpy as np
import torch

from genre_embeddings.model.network import Network
from genre_embeddings.model.ratings import Slices
from genre_embeddings.seeds import seed_of

PREDICTION_BATCH = 16_384
POSTERIOR_DRAWS = 8
"""Draws of the embeddings behind a prediction's standard deviation."""


def predict(
    network: Network,
    user: np.ndarray,
    movie: np.ndarray,
    time: np.ndarray | None = None,
    seed: int = 0,
    own: bool = False,
    membership: torch.Tensor | None = None,
    draws: int = 0,
    sets: torch.Tensor | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Predicted ratings and their standard deviations, (n,) float32 each.

    Args:
        network: a trained network.
        user: dense user indices, (n,).
        movie: dense movie indices, (n,); `network.unknown` stands for a movie that is not known.
        time: seconds since 1970, (n,), or None where the time is not known.
        seed: draws from the posterior.
        own: these are the very training ratings, in order: none may see itself.
        membership: (M, G) genre sets to use in place of the movies' own.
        draws: posterior draws behind the standard deviation; 0 leaves the posterior's spread out.
        sets: (n, G) a genre set for each row, to use in place of its movie's own.
    """
    device = next(network.parameters()).device
    generator = torch.Generator(device).manual_seed(seed_of(seed, "prediction"))
    mean, deviation = np.empty((2, len(user)), np.float32)
    with network.cached_histories(len(user)):
        for rows in Slices(len(user), PREDICTION_BATCH):
            users, movies = (
                torch.from_numpy(column[rows].astype(np.int64)).to(device)
                for column in (user, movie)
            )
            times = (
                None if time is None else torch.from_numpy(time[rows].astype(np.int64)).to(device)
            )
            positions = torch.arange(rows.start, rows.stop, device=device) if own else None
            genres = None if membership is None else membership[movies]
            found = network.predict(
                users,
                movies,
                times,
                genres=genres if sets is None else sets[rows].to(device),
                own=positions,
                samples=draws,
                generator=generator,
            )
            mean[rows], deviation[rows] = (part.cpu().numpy() for part in found)
    return mean, deviation
