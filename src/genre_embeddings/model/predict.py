"""Predicted ratings and their standard deviations, from a trained network.

The prediction is the mean over replicas, corrected by `neighbourhood` and clipped to the scale, and

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
from genre_embeddings.model.ratings import slices

PREDICTION_BATCH = 4_096


@torch.no_grad()
def predict(
    network: Network,
    user: np.ndarray,
    movie: np.ndarray,
    time: np.ndarray | None = None,
    own: bool = False,
    membership: torch.Tensor | None = None,
    posterior: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Predicted ratings and their standard deviations, (n,) float32 each.

    Args:
        network: a trained network.
        user, movie: dense indices, (n,); `network.unknown` is the unknown movie.
        time: seconds since 1970, (n,), or None if unknown.
        own: whether these are the training ratings, in order: each is left out of its own inputs,
            and nothing is corrected by `neighbourhood`, which is made from them.
        membership: (M, G) genres to use instead of the movies' own, 0 or 1.
        posterior: whether the deviations contain the posterior's variance, which takes time.
    """
    device = next(network.parameters()).device
    posterior = posterior and network.user.variational
    session, found = network.session, np.empty((2, len(user)), np.float32)

    def batch(column: np.ndarray) -> Tensor:
        return torch.from_numpy(column[rows].astype(np.int64)).to(device)

    with network.cached_histories(len(user)):
        for rows in slices(len(user), PREDICTION_BATCH):
            users, movies = batch(user), batch(movie)
            positions = torch.arange(rows.start, rows.stop, device=device) if own else None
            genres = None if membership is None else membership[movies]
            means, *variances = network.posterior(
                users, movies, genres, positions, variances=posterior
            )
            near = None
            if session is not None and time is not None:
                near = session(users, batch(time), positions)
            inputs = [part.requires_grad_(posterior) for part in means[:3]]
            with torch.set_grad_enabled(posterior):
                output = network.rate(means, near)
            rating = output.rating.detach()  # (R, B)
            variance = network.star**2 * (2 * network.log_noise).exp().mean()
            variance = variance + rating.var(0, correction=0)  # (B,)
            if posterior:
                every = torch.ones_like(output.timeless)
                slopes = torch.autograd.grad(output.timeless, inputs, every)
                by_u, by_bias, by_v = (slope.square() for slope in slopes)
                var_u, var_bias, var_v, of_movie = variances[0]
                var_bias = var_bias + of_movie
                if network.settings.cross:
                    var_bias = var_bias + (var_u * var_v).sum(-1)
                each = (by_u * var_u + by_v * var_v).sum(-1) + by_bias * var_bias  # (B, R)
                variance = variance + each.mean(1)
            mean = rating.mean(0)
            if network.neighbourhood is not None and not own:
                mean = mean + network.neighbourhood(users, movies)
            mean = mean.clamp(*network.limits)
            found[:, rows] = torch.stack([mean, variance.sqrt()]).cpu().numpy()
    return found[0], found[1]
