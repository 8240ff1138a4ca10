"""Models for comparison: trained as the main model is, without genres or with shuffled ones."""

import numpy as np
import torch

from genre_embeddings import storage
from genre_embeddings.model.serialization import Tables, load_whole
from genre_embeddings.training.ablations import train_ablations
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
