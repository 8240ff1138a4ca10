"""Reads what the inspection needs: the model, those to compare it with, data and baseline."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from genre_embeddings import storage
from genre_embeddings.evaluation.bias import BiasModel, fit_bias
from genre_embeddings.model.build import build_network, genre_sets
from genre_embeddings.model.network import Network
from genre_embeddings.model.ratings import Ratings
from genre_embeddings.model.serialization import configure_torch, load_whole, require_same_data
from genre_embeddings.settings import InspectSettings, Settings
from genre_embeddings.storage import Side


@dataclass(frozen=True)
class Question:
    """What the inspection is given.

    Attributes:
        network: the trained model.
        untrained: a model with the same settings before training.
        without_genres: a model trained without genres, if there is one.
        shuffled_genres: models trained with the genre sets of other movies.
        genres: canonical table.
        train: training ratings.
        held_out: ratings on which no model trained, the evidence.
        test: ratings on which errors are measured; no model was chosen by them either.
        baseline: user + movie bias fitted on train.
        truth: what is planted, where the world is planted.
        genome: similarity by the tag genome, where the data have one.
        settings: section `inspect`.
        random_split: whether the split is random, so that its sides are alike.
        seed: draws permutations and bootstraps.
    """

    network: Network
    untrained: Network
    without_genres: Network | None
    shuffled_genres: list[Network]
    genres: pl.DataFrame
    train: Side
    held_out: Side
    test: Side
    baseline: BiasModel
    truth: dict[str, Any] | None
    genome: dict[str, Any] | None
    settings: InspectSettings
    random_split: bool
    seed: int


def gather(settings: Settings) -> Question:
    """Read the files of the stages before.

    Raises:
        InputError: a file is missing or damaged, or files come from different runs.
    """
    configure_torch(settings.train.threads)
    sides, meta = storage.read_sides(settings.train.refit), storage.read_meta()
    train, test = sides["train"], sides["test"]
    names = storage.read_json(storage.ABLATIONS / "ablations.json")
    folders = [storage.ABLATIONS / name for name in names]
    require_same_data(train, folders)
    network, (_, movies, genres) = load_whole()
    held_out = test
    if settings.inspect.evidence == "held_out":
        held_out = storage.Side(*map(np.concatenate, zip(sides["validation"], test, strict=True)))
    ablations = dict(zip(names, (load_whole(folder)[0] for folder in folders), strict=True))
    sets = genre_sets(movies, genres.height)
    return Question(
        network=network,
        untrained=build_network(settings, Ratings.of(train), sets, network.users, meta),
        without_genres=ablations.pop("without_genres", None),
        shuffled_genres=list(ablations.values()),
        genres=genres,
        train=train,
        held_out=held_out,
        test=test,
        baseline=fit_bias(train.user, train.movie, train.rating, network.users, network.unknown),
        truth=_of_genres(storage.TRUTH, genres),
        genome=_of_genres(storage.GENOME, genres),
        settings=settings.inspect,
        random_split=settings.split.strategy == "random",
        seed=settings.seed,
    )


def _of_genres(path: Path, genres: pl.DataFrame) -> dict[str, Any] | None:
    """A reference similarity, which must be of these genres; None if the data have none."""
    content = storage.read_json(path)
    if content is not None and content["genres"] != genres["name"].to_list():
        raise storage.different_runs(path, storage.PREPARED, "their genres differ")
    return content
