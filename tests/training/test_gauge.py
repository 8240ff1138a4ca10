"""After training, the genre embeddings hold what the movies of a genre have in common."""

from copy import deepcopy

import numpy as np
import pytest
import torch

from genre_embeddings.inspection.responses import ask, project, spaced_users
from genre_embeddings.inspection.slopes import Slopes
from genre_embeddings.model.ratings import Ratings
from genre_embeddings.training import gauge
from genre_embeddings.training.gauge import fit_genres, trained_is_better
from tests.conftest import small_settings
from tests.small import small_world

USERS = np.arange(30)


@pytest.fixture(scope="module")
def world():
    return small_world(small_settings(), epochs=6)


@pytest.fixture(scope="module")
def network(world):
    """A network trained on the small world."""
    return world.fit()[0].eval()


@pytest.fixture
def refit(world):
    def refit(network):
        other = deepcopy(network)
        better = trained_is_better(other, world.ratings("validation"))
        fit_genres(other, world.ratings("train"), better)
        return other

    return refit


def predictions(network):
    known = torch.nonzero(network.movie_counts)[:, 0]
    return network.grid(torch.from_numpy(USERS), known)


def test_predictions_for_known_movies_stay_and_those_for_unknown_ones_change(network, refit):
    refitted = refit(network)
    assert torch.allclose(predictions(refitted), predictions(network), atol=1e-4)
    assert np.abs(ask(refitted, USERS) - ask(network, USERS)).max() > 0.01
    shares = refitted.communality
    assert ((shares >= 0) & (shares <= 1) & (shares.amin() < 1)).all()


def test_a_shift_between_a_genre_and_its_movies_changes_no_answer(network, refit, monkeypatch):
    """The refit undoes a shift that changes no prediction for known movies."""
    monkeypatch.setattr(gauge, "STEPS", 1)  # more steps multiply the errors of rounding
    shifted = deepcopy(network)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(2)
        shift = 0.3 * torch.randn(network.genre.mean.shape, generator=generator)
        shifted.genre.mean += shift
        shares = network.genre_share[:-1]
        shifted.movie.mean[:-1] -= torch.einsum("mk,krc->mrc", shares, shift)
    assert torch.allclose(predictions(shifted), predictions(network), atol=1e-4)
    assert np.abs(ask(shifted, USERS) - ask(network, USERS)).max() > 0.05
    assert np.allclose(project(shifted, USERS), project(network, USERS), atol=1e-4)
    first, second = refit(network), refit(shifted)
    assert np.allclose(ask(first, USERS), ask(second, USERS), atol=1e-4)
    assert torch.allclose(first.communality, second.communality, atol=1e-4)
    assert torch.allclose(first.genre_rare, second.genre_rare, atol=1e-4)


def test_responses_vary_over_users_as_the_ratings_say(network, refit, monkeypatch):
    """Whatever covariance the mixed model measures, responses to genres come near to it."""
    genres = network.genre_share.shape[1]
    factor = np.random.default_rng(3).normal(size=(genres, 2)) / 3
    measured = factor @ factor.T + 0.1 * np.eye(genres)
    draws = np.zeros((1, (genres + 1) * (genres + 2) // 2))
    slopes = Slopes(np.pad(measured, (0, 1)), lambda: draws)
    monkeypatch.setattr(gauge, "_measure", lambda *_: (slopes, slopes, torch.zeros(genres, genres)))
    pairs = np.triu_indices(genres, 1)

    def likeness(model):
        learnt = np.cov(ask(model, spaced_users(model)).mean(0), rowvar=False)[pairs]
        return np.corrcoef(learnt, measured[pairs])[0, 1]

    assert likeness(refit(network)) > 0.9 > likeness(network)


@torch.no_grad()
def test_an_unknown_movie_is_like_the_rare_ones_of_its_genres(network, refit):
    refitted = refit(network)
    genres = torch.eye(network.genre_share.shape[1])[[1]]
    asked = torch.tensor([3]), torch.tensor([network.unknown])
    typical, rare = (refitted(*asked, genres=genres, typical=one).rating for one in (True, False))
    assert not torch.allclose(typical, rare)
    refitted.genre_rare.zero_()
    assert torch.equal(refitted(*asked, genres=genres).rating, typical)


@torch.no_grad()
def test_validation_chooses_how_movies_without_ratings_are_predicted(network, world):
    """If their ratings equal the predictions of one of the two ways, that way is taken."""
    user, movie = torch.arange(30), torch.full((30,), network.unknown)
    train, ways = world.ratings("train"), []
    for wanted in (None, "trained"):
        validation, other = world.ratings("validation"), deepcopy(network)
        if wanted:
            rating = network(user, movie).rating.mean(0)
            validation = Ratings(user, movie, rating, torch.zeros_like(user))
        fit_genres(other, train, trained_is_better(other, validation))
        ways.append(other(user, movie).rating.mean(0))
    assert torch.allclose(ways[1], rating, atol=1e-4)
    assert not torch.allclose(ways[0], rating, atol=1e-2)
