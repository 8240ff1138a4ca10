"""The network against its own equations, worked out by hand or by another way."""

import math

import numpy as np
import pytest
import torch
from torch import distributions

from genre_embeddings.model import network as network_module
from genre_embeddings.model.embedding import EmbeddingTable
from genre_embeddings.model.history import History
from genre_embeddings.model.network import Network
from genre_embeddings.model.predict import predict
from genre_embeddings.model.ratings import Ratings
from genre_embeddings.model.session import Session
from tests.small import small_world


@pytest.fixture
def world(settings):
    return small_world(settings)


def test_a_linear_point_model_is_the_sum_that_its_docstring_says(settings):
    plain = settings.model.model_copy(
        update={
            "dim": 1, "hidden": (), "cross": True, "genres": True, "embedding": "point",
            "history": 0, "time": "none", "squash": False,
        }
    )  # fmt: skip
    columns = [0, 0, 1], [0, 1, 1], [3.0, 4.0, 5.0], [0, 0, 0]
    train = Ratings(*map(torch.tensor, columns))
    membership = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    net = Network(plain, 1, (2, 2, 2), (0.5, 5.0))
    net.set_data(train, membership)
    with torch.no_grad():
        net.user.mean[:, 0] = torch.tensor([[2.0, 0.1], [3.0, 0.2]])  # embedding, bias
        net.movie.mean[:, 0] = torch.tensor([[0.5, 0.01], [0.25, 0.02], [0.125, 0.03]])
        net.genre.mean[:, 0] = torch.tensor([[1.0, 0.3], [-0.5, 0.5]])
        net.genre_seen.mean[:] = 0
        net.dense.weights[0][0, :, 0] = torch.tensor([1.0, 10.0, 100.0])
    g, g_bias = (1.0 - 0.5) / 2**0.5, (0.3 + 0.5) / 2**0.5
    u, v = 2.0, 0.5 + g
    dense = u + 10 * v + 100 * u * v
    expected = 4.0 + 0.1 + 0.01 + g_bias + u * v + dense
    found = net(torch.tensor([0]), torch.tensor([0])).rating
    assert found.shape == (1, 1)
    assert found.item() == pytest.approx(expected, rel=1e-5)
    # A movie without genres has the zero vector.
    dense = 2.0 + 2.5 + 100 * 2.0 * 0.25
    expected = 4.0 + 0.1 + 0.02 + 2.0 * 0.25 + dense
    assert net(torch.tensor([0]), torch.tensor([1])).rating.item() == pytest.approx(expected)


@pytest.mark.parametrize("embedding", ["variational", "point"])
def test_a_user_without_ratings_is_the_mean_of_the_others(settings, embedding):
    model = settings.model.model_copy(update={"embedding": embedding, "time": "none"})
    train = Ratings(*map(torch.tensor, ([0, 0, 2], [0, 1, 1], [3.0, 4.0, 5.0], [0, 0, 0])))
    net = Network(model, 2, (4, 2, 1), (0.5, 5.0), torch.Generator().manual_seed(0))
    net.set_data(train, torch.ones(2, 1))
    net.place_unrated_users()
    with torch.no_grad():
        found, *variances = net.posterior(
            torch.arange(4), torch.tensor([0]), variances=net.user.variational
        )
    for vector, row in ((found.u, net.user.mean[..., :-1]), (found.bias, net.user.mean[..., -1])):
        for unrated in (1, 3):
            torch.testing.assert_close(vector[unrated], vector[[0, 2]].mean(0))
            torch.testing.assert_close(vector[unrated], row[unrated])
    if embedding == "variational":  # may be any of them: their own variance, and that over them
        some = distributions.MixtureSameFamily(
            distributions.Categorical(torch.ones(2, model.dim, 2)),
            distributions.Normal(
                found.u[[0, 2]].permute(1, 2, 0), variances[0].u[[0, 2]].permute(1, 2, 0).sqrt()
            ),
        )
        torch.testing.assert_close(variances[0].u[3], some.variance)


