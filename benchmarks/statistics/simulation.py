"""Do the statistics hold? `python -m benchmarks.statistics.simulation [--worlds 1000] [--doc]`.

Draws many worlds whose true values are known. Counts how often intervals cover the true value and
how often p-values are small without an effect, and measures the errors of the noise ceiling and of
the estimated covariances.
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

# A user has 1 + Poisson(lognormal) ratings. The variance of their errors is lognormal too, and
# lower for users with many ratings.
ACTIVITY, SPREAD, CAUTION, TOGETHER = np.log(8.0) - 0.5, 1.0, 0.6, -0.3
VARIANCE, BETTER, SHARED = 0.64, 0.99, 0.9


def luck(share: float, worlds: int) -> str:
    """The range of 95 % of the shares counted in so many worlds, if the share is right."""
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
    common, *own = rng.normal(size=(3, user.size))
    first, second = (scale * (np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * one) for one in own)
    return user, first, BETTER * second


def error_rows(worlds: int) -> Iterator[Row]:
    """How often an interval over users covers the error of infinitely many users."""
    truth = expected_mse()
    truths = {
        "RMSE, plain percentiles": np.sqrt(truth),
        "RMSE": np.sqrt(truth),
        "difference of MSE": truth * (1 - BETTER**2),
        "difference of RMSE": np.sqrt(truth) * (1 - BETTER),
    }
    for users in (20, 50, 99, 300):
        rng = np.random.default_rng([1, users])
        hits = dict.fromkeys(truths, 0)
        for _ in range(worlds):
            user, *found = errors(users, rng)
            one, other = (user_sums(user, error, users) for error in found)
            drawn = bootstrap_over_users(one.squared[None], one.ratings, DRAWS, rng)[:, 0]
            intervals = (
                interval(np.sqrt(mse(one)), np.sqrt(drawn)),
                error_interval(np.sqrt, [one], DRAWS, rng),
                error_interval(np.subtract, [one, other], DRAWS, rng),
                error_interval(rmse_rise, [one, other], DRAWS, rng),
            )
            for (name, true), around in zip(truths.items(), intervals, strict=True):
                hits[name] += around is not None and around.low <= true <= around.high
        yield {"users": users} | {name: f"{count / worlds:.1%}" for name, count in hits.items()}


def correlations(genres: int, rng: Generator) -> np.ndarray:
    return np.asarray(np.corrcoef(rng.normal(size=(genres, 5))))


def unrelated(genres: int) -> Callable[[Generator], Pair]:
    """Two independent similarities."""
    return lambda rng: (correlations(genres, rng), correlations(genres, rng))


def masked(rng: Generator) -> Pair:
    """Three in ten pairs of the reference are unknown."""
    known = np.triu(rng.random((12, 12)) < 0.7, 1)
    known = known | known.T | np.eye(12, dtype=bool)
    reference = np.where(known, correlations(12, rng), np.nan)
    return correlations(12, rng), reference


def families(rng: Generator) -> Pair:
    """Four random families of three genres in each, so that most values are equal."""
    one, other = (rng.permutation(np.repeat(np.arange(4), 3)) for _ in range(2))
    return 1.0 * (one[:, None] == one), 1.0 * (other[:, None] == other)


def attenuated(rng: Generator) -> Pair:
    """The same genres have similarities nearer to zero in both; the mean before is 0.3."""
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

    covariance: np.ndarray  # of users' slopes, (G, G)
    design: np.ndarray  # genre shares of each movie and a constant, (M, G + 1)
    similarity: np.ndarray  # true correlations of the slopes, (G, G)

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
    """Size and order of the estimated covariances against the truth, and their intervals."""
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
        size, rho, covered = np.transpose(found)  # (worlds,) each
        yield {
            "genres": genres, "users": users, "ratings a user": ratings,
            "slope of covariances on the truth":
                f"{size.mean():.3f} ± {size.std() / np.sqrt(worlds):.3f}",
            "rho with the truth": f"{rho.mean():.2f}",
            "intervals that cover": f"{covered.mean():.0%}",
        }  # fmt: skip


def ceiling_rows(worlds: int) -> Iterator[Row]:
    """The noise ceiling by likelihood, and the rho that the true similarity reaches."""
    for users, ratings in ((100, 50), (300, 50), (1000, 100)):
        rng = np.random.default_rng([5, users])
        found = []
        for _ in range(worlds):
            world = slope_world(12, rng)
            every = world.residuals(users, ratings, rng)
            held = rng.random(len(every.user)) < 0.3
            sides = every.part(held), every.part(~held)
            measured = measure_evidence("likelihood", *sides, world.design, True, 10, rng)
            reached = correlation(measured.similarity, world.similarity)
            found.append((measured.ceiling or 0.0, reached or 0.0))
        ceiling, rho = np.transpose(found)  # (worlds,) each
        yield {
            "users": users, "ratings a user": ratings,
            "ceiling": f"{ceiling.mean():.2f}", "the truth reaches": f"{rho.mean():.2f}",
            "difference": f"{(ceiling - rho).mean():+.3f} ± {(ceiling - rho).std():.3f}",
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
