"""Do the statistics hold? `python -m benchmarks.statistics.simulation [--worlds 1000] [--doc]`.

Draws many worlds of which the truth is known, and counts how often intervals cover it, how often
p-values are small where there is nothing, and how near a noise ceiling comes to what can be
reached.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from scipy.stats import norm

from benchmarks.measuring import Row, command_line, report
from genre_embeddings.evaluation.metrics import (
    LEVEL,
    bootstrap_over_users,
    error_interval,
    interval,
    mse,
    rmse_rise,
    user_sums,
)
from genre_embeddings.inspection.agreement import agreement, correlation
from genre_embeddings.inspection.references import Residuals, measure_evidence
from genre_embeddings.inspection.similarity import Z, fisher_z, spearman
from genre_embeddings.inspection.slopes import (
    likelihood,
    mean_of,
    moments,
    movie_design,
    sum_up,
)

DRAWS = 1000
ALPHAS = (0.01, 0.05)
Generator = np.random.Generator
Pair = tuple[np.ndarray, np.ndarray]

# Ratings of a user: 1 + Poisson of a lognormal; the variance of their errors another lognormal,
# lower for those who rate much.
ACTIVITY, SPREAD, CAUTION, TOGETHER = np.log(8.0) - 0.5, 1.0, 0.6, -0.3
VARIANCE, BETTER, SHARED = 0.64, 0.99, 0.9


def luck(share: float, worlds: int) -> str:
    """Where 95 % of shares counted in so many worlds fall, if the share is right."""
    reach = norm.ppf(0.975) * np.sqrt(share * (1 - share) / worlds)
    return f"{share - reach:.1%} to {share + reach:.1%}"


def expected_mse() -> float:
    """Mean squared error per rating of infinitely many users."""
    alone = VARIANCE * np.exp(CAUTION**2 / 2)
    counts = np.exp(ACTIVITY + SPREAD**2 / 2)
    both = (SPREAD**2 + CAUTION**2 + 2 * SPREAD * CAUTION * TOGETHER) / 2
    return float((alone + VARIANCE * np.exp(ACTIVITY + both)) / (1 + counts))


def errors(users: int, rng: Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """User of each rating, (n,), and the errors of two models, the second 1 % better."""
    active, careful = rng.normal(size=(2, users))
    careful = TOGETHER * active + np.sqrt(1 - TOGETHER**2) * careful
    ratings = 1 + rng.poisson(np.exp(ACTIVITY + SPREAD * active))
    user = np.repeat(np.arange(users), ratings)
    scale = np.sqrt(VARIANCE * np.exp(CAUTION * careful))[user]
    common, one, other = rng.normal(size=(3, user.size))
    first = scale * (np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * one)
    second = BETTER * scale * (np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * other)
    return user, first, second


def error_rows(worlds: int) -> Iterator[Row]:
    """How often an interval over users covers the error that infinitely many users would show."""
    truth = expected_mse()
    truths = {
        "RMSE, plain percentiles": np.sqrt(truth),
        "RMSE": np.sqrt(truth),
        "difference of MSE": truth * (1 - BETTER**2),
        "difference of RMSE": np.sqrt(truth) * (1 - BETTER),
    }
    for users in (20, 50, 99, 300):
        rng = np.random.default_rng([1, users])
        hits = np.zeros(len(truths))
        for _ in range(worlds):
            user, first, second = errors(users, rng)
            one, other = user_sums(user, first, users), user_sums(user, second, users)
            drawn = bootstrap_over_users(one.squared[None], one.ratings, DRAWS, rng)[:, 0]
            found = (
                interval(np.sqrt(mse(one)), np.sqrt(drawn)),
                error_interval(np.sqrt, [one], DRAWS, rng),
                error_interval(np.subtract, [one, other], DRAWS, rng),
                error_interval(rmse_rise, [one, other], DRAWS, rng),
            )
            hits += [
                around is not None and around.low <= true <= around.high
                for around, true in zip(found, truths.values(), strict=True)
            ]
        shares = (f"{share:.1%}" for share in hits / worlds)
        yield {"users": users, **dict(zip(truths, shares, strict=True))}


def correlations(genres: int, rng: Generator) -> np.ndarray:
    return np.asarray(np.corrcoef(rng.normal(size=(genres, 5))))


def unrelated(genres: int) -> Callable[[Generator], Pair]:
    """Two similarities that know nothing of each other."""
    return lambda rng: (correlations(genres, rng), correlations(genres, rng))


def masked(rng: Generator) -> Pair:
    """Three in ten pairs of the reference are unknown."""
    known = np.triu(rng.random((12, 12)) < 0.7, 1)
    known = known | known.T | np.eye(12, dtype=bool)
    reference = np.where(known, correlations(12, rng), np.nan)
    return correlations(12, rng), reference


def families(rng: Generator) -> Pair:
    """Random families of three genres in both, so that most values are equal."""
    family = np.repeat(np.arange(4), 3)
    one, other = rng.permutation(family), rng.permutation(family)
    return 1.0 * (one[:, None] == one), 1.0 * (other[:, None] == other)


def attenuated(rng: Generator) -> Pair:
    """The similarities of the same genres are nearer to zero in both, the mean being 0.3."""
    share = np.sqrt(rng.uniform(0.1, 1, 12))
    one, other = (0.3 + 0.7 * correlations(12, rng) for _ in range(2))
    return one * np.outer(share, share), other * np.outer(share, share)


NULLS: dict[str, Callable[[Generator], Pair]] = {
    "4 genres (24 orders)": unrelated(4),
    "9 genres": unrelated(9),
    "18 genres": unrelated(18),
    "12 genres, 30 % of pairs masked": masked,
    "12 genres in 4 families, all ties": families,
    "12 genres, the same ones attenuated in both": attenuated,
}


def null_rows(worlds: int) -> Iterator[Row]:
    """How often the p-value is small although the similarities are unrelated."""
    for name, draw in NULLS.items():
        rng = np.random.default_rng(3)
        p = np.array([agreement(*draw(rng), 399, rng).p_value for _ in range(worlds)])
        shares = {f"p ≤ {alpha}": f"{np.mean(p <= alpha):.1%}" for alpha in ALPHAS}
        yield {"unrelated similarities": name, **shares}


class SlopeWorld(NamedTuple):
    """Users with genre slopes of a known covariance, who rate movies of one to three genres."""

    covariance: np.ndarray
    """Of users' slopes, (G, G)."""
    design: np.ndarray
    """Shares of the genres of each movie and a constant, (M, G + 1)."""
    similarity: np.ndarray
    """The true one, (G, G)."""

    def residuals(self, users: int, ratings: int, rng: Generator) -> Residuals:
        """Ratings with noise of 0.8 stars; slopes and noise have heavy tails (t, 5 degrees)."""
        movies, genres = len(self.design), len(self.covariance)
        pairs = np.unique(rng.integers(users * movies, size=users * ratings))
        user, movie = np.divmod(pairs, movies)
        tails = np.sqrt(5 / rng.chisquare(5, users) * 0.6)[:, None]
        slopes = tails * (rng.normal(size=(users, genres)) @ np.linalg.cholesky(self.covariance).T)
        noise = 0.8 * rng.standard_t(5, user.size) * np.sqrt(0.6)
        liking = (slopes[user] * self.design[movie, :-1]).sum(axis=1)
        return Residuals(user, movie, liking + noise)


