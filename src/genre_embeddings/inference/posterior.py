"""The posterior of a new user's vector, given their ratings and fixed movies.

The vector of a user is u = t + h, where h is what the network computes from the movies that they
rated, and t (with the user's bias as the last column) is what only the ratings can tell. With
p_i(t) the prediction for the movie of rating y_i, on the scale of width 4.5 and without times,

    y_i ~ N(p_i(t), noise^2),  t ~ N(mean, S)

the mode and the covariance of t (Laplace's approximation) are

    t* = argmin sum_i (y_i - p_i(t))^2 / (2 noise^2) + (t - mean)' S^-1 (t - mean) / 2,
    covariance = (J' J / noise^2 + S^-1)^-1,  J = dp/dt at t*.

Gauss-Newton steps find the mode. A network without hidden layers and without a sigmoid is linear in
t: there, the first step is exact.

The prior is empirical: `mean` and S are those of u - h among known users, with h computed from as
many of their movies as the new user has rated. A handful of movies tells little, so S is wide then;
the network's own prior holds for h from all movies of a user, and would be too narrow.

Letters: N ratings, K users, D embedding size, C = D + 1 columns, R replicas.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genre_embeddings.inference.trained import require_finite
from genre_embeddings.inspection.responses import spaced_users
from genre_embeddings.model.network import Network, Vectors

PRIOR_USERS = 500
"""Maximum number of known users from whom the prior is estimated."""
RIDGE = 1e-4
"""Added to the prior's variances, which are about 0.04, where there are few known users."""
STEPS = 20
"""Maximum number of Gauss-Newton steps."""
HALVINGS = 10
"""How often a step that makes the fit worse is halved at most."""
SMALL = 1e-4
"""A step that changes no entry by more than this is the last one; entries are about 0.2."""


def with_user(network: Network, movies: Tensor, ratings: Tensor) -> Network:
    """A network with one more user, the last one, who gave these ratings; all else stays.

    Args:
        network: the trained network.
        movies: (N,) dense indices of different movies, the latest last.
        ratings: (N,) ratings, on the scale of the data.

    Raises:
        InputError: the weights are so large that the posterior is not finite.
    """
    # As in training, a movie that nobody rated in training is in no history.
    rated = movies[network.movie_counts[movies] > 0]
    mode, covariance = posterior(network, movies, ratings, rated)
    variance = covariance.diagonal(dim1=-2, dim2=-1)
    require_finite(torch.stack([mode, variance]).numpy())
    larger = _with_histories(network, [rated], mode[None], variance[None])
    if larger.neighbourhood is not None:
        with torch.no_grad():
            user = torch.full_like(movies, network.users)
            predicted = larger(user, movies).rating.mean(0)
        larger.neighbourhood.add_user(movies, ratings - predicted)
    return larger


def _with_histories(
    network: Network,
    rated: list[Tensor],
    mean: Tensor | None = None,
    variance: Tensor | None = None,
) -> Network:
    """A network with K more users, who rated these movies, and have the vector u = h + mean.

    Mean and variance (K, R, C) of t are 0 and 1 if they are not given.
    """
    state = network.state_dict()
    blank = torch.zeros(len(rated), *network.user.mean.shape[1:])

    def append(name: str, rows: Tensor) -> None:
        if name in state:
            state[name] = torch.cat([state[name], rows.to(state[name].dtype)])

    append("user.mean", blank if mean is None else mean)
    append("user.log_std", blank if variance is None else variance.log() / 2)
    append("user_counts", blank[:, 0, 0])  # training ratings
    roots = torch.tensor([max(len(movies), 1) ** 0.5 for movies in rated])
    seen = torch.stack([network.genre_share[movies].sum(0) for movies in rated])  # (K, G)
    append("genres_seen", seen / roots[:, None])
    if most := network.settings.history:
        latest = [movies[-most:].flip(0) for movies in rated]
        counts = torch.tensor([len(movies) for movies in latest])
        append("user_history.starts", state["user_history.starts"][-1] + counts.cumsum(0))
        append("user_history.entries", torch.cat(latest))
        for name in ("user_seen.mean", "user_seen.log_std"):  # in the history of no movie
            append(name, blank[..., :-1])
    return Network.from_state(network.settings, network.replicas, network.limits, state)


