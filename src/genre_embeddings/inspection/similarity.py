"""What the model has learnt: how alike it holds two genres, how surely, how repeatably.

Raw cosines of the genre embeddings E (G, D) say little: with any invertible A, the embeddings EA
and weights A⁻ᵀW make the same predictions and have other cosines. *Responses* are identified,
because they are made of predictions alone:

    Δ_k(u) = prediction(u, unknown movie of genre k) - prediction(u, unknown movie of no genre)

and two genres are as similar as their responses correlate over users.

Letters: R replicas, N users asked, G genres, D embedding size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform
from scipy.special import ndtri
from scipy.stats import rankdata


@dataclass(frozen=True)
class Similarity:
    """How alike genres are, with a mask in the place of NaN.

    Attributes:
        values: (G, G) float64, symmetric, 1 on the diagonal, 0 where not known.
        known: (G, G) bool, symmetric; on the diagonal, whether the genre takes part at all.
    """

    values: np.ndarray
    known: np.ndarray

    @property
    def genres(self) -> np.ndarray:
        """(G,) bool: the genres that take part."""
        return np.diagonal(self.known).copy()

    def scaled(self, factor: np.ndarray) -> Similarity:
        """The same, with each cell times a factor, (G, G), 1 on the diagonal."""
        return Similarity(self.values * factor, self.known)

    def restrict(self, genres: np.ndarray) -> Similarity:
        """The same, with the genres outside the (G,) bool mask unknown."""
        return _masked(self.values, self.known & genres[:, None] & genres)


@dataclass(frozen=True)
class GenreMap:
    """Genres in the plane, near where they are similar.

    Attributes:
        positions: (G, 2) float64, 0 for genres without a place.
        placed: (G,) bool.
        shown: share of the similarities' variation that the plane shows, 0 to 1.
    """

    positions: np.ndarray
    placed: np.ndarray
    shown: float


@dataclass(frozen=True)
class Stability:
    """How far models that differ in nothing but their seed agree on the genres.

    Attributes:
        replicas: number of models compared, R.
        spearman: mean over pairs of replicas of Spearman's rho between their similarities.
        cka: mean over pairs of the linear CKA of their embeddings, 0 to 1.
        cka_chance: what it would be with the genres of one replica shuffled.
        overlap: mean share of nearest neighbours that two replicas have in common.
        chance: what it would be for neighbours drawn blindly.
        neighbours: number of nearest neighbours compared.
        by_genre: the overlap genre by genre, (G,) float64, 0 for genres left out.
        stable: genres whose neighbours are worth printing, (G,) bool.
        reason: why a number is None; empty if none is.
    """

    replicas: int
    spearman: float | None
    cka: float | None
    cka_chance: float | None
    overlap: float | None
    chance: float | None
    neighbours: int
    by_genre: np.ndarray
    stable: np.ndarray
    reason: str = ""


def response_similarity(responses: np.ndarray, min_spread: float = 1e-5) -> Similarity:
    """Correlation over users of the model's responses to two genres.

    Args:
        responses: Δ, (N, G), or (R, N, G), which is averaged over replicas first, because the
            mean of the replicas is what predicts. In rating units.
        min_spread: standard deviation over users, in rating units, up to which a genre counts
            as one the model does not respond to; float32 predictions round at about 1e-6.

    Returns:
        The similarity; genres without a response, or all if N < 3, are unknown.
    """
    mean = responses if responses.ndim == 2 else responses.mean(axis=0, dtype=np.float64)
    values, known = _correlations(mean, min_spread)
    return _masked(values, known)


def replica_similarities(responses: np.ndarray, min_spread: float = 1e-5) -> list[Similarity]:
    """`response_similarity` of each replica of (R, N, G) alone."""
    return [response_similarity(replica, min_spread) for replica in responses]


def similarity_interval(
    learnt: Similarity, error: np.ndarray, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the interval of each similarity, (G, G) both: tanh(artanh r ± z · error).

    Args:
        learnt: the similarities r.
        error: standard error of Fisher's artanh r, (G, G).
        level: nominal coverage.

    Returns:
        -1 to 1 for pairs that are not known, 1 to 1 for a known genre itself.
    """
    centre = np.arctanh(np.clip(learnt.values, -0.999, 0.999))
    margin = ndtri((1 + level) / 2) * error
    low = np.where(learnt.known, np.tanh(centre - margin), -1.0)
    high = np.where(learnt.known, np.tanh(centre + margin), 1.0)
    np.fill_diagonal(low, np.where(learnt.genres, 1.0, -1.0))
    np.fill_diagonal(high, 1.0)
    return low, high


