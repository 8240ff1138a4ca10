"""A linear mixed model of users' genre slopes: how alike users' tastes for two genres are.

    y_ui = a_u · x_i + ε,   a_u ~ N(μ, Σ),   ε ~ N(0, noise²)

y_ui is what user u's rating of movie i has beyond the user's and the movie's bias, and
x_i = [share of each genre of i (1 / √(number of its genres)), 1]. The similarity of two genres is
the correlation of their slopes under Σ (random slopes: Laird and Ware, "Random-effects models for
longitudinal data", 1982). Σ is estimated in two ways:

- `moments`: least squares of y_ui y_uj on x_i' Σ x_j over all pairs i ≠ j of ratings of one user
  (Haseman and Elston 1972). It is unbiased whatever the distribution of slopes and noise and
  however many ratings users have, but noisy, and Σ may have negative variances.
- `likelihood`: maximum likelihood by the parameter-expanded EM algorithm (Liu, Rubin and Wu 1998).
  It is far less noisy, but takes the noise for independent. Taste for single movies breaks that,
  so the result depends on how many ratings a user has: compare only estimates from about as many.

Letters: n ratings, U users, M movies, G genres, K = G + 1 columns of x, P = K (K + 1) / 2 entries
of a symmetric K x K matrix, B resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial

import numpy as np
import torch
from scipy.sparse import csr_array

from genre_embeddings.inspection.responses import spaced

MOST_GENRES = 60
"""Genres that are compared; their covariances grow with the square."""
MOST_USERS = 50_000
"""Users in whose ratings slopes are measured, evenly spaced; more would take minutes."""
LIKELIHOOD_USERS = 10_000
"""Users from which the likelihood is computed."""
MOST_STEPS = 40
TOLERANCE = 0.01
"""EM stops once no correlation moves further than this in a step."""
LARGEST = 0.97
"""Correlation at which Fisher's z is cut off."""
GROUPS = 2_000
"""Most groups of users whose influence is kept."""
MOST_CELLS = 50_000_000
"""Users times P from which the moments are computed; more users are sampled: 400 MB an array."""
AT_ONCE = 2_000
"""Users whose K x K matrices are held at once."""


@dataclass(frozen=True)
class SlopeSums:
    """Sums of each user's ratings, from which both estimates are made.

    Attributes:
        counts: (U, M) sparse, 1 where the user rated the movie.
        residuals: (U, M) sparse, y of these ratings.
        design: x of each movie, (M, K).
        products: x x' of each movie, packed, (M, P).
        first: Σ x y, (U, K).
        second: Σ x x', packed, (U, P).
    """

    counts: csr_array
    residuals: csr_array
    design: np.ndarray
    products: np.ndarray
    first: np.ndarray
    second: np.ndarray

    @property
    def users(self) -> int:
        """U."""
        return len(self.first)

    @cached_property
    def squares(self) -> float:
        """Σ y² over all ratings."""
        return float((self.residuals.data**2).sum())

    @cached_property
    def rated(self) -> np.ndarray:
        """(G, G) how many users rated movies of both genres."""
        seen = (self.counts @ (self.design[:, :-1] != 0)) > 0
        return seen.T.astype(np.float64) @ seen

    def part(self, users: np.ndarray) -> SlopeSums:
        """The sums of some of the users."""
        names = ("counts", "residuals", "first", "second")
        return replace(self, **{name: getattr(self, name)[users] for name in names})


