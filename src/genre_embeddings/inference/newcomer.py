"""People who were not in training: from a handful of ratings to predictions, without training.

    person = add_user(open_model(), {"Toy Story (1995)": 5, 318: 4.5})
    recommend(person.model, person.user_id, rated=person.ratings.movie)
    taste(person.model, person.user_id)

Letters: N ratings, R replicas, G genres, D embedding size.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np
import polars as pl
import torch

from genre_embeddings import storage
from genre_embeddings.data.sources.base import NO_TIME, shown
from genre_embeddings.errors import InputError
from genre_embeddings.inference.posterior import with_user
from genre_embeddings.inference.predict import AVERAGED, ROW, read_csv
from genre_embeddings.inference.titles import suggestion
from genre_embeddings.inference.trained import Trained, require_finite
from genre_embeddings.inspection.responses import ask, spaced_users
from genre_embeddings.model.network import Network

NAMED = 5
"""How many movies that the model does not know are named."""


@dataclass(frozen=True)
class Newcomer:
    """A model with one more user."""

    model: Trained
    """Predicts, explains and recommends for the new user as for any other."""
    user_id: int | str
    """The id that the new user has in it."""
    ratings: storage.Side
    """The new user's ratings; `recommend` takes them as the training ratings."""
    unknown: int = 0
    """How many ratings were left out, as the model does not know the movie."""
    left_out: str = ""
    """The first of these movies."""


Row = tuple[str, int, float | str]
"""A rating: the place that errors name, the movie's dense index, and the rating."""


def add_user(model: Trained, ratings: Mapping[int | str, float]) -> Newcomer:
    """The model with one more user, who gave these ratings; `model` stays as it is.

    A movie is given by its id, or by a part of its title.

    Raises:
        InputError: a movie is not known, fits several or is rated twice; a rating is not on the
            model's scale; there is none.
    """
    rows: list[Row] = []
    for key, rating in ratings.items():
        if (movie := model.find_movie(key)) < 0:
            raise model.unknown_movie(str(key))
        rows.append((f"rating of {key!r}", movie, rating))
    if not rows:
        raise InputError("there are no ratings: give one at least.")
    return _add(model, rows)


def read_user(model: Trained, path: Path) -> Newcomer:
    """The model with one more user, whose ratings are in a csv file; `model` stays as it is.

    The file has a header: movieId (or movie_id) or title, and rating; other columns are ignored.
    Movies that the model does not know are left out.

    Raises:
        InputError: the file cannot be used; the row is named.
    """
    by_id = path.is_file() and re.search(rb"movieId|movie_id", path.read_bytes()[:1000])
    table, columns = read_csv(path, "movie_id" if by_id else "title", "rating")
    filled = table.select(ROW, pl.col(columns).fill_null("")).collect()
    rows: list[Row] = []
    unknown = []
    for row, text, rating in filled.rows():
        place = f"{path}, row {row}"
        try:
            movie = model.find_one("movie", text) if by_id else model.find_title(text)
        except InputError as error:
            hint = " Titles go into a column title." if by_id else ""
            raise InputError(f"{place}: {error}{hint}") from None
        if movie < 0:
            unknown.append((row, text))
        else:
            rows.append((place, movie, rating))
    titles = model.movies["title"].to_list()
    left_out = [
        f"row {row}, {shown(text)}{suggestion(titles, text, 1)}" for row, text in unknown[:NAMED]
    ]
    if len(unknown) > NAMED:
        left_out.append(f"and {len(unknown) - NAMED} more")
    if not rows:
        raise InputError(f"{path}: the model knows none of the movies: {'; '.join(left_out)}.")
    return replace(_add(model, rows), unknown=len(unknown), left_out="; ".join(left_out))


def _add(model: Trained, rows: Sequence[Row]) -> Newcomer:
    """The model with one more user, who gave these ratings, each movie once."""
    low, high = model.network.limits
    given: dict[int, tuple[str, float]] = {}
    for place, movie, rating in rows:
        try:
            value = float(rating)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise InputError(
                f"{place}: rating is {shown(str(rating))}; allowed: {low:g} to {high:g}, "
                "the scale of the model. Convert ratings on another scale first."
            )
        if movie in given:
            title = shown(model.movies["title"][movie])
            raise InputError(f"{place}: {title} is rated twice (see {given[movie][0]}); keep one.")
        given[movie] = place, value
    movies = np.array(list(given))
    values = np.array([value for _, value in given.values()], dtype=np.float32)
    network = with_user(model.network, torch.from_numpy(movies), torch.from_numpy(values))
    taken, user = set(model.ids("user")), model.users.height
    texts = model.ids("user").dtype == pl.String
    free = (f"new {n}" if texts else n for n in count())
    user_id = next(one for one in free if one not in taken)
    row = pl.DataFrame({"user": user, "user_id": user_id}, schema=model.users.schema)
    users = pl.concat([model.users, row])
    same, times = np.full_like(movies, user), np.full_like(movies, NO_TIME)
    given_ratings = storage.Side(same, movies, values, times)
    return Newcomer(replace(model, network=network, users=users), user_id, given_ratings)


@torch.no_grad()
def taste(model: Trained, user_id: int | str) -> pl.DataFrame:
    """A user's taste by genre, in stars.

    taste_k(u) = a_k(u) - mean over users v of a_k(v)

    where a_k(u) is what the model predicts for a typical unknown movie of genre k less what it
    predicts for one of no genre: how much more than others the user likes a movie for its genre.

    Returns:
        genre, taste and deviation (of the posterior of the user's vector, and among replicas), the
        most liked genre first.

    Raises:
        InputError: the model does not know the user, or has no genres.
    """
    model.require_genres()
    network = model.network
    user = model.find_one("user", user_id)
    if user < 0:
        raise InputError(f"user {shown(user_id)} is not known; {model.allowed('user')}.")
    own = ask(network, np.array([user]))[:, 0]  # (R, G)
    mean = ask(network, spaced_users(network, AVERAGED)).mean(1)  # (R, G)
    relative = require_finite(own - mean)
    deviation = np.sqrt(relative.var(0) + _posterior_variance(network, user))  # (G,)
    columns = {"genre": model.genre_names, "taste": relative.mean(0), "deviation": deviation}
    return pl.DataFrame(columns).sort("taste", descending=True)


def _posterior_variance(network: Network, user: int) -> np.ndarray:
    """Variance of a user's responses to genres by the posterior of the user's vector, (G,)."""
    genres = network.genre_share.shape[1]
    if not network.user.variational:
        return np.zeros(genres, np.float32)
    sets = torch.cat([torch.zeros(1, genres), torch.eye(genres)])  # (G+1, G)
    movies = torch.full((genres + 1,), network.unknown)
    found = network.vectors(torch.tensor([user]), movies, sets, typical=True)
    with torch.enable_grad():
        rows = found.u.expand(genres + 1, -1, -1).clone().requires_grad_()
        rated = network.rate(found._replace(u=rows)).rating  # (R, G+1)
        (slopes,) = torch.autograd.grad(rated.sum(), rows)  # (G+1, R, D)
    spread = (2 * network.user.log_std[user, :, :-1]).exp()  # (R, D)
    return ((slopes[1:] - slopes[:1]).square() * spread).sum(-1).mean(1).numpy()
