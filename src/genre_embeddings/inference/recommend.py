"""Recommendations: the movies that a user would like best, for one user or for all.

Letters: N users at once, B movies that may be recommended, R replicas.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from polars.io.plugins import register_io_source
from tqdm import tqdm

from genre_embeddings import storage
from genre_embeddings.errors import InputError
from genre_embeddings.inference.predict import AnyUser
from genre_embeddings.inference.trained import Trained, predict_indices, require_finite
from genre_embeddings.model.network import Network
from genre_embeddings.model.ratings import slices

SCORES = 1 << 23
"""Predictions (R, N, B) that are in memory at once: 32 MB."""


def recommend(
    model: Trained,
    user_id: int | str,
    genre: str | None = None,
    top: int = 10,
    rated: np.ndarray | None = None,
) -> tuple[pl.DataFrame, bool]:
    """The movies with the highest predictions among those that the user has not rated.

    Args:
        model: the trained model.
        user_id: the user; an unknown user gets the best movies on average over users.
        genre: recommend only movies of this genre.
        top: maximum number of movies.
        rated: dense indices of the movies that the user has rated; by default those in training.

    Returns:
        movie_id, title, genres, ratings (in training), prediction and deviation, best first; and
        whether the user is known.
    """
    network = model.network
    user, movies = model.find_one("user", user_id), _candidates(model, genre)
    if user < 0:
        score, deviation = AnyUser(network).predict(movies)
        order = np.argsort(-score, kind="stable")[:top]
        best, mean, deviation = movies[order], score[order], deviation[order]
    else:
        if rated is not None:
            movies = np.setdiff1d(movies, rated)
        _, _, best = next(_best(network, np.array([user]), movies, top))
        mean, deviation = predict_indices(network, np.full(len(best), user), best)
    table = model.described(best).with_columns(
        ratings=pl.Series(network.movie_counts[best].numpy()).cast(pl.Int64),
        prediction=pl.Series(mean),
        deviation=pl.Series(deviation),
    )
    return table, user >= 0


def recommend_all(model: Trained, out: Path, genre: str | None = None, top: int = 10) -> int:
    """Write the best movies of every user of the model to a Parquet file, a part at a time.

    Columns: user_id, rank (1 is the best), movie_id, prediction and deviation. Movies that a user
    has rated in training are left out. The other arguments are those of `recommend`.

    Returns:
        The number of rows.
    """
    if out.suffix != ".parquet":
        raise InputError(f"--out {out}: the file is a Parquet table, so its name ends in .parquet.")
    network, movies, rows = model.network, _candidates(model, genre), 0
    ids = [model.users["user_id"], model.movies["movie_id"]]
    schema = pl.Schema(
        {
            "user_id": ids[0].dtype, "rank": pl.UInt32(), "movie_id": ids[1].dtype,
            "prediction": pl.Float32(), "deviation": pl.Float32(),
        }
    )  # fmt: skip

    def parts(*_: Any) -> Iterator[pl.DataFrame]:
        nonlocal rows
        for users, ranks, best in _best(network, np.arange(network.users), movies, top):
            mean, deviation = predict_indices(network, users, best)
            columns = [ids[0][users], ranks, ids[1][best], mean, deviation]
            yield pl.DataFrame(dict(zip(schema, columns, strict=True)), schema=schema)
            rows += len(users)
            bar.update(len(np.unique(users)))

    with (
        storage.replacing(out) as temporary,
        network.cached_histories(network.users * len(movies)),
        tqdm(total=network.users, unit=" users", disable=None) as bar,  # shown on a terminal only
    ):
        register_io_source(parts, schema=schema).sink_parquet(temporary, compression="zstd")
    return rows


def _candidates(model: Trained, genre: str | None) -> np.ndarray:
    """Dense indices of the movies of a genre, or of all movies, (B,)."""
    if genre is None:
        return np.arange(model.network.unknown)
    return np.flatnonzero(model.network.genre_share[:-1, model.genre(genre)].numpy() > 0)


def _best(
    network: Network, users: np.ndarray, movies: np.ndarray, top: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Users, ranks from 1, and movies, user by user, for a part of the users at a time.

    A user who has rated all but a few of the movies gets these few. Movies are ranked before
    clipping, because the best predictions may all be clipped to the same rating.
    """
    place = np.full(network.unknown, -1)
    place[movies] = np.arange(len(movies))
    rated, starts = network.rated.numpy(), network.user_starts.numpy()
    for some in slices(len(users), max(1, SCORES // (network.replicas * max(1, len(movies))))):
        asked = users[some]
        score = network.grid(*map(torch.from_numpy, (asked, movies))).mean(0)  # (N, B)
        require_finite(score.numpy())
        for row, user in enumerate(asked):
            seen = place[rated[starts[user] : starts[user + 1]]]
            score[row, seen[seen >= 0]] = -torch.inf
        order = score.sort(descending=True, stable=True).indices[:, :top]
        rows, columns = np.nonzero(score.gather(1, order).isfinite().numpy())
        yield asked[rows], columns + 1, movies[order.numpy()[rows, columns]]
