"""After training: make the genre embeddings hold what the movies of a genre have in common.

Known movies enter a prediction by v = m + Σ_k share_k E_k alone. Moving δ_k into E_k and
share_k δ_k out of the vectors m of its movies changes no prediction for them, so training leaves
it open how much of v is in E. The analysis of variance has a convention for that (a gauge): a
genre's vector is the mean effect of the genre, and the movies' vectors are deviations from it.

`refit_genres` applies it: E is the regression of v on the genre shares over the known movies, all
movies alike, and the constant of the regression is the unknown movie. A movie without ratings is
like the rare movies of its genres, so a second regression, in which a movie with n ratings weighs
1 / n, says how these differ: `genre_rare`, which only enters predictions for unknown movies.
`fit_communality` then measures how much of users' taste for a genre E explains, so that
similarities have the right size.

Letters: M movies, B known movies, G genres, K = G + 1, R replicas, D embedding size.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from genre_embeddings.evaluation.bias import fit_bias
from genre_embeddings.inspection.responses import ask, spaced_users
from genre_embeddings.inspection.slopes import (
    MOST_GENRES,
    communality,
    moments,
    movie_design,
    sum_up,
)
from genre_embeddings.model.network import Network
from genre_embeddings.model.ratings import Ratings

RIDGE = 1e-3
"""Penalty of the regression, in movies: it decides where genres cannot be told apart."""


@torch.no_grad()
def refit_genres(network: Network) -> None:
    """Move what the movies of a genre have in common into the genre embeddings.

    Predictions for known movies stay the same up to rounding; those for unknown movies change. A
    network without genres is left as it is.
    """
    counts = network.movie_counts[:-1]
    known = torch.nonzero(counts)[:, 0]  # (B,)
    if not network.settings.genres or not len(known):
        return
    shares = network.genre_share[:-1]  # (M, G)
    vectors = network.movie.mean[:-1] + torch.einsum("mk,krc->mrc", shares, network.genre.mean)
    if network.settings.history:
        movies = torch.arange(len(counts), device=counts.device)
        vectors[..., :-1] += network.movie_history(network.user_seen, movies, None, None)
    alike = _regress(vectors[known], shares[known], torch.ones_like(counts[known]))
    shift = network.genre.mean - alike[:-1]
    network.movie.mean[:-1] += torch.einsum("mk,krc->mrc", shares, shift)
    network.movie.mean[-1] = alike[-1]
    network.genre.mean.copy_(alike[:-1])
    network.genre_rare.copy_(
        (_regress(vectors[known], shares[known], 1 / counts[known]) - alike)[:-1]
    )


def _regress(vectors: Tensor, shares: Tensor, weights: Tensor) -> Tensor:
    """Coefficients of the genre shares and a constant, (K, R, D+1), for vectors (B, R, D+1)."""
    design = torch.cat([shares, torch.ones_like(shares[:, :1])], 1).double()  # (B, K)
    weights = weights.double() / weights.mean()
    weighted = design * weights[:, None]
    penalty = RIDGE * torch.ones(design.shape[1], dtype=torch.float64, device=design.device)
    penalty[-1] = 0
    found = torch.linalg.solve(
        weighted.T @ design + penalty.diag(), weighted.T @ vectors.double().flatten(1)
    )
    return found.unflatten(1, vectors.shape[1:]).to(vectors)


def fit_communality(network: Network, train: Ratings) -> None:
    """Set the network's `communality` from the training ratings, see `slopes.communality`."""
    if not network.settings.genres:
        return
    user, movie, rating = (
        column.cpu().numpy() for column in (train.user, train.movie, train.rating)
    )
    bias = fit_bias(user, movie, rating, network.users, network.unknown)
    membership = (network.genre_share[:-1] > 0).cpu().numpy().astype(np.float64)
    genres = np.argsort(-membership.sum(axis=0), kind="stable")[:MOST_GENRES]
    sums = sum_up(
        user, movie, rating - bias.predict(user, movie), movie_design(membership)[:, [*genres, -1]]
    )
    learnt = np.cov(ask(network, spaced_users(network)).mean(0)[:, genres], rowvar=False, bias=True)
    found = communality(np.atleast_2d(learnt), moments(sums).covariance[:-1, :-1])
    network.communality[:] = float(found.mean())  # of genres that are too many to measure
    network.communality[torch.from_numpy(genres)] = torch.from_numpy(found).float()
