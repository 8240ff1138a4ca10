"""References for the learnt similarity of genres: what else says how alike two genres are.

Users' genre slopes in held-out ratings, on which the model did not train, are *evidence*, measured
by the two estimators of `slopes`. The same estimators on the training ratings are the *rival*: what
a statistician knows about genres without any network. The *catalogue*, the genre sets of the
movies, is read by the model: it is not independent evidence.

Letters: n ratings, U users, M movies, G genres.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from genre_embeddings.inspection.agreement import correlation
from genre_embeddings.inspection.slopes import (
    MOST_GENRES,
    Slopes,
    SlopeSums,
    likelihood,
    moments,
    slope_similarity,
    sum_up,
)

MOVIE_SPLITS = 2
"""Times that the movies are halved."""
MOST_OF_ONE_USER = 0.25
"""Share of the held-out ratings above which a single user is named."""
REPLICATES = 2
"""Most parts of the training ratings that measure the noise; each costs a fit."""


class Residuals(NamedTuple):
    """Ratings less the biases of user and movie, (n,) each; users and movies as dense indices."""

    user: np.ndarray
    movie: np.ndarray
    residual: np.ndarray

    def part(self, rows: np.ndarray) -> Residuals:
        """Some of the ratings."""
        return Residuals(*(column[rows] for column in self))


@dataclass(frozen=True)
class Evidence:
    """Similarity by users' genre slopes in held-out ratings, its noise, and the rival.

    Attributes:
        similarity: correlations of slopes, (G, G); by moments they may leave -1 to 1.
        rival: the same estimator on the training ratings, (G, G).
        influence: of each group of users on each correlation, (U, G, G).
        replicated: Spearman's rho between this and the same estimate from other ratings.
        movie_halves: rho between the estimates from two halves of the movies, all ratings.
        remark: what a reader has to know; empty if nothing.
    """

    similarity: np.ndarray
    rival: np.ndarray
    influence: np.ndarray
    replicated: float | None
    movie_halves: float | None
    remark: str = ""

    @property
    def ceiling(self) -> float | None:
        """The rho that a noiseless estimate could reach, 0 to 1; None if not known."""
        return None if self.replicated is None else math.sqrt(max(self.replicated, 0.0))

    @cached_property
    def error(self) -> np.ndarray:
        """Standard error of each correlation, (G, G)."""
        return np.sqrt((self.influence**2).sum(axis=0))


def usable_genres(
    membership: np.ndarray, names: Sequence[str], min_movies: int
) -> tuple[np.ndarray, list[str]]:
    """Leave out genres whose effect on ratings cannot be separated from another effect.

    The effect of a genre with a single movie cannot be separated from that movie's own. Of genres
    that have exactly the same movies, only the first stays. At most 60 genres, those with the most
    movies, stay: more are too many to look at or to estimate.

    Args:
        membership: which genres each movie has, (M, G) bool.
        names: genre names, G.
        min_movies: minimum number of movies of a genre.

    Returns:
        Indices of the genres that stay, and a remark for each of the others.
    """
    movies = membership.sum(axis=0)  # (G,)
    mask = movies >= min_movies
    remarks = [
        f"{names[genre]} is left out: it has {movies[genre]} of at least {min_movies} movies."
        for genre in np.flatnonzero(~mask).tolist()
    ]
    seen: dict[bytes, int] = {}
    for genre in np.flatnonzero(mask).tolist():
        first = seen.setdefault(membership[:, genre].tobytes(), genre)
        if first != genre:
            mask[genre] = False
            remarks.append(f"{names[genre]} is left out: it has the same movies as {names[first]}.")
    if mask.sum() > MOST_GENRES:
        order = np.argsort(np.where(mask, -movies, 1), kind="stable")
        mask &= np.isin(np.arange(len(mask)), order[:MOST_GENRES])
        remarks.append(f"Only the {MOST_GENRES} genres with the most movies are compared.")
    return np.flatnonzero(mask), remarks


def dominant_user(user: np.ndarray) -> str:
    """A sentence if one user gave more than a quarter of the ratings, (n,); else empty."""
    share = float(np.bincount(user).max()) / len(user) if len(user) else 0.0
    if share <= MOST_OF_ONE_USER:
        return ""
    return (
        f"One user gave {share:.0%} of the held-out ratings: similarities measured in them are "
        "mostly this user's taste."
    )


def catalogue_similarity(membership: np.ndarray) -> np.ndarray:
    """Jaccard similarity of the genres' movie sets: not independent, the model sees them.

    Args:
        membership: which genres each movie has, (M, G) bool. Genres without movies are unknown.
    """
    dense = membership.astype(np.float64)
    both = dense.T @ dense  # (G, G)
    movies = np.where(np.diagonal(both) > 0, np.diagonal(both), np.nan)
    return both / (movies[:, None] + movies - both)


def measure_evidence(
    name: str,
    held_out: Residuals,
    train: Residuals,
    design: np.ndarray,
    random_split: bool,
    min_pair_users: int,
    generator: np.random.Generator,
) -> Evidence:
    """Measure the similarity of genres in held-out ratings, its noise, and the rival.

    The ceiling is √rho, where rho is the agreement with a replicate: an estimate of the same
    quantity from other ratings, with errors of its own. With a random split, a part of the training
    ratings as large as the held-out ones is one. Otherwise the held-out ratings are halved, and
    rho = 2 r / (1 + r) for an agreement r of the halves (Spearman-Brown 1910).

    The likelihood is compared at like density: its rival is the mean over such parts of train.

    Args:
        name: moments or likelihood.
        held_out: ratings on which no model trained.
        train: training ratings.
        design: from `slopes.movie_design`, (M, G + 1).
        random_split: whether held-out and training ratings are alike.
        min_pair_users: users who rated both genres, below which a pair is unknown.
        generator: draws parts of the ratings and halves of the movies.
    """

    def fit(ratings: Residuals) -> tuple[Slopes, SlopeSums]:
        sums = sum_up(*ratings, design)
        return (moments(sums) if name == "moments" else likelihood(sums)), sums

    def similarity(ratings: Residuals) -> np.ndarray:
        return slope_similarity(*fit(ratings), max(3, min_pair_users // 2))

    slopes, sums = fit(held_out)
    found = slope_similarity(slopes, sums, min_pair_users)
    size, count = len(held_out.user), len(train.user)
    order = generator.permutation(count)
    parts = [
        similarity(train.part(np.sort(order[k * size : (k + 1) * size])))
        for k in range(min(REPLICATES, count // max(size, 1)))
        if random_split or name == "likelihood"
    ]
    if random_split and parts:
        replicated = _mean_agreement((found, part) for part in parts)
    else:
        halves = np.array_split(generator.permutation(size), 2)
        one, other = (similarity(held_out.part(np.sort(half))) for half in halves)
        r = correlation(one, other)
        replicated = None if r is None else 2 * r / (1 + r) if r > -1 else -1.0
    if name == "likelihood" and parts:
        rival = np.mean(parts, axis=0)
    else:
        rival = slope_similarity(*fit(train), min_pair_users)
    influence = slopes.correlation_influence()
    every = Residuals(*map(np.concatenate, zip(train, held_out, strict=True)))
    over_movies = _movie_halves(every, len(design), similarity, generator)
    return Evidence(found, rival, influence, replicated, over_movies, slopes.remark)


def size_slope(learnt: np.ndarray, by_moments: Evidence) -> float | None:
    """Slope of the regression of evidence by moments on the learnt similarity, over pairs.

    1 says that learnt similarities have the right size, less that they are too large. Pairs weigh
    by the inverse variance of the evidence. None where fewer than 3 pairs are known.
    """
    evidence, error = by_moments.similarity, by_moments.error
    known = np.triu(~np.isnan(learnt + evidence), 1) & (error > 0)
    x, y = learnt[known], evidence[known]
    if len(x) < 3:
        return None
    weight = error[known] ** -2.0
    x, y = x - np.average(x, weights=weight), y - np.average(y, weights=weight)
    spread = float((weight * x * x).sum())
    return float((weight * x * y).sum()) / spread if spread > 0 else None


def _movie_halves(
    ratings: Residuals,
    movies: int,
    similarity: Callable[[Residuals], np.ndarray],
    generator: np.random.Generator,
) -> float | None:
    """Mean Spearman's rho between the estimates from two halves of the movies.

    Users like some movies more than others, and so any group of movies, a group that means
    nothing included. What belongs to a genre is found again in other movies of it. With genre sets
    shuffled across movies the rho is about 0, however many the ratings. No model is asked here, so
    the training ratings count, too.
    """
    halves = (generator.permutation(movies) < movies // 2 for _ in range(MOVIE_SPLITS))
    return _mean_agreement(
        (similarity(ratings.part(rated)), similarity(ratings.part(~rated)))
        for rated in (half[ratings.movie] for half in halves)
    )


def _mean_agreement(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> float | None:
    """Mean over pairs of similarities of their Spearman's rho; None where none can be compared."""
    rhos = [rho for pair in pairs if (rho := correlation(*pair)) is not None]
    return float(np.mean(rhos)) if rhos else None
