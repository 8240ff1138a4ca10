"""Sources of ratings: MovieLens releases, a folder of the user's own, the planted world."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from genre_embeddings.data.sources.base import Source
from genre_embeddings.settings import DataSettings, PlantedSettings


@contextmanager
def open_source(data: DataSettings, planted: PlantedSettings) -> Iterator[Source]:
    """The source that `data.source` names; files it unpacks live as long as the context.

    Raises:
        InputError: the files are not there, or a row cannot be used.
    """
    if data.source == "planted":
        from genre_embeddings.data.sources.planted import planted_world

        yield planted_world(planted)
    elif data.source == "folder":
        from genre_embeddings.data.sources.folder import open_folder

        with open_folder(data) as source:
            yield source
    else:
        from genre_embeddings.data.sources.movielens import open_release

        with open_release(data) as source:
            yield source


def require_whole(data: DataSettings) -> None:
    """Make sure that an experiment's copy of the project has all files of a source that has files.

    Without them, DVC would take the result of an earlier run that lacked them, too.

    Raises:
        InputError: neither git nor DVC tracks a file, so that the copy lacks it.
    """
    if data.source == "folder":
        from genre_embeddings.data.sources.folder import require_whole_folder

        require_whole_folder(data.path)
    else:
        from genre_embeddings.data.sources.movielens import require_whole_release

        require_whole_release(data.source, data.path)