def slope_world(genres: int, rng: Generator) -> SlopeWorld:
    """Three common factors and a specific variance for each genre; ten movies a genre."""
    factor = rng.normal(size=(genres, 3)) * 0.3
    covariance = factor @ factor.T + np.diag(rng.uniform(0.02, 0.2, genres))
    movies = 10 * genres
    membership = np.zeros((movies, genres))
    membership[np.arange(movies), np.arange(movies) % genres] = 1
    for share in (0.6, 0.3):
        more = np.flatnonzero(rng.random(movies) < share)
        membership[more, rng.integers(genres, size=more.size)] = 1
    scale = np.sqrt(np.diagonal(covariance))
    similarity = covariance / np.outer(scale, scale)
    return SlopeWorld(covariance, movie_design(membership), similarity)


def slope_rows(worlds: int) -> Iterator[Row]:
    """How near the mean of both estimates is to the truth, in order and size; its intervals."""
    for genres, users, ratings in ((18, 300, 10), (18, 1000, 30), (43, 1000, 30)):
        rng = np.random.default_rng([7, genres, users])
        upper, found = np.triu_indices(genres, 1), []
        for _ in range(worlds):
            world = slope_world(genres, rng)
            sums = sum_up(*world.residuals(users, ratings, rng), world.design)
            slopes = mean_of(moments(sums), likelihood(sums))
            truth = world.covariance[upper]
            size = slopes.covariance[:-1, :-1][upper] @ truth / (truth @ truth)
            values = slopes.correlations()[upper]
            known = np.isfinite(values)
            values, true = values[known], world.similarity[upper][known]
            apart = np.abs(fisher_z(values) - fisher_z(true))
            covered = np.mean(apart <= Z * slopes.fisher_error()[upper][known])
            found.append((size, spearman(values, true) or 0.0, covered))
        size, order, covered = np.mean(found, axis=0)
        error = np.std([row[0] for row in found]) / np.sqrt(worlds)
        yield {
            "genres": genres, "users": users, "ratings a user": ratings,
            "slope of covariances on the truth": f"{size:.3f} ± {error:.3f}",
            "rho with the truth": f"{order:.2f}", "intervals that cover": f"{covered:.0%}",
        }  # fmt: skip


def ceiling_rows(worlds: int) -> Iterator[Row]:
    """What a replicate of the likelihood's evidence promises, and what the truth then reaches."""
    for users, ratings in ((100, 50), (300, 50), (1000, 100)):
        rng = np.random.default_rng([5, users])
        rows = []
        for _ in range(worlds):
            world = slope_world(12, rng)
            every = world.residuals(users, ratings, rng)
            held = rng.random(len(every.user)) < 0.3
            sides = every.part(held), every.part(~held)
            measured = measure_evidence("likelihood", *sides, world.design, True, 10, rng)
            reached = correlation(measured.similarity, world.similarity)
            rows.append((measured.ceiling or 0.0, reached or 0.0))
        promised, reached = np.mean(rows, axis=0)
        apart = np.std([row[0] - row[1] for row in rows])
        yield {
            "users": users, "ratings a user": ratings,
            "ceiling": f"{promised:.2f}", "the truth reaches": f"{reached:.2f}",
            "difference": f"{promised - reached:+.3f} ± {apart:.3f}",
        }  # fmt: skip


def main() -> None:
    parser = command_line(__doc__, "docs/method/statistics.md")
    parser.add_argument("--worlds", type=int, default=1000, help="worlds behind most rows")
    options = parser.parse_args()
    worlds, few = options.worlds, max(2, options.worlds // 20)
    ranges = ", ".join(f"{luck(share, worlds)} for {share:.0%}" for share in (LEVEL, *ALPHAS))
    print(f"If a method is exact, 19 of 20 rows lie in these ranges: {ranges}")
    report(options.doc, "errors", error_rows(worlds))
    report(options.doc, "nulls", null_rows(worlds))
    report(options.doc, "ceiling", ceiling_rows(few))
    report(options.doc, "slopes", slope_rows(few))


if __name__ == "__main__":
    main()
