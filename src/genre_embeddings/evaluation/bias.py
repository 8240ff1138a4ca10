"""What a prediction has to beat: the global mean and the regularised user + movie bias."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SWEEPS = 10


@dataclass(frozen=True)
class BiasModel:
    """mean + user bias + movie bias; one that was never seen in training has bias 0.

    Attributes:
        mean: mean training rating.
        user: bias of each user, (U,) float64, in rating units.
        movie: bias of each movie, (M,) float64, in rating units.
    """

    mean: float
    user: np.ndarray
    movie: np.ndarray

    def predict(self, user: np.ndarray, movie: np.ndarray) -> np.ndarray:
        """Predicted ratings, (n,) float64."""
        return self.mean + self.user[user] + self.movie[movie]


def fit_bias(
    user: np.ndarray,
    movie: np.ndarray,
    rating: np.ndarray,
    users: int,
    movies: int,
    user_penalty: float = 5.0,
    movie_penalty: float = 3.0,
) -> BiasModel:
    """Fit user and movie biases by ridge regression, in alternating sweeps.

    Minimises sum (r - mean - b_u - b_m)^2 + penalty_u sum b_u^2 + penalty_m sum b_m^2, equation 5
    of Koren, Bell and Volinsky, "Matrix factorization techniques for recommender systems" (2009).

    Args:
        user, movie: dense indices of the training ratings, (n,).
        rating: the training ratings, (n,).
        users, movies: U and M.
        user_penalty, movie_penalty: ratings at which a bias is shrunk by half.
    """
    mean = float(np.mean(rating, dtype=np.float64))
    centred = rating.astype(np.float64) - mean
    user_bias, movie_bias = np.zeros(users), np.zeros(movies)
    user_count = np.bincount(user, minlength=users) + user_penalty
    movie_count = np.bincount(movie, minlength=movies) + movie_penalty
    for _ in range(SWEEPS):
        movie_bias = np.bincount(movie, centred - user_bias[user], movies) / movie_count
        user_bias = np.bincount(user, centred - movie_bias[movie], users) / user_count
    return BiasModel(mean, user_bias, movie_bias)
