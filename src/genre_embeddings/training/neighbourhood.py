"""After training: which movies are similar in the network's residuals, and how far that helps.

Movies are similar if their residuals e are, over the users who rated both:

    c_ij = sum_u e_ui e_uj / sqrt((S_i + P s^2) (S_j + P s^2)),  S_i = sum_u e_ui^2,
    w_ij = c_ij^3,  lambda = mean over the training ratings of sum_j |w_ij|

where s^2 is the mean of e^2 and P = 50 ratings make rare movies less similar. The amplitude a is
the regression of the validation errors on f, with a standard normal prior.

Letters: N training ratings, U users, M movies, K similar movies.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from genre_embeddings.model.neighbourhood import Neighbourhood
from genre_embeddings.model.network import Network
from genre_embeddings.model.predict import PREDICTION_BATCH, predict
from genre_embeddings.model.ratings import Ratings, Slices

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
    most = min(network.settings.similar_movies, network.unknown - 1)
    network.neighbourhood = None
    if most < 1 or not train.count or amplitude <= 0:
        return 0.0
    residuals = _residuals(network, train, own=True)
    if not residuals.any():
        return 0.0
    rows = network.unknown + 1
    ends = network.user_counts.long().cumsum(0).cpu().numpy()
    shape = network.users, rows
    errors = csr_matrix((residuals, train.movie.numpy(), np.append(0, ends)), shape=shape)
    similar, weights = map(torch.from_numpy, similar_movies(errors, most))
    part = Neighbourhood(rows, most, train.count).to(network.movie_counts.device)
    part.similar.copy_(similar)
    part.weights.copy_(weights)
    part.residuals.copy_(torch.from_numpy(residuals))
    part.index_ratings(network.user_counts, network.rated)
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


def similar_movies(errors: csr_matrix, most: int) -> tuple[np.ndarray, np.ndarray]:
    """The most similar movies of each movie (M, K) int32, ascending, and their weights, float32.

    `errors` (U, M) holds the residuals; K is `most`.
    """
    movies = errors.shape[1]
    by_movie = errors.T.tocsr()  # (M, U)
    squares = np.asarray(by_movie.multiply(by_movie).sum(1), dtype=np.float64).ravel()
    norm = np.sqrt(squares + PRIOR * np.square(errors.data, dtype=np.float64).mean())
    norm = norm.astype(np.float32)
    similar = np.empty((movies, most), np.int32)
    weights = np.empty((movies, most), np.float32)
    for block in Slices(movies, max(1, AT_ONCE // movies)):
        cosine = (by_movie[block] @ errors).toarray() / (norm[block, None] * norm)
        cosine[np.arange(len(cosine)), np.arange(block.start, block.stop)] = 0
        best = np.argpartition(-np.abs(cosine), most, axis=1)[:, :most]
        best.sort(axis=1)
        chosen = np.take_along_axis(cosine, best, 1)
        similar[block], weights[block] = best, chosen**3
    return similar, weights


def _residuals(network: Network, side: Ratings, own: bool) -> np.ndarray:
    """Ratings less the network's predictions, (N,) float32."""
    user, movie, rating, time = (column.numpy() for column in vars(side).values())
    return rating - predict(network, user, movie, time, own=own, posterior=False)[0]


def _sums(neighbourhood: Neighbourhood, side: Ratings) -> tuple[Tensor, Tensor]:
    """`Neighbourhood.sums` of all ratings of a side, (N,) each."""
    side = side.to(neighbourhood.weights.device)
    parts = (side.part(rows) for rows in Slices(side.count, PREDICTION_BATCH))
    found = [neighbourhood.sums(part.user, part.movie) for part in parts]
    sums, weights = (torch.cat(column).cpu() for column in zip(*found, strict=True))
    return sums, weights
