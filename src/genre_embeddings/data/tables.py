"""The canonical tables: ratings with dense indices, users, movies and genres.

prepared/ratings.parquet  user u32, movie u32, rating f32, timestamp i64; by user, time, movie
prepared/users.parquet    user u32, user_id (as the data give it)
prepared/movies.parquet   movie u32, movie_id, title, genres: list of genre indices u32
prepared/unrated.parquet  movie_id, title, genres of movies without a rating, which no stage trains
prepared/genres.parquet   genre u32, name, movies u32, ratings u32 (how many have it)
prepared/meta.json        source, min_rating, max_rating, has_time, sessions
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from genre_embeddings import storage
from genre_embeddings.data.sources.base import Source, Truth, shown
from genre_embeddings.errors import InputError
from genre_embeddings.settings import DataSettings

SESSION = 600
"""Seconds. Of MovieLens's ratings, 97 % have another one by the same user within ten minutes; of
the planted worlds' 1 to 31 %."""
DAY = 86_400
MOST_GENRES = 60
"""Genres that are kept where no setting chooses; a planted world may have more."""


@dataclass(frozen=True)
class Tables:
    """The canonical tables, and counts of their rows and of the rows dropped, by reason."""

    ratings: pl.DataFrame
    users: pl.DataFrame
    movies: pl.DataFrame
    unrated: pl.DataFrame
    genres: pl.DataFrame
    meta: storage.Meta
    counts: dict[str, Any]


def build_tables(source: Source, settings: DataSettings) -> Tables:
    """Filter the source's ratings, and number users, movies and genres from 0.

    In this order: ratings of movies without an entry (`data.missing_movies`); repeated ratings of
    a movie by a user (the last by time, then by row, counts); `top_movies`;
    `min_ratings_per_movie` and `min_ratings_per_user`, until both hold; `min_genre_movies` and
    `top_genres`. Movies without a rating are kept apart, unless a setting drops rare movies.

    Raises:
        InputError: a rated movie has no entry, no rating is left, or there are too many genres.
    """
    ratings, never, dropped = _filtered(source, settings)
    if ratings["rating"].min() == ratings["rating"].max():
        print(
            f"{source.name}: all {ratings.height:,} ratings are {ratings['rating'][0]:g}, so there "
            "is nothing to learn from them; clicks and purchases are no ratings "
            "(docs/guide/own-data.md)",
            file=sys.stderr,
        )

    users = ratings.select("user_id").unique().sort("user_id").with_row_index("user")
    rated = ratings.select("movie_id").unique().sort("movie_id").with_row_index("movie")
    entries = rated.join(source.movies, on="movie_id", how="left", maintain_order="left")
    entries = entries.with_columns(
        pl.col("title").fill_null(pl.col("movie_id").cast(pl.String)),
        pl.col("genres").fill_null(pl.lit([], dtype=pl.List(pl.String))),
    )
    drops_rare_movies = settings.top_movies or settings.min_ratings_per_movie
    unrated = never.clear() if drops_rare_movies else never
    ratings = ratings.select(
        _dense(ratings["user_id"], users["user_id"]).alias("user"),
        _dense(ratings["movie_id"], rated["movie_id"]).alias("movie"),
        "rating",
        "timestamp",
    ).sort("user", "timestamp", "movie")  # no two rows are alike in all three
    listed = entries.select("movie", name="genres").explode("name", empty_as_null=False)
    listed = listed.drop_nulls("name").join(ratings.group_by("movie").len(), on="movie")
    genres = _choose_genres(listed, None if source.truth else settings, source.name)
    entries, unrated = _with_indices(entries, genres), _with_indices(unrated, genres)
    counts = {
        "ratings": ratings.height,
        "users": users.height,
        "movies": entries.height,
        "genres": genres.height,
        "density": ratings.height / (users.height * entries.height),
        # By numpy: polars adds floats in an order that depends on its threads.
        "mean_rating": float(np.mean(ratings["rating"].to_numpy(), dtype=np.float64)),
        "movies_without_genre": entries.filter(pl.col("genres").list.len() == 0).height,
        "movies_never_rated": never.height,
        "rows_read": ratings.height + sum(dropped.values()),
        "dropped": dropped,
    }
    sessions = source.has_time and _in_sessions(ratings)
    meta = storage.Meta(source.name, *source.scale, source.has_time, sessions)
    return Tables(ratings, users, entries, unrated, genres, meta, counts)


