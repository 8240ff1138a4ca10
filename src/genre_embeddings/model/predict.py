"""Predicted ratings and their standard deviations, from a trained network."""

from __future__ import annotations

import numpy as np
import torch

from genre_embeddings.model.network import Network
from genre_embeddings.model.ratings import Slices
from genre_embeddings.seeds import seed_of

PREDICTION_BATCH = 16_384
POSTERIOR_DRAWS = 8
"""Posterior samples from which a prediction's standard deviation is estimated."""


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
        movie: dense movie indices, (n,); `network.unknown` is the unknown movie.
        time: seconds since 1970, (n,), or None if unknown.
        seed: of the posterior samples.
        own: whether these are the training ratings, in order; each is left out of its own inputs.
        membership: (M, G) genres to use instead of the movies' own, 0 or 1.
        draws: posterior samples for the standard deviation; 0 leaves the posterior's variance out.
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
