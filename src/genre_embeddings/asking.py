"""Brings together what the inspection is given: model, data, baseline, and how to train anew."""

from __future__ import annotations

import numpy as np
import torch

from genre_embeddings import files
from genre_embeddings.baselines import fit_bias
from genre_embeddings.batches import Ratings
from genre_embeddings.inspection import Question
from genre_embeddings.model import build_network, genre_sets, load_whole, use_threads
from genre_embeddings.network import Network
from genre_embeddings.resuming import Scratch
from genre_embeddings.settings import Settings
from genre_embeddings.training import fit


def gather(settings: Settings, scratch: Scratch | None = None) -> Question:
    """Read the stages' files into a question; models trained for it are kept in `scratch`."""
    use_threads(settings.train.threads)
    (network, (_, movies, genres)), meta = load_whole(), files.read_meta()
    sides = {name: files.read_side(name) for name in files.SIDES}
    train, test = sides["train"], sides["test"]
    held_out = test
    if settings.inspect.evidence == "held_out":
        held_out = files.Side(*map(np.concatenate, zip(sides["validation"], test, strict=True)))
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
        truth=files.read_json(files.TRUTH),
        settings=settings.inspect,
        seed=settings.seed,
        retrain=retrain,
        genome=files.read_json(files.GENOME),
    )
