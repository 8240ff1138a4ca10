"""`train.refit`: the model learns from validation ratings too, and later stages know it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from genre_embeddings import storage
from genre_embeddings.inspection.question import gather
from genre_embeddings.model.build import build_network
from genre_embeddings.model.ratings import Ratings
from genre_embeddings.model.serialization import load_whole
from genre_embeddings.training.checkpoint import Scratch
from genre_embeddings.training.lightning import Fitting, fit
from genre_embeddings.training.model import train_model
from stages import evaluate
from tests.conftest import changed
from tests.small import small_world, write_world
from tests.trained import write_settings


def test_the_model_is_trained_again_on_both_for_the_epochs_that_validation_chose(settings, in_tmp):
    world = small_world(settings, epochs=4, lr=0.5, patience=4, refit=True)
    write_world(world)
    history, best = train_model(world.settings, world.data, record=False)
    assert best < len(history), "no epoch was chosen"
    (network, _), both = load_whole(), storage.read_sides(refit=True)["train"]
    assert (network.user_counts.numpy() == np.bincount(both.user)).all()
    for column in ("rating", "timestamp"):
        parts = [getattr(world.sides[side], column) for side in ("train", "validation")]
        assert (np.sort(getattr(both, column)) == np.sort(np.concatenate(parts))).all()

    chosen = changed(world.settings, train={"epochs": best, "min_epochs": 1})
    tables, ratings = world.tables, Ratings.of(both)
    again = build_network(chosen, ratings, world.membership, tables.users.height, tables.meta)
    fit(again, ratings, None, chosen.train, chosen.seed, record=False)
    assert torch.equal(again.user.mean, network.user.mean)  # of the last epoch


def test_a_second_training_that_was_interrupted_resumes(settings, in_tmp, monkeypatch, capsys):
    world = small_world(settings, epochs=3, patience=3, refit=True)
    write_world(world)

    def trained() -> bytes:
        with Scratch(Path("scratch")) as scratch:
            train_model(world.settings, world.data, record=False, scratch=scratch)
        return (storage.MODEL / "model.safetensors").read_bytes()

    whole, finish = trained(), Fitting.finish_epoch

    def finish_or_end(self):
        if "validation" not in self.sides and len(self.history) == 2:
            raise KeyError
        return finish(self)

    with monkeypatch.context() as patch:
        patch.setattr(Fitting, "finish_epoch", finish_or_end)
        with pytest.raises(KeyError):
            trained()
    assert trained() == whole
    assert capsys.readouterr().err.count("resuming the interrupted training") == 2


def test_evaluation_and_inspection_take_them_as_training_ratings(settings, in_tmp):
    world = small_world(changed(settings, inspect={"evidence": "held_out"}), refit=True)
    write_world(world)
    write_settings(world.settings)
    train_model(world.settings, world.data, record=False)
    storage.write_json(storage.ABLATIONS / "ablations.json", [])
    evaluate.main()
    measured = storage.read_json(storage.METRICS / "evaluate.json")
    sizes = {name: side.rating.size for name, side in world.sides.items()}
    assert measured["training"]["ratings"] == sizes["train"] + sizes["validation"]
    assert measured["validation"] == {"ratings": 0}
    assert measured["test"]["ratings"] == sizes["test"]
    asked = gather(world.settings)
    assert asked.held_out.rating.size == sizes["test"]
