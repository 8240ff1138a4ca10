"""What the model has learnt: how similar two genres are, how surely, and how repeatably.

Raw cosines of the genre embeddings E (G, D) say little: with any invertible A, the embeddings EA
and weights A⁻ᵀW make the same predictions and have other cosines. *Responses* are identified,
because they are made of predictions alone:

    Δ_k(u) = prediction(u, unknown movie of genre k) - prediction(u, unknown movie of no genre)

and two genres are as similar as their responses correlate over users.

A similarity is a symmetric (G, G) float64 array with 1 on the diagonal, and NaN where it is not
known; of a genre that takes no part, the diagonal is NaN, too.

Letters: R replicas, N users asked, G genres, P pairs of genres, D embedding size.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform
from scipy.special import ndtri
from scipy.stats import spearmanr

Z = float(ndtri(0.975))
"""Standard errors from the middle of a 95 % interval to its ends."""
LARGEST = 0.999
"""Correlation at which Fisher's z is cut off. Its standard errors are cut off sooner
(`slopes.LARGEST`), because they grow faster."""
DRAWS = 20
"""Draws of the similarities that are compared with each other, 190 pairs."""
MIN_SPREAD = 1e-5
"""Standard deviation of responses, in rating units, up to which a genre counts as one that the
model does not respond to; float32 predictions round at about 1e-6."""


@dataclass(frozen=True)
class Stability:
    """How alike the similarities of two models would be, each trained on ratings of other users.

    Attributes:
        by_genre: mean share of a genre's nearest neighbours that the two would have in common, (G,)
            float64, 0 for genres left out.
        stable: genres whose neighbours are worth printing, (G,) bool.
        spearman: expected Spearman's rho between the similarities of the two.
        overlap: mean of `by_genre` over the genres compared.
        chance: what it would be for neighbours drawn at random.
        replicas: mean Spearman's rho between the replicas, which differ in their seed alone; None
            for one replica.
    """

    by_genre: np.ndarray
    stable: np.ndarray
    spearman: float
    overlap: float
    chance: float
    replicas: float | None = None

    @property
    def metrics(self) -> dict[str, float | None]:
        """The numbers, for stage inspect's metrics."""
        return {
            "spearman": self.spearman,
            "replicas": self.replicas,
            "neighbour_overlap": self.overlap,
            "neighbour_overlap_by_chance": self.chance,
        }


def response_similarity(responses: np.ndarray, communality: np.ndarray | None = None) -> np.ndarray:
    """Correlation over users of the model's responses to two genres.

    Args:
        responses: Δ, (N, G), or (R, N, G), which is averaged over replicas first, because the
            mean of the replicas is what predicts. In rating units.
        communality: h of each genre, (G,), where the correlation of genres k and l is to be
            scaled by √(h_k h_l).

    Returns:
        The similarity; genres without a response, or all if N < 3, are unknown.
    """
    mean = responses if responses.ndim == 2 else responses.mean(axis=0, dtype=np.float64)
    smallest = MIN_SPREAD * np.sqrt(len(mean)) if len(mean) >= 3 else np.inf
    centred = np.asarray(mean, dtype=np.float64)
    similarity = _cosines(centred - centred.sum(axis=0) / max(len(mean), 1), smallest)
    if communality is not None:
        factor = np.sqrt(np.outer(communality, communality))
        np.fill_diagonal(factor, 1)
        similarity *= factor
    return similarity