def posterior(
    network: Network, movies: Tensor, ratings: Tensor, rated: Tensor
) -> tuple[Tensor, Tensor]:
    """Mode (R, C) and covariance (R, C, C) of a new user's t; arguments as `with_user`.

    `rated` are those of the movies that are in the user's history.
    """
    with torch.no_grad():
        new = torch.tensor([network.users])
        history, _, v, movie_bias = _with_histories(network, [rated]).vectors(new, movies)
        targets = ratings / network.star  # (N,)
        mean, spread = prior(network, len(rated))  # (R, C), (R, C, C)
        precision = torch.linalg.inv_ex(spread).inverse
        noise = (2 * network.log_noise).exp()  # (R,)

    def predict(rows: Tensor) -> Tensor:
        """Predictions from a copy of t for each rating (N, R, C), (R, N)."""
        vectors = Vectors(rows[..., :-1] + history, rows[..., -1], v, movie_bias)
        return network.rate(vectors).rating / network.star

    def misfit(t: Tensor) -> Tensor:
        """The function to minimise, (R,)."""
        error = targets - predict(t.expand(len(movies), -1, -1))
        away = torch.einsum("rc,rcd,rd->r", t - mean, precision, t - mean)
        return (error.square().sum(1) / noise + away) / 2

    def linearise(t: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient (R, C) and Gauss-Newton's matrix (R, C, C) of the misfit."""
        with torch.enable_grad():
            rows = t.expand(len(movies), -1, -1).clone().requires_grad_()
            predicted = predict(rows)  # (R, N)
            (slopes,) = torch.autograd.grad(predicted.sum(), rows)  # (N, R, C)
        error = (targets - predicted.detach()) / noise[:, None]
        away = torch.einsum("rcd,rd->rc", precision, t - mean)
        gradient = away - torch.einsum("nrc,rn->rc", slopes, error)
        curvature = torch.einsum("nrc,nrd->rcd", slopes, slopes) / noise[:, None, None]
        return gradient, curvature + precision

    with torch.no_grad():
        t, least = mean, misfit(mean)
        for _ in range(STEPS):
            gradient, curvature = linearise(t)
            step = torch.linalg.solve_ex(curvature, -gradient).result  # (R, C)
            for _ in range(HALVINGS):
                worse = misfit(t + step) > least * (1 + 1e-6)  # (R,)
                if not worse.any():
                    break
                step[worse] /= 2
            t = t + step
            least = misfit(t)
            if step.abs().max() < SMALL:
                break
        return t, torch.linalg.inv_ex(linearise(t)[1]).inverse


@torch.no_grad()
def prior(network: Network, count: int) -> tuple[Tensor, Tensor]:
    """Mean (R, C) and covariance (R, C, C) of t, for a user who has rated `count` movies."""
    users = torch.from_numpy(spaced_users(network, PRIOR_USERS))  # (K,)
    t = network.user.mean[users]  # (K, R, C)
    if network.settings.history:
        lists, nobody = network.user_history, torch.zeros(1, dtype=torch.int64)
        bounds = zip(lists.starts[users].tolist(), lists.starts[1:][users].tolist(), strict=True)
        some = [
            lists.entries[torch.linspace(start, end - 1, min(count, end - start)).long()].long()
            for start, end in bounds
        ]
        known = torch.arange(network.users, network.users + len(users))
        u = network.vectors(users, nobody).u
        h = _with_histories(network, some).vectors(known, nobody).u
        t = torch.cat([u - h, t[..., -1:]], -1)
    centred = t - t.mean(0)
    spread = torch.einsum("krc,krd->rcd", centred, centred) / max(len(users) - 1, 1)
    own = torch.full_like(t, RIDGE)
    if network.user.variational:
        own = own + (2 * network.user.log_std[users]).exp()
    return t.mean(0), spread + own.mean(0).diag_embed()
