"""Brings together what the inspection is given: model, data, baseline, and how to train anew."""

from __future__ import annotations

import numpy as np
import torch

from genre_embeddings import storage
from genre_embeddings.evaluation.bias import fit_bias
from genre_embeddings.inspection.inspect import Question
from genre_embeddings.model.build import build_network, genre_sets
from genre_embeddings.model.network import Network
from genre_embeddings.model.ratings import Ratings
from genre_embeddings.model.serialization import load_whole, use_threads
from genre_embeddings.settings import Settings
from genre_embeddings.training.checkpoint import Scratch
from genre_embeddings.training.lightning import fit


def gather(settings: Settings, scratch: Scratch | None = None) -> Question:
    """Read the stages' files into a question; models trained for it are kept in `scratch`."""
    use_threads(settings.train.threads)
    (network, (_, movies, genres)), meta = load_whole(), storage.read_meta()
    sides = {name: storage.read_side(name) for name in storage.SIDES}
    train, test = sides["train"], sides["test"]
    held_out = test
    if settings.inspect.evidence == "held_out":
        held_out = storage.Side(*map(np.concatenate, zip(sides["validation"], test, strict=True)))
    membership = genre_sets(movies, genres.height)

    def build(sets: torch.Tensor | None, fitting: Ratings) -> Network:
        chosen = settings
        if sets is None:
            model = settings.model.model_copy(update={"genres": False})
            chosen = settings.model_copy(update={"model": model})
        shown = membership if sets is None else sets
        return build_network(chosen, fitting, shown, network.users, meta)

    def retrain(sets: torch.Tensor | None) -> Network:
        fitting, validation = Ratings.of(train), Ratings.of(sides["validation"])
        other = build(sets, fitting)
        fit(other, fitting, validation, settings.train, settings.seed, False, scratch)
        return other.eval()

    return Question(
        network=network,
        untrained=lambda: build(membership, Ratings.of(train)),
        movies=movies,
        genres=genres,
        train=train,
        held_out=held_out,
        test=test,
        baseline=fit_bias(train.user, train.movie, train.rating, network.users, network.unknown),
        truth=storage.read_json(storage.TRUTH),
        settings=settings.inspect,
        seed=settings.seed,
        retrain=retrain,
        genome=storage.read_json(storage.GENOME),
    )
