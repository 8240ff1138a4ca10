"""What the genres are worth on test ratings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from genre_embeddings.evaluation import metrics
from genre_embeddings.inspection.question import Question
from genre_embeddings.model.network import Network
from genre_embeddings.model.predict import predict

EVERY = slice(None)
Gains = dict[str, metrics.Interval | None]


def value(
    q: Question, table: np.ndarray, names: list[str], rng: np.random.Generator
) -> tuple[Gains, dict[str, float], list[dict[str, Any]]]:
    """What the genres are worth on test: against a model without them, shuffled, one by one."""
    test = q.test
    warm = np.bincount(q.train.movie, minlength=q.network.unknown)[test.movie] > 0
    groups = {"warm_movies": warm, "cold_movies": ~warm}
    sets = torch.from_numpy(table.astype(np.float32))

    def errors(
        network: Network, membership: torch.Tensor | None = None, rows: slice | np.ndarray = EVERY
    ) -> np.ndarray:
        asked = (test.user[rows], test.movie[rows], test.timestamp[rows])
        mean, _ = predict(network, *asked, membership=membership)
        return mean - test.rating[rows]

    def rise(without: np.ndarray, rows: np.ndarray) -> metrics.Interval | None:
        """By how much the RMSE is larger without the genres; None where too few users rated."""
        user, pair = test.user[rows], (without, full[rows])
        sums = [metrics.user_sums(user, one, q.network.users) for one in pair]
        return metrics.error_interval(metrics.rmse_rise, sums, q.settings.bootstrap, rng)

    def costs() -> Iterator[dict[str, Any]]:
        for genre, name in enumerate(names):
            rows = np.flatnonzero(table[test.movie, genre])
            if rows.size == 0:
                continue
            without = sets.clone()
            without[:, genre] = 0
            changed = errors(q.network, without, rows)
            found = rise(changed, rows)
            yield {
                "genre": name,
                "ratings": rows.size,
                "rmse_rise": _rmse(changed) - _rmse(full[rows]),
                "low": found.low if found else None,
                "high": found.high if found else None,
            }

    full = errors(q.network)
    gains: Gains = {}
    if q.without_genres is not None:
        bare = errors(q.without_genres)
        gains = {name: rise(bare[rows], rows) for name, rows in groups.items()}
    shuffled = errors(q.network, sets[torch.from_numpy(rng.permutation(len(table)))])
    worth = {
        f"{name.removesuffix('_movies')}_rmse_rise_if_shuffled": _rmse(shuffled[rows])
        - _rmse(full[rows])
        for name, rows in groups.items()
        if rows.any()
    }
    return gains, worth, list(costs())


def _rmse(error: np.ndarray) -> float:
    return float(np.sqrt(np.mean(error**2)))