def centred_cosine(embeddings: np.ndarray) -> Similarity:
    """Cosines of the genre embeddings around their mean: shown, but not identified.

    Args:
        embeddings: E, (G, D); genres that are never to be compared are left out before.

    Returns:
        The cosines; genres that sit on the mean are unknown.
    """
    centred = np.asarray(embeddings, dtype=np.float64)
    centred = centred - centred.sum(axis=0) / max(len(centred), 1)
    norm = np.linalg.norm(centred, axis=1)  # (G,)
    known = norm > 1e-6 * max(float(norm.max(initial=0)), 1e-12)
    unit = centred / np.where(known, norm, 1)[:, None]
    return _masked(np.clip(unit @ unit.T, -1, 1), known[:, None] & known)


def cluster_order(similarity: Similarity) -> np.ndarray:
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
    rest = np.setdiff1d(np.arange(len(similarity.values)), genres)
    return np.concatenate([genres, rest]).astype(np.int64)


def genre_labels(names: Sequence[str], counts: Sequence[int]) -> list[str]:
    """Genre names with the number of movies or ratings behind them: `Drama (4,361)`."""
    return [f"{name} ({count:,})" for name, count in zip(names, counts, strict=True)]


def genre_map(similarity: Similarity) -> GenreMap:
    """Genres in the plane by classical multidimensional scaling (Torgerson 1952).

    A correlation is a squared distance in disguise, d² = 2 (1 - r), so the double-centred matrix
    of -d²/2 is that of r. The axis coordinate of largest size is positive, which makes the map
    the same every time.
    """
    genres, values = _filled(similarity)
    positions = np.zeros((len(similarity.values), 2))
    placed = np.zeros(len(positions), dtype=bool)
    placed[genres] = True
    if len(genres) < 2:
        return GenreMap(positions, placed, 0.0)
    centring = np.eye(len(genres)) - 1 / len(genres)
    power, axes = np.linalg.eigh(centring @ values @ centring)
    power, axes = np.maximum(power[::-1], 0), axes[:, ::-1]
    plane = axes[:, :2] * np.sqrt(power[:2])  # (G, 2)
    # Rounded, so that of two coordinates of one size the first decides, whatever the last digit.
    largest = np.abs(plane).round(9).argmax(axis=0)
    plane = plane * np.where(plane[largest, np.arange(plane.shape[1])] < 0, -1, 1)
    positions[genres] = plane
    total = float(power.sum())
    return GenreMap(positions, placed, float(power[:2].sum()) / total if total > 0 else 0.0)


def nearest_genres(
    similarity: Similarity, neighbours: int, stable: np.ndarray | None = None
) -> list[list[int]]:
    """For every genre its most similar ones, nearest first.

    Args:
        similarity: over G genres.
        neighbours: most genres listed.
        stable: (G,) bool; genres outside get an empty list. None: all are listed.

    Returns:
        G lists of genre indices, empty for unknown and unstable genres.
    """
    values = _without_self(similarity)
    order = np.argsort(-values, axis=1, kind="stable")
    lists = []
    for genre, row in enumerate(order):
        listed = similarity.known[genre, genre] and (stable is None or stable[genre])
        row = row[np.isfinite(values[genre, row])] if listed else row[:0]
        lists.append([int(other) for other in row[:neighbours]])
    return lists


