"""How good are the predictions? Errors, skill over baselines, calibration, and where they fail."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import polars as pl

from genre_embeddings.evaluation import metrics
from genre_embeddings.evaluation.bias import BiasModel
from genre_embeddings.seeds import seed_of

DRAWS = 1000
"""Bootstrap draws behind every interval."""
LEVELS = (0.5, 0.8, 0.95)
"""Nominal coverages whose actual coverage the metrics list."""
SUPPORT_EDGES = (0, 1, 3, 6, 11, 21, 51, 101, 201, 501, 1001, 10_001)
"""Lower ends of the groups of users and movies by their number of training ratings."""

Rows = list[dict[str, Any]]


class Predicted(NamedTuple):
    """Ratings and what the model predicts for them, all (n,).

    Attributes:
        user, movie: dense indices.
        rating: the actual rating.
        mean: predicted rating.
        deviation: predicted standard deviation of the rating.
    """

    user: np.ndarray
    movie: np.ndarray
    rating: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray

    def part(self, chosen: np.ndarray) -> Predicted:
        """The chosen ratings, by mask or index."""
        return Predicted(*(column[chosen] for column in self))

    def sums(self, users: int) -> metrics.UserSums:
        """Errors summed within each of so many users."""
        return metrics.user_sums(self.user, self.mean - self.rating, users)

    def errors(self) -> dict[str, Any]:
        """Number of ratings, MSE, RMSE and MAE; without ratings only their number."""
        if self.rating.size == 0:
            return {"ratings": 0}
        error = self.mean.astype(np.float64) - self.rating
        mse = float(np.mean(error**2))
        mae = float(np.mean(np.abs(error)))
        return {"ratings": self.rating.size, "mse": mse, "rmse": mse**0.5, "mae": mae}


def evaluate(
    sides: dict[str, Predicted],
    baseline: BiasModel,
    movies: pl.DataFrame,
    genres: pl.DataFrame,
    scale: tuple[float, float],
    seed: int,
) -> tuple[dict[str, Any], dict[str, Rows]]:
    """Measure predictions on train, validation and test.

    Args:
        sides: predictions for each side, by name; the ratings of `train` are counted, too.
        baseline: user + movie bias, fitted on train.
        movies, genres: the canonical tables.
        scale: lowest and highest rating.
        seed: draws the users of the bootstrap.

    Returns:
        Nested metrics, and the rows of each plot by its name.
    """
    test, train = sides["test"], sides["train"]
    seen = np.bincount(train.movie, minlength=movies.height)
    active = np.bincount(train.user, minlength=baseline.user.size)
    warm = seen[test.movie] > 0
    biases = test._replace(mean=baseline.predict(test.user, test.movie).clip(*scale))
    rivals = {
        "global_mean": test._replace(mean=np.full(test.rating.size, baseline.mean)),
        "user_movie_bias": biases,
    }
    rng = np.random.default_rng(seed_of(seed, "intervals of errors"))
    ours = test.sums(baseline.user.size)
    interval = metrics.error_interval(np.sqrt, [ours], DRAWS, rng)
    curve = [*(step / 20 for step in range(1, 20)), 0.99]  # with LEVELS among them
    coverage = metrics.coverage(test.rating, test.mean, test.deviation, curve)
    # Not `train`, which tables of experiments would take for the settings of that section, and not
    # `error`, by which DVC recognises metrics that it failed to read.
    content = {
        "test": {
            **test.errors(),
            "warm_movies": test.part(warm).errors(),
            "cold_movies": test.part(~warm).errors(),
            **_ends("rmse", interval),
            "baselines": {name: _compare(ours, rival, rng) for name, rival in rivals.items()},
            "coverage": {f"{level:.0%}": coverage[level] for level in LEVELS},
        },
        "validation": sides["validation"].errors(),
        "training": train.errors(),
    }
    rng = np.random.default_rng(seed_of(seed, "intervals of groups"))
    return content, {
        "histogram": _histogram(test, scale),
        "reliability": _reliability(test),
        "genres": _per_genre(test, biases, movies, genres),
        "support": [
            *_by_support(test, active[test.user], "ratings of the user", rng),
            *_by_support(test, seen[test.movie], "ratings of the movie", rng),
        ],
        "calibration": [{"level": level, "coverage": share} for level, share in coverage.items()],
    }


def _compare(ours: metrics.UserSums, rival: Predicted, rng: np.random.Generator) -> dict[str, Any]:
    """A baseline's errors, our skill over it, and the paired gain."""
    theirs, errors = rival.sums(ours.ratings.size), rival.errors()
    gain = metrics.error_interval(np.subtract, [theirs, ours], DRAWS, rng)
    skill = metrics.error_interval(metrics.skill, [ours, theirs], DRAWS, rng)
    del errors["ratings"]
    return {
        **errors,
        "skill": float(metrics.skill(metrics.mse(ours), errors["mse"])),
        **_ends("skill", skill),
        **_ends("mse_gain", gain),
    }


