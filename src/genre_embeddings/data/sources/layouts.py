"""Parsers of the three layouts in which MovieLens has been published.

- *csv* (since 2015): `ratings.csv` and `movies.csv` with a header, UTF-8.
- *dat* (ml-1m, ml-10m): `ratings.dat` and `movies.dat`, separated by `::`.
- *item* (ml-100k): `u.data` separated by tabs, `u.item` by pipes with a 0/1 flag per genre of
  `u.genre`.

Ratings may be many and are scanned (`csv.Table`). Movies are few and are read into memory. Each
row is one line, with as many fields as its layout says and no more: otherwise two rows that a lost
line end has joined would pass for one.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

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
from genre_embeddings.data.sources.genres import Field, read_genres
from genre_embeddings.errors import InputError
from genre_embeddings.settings import DataSettings

CSV = ("ratings.csv", "movies.csv")
DAT = ("ratings.dat", "movies.dat")
ITEM = ("u.data", "u.item", "u.genre")
LAYOUTS = (CSV, DAT, ITEM)

_IDS = ("user_id", "movie_id")
_LARGEST = 1e30  # of a rating off the scale
_LATEST = 32_503_680_000  # seconds: the year 3000; above it lie milliseconds
_NAMES = {"userId": "user_id", "movieId": "movie_id"}
_COLUMNS = (*_IDS, "rating", "timestamp", "title", "genres")


@dataclass(frozen=True)
class Tables:
    """Ratings and movies as `base.Source` hands them on, and how many rows of ratings there are."""

    ratings: pl.LazyFrame
    movies: pl.DataFrame
    has_time: bool
    rows: int
    dropped: dict[str, int]


def read_tables(
    layout: tuple[str, ...],
    files: Mapping[str, File],
    scale: tuple[float, float],
    own: DataSettings | None,
) -> Tables:
    """Read and check the files of one layout.

    Args:
        layout: one of `LAYOUTS`.
        files: the layout's files by name.
        scale: lowest and highest rating allowed.
        own: settings for files of the user's own: ids may be text, timestamps may be missing from
            a csv file, genres may be written in several ways, and ratings off the scale may be
            dropped. None for a published release.

    Raises:
        InputError: a file is empty, lacks its header or a column, or a row holds something that
            cannot be used; the message names the file and the row, counted from 1.
    """
    release = own is None
    if layout == CSV:
        rows = _csv_movies(files["movies.csv"])
    elif layout == DAT:
        rows = _dat_movies(files["movies.dat"])
    else:
        rows = _item_movies(files["u.item"], files["u.genre"])
    separator = "|" if own is None or layout == ITEM else own.genre_separator
    movies = _movies_frame(rows, files[layout[1]], release, separator)
    drop = own is not None and own.off_scale == "drop"
    table = _ratings_table(layout, files[layout[0]], scale, release, drop)
    off_scale = ~pl.col("rating").is_between(*scale)
    try:
        count, off, *whole = table.check(
            off_scale.sum(), *(pl.col(name).str.contains(WHOLE).all() for name in _IDS)
        )
    except InputError as error:
        if release or ": rating is " not in str(error) or not (off := table.off("rating", *scale)):
            raise
        raise InputError(
            f"{error} {off:,} ratings are below {scale[0]:g} or above {scale[1]:g}; if these mean "
            "'not rated', set data.off_scale to drop."
        ) from None
    ids = {name for name, is_whole in zip(_IDS, whole, strict=True) if is_whole}
    if "movie_id" in ids and movies["movie_id"].str.contains(WHOLE).all():
        movies = movies.with_columns(pl.col("movie_id").cast(pl.Int64))
    else:
        ids -= {"movie_id"}
    has_time = "timestamp" in table.columns
    ratings = table.read(ids).select(
        *_IDS,
        pl.col("rating").cast(pl.Float32),
        "timestamp" if has_time else pl.lit(NO_TIME, pl.Int64).alias("timestamp"),
    )
    return Tables(
        ratings=ratings.filter(~off_scale) if off else ratings,
        movies=movies,
        has_time=has_time,
        rows=count,
        dropped={"off_scale": off} if off else {},
    )


# Ratings


def _ratings_table(
    layout: tuple[str, ...], file: File, scale: tuple[float, float], release: bool, drop: bool
) -> Table:
    """How a file of ratings is cut, and what it may hold; `drop` allows ratings off the scale."""
    identity = WHOLE_ID if release else ANY_ID
    own = "" if release else " (data.min_rating to data.max_rating)"
    dates = "" if release or layout != CSV else "; dates: convert them, or leave out the column"
    rules = {
        "user_id": identity,
        "movie_id": identity,
        "rating": number(-_LARGEST, _LARGEST) if drop else number(*scale, own),
        "timestamp": whole_number(
            _LATEST, f" seconds since 1970 (milliseconds: divide by 1000{dates})"
        ),
    }
    if layout != CSV:
        return Table(file, "ratings", "::" if layout == DAT else "\t", tuple(rules), rules)
    needed = list(rules) if release else [*_IDS, "rating"]
    columns = _csv_columns(file, needed, "userId,movieId,rating,timestamp")
    columns = tuple(name if name in rules else "" for name in columns)
    rules = {name: rule for name, rule in rules.items() if name in columns}
    return Table(file, "ratings", ",", columns, rules, header=True)


def _csv_columns(file: File, needed: Iterable[str], example: str) -> tuple[str, ...]:
    """Our name of each column of a csv file by its header, "" for one that is not ours."""
    header = read_header(file, example)
    names = tuple(_NAMES.get(name, name if name in _COLUMNS else "") for name in header)
    missing = [name for name in needed if names.count(name) != 1]
    if missing or names.count("timestamp") > 1:
        raise InputError(
            f"{file.label}, row 1: {shown(','.join(header))} must be the header, with the columns "
            f"{example} separated by commas, each once. Put that line on top of the file, "
            "or rename the columns."
        )
    return names


# Movies


_Row: TypeAlias = tuple[int, str, str, str]
"""Number of the row, movie id, title and text of the genres."""


def _csv_movies(file: File) -> Iterator[_Row]:
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
        check_count(len(fields), len(names), line, ",", place)
        yield row, fields[movie_id].strip(), fields[title], fields[genres]


def _dat_movies(file: File) -> Iterator[_Row]:
    """Rows of a movies.dat; a title may hold colons, but no `::`."""
    for row, line in read_rows(file, old=True):
        movie_id, _, rest = line.partition("::")
        title, _, genres = rest.rpartition("::")
        marks = line.count("::")  # for counting alone: in 1::Heat:::War a colon ends the title
        if "::" in title or marks < 2:
            check_count(marks + 1, 3, line, "::", f"{file.label}, row {row}")
        yield row, movie_id.strip(), title, genres


def _item_movies(file: File, genre_file: File) -> Iterator[_Row]:
    """Rows of a u.item: id, title, two dates, address, a 0/1 flag for each genre of u.genre."""
    names = _item_genres(genre_file)
    for row, line in read_rows(file, old=True):
        place = f"{file.label}, row {row}"
        fields = line.split("|")
        check_count(len(fields), 5 + len(names), line, "|", place)
        genres = []
        for name, flag in zip(names, fields[5:], strict=True):
            if flag.strip() not in ("0", "1"):
                raise InputError(
                    f"{place}: the flag of genre {shown(name)} is {shown(flag)}; allowed: 0 or 1, "
                    f"for each of the {len(names)} genres of {genre_file.label}."
                )
            if flag.strip() == "1" and name != "unknown":  # the release's word for no genre
                genres.append(name)
        yield row, fields[0].strip(), fields[1], "|".join(genres)


def _item_genres(file: File) -> list[str]:
    """Genre names of a u.genre, in the order of the flags."""
    names: list[str] = []
    for row, line in read_rows(file, old=True):
        name, _, number = line.rpartition("|")
        if (
            not name.strip()
            or "|" in name
            or name.strip() in names
            or number.strip() != str(len(names))
        ):
            raise InputError(
                f"{file.label}, row {row}: {shown(line)} must be a new genre's name and its "
                f"number in order, here NAME|{len(names)}."
            )
        names.append(name.strip())
    if not names:
        raise InputError(f"{file.label} holds no genres; a row is NAME|NUMBER, from 0.")
    return names


def _movies_frame(
    movies: Iterable[_Row], file: File, release: bool, separator: str
) -> pl.DataFrame:
    """The movies, each with an id of its own that is text."""
    rule = WHOLE_ID if release else ANY_ID
    rows: dict[str, int] = {}
    fields: dict[str, Field] = {}
    titles, texts = [], []
    for row, movie_id, title, text in movies:
        if not re.match(WHOLE, movie_id) and not rule.allows(movie_id):
            raise InputError(
                f"{file.label}, row {row}: movie_id is {shown(movie_id)}; "
                f"allowed: {rule.meaning}. Correct the row or delete it."
            )
        if movie_id in rows:
            raise InputError(
                f"{file.label}, rows {rows[movie_id]} and {row}: movie_id "
                f"{shown(movie_id)} stands twice; allowed: once. Delete one of the rows."
            )
        rows[movie_id] = row
        titles.append(title)
        field = fields.setdefault(text, Field(row, 0))
        field.movies += 1
        texts.append(text)
    if not rows:
        raise InputError(f"{file.label} holds no movies.")
    genres = read_genres(fields, separator, file.label)
    return pl.DataFrame(
        {
            "movie_id": pl.Series(rows.keys(), dtype=pl.String),
            "title": pl.Series(titles, dtype=pl.String),
            "genres": pl.Series([genres[text] for text in texts], dtype=pl.List(pl.String)),
        }
    )