def _filtered(
    source: Source, settings: DataSettings
) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, int]]:
    """The ratings to keep, the movies that nobody rated, and counts of rows dropped by reason."""
    # No more than about two copies of the ratings are in memory at once: a join of whole tables
    # would take several times their size.
    ratings = source.ratings.collect(engine="streaming")
    dropped = source.dropped | {"movie_without_entry": 0, "rated_again": 0}

    def keep(kept: pl.DataFrame, reason: str) -> None:
        nonlocal ratings
        dropped[reason] = dropped.get(reason, 0) + ratings.height - kept.height
        ratings = kept

    movies, rated = source.movies, ratings.select("movie_id").unique()
    never = movies.join(rated, on="movie_id", how="anti").sort("movie_id")
    missing = rated.join(movies, on="movie_id", how="anti").sort("movie_id")
    if missing.height and settings.missing_movies == "error":
        some = ", ".join(map(shown, missing["movie_id"].head(5)))
        raise InputError(
            f"{source.name}: {_only(ratings, missing, 'movie_id').height:,} ratings are of "
            f"{missing.height:,} movies that have no entry among the movies (movie ids {some}"
            f"{', ...' if missing.height > 5 else ''}). "
            "Add the entries, or set data.missing_movies in params.yaml to drop (leave these "
            "ratings out) or keep (movies without title and genres)."
        )
    if settings.missing_movies == "drop":
        keep(_only(ratings, movies, "movie_id"), "movie_without_entry")
    keep(_latest(ratings), "rated_again")
    if settings.top_movies:
        top = ratings.group_by("movie_id").len().sort("len", "movie_id", descending=[True, False])
        keep(_only(ratings, top.head(settings.top_movies), "movie_id"), "not_a_top_movie")
    # Dropping users can take movies below their minimum, and the other way round.
    before = -1
    while before != ratings.height:
        before = ratings.height
        for kind in ("movie", "user"):
            if least := getattr(settings, f"min_ratings_per_{kind}"):
                enough = ratings.group_by(f"{kind}_id").len().filter(pl.col("len") >= least)
                keep(_only(ratings, enough, f"{kind}_id"), f"{kind}_with_few_ratings")
    if ratings.is_empty():
        raise InputError(
            f"{source.name}: of {sum(dropped.values()):,} ratings none is left "
            f"({reasons(dropped) or 'the source is empty'}); correct data.min_rating and "
            "data.max_rating, lower data.min_ratings_per_user or data.min_ratings_per_movie, raise "
            "data.top_movies, or name another source."
        )
    return ratings, never, dropped


def reasons(dropped: dict[str, int]) -> str:
    """How many rows were dropped for which reason, in words."""
    return ", ".join(f"{rows:,} {why.replace('_', ' ')}" for why, rows in dropped.items() if rows)


def _in_sessions(ratings: pl.DataFrame) -> bool:
    """Whether at least half of the ratings lie within SESSION of another one by the same user.

    Dates alone cannot tell: on ml-latest-small with times cut to the day, the validation RMSE is
    0.798 without and 0.803 with the nearest ratings.
    """
    if (ratings["timestamp"] % DAY == 0).all():
        return False
    same_user = pl.col("user") == pl.col("user").shift()
    soon_after = same_user & (pl.col("timestamp").diff() <= SESSION)
    after = ratings.select(soon_after.fill_null(False)).to_series()
    near = after | after.shift(-1, fill_value=False)
    return 2 * int(near.sum()) >= ratings.height


