"""After training, the genre embeddings hold what the movies of a genre have in common."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from genre_embeddings.inspection.responses import ask, project, spaced_users
from genre_embeddings.inspection.slopes import Slopes
from genre_embeddings.training import gauge
from genre_embeddings.training.gauge import fit_genres
from genre_embeddings.training.lightning import fit
from tests.small import small_world

USERS = np.arange(30)


@pytest.fixture
def trained(settings):
    """A small world, and a network trained on it."""
    world = small_world(settings, epochs=6)
    network = world.network()
    fit(
        network,
        world.ratings("train"),
        world.ratings("validation"),
        world.settings.train,
        0,
        record=False,
    )
    return world, network.eval()


def copy(world, network):
    other = world.network()
    other.load_state_dict(network.state_dict())
    return other.eval()


@torch.no_grad()
def predictions(network):
    known = torch.nonzero(network.movie_counts)[:, 0]
    return network.grid(torch.from_numpy(USERS), known)


def test_predictions_for_known_movies_stay_and_those_for_unknown_ones_change(trained):
    world, network = trained
    refitted = copy(world, network)
    fit_genres(refitted, world.ratings("train"))
    assert torch.allclose(predictions(refitted), predictions(network), atol=1e-4)
    assert np.abs(ask(refitted, USERS) - ask(network, USERS)).max() > 0.01


def test_a_shift_between_a_genre_and_its_movies_changes_no_answer(trained, monkeypatch):
    """What no prediction for a known movie can see, the refit takes out again."""
    world, network = trained
    monkeypatch.setattr(gauge, "STEPS", 5)  # each step multiplies the errors of rounding
    shifted = copy(world, network)
    with torch.no_grad():
        shift = 0.3 * torch.randn(
            network.genre.mean.shape, generator=torch.Generator().manual_seed(2)
        )
        shifted.genre.mean += shift
        shares = network.genre_share[:-1]
        shifted.movie.mean[:-1] -= torch.einsum("mk,krc->mrc", shares, shift)
    assert torch.allclose(predictions(shifted), predictions(network), atol=1e-4)
    assert np.abs(ask(shifted, USERS) - ask(network, USERS)).max() > 0.05
    assert np.allclose(project(shifted, USERS), project(network, USERS), atol=1e-4)
    networks = copy(world, network), shifted
    for one in networks:
        fit_genres(one, world.ratings("train"))
    first, second = networks
    assert np.allclose(ask(first, USERS), ask(second, USERS), atol=2e-3)
    assert torch.allclose(first.communality, second.communality, atol=1e-2)
    assert torch.allclose(first.genre_rare, second.genre_rare, atol=2e-3)


def test_responses_vary_over_users_as_the_ratings_say(trained, monkeypatch):
    """Whatever covariance the mixed model measures, responses to genres come near to it."""
    world, network = trained
    genres = network.genre_share.shape[1]
    factor = np.random.default_rng(3).normal(size=(genres, 2)) / 3
    measured = factor @ factor.T + 0.1 * np.eye(genres)
    slopes = Slopes(
        np.pad(measured, (0, 1)), lambda: np.zeros((1, (genres + 1) * (genres + 2) // 2))
    )
    monkeypatch.setattr(gauge, "_measure", lambda *_: (slopes, slopes))
    refitted = copy(world, network)
    fit_genres(refitted, world.ratings("train"))
    pairs = np.triu_indices(genres, 1)

    def likeness(model):
        learnt = np.cov(ask(model, spaced_users(model)).mean(0), rowvar=False)[pairs]
        return np.corrcoef(learnt, measured[pairs])[0, 1]

    assert likeness(refitted) > 0.9 > likeness(network)


def test_ratings_that_do_not_vary_leave_finite_embeddings(settings):
    """The mixed model has nothing to measure in them."""
    world = small_world(settings)
    train = world.ratings("train")
    network = world.network().eval()
    fit_genres(network, replace(train, rating=torch.full_like(train.rating, 3.0)))
    assert all(value.isfinite().all() for value in network.state_dict().values())


@torch.no_grad()
def test_an_unknown_movie_is_like_the_rare_ones_of_its_genres(trained):
    world, network = trained
    refitted = copy(world, network)
    fit_genres(refitted, world.ratings("train"))
    card = torch.zeros(1, network.genre_share.shape[1])
    card[0, 1] = 1
    asked = torch.tensor([3]), torch.tensor([network.unknown])
    typical, rare = (
        refitted(*asked, genres=card, typical=typical).rating for typical in (True, False)
    )
    assert not torch.allclose(typical, rare)
    refitted.genre_rare.zero_()
    assert torch.equal(refitted(*asked, genres=card).rating, typical)


def test_communality_is_a_share(trained):
    world, network = trained
    measured = copy(world, network)
    fit_genres(measured, world.ratings("train"))
    assert ((measured.communality >= 0) & (measured.communality <= 1)).all()
    assert not (measured.communality == 1).all()


def test_a_network_without_genres_is_left_as_it_is(settings):
    world = small_world(settings)
    network = world.network(genres=False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fit_genres(network, world.ratings("train"))
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
