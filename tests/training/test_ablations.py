"""Models for comparison, trained without genres or with shuffled ones."""

import shutil

import pytest
import torch

from genre_embeddings import storage
from genre_embeddings.errors import InputError
from genre_embeddings.model.serialization import load_whole
from genre_embeddings.training.ablations import (
    WORTHWHILE,
    ablation_names,
    ablations_beside,
    train_ablations,
)
from tests.conftest import changed
from tests.project import ROOT
from tests.small import small_world, write_world
from tests.trained import write_settings


def ablations(settings, **train):
    """Train them in the working directory: their names, and the world."""
    world = small_world(settings, **train)
    write_world(world)
    return train_ablations(world.settings, world.data), world


def test_one_without_genres_and_two_with_shuffled_ones(settings, in_tmp):
    names, world = ablations(settings, shuffled_genres=2)
    assert names == ["without_genres", "shuffled_genres_1", "shuffled_genres_2"]
    assert storage.read_json(storage.ABLATIONS / "ablations.json") == names
    found = {name: load_whole(storage.ABLATIONS / name) for name in names}
    assert not found["without_genres"][0].settings.genres
    own, *sets = world.membership > 0, *(found[name][0].genre_share[:-1] > 0 for name in names[1:])
    for shuffled in sets:
        assert not torch.equal(shuffled, own)
        # Every genre set is still there, for another movie: counts and co-occurrences stay.
        assert sorted(shuffled.tolist()) == sorted(own.tolist())
    assert not torch.equal(*sets)
    tables = found["shuffled_genres_1"][1]
    assert tables.movies["title"].equals(world.tables.movies["title"])
    assert ablations(settings, shuffled_genres=1, without_genres=False)[0] == names[1:2]
    again, _ = load_whole(storage.ABLATIONS / "shuffled_genres_1")
    assert torch.equal(again.genre_share[:-1] > 0, sets[0])  # by the seed, whatever else is trained


def test_none_is_trained_if_none_is_asked_for_or_there_are_no_genres(settings, in_tmp):
    assert ablations(settings, without_genres=False)[0] == []
    assert [path.name for path in storage.ABLATIONS.iterdir()] == ["ablations.json"]
    asked = changed(settings, train={"shuffled_genres": 1})
    meta = small_world(settings).tables.meta
    assert ablation_names(asked, meta, 6) == ["without_genres", "shuffled_genres_1"]
    assert ablation_names(asked, meta, 0) == []
    assert ablation_names(changed(asked, model={"genres": False}), meta, 6) == []


@pytest.fixture
def two_cores(monkeypatch):
    """A machine with two cores and no GPU, where `stages` can be imported."""
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def test_trained_beside_the_main_model_they_have_the_same_bytes(settings, in_tmp, two_cores, capfd):
    def weights():
        return {path: path.read_bytes() for path in storage.ABLATIONS.rglob("*") if path.is_file()}

    _, world = ablations(settings)
    expected = weights()
    shutil.rmtree(storage.ABLATIONS)
    with (
        pytest.raises(InputError, match=r"models for comparison .* train.threads: 0"),
        ablations_beside(world.settings.train, WORTHWHILE, ["without_genres"]) as wait,
    ):
        wait()
    assert "params.yaml is not here" in capfd.readouterr().err
    write_settings(world.settings)
    with ablations_beside(world.settings.train, WORTHWHILE, ["without_genres"]) as wait:
        wait()
    assert weights() == expected


@pytest.mark.parametrize(
    ("change", "ratings", "names"),
    [
        ({}, 100, ["without_genres"]),  # done before a second process has started
        ({"threads": 0}, WORTHWHILE, ["without_genres"]),  # all cores are busy
        ({"devices": 2}, WORTHWHILE, ["without_genres"]),
        ({}, WORTHWHILE, []),
    ],
)
def test_else_they_are_trained_afterwards(settings, two_cores, change, ratings, names):
    train = settings.train.for_ratings(ratings).model_copy(update=change)
    with ablations_beside(train, ratings, names) as wait:
        assert wait is None
