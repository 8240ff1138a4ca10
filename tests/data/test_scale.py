"""The width of the rating scale does not change what the model learns."""

import numpy as np
import torch

from genre_embeddings.model.build import build_network
from genre_embeddings.model.predict import predict
from genre_embeddings.model.ratings import Ratings
from genre_embeddings.training.lightning import fit
from tests.small import World, small_world


def trained(world: World, by: float):
    """A network fitted to the world's ratings, stretched."""
    meta = world.tables.meta._replace(min_rating=0.5 * by, max_rating=5.0 * by)
    sides = {}
    for name in ("train", "validation"):
        side = world.ratings(name)
        sides[name] = Ratings(side.user, side.movie, side.rating * by, side.time)
    users = world.tables.users.height
    network = build_network(world.settings, sides["train"], world.membership, users, meta)
    fit(network, *sides.values(), world.settings.train, 0, record=False)
    return network


def test_a_scale_twice_as_wide_gives_twice_the_predictions(settings, in_tmp):
    world = small_world(settings, epochs=3)
    one, two = trained(world, 1), trained(world, 2)
    users = movies = torch.arange(20)
    index = users.numpy()
    narrow, wide = (np.stack(predict(network, index, index, index)) for network in (one, two))
    assert np.allclose(2 * narrow, wide, rtol=1e-5)
    torch.testing.assert_close(2 * one.grid(users, movies), two.grid(users, movies))
