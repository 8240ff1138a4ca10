"""From errors on several splits to one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from genre_embeddings.evaluation.metrics import Interval, UserSums, bootstrap_over_users, interval

DRAWS = 2000


def summarise(
    sums: Mapping[str, Sequence[UserSums]], reference: str, generator: np.random.Generator
) -> dict[str, dict[str, Interval]]:
    """Errors of every model as means over splits, with 95 % intervals by bootstrap over users.

    A draw takes the same users for every model and every split, so ratios are paired and a user
    that many splits test counts as the one person that it is.

    Args:
        sums: of each model, one entry a split; entry s of every model is about the same ratings.
        reference: the model that the others are compared to, if it is among them.
        generator: draws the users.

    Returns:
        Of each model `mse`, `rmse`, `mae`, and where there is a reference, its MSE divided by
        the model's, `ratio`.
    """
    first = next(iter(sums.values()))
    rows = np.concatenate(
        [np.stack([split.ratings for split in first])]
        + [np.stack([split.squared for split in splits]) for splits in sums.values()]
        + [np.stack([split.absolute for split in splits]) for splits in sums.values()]
    )  # ((1 + 2K)·S, U)
    # The counts are drawn like any other sum, because every split has its own.
    drawn = bootstrap_over_users(rows, np.ones(rows.shape[1]), DRAWS, generator)
    values = np.vstack([rows.mean(axis=1), drawn])  # row 0: the users as they are
    values = values.reshape(1 + DRAWS, -1, len(first))  # (1 + draws, 1 + 2K, S)
    values = values[(values[:, 0] > 0).all(axis=1)]
    squared, absolute = np.split(values[:, 1:] / values[:, :1], 2, axis=1)  # (1 + draws, K, S)

    mse, names = squared.mean(2), list(sums)
    quantities = {"mse": mse, "rmse": np.sqrt(squared).mean(2), "mae": absolute.mean(2)}
    if reference in names:
        quantities["ratio"] = mse[:, [names.index(reference)]] / mse
    return {
        name: {
            quantity: interval(value[0, index], value[1:, index])
            for quantity, value in quantities.items()
        }
        for index, name in enumerate(names)
    }


def cell(found: Interval) -> str:
    """An estimate with its interval."""
    return f"{found.estimate:.4f} [{found.low:.4f}, {found.high:.4f}]"
