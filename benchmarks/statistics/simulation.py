"""Do the statistics hold? `python -m benchmarks.statistics.simulation [--worlds 1000] [--doc]`.

Draws many worlds of which the truth is known, and counts how often intervals cover it, how often
p-values are small where there is nothing, and how near a noise ceiling comes to what can be
reached.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from scipy.stats import norm

from benchmarks.measuring import Row, command_line, report
from genre_embeddings.evaluation.metrics import (
    LEVEL,
    Interval,
    bootstrap_over_users,
    error_interval,
    interval,
    mse,
    rmse_rise,
    user_sums,
)
from genre_embeddings.inspection.agreement import agreement, correlation
from genre_embeddings.inspection.references import Residuals, measure_evidence
from genre_embeddings.inspection.similarity import Similarity, Z, spearman
from genre_embeddings.inspection.slopes import (
    likelihood,
    mean_of,
    moments,
    movie_design,
    sum_up,
)

DRAWS = 1000
ALPHAS = (0.01, 0.05, 0.1)
Pair = tuple[Similarity, Similarity]

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


def errors(users: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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


def covers(found: Interval | None, truth: float) -> bool:
    return found is not None and found.low <= truth <= found.high


def error_rows(worlds: int) -> Iterator[Row]:
    """How often an interval over users covers the error that infinitely many users would show."""
    truth = expected_mse()
    names = ("RMSE, plain percentiles", "RMSE", "difference of MSE", "difference of RMSE")
    for users in (20, 50, 99, 300, 1000):
        rng = np.random.default_rng([1, users])
        hits = np.zeros(4)
        for _ in range(worlds):
            user, first, second = errors(users, rng)
            one, other = user_sums(user, first, users), user_sums(user, second, users)
            drawn = bootstrap_over_users(one.squared[None], one.ratings, DRAWS, rng)[:, 0]
            both = [one, other]
            hits += [
                covers(interval(mse(one), drawn), truth),
                covers(error_interval(np.sqrt, [one], DRAWS, rng), np.sqrt(truth)),
                covers(error_interval(np.subtract, both, DRAWS, rng), truth * (1 - BETTER**2)),
                covers(error_interval(rmse_rise, both, DRAWS, rng), np.sqrt(truth) * (1 - BETTER)),
            ]
        shares = (f"{share:.1%}" for share in hits / worlds)
        yield {"users": users, **dict(zip(names, shares, strict=True))}


def random_similarity(genres: int, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(np.corrcoef(rng.normal(size=(genres, 5))))


def complete(values: np.ndarray) -> Similarity:
    return Similarity(values, np.ones(values.shape, dtype=bool))


def unrelated(rng: np.random.Generator, genres: int) -> Pair:
    """Two similarities that know nothing of each other."""
    one, other = (complete(random_similarity(genres, rng)) for _ in range(2))
    return one, other


def masked(rng: np.random.Generator) -> Pair:
    """Three in ten pairs of the reference are unknown."""
    known = np.triu(rng.random((12, 12)) < 0.7, 1)
    known = known | known.T | np.eye(12, dtype=bool)
    reference = Similarity(np.where(known, random_similarity(12, rng), 0), known)
    return complete(random_similarity(12, rng)), reference


def families(rng: np.random.Generator) -> Pair:
    """Random families of three genres in both, so that most values are equal."""
    alike = np.kron(np.eye(4), np.ones((3, 3)))
    orders = (rng.permutation(12) for _ in range(2))
    one, other = (complete(alike[np.ix_(order, order)]) for order in orders)
    return one, other


def attenuated(rng: np.random.Generator) -> Pair:
    """The similarities of the same genres are nearer to zero in both, the mean being 0.3."""
    share = np.sqrt(rng.uniform(0.1, 1, 12))
    shrunk = np.outer(share, share)
    one, other = (complete((0.3 + 0.7 * random_similarity(12, rng)) * shrunk) for _ in range(2))
    return one, other


NULLS: dict[str, Callable[[np.random.Generator], Pair]] = {
    "4 genres (24 orders)": partial(unrelated, genres=4),
    "6 genres": partial(unrelated, genres=6),
    "9 genres": partial(unrelated, genres=9),
    "18 genres": partial(unrelated, genres=18),
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
    similarity: Similarity
    """The true one."""

    def residuals(self, users: int, ratings: int, rng: np.random.Generator) -> Residuals:
        """Ratings with noise of 0.8 stars; slopes and noise have heavy tails (t, 5 degrees)."""
        movies, genres = len(self.design), len(self.covariance)
        pairs = np.unique(rng.integers(users * movies, size=users * ratings))
        user, movie = np.divmod(pairs, movies)
        tails = np.sqrt(5 / rng.chisquare(5, users) * 0.6)[:, None]
        slopes = tails * (rng.normal(size=(users, genres)) @ np.linalg.cholesky(self.covariance).T)
        noise = 0.8 * rng.standard_t(5, user.size) * np.sqrt(0.6)
        liking = (slopes[user] * self.design[movie, :-1]).sum(axis=1)
        return Residuals(user, movie, liking + noise)


def slope_world(genres: int, rng: np.random.Generator) -> SlopeWorld:
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
    similarity = complete(covariance / np.outer(scale, scale))
    return SlopeWorld(covariance, movie_design(membership), similarity)


def fisher(correlations: np.ndarray) -> np.ndarray:
    """Fisher's artanh, finite where an estimate leaves -1 to 1."""
    return np.arctanh(np.clip(correlations, -0.999, 0.999))