def test_divergence_is_that_of_normal_distributions():
    table = EmbeddingTable(3, 2, 2, True, torch.Generator().manual_seed(0), bias=0.3)
    with torch.no_grad():
        table.log_std += torch.randn(table.log_std.shape)
    posterior = distributions.Normal(table.mean, table.log_std.exp())
    prior = distributions.Normal(torch.zeros(2, 3), table.log_prior.exp())
    expected = distributions.kl_divergence(posterior, prior).sum(-1)
    assert torch.allclose(table.kl(slice(None)), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("most", "own", "rows", "expected"),
    [
        (9, None, [0, 1, 2], [1110 / 3**0.5, 0.0, 10.0]),
        (2, None, [0, 1, 2], [1010 / 2**0.5, 0.0, 10.0]),  # only the latest count
        (9, [1, 3], [0, 2], [1010 / 2**0.5, 0.0]),  # a training rating is left out of its own
        (2, [1], [0], [1010 / 2**0.5]),  # one that was cut off changes nothing
    ],
)
def test_a_history_is_the_sum_over_its_columns_by_the_root_of_their_count(
    most, own, rows, expected
):
    rated, columns = torch.tensor([0, 0, 0, 2]), torch.tensor([1, 2, 3, 1])
    history = History((3, 4), most)
    history.index_ratings(rated, columns, torch.tensor([30, 10, 20, 5]))
    table = EmbeddingTable(4, 1, 1, False, torch.Generator())
    with torch.no_grad():
        table.mean[:, 0, 0] = torch.tensor([1.0, 10.0, 100.0, 1000.0])
    own = None if own is None else torch.tensor(own)
    (pooled,) = history(table, torch.tensor(rows), own, False)
    assert pooled.flatten().tolist() == pytest.approx(expected)


@pytest.mark.parametrize("sparse", [False, True])
def test_the_gradient_of_pooled_histories_is_that_of_their_sums(sparse):
    pairs = torch.tensor([[0, 1], [0, 2], [0, 3], [2, 1]]).T
    history = History((3, 4), 9)
    history.index_ratings(*pairs, torch.arange(4))
    table = EmbeddingTable(4, 2, 2, True, torch.Generator().manual_seed(0))
    rows, weights = torch.tensor([2, 0, 0, 1]), torch.tensor([1.0, 10.0, 100.0, 1000.0])
    table.sparse = sparse
    gradients = []
    for pooled in (
        lambda: history(table, rows, None, False)[0],
        lambda: (
            torch.stack([table.mean[pairs[1, pairs[0] == row]].sum(0) for row in rows])
            / torch.tensor([1.0, 3.0, 3.0, 1.0]).sqrt()[:, None, None]
        ),
    ):
        table.zero_grad()
        (pooled().square() * weights[:, None, None]).sum().backward()
        gradients.append(table.mean.grad.to_dense())
    assert torch.allclose(*gradients)


NEAR = math.exp(-1.0)


@pytest.mark.parametrize(
    ("latest", "time", "own", "expected"),
    [
        (False, 100, None, (1 - 2 * NEAR) / (1 + NEAR + 1)),
        (False, 100, 0, -2 * NEAR / (NEAR + 1)),  # a training rating does not see itself
        (False, 10_000_000, None, 0.0),
        (True, 10_000_000, None, (NEAR**2 - 2 * NEAR) / (NEAR + NEAR**2 + 1)),
        (True, 160, 1, NEAR / (NEAR + 1)),
        (True, 100, None, NEAR / (NEAR + 1)),  # the one of the same second, not the newer one
        (True, 99, None, 0.0),
    ],
)
def test_a_session_is_the_mean_residual_of_other_ratings(latest, time, own, expected):
    """f(u, t) = sum k e / (sum k + lambda)."""
    session = Session(1, latest)
    session.index_ratings(torch.tensor([0, 0, 1]), torch.tensor([100, 160, 130]))
    with torch.no_grad():
        session.log_scale[:] = math.log(1.0 if latest else 60.0)
        session.log_lambda[:] = 0.0
    session.residuals = torch.tensor([[1.0], [-2.0], [50.0]])
    own = None if own is None else torch.tensor([own])
    found = session(torch.tensor([0]), torch.tensor([time]), own)
    assert found[0, 0, 0].item() == pytest.approx(expected)


def test_a_training_rating_does_not_see_itself(world):
    """Its own prediction stays if it changes; those of others move."""
    train = world.ratings("train")
    net = world.network()
    everything = torch.arange(train.count)

    def predictions(values):
        with torch.no_grad():
            net.session.residuals.zero_()
            first = net(train.user, train.movie, train.time, own=everything)
            net.remember(everything, values, first)
            return net(train.user, train.movie, train.time, own=everything).rating

    before = predictions(train.rating)
    changed = train.rating.clone()
    changed[7] += 3.0
    after = predictions(changed)
    assert torch.equal(before[:, 7], after[:, 7])
    assert not torch.equal(before, after)


