"""Training one model: fit the network, fit it again if asked, set its genre embeddings, save it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from genre_embeddings import storage
from genre_embeddings.model.build import build_network, genre_sets
from genre_embeddings.model.ratings import Ratings
from genre_embeddings.model.serialization import Tables, save_model
from genre_embeddings.settings import Settings
from genre_embeddings.training.gauge import fit_genres, trained_is_better
from genre_embeddings.training.lightning import fit
from genre_embeddings.training.neighbourhood import fit_neighbourhood
from genre_embeddings.training.replicas import is_first_process


class Data(NamedTuple):
    """What training may see: two sides of the split, and the prepared tables."""

    train: storage.Side
    validation: storage.Side
    tables: Tables
    meta: storage.Meta


def train_model(
    settings: Settings,
    data: Data,
    folder: Path = storage.MODEL,
    movies: pl.DataFrame | None = None,
    **how: Any,
) -> tuple[list[dict[str, float]], int]:
    """Train a model on the training ratings, for the epochs that validation chooses, and save it.

    With `train.refit`, the saved model is a second one: it is trained from the start on training
    and validation ratings, for as many epochs as the first.

    Args:
        settings: all settings.
        data: ratings and tables.
        folder: where to save the model; of several processes, the first does so.
        movies: table of movies to use in place of all prepared ones, rated or not.
        how: `record`, `scratch` and `name` of `fit`.

    Returns:
        The errors of each epoch of the first training, and its best epoch.
    """
    seed, users = settings.seed, data.tables.users.height
    sets = genre_sets(data.tables.movies if movies is None else movies, data.tables.genres.height)
    seen = data.train
    train, validation = map(Ratings.of, (seen, data.validation))
    network = build_network(settings, train, sets, users, data.meta)
    history, best = fit(network, train, validation, settings.train, seed, **how)
    first = is_first_process()  # only its network has all replicas
    if first:
        as_trained = trained_is_better(network, validation)
        amplitude = fit_neighbourhood(network, train, validation)
    if settings.train.refit:
        chosen = settings.train.for_ratings(train.count).model_copy(update={"epochs": best.epoch})
        settings = settings.model_copy(update={"train": chosen})
        seen = storage.joined(seen, data.validation)
        train = Ratings.of(seen)
        network = build_network(settings, train, sets, users, data.meta)
        how |= {"record": False, "name": f"{how.get('name', 'model')}, trained again"}
        fit(network, train, None, chosen, seed, **how)
        if first:
            fit_neighbourhood(network, train, amplitude=amplitude)
    if first:
        fit_genres(network, train, as_trained)
        save_model(network, seen, folder, movies)
    return history, best.epoch
