"""What the model did not choose: references for the genres, and how to compare with them.

*Taste* comes from held-out ratings, on which the model did not train; the *catalogue* comes from
the genre sets of the movies, which the model reads: it is not independent evidence. A
learnt similarity is compared with a reference by Spearman's rho over pairs of genres, against the
noise ceiling of the reference and against chance.

Letters: U users, M movies, G genres, B blocks of users, P pairs of genres.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import csr_array
from scipy.stats import rankdata

from genre_embeddings.inspection.similarity import Similarity, spearman

_CELLS = 4_000_000  # most cells of a working array: 32 MB of float64
_BLOCKS = 40  # of users; C(40, 20) ways to split them in half
_MOVIE_SPLITS = 5  # each sums the ratings up anew …
_MOVIE_USERS = 20_000  # … of at most so many users, for seconds at 25 million ratings


@dataclass(frozen=True)
class UsableGenres:
    """Genres about which anything can be asked.

    Attributes:
        mask: (G,) bool.
        reasons: why the others are left out, a sentence for each.
    """

    mask: np.ndarray
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class TasteMoments:
    """Sums over users of their affinities to pairs of genres, for each block of users.

    Cell (k, l) of `first` and `second` belongs to the affinity to k that is paired with the one
    to l. Only users who have both count.

    Attributes:
        users: number of users with both affinities, (B, G, G) float64.
        first: sum of the affinity to k, (B, G, G) float64, in rating units.
        second: sum of its square, (B, G, G) float64.
        product: sum of the product of both, (B, G, G) float64.
    """

    users: np.ndarray
    first: np.ndarray
    second: np.ndarray
    product: np.ndarray


@dataclass(frozen=True)
class NoiseCeiling:
    """How well the best of models could agree with a noisy reference.

    Attributes:
        halves: mean Spearman's rho between the references of two halves of the users.
        reliability: the same for all users, by Spearman-Brown: 2 rho / (1 + rho), at least 0.
        ceiling: √reliability, the correlation of the reference with its noiseless self.
        pairs: fewest pairs of genres behind a split.
        reason: why the numbers are None; empty if they are not.
    """

    halves: float | None
    reliability: float | None
    ceiling: float | None
    pairs: int
    reason: str = ""


@dataclass(frozen=True)
class Agreement:
    """How far a learnt similarity and a reference rank the pairs of genres alike.

    Attributes:
        spearman: Spearman's rho over the pairs.
        p_value: share of orders of the genres that agree as well, one-sided, with the +1 rule.
        smallest_p: the least that p_value could have been.
        null_95: 95 % point of rho over the shuffled orders.
        genres: genres compared.
        pairs: pairs compared.
        null: rho of each shuffled order, (permutations,) float64; empty if there is none.
        reason: why the numbers are None; empty if they are not.
    """

    spearman: float | None
    p_value: float | None
    smallest_p: float
    null_95: float | None
    genres: int
    pairs: int
    null: np.ndarray = field(repr=False)
    reason: str = ""


def membership(genre_lists: Sequence[Sequence[int]], genres: int) -> np.ndarray:
    """(M, G) bool of which movie is of which genre, from lists of genre indices."""
    table = np.zeros((len(genre_lists), genres), dtype=bool)
    for movie, listed in enumerate(genre_lists):
        table[movie, list(listed)] = True
    return table


def usable_genres(table: np.ndarray, names: Sequence[str], min_movies: int = 2) -> UsableGenres:
    """Leave out genres that no rating can tell from something else.

    A genre of a single movie cannot be told from that movie, and of genres with one and the same
    set of movies none can be told from the others: only the first of them stays.

    Args:
        table: membership, (M, G) bool.
        names: genre names, G.
        min_movies: fewest movies a genre must have.
    """
    movies = table.sum(axis=0)  # (G,)
    mask = movies >= min_movies
    few = [
        f"{name} has {count} of the {min_movies} movies that tell a genre from a movie"
        for name, count, enough in zip(names, movies, mask, strict=True)
        if not enough
    ]
    twins = []
    seen: dict[bytes, int] = {}
    for genre in np.flatnonzero(mask).tolist():
        first = seen.setdefault(np.packbits(table[:, genre]).tobytes(), genre)
        if first != genre:
            mask[genre] = False
            twins.append(f"{names[genre]} has the same movies as {names[first]}")
    return UsableGenres(mask, (*few, *twins))


def catalogue_similarity(table: np.ndarray) -> Similarity:
    """Jaccard similarity of the genres' movie sets: not independent, the model sees them.

    Args:
        table: membership, (M, G) bool. Genres without movies are unknown.
    """
    dense = table.astype(np.float64)
    both = dense.T @ dense  # (G, G)
    movies = np.diagonal(both)
    either = movies[:, None] + movies - both
    known = (movies[:, None] > 0) & (movies > 0)
    return Similarity(both / np.where(known, either, 1), known)


def taste_moments(
    user: np.ndarray,
    movie: np.ndarray,
    residual: np.ndarray,
    table: np.ndarray,
    shrinkage: float,
    generator: np.random.Generator,
    shared_movies: bool = False,
) -> TasteMoments:
    """Users' affinities to genres, summed up for all that follows.

    The affinity of user u to genre k is the shrunken mean of the residuals of u's ratings of
    movies of k: Σ residuals / (ratings + shrinkage). A movie of both k and l would bring one and
    the same residual, noise included, into both affinities, and make any two genres that share
    movies look alike. So, unless `shared_movies`, affinities to k and l that are compared with
    each other rest on the movies that have only one of the two. In simulated worlds this finds
    the planted similarity better wherever co-occurrence and taste differ, and agrees with the
    catalogue only as far as the truth does; with shared movies a world without any taste for
    genres agrees with its catalogue at rho ≈ 0.6.

    Args:
        user: dense user index of each held-out rating, (n,).
        movie: dense movie index, (n,). No pair of user and movie stands twice.
        residual: rating - what user and movie biases fitted on train expect, (n,).
        table: membership, (M, G) bool.
        shrinkage: ratings of a genre at which an affinity counts half, 0 or more.
        generator: puts users into blocks.
        shared_movies: keep the movies of both genres.

    Returns:
        The sums, in at most 40 blocks of users; working memory beyond the ratings is bounded.
    """
    movies, genres = table.shape
    rated = np.unique(user)
    shape = (int(rated[-1]) + 1 if len(rated) else 0, movies)
    ratings = csr_array((residual, (user, movie)), shape=shape)
    pairs = _pair_table(table)  # (M, G * G)
    step = max(1, _CELLS // max(1, genres**2))

    blocks = np.array_split(generator.permutation(rated), max(2, min(_BLOCKS, len(rated))))
    sums = np.zeros((4, len(blocks), genres, genres))
    for block, users in enumerate(blocks):
        for start in range(0, len(users), step):
            rows = ratings[users[start : start + step]]
            count, total = _by_pair(rows, pairs, genres)  # (U, G, G) both
            own = np.arange(genres)
            single_count = count[:, own, own][:, :, None]
            single_total = total[:, own, own][:, :, None]
            if shared_movies:
                count = np.broadcast_to(single_count, count.shape)
                total = np.broadcast_to(single_total, total.shape)
            else:
                count, total = single_count - count, single_total - total
            affinity = total / np.maximum(count + shrinkage, 1e-12)
            both = (count > 0) & (count.transpose(0, 2, 1) > 0)
            affinity = np.where(both, affinity, 0)
            sums[0, block] += both.sum(axis=0)
            sums[1, block] += affinity.sum(axis=0)
            sums[2, block] += (affinity**2).sum(axis=0)
            sums[3, block] += (affinity * affinity.transpose(0, 2, 1)).sum(axis=0)
    return TasteMoments(*sums)


def taste_similarity(moments: TasteMoments, min_pair_users: int) -> Similarity:
    """Correlation over users of their affinities to two genres.

    Args:
        moments: from `taste_moments`.
        min_pair_users: users with an affinity to both, below which a pair is unknown.

    Returns:
        The similarity; a genre without a known pair, such as one that nobody rated in test, is
        unknown altogether.
    """
    return _taste(moments, np.ones(len(moments.users), dtype=bool), min_pair_users)


def pair_users(moments: TasteMoments) -> np.ndarray:
    """Number of users behind each pair of genres, (G, G) int64."""
    return moments.users.sum(axis=0).astype(np.int64)


def noise_ceiling(
    moments: TasteMoments, min_pair_users: int, splits: int, generator: np.random.Generator
) -> NoiseCeiling:
    """Reliability of a taste similarity, from halves of the users.

    Users are halved, not each user's ratings: a half then is the same estimate on fewer users,
    shrunken and attenuated just alike, which is what Spearman-Brown (1910) lengthens; halves of
    the ratings would give every affinity more noise and measure another quantity. The price is
    that the ceiling counts differences between users as noise although the model knows these
    very users, so an agreement may exceed it a little. What affects all users alike - rare
    genres attenuated more, a third genre that two share - lowers agreement and not the ceiling:
    in the default planted world the truth itself reaches 0.83 to 0.88 of it.

    Args:
        moments: from `taste_moments`; blocks of users are halved at random.
        min_pair_users: as for `taste_similarity`; half of it suffices in a half.
        splits: number of random splits, 20 or more for a steady mean.
        generator: draws the splits.
    """
    blocks = len(moments.users)
    full = taste_similarity(moments, min_pair_users).known
    rhos, counts = [], []
    for _ in range(splits):
        half = np.zeros(blocks, dtype=bool)
        half[generator.permutation(blocks)[: blocks // 2]] = True
        one = _taste(moments, half, max(3, min_pair_users // 2))
        other = _taste(moments, ~half, max(3, min_pair_users // 2))
        pairs = np.triu(full & one.known & other.known, 1)
        counts.append(int(pairs.sum()))
        rho = spearman(one.values[pairs], other.values[pairs])
        if rho is not None:
            rhos.append(rho)
    if not rhos:
        return NoiseCeiling(
            None,
            None,
            None,
            min(counts, default=0),
            f"fewer than 3 pairs of genres have {min_pair_users} users in common",
        )
    mean = float(np.mean(rhos))
    reliability = max(0.0, 2 * mean / (1 + mean)) if mean > -1 else 0.0
    return NoiseCeiling(mean, reliability, math.sqrt(reliability), min(counts))


def movie_halves(
    user: np.ndarray,
    movie: np.ndarray,
    residual: np.ndarray,
    table: np.ndarray,
    shrinkage: float,
    min_pair_users: int,
    generator: np.random.Generator,
) -> float | None:
    """Mean Spearman's rho between the tastes from two halves of the movies.

    Users like some movies more than others, and so any group of movies, a group that means
    nothing included: with enough ratings this is a taste for the group in which all users' halves
    agree and which a model learns too. What belongs to the genre is found again in other movies
    of it. With genre sets shuffled across movies the rho is about 0, however many the ratings.

    Args:
        user, movie, residual, table, shrinkage: as for `taste_moments`.
        min_pair_users: as for `taste_similarity`; half of it suffices in a half.
        generator: halves the movies, and draws 20,000 users where there are more.

    Returns:
        The mean over five splits; None where fewer than 3 pairs of genres can be compared.
    """
    rated = np.unique(user)
    if len(rated) > _MOVIE_USERS:
        asked = np.zeros(int(rated[-1]) + 1, dtype=bool)
        asked[generator.choice(rated, _MOVIE_USERS, replace=False)] = True
        kept = asked[user]
        user, movie, residual = user[kept], movie[kept], residual[kept]
    rhos = []
    for _ in range(_MOVIE_SPLITS):
        half = generator.permutation(len(table)) < len(table) // 2
        one, other = (
            taste_similarity(
                taste_moments(user, movie, residual, table & side[:, None], shrinkage, generator),
                max(3, min_pair_users // 2),
            )
            for side in (half, ~half)
        )
        pairs = np.triu(one.known & other.known, 1)
        rho = spearman(one.values[pairs], other.values[pairs])
        if rho is not None:
            rhos.append(rho)
    return float(np.mean(rhos)) if rhos else None


def agreement(
    learnt: Similarity,
    reference: Similarity,
    permutations: int,
    generator: np.random.Generator,
) -> Agreement:
    """Spearman's rho over pairs of genres, against shuffled genre labels (Mantel 1967).

    Pairs share genres and so are not independent; what is exchangeable under "the learnt
    similarity knows nothing of the reference" are the genres. Rows and columns of the learnt
    similarity are shuffled jointly, while the reference and its mask stay, so that every shuffle
    is judged on the same pairs.

    Args:
        learnt: unknown in whole genres only; these are left out.
        reference: any pair may be unknown and is left out.
        permutations: number of shuffles; 9,999 gives p-values down to 0.0001. They take 0.1 s
            for 18 genres, and 0.2 s where pairs are masked and every shuffle is ranked anew.
        generator: draws the shuffles.

    Raises:
        ValueError: the learnt similarity lacks single pairs; pass it as the reference.
    """
    genres = np.flatnonzero(
        learnt.genres & (reference.known & ~np.eye(len(reference.known), dtype=bool)).any(axis=1)
    )
    cells = np.ix_(genres, genres)
    if not learnt.known[cells].all():
        raise ValueError("agreement: the learnt similarity lacks pairs; pass it as the reference")
    count = len(genres)
    rows, columns = np.nonzero(np.triu(reference.known[cells], 1))  # (P,) both
    values, target = learnt.values[cells], reference.values[cells][rows, columns]
    # With as many orders as permutations or fewer, no p-value gets below one in all orders.
    smallest = max(1 / (permutations + 1), 1 / math.factorial(min(count, 20)))
    observed = spearman(values[rows, columns], target)
    if observed is None:
        reason = (
            f"{count} genres and {len(rows)} pairs can be compared; it takes at least 3 of each"
            if len(rows) < 3
            else "the pairs do not differ, in the learnt similarity or in the reference"
        )
        return Agreement(None, None, smallest, None, count, len(rows), np.empty(0), reason)

    complete = len(rows) == count * (count - 1) // 2
    if complete:  # a shuffle moves the ranks about without changing them
        ranked = np.zeros_like(values)
        ranked[rows, columns] = rankdata(values[rows, columns])
        values = ranked + ranked.T
    target = _standardised(rankdata(target))
    chunks = []
    for orders in _shuffles(count, permutations, max(1, _CELLS // len(rows)), generator):
        shuffled = values[orders[:, rows], orders[:, columns]]  # (chunk, P)
        if not complete:
            shuffled = rankdata(shuffled, axis=1)
        chunks.append(_standardised(shuffled) @ target)
    null = np.concatenate(chunks) if chunks else np.empty(0)
    return Agreement(
        spearman=observed,
        p_value=upper_p_value(observed, null),
        smallest_p=smallest,
        null_95=float(np.quantile(null, 0.95, method="higher")) if len(null) else None,
        genres=count,
        pairs=len(rows),
        null=null,
    )


def upper_p_value(observed: float, null: np.ndarray) -> float:
    """Share of null values that reach the observed one, which counts among them (+1 rule).

    Never 0 (Phipson & Smyth 2010). For label shuffles and for retrained models alike.
    """
    return (1 + int((null >= observed - 1e-12).sum())) / (1 + len(null))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for being several (Holm 1979), in the order given.

    The i-th smallest of m is multiplied by m - i + 1; none falls below a smaller one's, none
    exceeds 1. Rejecting those up to alpha keeps the chance of any false rejection at most alpha.
    """
    p = np.asarray(p_values)
    order = np.argsort(p)
    raised = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(raised, 1)
    return [float(value) for value in adjusted]