def similarity_interval(learnt: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the 95 % interval of each similarity, (G, G) both: tanh(artanh r ± z · error).

    Args:
        learnt: the similarities r.
        error: standard error of Fisher's artanh r, (G, G).

    Returns:
        Low and high ends, NaN for pairs that are not known, 1 to 1 for a known genre itself.
    """
    centre = fisher_z(learnt)
    low, high = np.tanh(centre - Z * error), np.tanh(centre + Z * error)
    for end in (low, high):
        np.fill_diagonal(end, np.diagonal(learnt))
    return low, high


def centred_cosine(embeddings: np.ndarray) -> np.ndarray:
    """Cosines of the genre embeddings around their mean: shown, but not identified.

    Args:
        embeddings: E, (G, D); genres that are never to be compared are left out before.

    Returns:
        The cosines; genres that sit on the mean are unknown.
    """
    centred = np.asarray(embeddings, dtype=np.float64)
    centred = centred - centred.sum(axis=0) / max(len(centred), 1)
    longest = float(np.linalg.norm(centred, axis=1).max(initial=0))
    return _cosines(centred.T, 1e-6 * max(longest, 1e-12))


def cluster_order(similarity: np.ndarray) -> np.ndarray:
    """Order of the genres that puts similar ones side by side.

    Average linkage of 1 - similarity with optimal leaf ordering (Bar-Joseph et al. 2001). Of the
    order and its reverse, which are equally good, the one that starts with the lower index is
    taken. Unknown pairs count as average ones; genres that are unknown altogether come last.

    Returns:
        Genre indices, (G,) int64.
    """
    genres, values = _filled(similarity)
    if len(genres) > 2:
        distance = squareform(np.clip(1 - values, 0, None), checks=False)
        leaves = leaves_list(linkage(distance, "average", optimal_ordering=True))
        genres = genres[leaves if leaves[0] < leaves[-1] else leaves[::-1]]
    rest = np.setdiff1d(np.arange(len(similarity)), genres)
    return np.concatenate([genres, rest]).astype(np.int64)


def genre_map(similarity: np.ndarray) -> dict[int, list[float]]:
    """Genres in the plane by classical multidimensional scaling (Torgerson 1952).

    A correlation is a squared distance in disguise, d² = 2 (1 - r), so the double-centred matrix
    of -d²/2 is that of r. The coordinate of largest size on each axis is positive, which makes the
    map the same every time.

    Returns:
        x and y of each genre with a known pair, by its index.
    """
    genres, values = _filled(similarity)
    if len(genres) < 2:
        return {}
    centring = np.eye(len(genres)) - 1 / len(genres)
    power, axes = np.linalg.eigh(centring @ values @ centring)
    power, axes = np.maximum(power[::-1], 0), axes[:, ::-1]
    plane = axes[:, :2] * np.sqrt(power[:2])  # (G, 2)
    # Rounded, so that of two coordinates of one size the first decides, whatever the last digit.
    largest = np.abs(plane).round(9).argmax(axis=0)
    plane = plane * np.where(plane[largest, np.arange(plane.shape[1])] < 0, -1, 1)
    return dict(zip(genres.tolist(), plane.tolist(), strict=True))


def nearest_genres(similarity: np.ndarray, neighbours: int) -> list[list[int]]:
    """The most similar genres of each of G genres, nearest first; fewer where fewer are known."""
    values = np.where(np.isnan(similarity), -np.inf, similarity)
    np.fill_diagonal(values, -np.inf)
    order = np.argsort(-values, axis=1, kind="stable")
    return [
        row[np.isfinite(values[genre, row])][:neighbours].tolist()
        for genre, row in enumerate(order)
    ]


def measure_stability(
    learnt: np.ndarray,
    replicas: list[np.ndarray],
    error: np.ndarray,
    neighbours: int = 3,
    min_overlap: float = 0.5,
) -> Stability | None:
    """How repeatable the learnt similarities are, from their standard errors.

    Fisher's z of each pair is drawn again and again from a normal distribution around the learnt
    one, whose standard deviation is the standard error: these are similarities that the intervals
    allow. Two draws agree as much as is expected of two models, each trained on other users.

    Args:
        learnt: similarities.
        replicas: similarities of each replica; the variance of their mean is added to s².
        error: s of Fisher's z over users, (G, G).
        neighbours: nearest neighbours compared; with few genres fewer, so that agreement can
            exceed chance.
        min_overlap: share of the way from chance (0) to full agreement (1) that a genre's
            overlap must have gone for the genre to be stable.

    Returns:
        The numbers, or None if fewer than three genres are known.
    """
    known = known_genres(learnt)
    if known.sum() < 3:
        return None
    upper = np.triu(~np.isnan(learnt), 1)
    centre = fisher_z(learnt[upper])  # (P,)
    # A replica that does not respond to a genre finds it similar to none.
    others = np.array([fisher_z(np.nan_to_num(one[upper])) for one in replicas])  # (R, P)
    noise = error[upper] ** 2  # (P,)
    if len(others) > 1:
        noise = noise + others.var(axis=0, ddof=1) / len(others)
    rng = np.random.default_rng(0)  # the same draws for every model
    draws = centre + np.sqrt(noise) * rng.standard_normal((DRAWS, len(centre)))

    nearest = max(1, min(neighbours, (int(known.sum()) - 1) // 2))
    votes = np.zeros_like(learnt)  # draws in which l is a neighbour of k
    drawn = learnt.copy()
    for draw in draws:
        drawn[upper] = drawn.T[upper] = np.tanh(draw)
        for genre, row in enumerate(nearest_genres(drawn, nearest)):
            votes[genre, row] += 1
    in_common = (votes * (votes - 1)).sum(axis=1)  # (G,), summed over ordered pairs of draws
    by_genre = in_common / (nearest * DRAWS * (DRAWS - 1))
    chance = nearest / (known.sum() - 1)
    return Stability(
        by_genre=by_genre,
        stable=known & ((by_genre - chance) / (1 - chance) >= min_overlap),
        spearman=_mean_rho(draws),
        overlap=float(by_genre[known].mean()),
        chance=float(chance),
        replicas=_mean_rho(others) if len(others) > 1 else None,
    )


def known_genres(similarity: np.ndarray) -> np.ndarray:
    """(G,) bool: the genres that take part."""
    return ~np.isnan(np.diagonal(similarity))


def fisher_z(correlation: np.ndarray) -> np.ndarray:
    """Fisher's z, artanh r, which is nearly normal."""
    return np.arctanh(np.clip(correlation, -LARGEST, LARGEST))


def _mean_rho(rows: np.ndarray) -> float:
    """Mean over pairs of rows of Spearman's rho; rows that do not vary agree with none."""
    return fmean(spearman(one, other) or 0.0 for one, other in combinations(rows, 2))


def spearman(first: np.ndarray, second: np.ndarray) -> float | None:
    """Spearman's rho of two vectors; None for fewer than three entries or a constant vector."""
    if len(first) < 3 or not np.ptp(first) or not np.ptp(second):
        return None
    return float(spearmanr(first, second).statistic)


def _cosines(columns: np.ndarray, smallest: float) -> np.ndarray:
    """Cosines of the columns, (N, G); those with a norm up to `smallest` are unknown."""
    norm = np.sqrt((columns**2).sum(axis=0))  # (G,)
    known = norm > smallest
    unit = columns / np.where(known, norm, 1)
    values = np.clip(unit.T @ unit, -1, 1)
    values = np.where(np.outer(known, known), (values + values.T) / 2, np.nan)
    np.fill_diagonal(values, np.where(known, 1.0, np.nan))  # exactly 1
    return values


def _filled(similarity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Genres with any known pair, and their similarities with unknown pairs at the mean."""
    off = ~np.isnan(similarity) & ~np.eye(len(similarity), dtype=bool)
    genres = np.flatnonzero(off.any(axis=1))
    mean = float(similarity[off].mean()) if off.any() else 0.0
    values = np.where(off, similarity, mean)
    np.fill_diagonal(values, 1.0)
    return genres, values[np.ix_(genres, genres)]
