"""Predictions by the data's own ids, for pairs or for a csv file.

Unknown ids still get predictions, flagged as unknown: an unknown movie is the network's unknown
movie, or one that nobody rated if the file gives its genres, and an unknown user is an average over
known ones (`AnyUser`).

Letters: B rows, N users asked, R replicas, G genres.
"""

from __future__ import annotations

import csv
import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import polars as pl
import torch

from genre_embeddings import storage
from genre_embeddings.data.sources.archive import File
from genre_embeddings.data.sources.base import shown
from genre_embeddings.data.sources.csv import ANY, LATEST, Table, csv_table, seconds
from genre_embeddings.data.sources.genres import MARKS, NONE, same, split_names
from genre_embeddings.errors import InputError
from genre_embeddings.inference.trained import Kind, Trained, predict_indices, require_finite
from genre_embeddings.inspection.responses import spaced_users
from genre_embeddings.model.network import Network

AVERAGED = 200
"""How many known users are averaged to predict for an unknown user."""
POSTERIOR_USERS = 20
"""For how many of these users the posterior's variance is computed."""
ROWS = 100_000
"""Rows of a file that are predicted at once."""
BLOCK = 4_096
"""Movies that are predicted at once for all averaged users."""
ADDED = ("prediction", "deviation", "known_user", "known_movie")
"""Columns that a prediction adds."""

ROW = "\x1frow"
"""Column that numbers the rows of a table, for errors; no file has a name with this character."""
KINDS: tuple[Kind, Kind] = ("user", "movie")

Genres: TypeAlias = tuple[int, ...]
"""Sorted indices of a movie's genres."""


class AnyUser:
    """Predictions for an unknown user; each movie is predicted once.

    An unknown user may be anybody, so the prediction is the mixture of those for evenly spaced
    known users:

        mean = mean over users of mean_u,  deviation^2 = mean of deviation_u^2 + variance of mean_u.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.users = spaced_users(network, AVERAGED)  # (N,)
        self.known = np.full((2, network.unknown + 1), np.nan, dtype=np.float32)

    def predict(self, movies: np.ndarray) -> np.ndarray:
        """Predictions and deviations for dense movie indices, (2, B) float32."""
        missing = np.unique(movies)
        missing = missing[np.isnan(self.known[0, missing])]
        for start in range(0, len(missing), BLOCK):
            block = missing[start : start + BLOCK]
            rated = self.network.grid(*map(torch.from_numpy, (self.users, block)))
            each = require_finite(rated.double().numpy())  # (R, N, B)
            mean, replicas = each.mean(0).clip(*self.network.limits), each.var(0)  # (N, B)
            # The posterior is a small part of the deviation, so fewer users are enough for it.
            some = slice(None, None, math.ceil(len(self.users) / POSTERIOR_USERS))
            fewer = self.users[some]
            asked = np.tile(fewer, len(block)), np.repeat(block, len(fewer))
            deviation = predict_indices(self.network, *asked)[1].reshape(len(block), -1)
            rest = np.square(deviation, dtype=np.float64).mean(1) - replicas[some].mean(0)
            variance = np.maximum(rest, 0) + replicas.mean(0) + mean.var(0)
            self.known[:, block] = mean.mean(0), np.sqrt(variance)
        return self.known[:, movies]


def predict_pairs(
    model: Trained,
    user_ids: pl.Series,
    movie_ids: pl.Series,
    times: np.ndarray | None = None,
    any_user: AnyUser | None = None,
    genres: Mapping[int, Genres] | None = None,
) -> pl.DataFrame:
    """Predictions for pairs of ids; unknown ids get predictions too, and are flagged.

    Args:
        model: the trained model.
        user_ids, movie_ids: (n,), numbers or text.
        times: seconds since 1970, (n,), or None if unknown.
        any_user: predictions for unknown users so far, to reuse them.
        genres: indices of the genres of movies that the model does not know, by row.

    Returns:
        prediction and deviation (stars, Float32), known_user and known_movie (Boolean), (n,) rows.
    """
    network, added = model.network, dict[Genres, int]()
    user, movie = (
        model.find(kind, ids).fill_null(-1).to_numpy(writable=True)
        for kind, ids in zip(KINDS, (user_ids, movie_ids), strict=True)
    )
    known_user, known_movie = user >= 0, movie >= 0
    for row, chosen in (genres or {}).items():
        movie[row] = network.unknown + added.setdefault(chosen, len(added))
    if added:
        sets = torch.zeros(len(added), network.genre_share.shape[1])
        for chosen, number in added.items():
            sets[number, list(chosen)] = 1
        network, any_user = network.with_movies(sets), None
    movie[movie < 0] = network.unknown
    answers = np.empty((2, len(user)), dtype=np.float32)
    if known_user.any():
        at = None if times is None else times[known_user]
        answers[:, known_user] = predict_indices(network, user[known_user], movie[known_user], at)
    if not known_user.all():
        answers[:, ~known_user] = (any_user or AnyUser(network)).predict(movie[~known_user])
    return pl.DataFrame(dict(zip(ADDED, (*answers, known_user, known_movie), strict=True)))


def predict_file(model: Trained, source: Path, out: Path, rows: int = ROWS) -> tuple[int, int, int]:
    """Predict each row of a csv file; write its columns and four more to another csv file.

    The file is processed in parts, so it may be larger than memory.

    Args:
        model: the trained model.
        source: a csv file with a header: userId or user_id, movieId or movie_id, and optionally
            timestamp (seconds since 1970, or dates) and genres, which count for movies that the
            model does not know; other columns are copied.
        out: the csv file to write, with the rows in the same order, without blank ones.
        rows: number of rows in a part.

    Returns:
        How many rows were predicted, how many of them for unknown users, and for unknown movies.

    Raises:
        InputError: the file or a column is missing, or a row has an invalid value.
    """
    table, columns = read_csv(source, "user_id", "movie_id")
    header = table.collect_schema().names()
    if taken := [name for name in ADDED if name in header]:
        raise InputError(
            f"{source}, row 1: the header has a column {taken[0]!r}, which the prediction adds: "
            "rename or remove it."
        )
    if out.exists() and out.samefile(source):
        raise InputError(f"--out {out} is the input file: choose another.")
    any_user, strange = AnyUser(model.network), Counter[str]()
    done = unknown_users = unknown_movies = 0
    with storage.replacing(out) as temporary, temporary.open("wb") as written:
        for chunk in filter(len, table.collect_batches(chunk_size=rows, maintain_order=True)):
            found = predict_rows(model, chunk, columns, source, any_user, strange)
            whole = pl.concat([chunk.drop(ROW), found], how="horizontal")
            whole.write_csv(written, include_header=not done, float_precision=4)
            done += found.height
            unknown_users += found.height - int(found["known_user"].sum())
            unknown_movies += found.height - int(found["known_movie"].sum())
    if strange:
        some = ", ".join(f"{shown(name)} ({rows:,} rows)" for name, rows in strange.most_common(5))
        names = ", ".join(model.genre_names[:20]) + ", ..." * (len(model.genre_names) > 20)
        print(
            f"{source}: the model does not know {strange.total():,} of the genres of new movies, "
            f"which do not count: {some}{', ...' * (len(strange) > 5)}; it knows {names}",
            file=sys.stderr,
        )
    return done, unknown_users, unknown_movies


def read_csv(path: Path, *needed: str) -> tuple[pl.LazyFrame, list[str]]:
    """The rows of a csv file as text, numbered by `ROW`, and its names of the `needed` columns.

    Empty fields are null, and rows of empty fields are left out. Every row is checked first.

    Raises:
        InputError: a needed column is missing, a column is there twice, or a row cannot be read.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file: give a csv file.")
    file = File(path, str(path))
    ours = csv_table(file, dict.fromkeys(needed, ANY)).columns
    with path.open(encoding="utf-8-sig", errors="replace") as opened:
        header = [name.strip() for name in next(csv.reader(opened))]
    for name in header:
        if header.count(name) > 1:
            raise InputError(f"{path}, row 1: the header has {shown(name)} twice: rename one.")
    places = [f"field {at}" for at in range(len(header))]  # a header may have any name
    table = Table(file, ",", places, dict.fromkeys(places, ANY))
    _, filled = table.check(pl.any_horizontal(pl.col(places) != "").any())
    if not filled:
        raise InputError(f"{path} holds no rows.")
    rows = table.read().rename({"row": ROW, **dict(zip(places, header, strict=True))})
    text = pl.exclude(ROW)
    rows = rows.with_columns(text.replace("", None)).filter(~pl.all_horizontal(text.is_null()))
    return rows, [header[ours.index(name)] for name in needed]


