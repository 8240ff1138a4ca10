"""Models for comparison: trained as the main model is, without genres or with shuffled ones."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from genre_embeddings import storage
from genre_embeddings.errors import InputError
from genre_embeddings.model.serialization import Tables, load_whole
from genre_embeddings.training.ablations import WORTHWHILE, ablations_beside, train_ablations
from tests.project import ROOT
from tests.small import small_world, write_world


def ablations(settings, **train):
    """Train them in the working directory: their names, and the world."""
    world = small_world(settings, **train)
    write_world(world)
    tables = Tables(world.tables.users, world.tables.movies, world.tables.genres)
    sides = world.ratings("train"), world.ratings("validation")
    return train_ablations(world.settings, *sides, tables, world.tables.meta), world


def test_one_without_genres_and_two_with_shuffled_ones(settings, in_tmp):
    names, world = ablations(settings, shuffled_genres=2)
    assert names == ["without_genres", "shuffled_genres_1", "shuffled_genres_2"]
    assert storage.read_json(storage.ABLATIONS / "ablations.json") == names
    found = {name: load_whole(storage.ABLATIONS / name) for name in names}
    assert not found["without_genres"][0].settings.genres
    sets = [found[name][0].genre_share[:-1] > 0 for name in names[1:]]
    for shuffled in sets:
        assert not torch.equal(shuffled, world.membership > 0)
        # Every genre set is still there, for another movie: counts and co-occurrences stay.
        assert sorted(shuffled.tolist()) == sorted((world.membership > 0).tolist())
    assert not torch.equal(*sets)
    title = found["shuffled_genres_1"][1].movies["title"]
    assert title.equals(world.tables.movies["title"])


def test_none_is_trained_where_none_is_asked_for(settings, in_tmp):
    names, _ = ablations(settings, without_genres=False)
    assert names == []
    assert [path.name for path in storage.ABLATIONS.iterdir()] == ["ablations.json"]


def test_a_model_without_genres_has_nothing_to_be_compared_with(settings, in_tmp):
    settings = settings.model_copy(
        update={"model": settings.model.model_copy(update={"genres": False})}
    )
    assert ablations(settings, shuffled_genres=1)[0] == []


def test_the_same_seed_shuffles_alike(settings, in_tmp):
    shares = []
    for _ in range(2):
        ablations(settings, without_genres=False, shuffled_genres=1)
        network, _ = load_whole(storage.ABLATIONS / "shuffled_genres_1")
        shares.append(network.genre_share.numpy())
    assert np.array_equal(*shares)


@pytest.fixture
def two_cores(monkeypatch):
    """A machine with two cores and no GPU, where `stages` can be imported."""
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def weights():
    return {path: path.read_bytes() for path in storage.ABLATIONS.rglob("*") if path.is_file()}


def test_trained_beside_the_main_model_they_have_the_same_bytes(settings, in_tmp, two_cores):
    _, world = ablations(settings)
    expected = weights()
    shutil.rmtree(storage.ABLATIONS)
    Path("params.yaml").write_text(yaml.safe_dump(world.settings.model_dump(mode="json")))
    with ablations_beside(world.settings.train, WORTHWHILE) as wait:
        wait()
    assert weights() == expected


def test_a_failure_beside_the_main_model_is_told(settings, in_tmp, two_cores, capfd):
    train = settings.train.for_ratings(1000)
    with (
        pytest.raises(InputError, match=r"models for comparison .* train.threads: 0"),
        ablations_beside(train, WORTHWHILE) as wait,
    ):
        wait()
    assert "params.yaml is not here" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("changed", "ratings"),
    [
        ({}, 100),  # done before a second process has started
        ({"threads": 0}, WORTHWHILE),  # all cores are busy
        ({"devices": 2}, WORTHWHILE),
        ({"without_genres": False}, WORTHWHILE),
    ],
)
def test_else_they_are_trained_afterwards(settings, two_cores, changed, ratings):
    train = settings.train.for_ratings(ratings).model_copy(update=changed)
    with ablations_beside(train, ratings) as wait:
        assert wait is None
