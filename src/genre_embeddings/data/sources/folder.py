"""Ratings of the user's own: books, songs, films, anything with genres."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from genre_embeddings.data.sources.archive import open_files, require_tracked, untracked
from genre_embeddings.data.sources.base import Source
from genre_embeddings.data.sources.genome import GENOME
from genre_embeddings.data.sources.layouts import LAYOUTS, read_source
from genre_embeddings.settings import DataSettings


@contextmanager
def open_folder(data: DataSettings) -> Iterator[Source]:
    """The ratings in the folder or zip archive that `data.path` names.

    The layout is recognised by its file names: ratings.csv + movies.csv, ratings.dat +
    movies.dat, or u.data + u.item + u.genre. Ids may be text; a column of whole numbers stays
    numbers. The scale is `data.min_rating` to `data.max_rating`.

    Raises:
        InputError: the files are not there, or hold something that cannot be used.
    """
    scale = (data.min_rating, data.max_rating)
    require_whole_folder(data.path)
    with open_files(Path(data.path), LAYOUTS, (GENOME,)) as (layout, files):
        yield read_source("folder", layout, files, scale, data)


def require_whole_folder(path: str) -> None:
    """Refuse a copy of the project that lacks some of the files to read."""
    require_tracked(Path(path), untracked(path), LAYOUTS, (GENOME,))
