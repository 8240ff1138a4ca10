"""Reads what the inspection needs: the model, those to compare it with, data and baseline."""

from __future__ import annotations

import numpy as np

from genre_embeddings import storage
from genre_embeddings.evaluation.bias import fit_bias
from genre_embeddings.inspection.inspect import Question
from genre_embeddings.model.build import build_network, genre_sets
from genre_embeddings.model.ratings import Ratings
from genre_embeddings.model.serialization import configure_torch, load_model, load_whole
from genre_embeddings.settings import Settings


def gather(settings: Settings) -> Question:
    """Read the files of the stages before.

    Raises:
        InputError: a file is missing or damaged; the message names the stage that makes it.
    """
    configure_torch(settings.train.threads)
    (network, (_, movies, genres)), meta = load_whole(), storage.read_meta()
    sides = {name: storage.read_side(name) for name in storage.SIDES}
    train, test = sides["train"], sides["test"]
    held_out = test
    if settings.inspect.evidence == "held_out":
        held_out = storage.Side(*map(np.concatenate, zip(sides["validation"], test, strict=True)))
    names = storage.read_json(storage.ABLATIONS / "ablations.json")
    ablations = {name: load_model(storage.ABLATIONS / name) for name in names}
    sets = genre_sets(movies, genres.height)
    return Question(
        network=network,
        untrained=build_network(settings, Ratings.of(train), sets, network.users, meta),
        without_genres=ablations.pop("without_genres", None),
        shuffled_genres=list(ablations.values()),
        movies=movies,
        genres=genres,
        train=train,
        held_out=held_out,
        test=test,
        baseline=fit_bias(train.user, train.movie, train.rating, network.users, network.unknown),
        truth=storage.read_json(storage.TRUTH),
        settings=settings.inspect,
        seed=settings.seed,
        genome=storage.read_json(storage.GENOME),
    )
