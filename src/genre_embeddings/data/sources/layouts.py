"""The three layouts in which MovieLens has been published, and how their files are read.

- *csv* (since 2015): `ratings.csv` and `movies.csv` with a header, UTF-8.
- *dat* (ml-1m, ml-10m): `ratings.dat` and `movies.dat`, separated by `::`.
- *item* (ml-100k): `u.data` separated by tabs, `u.item` by pipes with a 0/1 flag per genre of
  `u.genre`.

Each row is one line, with as many fields as its layout says and no more: otherwise two rows that a
lost line end has joined would pass for one.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from genre_embeddings.data.sources.archive import GENOME, File
from genre_embeddings.data.sources.base import NO_TIME, Source, shown
from genre_embeddings.data.sources.csv import (
    ANY,
    ANY_ID,
    IDS,
    LATEST,
    MISSING,
    NO_ID,
    WHOLE,
    WHOLE_ID,
    Rule,
    Table,
    csv_table,
    number,
    text,
    text_without,
    whole_number,
)
from genre_embeddings.data.sources.genome import scan_genome
from genre_embeddings.data.sources.genres import read_genres
from genre_embeddings.errors import InputError
from genre_embeddings.settings import DataSettings

CSV = ("ratings.csv", "movies.csv")
DAT = ("ratings.dat", "movies.dat")
ITEM = ("u.data", "u.item", "u.genre")
LAYOUTS = (CSV, DAT, ITEM)

NO_RATING = ("", "na", "n/a", "<na>", "nan", "none", "null", "\\n", "-", "?")
"""Words for a rating that is missing, in lower case."""

_LARGEST = 1e30  # of a rating off the scale


def read_source(
    name: str,
    layout: tuple[str, ...],
    files: Mapping[str, File],
    scale: tuple[float, float],
    own: DataSettings | None,
) -> Source:
    """Read and check the files of one layout.

    Args:
        name: the source's name in `data.source`.
        layout: one of `LAYOUTS`.
        files: the layout's files by name, with the tag genome where there is one.
        scale: lowest and highest rating allowed.
        own: settings for files of the user's own: ids may be text, timestamps may be missing from
            a csv file or be dates, genres may be written in several ways, and ratings that are
            missing or off the scale may be dropped. None for a published release.

    Raises:
        InputError: a file is empty, lacks its header or a column, or a row holds something that
            cannot be used; the message names the file and the row, counted from 1.
    """
    rules = _rules(scale, own)
    movies = _read_movies(layout, files, own, rules["movie_id"])
    if layout == CSV:
        table = csv_table(files[layout[0]], rules, "timestamp" if own else "")
    else:
        table = Table(files[layout[0]], "::" if layout == DAT else "\t", list(rules), rules)
    rating, off_scale = pl.col("rating"), ~pl.col("rating").is_between(*scale)
    no_id, whole_id = pl.lit(value=False), WHOLE
    if own and own.off_scale == "drop":  # else the check refuses a missing id
        no_id = pl.any_horizontal(pl.col(*IDS).str.contains(MISSING))
        whole_id = f"{WHOLE}|{MISSING}"
    rows, without_id, without_rating, off, *whole = table.check(
        no_id.sum(),
        (~no_id & rating.is_nan()).sum(),
        (~no_id & off_scale & ~rating.is_nan()).sum(),
        *(pl.col(column).str.contains(whole_id).all() for column in IDS),
    )
    dropped = {"without_id": without_id, "without_rating": without_rating, "off_scale": off}
    ids = {column for column, is_whole in zip(IDS, whole, strict=True) if is_whole}
    if "movie_id" in ids and movies["movie_id"].str.contains(WHOLE).all():
        movies = movies.with_columns(pl.col("movie_id").cast(pl.Int64))
    else:
        ids -= {"movie_id"}
    has_time = table.rules.get("timestamp", ANY) is not ANY
    time = pl.col("timestamp") if has_time else pl.lit(NO_TIME, pl.Int64).alias("timestamp")
    ratings = table.read(ids)
    if any(dropped.values()):
        missing = pl.any_horizontal(
            pl.col(column).is_null() if column in ids else pl.col(column).str.contains(MISSING)
            for column in IDS
        )
        ratings = ratings.filter(~missing & ~off_scale)
    return Source(
        name=name,
        ratings=ratings.select(*IDS, rating.cast(pl.Float32), time),
        movies=movies,
        scale=scale,
        has_time=has_time,
        dropped={reason: count for reason, count in dropped.items() if count},
        rows=rows,
        genome=scan_genome(files.get(GENOME), movies),
    )


def _rules(scale: tuple[float, float], own: DataSettings | None) -> dict[str, Rule]:
    """What a row of ratings may hold."""
    identity, rating = WHOLE_ID, number(*scale)
    unit = " seconds since 1970 (milliseconds: divide by 1000)"
    time = whole_number(LATEST, unit)
    if own:
        drop = "set data.off_scale to drop, which leaves out all rows without ids"
        identity = ANY_ID._replace(remedy=f"Correct the row or delete it, or {drop}.")
        rating = rating._replace(
            meaning=f"{rating.meaning} (data.min_rating to data.max_rating)",
            remedy=f"Correct the row, set these two to your scale, or {drop} or without a rating "
            "on the scale.",
        )
        unit += ", or a date such as 2015-03-01 or 2015-03-01 12:00:00"
        time = whole_number(LATEST, unit, dates=True)._replace(
            remedy="Correct the row, or set data.timestamps to ignore, which reads ratings "
            "without times."
        )
        if own.off_scale == "drop":
            identity = text_without(NO_ID, ANY_ID.meaning)
            rating = number(-_LARGEST, _LARGEST, NO_RATING)._replace(
                meaning="a number, or for no rating nothing, NA, nan, null or \\N"
            )
        if own.timestamps == "ignore":
            time = ANY
    return {"user_id": identity, "movie_id": identity, "rating": rating, "timestamp": time}


def _read_movies(
    layout: tuple[str, ...], files: Mapping[str, File], own: DataSettings | None, identity: Rule
) -> pl.DataFrame:
    """movie_id as text without repeats, title, and genres as lists of names."""
    file = files[layout[1]]
    rules = {"movie_id": identity, "title": ANY, "genres": ANY}
    if layout == CSV:
        movies = _read(csv_table(file, rules))
    elif layout == DAT:
        rules["title"] = text_without("::", "text without ::")
        movies = _read(Table(file, "::", list(rules), rules, latin=True))
    else:
        movies = _read_items(file, files["u.genre"], identity)
    movies = movies.filter(~pl.col("movie_id").str.contains(MISSING))
    again = movies.filter(~pl.col("movie_id").is_first_distinct())
    if again.height:
        movie_id = again["movie_id"][0]
        first, second = movies.filter(movie_id=movie_id)["row"][:2]
        raise InputError(
            f"{file.label}, rows {first} and {second}: movie_id {shown(movie_id)} stands twice; "
            "allowed: once. Delete one of the rows."
        )
    texts = movies.group_by("genres").agg(pl.col("row").first(), pl.len()).sort("row")
    fields = {genres: (row, count) for genres, row, count in texts.rows()}
    separator = "|" if own is None or layout == ITEM else own.genre_separator
    names = read_genres(fields, separator, file.label)
    lists = pl.Series([names[genres] for genres in movies["genres"]], dtype=pl.List(pl.String))
    return movies.select("movie_id", "title", genres=lists)


def _read_items(file: File, genre_file: File, identity: Rule) -> pl.DataFrame:
    """The movies of a u.item: id, title, two dates, address, a 0/1 flag for each genre."""
    genre_rules = {"name": text(r"\S", "a name"), "number": whole_number(10**6)}
    table = Table(genre_file, "|", tuple(genre_rules), genre_rules, latin=True)
    names: list[str] = []
    for row, name, place in _read(table).rows():
        if place != len(names) or name.strip() in names:
            raise InputError(
                f"{genre_file.label}, row {row}: {shown(f'{name}|{place}')} must be a new genre's "
                f"name and its number in order, here NAME|{len(names)}."
            )
        names.append(name.strip())
    flag = text("^ *[01] *$", "0 or 1")
    flags = {f"the flag of genre {n} ({shown(name)})": name for n, name in enumerate(names)}
    rules = {"movie_id": identity, "title": ANY, **dict.fromkeys(flags, flag)}
    columns = ("movie_id", "title", "", "", "", *flags)
    movies = _read(Table(file, "|", columns, rules, latin=True))
    chosen = [
        pl.when(pl.col(column).str.contains("1")).then(pl.lit(name))
        for column, name in flags.items()
        if name != "unknown"  # the release's word for no genre
    ]
    genres = pl.concat_str(pl.lit(""), *chosen, separator="|", ignore_nulls=True)
    return movies.select("row", "movie_id", "title", genres=genres)


def _read(table: Table) -> pl.DataFrame:
    table.check()
    return table.read().collect()
