"""Explanations: a prediction as a sum of parts for the user, each genre and the movie."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import polars as pl
import torch

from genre_embeddings.inference.predict import AVERAGED, AnyUser
from genre_embeddings.inference.trained import Trained, predict_indices, require_finite
from genre_embeddings.inspection.responses import spaced_users

ORDERS = 120
"""Maximum number of orders of a movie's genres: all orders for up to five genres."""
BATCH = 16_384
"""Rows in one pass through the network."""


@dataclass(frozen=True)
class Explanation:
    """One prediction as a sum of parts."""

    parts: pl.DataFrame
    """part (mean, user, each genre, movie, similar movies, scale) and stars, which add up to the
    prediction."""
    prediction: float
    """Predicted rating, in stars."""
    deviation: float
    """Standard deviation of the rating, in stars."""
    known_user: bool
    known_movie: bool
    title: str
    """The movie's title, or what was asked for if the model does not know it."""


def explain(model: Trained, user_id: int | str, movie_id: int | str) -> Explanation:
    """One prediction as a sum of parts; the movie is given by its id, or a part of its title.

    Let r(v, m, S) be the prediction for user v and movie m if its genres were S:

        mean   mean over users v of r(v, unknown, none)
        user   r(u, unknown, none) - mean
        genre  r(u, unknown, S + k) - r(u, unknown, S), averaged over the orders of the genres
               (Shapley 1953): all orders for up to five genres, else 120 random ones
        movie  r(u, m, genres of m) - r(u, unknown, genres of m)
        similar movies  the correction by `Network.neighbourhood`, if the model has one
        scale  the change by clipping the sum to the scale of ratings

    The part of an unknown user is zero, and the other parts are means over users.

    Raises:
        InputError: the user cannot be an id, or the movie neither an id nor a title.
    """
    network = model.network
    user, movie = model.find_one("user", user_id), model.find_movie(movie_id)
    if movie < 0 and not model.could_be_id("movie", str(movie_id)):
        raise model.unknown_movie(str(movie_id))
    anybody = spaced_users(network, AVERAGED)
    users = anybody if user < 0 else np.array([user])
    index = network.unknown if movie < 0 else movie
    has_genres = movie >= 0 and network.settings.genres
    own = model.movies["genres"][movie].to_list() if has_genres else []

    @torch.no_grad()
    def rated(asked: np.ndarray, which: int, sets: Collection[frozenset[int]]) -> np.ndarray:
        """Mean prediction over users for each set of genres, not clipped to the scale, (sets,)."""
        shown = torch.zeros(len(sets), network.genre_share.shape[1])
        for row, chosen in zip(shown, sets, strict=True):
            row[list(chosen)] = 1
        shown = shown.repeat_interleave(len(asked), 0)
        everyone = torch.from_numpy(np.tile(asked, len(sets)))
        answers = [
            network(who, torch.full_like(who, which), genres=genres).rating.double().mean(0)
            for who, genres in zip(everyone.split(BATCH), shown.split(BATCH), strict=True)
        ]
        return require_finite(torch.cat(answers).numpy()).reshape(len(sets), -1).mean(1)

    none, whole = frozenset[int](), frozenset(own)
    if math.factorial(len(own)) > ORDERS:
        start = np.tile(own, (ORDERS, 1))
        orders = [tuple(row) for row in np.random.default_rng(0).permuted(start, axis=1).tolist()]
    else:
        orders = list(permutations(own))
    sets = {frozenset(order[:n]) for order in orders for n in range(len(own) + 1)}
    value = dict(zip(sets, rated(users, network.unknown, sets), strict=True))
    mean, full = rated(anybody, network.unknown, [none])[0], rated(users, index, [whole])[0]
    parts = {"mean": mean, "user": value[none] - mean}
    for genre in own:
        before = [frozenset(order[: order.index(genre)]) for order in orders]
        gains = [value[one | {genre}] - value[one] for one in before]
        parts[f"genre {model.genre_names[genre]}"] = np.mean(gains)
    parts["movie"] = full - value[whole]

    asked = np.array([index])
    answer = AnyUser(network).predict(asked) if user < 0 else predict_indices(network, users, asked)
    prediction, deviation = answer[:, 0].tolist()
    if user >= 0 and network.neighbourhood is not None:
        pair = torch.from_numpy(users), torch.from_numpy(asked)
        parts["similar movies"] = float(network.neighbourhood(*pair))
    if abs(rest := prediction - sum(parts.values())) > 1e-4:
        parts["scale"] = rest
    table = pl.DataFrame({"part": list(parts), "stars": [float(v) for v in parts.values()]})
    title = str(movie_id) if movie < 0 else model.movies["title"][movie]
    return Explanation(table, prediction, deviation, user >= 0, movie >= 0, title)
