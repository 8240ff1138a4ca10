"""Recommendations: the movies that a user would like best."""

from __future__ import annotations

import numpy as np
import polars as pl

from genre_embeddings import storage
from genre_embeddings.inference.predict import AnyUser
from genre_embeddings.inference.trained import Trained, predict_indices, predict_unclipped


def recommend(
    model: Trained, user_id: int | str, train: storage.Side, genre: str | None = None, top: int = 10
) -> tuple[pl.DataFrame, bool]:
    """The movies with the highest predictions among those that the user has not rated in training.

    Args:
        model: the trained model.
        user_id: the user; an unknown user gets the best movies on average over users.
        train: the training ratings.
        genre: recommend only movies of this genre.
        top: maximum number of movies.

    Returns:
        movie_id, title, genres, ratings (in training), prediction and deviation, best first; and
        whether the user is known.
    """
    network = model.network
    user = model.find_one("user", user_id)
    candidate = np.ones(network.unknown, dtype=bool)
    if user >= 0:
        start, end = np.searchsorted(train.user, [user, user + 1])
        candidate[train.movie[start:end]] = False
    if genre is not None:
        candidate &= network.genre_share[:-1, model.genre(genre)].numpy() > 0
    movies = np.flatnonzero(candidate)
    if user < 0:
        score, deviation = AnyUser(network).predict(movies)
        best = np.argsort(-score, kind="stable")[:top]
        mean, deviation = score[best], deviation[best]
    else:
        # Ranked before clipping: the best predictions may all be clipped to the same rating.
        score = predict_unclipped(network, np.full(len(movies), user), movies)
        best = np.argsort(-score, kind="stable")[:top]
        mean, deviation = np.empty((2, 0), dtype=np.float32)
        if len(best):
            mean, deviation = predict_indices(network, np.full(len(best), user), movies[best])
    chosen = movies[best]
    table = model.described(chosen).with_columns(
        ratings=pl.Series(network.movie_counts[chosen].numpy()).cast(pl.Int64),
        prediction=pl.Series(mean),
        deviation=pl.Series(deviation),
    )
    return table, user >= 0