def _pair_table(table: np.ndarray) -> csr_array:
    """(M, G * G) sparse: 1 where a movie is of genres k and l, k ≤ l, in column k * G + l."""
    movies, genres = table.shape
    where, columns = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    for k in range(genres):
        of_k = np.flatnonzero(table[:, k])
        movie, ahead = np.nonzero(table[of_k, k:])
        where.append(of_k[movie])
        columns.append(k * genres + k + ahead)
    rows = np.concatenate(where)
    return csr_array(
        (np.ones(len(rows)), (rows, np.concatenate(columns))), shape=(movies, genres**2)
    )


def _by_pair(rows: csr_array, pairs: csr_array, genres: int) -> tuple[np.ndarray, np.ndarray]:
    """Number and sum of users' residuals on movies of both k and l: (U, G, G) each."""
    ones = csr_array((np.ones_like(rows.data), rows.indices, rows.indptr), shape=rows.shape)
    result = []
    for matrix in (ones, rows):
        cube = (matrix @ pairs).toarray().reshape(-1, genres, genres)
        cube += np.triu(cube, 1).transpose(0, 2, 1)
        result.append(cube)
    return result[0], result[1]


def _taste(moments: TasteMoments, blocks: np.ndarray, min_pair_users: int) -> Similarity:
    """The taste similarity of the users in some of the blocks, (B,) bool."""
    n = moments.users[blocks].sum(axis=0)  # (G, G)
    first = moments.first[blocks].sum(axis=0)
    second = moments.second[blocks].sum(axis=0)
    product = moments.product[blocks].sum(axis=0)
    per = np.maximum(n, 1)
    spread = second - first**2 / per
    # Sums of squares lose digits in the subtraction; what is left of equal affinities is no spread.
    varies = spread > 1e-10 * second
    known = (n >= min_pair_users) & varies & varies.T & ~np.eye(len(n), dtype=bool)
    scale = np.sqrt(np.where(known, spread * spread.T, 1))
    values = np.where(known, np.clip((product - first * first.T / per) / scale, -1, 1), 0.0)
    genres = known.any(axis=1)
    np.fill_diagonal(values, genres.astype(np.float64))
    return Similarity(values, known | np.diag(genres))


def _shuffles(
    count: int, permutations: int, chunk: int, generator: np.random.Generator
) -> Iterator[np.ndarray]:
    """Random orders of `count` genres, at most `chunk` at a time: (chunk, G) each."""
    for start in range(0, permutations, chunk):
        orders = np.tile(np.arange(count), (min(chunk, permutations - start), 1))
        yield generator.permuted(orders, axis=1)


def _standardised(ranks: np.ndarray) -> np.ndarray:
    """Rows (…, P) centred and of length 1; a constant row becomes 0."""
    centred = ranks - ranks.mean(axis=-1, keepdims=True)
    norm = np.sqrt((centred**2).sum(axis=-1, keepdims=True))
    return centred / np.where(norm > 0, norm, 1)
