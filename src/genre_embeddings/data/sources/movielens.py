"""The MovieLens releases of GroupLens (https://grouplens.org/datasets/movielens/).

F. Maxwell Harper and Joseph A. Konstan: The MovieLens Datasets: History and Context. ACM
Transactions on Interactive Intelligent Systems 5(4), 2015.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from genre_embeddings.data.sources.archive import (
    in_main_checkout,
    open_files,
    require_copied,
    require_seen,
)
from genre_embeddings.data.sources.base import Source
from genre_embeddings.data.sources.download import fetch, has_checksum
from genre_embeddings.data.sources.layouts import CSV, DAT, ITEM, read_source
from genre_embeddings.errors import InputError
from genre_embeddings.settings import DataSettings

BASE_URL = "https://files.grouplens.org/datasets/movielens/"


class Release(NamedTuple):
    """A published release.

    Attributes:
        checksum: of its archive, as published; ml-latest-small has none, and this is the one that
            others have recorded since 2018.
        layout: the names of the files needed.
        scale: lowest and highest rating that could be given.
        ratings: how many ratings it has.
        folder: the folder inside its archive, if that is not named after the release.
    """

    checksum: str
    layout: tuple[str, ...]
    scale: tuple[float, float]
    ratings: int
    folder: str = ""


WHOLE_STARS = (1.0, 5.0)
HALF_STARS = (0.5, 5.0)
_SMALL = "sha256:696d65a3dfceac7c45750ad32df2c259311949efec81f0f144fdfb91ebc9e436"
_10M = "md5:ce571fd55effeba0271552578f2648bd"

RELEASES = {
    "ml-latest-small": Release(_SMALL, CSV, HALF_STARS, 100_836),
    "ml-100k": Release("md5:0e33842e24a9c977be4e0107933c0723", ITEM, WHOLE_STARS, 100_000),
    "ml-1m": Release("md5:c4d9eecfca2ab87c1945afe126590906", DAT, WHOLE_STARS, 1_000_209),
    "ml-10m": Release(_10M, DAT, HALF_STARS, 10_000_054, folder="ml-10M100K"),
    "ml-20m": Release("md5:cd245b17a1ae2cc31bb14903e1204af3", CSV, HALF_STARS, 20_000_263),
    "ml-25m": Release("md5:6b51fb2759a8657d3bfcbfc42b592ada", CSV, HALF_STARS, 25_000_095),
    "ml-32m": Release("md5:d472be332d4daa821edc399621853b57", CSV, HALF_STARS, 32_000_204),
}


@contextmanager
def open_release(data: DataSettings) -> Iterator[Source]:
    """A MovieLens release, from `data.path`, the user's cache or the network, in that order.

    An archive or folder under `data.path` need not have the published checksum: people unpack
    and pack again. It must parse, and DVC hashes it. All others must have the checksum.

    Raises:
        InputError: the release is nowhere to be found, or a row cannot be used.
    """
    name, release = data.source, RELEASES[data.source]
    place = _find(name, data.path)
    with open_files(place, [release.layout]) as (layout, files):
        source = read_source(name, layout, files, release.scale, None)
        if source.rows != release.ratings:
            print(
                f"{place} holds {source.rows:,} ratings, and {name} as published "
                f"{release.ratings:,}: it was cut or changed",
                file=sys.stderr,
            )
        yield source


def _find(name: str, path: str) -> Path:
    """The release's archive or folder: at `data.path` or in it, in the cache, or downloaded."""
    stem = Path(path).name.removesuffix(".zip")
    if other := next((r for r in RELEASES if r != name and stem in _folders(r)), ""):
        raise InputError(
            f"data.path is {path!r}, but data.source is {name}: "
            f"change one of them, such as data.source to {other}."
        )
    if found := _drop_in(name, Path(path)) or require_release(name, path):
        return found
    if Path(path).suffix == ".zip":
        return Path(path)  # which is not there, as the next step says
    return fetch(f"{BASE_URL}{name}.zip", RELEASES[name].checksum)


def require_release(name: str, path: str) -> Path | None:
    """Refuse a copy of the project that lacks the release which the main checkout has.

    Returns:
        An archive in the main checkout with the published checksum, so that its content is known.
    """
    elsewhere = in_main_checkout(Path(path))
    if elsewhere and (found := _drop_in(name, elsewhere)):
        if found.is_file() and has_checksum(found, RELEASES[name].checksum):
            return found
        require_copied(Path(path), [str(found.relative_to(elsewhere))])
    return None


def _folders(name: str) -> list[str]:
    """Names that the unpacked folder of a release may have."""
    return sorted({name, RELEASES[name].folder or name})


def _drop_in(name: str, place: Path) -> Path | None:
    """The release's archive or folder at a place or in it, if it is there."""
    if place.is_file() or (place.is_dir() and place.resolve().name in _folders(name)):
        return place
    for entry in (f"{name}.zip", *_folders(name)):
        if (found := place / entry).exists():
            require_seen(found)
            return found
    return None
