"""Errors of predictions, from sums per user, with intervals by bootstrap over users.

A user's ratings are not independent of each other, so users, not ratings, are what is drawn
again (Efron & Tibshirani, *An Introduction to the Bootstrap*, 1993, chapter 8). Every error is a
ratio of sums over users; once the sums stand, an interval costs no second pass over the ratings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import ndtr, ndtri, stdtrit

_CELLS = 4_000_000  # most (draw, unit) cells held at once: 32 MB of float64
_UNITS = 10_000  # most units that are drawn
_FEW = 100  # users from which on the correction is below 2 % of the width, less than luck's share


@dataclass(frozen=True)
class UserSums:
    """Errors of a set of predictions, summed within each user.

    Attributes:
        ratings: number of ratings, (U,) float64.
        squared: sum of squared errors, (U,) float64, in squared rating units.
        absolute: sum of absolute errors, (U,) float64, in rating units.
    """

    ratings: np.ndarray
    squared: np.ndarray
    absolute: np.ndarray


@dataclass(frozen=True)
class Interval:
    """An estimate between the ends of its interval; `level` is the interval's nominal coverage."""

    estimate: float
    low: float
    high: float
    level: float


def user_sums(user: np.ndarray, error: np.ndarray, users: int) -> UserSums:
    """Sum errors within users.

    Args:
        user: dense user index of each rating, (n,) integer below `users`.
        error: prediction - rating, (n,), in rating units.
        users: number of users, U.
    """
    error = np.asarray(error, dtype=np.float64)
    return UserSums(
        ratings=np.bincount(user, minlength=users).astype(np.float64),
        squared=np.bincount(user, weights=error**2, minlength=users),
        absolute=np.bincount(user, weights=np.abs(error), minlength=users),
    )


def mse(sums: UserSums) -> float | None:
    """Mean squared error over all ratings; None without ratings."""
    return _ratio(sums.squared, sums.ratings)


def rmse(sums: UserSums) -> float | None:
    """Root of the mean squared error over all ratings; None without ratings."""
    mean = mse(sums)
    return None if mean is None else math.sqrt(mean)


def mae(sums: UserSums) -> float | None:
    """Mean absolute error over all ratings; None without ratings."""
    return _ratio(sums.absolute, sums.ratings)


def skill(mse: float, baseline_mse: float) -> float | None:
    """Share of a baseline's mean squared error that is saved: 1 - mse / baseline_mse.

    1 is perfect, 0 no better than the baseline, below 0 worse; None where the baseline makes no
    error, because then there is nothing to save.
    """
    return 1 - mse / baseline_mse if baseline_mse > 0 else None


def bootstrap_over_users(
    totals: np.ndarray, ratings: np.ndarray, draws: int, generator: np.random.Generator
) -> np.ndarray:
    """Means per rating under users drawn with replacement.

    All rows of `totals` see the same drawn users, so that differences between rows are paired.
    Users without ratings are left out before the draw. More than 10,000 users are thrown
    together at random into 10,000 groups, and groups are drawn: being as independent as users,
    they give the same intervals, and 160,000 users take a fraction of a second.

    Args:
        totals: sums within each user, (K, U); one row for each quantity, such as
            `UserSums.squared` of one model.
        ratings: number of ratings of each user, (U,), at least one of them above 0.
        draws: number of bootstrap draws, 1 or more.
        generator: groups and draws the users.

    Returns:
        (draws, K) float64: of each draw, Σ totals / Σ ratings over the drawn users.

    Raises:
        ValueError: no user has a rating.
    """
    rated = np.asarray(ratings) > 0
    if not rated.any():
        raise ValueError("bootstrap_over_users: no user has a rating")
    columns = np.vstack([np.asarray(totals)[:, rated], ratings[rated]]).astype(np.float64).T
    if len(columns) > _UNITS:
        starts = np.arange(_UNITS) * len(columns) // _UNITS
        columns = np.add.reduceat(columns[generator.permutation(len(columns))], starts)
    units, width = columns.shape
    sums = np.empty((draws, width))
    step = _CELLS // units
    for start in range(0, draws, step):
        rows = min(step, draws - start)
        drawn = generator.integers(units, size=(rows, units))
        drawn += np.arange(rows)[:, None] * units
        times = np.bincount(drawn.ravel(), minlength=rows * units).reshape(rows, units)
        sums[start : start + rows] = times.astype(np.float64) @ columns  # (rows, K + 1)
    return sums[:, :-1] / sums[:, -1:]


