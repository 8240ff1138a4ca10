"""Sources of ratings: MovieLens releases, a folder of the user's own, the planted world."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from genre_embeddings.data.sources.base import Source
from genre_embeddings.settings import DataSettings, PlantedSettings


@contextmanager
def open_source(data: DataSettings, planted: PlantedSettings) -> Iterator[Source]:
    """The source that `data.source` names; files it unpacks live as long as the context.

    Source folder: the files' names tell their layout. Ids may be text; a column of whole numbers
    stays numbers. The scale is `data.min_rating` to `data.max_rating`.

    Raises:
        InputError: the files are not there, or a row cannot be used.
    """
    # Imported here: the code of a served model imports this package, and needs no downloads.
    if data.source == "planted":
        from genre_embeddings.data.sources.planted import planted_world

        yield planted_world(planted)
    elif data.source == "folder":
        from genre_embeddings.data.sources.archive import open_files
        from genre_embeddings.data.sources.layouts import LAYOUTS, read_source

        require_whole(data)
        with open_files(Path(data.path), LAYOUTS) as (layout, files):
            yield read_source("folder", layout, files, (data.min_rating, data.max_rating), data)
    else:
        from genre_embeddings.data.sources.movielens import open_release

        with open_release(data) as source:
            yield source


def require_whole(data: DataSettings) -> None:
    """Make sure that an experiment's copy of the project has the files that the project itself has.

    Without them, DVC would take the result of an earlier run that lacked them, too. (It still does
    where all settings are those of an earlier run: then no stage runs, not even `check`.)

    Raises:
        InputError: neither git nor DVC tracks a file, so that the copy lacks it.
    """
    from genre_embeddings.data.sources.archive import (
        files_of_layouts,
        in_main_checkout,
        require_copied,
    )
    from genre_embeddings.data.sources.layouts import LAYOUTS
    from genre_embeddings.data.sources.movielens import RELEASES, require_release

    if data.source in RELEASES:
        require_release(data.source, data.path)
    elif elsewhere := in_main_checkout(Path(data.path)):
        require_copied(Path(data.path), files_of_layouts(elsewhere, LAYOUTS))
