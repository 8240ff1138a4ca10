"""The network against its equations, computed in another way."""

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

VARIANTS = [
    {},
    {"cross": False, "hidden": (), "embedding": "point", "history": 0, "time": "none"},
    {"genres": False, "cross": False, "time": "latest"},
    {"history": 2},
    {"time": "none", "hidden": (8, 5)},
    {"embedding": "point", "genres": False},
    {"squash": True, "cross": False},
]


def reference(net, train, membership, user, movie, time, own):
    """Ratings by every replica (R,), by the equations of `Network` and `Session`, term by term."""
    s, every = net.settings, range(train.count)
    unknown = net.movie_counts[movie] == 0
    row = net.unknown if unknown else movie

    def latest(index, which):
        rows = sorted((j for j in every if index[j] == which), key=lambda j: -int(train.time[j]))
        return [j for j in rows[: s.history] if j != own]

    def mean(vectors):
        return sum(vectors) / max(len(vectors), 1) ** 0.5

    u, bias = net.user.mean[user, :, :-1], net.user.mean[user, :, -1] + net.movie.mean[row, :, -1]
    v = net.movie.mean[row, :, :-1]
    if s.history:
        u = u + mean([net.movie_seen.mean[train.movie[j]] for j in latest(train.user, user)])
        if not unknown:
            v = v + mean([net.user_seen.mean[train.user[j]] for j in latest(train.movie, movie)])
    mine = [j for j in every if train.user[j] == user]
    if s.genres:
        for j in mine:
            listed = membership[train.movie[j]].nonzero()[:, 0].tolist()
            u = u + mean([net.genre_seen.mean[k] for k in listed]) / len(mine) ** 0.5
        rare = net.genre_rare if unknown else torch.zeros_like(net.genre_rare)
        if listed := membership[movie].nonzero()[:, 0].tolist():
            g = mean([net.genre.mean[k] + rare[k] for k in listed])
            v, bias = v + g[:, :-1], bias + g[:, -1]
    parts, shift = [u, v] + [u * v] * s.cross, 0
    if s.time != "none":
        after = [j for j in mine if (train.time[j] >= time if own is None else j > own)]
        before = [j for j in mine if j not in after and j != own]
        if s.time == "latest":
            before += [j for j in after if own is None and train.time[j] == time]
            distance = dict(zip(before[:-33:-1], range(1, 33), strict=False))
        else:
            distance = {j: abs(int(train.time[j]) - time) for j in before[-16:] + after[:16]}
        kernel = {j: (-d / net.session.log_scale.exp()).exp() for j, d in distance.items()}
        total = sum(kernel.values()) + net.session.log_lambda.exp()  # (R, S)
        near = sum(k * net.session.residuals[j][:, None] for j, k in kernel.items()) / total
        parts, shift = [*parts, near], (net.session.amplitude * near).sum(-1)
    x = torch.cat(parts, -1)[:, None]
    for weight, b in zip(net.dense.weights[:-1], net.dense.biases, strict=False):
        x = torch.nn.functional.silu(x @ weight + b)
    x = (x @ net.dense.weights[-1] + net.dense.biases[-1])[:, 0, 0]
    timeless = net.centre[:, 0] + bias + s.cross * (u * v).sum(-1) + x
    low, high = net.limits
    timeless = low + (high - low) * timeless.sigmoid() if s.squash else timeless * net.star
    return timeless + net.star * shift


@torch.no_grad()
@pytest.mark.parametrize("model", VARIANTS)
def test_the_network_computes_its_equations(world, model):
    """For training ratings (left out of their own inputs), other pairs, and an unrated movie."""
    train, net = world.ratings("train"), world.network(**model)
    generator = torch.Generator().manual_seed(0)
    for name, value in net.state_dict().items():
        if name.endswith(("mean", "genre_rare", "residuals")):
            value.copy_(torch.randn(value.shape, generator=generator) * 0.5)
        elif name.endswith("log_scale"):
            value.fill_(math.log(1e7 if model.get("time") != "latest" else 4))
    own = torch.tensor([0, 7, 300, 777])
    pairs = train.part(own)
    net.movie_counts[5] = 0
    for users, movies, times, positions in (
        (pairs.user, pairs.movie, pairs.time, own),
        (pairs.user, torch.tensor([5, 1, 2, net.unknown]), pairs.time + 1, None),
        (pairs.user, pairs.movie, pairs.time, None),
    ):
        found = net(users, movies, times, own=positions).rating
        at = [None] * 4 if positions is None else positions.tolist()
        membership = torch.cat([world.membership, torch.zeros(1, 6)])
        asked = zip(users.tolist(), movies.tolist(), times.tolist(), at, strict=True)
        expected = [reference(net, train, membership, *one) for one in asked]
        torch.testing.assert_close(found, torch.stack(expected, 1), atol=1e-4, rtol=1e-4)


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


def test_a_user_who_comes_later_is_the_mean_of_those_who_rated_last(settings):
    model = settings.model.model_copy(update={"time": "latest"})
    user, movie, time = [0, 0, 0, 0, 2, 4], [0, 1, 2, 3, 0, 1], [1, 2, 3, 9, 8, 7]
    train = Ratings(*map(torch.tensor, (user, movie, [3.0] * 6, time)))
    net = Network(model, 2, (5, 4, 1), (0.5, 5.0), torch.Generator().manual_seed(0))
    net.set_data(train, torch.ones(4, 1))
    net.place_unrated_users()
    with torch.no_grad():
        u = net.vectors(torch.arange(5), torch.tensor([0])).u
    for unrated in (1, 3):
        torch.testing.assert_close(u[unrated], (2 * u[0] + u[2]) / 3)  # weights sqrt(4) and 1


def test_divergence_is_that_of_normal_distributions():
    table = EmbeddingTable(3, 2, 2, True, torch.Generator().manual_seed(0), bias=0.3)
    with torch.no_grad():
        table.log_std += torch.randn(table.log_std.shape)
    posterior = distributions.Normal(table.mean, table.log_std.exp())
    prior = distributions.Normal(torch.zeros(2, 3), table.log_prior.exp())
    expected = distributions.kl_divergence(posterior, prior).sum(-1)
    assert torch.allclose(table.kl(slice(None)), expected, atol=1e-4)


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


def test_squash_keeps_predictions_on_the_scale_and_starts_at_the_mean(world):
    train = world.ratings("train")
    net = world.network(squash=True, time="none")
    with torch.no_grad():
        rating = net(train.user, train.movie).rating
        assert rating.mean().item() == pytest.approx(train.rating.mean().item(), abs=0.15)
        net.centre += 100
        assert net(train.user, train.movie).rating.max() <= 5.0


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