def interval(
    estimate: float, draws: np.ndarray, level: float = 0.95, users: int | None = None
) -> Interval:
    """Percentile interval of bootstrap draws around the estimate from all users.

    Draws of few users spread too little. Of fewer than 100 the ends are moved out to where a t
    distribution would have them (expanded percentile interval: Hesterberg, "What teachers should
    know about the bootstrap", *The American Statistician* 69, 2015).

    Args:
        estimate: from all users.
        draws: the same from each draw, (n,).
        level: nominal coverage.
        users: number of users that were drawn, 2 or more; None takes the draws as they are.
    """
    tail = (1 - level) / 2
    if users is not None and users < _FEW:
        tail = float(ndtr(math.sqrt(users / (users - 1)) * stdtrit(users - 1, tail)))
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Interval(float(estimate), float(low), float(high), level)


def rmse_interval(
    sums: UserSums, draws: int, generator: np.random.Generator, level: float = 0.95
) -> Interval | None:
    """The RMSE with its interval by `draws` bootstrap draws of users.

    None for ratings of fewer than two users: one user does not tell how users differ.
    """
    estimate, users = rmse(sums), int((sums.ratings > 0).sum())
    if estimate is None or users < 2:
        return None
    drawn = bootstrap_over_users(sums.squared[None], sums.ratings, draws, generator)
    return interval(estimate, np.sqrt(drawn[:, 0]), level, users)


def paired_difference(
    first: UserSums,
    second: UserSums,
    draws: int,
    generator: np.random.Generator,
    error: Literal["mse", "rmse"] = "rmse",
    level: float = 0.95,
) -> Interval | None:
    """How much larger the first error is than the second, on the same ratings.

    Above 0, the second model is better. The interval says what other users would have shown; it
    does not know what another seed of training would have shown.

    Args:
        first: sums of the model that is to be beaten.
        second: sums of the other model over the same ratings.
        draws: number of bootstrap draws.
        generator: draws the users.
        error: the error that is compared.
        level: nominal coverage.

    Returns:
        The difference in squared rating units (mse) or rating units (rmse); None for ratings of
        fewer than two users, as one does not tell how users differ.

    Raises:
        ValueError: the two models were not judged on the same ratings.
    """
    if not np.array_equal(first.ratings, second.ratings):
        raise ValueError("paired_difference: the two sums count different ratings")
    totals = np.stack([first.squared, second.squared])  # (2, U)
    users = int((first.ratings > 0).sum())
    if users < 2:
        return None
    observed = totals.sum(axis=1) / first.ratings.sum()  # (2,)
    drawn = bootstrap_over_users(totals, first.ratings, draws, generator)  # (draws, 2)
    if error == "rmse":
        observed, drawn = np.sqrt(observed), np.sqrt(drawn)
    return interval(observed[0] - observed[1], drawn[:, 0] - drawn[:, 1], level, users)


def skill_interval(
    ours: UserSums,
    baseline: UserSums,
    draws: int,
    generator: np.random.Generator,
    level: float = 0.95,
) -> Interval | None:
    """The skill with its interval by `draws` bootstrap draws of users, paired.

    None for ratings of fewer than two users, or where the baseline makes no error.
    """
    estimate = skill(mse(ours) or 0.0, mse(baseline) or 0.0)
    users = int((ours.ratings > 0).sum())
    if estimate is None or users < 2:
        return None
    totals = np.stack([ours.squared, baseline.squared])
    own, other = bootstrap_over_users(totals, ours.ratings, draws, generator).T
    # Drawn users of whom the baseline makes no error leave nothing to save.
    share = 1 - np.divide(own, other, out=np.ones_like(own), where=other > 0)
    return interval(estimate, share, level, users)


def coverage(
    rating: np.ndarray,
    mean: np.ndarray,
    std: np.ndarray,
    levels: Sequence[float] = (0.5, 0.8, 0.95),
) -> dict[float, float]:
    """Share of ratings inside the central normal interval of each level.

    A model that knows how sure it is covers each level's own share; less means overconfident.

    Args:
        rating: observed ratings, (n,), not empty.
        mean: predicted means, (n,).
        std: predicted standard deviations, noise included, (n,), 0 or more.
        levels: nominal coverages, each between 0 and 1.

    Raises:
        ValueError: there are no ratings.
    """
    if len(rating) == 0:
        raise ValueError("coverage: there are no ratings")
    distance = np.abs(np.asarray(rating, dtype=np.float64) - mean)
    return {
        level: float(np.mean(distance <= float(ndtri((1 + level) / 2)) * np.asarray(std)))
        for level in levels
    }


def _ratio(totals: np.ndarray, ratings: np.ndarray) -> float | None:
    count = float(ratings.sum())
    return float(totals.sum()) / count if count else None
