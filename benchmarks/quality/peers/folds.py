"""The official folds of ml-100k (u1 to u5) as split files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from genre_embeddings import storage
from genre_embeddings.data.sources.archive import find_files, open_files
from genre_embeddings.data.sources.download import fetch
from genre_embeddings.data.sources.movielens import BASE_URL, RELEASES
from genre_embeddings.errors import InputError

FOLDS = (1, 2, 3, 4, 5)
VALIDATION = 0.1  # share of a fold's training ratings that choose the settings


def archive(path: str) -> Path:
    """The archive or folder of ml-100k at `path` or in it, else from the cache or the network."""
    layout = [("u1.base", "u1.test")]
    for candidate in (Path(path) / "ml-100k.zip", Path(path) / "ml-100k", Path(path)):
        if find_files(candidate, layout):
            return candidate
    return fetch(f"{BASE_URL}ml-100k.zip", RELEASES["ml-100k"].checksum)


def write_fold(place: Path, fold: int, prepared: Path, split: Path, seed: int) -> None:
    """Write one fold as the pipeline's split: a folder a side, a file a column.

    Validation is drawn from the fold's own training ratings.

    Args:
        place: archive or folder of the release.
        fold: 1 to 5.
        prepared: folder of the prepared tables, which map ids to dense indices.
        split: folder to write, or to replace.
        seed: draws the validation ratings.

    Raises:
        InputError: a fold's file is missing or holds a rating that the prepared tables lack.
    """
    names = f"u{fold}.base", f"u{fold}.test"
    with open_files(place, [names]) as (_, found):
        base, test = (_dense(found[name].path, found[name].label, prepared) for name in names)
    chosen = np.zeros(base.height, dtype=bool)
    order = np.random.default_rng(seed).permutation(base.height)
    chosen[order[: round(VALIDATION * base.height)]] = True
    sides = {"train": base.filter(~chosen), "validation": base.filter(chosen), "test": test}
    with storage.replacing_folder(split) as folder:
        for side, part in sides.items():
            (folder / side).mkdir()
            for column in storage.RATINGS_SCHEMA:
                storage.write_column(folder / side / f"{column}.npy", part[column].to_numpy())


def _dense(path: Path, label: str, prepared: Path) -> pl.DataFrame:
    """The ratings of one file of a fold, in the pipeline's schema and order."""
    columns = ("user_id", "movie_id", "rating", "timestamp")
    try:
        raw = pl.read_csv(
            path, separator="\t", has_header=False, schema=dict.fromkeys(columns, pl.Int64)
        )
    except pl.exceptions.PolarsError as error:
        raise InputError(
            f"{label} is not a fold of ml-100k ({error}): four whole numbers a row, parted by "
            "tabs, are expected. Fetch the archive anew."
        ) from None
    users, movies = (pl.read_parquet(prepared / f"{name}.parquet") for name in ("users", "movies"))
    joined = raw.join(users, on="user_id", how="left").join(movies, on="movie_id", how="left")
    unknown = joined.filter(pl.col("user").is_null() | pl.col("movie").is_null())
    if not unknown.is_empty():
        user, movie = unknown.row(0)[:2]
        raise InputError(
            f"{label} rates movie {movie} by user {user}, and prepared data lack one of them: "
            "folds need all of ml-100k, without filters."
        )
    dense = joined.select(
        pl.col(name).cast(dtype) for name, dtype in storage.RATINGS_SCHEMA.items()
    )
    return dense.sort("user", "timestamp", "movie")
