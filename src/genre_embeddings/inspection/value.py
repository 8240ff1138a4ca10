"""What the genres are worth on test ratings."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from genre_embeddings.evaluation import metrics
from genre_embeddings.inspection.question import Question
from genre_embeddings.model.network import Network
from genre_embeddings.model.predict import predict

FEWEST_USERS = 20
"""Below this many users, bootstrap intervals are too narrow."""


def value(
    q: Question, table: np.ndarray, names: list[str], rng: np.random.Generator
) -> tuple[dict[str, metrics.Interval | None], dict[str, float], list[dict[str, Any]]]:
    """What the genres are worth on test: against a model without them, shuffled, one by one."""
    test = q.test
    count = np.bincount(q.train.movie, minlength=q.network.unknown)[test.movie]
    groups = {"warm movies": count > 0, "cold movies": count == 0}
    sets = torch.from_numpy(table.astype(np.float32))

    def errors(network: Network, membership: torch.Tensor | None, rows: np.ndarray) -> np.ndarray:
        mean, _ = predict(
            network,
            test.user[rows],
            test.movie[rows],
            test.timestamp[rows],
            membership=membership,
        )
        return mean - test.rating[rows]

    everything = np.arange(test.user.size)
    full = errors(q.network, None, everything)
    gains: dict[str, metrics.Interval | None] = {}
    if q.without_genres is not None:
        bare = errors(q.without_genres, None, everything)
        for name, chosen in groups.items():
            enough = np.unique(test.user[chosen]).size >= FEWEST_USERS
            gains[name] = (
                _gain(test.user[chosen], bare[chosen], full[chosen], q, rng) if enough else None
            )
    shuffled = errors(q.network, sets[torch.from_numpy(rng.permutation(len(table)))], everything)
    worth = {
        f"{name.split()[0]}_rmse_rise_if_shuffled": float(
            np.sqrt(np.mean(shuffled[chosen] ** 2)) - np.sqrt(np.mean(full[chosen] ** 2))
        )
        for name, chosen in groups.items()
        if chosen.any()
    }
    costs: list[dict[str, Any]] = []
    for genre, name in enumerate(names):
        rows = np.flatnonzero(table[test.movie, genre])
        if rows.size == 0:
            continue
        without = sets.clone()
        without[:, genre] = 0
        changed = errors(q.network, without, rows)
        gain = _gain(test.user[rows], changed, full[rows], q, rng)
        sure = gain is not None and np.unique(test.user[rows]).size >= FEWEST_USERS
        rise = np.sqrt(np.mean(changed**2)) - np.sqrt(np.mean(full[rows] ** 2))
        costs.append(
            {
                "genre": name,
                "ratings": rows.size,
                "rmse_rise": float(rise),
                "low": gain.low if sure and gain else None,
                "high": gain.high if sure and gain else None,
            }
        )
    return gains, worth, costs


def _gain(
    user: np.ndarray, without: np.ndarray, full: np.ndarray, q: Question, rng: np.random.Generator
) -> metrics.Interval | None:
    """By how much the RMSE is larger without; None where there is no rating to judge."""
    if user.size == 0:
        return None
    users = q.network.users
    return metrics.paired_difference(
        metrics.user_sums(user, without, users),
        metrics.user_sums(user, full, users),
        q.settings.bootstrap,
        rng,
        error="rmse",
    )
