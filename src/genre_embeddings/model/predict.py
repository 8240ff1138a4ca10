"""Predicted ratings and their standard deviations, from a trained network.

The prediction is the mean over replicas, clipped to the scale, and

    deviation^2 = noise^2 + variance over replicas + mean over replicas of the posterior's variance.

The posterior's variance follows from the rating r of a replica by propagation of error, to first
order, and to second order in the product <u, v>:

    sum_c (dr/du_c)^2 Var u_c + sum_c (dr/dv_c)^2 Var v_c
    + (dr/dbias)^2 (Var bias + sum_c Var u_c Var v_c).

Nothing is drawn, so a pair of user and movie has the same deviation in any company.

Letters: B batch, R replicas, D embedding size, G genres, M movies.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from genre_embeddings.model.network import Network
from genre_embeddings.model.ratings import Slices

PREDICTION_BATCH = 4_096


def predict(
    network: Network,
    user: np.ndarray,
    movie: np.ndarray,
    time: np.ndarray | None = None,
    own: bool = False,
    membership: torch.Tensor | None = None,
    posterior: bool = True,
    sets: torch.Tensor | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Predicted ratings and their standard deviations, (n,) float32 each.

    Args:
        network: a trained network.
        user: dense user indices, (n,).
        movie: dense movie indices, (n,); `network.unknown` is the unknown movie.
        time: seconds since 1970, (n,), or None if unknown.
        own: whether these are the training ratings, in order; each is left out of its own inputs.
        membership: (M, G) genres to use instead of the movies' own, 0 or 1.
        posterior: whether the deviations contain the posterior's variance, which takes time.
        sets: (n, G) a genre set for each row, to use in place of its movie's own.
    """
    device = next(network.parameters()).device

    def batch(column: np.ndarray) -> Tensor:
        return torch.from_numpy(column[rows].astype(np.int64)).to(device)

    mean, deviation = np.empty((2, len(user)), np.float32)
    with network.cached_histories(len(user)):
        for rows in Slices(len(user), PREDICTION_BATCH):
            users, movies = batch(user), batch(movie)
            times = None if time is None else batch(time)
            positions = torch.arange(rows.start, rows.stop, device=device) if own else None
            genres = None if membership is None else membership[movies]
            if sets is not None:
                genres = sets[rows].to(device)
            found = _predict_batch(network, users, movies, times, genres, positions, posterior)
            mean[rows], deviation[rows] = (part.cpu().numpy() for part in found)
    return mean, deviation


@torch.no_grad()
def _predict_batch(
    network: Network,
    users: Tensor,
    movies: Tensor,
    times: Tensor | None,
    genres: Tensor | None,
    own: Tensor | None,
    posterior: bool,
) -> tuple[Tensor, Tensor]:
    """Predictions and their standard deviations, (B,) each."""
    posterior = posterior and network.user.variational
    means, *variances = network.posterior(users, movies, genres, own, variances=posterior)
    session = network.session
    near = None if session is None or times is None else session(users, times, own)
    with torch.set_grad_enabled(posterior):
        u, bias, v = inputs = [
            part.requires_grad_(posterior)
            for part in (means.u, means.bias + means.movie_bias, means.v)
        ]
        timeless = network.timeless(u, bias, v, near)  # (R, B)
    rating = timeless.detach()
    if session is not None and near is not None:
        rating = rating + network.star * (near * session.amplitude).sum(-1).T
    variance = network.star**2 * (2 * network.log_noise).exp().mean()
    variance = variance + rating.var(0, correction=0)  # (B,)
    if posterior:
        slopes = torch.autograd.grad(timeless, inputs, torch.ones_like(timeless))
        by_u, by_bias, by_v = (slope.square() for slope in slopes)
        var_u, bias_of_user, var_v, bias_of_movie = variances[0]
        var_bias = bias_of_user + bias_of_movie
        if network.settings.cross:
            var_bias = var_bias + (var_u * var_v).sum(-1)
        each = (by_u * var_u + by_v * var_v).sum(-1) + by_bias * var_bias  # (B, R)
        variance = variance + each.mean(1)
    return rating.mean(0).clamp(*network.limits), variance.sqrt()
