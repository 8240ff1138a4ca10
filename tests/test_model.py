"""A model folder: what is saved comes back, and what is broken is refused."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from genre_embeddings import files
from genre_embeddings.errors import InputError
from genre_embeddings.model import load_model, predict, save_model

from .small import small_world, write_world


@pytest.fixture
def world(settings, in_tmp):
    world = small_world(settings)
    write_world(world)
    return world


@pytest.fixture
def saved(world):
    network = world.network()
    train = world.ratings("train")
    everything = torch.arange(train.count)
    network.remember(everything, train.rating, network(train.user, train.movie, train.time))
    save_model(network)
    return network


def ask(network, world, side="test", own=False):
    part = world.sides[side]
    return predict(network, part.user, part.movie, part.timestamp, own=own, draws=2)


def test_what_is_saved_predicts_the_same(saved, world):
    loaded = load_model()
    for first, second in zip(ask(saved, world), ask(loaded, world), strict=True):
        assert np.array_equal(first, second)
    assert loaded.settings == saved.settings
    assert (loaded.users, loaded.unknown, loaded.limits) == (saved.users, saved.unknown, (0.5, 5.0))


def test_a_loaded_model_knows_its_training_ratings_again(saved, world):
    loaded = load_model()
    loaded.follow(world.ratings("train"))
    first, second = ask(saved, world, "train", own=True), ask(loaded, world, "train", own=True)
    assert np.array_equal(first[0], second[0])


def test_the_same_model_is_the_same_bytes(saved):
    before = {path.name: path.read_bytes() for path in files.MODEL.iterdir()}
    save_model(load_model())
    assert before == {path.name: path.read_bytes() for path in files.MODEL.iterdir()}


def test_predictions_stay_on_the_scale_and_know_their_doubt(saved, world):
    mean, deviation = ask(saved, world)
    assert mean.min() >= 0.5
    assert mean.max() <= 5.0
    assert (deviation > 0).all()


PATH = files.MODEL / "model.safetensors"


def rewritten(change):
    state, about = load_file(PATH), {}
    from safetensors import safe_open

    with safe_open(PATH, framework="pt") as file:
        about = json.loads(file.metadata()["model"])
    change(state, about)
    save_file(state, PATH, {"model": json.dumps(about)})


def test_a_file_that_is_cut_short(saved):
    PATH.write_bytes(PATH.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"not a whole model file"):
        load_model()


def test_a_file_of_another_format(saved):
    rewritten(lambda _, about: about.update(format=99))
    with pytest.raises(InputError, match="has format 99; this version reads format 1"):
        load_model()


def test_a_file_whose_tensors_do_not_fit(saved):
    rewritten(lambda state, _: state.update({"user.mean": torch.zeros(1, 1, 1)}))
    with pytest.raises(InputError, match="does not fit its own settings"):
        load_model()


def test_a_file_that_lacks_a_tensor(saved):
    rewritten(lambda state, _: state.pop("user_counts"))
    with pytest.raises(InputError, match="does not fit its own settings"):
        load_model()


def test_no_model_yet(in_tmp):
    with pytest.raises(InputError, match="run `dvc repro train` first"):
        load_model()
