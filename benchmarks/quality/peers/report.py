"""From predictions on several splits to one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from benchmarks.measuring import table
from genre_embeddings.evaluation.metrics import Interval, UserSums, bootstrap_over_users, interval

DRAWS = 2000


def summarise(
    sums: Mapping[str, Sequence[UserSums]],
    reference: str | None,
    generator: np.random.Generator,
    draws: int = DRAWS,
) -> dict[str, dict[str, Interval]]:
    """Errors of every model as means over splits, with 95 % intervals by bootstrap over users.

    A draw takes the same users for every model and every split, so differences are paired and
    a user that many splits test counts as the one person that it is.

    Args:
        sums: of each model, one entry a split; entry s of every model judges the same ratings.
        reference: the model that the others are compared to, if it is among them.
        generator: draws the users.
        draws: number of bootstrap draws.

    Returns:
        Of each model `mse`, `rmse`, `mae`, and where there is a reference, `difference` (mse of
        the reference - mse of the model) and `ratio` (the one divided by the other): below 0
        and below 1 the reference is ahead.
    """
    first = next(iter(sums.values()))
    ratings = np.stack([split.ratings for split in first])  # (S, U)
    totals = [np.stack([split.squared for split in splits]) for splits in sums.values()]
    totals += [np.stack([split.absolute for split in splits]) for splits in sums.values()]
    rows = np.concatenate([ratings, *totals])  # ((1 + 2K)·S, U)
    # The counts are drawn like any other sum, because every split has its own.
    drawn = bootstrap_over_users(rows, np.ones(rows.shape[1]), draws, generator)
    values = np.vstack([rows.mean(axis=1), drawn])  # row 0: the users as they are
    values = values.reshape(1 + draws, -1, len(first))  # (1 + draws, 1 + 2K, S)
    values = values[(values[:, 0] > 0).all(axis=1)]
    errors = values[:, 1:] / values[:, :1]
    squared, absolute = np.split(errors, 2, axis=1)  # (1 + draws, K, S) each

    mse, rmse, mae = squared.mean(2), np.sqrt(squared).mean(2), absolute.mean(2)
    quantities = {"mse": mse, "rmse": rmse, "mae": mae}
    names = list(sums)
    if reference in names:
        own = mse[:, [names.index(reference)]]
        quantities |= {"difference": own - mse, "ratio": own / mse}
    return {
        name: {
            quantity: interval(value[0, index], value[1:, index])
            for quantity, value in quantities.items()
        }
        for index, name in enumerate(names)
    }


def markdown(rows: Sequence[Mapping[str, Any]], reference: str | None) -> str:
    """The table that is printed and saved.

    Args:
        rows: of each model `title`, `fit_seconds`, `peak_mib` and what `summarise` found.
        reference: title of the model that the others are compared to, if it is among them.
    """
    lines = []
    for row in rows:
        line = {"model": row["title"]}
        line |= {name.upper(): _cell(row[name]) for name in ("mse", "rmse", "mae")}
        line |= {"fit s": f"{row['fit_seconds']:.1f}", "peak MiB": f"{row['peak_mib']:,.0f}"}
        if reference:
            itself = row["title"] == reference
            line[f"{reference} - model, MSE"] = "" if itself else _cell(row["difference"], "+")
            line[f"{reference} ÷ model, MSE"] = "" if itself else _cell(row["ratio"])
        lines.append(line)
    return table(lines) + "\n"


def _cell(found: Interval, sign: str = "") -> str:
    return f"{found.estimate:{sign}.4f} [{found.low:{sign}.4f}, {found.high:{sign}.4f}]"


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the table as JSON can hold it."""
    return {
        name: asdict(value) if isinstance(value, Interval) else value for name, value in row.items()
    }
