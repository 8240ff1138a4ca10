"""The correction by similar movies against its formula, computed on dense matrices."""

import numpy as np
import pytest
import torch

from genre_embeddings.inference.posterior import with_user
from genre_embeddings.model.predict import predict
from genre_embeddings.model.ratings import Ratings
from genre_embeddings.model.serialization import load_whole
from genre_embeddings.training.model import train_model
from genre_embeddings.training.neighbourhood import PRIOR, fit_neighbourhood
from tests.conftest import changed, small_settings
from tests.small import small_world, write_world

MOST = 5


@pytest.fixture(scope="module")
def world():
    return small_world(small_settings())


@pytest.fixture(scope="module")
def network(world):
    """A trained network with a neighbourhood of amplitude 1."""
    found = world.fit(similar_movies=MOST)[0]
    fit_neighbourhood(found, world.ratings("train"))
    return found


def residuals(network, world):
    """Ratings of train less the network's predictions, NaN for other pairs, (U, M+1)."""
    found = np.full((network.users, network.unknown + 1), np.nan)
    side = world.sides["train"]
    mean, _ = predict(network, side.user, side.movie, side.timestamp, own=True)
    found[side.user, side.movie] = side.rating - mean
    return found


def corrections(network, world):
    """f for every pair of user and movie, (U, M+1)."""
    e = residuals(network, world)
    filled = np.nan_to_num(e)
    norm = np.sqrt((filled**2).sum(0) + PRIOR * np.nanmean(e**2))
    cosine = filled.T @ filled / np.outer(norm, norm)
    np.fill_diagonal(cosine, 0)
    weights = cosine**3
    for row in weights:
        row[np.argsort(-np.abs(row))[MOST:]] = 0
    known = ~np.isnan(e)
    total = known @ np.abs(weights).T
    return filled @ weights.T / (total + total[known].mean())


def test_a_prediction_is_corrected_by_the_errors_for_similar_movies(network, world):
    expected, part = corrections(network, world), network.neighbourhood
    users, movies = torch.arange(network.users), torch.arange(network.unknown + 1)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(part.grid(users, movies), expected, atol=1e-5)
    pairs = torch.cartesian_prod(users.flip(0), movies)
    np.testing.assert_allclose(part(*pairs.T), expected[tuple(pairs.T)], atol=1e-5)
    side = world.sides["test"]
    with_it, _ = predict(network, side.user, side.movie, side.timestamp)
    network.neighbourhood = None
    without, _ = predict(network, side.user, side.movie, side.timestamp)
    network.neighbourhood = part
    whole = (without + expected[side.user, side.movie]).clip(*network.limits)
    inside = (without > network.limits[0]) & (without < network.limits[1])
    np.testing.assert_allclose(with_it[inside], whole[inside], atol=1e-5)


def test_users_and_movies_without_ratings_are_not_corrected(network):
    nobody, everybody = network.user_counts == 0, torch.arange(network.users)
    assert not network.neighbourhood.grid(everybody, torch.tensor([network.unknown])).any()
    assert not network.neighbourhood.grid(everybody[nobody], torch.arange(network.unknown)).any()
    larger = network.with_movies(torch.ones(2, network.genre_share.shape[1]))
    asked = torch.arange(network.unknown)
    corrected = network.neighbourhood.grid(everybody, asked)
    torch.testing.assert_close(larger.neighbourhood.grid(everybody, asked), corrected)
    assert not larger.neighbourhood.grid(everybody, network.unknown + torch.arange(2)).any()


def test_validation_chooses_the_amplitude(network, world):
    train, validation = world.ratings("train"), world.ratings("validation")
    side = world.sides["validation"]
    before = network.neighbourhood
    network.neighbourhood = None
    mean, _ = predict(network, side.user, side.movie, side.timestamp)
    effect = before(validation.user, validation.movie).double().numpy()
    network.neighbourhood = before

    def with_errors(factor: float) -> Ratings:
        """The validation ratings, but each lies above the prediction by f times a factor."""
        rating = torch.from_numpy((mean + factor * effect).astype(np.float32))
        return Ratings(validation.user, validation.movie, rating, validation.time)

    for factor in (0.7, -0.7):
        amplitude = fit_neighbourhood(network, train, with_errors(factor))
        assert amplitude == pytest.approx(max(factor, 0), abs=0.05)
        assert (network.neighbourhood is None) == (factor < 0)
    one = with_errors(1.0).part(torch.tensor([int(np.abs(effect).argmax())]))
    assert 0 < fit_neighbourhood(network, train, one) < 0.7  # one rating tells little
    assert fit_neighbourhood(network, train, amplitude=0.25) == 0.25
    assert network.neighbourhood.amplitude == 0.25


def test_a_new_user_is_corrected_too(network):
    rated, ratings = torch.tensor([7, 2, 4]), torch.tensor([5.0, 1.0, 4.0])
    part, new = network.neighbourhood, torch.full((3,), network.users)
    larger = with_user(network, rated, ratings)
    with torch.no_grad():
        errors = ratings - larger(new, rated).rating.mean(0)
    weights = torch.zeros(network.unknown + 1, network.unknown + 1)
    weights.scatter_(1, part.similar.long(), part.weights)
    weights = weights[:, rated]  # (M+1, 3)
    total = weights.abs().sum(1) + part.shrinkage
    expected = part.amplitude * (weights @ errors) / total
    assert expected.abs().max() > 0.01
    movies = torch.arange(network.unknown + 1)
    torch.testing.assert_close(larger.neighbourhood.grid(new[:1], movies)[0], expected)
    torch.testing.assert_close(larger.neighbourhood(new[:1].expand(len(movies)), movies), expected)


@pytest.mark.parametrize("most", [0, 1, 10_000])
def test_any_number_of_similar_movies(world, most, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_world(world)
    settings = changed(world.settings, model={"similar_movies": most})
    train_model(settings, world.data, record=False)
    network, _ = load_whole()
    if not most:
        assert network.neighbourhood is None
    else:
        assert network.neighbourhood.similar.shape[1] == min(most, network.unknown)
