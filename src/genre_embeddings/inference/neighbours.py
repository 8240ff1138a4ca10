"""Nearest neighbours of a genre or a movie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import torch

from genre_embeddings.errors import InputError
from genre_embeddings.inference.titles import WHOLE, WORD, matches, suggestion
from genre_embeddings.inference.trained import Trained, require_finite
from genre_embeddings.inspection.responses import ask, spaced_users
from genre_embeddings.model.ratings import slices

USERS_FOR_MOVIES = 100
"""How many users' responses are correlated; fewer than for genres, as there are many movies."""
BLOCK = 4_096
"""Movies that are compared at once."""


@dataclass(frozen=True)
class Neighbours:
    """The genres or movies most similar to a genre or a movie, most similar first."""

    name: str
    """The genre, or the movie's title."""
    table: pl.DataFrame
    """genre, or movie_id, title and genres; similarity; for genres, the ends of its 95 % interval.
    """
    repeatable: bool | None = None
    """Whether a model trained on other users would list the same genres; None if unknown."""


def neighbours(model: Trained, what: int | str, top: int = 10) -> Neighbours:
    """The neighbours of a genre (given by name) or of a movie (given by id or title).

    Where several fit, a genre counts more than an id, then come a whole title, the beginning of a
    word in a genre's name, and a part of a title.

    Similarity is the correlation, over users, of the model's responses, as in stage inspect: the
    prediction for the genre or movie minus the prediction for the unknown movie without genres.
    Movies without training ratings are left out: their predictions depend on their genres only.

    Raises:
        InputError: nothing fits, or several movies do.
    """
    text, names = str(what).strip(), model.genre_names
    if model.network.settings.genres and (
        matches(names, text, WHOLE)
        or (matches(names, text, WORD) and model.find_movie(text, WHOLE) < 0)
    ):
        return _genre_neighbours(model, model.genre(text), top)
    movie = model.find_movie(text)
    if movie < 0:
        close = suggestion([*names, *model.movies["title"]], text)
        raise InputError(
            f"{text!r} is neither a genre nor the id or title of a known movie{close}; "
            f"genres: {', '.join(names)}; {model.allowed('movie')}."
        )
    return _movie_neighbours(model, movie, top)


def _genre_neighbours(model: Trained, genre: int, top: int) -> Neighbours:
    # Imported here: scipy.stats is slow to import, and the other commands do not need it.
    from genre_embeddings.inspection.similarity import (
        measure_stability,
        nearest_genres,
        response_similarity,
        similarity_interval,
    )

    communality = model.network.communality.numpy()
    users = spaced_users(model.network)
    responses = require_finite(ask(model.network, users))  # (replicas, users, genres)
    similarity = response_similarity(responses, communality)
    error = model.network.similarity_error.double().numpy()
    low, high = similarity_interval(similarity, error)
    names = model.genre_names
    found = nearest_genres(similarity, top)[genre]
    table = pl.DataFrame(
        {
            "genre": [names[k] for k in found],
            "similarity": similarity[genre, found],
            "low": low[genre, found],
            "high": high[genre, found],
        }
    )
    replicas = [response_similarity(one, communality) for one in responses]
    stability = measure_stability(similarity, replicas, error, top)
    repeatable = None if stability is None else bool(stability.stable[genre])
    return Neighbours(names[genre], table, repeatable)


def _movie_neighbours(model: Trained, movie: int, top: int) -> Neighbours:
    network = model.network
    users = torch.from_numpy(spaced_users(network, USERS_FOR_MOVIES))
    rated = network.movie_counts[:-1].numpy() > 0
    rated[movie] = False
    others = np.flatnonzero(rated)

    def responses(movies: np.ndarray) -> np.ndarray:
        """Responses to movies around their means over users, (users, movies)."""
        asked = torch.from_numpy(np.append(movies, network.unknown))
        rated = network.grid(users, asked, corrected=False).double().mean(0)
        rating = require_finite(rated.numpy())
        centred = rating[:, :-1] - rating[:, -1:]
        return centred - centred.mean(0)

    own, similarity = responses(np.array([movie]))[:, 0], np.empty(len(others))
    for block in slices(len(others), BLOCK):
        other = responses(others[block])
        norm = np.linalg.norm(other, axis=0) * np.linalg.norm(own)
        similarity[block] = own @ other / np.maximum(norm, 1e-12)
    best = np.argsort(-similarity, kind="stable")[:top]
    table = model.described(others[best]).with_columns(similarity=pl.Series(similarity[best]))
    return Neighbours(model.movies["title"][movie], table)