def predict_rows(
    model: Trained,
    chunk: pl.DataFrame,
    columns: Sequence[str],
    source: Path | str,
    any_user: AnyUser,
    strange: Counter[str],
) -> pl.DataFrame:
    """Predictions as `predict_pairs`, for the rows of a table of text, whose values are checked.

    Args:
        model: the trained model.
        chunk: the table; column `ROW` numbers its rows.
        columns: the names of the columns of users and of movies.
        source: where the table comes from, for errors.
        any_user: predictions for unknown users so far, to reuse them.
        strange: counts the genres that the model does not know.

    Raises:
        InputError: a row has an invalid value.
    """

    def refuse(bad: pl.Series, name: str, allowed: str) -> None:
        if bad.any():
            row, value = chunk.filter(bad).select(ROW, name).row(0)
            found = "empty" if value is None else repr(value)
            raise InputError(f"{source}, row {row}: {name} is {found}; {allowed}.")

    index = {}
    for kind, name in zip(KINDS, columns, strict=True):
        index[kind] = model.find(kind, chunk[name])
        refuse(index[kind].is_null(), name, model.allowed(kind))
    times, genres = None, dict[int, Genres]()
    if "timestamp" in chunk.columns:
        found = chunk.select(seconds(pl.col("timestamp").str.strip_chars())).to_series()
        bad = ~found.is_between(0, LATEST).fill_null(value=False)
        allowed = f"allowed: whole seconds since 1970, 0 to {LATEST}, or dates such as 2015-03-01"
        refuse(bad, "timestamp", allowed)
        times = found.to_numpy()
    if "genres" in chunk.columns:
        known = {same(name): number for number, name in enumerate(model.genre_names)}
        new = chunk.select(ROW, "genres").with_row_index().filter(index["movie"] < 0).drop_nulls()
        for at, row, text in new.iter_rows():
            if chosen := _parse_genres(known, text, f"{source}, row {row}", strange):
                genres[at] = chosen
    users, movies = (chunk[name] for name in columns)
    return predict_pairs(model, users, movies, times, any_user, genres)


def _parse_genres(known: Mapping[str, int], text: str, place: str, strange: Counter[str]) -> Genres:
    """Indices of the genres that a text names, however it separates and spells them."""
    ways = [split_names(text, mark, place) for mark in MARKS]
    # An empty list, [], has no names.
    names = min(ways, key=lambda way: sum(same(n) not in known for n in way) / max(len(way), 1))
    strange.update(
        name for name in names if same(name) not in known and name.casefold() not in NONE
    )
    return tuple(sorted({known[same(name)] for name in names if same(name) in known}))