@dataclass(frozen=True)
class Slopes:
    """An estimate of Σ.

    Attributes:
        covariance: Σ, (K, K); the last row and column belong to the constant.
        user_influence: computes the influence of each user; it takes seconds with many genres.
        remark: what a reader has to know about the estimate; empty if nothing.
    """

    covariance: np.ndarray
    user_influence: Callable[[], np.ndarray]
    remark: str = ""

    @cached_property
    def influence(self) -> np.ndarray:
        """Influence of each group of users on Σ, packed, (U, P).

        Σ without the group is about covariance - influence[u]. Groups are as independent as users.
        """
        values = self.user_influence()
        if len(values) <= GROUPS:
            return values
        return np.add.reduceat(values, np.arange(GROUPS) * len(values) // GROUPS)

    @property
    def variances(self) -> np.ndarray:
        """Variance of each genre's slope, (G,); by moments it may be negative."""
        return np.diagonal(self.covariance)[:-1]

    def correlations(self) -> np.ndarray:
        """(G, G), NaN where a variance is not positive; by moments they may leave -1 to 1."""
        return _correlations(self.covariance)

    def correlation_influence(self) -> np.ndarray:
        """Influence of each group of users on each correlation, (U, G, G), 0 where that is NaN.

        dr_kl = dΣ_kl / √(Σ_kk Σ_ll) - r_kl / 2 (dΣ_kk / Σ_kk + dΣ_ll / Σ_ll).
        """
        place = _packing(len(self.covariance))[2][:-1, :-1]
        values = self.correlations()
        known = np.isfinite(values)
        variance = np.where(self.variances > 0, self.variances, 1.0)
        change = self.influence[:, place]  # (U, G, G)
        relative = np.diagonal(change, axis1=1, axis2=2) / variance / 2  # (U, G)
        change = change / np.sqrt(variance[:, None] * variance)
        change -= np.where(known, values, 0) * (relative[:, :, None] + relative[:, None])
        return np.where(known, change, 0)

    def fisher_error(self) -> np.ndarray:
        """Standard error of Fisher's artanh of each correlation, (G, G), inf where it is NaN."""
        values = self.correlations()
        error = np.sqrt((self.correlation_influence() ** 2).sum(axis=0))
        error /= 1 - np.clip(np.nan_to_num(values), -LARGEST, LARGEST) ** 2
        return np.where(np.isfinite(values), error, np.inf)


def movie_design(membership: np.ndarray) -> np.ndarray:
    """x of each movie, (M, G + 1), from which genres it has, (M, G) of 0 and 1."""
    shares = membership / np.sqrt(np.maximum(membership.sum(axis=1, keepdims=True), 1))
    return np.hstack([shares, np.ones((len(shares), 1))])


def by_some_users(user: np.ndarray, users: int) -> np.ndarray:
    """Whether ratings, (n,), are by some of all users: at most 50,000, evenly spaced."""
    chosen = np.zeros(users, dtype=bool)
    chosen[spaced(users, MOST_USERS)] = True
    return chosen[user]


def sum_up(
    user: np.ndarray, movie: np.ndarray, residual: np.ndarray, design: np.ndarray
) -> SlopeSums:
    """Sum the ratings of each user.

    Args:
        user, movie: dense indices of the ratings, (n,).
        residual: rating less the user's and the movie's bias, (n,), in rating units.
        design: from `movie_design`, (M, K).
    """
    users, row = np.unique(user, return_inverse=True)
    shape = (len(users), len(design))
    counts = csr_array((np.ones(len(row)), (row, movie)), shape=shape)
    residuals = csr_array((residual, (row, movie)), shape=shape)
    rows, columns, _ = _packing(design.shape[1])
    products = design[:, rows] * design[:, columns]
    return SlopeSums(counts, residuals, design, products, residuals @ design, counts @ products)


def moments(sums: SlopeSums) -> Slopes:
    """Σ by moments.

    With C = Σ_i x_i x_i' and S = Σ_i x_i y_i of a user, the normal equations are
    Σ_u (C Σ C - Σ_i x_i x_i' (x_i' Σ x_i)) = Σ_u (S S' - Σ_i y_i² x_i x_i').
    """
    rows, columns, place = _packing(sums.design.shape[1])
    if sums.users * len(rows) > MOST_CELLS:
        sums = sums.part(spaced(sums.users, MOST_CELLS // len(rows)))
    double = np.where(rows == columns, 1.0, 2.0)
    matrix = _curvature(sums.second.T @ sums.second, len(place))
    weights = np.asarray(sums.counts.sum(axis=0))
    matrix -= (sums.products * weights[:, None]).T @ sums.products * double
    squared = sums.residuals.power(2)
    target = sums.first[:, rows] * sums.first[:, columns] - squared @ sums.products  # (U, P)
    inverse = np.linalg.pinv(matrix, rcond=1e-10)
    covariance = (inverse @ target.sum(axis=0))[place]

    def influence() -> np.ndarray:
        fitted = np.empty_like(sums.second)  # C Σ C of each user
        for start in range(0, sums.users, AT_ONCE):
            full = sums.second[start : start + AT_ONCE][:, place]
            fitted[start : start + AT_ONCE] = (full @ covariance @ full)[:, rows, columns]
        within = ((sums.design @ covariance) * sums.design).sum(axis=1)  # x' Σ x of each movie
        fitted -= sums.counts @ (sums.products * within[:, None])
        return (target - fitted) @ inverse.T

    remark, variances = "", np.diagonal(covariance)[:-1]
    if negative := int((variances <= 0).sum()):
        remark = (
            f"By moments, users' slopes have no positive variance for {negative} of "
            f"{len(variances)} genres: there are too few ratings to measure it, or users do not "
            "differ in them."
        )
    return Slopes(covariance, influence, remark)


def likelihood(sums: SlopeSums) -> Slopes:
    """Σ by maximum likelihood; of more than 10,000 users by as many, evenly spaced.

    A step of EM computes each user's posterior N(m, V) of the slopes and takes their moments for
    Σ and μ. Parameter expansion then regresses y on x' A m, and moves to A Σ A' and A μ, which
    takes tens of steps instead of hundreds.
    """
    if sums.users > LIKELIHOOD_USERS:
        sums = sums.part(spaced(sums.users, LIKELIHOOD_USERS))
    size = sums.design.shape[1]
    variance = sums.squares / max(sums.counts.nnz, 1)
    if variance <= 0 or sums.users < 2:
        nothing = np.zeros((1, len(sums.products[0])))
        return Slopes(np.zeros((size, size)), lambda: nothing, "No rating varies.")
    mean, covariance, noise = np.zeros(size), np.eye(size) * 0.1 * variance, variance
    before, remark = _correlations(covariance), ""
    floor = 1e-6 * variance * np.eye(size)
    for _ in range(MOST_STEPS):
        mean, covariance, noise = _step(sums, mean, covariance, noise)
        covariance, noise = covariance + floor, max(noise, 1e-6 * variance)
        now = _correlations(covariance)
        moved, before = float(np.abs(now - before).max(initial=0)), now
        if moved <= TOLERANCE:
            break
    else:
        remark = (
            f"The likelihood did not converge in {MOST_STEPS} steps; correlations still change by "
            f"{moved:.2f}."
        )
    influence = partial(_likelihood_influence, sums, mean, covariance, noise)
    return Slopes(covariance, influence, remark)


def mean_of(one: Slopes, other: Slopes) -> Slopes:
    """The mean of two estimates from the same ratings, with the influence of users on it."""
    covariance = (one.covariance + other.covariance) / 2
    return Slopes(covariance, lambda: (one.influence + other.influence) / 2)


def _step(
    sums: SlopeSums, mean: np.ndarray, covariance: np.ndarray, noise: float
) -> tuple[np.ndarray, np.ndarray, float]:
    """One step of parameter-expanded EM: new μ, Σ and noise²."""
    size = len(mean)
    rows, columns, place = _packing(size)
    total, outer = np.zeros(size), np.zeros((size, size))
    cross = np.zeros((len(rows), len(rows)))  # Σ_u E[a a'] ⊗ C
    target = np.zeros((size, size))  # Σ_u S m'
    precision = np.linalg.inv(covariance)
    for part, _, posterior in _posteriors(sums, precision, noise):
        first, second = sums.first[part], sums.second[part]
        means = np.einsum("uab,ub->ua", posterior, first / noise + precision @ mean)
        moment = posterior + means[:, :, None] * means[:, None]
        cross += moment[:, rows, columns].T @ second
        target += first.T @ means
        total, outer = total + means.sum(axis=0), outer + moment.sum(axis=0)
    mean = total / sums.users
    covariance = outer / sums.users - np.outer(mean, mean)
    # Regress y on x' A m: Σ_u C A E[a a'] = Σ_u S m'
    i, j = np.divmod(np.arange(size**2), size)
    system = cross[place[j[:, None], j], place[i[:, None], i]]
    system[np.diag_indices_from(system)] += 1e-9 * max(np.trace(system) / size**2, 1e-12)
    expansion = np.linalg.solve(system, target.ravel()).reshape(size, size)
    noise = (sums.squares - float((expansion * target).sum())) / sums.counts.nnz
    covariance = expansion @ covariance @ expansion.T
    return expansion @ mean, (covariance + covariance.T) / 2, noise


def _posteriors(
    sums: SlopeSums, precision: np.ndarray, noise: float
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Of some users at a time: their slice, C / noise² and posterior covariance V, (u, K, K)."""
    place = _packing(len(precision))[2]
    for start in range(0, sums.users, AT_ONCE):
        part = slice(start, start + AT_ONCE)
        full = sums.second[part][:, place] / noise
        inner = torch.from_numpy(full + precision)
        yield part, full, torch.cholesky_inverse(torch.linalg.cholesky(inner)).numpy()


def _likelihood_influence(
    sums: SlopeSums, mean: np.ndarray, covariance: np.ndarray, noise: float
) -> np.ndarray:
    """Influence of each user on Σ, (U, P), by one step of Fisher scoring from the optimum.

    With P = (x Σ x' + noise²)⁻¹ over a user's ratings, A = x' P x and q = x' P (y - x μ), the
    score is (q q' - A) / 2 and the expected information Σ_u A ⊗ A / 2.
    """
    rows, columns, _ = _packing(len(mean))
    scores, weights = np.empty_like(sums.second), np.empty_like(sums.second)
    for part, full, posterior in _posteriors(sums, np.linalg.inv(covariance), noise):
        shrunk = np.eye(len(mean)) - full @ posterior
        information = shrunk @ full
        gradient = sums.first[part] / noise - full @ mean
        gradient = np.einsum("uab,ub->ua", shrunk, gradient)
        weights[part] = information[:, rows, columns]
        scores[part] = gradient[:, rows] * gradient[:, columns] - weights[part]
    scores -= scores.mean(axis=0)
    matrix = _curvature(weights.T @ weights, len(mean))
    return scores @ np.linalg.pinv(matrix, rcond=1e-10).T


def slope_similarity(slopes: Slopes, sums: SlopeSums, min_pair_users: int) -> np.ndarray:
    """The similarity of genres, (G, G): correlations of slopes that rest on enough users.

    Args:
        slopes: an estimate from these sums.
        sums: sums of the ratings.
        min_pair_users: users who rated both genres, below which a pair is unknown.
    """
    values = np.where(sums.rated >= min_pair_users, slopes.correlations(), np.nan)
    known = ~np.isnan(values)
    genres = np.diagonal(known) & (known.sum(axis=1) > 1)
    values[~genres] = values[:, ~genres] = np.nan
    np.fill_diagonal(values, np.where(genres, 1.0, np.nan))  # exactly 1
    return values


@cache
def _packing(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How symmetric K x K matrices are packed: row and column of each entry, place of each cell."""
    rows, columns = np.triu_indices(size)
    place = np.zeros((size, size), dtype=np.int64)
    place[rows, columns] = place[columns, rows] = np.arange(len(rows))
    return rows, columns, place


def _curvature(gram: np.ndarray, size: int) -> np.ndarray:
    """The map Σ -> Σ_u C_u Σ C_u on packed matrices, (P, P), from Σ_u of packed C_u C_u'."""
    rows, columns, place = _packing(size)
    straight = gram[place[rows[:, None], rows], place[columns[:, None], columns]]
    crossed = gram[place[rows[:, None], columns], place[columns[:, None], rows]]
    return np.where(rows == columns, straight, straight + crossed)


def _correlations(covariance: np.ndarray) -> np.ndarray:
    """Correlations of the genres' slopes, (G, G), NaN where a variance is not positive."""
    inner = covariance[:-1, :-1]
    variance = np.diagonal(inner)
    scale = np.sqrt(np.where(variance > 0, variance, np.nan))
    return inner / scale[:, None] / scale