def slope_rows(worlds: int) -> Iterator[Row]:
    """How near both estimates come to the truth, in order and size, and their intervals."""
    for genres, users, ratings in ((18, 300, 10), (18, 1000, 30), (43, 1000, 30)):
        rng = np.random.default_rng([7, genres, users])
        found: dict[str, list[tuple[float, ...]]] = {}
        upper = np.triu_indices(genres, 1)
        for _ in range(worlds):
            world = slope_world(genres, rng)
            sums = sum_up(*world.residuals(users, ratings, rng), world.design)
            truth, true = world.covariance[upper], world.similarity.values[upper]
            one, other = moments(sums), likelihood(sums)
            both = {"moments": one, "likelihood": other, "their mean": mean_of(one, other)}
            for name, slopes in both.items():
                size = slopes.covariance[:-1, :-1][upper] @ truth / (truth @ truth)
                values = slopes.correlations()[upper]
                known = np.isfinite(values)
                order = spearman(values[known], true[known]) or 0.0
                apart = np.abs(fisher(values[known]) - fisher(true[known]))
                covered = np.mean(apart <= Z * slopes.fisher_error()[upper][known])
                found.setdefault(name, []).append((float(size), order, float(covered)))
        for name, rows in found.items():
            size, order, covered = np.mean(rows, axis=0)
            error = np.std([row[0] for row in rows]) / np.sqrt(worlds)
            yield {
                "genres": genres, "users": users, "ratings a user": ratings, "estimate": name,
                "slope of covariances on the truth": f"{size:.3f} ± {error:.3f}",
                "rho with the truth": f"{order:.2f}", "intervals that cover": f"{covered:.0%}",
            }  # fmt: skip


def ceiling_rows(worlds: int) -> Iterator[Row]:
    """What a replicate promises, and what the truth then reaches."""
    for users, ratings in ((100, 50), (300, 50), (1000, 100)):
        rng = np.random.default_rng([5, users])
        found: dict[str, list[tuple[float, float]]] = {"moments": [], "likelihood": []}
        for _ in range(worlds):
            world = slope_world(12, rng)
            every = world.residuals(users, ratings, rng)
            held = rng.random(len(every.user)) < 0.3
            for name, rows in found.items():
                sides = every.part(held), every.part(~held)
                measured = measure_evidence(name, *sides, world.design, True, 10, rng)
                reached = correlation(measured.similarity, world.similarity)
                rows.append((measured.ceiling or 0.0, reached or 0.0))
        for name, rows in found.items():
            promised, reached = np.mean(rows, axis=0)
            apart = np.std([row[0] - row[1] for row in rows])
            yield {
                "users": users, "ratings a user": ratings, "estimate": name,
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