def _ends(name: str, interval: metrics.Interval | None) -> dict[str, Any]:
    """The ends of an interval as metrics; nothing where there is none."""
    return {f"{name}_low": interval.low, f"{name}_high": interval.high} if interval else {}


def _histogram(test: Predicted, scale: tuple[float, float]) -> Rows:
    """How often each rating was given, and predicted, in bins of one width."""
    low, high = scale
    width = _bin_width(test.rating, scale)
    edges = low + width * (np.arange(round((high - low) / width) + 2) - 0.5)
    rows = []
    for kind, values in (("actual", test.rating), ("predicted", test.mean)):
        counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
        rows += [
            {"rating": float(centre), "count": int(count), "kind": kind}
            for centre, count in zip((edges[:-1] + edges[1:]) / 2, counts, strict=True)
        ]
    return rows


def _bin_width(rating: np.ndarray, scale: tuple[float, float]) -> float:
    """Width of the histogram's bins, such that no bin collects more rating steps than another.

    The step is the largest of which all given ratings are a multiple, counted from the low end,
    and at most a star on a scale of up to 40 stars. There are about ten bins, more on a scale with
    more steps, and at most 41.
    """
    low, high = scale
    points = np.append(rating, high) - low
    if high - low <= 40:
        points = np.append(points, 1.0)
    hundredths = np.unique(np.round(points * 100)).astype(np.int64)
    step = int(np.gcd.reduce(hundredths)) / 100
    steps = round((high - low) / step) if step else 0
    if abs(steps * step - (high - low)) > 1e-6:
        return (high - low) / 9
    if steps < 9:
        return step / round(9 / steps)
    together = next(n for n in range(1, steps + 1) if steps % n == 0 and steps // n <= 40)
    return together * step


def _reliability(test: Predicted) -> Rows:
    """Mean actual rating where the model predicts about the same, in 20 bins of equal numbers."""
    order = np.argsort(test.mean, kind="stable")
    return [
        {
            "predicted": float(test.mean[chosen].mean(dtype=np.float64)),
            "actual": float(test.rating[chosen].mean(dtype=np.float64)),
            "count": chosen.size,
        }
        for chosen in np.array_split(order, min(20, order.size))
    ]


def _per_genre(
    test: Predicted, rival: Predicted, movies: pl.DataFrame, genres: pl.DataFrame
) -> Rows:
    """Errors on the test ratings of each genre's movies; a movie counts in all of its genres."""
    masks = [(name, movies["genres"].list.contains(k)) for k, name in enumerate(genres["name"])]
    masks.append(("(no genre)", movies["genres"].list.len() == 0))
    rows = []
    for genre, has_genre in masks:
        chosen = has_genre.to_numpy()[test.movie]
        if not chosen.any():
            continue
        part = test.part(chosen)
        row = {"genre": genre, **part.errors()}
        row["bias"] = float(np.mean(part.mean - part.rating, dtype=np.float64))
        row["skill"] = float(metrics.skill(row.pop("mse"), rival.part(chosen).errors()["mse"]))
        rows.append(row)
    return rows


def _by_support(test: Predicted, support: np.ndarray, kind: str, rng: np.random.Generator) -> Rows:
    """RMSE by training ratings of the user or movie; its interval where enough users rated."""
    rows = []
    for low, high in zip(SUPPORT_EDGES, [*SUPPORT_EDGES[1:], None], strict=True):
        part = test.part((support >= low) & (support < (high or np.inf)))
        if part.rating.size == 0:
            continue
        found = metrics.error_interval(np.sqrt, [part.sums(int(test.user.max()) + 1)], 200, rng)
        label = f"{low}+" if high is None else f"{low}" if high == low + 1 else f"{low}-{high - 1}"
        rows.append(
            {
                "ratings": label,
                "rmse": part.errors()["rmse"],
                "low": found.low if found else None,
                "high": found.high if found else None,
                "count": part.rating.size,
                "kind": kind,
            }
        )
    return rows