def test_a_movie_without_training_ratings_is_known_by_its_genres_alone(world):
    net = world.network()
    net.movie_counts[3] = 0
    users = torch.tensor([0, 1])
    unseen = net(users, torch.tensor([3, 3])).rating
    genres = world.membership[[3, 3]]
    unknown = torch.full((2,), net.unknown)
    assert torch.equal(unseen, net(users, unknown, genres=genres).rating)


def test_squash_keeps_predictions_on_the_scale_and_starts_at_the_mean(world):
    train = world.ratings("train")
    net = world.network(squash=True, time="none")
    with torch.no_grad():
        rating = net(train.user, train.movie).rating
        assert rating.mean().item() == pytest.approx(train.rating.mean().item(), abs=0.15)
        net.centre += 100
        assert net(train.user, train.movie).rating.max() <= 5.0


VARIANTS = [
    {},
    {"cross": False, "hidden": (), "embedding": "point", "history": 0, "time": "none"},
    {"genres": False, "cross": False},
    {"history": 0},
    {"time": "none", "hidden": (8, 5)},
    {"embedding": "point", "genres": False},
    {"squash": True, "cross": False},
]


@pytest.mark.parametrize("model", VARIANTS)
def test_every_variant_predicts_and_learns(world, model):
    own, draws = torch.arange(32), 400
    train, net = world.ratings("train").part(own), world.network(**model)
    generator = torch.Generator().manual_seed(0)
    output = net(train.user, train.movie, train.time, own=own, generator=generator)
    assert output.rating.shape == (2, 32)
    fit, kl = net.loss(output, train.rating, train.user, train.movie)
    (fit + kl).sum().backward()
    assert torch.isfinite(fit + kl).all()
    assert net.user.mean.grad.abs().sum() > 0
    own_inputs = train.user.numpy(), train.movie.numpy(), train.time.numpy()
    mean, deviation = predict(net, *own_inputs, own=True)
    plain, without = predict(net, *own_inputs, own=True, posterior=False)
    assert np.array_equal(mean, plain)
    assert (without > 0).all()
    # Without a generator the mean is used; the posterior's variance is that of many samples.
    many = [part.repeat(draws) for part in (train.user, train.movie, train.time)]
    with torch.no_grad():
        rating = net(train.user, train.movie, train.time, own=own).rating
        drawn = net(*many, own=own.repeat(draws), generator=generator).rating
    spread = (drawn.unflatten(1, (draws, 32)) - rating[:, None]).square().mean((0, 1))
    expected = (spread + torch.from_numpy(without).square()).sqrt()
    assert deviation == pytest.approx(expected.numpy(), rel=0.03)


def test_kl_counts_every_row_once_an_epoch(world):
    train = world.ratings("train")
    net = world.network()
    output = net(train.user, train.movie, train.time)
    whole = net.loss(output, train.rating, train.user, train.movie)[1] * train.count
    seen = (net.movie_counts > 0).nonzero().flatten()
    rated = (net.user_counts > 0).nonzero().flatten()
    every = slice(None)
    expected = (
        net.user.kl(rated).sum(0) + net.user_seen.kl(rated).sum(0)
        + net.movie.kl(seen).sum(0) + net.movie_seen.kl(seen).sum(0)
        + net.movie.kl(slice(net.unknown, None)).sum(0)
        + net.genre.kl(every).sum(0) + net.genre_seen.kl(every).sum(0)
    )  # fmt: skip
    assert torch.allclose(whole, expected, rtol=1e-3)


@pytest.mark.parametrize("model", VARIANTS)
def test_a_grid_is_what_its_pairs_are(world, model, monkeypatch):
    monkeypatch.setattr(network_module, "GRID", 200)  # a few users and movies at once
    network = world.network(**model)
    users, movies = torch.tensor([3, 0, 79, 41, 5]), torch.arange(network.unknown + 1)
    with torch.no_grad():
        pairs = network(users.repeat_interleave(len(movies)), movies.repeat(len(users))).rating
    found = network.grid(users, movies)
    assert found.shape == (network.replicas, len(users), len(movies))
    torch.testing.assert_close(found.flatten(1), pairs, atol=1e-5, rtol=0)
