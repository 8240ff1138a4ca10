"""After training: which movies are similar in the network's residuals, and how far that helps.

Movies are similar if their residuals e are, over the users who rated both:

    c_ij = sum_u e_ui e_uj / sqrt((S_i + P s^2) (S_j + P s^2)),  S_i = sum_u e_ui^2,
    w_ij = c_ij^3,  lambda = mean over the training ratings of sum_j |w_ij|

where s^2 is the mean of e^2 and P = 50 ratings make rare movies less similar. The amplitude a is
the regression of the validation errors on f, with a standard normal prior.

Letters: N training ratings, U users, M movies, C candidates, K similar movies.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from genre_embeddings.model.neighbourhood import CANDIDATES, Neighbourhood
from genre_embeddings.model.network import Network
from genre_embeddings.model.predict import PREDICTION_BATCH, predict
from genre_embeddings.model.ratings import Ratings, slices

PRIOR = 50
"""P, in ratings."""
AT_ONCE = 1 << 22
"""Similarities that are in memory at once."""
SAMPLE = 20_000
"""Training ratings from which lambda is computed."""


@torch.no_grad()
def fit_neighbourhood(
    network: Network, train: Ratings, validation: Ratings | None = None, amplitude: float = 1.0
) -> float:
    """Give a trained network its neighbourhood, unless `model.similar_movies` is 0.

    Args:
        network: after training.
        train: its training ratings.
        validation: ratings that choose the amplitude; the network gets no neighbourhood if they
            have no smaller error with one.
        amplitude: used if `validation` is None; with 0, the network gets no neighbourhood.

    Returns:
        The amplitude.
    """
    most = network.settings.similar_movies
    network.neighbourhood = None
    if not most or amplitude <= 0:
        return 0.0
    residuals = _residuals(network, train, own=True)
    if not residuals.any():
        return 0.0
    rows = network.unknown + 1
    starts = network.user_starts.cpu().numpy()
    errors = csr_matrix((residuals, train.movie.numpy(), starts), shape=(network.users, rows))
    candidates, similar, weights = map(torch.from_numpy, similar_movies(errors, most))
    part = Neighbourhood(rows, len(candidates), weights.shape[1])
    part.candidates, part.similar, part.weights = candidates, similar, weights
    part.residuals = torch.from_numpy(residuals)
    part.to(network.movie_counts.device)
    part.index_ratings(network.user_starts, network.rated)
    some = torch.arange(0, train.count, math.ceil(train.count / SAMPLE))
    part.shrinkage.fill_(float(_sums(part, train.part(some))[1].mean()))
    if validation is not None:
        sums, weights = _sums(part, validation)  # (V,) each
        effect = (sums / (weights + part.shrinkage.cpu())).double().numpy()
        error = _residuals(network, validation, own=False).astype(np.float64)
        noise = network.star * network.log_noise.exp().mean().item()
        amplitude = float(effect @ error / (effect @ effect + noise**2))
    part.amplitude.fill_(amplitude)
    if amplitude > 0 and part.shrinkage > 0:
        network.neighbourhood = part
        return amplitude
    return 0.0


def similar_movies(errors: csr_matrix, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The most similar movies of each movie.

    Args:
        errors: (U, M) the residuals.
        most: K, which is less if there are fewer movies.

    Returns:
        The candidates (C,), the positions among them of each movie's similar movies, ascending
        (M, K) int16, and their weights, float32.
    """
    movies = errors.shape[1]
    rated = np.argsort(-np.bincount(errors.indices, minlength=movies), kind="stable")
    candidates = np.sort(rated[:CANDIDATES])
    most, by_candidate = min(most, len(candidates) - 1), errors[:, candidates]
    by_movie = errors.T.tocsr()  # (M, U)
    squares = np.asarray(by_movie.multiply(by_movie).sum(1), dtype=np.float64).ravel()
    norm = np.sqrt(squares + PRIOR * np.square(errors.data, dtype=np.float64).mean())
    norm = norm.astype(np.float32)
    similar = np.empty((movies, most), np.int16)
    weights = np.empty((movies, most), np.float32)
    for block in slices(movies, AT_ONCE // len(candidates)):
        cosine = (by_movie[block] @ by_candidate).toarray()  # (b, C)
        cosine /= norm[block, None] * norm[candidates]
        cosine[np.arange(block.start, block.stop)[:, None] == candidates] = 0
        best = np.argpartition(-np.abs(cosine), most, axis=1)[:, :most]
        best.sort(axis=1)
        similar[block] = best
        weights[block] = np.take_along_axis(cosine, best, 1) ** 3
    return candidates, similar, weights


def _residuals(network: Network, side: Ratings, own: bool) -> np.ndarray:
    """Ratings less the network's predictions, (N,) float32."""
    user, movie, rating, time = (column.numpy() for column in vars(side).values())
    return rating - predict(network, user, movie, time, own=own, posterior=False)[0]


def _sums(neighbourhood: Neighbourhood, side: Ratings) -> Tensor:
    """`Neighbourhood.sums` of all ratings of a side, (2, N)."""
    side = side.to(neighbourhood.weights.device)
    # Filled in place: small results between large temporary ones would scatter the memory.
    found = torch.empty(2, side.count)
    for rows in slices(side.count, PREDICTION_BATCH):
        part = side.part(rows)
        found[:, rows] = torch.stack(neighbourhood.sums(part.user, part.movie)).cpu()
    return found
