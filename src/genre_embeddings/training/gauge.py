"""After training: make the genre embeddings hold what the ratings know about genres.

Known movies enter a prediction by v = m + Σ_k share_k E_k alone. Moving δ_k into E_k and
share_k δ_k out of the vectors m of its movies changes no prediction for them, so training leaves
open how much of v is in E. Two conventions settle it (`fit_genres`):

1. As in the analysis of variance, a genre's vector is the mean effect of the genre, and the movies'
   vectors are deviations from it: E is the regression of v on the genre shares over the known
   movies, all movies alike, and the constant of the regression is the unknown movie.
2. The network's users differ by a few common factors, so that E alone makes tastes for genres more
   alike than they are. So E then moves until the responses to genres have a covariance over users
   that is the mean of three estimates from the training ratings: that of the network's own
   responses, and those of a linear mixed model by moments and by likelihood (`slopes`). Each errs
   in a way of its own: the network in what is specific to a genre, moments by noise, the
   likelihood by its assumption of independent noise.

A movie without ratings has genre vectors of its own; `genre_rare` is what they have beyond E. They
are the vectors that training left, which has replaced movies by the unknown one, or those of a
second regression, in which a movie with n ratings weighs 1 / n, whichever has the lower error on
the validation ratings of such movies: where whole movies were held out, these are as popular as
others; where single ratings were, they are rare. Predictions for known and for unknown movies do
not depend on the second convention.

Letters: M movies, B known movies, G genres, K = G + 1, R replicas, D embedding size, N users.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from genre_embeddings.evaluation.bias import fit_bias
from genre_embeddings.evaluation.metrics import FEWEST_USERS
from genre_embeddings.inspection.responses import answers, spaced_users
from genre_embeddings.inspection.slopes import (
    MOST_GENRES,
    Slopes,
    by_some_users,
    likelihood,
    mean_of,
    moments,
    movie_design,
    sum_up,
)
from genre_embeddings.model.network import UNKNOWN_ERROR, Network
from genre_embeddings.model.predict import predict
from genre_embeddings.model.ratings import Ratings

RIDGE = 1e-3
"""Penalty of the regression, in movies: it decides where genres cannot be told apart."""
STEPS = 50
"""Maximum number of steps of the optimiser; fewer are enough on every data set measured."""


def fit_genres(network: Network, train: Ratings, as_trained: bool) -> None:
    """Set the genre embeddings, `genre_rare` and `communality` of a trained network.

    Predictions for known movies stay the same up to rounding. A network without genres is left as
    it is.

    Args:
        network: after training.
        train: its training ratings.
        as_trained: whether movies without ratings keep the vectors that training left, which
            `trained_is_better` tells.
    """
    if not network.settings.genres:
        return
    with torch.no_grad():
        trained, alike, rare = _estimates(network)
        unrated = trained if as_trained else rare
        network.genre.mean.copy_(alike[:-1])
        network.movie.mean[-1] = unrated[-1]
    _fit_covariance(network, train)
    with torch.no_grad():
        shares, shift = network.genre_share[:-1], trained[:-1] - network.genre.mean
        network.movie.mean[:-1] += torch.einsum("mk,krc->mrc", shares, shift)
        network.genre_rare.copy_(unrated[:-1] - network.genre.mean)


@torch.no_grad()
def trained_is_better(network: Network, validation: Ratings) -> bool:
    """Whether the vectors that training left predict movies without ratings better.

    Args:
        network: after training, before `fit_genres`.
        validation: on the CPU; those of movies without training ratings decide.
    """
    part = validation.part(torch.nonzero(network.movie_counts.cpu()[validation.movie] == 0)[:, 0])
    if not network.settings.genres or not part.count:
        return False
    user, movie, rating, time = (column.numpy() for column in vars(part).values())
    trained, _, rare = _estimates(network)
    errors = []
    for vectors in (rare, trained):  # the network keeps the last ones
        network.genre.mean.copy_(vectors[:-1])
        network.movie.mean[-1] = vectors[-1]
        mean, _ = predict(network, user, movie, time, posterior=False)
        errors.append(float(np.mean((mean - rating) ** 2, dtype=np.float64)))
    return errors[1] < errors[0]


def _estimates(network: Network) -> tuple[Tensor, Tensor, Tensor]:
    """Genre vectors and a constant, (K, R, D+1): as trained, of all movies alike, of rare ones."""
    counts = network.movie_counts[:-1]
    known = torch.nonzero(counts)[:, 0]  # (B,)
    found = network.vectors(known.new_zeros(1), known)  # the user does not matter
    vectors = torch.cat([found.v, found.movie_bias[..., None]], -1)  # (B, R, D+1)
    shares = network.genre_share[known]  # (B, G)
    alike = _regress(vectors, shares, torch.ones_like(counts[known]))
    rare = _regress(vectors, shares, 1 / counts[known])
    trained = torch.cat([network.genre.mean, network.movie.mean[-1:]])
    return trained, alike, torch.cat([rare[:-1], alike[-1:]])


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


def _fit_covariance(network: Network, train: Ratings) -> None:
    """Fit E to the covariance of tastes, and measure how much of each variance it explains."""
    movies = (network.genre_share[:-1] > 0).sum(0)  # (G,)
    genres = torch.argsort(movies, descending=True, stable=True)[:MOST_GENRES].sort()[0]
    # The users of whom stage inspect asks: others would differ from them by chance.
    users = torch.from_numpy(spaced_users(network)).to(genres.device)
    if len(genres) < 2 or len(users) < 3:
        return
    one, mean, error = _measure(network, train, genres.cpu().numpy())
    by_moments, measured = (
        torch.from_numpy(slopes.covariance[:-1, :-1]).float().to(genres.device)  # (G, G)
        for slopes in (one, mean)
    )
    upper = torch.triu_indices(len(genres), len(genres), 1, device=genres.device)  # (2, P)
    with torch.no_grad():
        own = _covariances(answers(network, users, genres))  # (R + 1, G, G)
    moment, pairs = by_moments[*upper], own[:, *upper]  # (P,), (R + 1, P)
    scale = ((pairs * moment).sum(1) / (pairs**2).sum(1).clamp(min=1e-12)).clamp(min=1e-3)
    target = _positive((scale[:, None, None] * own + 2 * measured) / 3)  # (R + 1, G, G)
    variance = target.diagonal(dim1=1, dim2=2)
    unit = (variance[:, :, None] * variance[:, None]).sqrt().clamp(min=1e-9)
    _minimise(network, users, genres, target, unit, upper)
    with torch.no_grad():
        explained = _covariances(answers(network, users, genres))[-1].diagonal()
        shares = explained / torch.maximum(explained, variance[-1]).clamp(min=1e-12)
        network.communality.fill_(float(shares.mean()))  # of genres that are too many to measure
        network.communality[genres] = shares
        network.similarity_error[genres[:, None], genres] = error.clamp(max=UNKNOWN_ERROR)


def _minimise(
    network: Network,
    users: Tensor,
    genres: Tensor,
    target: Tensor,
    unit: Tensor,
    upper: Tensor,
) -> None:
    """Move E until the covariances of the responses are near the target, as correlations."""
    vectors, whole = network.genre.mean, network.genre.mean.detach().clone()
    moved = whole[genres, :, :-1].clone().requires_grad_()
    network.requires_grad_(False)
    optimiser = torch.optim.LBFGS([moved], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        placed = whole.clone()
        placed[genres, :, :-1] = moved
        found = _covariances(answers(network, users, genres, placed))
        error = ((found - target) / unit)[:, *upper].square().mean()
        error.backward()
        return error

    optimiser.step(loss)
    network.requires_grad_(True)
    with torch.no_grad():
        vectors[genres, :, :-1] = moved


def _measure(network: Network, train: Ratings, genres: np.ndarray) -> tuple[Slopes, Slopes, Tensor]:
    """Users' genre slopes by moments, the mean of those by moments and likelihood, and its error.

    The standard error (G, G) of Fisher's z is infinite where too few users rated both genres.
    """
    user, movie, rating = (
        column.cpu().numpy() for column in (train.user, train.movie, train.rating)
    )
    bias = fit_bias(user, movie, rating, network.users, network.unknown)
    some = by_some_users(user, network.users)
    user, movie, rating = (column[some] for column in (user, movie, rating))
    membership = (network.genre_share[:-1] > 0).cpu().numpy().astype(np.float64)
    design = movie_design(membership)[:, [*genres, -1]]
    sums = sum_up(user, movie, rating - bias.predict(user, movie), design)
    by_moments = moments(sums)
    mean = mean_of(by_moments, likelihood(sums))
    error = np.where(sums.rated < FEWEST_USERS, np.inf, mean.fisher_error())
    return by_moments, mean, torch.from_numpy(error).float().to(network.similarity_error)


def _covariances(responses: Tensor) -> Tensor:
    """Covariances over users of responses (R, N, G): of each replica and of their mean."""
    every = torch.cat([responses, responses.mean(0, keepdim=True)])  # (R + 1, N, G)
    every = every - every.mean(1, keepdim=True)
    return every.transpose(1, 2) @ every / every.shape[1]


def _positive(covariances: Tensor) -> Tensor:
    """The nearest positive semi-definite matrices: those by moments may have negative variances."""
    values, basis = torch.linalg.eigh(covariances.double())
    return ((basis * values.clamp(min=0)[:, None]) @ basis.transpose(1, 2)).to(covariances)
