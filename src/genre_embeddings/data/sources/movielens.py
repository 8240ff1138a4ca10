"""The MovieLens releases of GroupLens (https://grouplens.org/datasets/movielens/).

F. Maxwell Harper and Joseph A. Konstan: The MovieLens Datasets: History and Context. ACM
Transactions on Interactive Intelligent Systems 5(4), 2015.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from genre_embeddings.data.sources.archive import open_files, places
from genre_embeddings.data.sources.base import Source
from genre_embeddings.data.sources.download import fetch
from genre_embeddings.data.sources.genome import GENOME, scan_genome
from genre_embeddings.data.sources.layouts import CSV, DAT, ITEM, read_tables
from genre_embeddings.errors import InputError
from genre_embeddings.settings import DataSettings

BASE_URL = "https://files.grouplens.org/datasets/movielens/"


@dataclass(frozen=True)
class Release:
    """A published release.

    Attributes:
        folder: the folder inside its archive; the archive is named after the release.
        md5: the published checksum of the archive, None where it may change.
        layout: the names of the files needed.
        scale: lowest and highest rating that could be given.
        ratings: how many it holds, None where that may change.
    """

    folder: str
    md5: str | None
    layout: tuple[str, ...]
    scale: tuple[float, float]
    ratings: int | None = None


WHOLE_STARS = (1.0, 5.0)
HALF_STARS = (0.5, 5.0)

RELEASES = {
    "ml-latest-small": Release("ml-latest-small", None, CSV, HALF_STARS),
    "ml-100k": Release("ml-100k", "0e33842e24a9c977be4e0107933c0723", ITEM, WHOLE_STARS, 100_000),
    "ml-1m": Release("ml-1m", "c4d9eecfca2ab87c1945afe126590906", DAT, WHOLE_STARS, 1_000_209),
    "ml-10m": Release(
        "ml-10M100K", "ce571fd55effeba0271552578f2648bd", DAT, HALF_STARS, 10_000_054
    ),
    "ml-20m": Release("ml-20m", "cd245b17a1ae2cc31bb14903e1204af3", CSV, HALF_STARS, 20_000_263),
    "ml-25m": Release("ml-25m", "6b51fb2759a8657d3bfcbfc42b592ada", CSV, HALF_STARS, 25_000_095),
    "ml-32m": Release("ml-32m", "d472be332d4daa821edc399621853b57", CSV, HALF_STARS, 32_000_204),
}


@contextmanager
def open_release(data: DataSettings, base_url: str = BASE_URL) -> Iterator[Source]:
    """A MovieLens release, from `data.path`, the user's cache or the network, in that order.

    An archive or folder under `data.path` need not have the published checksum: people unpack
    and pack again. It must parse.

    Args:
        data: the settings; `data.source` names the release.
        base_url: the address of the folder that holds the archives.

    Raises:
        InputError: the release cannot be had, or holds something that cannot be used.
    """
    name, release = data.source, RELEASES[data.source]
    place = _drop_in(name, data.path) or fetch(f"{base_url}{name}.zip", release.md5)
    with open_files(place, [release.layout], [GENOME]) as (layout, files):
        tables = read_tables(layout, files, release.scale, release=True)
        ratings, dropped = tables.ratings, {}
        if name == "ml-100k":
            # Some copies in circulation carry rows of a user 0, whom the release does not have.
            is_user_0 = pl.col("user_id") == 0
            if rows := ratings.filter(is_user_0).select(pl.len()).collect().item():
                dropped["user_0"] = rows
                ratings = ratings.filter(~is_user_0)
        if release.ratings not in (None, rest := tables.rows - dropped.get("user_0", 0)):
            print(
                f"{place} holds {rest:,} ratings, and {name} as published {release.ratings:,}: "
                "it was cut or changed",
                file=sys.stderr,
            )
        genome = scan_genome(files.get(GENOME), tables.movies)
        yield Source(name, ratings, tables.movies, release.scale, dropped=dropped, genome=genome)


def _drop_in(name: str, path: str) -> Path | None:
    """The release's archive or folder at `data.path` or in it, if it is there."""
    release = RELEASES[name]
    own_names = {name, release.folder}
    other_names = {n for key, r in RELEASES.items() for n in (key, r.folder)} - own_names
    stem = Path(path).name.removesuffix(".zip")
    if stem in other_names:
        raise InputError(
            f"data.path is {path!r}, but data.source is {name}: "
            f"change one of them, such as data.source to {stem!r}."
        )
    for place in places(path):
        if place.is_file():
            return place
        if (place / f"{name}.zip").is_file():
            return place / f"{name}.zip"
        for folder in sorted(own_names):
            if (place / folder).is_dir():
                return place / folder
        if place.is_dir() and place.resolve().name in own_names:
            return place
        if all((place / file).is_file() for file in release.layout):
            print(
                f"{place} holds {' and '.join(release.layout)}, which are left alone: "
                f"the folder would have to be named {name}",
                file=sys.stderr,
            )
    if Path(path).suffix == ".zip":
        raise InputError(f"data.path is {path!r}, and no file is there: correct data.path.")
    return None
