"""Parsers of the three layouts in which MovieLens has been published.

- *csv* (since 2015): `ratings.csv` and `movies.csv` with a header, UTF-8.
- *dat* (ml-1m, ml-10m): `ratings.dat` and `movies.dat`, fields parted by `::`.
- *item* (ml-100k): `u.data` parted by tabs, `u.item` by pipes with a 0/1 flag per genre of
  `u.genre`.

Ratings may be many and are scanned (`csv.Table`). Movies are few and are read into memory. Each
row is one line, with as many fields as its layout says and no more: otherwise two rows that a lost
line end has joined would pass for one.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import polars as pl

from genre_embeddings.data.sources.archive import File
from genre_embeddings.data.sources.base import NO_TIME, shown
from genre_embeddings.data.sources.csv import (
    ANY_ID,
    WHOLE,
    WHOLE_ID,
    Table,
    check_count,
    number,
    read_header,
    read_rows,
    whole_number,
)
from genre_embeddings.errors import InputError

CSV = ("ratings.csv", "movies.csv")
DAT = ("ratings.dat", "movies.dat")
ITEM = ("u.data", "u.item", "u.genre")
LAYOUTS = (CSV, DAT, ITEM)

_NO_GENRES = "(no genres listed)"
_LATEST = 32_503_680_000  # seconds: the year 3000; above it lie milliseconds
_HEADERS = {
    "userId": "user_id",
    "user_id": "user_id",
    "movieId": "movie_id",
    "movie_id": "movie_id",
    "rating": "rating",
    "timestamp": "timestamp",
    "title": "title",
    "genres": "genres",
}


@dataclass(frozen=True)
class Tables:
    """Ratings and movies as `base.Source` hands them on, and how many rows of ratings there are."""

    ratings: pl.LazyFrame
    movies: pl.DataFrame
    has_time: bool
    rows: int


def read_tables(
    layout: tuple[str, ...], files: Mapping[str, File], scale: tuple[float, float], release: bool
) -> Tables:
    """Read and check the files of one layout.

    Args:
        layout: one of `LAYOUTS`.
        files: the layout's files by name.
        scale: lowest and highest rating allowed.
        release: whether this is a published release, whose ids are whole numbers and whose
            ratings all bear a timestamp. A user's own ids may be text, and a csv file of theirs
            may do without timestamps.

    Raises:
        InputError: a file is empty, lacks its header or a column, or a row holds something that
            cannot be used; the message names the file and the row, counted from 1.
    """
    if layout == CSV:
        movies = list(_csv_movies(files["movies.csv"]))
    elif layout == DAT:
        movies = list(_dat_movies(files["movies.dat"]))
    else:
        movies = list(_item_movies(files["u.item"], files["u.genre"]))
    _check_movies(movies, files[layout[1]], release)
    table = _ratings_table(layout, files[layout[0]], scale, release)
    rows, whole_users, whole_movies = table.check(
        pl.col("rating").count(),
        pl.col("user_id").drop_nulls().str.contains(WHOLE).all(),
        pl.col("movie_id").drop_nulls().str.contains(WHOLE).all(),
    )
    whole_movies = whole_movies and all(re.match(WHOLE, movie.movie_id) for movie in movies)
    return Tables(
        ratings=_ratings_frame(table, whole_users, whole_movies),
        movies=_movies_frame(movies, whole_movies),
        has_time="timestamp" in table.columns,
        rows=rows,
    )


# Ratings


def _ratings_table(
    layout: tuple[str, ...], file: File, scale: tuple[float, float], release: bool
) -> Table:
    """How a file of ratings is cut, and what it may hold."""
    identity = WHOLE_ID if release else ANY_ID
    own = "" if release else " (data.min_rating to data.max_rating)"
    rules = {
        "user_id": identity,
        "movie_id": identity,
        "rating": number(*scale, own),
        "timestamp": whole_number(_LATEST, " seconds since 1970 (milliseconds: divide by 1000)"),
    }
    table = Table(file, "ratings", "\t", "\t", tuple(rules), rules)
    if layout == DAT:
        cut = ("user_id", "", "movie_id", "", "rating", "", "timestamp")
        return replace(table, separator=":", mark="::", columns=cut)
    if layout == CSV:
        needed = list(rules) if release else ["user_id", "movie_id", "rating"]
        columns = _csv_columns(file, needed, "userId,movieId,rating,timestamp")
        columns = tuple(name if name in rules else "" for name in columns)
        rules = {name: rule for name, rule in rules.items() if name in columns}
        return replace(table, separator=",", mark=",", columns=columns, rules=rules, header=True)
    return table


def _csv_columns(file: File, needed: Iterable[str], example: str) -> tuple[str, ...]:
    """Our name of each column of a csv file by its header, "" for one that is not ours."""
    header = read_header(file, example)
    names = tuple(_HEADERS.get(name, "") for name in header)
    missing = [name for name in needed if names.count(name) != 1]
    if missing or names.count("timestamp") > 1:
        raise InputError(
            f"{file.label}, row 1: {shown(','.join(header))} must be the header, with the columns "
            f"{example} parted by commas, each once. Put that line on top of the file, "
            "or rename the columns."
        )
    return names


def _ratings_frame(table: Table, whole_users: bool, whole_movies: bool) -> pl.LazyFrame:
    whole = {"user_id": whole_users, "movie_id": whole_movies}
    dtypes = {name: rule.dtype for name, rule in table.rules.items()}
    frame = table.scan(dtypes | {name: pl.Int64() for name in whole if whole[name]})
    has_time = "timestamp" in table.columns
    return frame.filter(pl.col("rating").is_not_null()).select(  # null: a blank line
        *(name if whole[name] else pl.col(name).str.strip_chars() for name in whole),
        pl.col("rating").cast(pl.Float32),
        "timestamp" if has_time else pl.lit(NO_TIME, pl.Int64).alias("timestamp"),
    )


# Movies


@dataclass(frozen=True)
class _Movie:
    row: int
    movie_id: str
    title: str
    genres: list[str]


def _csv_movies(file: File) -> Iterator[_Movie]:
    """Rows of a movies.csv; titles with commas stand in quotation marks."""
    names = _csv_columns(file, ("movie_id", "title", "genres"), "movieId,title,genres")
    movie_id, title, genres = (names.index(name) for name in ("movie_id", "title", "genres"))
    for row, line in read_rows(file, old=False):
        if row == 1:
            continue
        place = f"{file.label}, row {row}"
        try:
            fields = next(csv.reader([line], strict=True))
        except csv.Error as error:
            raise InputError(
                f"{place}: {shown(line)} is not a row of a csv file ({error}). A title with a "
                "comma or a quotation mark stands in quotation marks in one line, and its own "
                'are doubled: "".'
            ) from None
        check_count(fields, len(names), line, ",", place)
        yield _Movie(row, fields[movie_id].strip(), fields[title], _genres(fields[genres]))


def _dat_movies(file: File) -> Iterator[_Movie]:
    """Rows of a movies.dat; a title may hold colons, but no `::`."""
    for row, line in read_rows(file, old=True):
        movie_id, _, rest = line.partition("::")
        title, _, genres = rest.rpartition("::")
        parts = line.split("::")  # for counting alone: in 1::Heat:::War a colon ends the title
        if "::" in title or len(parts) < 3:
            check_count(parts, 3, line, "::", f"{file.label}, row {row}")
        yield _Movie(row, movie_id.strip(), title, _genres(genres))


def _item_movies(file: File, genre_file: File) -> Iterator[_Movie]:
    """Rows of a u.item: id, title, two dates, address, a 0/1 flag for each genre of u.genre."""
    names = _item_genres(genre_file)
    for row, line in read_rows(file, old=True):
        place = f"{file.label}, row {row}"
        fields = line.split("|")
        check_count(fields, 5 + len(names), line, "|", place)
        genres = []
        for name, flag in zip(names, fields[5:], strict=True):
            if flag.strip() not in ("0", "1"):
                raise InputError(
                    f"{place}: the flag of genre {shown(name)} is {shown(flag)}; allowed: 0 or 1, "
                    f"for each of the {len(names)} genres of {genre_file.label}."
                )
            if flag.strip() == "1" and name != "unknown":  # the release's word for no genre
                genres.append(name)
        yield _Movie(row, fields[0].strip(), fields[1], genres)


def _item_genres(file: File) -> list[str]:
    """Genre names of a u.genre, in the order of the flags."""
    names: list[str] = []
    for row, line in read_rows(file, old=True):
        name, _, number = line.rpartition("|")
        if not name.strip() or name.strip() in names or number.strip() != str(len(names)):
            raise InputError(
                f"{file.label}, row {row}: {shown(line)} must be a new genre's name and its "
                f"number in order, here NAME|{len(names)}."
            )
        names.append(name.strip())
    if not names:
        raise InputError(f"{file.label} holds no genres; a row is NAME|NUMBER, from 0.")
    return names


def _genres(text: str) -> list[str]:
    """Names parted by pipes, without repeats."""
    names = (name.strip() for name in text.split("|"))
    return list(dict.fromkeys(name for name in names if name and name != _NO_GENRES))


def _check_movies(movies: list[_Movie], file: File, release: bool) -> None:
    """Every movie has an id of its own."""
    if not movies:
        raise InputError(f"{file.label} holds no movies.")
    rule = WHOLE_ID if release else ANY_ID
    rows: dict[str, int] = {}
    for movie in movies:
        if not rule.allows(movie.movie_id):
            raise InputError(
                f"{file.label}, row {movie.row}: movie_id is {shown(movie.movie_id)}; "
                f"allowed: {rule.meaning}. Correct the row or delete it."
            )
        if movie.movie_id in rows:
            raise InputError(
                f"{file.label}, rows {rows[movie.movie_id]} and {movie.row}: movie_id "
                f"{shown(movie.movie_id)} stands twice; allowed: once. Delete one of the rows."
            )
        rows[movie.movie_id] = movie.row


def _movies_frame(movies: list[_Movie], whole: bool) -> pl.DataFrame:
    ids = [int(movie.movie_id) if whole else movie.movie_id for movie in movies]
    return pl.DataFrame(
        {
            "movie_id": pl.Series(ids, dtype=pl.Int64 if whole else pl.String),
            "title": pl.Series([movie.title for movie in movies], dtype=pl.String),
            "genres": pl.Series([movie.genres for movie in movies], dtype=pl.List(pl.String)),
        }
    )
