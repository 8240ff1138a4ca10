"""The canonical tables: ratings with dense indices, users, movies and genres.

prepared/ratings.parquet  user u32, movie u32, rating f32, timestamp i64; by user, time, movie
prepared/users.parquet    user u32, user_id (as the data give it)
prepared/movies.parquet   movie u32, movie_id, title, genres: list of genre indices u32
prepared/genres.parquet   genre u32, name, movies u32, ratings u32 (how many have it)
prepared/meta.json        source, min_rating, max_rating, has_time
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from genre_embeddings import storage
from genre_embeddings.data.sources.base import Source, Truth, shown
from genre_embeddings.errors import InputError
from genre_embeddings.settings import DataSettings


@dataclass(frozen=True)
class Tables:
    """The canonical tables and, when just prepared, the counts that tell how they came about."""

    ratings: pl.DataFrame
    users: pl.DataFrame
    movies: pl.DataFrame
    genres: pl.DataFrame
    meta: storage.Meta
    counts: dict[str, Any]


def build_tables(source: Source, settings: DataSettings) -> Tables:
    """Filter the source's ratings and give users, movies and genres their dense indices.

    In this order: ratings of movies without an entry (`data.missing_movies`); repeated ratings of
    a movie by a user (the last by time, then by row, counts); `top_movies`;
    `min_ratings_per_movie`; `min_ratings_per_user`. The last two can undercut each other and are
    applied once each.

    Raises:
        InputError: a rated movie has no entry, or no rating is left.
    """
    # Little more than two copies of the ratings lie in memory at once: what a join of whole
    # tables would take besides is several times their size.
    ratings = source.ratings.collect(engine="streaming")
    dropped = dict(source.dropped)
    read = ratings.height + sum(dropped.values())

    def keep(reason: str, kept: pl.DataFrame) -> pl.DataFrame:
        dropped[reason] = ratings.height - kept.height
        return kept

    movies = source.movies
    ratings = keep("movie_without_entry", _resolve_missing(ratings, movies, source.name, settings))
    ratings = keep("rated_again", _latest(ratings))
    if settings.top_movies:
        ratings = keep("not_a_top_movie", _top_movies(ratings, settings.top_movies))
    if settings.min_ratings_per_movie:
        ratings = keep(
            "movie_with_few_ratings",
            _at_least(ratings, "movie_id", settings.min_ratings_per_movie),
        )
    if settings.min_ratings_per_user:
        ratings = keep(
            "user_with_few_ratings", _at_least(ratings, "user_id", settings.min_ratings_per_user)
        )
    if ratings.is_empty():
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in dropped.items() if count)
        raise InputError(
            f"{source.name}: of {read:,} ratings none is left ({reasons or 'the source is empty'});"
            " lower data.top_movies, data.min_ratings_per_user or data.min_ratings_per_movie "
            "in params.yaml, or name another source."
        )

    users = ratings.select("user_id").unique().sort("user_id").with_row_index("user")
    rated = ratings.select("movie_id").unique().sort("movie_id").with_row_index("movie")
    entries = rated.join(movies, on="movie_id", how="left", maintain_order="left").with_columns(
        pl.col("title").fill_null(pl.col("movie_id").cast(pl.String)),
        pl.col("genres").fill_null(pl.lit([], dtype=pl.List(pl.String))),
    )
    ratings = _indexed(ratings, users, rated)
    entries, genres = _index_genres(entries, ratings)
    counts = {
        "ratings": ratings.height,
        "users": users.height,
        "movies": entries.height,
        "genres": genres.height,
        "density": ratings.height / (users.height * entries.height),
        # By numpy: polars adds floats in an order that depends on its threads.
        "mean_rating": float(np.mean(ratings["rating"].to_numpy(), dtype=np.float64)),
        "movies_without_genre": entries.filter(pl.col("genres").list.len() == 0).height,
        "movies_never_rated": movies.height - movies.join(rated, on="movie_id", how="semi").height,
        "rows_read": read,
        "dropped": dropped,
    }
    low, high = source.scale
    meta = storage.Meta(source.name, low, high, source.has_time)
    return Tables(ratings, users, entries, genres, meta, counts)


def _resolve_missing(
    ratings: pl.DataFrame, movies: pl.DataFrame, name: str, settings: DataSettings
) -> pl.DataFrame:
    per_movie = ratings.group_by("movie_id").len()
    missing = per_movie.join(movies.select("movie_id"), on="movie_id", how="anti")
    if missing.is_empty() or settings.missing_movies == "keep":
        return ratings
    if settings.missing_movies == "drop":
        return ratings.join(
            movies.select("movie_id"), on="movie_id", how="semi", maintain_order="left"
        )
    ids = missing["movie_id"].sort()
    some = ", ".join(map(shown, ids.head(5))) + (", ..." if ids.len() > 5 else "")
    raise InputError(
        f"{name}: {missing['len'].sum():,} ratings are of {ids.len():,} movies that have no entry "
        f"among the movies (movie ids {some}). Add the entries, or set data.missing_movies in "
        "params.yaml to drop (leave these ratings out) or keep (movies without title and genres)."
    )


def _latest(ratings: pl.DataFrame) -> pl.DataFrame:
    """One rating for each user and movie: the latest, and of two at one time the later row."""
    if not _has_repeats(ratings):
        return ratings
    return (
        ratings.with_row_index("row")
        .sort("timestamp", "row")
        .unique(["user_id", "movie_id"], keep="last", maintain_order=True)
        .sort("row")
        .drop("row")
    )


def _has_repeats(ratings: pl.DataFrame) -> bool:
    """Whether a pair of user and movie comes more than once."""
    users, movies = (
        _dense(ratings[c], ratings[c].unique().sort()) for c in ("user_id", "movie_id")
    )
    pairs = users.astype(np.uint64) << np.uint64(32) | movies
    del users, movies
    pairs.sort()
    return bool((pairs[1:] == pairs[:-1]).any())


def _dense(ids: pl.Series, known: pl.Series) -> np.ndarray:
    """Place of each id among the `known`, which are sorted, (N,) uint32."""
    if ids.dtype != pl.String and known.len() > 0:
        low, high = int(known[0]), int(known[-1])
        if high - low < 8 * known.len() + 1_000_000:
            place = np.zeros(high - low + 1, dtype=np.uint32)
            place[known.to_numpy() - low] = np.arange(known.len(), dtype=np.uint32)
            return place[ids.to_numpy() - low]
    index = known.alias("id").to_frame().with_row_index("index")
    found = ids.alias("id").to_frame().join(index, on="id", how="left", maintain_order="left")
    return found["index"].to_numpy().astype(np.uint32, copy=False)


def _indexed(ratings: pl.DataFrame, users: pl.DataFrame, rated: pl.DataFrame) -> pl.DataFrame:
    """Canonical ratings: dense indices in place of ids, by user, time and movie."""
    columns = {
        "user": _dense(ratings["user_id"], users["user_id"]),
        "movie": _dense(ratings["movie_id"], rated["movie_id"]),
        "rating": ratings["rating"].to_numpy(),
        "timestamp": ratings["timestamp"].to_numpy(),
    }
    found = pl.DataFrame(columns, schema=storage.RATINGS_SCHEMA)
    return found.sort("user", "timestamp", "movie")  # no two rows are alike in all three


def _top_movies(ratings: pl.DataFrame, count: int) -> pl.DataFrame:
    """Ratings of the `count` most-rated movies; of two equally rated, the lower id goes first."""
    top = (
        ratings.group_by("movie_id")
        .len()
        .sort("len", "movie_id", descending=[True, False])
        .head(count)
    )
    return ratings.join(top, on="movie_id", how="semi", maintain_order="left")


def _at_least(ratings: pl.DataFrame, column: str, count: int) -> pl.DataFrame:
    enough = ratings.group_by(column).len().filter(pl.col("len") >= count)
    return ratings.join(enough, on=column, how="semi", maintain_order="left")


def _index_genres(movies: pl.DataFrame, ratings: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Movies with genre indices in place of names, and the genres by name with their counts."""
    pairs = movies.select("movie", "genres").explode("genres", empty_as_null=False).drop_nulls()
    pairs = pairs.unique(maintain_order=True)
    names = pairs.select(name="genres").unique().sort("name").with_row_index("genre")
    per_movie = ratings.group_by("movie").len(name="ratings")
    pairs = pairs.join(names, left_on="genres", right_on="name").join(per_movie, on="movie")
    genres = (
        names.join(
            pairs.group_by("genre").agg(
                movies=pl.len().cast(pl.UInt32), ratings=pl.col("ratings").sum().cast(pl.UInt32)
            ),
            on="genre",
        )
        .sort("genre")
        .select("genre", "name", "movies", "ratings")
    )
    sets = pairs.sort("movie", "genre").group_by("movie", maintain_order=True).agg("genre")
    indexed = (
        movies.drop("genres")
        .join(sets.rename({"genre": "genres"}), on="movie", how="left", maintain_order="left")
        .with_columns(pl.col("genres").fill_null(pl.lit([], dtype=pl.List(pl.UInt32))))
    )
    return indexed, genres


def truth_content(genres: pl.DataFrame, truth: Truth | None) -> dict[str, Any] | None:
    """The planted truth in the order of the genre table; None where nothing is planted."""
    if truth is None:
        return None
    order = [truth.names.index(name) for name in genres["name"]]
    return {
        "genres": genres["name"].to_list(),
        "positions": truth.positions[order].round(6).tolist(),
        "similarity": truth.similarity[np.ix_(order, order)].round(6).tolist(),
    }


def write_tables(tables: Tables) -> None:
    """Write the folder data/prepared/."""
    with storage.replacing_folder(storage.PREPARED) as folder:
        for name in ("ratings", "users", "movies", "genres"):
            storage.write_table(folder / f"{name}.parquet", getattr(tables, name))
        storage.write_json(folder / "meta.json", tables.meta._asdict())