def replica_stability(
    similarities: Sequence[Similarity],
    embeddings: np.ndarray | None = None,
    neighbours: int = 3,
    min_overlap: float = 0.5,
) -> Stability:
    """How far replicas agree on the genres.

    Linear CKA (Kornblith et al. 2019) is high even for unrelated embeddings once D nears G, so
    its expectation over all orders of one replica's genres stands beside it:
    tr K tr L / ((G - 1) ‖K‖ ‖L‖) for centred Gram matrices K and L.

    Args:
        similarities: one for each replica. Those of posterior draws may be given as well; then
            the answer is how sure one model is.
        embeddings: E of each replica, (R, G, D); None leaves CKA out.
        neighbours: nearest neighbours compared; with few genres fewer, so that chance leaves
            room to be better than.
        min_overlap: share of the way from chance (0) to full agreement (1) that a genre's
            overlap must have gone for the genre to be stable.

    Returns:
        The numbers; None, with the reason, where there are fewer than two replicas or fewer than
        three genres known to all of them.
    """
    count, size = len(similarities), len(similarities[0].values)
    genres = np.logical_and.reduce([similarity.genres for similarity in similarities])
    total = int(genres.sum())
    by_genre, stable = np.zeros(size), np.zeros(size, dtype=bool)
    if count < 2 or total < 3:
        reason = (
            f"{count} replica: agreement needs at least 2"
            if count < 2
            else f"{total} genres known to all replicas: agreement needs at least 3"
        )
        return Stability(count, None, None, None, None, None, 0, by_genre, stable, reason)

    shared = [similarity.restrict(genres) for similarity in similarities]
    rhos = []
    for one, other in combinations(shared, 2):
        pairs = np.triu(one.known & other.known, 1)
        rhos.append(spearman(one.values[pairs], other.values[pairs]))
    found = [rho for rho in rhos if rho is not None]

    nearest = max(1, min(neighbours, (total - 1) // 2))
    chosen = np.zeros((count, size, size), dtype=int)
    for replica, similarity in enumerate(shared):
        for genre, row in enumerate(nearest_genres(similarity, nearest)):
            chosen[replica, genre, row] = 1
    votes = chosen.sum(axis=0)  # (G, G): replicas that hold l for a neighbour of k
    in_common = (votes * (votes - 1) / 2).sum(axis=1)  # (G,), summed over pairs of replicas
    by_genre = in_common / (nearest * count * (count - 1) / 2)
    chance = nearest / (total - 1)
    stable = genres & ((by_genre - chance) / (1 - chance) >= min_overlap)

    cka, cka_chance = _mean_cka(embeddings, genres) if embeddings is not None else (None, None)
    return Stability(
        replicas=count,
        spearman=float(np.mean(found)) if found else None,
        cka=cka,
        cka_chance=cka_chance,
        overlap=float(by_genre[genres].mean()),
        chance=chance,
        neighbours=nearest,
        by_genre=by_genre,
        stable=stable,
        reason="" if found else "the similarities of the replicas do not vary",
    )


def spearman(first: np.ndarray, second: np.ndarray) -> float | None:
    """Spearman's rho of two vectors; None for fewer than three entries or a constant vector."""
    if len(first) < 3:
        return None
    ranks = rankdata(np.stack([first, second]), axis=1)
    ranks -= ranks.mean(axis=1, keepdims=True)
    norm = np.sqrt((ranks**2).sum(axis=1))
    if not norm.all():
        return None
    return float(np.clip(ranks[0] @ ranks[1] / (norm[0] * norm[1]), -1, 1))


def _correlations(responses: np.ndarray, min_spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Correlations over users of (…, N, G), and which cells are known: both (…, G, G)."""
    centred = np.asarray(responses, dtype=np.float64)
    users = centred.shape[-2]
    centred = centred - centred.sum(axis=-2, keepdims=True) / max(users, 1)
    norm = np.sqrt((centred**2).sum(axis=-2))  # (…, G)
    known = (norm > min_spread * np.sqrt(users)) & (users >= 3)
    unit = centred / np.where(known, norm, 1)[..., None, :]
    values = np.clip(np.swapaxes(unit, -1, -2) @ unit, -1, 1)
    return values, known[..., :, None] & known[..., None, :]


def _masked(values: np.ndarray, known: np.ndarray) -> Similarity:
    """A Similarity whose unknown cells are 0 and whose known diagonal is exactly 1."""
    values = np.where(known, (values + values.T) / 2, 0.0)
    np.fill_diagonal(values, np.diagonal(known).astype(np.float64))
    return Similarity(values, known)


def _filled(similarity: Similarity) -> tuple[np.ndarray, np.ndarray]:
    """Genres with any known pair, and their similarities with unknown pairs at the mean."""
    off = similarity.known & ~np.eye(len(similarity.known), dtype=bool)
    genres = np.flatnonzero(off.any(axis=1))
    mean = float(similarity.values[off].mean()) if off.any() else 0.0
    values = np.where(off, similarity.values, mean)
    np.fill_diagonal(values, 1.0)
    return genres, values[np.ix_(genres, genres)]


def _without_self(similarity: Similarity) -> np.ndarray:
    """Similarities with -∞ on the diagonal and where unknown."""
    values = np.where(similarity.known, similarity.values, -np.inf)
    np.fill_diagonal(values, -np.inf)
    return values


def _mean_cka(embeddings: np.ndarray, genres: np.ndarray) -> tuple[float | None, float | None]:
    """Mean over pairs of replicas of the linear CKA, and of its value by chance."""
    centred = np.asarray(embeddings, dtype=np.float64)[:, genres]
    centred = centred - centred.mean(axis=1, keepdims=True)
    gram = centred @ centred.transpose(0, 2, 1)  # (R, G, G)
    norm = np.sqrt((gram**2).sum(axis=(1, 2)))
    trace = np.trace(gram, axis1=1, axis2=2)
    if not norm.all():
        return None, None
    pairs = list(combinations(range(len(gram)), 2))
    cka = [(gram[i] * gram[j]).sum() / (norm[i] * norm[j]) for i, j in pairs]
    free = int(genres.sum()) - 1
    by_chance = [trace[i] * trace[j] / (free * norm[i] * norm[j]) for i, j in pairs]
    return float(np.mean(cka)), float(np.mean(by_chance))
