"""The tag genome, and how alike genres are by it.

Jesse Vig, Shilad Sen and John Riedl: The Tag Genome. ACM Transactions on Interactive Intelligent
Systems 2(3), 2012. `genome-scores.csv` says how relevant each of some thousand tags is for a
movie, 0 to 1, by what people wrote of it.

Letters: M movies of the genome, G genres, T tags.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from genre_embeddings.data.sources.archive import GENOME, File
from genre_embeddings.data.sources.base import shown
from genre_embeddings.data.sources.csv import ANY_ID, WHOLE_ID, csv_table, number, whole_number
from genre_embeddings.errors import InputError

FEWEST = 5
"""Movies of one genre and not of the other below which a pair of genres is unknown."""


def scan_genome(file: File | None, movies: pl.DataFrame) -> pl.LazyFrame | None:
    """The rows of a genome-scores.csv, checked but not yet read; None where there is no such file.

    Args:
        file: the file.
        movies: the movies with their movie_id, whose type of id the genome shares.

    Raises:
        InputError: the file does not begin with its header, or a row cannot be used.
    """
    if file is None:
        return None
    whole = movies.schema["movie_id"] != pl.String
    rules = {
        "movie_id": WHOLE_ID if whole else ANY_ID,
        "tag_id": whole_number(10**9),
        "relevance": number(0, 1),
    }
    try:
        table = csv_table(file, rules)
        table.check()
    except InputError as error:
        raise InputError(
            f"{error} Or take the file away: it is evidence that can be done without."
        ) from None
    return table.read({"movie_id"} if whole else set()).with_columns(
        pl.col("relevance").cast(pl.Float32)
    )


def genome_content(
    genome: pl.LazyFrame | None, movies: pl.DataFrame, genres: pl.DataFrame
) -> dict[str, Any] | None:
    """How alike genres are by the tags of their movies; None where there is no genome.

    Args:
        genome: movie_id, tag_id, relevance and row, as `scan_genome` gives them.
        movies: movie, movie_id and genres (indices), as prepared.
        genres: genre and name, as prepared.

    Returns:
        genres (names) and similarity (G x G, null where unknown).

    Raises:
        InputError: the genome says twice how relevant a tag is for a movie.
    """
    if genome is None:
        return None
    # Only movies with a genre can speak for one.
    wanted = movies.filter(pl.col("genres").list.len() > 0).select("movie_id", "movie")
    scores = genome.join(wanted.lazy(), on="movie_id").collect(engine="streaming")
    rows, row = np.unique(scores["movie"].to_numpy(), return_inverse=True)
    tags, column = np.unique(scores["tag_id"].to_numpy(), return_inverse=True)
    cell = row * len(tags) + column
    twice = np.flatnonzero(np.bincount(cell) > 1)
    if twice.size:
        first = scores[np.flatnonzero(cell == twice[0])[:2].tolist()]
        low, high = sorted(first["row"].to_list())
        raise InputError(
            f"{GENOME}, rows {low} and {high}: movie {shown(first['movie_id'][0])} has tag "
            f"{first['tag_id'][0]} twice; allowed: once. Delete one of the rows, or take the file "
            "away."
        )
    relevance = np.zeros((len(rows), len(tags)), dtype=np.float32)
    relevance[row, column] = scores["relevance"].to_numpy()
    table = np.zeros((len(rows), genres.height), dtype=bool)
    for place, listed in enumerate(movies["genres"][rows.tolist()].to_list()):
        table[place, listed] = True
    values, known = tag_similarity(relevance, table)
    similarity = values.round(6).astype(object)
    similarity[~known] = None
    return {"genres": genres["name"].to_list(), "similarity": similarity.tolist()}


def tag_similarity(relevance: np.ndarray, table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Correlation over tags of the profiles of two genres.

    The profile of a genre is the mean relevance of each tag over its movies, less the mean of all
    genres' profiles; a movie of n genres counts 1/n for each, so that it counts once in all. The
    mean is that of genres, not of movies: of those the most common genre would be the measure,
    and unlike all others by that alone.

    A movie of both k and l would bring the same tags into both profiles and make any two genres
    that share movies look alike. So profiles that are compared rest on the movies that have only
    one of the two.

    Args:
        relevance: (M, T) float32.
        table: membership, (M, G) bool, a genre at least for each movie.

    Returns:
        The similarity and where it is known, (G, G) float64 and bool.
    """
    genres = table.shape[1]
    weight = 1 / table.sum(1)  # (M,)
    profiles = np.zeros((genres, genres, relevance.shape[1]))  # [k, l]: of k, compared with l
    counts = np.zeros((genres, genres), dtype=np.int64)
    for genre in range(genres):
        of_genre = table[:, genre]
        tags = relevance[of_genre].astype(np.float64)  # (movies of the genre, T)
        kept = ~table[of_genre]
        kept[:, genre] = True
        counts[genre] = kept.sum(0)
        weights = kept * weight[of_genre, None]  # (movies of the genre, G)
        total = np.maximum(weights.sum(0), 1e-12)
        profiles[genre] = (weights.T @ tags) / total[:, None]
    own = profiles[range(genres), range(genres)]  # (G, T): a copy
    present = np.diagonal(counts) > 0
    profiles -= own[present].sum(0) / max(int(present.sum()), 1)
    profiles -= profiles.sum(-1, keepdims=True) / max(relevance.shape[1], 1)
    norm = np.linalg.norm(profiles, axis=-1)  # (G, G)
    known = (counts >= FEWEST) & (norm > 1e-9)
    known &= known.T
    values = np.einsum("klt,lkt->kl", profiles, profiles)
    values = np.where(known, values / np.where(known, norm * norm.T, 1), 0.0)
    return np.clip((values + values.T) / 2, -1, 1), known