def _latest(ratings: pl.DataFrame) -> pl.DataFrame:
    """One rating for each user and movie: the latest, and of two at one time the later row.

    For ten million ratings this takes 1.5 s and 160 MB, `unique` of polars 8 s and 1.6 GB.
    """
    users, movies = (
        _dense(ratings[c], ratings[c].unique().sort()).to_numpy() for c in ("user_id", "movie_id")
    )
    pairs = users.astype(np.uint64) << np.uint64(32) | movies
    del users, movies
    ordered = np.sort(pairs)
    if not (ordered[1:] == ordered[:-1]).any():
        return ratings
    del ordered
    order = np.lexsort((ratings["timestamp"].to_numpy(), pairs))  # equal ones stay as in the file
    earlier = order[:-1][pairs[order[1:]] == pairs[order[:-1]]]
    kept = np.ones(pairs.size, dtype=bool)
    kept[earlier] = False
    return ratings.filter(pl.Series(kept))


def _dense(ids: pl.Series, known: pl.Series) -> pl.Series:
    """Place of each id among the `known`, which are sorted, (N,) UInt32."""
    # Where ids have few gaps, a table of places takes less than a join: for ten million ratings
    # 1.4 s of CPU time and 100 MB.
    if ids.dtype != pl.String and known.len() > 0:
        low, high = int(known[0]), int(known[-1])
        if high - low < 8 * known.len() + 1_000_000:
            place = np.zeros(high - low + 1, dtype=np.uint32)
            place[known.to_numpy() - low] = np.arange(known.len(), dtype=np.uint32)
            return pl.Series(place[ids.to_numpy() - low])
    index = known.to_frame("id").with_row_index("index")
    return ids.to_frame("id").join(index, on="id", how="left", maintain_order="left")["index"]


def _only(ratings: pl.DataFrame, kept: pl.DataFrame, column: str) -> pl.DataFrame:
    """The ratings, in their order, whose user or movie is among those kept."""
    return ratings.join(kept, on=column, how="semi", maintain_order="left")


def _choose_genres(listed: pl.DataFrame, settings: DataSettings | None, name: str) -> pl.DataFrame:
    """The genres that `min_genre_movies` and `top_genres` leave, by name, with their counts.

    `listed` has a row for each genre of each rated movie: name, and len, the movie's ratings.

    Raises:
        InputError: more genres are left than are kept without asking.
    """
    counts = listed.group_by("name").agg(
        movies=pl.len().cast(pl.UInt32), ratings=pl.col("len").sum().cast(pl.UInt32)
    )
    kept = counts = counts.sort("movies", "name", descending=[True, False])
    if settings:
        kept = counts.filter(pl.col("movies") >= settings.min_genre_movies)
        most = settings.top_genres or MOST_GENRES
        if not settings.top_genres and kept.height > most:
            rare, some = kept["movies"][most], ", ".join(map(shown, kept["name"].tail(3)))
            raise InputError(
                f"{name}: the movies have {kept.height:,} genres, such as {some}; allowed without "
                f"a choice: {most}, because training and inspection compare all pairs of genres. "
                f"Choose with data.top_genres (1 to 200) or data.min_genre_movies ({rare + 1:,} "
                f"leaves {most} or fewer). If names were not separated, set data.genre_separator."
            )
        kept = kept.head(most)
    if kept.height < counts.height:
        print(
            f"{name}: kept {kept.height:,} of {counts.height:,} genres (data.top_genres, "
            "data.min_genre_movies)",
            file=sys.stderr,
        )
    return kept.sort("name").with_row_index("genre")


def _with_indices(movies: pl.DataFrame, genres: pl.DataFrame) -> pl.DataFrame:
    """Movies with sorted genre indices in place of names; names without an index go."""
    index = dict(zip(genres["name"], genres["genre"], strict=True))
    sets = [sorted({index[name] for name in names if name in index}) for names in movies["genres"]]
    return movies.with_columns(genres=pl.Series(sets, dtype=pl.List(pl.UInt32)))


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
    with storage.replacing(storage.PREPARED, folder=True) as folder:
        for name in ("ratings", "users", "movies", "unrated", "genres"):
            storage.write_table(folder / f"{name}.parquet", getattr(tables, name))
        storage.write_json(folder / "meta.json", tables.meta._asdict())
