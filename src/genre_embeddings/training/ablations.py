"""Models trained for comparison: one without genres, and some with shuffled genres.

data/ablations/without_genres/      shows how much genres improve predictions
data/ablations/shuffled_genres_1/   and so on: each movie has the genre set of a random movie, so
                                    the model can learn the popularity of genres, and which occur
                                    together, but not how people rate them
data/ablations/ablations.json       the names of these folders
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import torch

from genre_embeddings import storage
from genre_embeddings.errors import InputError
from genre_embeddings.seeds import seed_of
from genre_embeddings.settings import Settings, TrainSettings
from genre_embeddings.training.checkpoint import Scratch
from genre_embeddings.training.model import Data, train_model
from genre_embeddings.training.replicas import is_first_process

WORTHWHILE = 500_000
"""A second process pays off from this many ratings, summed over the epochs: it takes four seconds
to start, in which training sees 100,000 or more."""


def ablation_names(settings: Settings, meta: storage.Meta, genres: int) -> list[str]:
    """The models that `train.without_genres` and `train.shuffled_genres` ask for.

    A network that reads no genres, or for which the data have none, has nothing to compare.
    """
    if not settings.in_effect(meta.has_time, meta.sessions, genres).genres:
        return []
    shuffled = [f"shuffled_genres_{n}" for n in range(1, settings.train.shuffled_genres + 1)]
    return ["without_genres"] * settings.train.without_genres + shuffled


@contextmanager
def ablations_beside(
    settings: TrainSettings, ratings: int, names: list[str]
) -> Iterator[Callable[[], None] | None]:
    """Train the ablations at the same time as the main model, in a second process.

    Args:
        settings: section `train`, with numbers in the place of auto.
        ratings: number of training ratings.
        names: of the ablations.

    Yields:
        A function that waits for that process; None where the ablations are better trained
        afterwards: there is work for one process only, no core for another one, a GPU, which the
        two would share, or several processes already, which train each model together. The weights
        have the same bytes either way.
    """
    alone = settings.processes == 1 and "TORCHELASTIC_RUN_ID" not in os.environ
    free_core = (os.cpu_count() or 1) >= 2 * settings.threads > 0
    pays = ratings * settings.epochs >= WORTHWHILE
    if not (names and alone and free_core and pays) or torch.cuda.is_available():
        yield None
        return
    process = subprocess.Popen([sys.executable, "-m", "stages.train", "--ablations"])

    def wait() -> None:
        if process.wait():
            raise InputError(
                "train: the models for comparison could not be trained, for the reason above or "
                "for want of memory; train.threads: 0 trains all models one after the other."
            )

    try:
        yield wait
    finally:
        process.terminate()
        process.wait()


def train_ablations(settings: Settings, data: Data, scratch: Scratch | None = None) -> list[str]:
    """Train all ablations with the settings and the seed of the main model.

    They are written to data/ablations/, which is replaced once all of them are trained.

    Args:
        settings: all settings.
        data: as for the main model.
        scratch: checkpoints for resuming an interrupted training.

    Returns:
        The names of the folders written.
    """
    names = ablation_names(settings, data.meta, data.tables.genres.height)
    first, place = is_first_process(), storage.ABLATIONS
    with storage.replacing(place, folder=True) if first else nullcontext(place) as folder:
        for number, name in enumerate(names, 1):
            said = f"model for comparison {number} of {len(names)}, {name.replace('_', ' ')}"
            movies, model = data.tables.movies, settings.model
            if name == "without_genres":
                model = model.model_copy(update={"genres": False})
            else:
                seed = seed_of(settings.seed, "shuffled genres", int(name.rpartition("_")[2]))
                order = np.random.default_rng(seed).permutation(movies.height)
                movies = movies.with_columns(movies["genres"].gather(order))
            how = {"record": False, "scratch": scratch, "name": said}
            chosen = settings.model_copy(update={"model": model})
            train_model(chosen, data, folder / name, movies, **how)
        if first:
            storage.write_json(folder / "ablations.json", names)
    return names
