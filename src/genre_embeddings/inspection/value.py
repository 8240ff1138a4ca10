"""What the genres are worth on test ratings."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from genre_embeddings.evaluation import metrics
from genre_embeddings.inspection.question import Question
from genre_embeddings.inspection.responses import spaced
from genre_embeddings.model.network import Network
from genre_embeddings.model.predict import predict

EVERY = slice(None)
MOST_RATINGS = 250_000
"""Test ratings that are predicted, evenly spaced, once for each genre; more would take minutes."""
Gains = dict[str, metrics.Interval | None]


def value(
    q: Question, membership: np.ndarray, names: list[str], rng: np.random.Generator
) -> tuple[Gains, dict[str, float], list[dict[str, Any]]]:
    """By how much the RMSE on test ratings, in stars, is larger without genres, in three ways.

    Args:
        q: the models and the ratings.
        membership: which genres each movie has, (M, G) bool.
        names: of the genres, G.
        rng: draws the users of the bootstraps, and which movies exchange their genres.

    Returns:
        By group of movies, for a model trained without genres, if there is one. As metrics, for
        this model when movies exchange their genre sets. For each genre a row, for this model when
        it is not told that movies have the genre. No interval where too few users rated.
    """
    test = q.test.part(spaced(len(q.test.user), MOST_RATINGS))
    warm = np.bincount(q.train.movie, minlength=q.network.unknown)[test.movie] > 0
    groups = {"warm_movies": warm, "cold_movies": ~warm}
    sets = torch.from_numpy(membership.astype(np.float32))

    def errors(
        network: Network, genres: torch.Tensor | None = None, rows: slice | np.ndarray = EVERY
    ) -> np.ndarray:
        asked = (test.user[rows], test.movie[rows], test.timestamp[rows])
        mean, _ = predict(network, *asked, membership=genres, posterior=False)
        return mean - test.rating[rows]

    def rise(without: np.ndarray, rows: np.ndarray) -> metrics.Interval | None:
        user, pair = test.user[rows], (without, full[rows])
        sums = [metrics.user_sums(user, error, q.network.users) for error in pair]
        return metrics.error_interval(metrics.rmse_rise, sums, q.settings.bootstrap, rng)

    full = errors(q.network)
    gains: Gains = {}
    if q.without_genres is not None:
        bare = errors(q.without_genres)
        gains = {name: rise(bare[rows], rows) for name, rows in groups.items()}
    exchanged = errors(q.network, sets[torch.from_numpy(rng.permutation(len(sets)))])
    if_shuffled = {
        f"{name.removesuffix('_movies')}_rmse_rise_if_shuffled": _rmse(exchanged[rows])
        - _rmse(full[rows])
        for name, rows in groups.items()
        if rows.any()
    }
    costs = []
    for genre, name in enumerate(names):
        rows = np.flatnonzero(membership[test.movie, genre])
        if rows.size == 0:
            continue
        without = sets.clone()
        without[:, genre] = 0
        changed = errors(q.network, without, rows)
        interval = rise(changed, rows)
        costs.append(
            {
                "genre": name,
                "ratings": rows.size,
                "rmse_rise": _rmse(changed) - _rmse(full[rows]),
                "low": interval.low if interval else None,
                "high": interval.high if interval else None,
            }
        )
    return gains, if_shuffled, costs


def _rmse(error: np.ndarray) -> float:
    return float(np.sqrt(np.mean(error**2)))
