"""Using a trained model by the data's own ids: predict, recommend, find neighbours, explain.

Whoever is not known is answered all the same, and the answer says so. A movie that is not known
is the network's unknown movie. A user who is not known may be anybody: the answer is the mixture
of what the model predicts for its known users, evenly spaced ones of them, with

    mean = mean over users of mean_u,  deviation^2 = mean of deviation_u^2 + variance of mean_u.

Letters: B rows, N users asked, M movies, G genres, D embedding size, R replicas.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import polars as pl
import torch

from genre_embeddings import storage
from genre_embeddings.errors import InputError
from genre_embeddings.model.network import Network
from genre_embeddings.model.predict import POSTERIOR_DRAWS, predict
from genre_embeddings.model.serialization import load_whole

AVERAGED = 200
"""Known users who together stand for one who is not known."""
DRAWN = 20
"""Those of them for whom the posterior is drawn from."""
ASKED_OF_GENRES, ASKED_OF_MOVIES = 500, 100
"""Known users who are asked how alike two genres are, or two movies, which are many."""
ROWS = 100_000
"""Rows of a file predicted at once."""
BLOCK = 4_096
"""Movies about which all these users are asked at once."""
BATCH = 16_384
"""Rows that pass through the network at once."""
ORDERS = 120
"""Most orders of a movie's genres over which their parts are averaged; all of them up to five."""
ADDED = ("prediction", "deviation", "known_user", "known_movie")
"""Columns that a prediction adds."""

_LATEST = 32_503_680_000  # seconds: the year 3000; above it lie milliseconds
_ROW = "(row)"
_COLUMNS = {"user": ("userId", "user_id"), "movie": ("movieId", "movie_id")}

Kind = Literal["user", "movie"]


class Counts(NamedTuple):
    """How many rows were predicted, and for how many the user or the movie was not known."""

    rows: int
    unknown_users: int
    unknown_movies: int


@dataclass(frozen=True)
class Neighbours:
    """What is most like a genre or a movie, nearest first.

    Attributes:
        name: the genre, or the movie's title.
        table: genre, or movie_id, title and genres; similarity, and for genres the lowest and
            highest of the replicas.
        repeatable: whether the replicas agree on a genre's neighbours; None where there is one
            replica alone, and for movies.
    """

    name: str
    table: pl.DataFrame
    repeatable: bool | None = None


@dataclass(frozen=True)
class Explanation:
    """One prediction by its parts.

    Attributes:
        parts: part (mean, user, each genre, movie, scale) and stars, in the order in which they
            add up to the prediction.
        prediction: in stars.
        deviation: standard deviation of the rating, in stars.
        known_user: whether the model knows the user.
        known_movie: whether the model knows the movie.
    """

    parts: pl.DataFrame
    prediction: float
    deviation: float
    known_user: bool
    known_movie: bool


@dataclass(frozen=True)
class Trained:
    """A trained network with the tables that give its indices their ids and names."""

    network: Network
    users: pl.DataFrame
    movies: pl.DataFrame
    genres: pl.DataFrame

    def find(self, kind: Kind, ids: pl.Series) -> np.ndarray:
        """Dense indices of ids, (n,) int64; -1 for those that the model does not know."""
        table = self.users if kind == "user" else self.movies
        found = ids.alias(f"{kind}_id").to_frame().join(
            table.select(f"{kind}_id", kind), on=f"{kind}_id", how="left", maintain_order="left"
        )  # fmt: skip
        return found[kind].cast(pl.Int64).fill_null(-1).to_numpy()

    def parse(self, kind: Kind, text: pl.Series) -> pl.Series:
        """Ids from text, of the type that the data's ids have; null where it cannot be one."""
        dtype = (self.users if kind == "user" else self.movies).schema[f"{kind}_id"]
        trimmed = text.cast(pl.String).str.strip_chars()
        if dtype == pl.String:
            return trimmed.to_frame("id").select(pl.col("id").replace("", None)).to_series()
        return trimmed.cast(dtype, strict=False)

    def one(self, kind: Kind, value: int | str) -> int:
        """The dense index of one id, -1 where it is not known."""
        ids = self.parse(kind, pl.Series([str(value)]))
        if ids.null_count():
            raise InputError(f"{kind} id {str(value)!r}: {self.allowed(kind)}.")
        return int(self.find(kind, ids)[0])

    def genre(self, name: str) -> int:
        """The index of a genre by its name, in capitals or not."""
        self.require_genres()
        names = self.genres["name"].to_list()
        folded = [known.casefold() for known in names]
        wanted = name.strip().casefold()
        if wanted in folded:
            return names.index(name) if name in names else folded.index(wanted)
        close = get_close_matches(wanted, folded, n=1)
        hint = f" (did you mean {names[folded.index(close[0])]!r}?)" if close else ""
        raise InputError(f"genre {name.strip()!r} is not known{hint}; allowed: {', '.join(names)}.")

    def require_genres(self) -> None:
        """Make sure that the model was told the genres."""
        if not self.network.settings.genres:
            raise InputError(
                "The model was trained without genres (model.genres is false, or the data have "
                "none): set model.genres to true in params.yaml and run `dvc repro`."
            )

    def described(self, movies: np.ndarray) -> pl.DataFrame:
        """movie_id, title and genres (names parted by pipes) of movies by index, in their order."""
        rows = self.movies[movies.tolist()]
        names = self.genres["name"].to_list()
        joined = ["|".join(names[k] for k in listed) for listed in rows["genres"].to_list()]
        return rows.select("movie_id", "title", genres=pl.Series(joined, dtype=pl.String))

    def allowed(self, kind: Kind) -> str:
        """What the model's ids are, for an error."""
        table = self.users if kind == "user" else self.movies
        ids = table[f"{kind}_id"]
        what = "text" if ids.dtype == pl.String else "whole numbers"
        return f"the model's {kind} ids are {what}, such as {', '.join(map(str, ids.head(3)))}"


def open_model(folder: Path = storage.MODEL) -> Trained:
    """The trained model of a folder, and its tables.

    Raises:
        InputError: a file is missing, cut short, from another version or inconsistent.
    """
    network, tables = load_whole(folder)
    return Trained(network, *tables)


class AnyUser:
    """Predictions for a user of whom nothing is known, each movie worked out once."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.users = some_users(network, AVERAGED)  # (N,)
        self.answers = np.full((2, network.unknown + 1), np.nan, dtype=np.float32)

    def predict(self, movies: np.ndarray) -> np.ndarray:
        """Mean and deviation for dense movie indices, (2, B) float32."""
        unanswered = np.unique(movies)
        unanswered = unanswered[np.isnan(self.answers[0, unanswered])]
        for start in range(0, len(unanswered), BLOCK):
            block = unanswered[start : start + BLOCK]
            rated = self.network.grid(*map(torch.from_numpy, (self.users, block)))  # (R, N, B)
            each = finite(rated.double().numpy())
            mean, replicas = each.mean(0).clip(*self.network.limits), each.var(0)  # (N, B)
            # The posterior's spread is a small part of the deviation: some users are enough for it.
            some = slice(None, None, math.ceil(len(self.users) / DRAWN))
            drawn = self.users[some]
            asked = np.tile(drawn, len(block)), np.repeat(block, len(drawn))
            deviation = answer(self.network, *asked, draws=1)[1].reshape(len(block), -1)
            rest = np.square(deviation, dtype=np.float64).mean(1) - replicas[some].mean(0)
            variance = np.maximum(rest, 0) + replicas.mean(0) + mean.var(0)
            self.answers[:, block] = mean.mean(0), np.sqrt(variance)
        return self.answers[:, movies]


def finite(values: np.ndarray) -> np.ndarray:
    """The values, if all are numbers; weights may be such that an answer is none."""
    if not np.isfinite(values).all():
        raise InputError(
            "The model's weights are so large that an answer is no number: run `dvc checkout`, or "
            "train it anew with `dvc repro train`."
        )
    return values


def answer(
    network: Network,
    users: np.ndarray,
    movies: np.ndarray,
    times: np.ndarray | None = None,
    draws: int = POSTERIOR_DRAWS,
) -> np.ndarray:
    """Prediction and deviation for dense indices, (2, B) float32."""
    return finite(np.stack(predict(network, users, movies, times, draws=draws)))


def some_users(network: Network, most: int) -> np.ndarray:
    """Evenly spaced users of the model, at most `most`, (N,) int64."""
    return np.unique(np.linspace(0, network.users - 1, min(most, network.users)).astype(np.int64))


@torch.no_grad()
def _rate(
    network: Network, users: np.ndarray, movies: np.ndarray, cards: torch.Tensor | None = None
) -> np.ndarray:
    """Mean of the replicas before it is kept on the scale, (B,); cards (B, G) replace genres."""
    rated = []
    for part in torch.arange(len(users)).split(BATCH):
        rows = part.numpy()
        user, movie = torch.from_numpy(users[rows]), torch.from_numpy(movies[rows])
        shown = None if cards is None else cards[part]
        rated.append(network(user, movie, genres=shown).rating.double().mean(0))
    return finite(torch.cat(rated).numpy()) if rated else np.empty(0)


def predict_pairs(
    model: Trained,
    user_ids: pl.Series,
    movie_ids: pl.Series,
    times: np.ndarray | None = None,
    any_user: AnyUser | None = None,
) -> pl.DataFrame:
    """Predictions for pairs of ids.

    Args:
        model: the trained model.
        user_ids: (n,), of the type of the data's ids.
        movie_ids: (n,), likewise.
        times: seconds since 1970, (n,), or None where they are not known.
        any_user: answers for unknown users worked out so far, to be used again.

    Returns:
        prediction and deviation (stars, Float32), known_user and known_movie (Boolean), (n,) rows.
    """
    user, movie = model.find("user", user_ids), model.find("movie", movie_ids)
    known_user, known_movie = user >= 0, movie >= 0
    movie = np.where(known_movie, movie, model.network.unknown)
    answers = np.empty((2, len(user)), dtype=np.float32)
    if known_user.any():
        answers[:, known_user] = answer(
            model.network,
            user[known_user],
            movie[known_user],
            None if times is None else times[known_user],
        )
    if not known_user.all():
        any_user = any_user or AnyUser(model.network)
        answers[:, ~known_user] = any_user.predict(movie[~known_user])
    return pl.DataFrame(dict(zip(ADDED, (*answers, known_user, known_movie), strict=True)))


def predict_file(model: Trained, source: Path, out: Path, rows: int = ROWS) -> Counts:
    """Predict each row of a csv file into another that has its columns and four more.

    The file is read, predicted and written in parts, so it may be larger than memory.

    Args:
        model: the trained model.
        source: a csv file with a header: userId or user_id, movieId or movie_id, if wanted
            timestamp (seconds since 1970); other columns are handed on as they are.
        out: the csv file to write; its rows are in the same order, blank ones left out.
        rows: rows of a part.

    Raises:
        InputError: the file or a column is missing, or a row holds something that cannot be used.
    """
    columns = _prediction_columns(source)
    if out.exists() and out.samefile(source):
        raise InputError(f"--out {out} is the file that is read: name another.")
    any_user, counts = AnyUser(model.network), Counts(0, 0, 0)
    scan = pl.scan_csv(source, infer_schema=False).with_row_index(_ROW, offset=2)
    filled = scan.filter(~pl.all_horizontal(pl.exclude(_ROW).is_null()))
    with storage.replacing(out) as temporary, temporary.open("wb") as written:
        try:
            for chunk in filled.collect_batches(chunk_size=rows, maintain_order=True):
                if chunk.is_empty():
                    continue
                found = _predict_chunk(model, chunk, columns, source, any_user)
                whole = pl.concat([chunk.drop(_ROW), found], how="horizontal")
                whole.write_csv(written, include_header=counts.rows == 0, float_precision=4)
                counts = Counts(
                    counts.rows + chunk.height,
                    counts.unknown_users + int((~found["known_user"]).sum()),
                    counts.unknown_movies + int((~found["known_movie"]).sum()),
                )
        except pl.exceptions.PolarsError as error:
            raise _unreadable(source, error) from None
        if counts.rows == 0:
            raise InputError(f"{source} holds no rows below its header.")
    return counts


def _unreadable(source: Path, error: Exception) -> InputError:
    reason = str(error).partition("\n")[0]
    return InputError(
        f"{source} cannot be read as a csv file ({reason}): row 1 names the fields that each row "
        "has, parted by commas, as UTF-8 text."
    )


def _prediction_columns(source: Path) -> dict[str, str | None]:
    """The file's own name of the columns user, movie and, where it has one, timestamp."""
    if not source.is_file():
        raise InputError(f"{source} is not a file: name a csv file with user and movie ids.")
    try:
        # As a row, since polars gives the second of two columns of one name another name.
        first = pl.scan_csv(source, has_header=False, infer_schema=False, n_rows=1).collect()
    except pl.exceptions.PolarsError as error:
        raise _unreadable(source, error) from None
    present = [name or "" for name in first.row(0)]
    columns: dict[str, str | None] = {"timestamp": None}
    if "timestamp" in present:
        columns["timestamp"] = "timestamp"
    for kind, names in _COLUMNS.items():
        chosen = [name for name in names if name in present]
        if len(chosen) != 1:
            what = "both " + " and ".join(names) if chosen else f"no {' or '.join(names)}"
            header = ",".join(present)[:80]
            raise InputError(
                f"{source}, row 1: the header {header!r} has {what}; needed are the columns userId "
                "and movieId (or user_id and movie_id), each once, and, if the times are known, "
                "timestamp, parted by commas."
            )
        columns[kind] = chosen[0]
    twice = next((name for at, name in enumerate(present) if name in present[:at]), None)
    if twice is not None:
        raise InputError(
            f"{source}, row 1: the header has a column {twice!r} twice: rename one or leave it out."
        )
    taken = [name for name in (*ADDED, _ROW) if name in present]
    if taken:
        raise InputError(
            f"{source}, row 1: the file has a column {taken[0]!r} already, which a prediction "
            "would add: rename it or leave it out."
        )
    return columns


def _predict_chunk(
    model: Trained,
    chunk: pl.DataFrame,
    columns: dict[str, str | None],
    source: Path,
    any_user: AnyUser,
) -> pl.DataFrame:
    def refuse(bad: pl.Series, name: str | None, allowed: str) -> None:
        if bad.any():
            row, value = chunk.filter(bad).select(_ROW, str(name)).row(0)
            shown = "empty" if value is None else repr(value)
            raise InputError(f"{source}, row {row}: {name} is {shown}; {allowed}.")

    kinds: tuple[Kind, Kind] = ("user", "movie")
    ids = {}
    for kind in kinds:
        ids[kind] = model.parse(kind, chunk[str(columns[kind])])
        refuse(ids[kind].is_null(), columns[kind], model.allowed(kind))
    times = None
    if columns["timestamp"] is not None:
        seconds = chunk["timestamp"].str.strip_chars().cast(pl.Int64, strict=False)
        bad = ~seconds.is_between(0, _LATEST).fill_null(value=False)
        refuse(bad, "timestamp", f"allowed: whole seconds since 1970, 0 to {_LATEST}")
        times = seconds.to_numpy()
    return predict_pairs(model, ids["user"], ids["movie"], times, any_user)


def recommend(
    model: Trained, user_id: int | str, train: storage.Side, genre: str | None = None, top: int = 10
) -> tuple[pl.DataFrame, bool]:
    """The movies that a user would like best among those not rated in training.

    Args:
        model: the trained model.
        user_id: the user; one who is not known gets what users like on average.
        train: the training ratings.
        genre: only movies of this genre.
        top: most movies listed.

    Returns:
        movie_id, title, genres, ratings (in training), prediction and deviation, best first; and
        whether the user is known.
    """
    network = model.network
    user = model.one("user", user_id)
    open_to = np.ones(network.unknown, dtype=bool)
    if user >= 0:
        start, end = np.searchsorted(train.user, [user, user + 1])
        open_to[train.movie[start:end]] = False
    if genre is not None:
        open_to &= network.genre_share[:-1, model.genre(genre)].numpy() > 0
    movies = np.flatnonzero(open_to)
    if user < 0:
        score, deviation = AnyUser(network).predict(movies)
        best = np.argsort(-score, kind="stable")[:top]
        mean, deviation = score[best], deviation[best]
    else:
        # Ranked before they are kept on the scale, where the best would all be the same.
        score = _rate(network, np.full(len(movies), user), movies)
        best = np.argsort(-score, kind="stable")[:top]
        mean, deviation = np.empty((2, 0), dtype=np.float32)
        if len(best):
            mean, deviation = answer(network, np.full(len(best), user), movies[best])
    chosen = movies[best]
    table = model.described(chosen).with_columns(
        ratings=pl.Series(network.movie_counts[chosen].numpy()).cast(pl.Int64),
        prediction=pl.Series(mean),
        deviation=pl.Series(deviation),
    )
    return table, user >= 0


def neighbours(model: Trained, what: int | str, top: int = 10) -> Neighbours:
    """What is most like a genre (by its name) or else a movie (by its id).

    Similarity is the correlation over users of the model's responses, as in the inspection: what
    it predicts for the genre, or the movie, less what it predicts for the unknown movie of no
    genre. Movies without training ratings are left out: their genres say all.
    """
    names = {name.casefold(): name for name in model.genres["name"]}
    if str(what).strip().casefold() in names and model.network.settings.genres:
        return _genre_neighbours(model, model.genre(str(what)), top)
    ids = model.parse("movie", pl.Series([str(what)]))
    movie = -1 if ids.null_count() else int(model.find("movie", ids)[0])
    if movie < 0:
        close = get_close_matches(str(what).casefold(), names, n=1)
        hint = f" (did you mean {names[close[0]]!r}?)" if close else ""
        raise InputError(
            f"{str(what)!r} is neither a genre nor the id of a movie that the model knows{hint}; "
            f"genres: {', '.join(names.values())}; {model.allowed('movie')}."
        )
    return _movie_neighbours(model, movie, top)


def _genre_neighbours(model: Trained, genre: int, top: int) -> Neighbours:
    # They bring scipy.stats, slow to import, which the other commands do without.
    from genre_embeddings.inspection.inspect import ask
    from genre_embeddings.inspection.similarity import (
        nearest_genres,
        replica_similarities,
        replica_stability,
        response_similarity,
    )

    responses = finite(ask(model.network, some_users(model.network, ASKED_OF_GENRES)))  # (R, N, G)
    similarity = response_similarity(responses)
    replicas = replica_similarities(responses)
    stability = replica_stability(replicas)
    names = model.genres["name"].to_list()
    found = nearest_genres(similarity, top)[genre]
    spread = np.stack([replica.values[genre] for replica in replicas])  # (R, G)
    table = pl.DataFrame(
        {
            "genre": [names[k] for k in found],
            "similarity": similarity.values[genre, found],
            "lowest": spread[:, found].min(0),
            "highest": spread[:, found].max(0),
        }
    )
    repeatable = None if stability.spearman is None else bool(stability.stable[genre])
    return Neighbours(names[genre], table, repeatable)


def _movie_neighbours(model: Trained, movie: int, top: int) -> Neighbours:
    network = model.network
    users = torch.from_numpy(some_users(network, ASKED_OF_MOVIES))
    rated = network.movie_counts[:-1].numpy() > 0
    rated[movie] = False
    others = np.flatnonzero(rated)

    def responses(movies: np.ndarray) -> np.ndarray:
        asked = torch.from_numpy(np.append(movies, network.unknown))
        rated = finite(network.grid(users, asked).double().mean(0).numpy())  # (N, movies + 1)
        centred = rated[:, :-1] - rated[:, -1:]
        return centred - centred.mean(0)

    own = responses(np.array([movie]))[:, 0]
    similarity = np.empty(len(others))
    for start in range(0, len(others), BLOCK):
        other = responses(others[start : start + BLOCK])
        norm = np.linalg.norm(other, axis=0) * np.linalg.norm(own)
        similarity[start : start + BLOCK] = own @ other / np.maximum(norm, 1e-12)
    best = np.argsort(-similarity, kind="stable")[:top]
    table = model.described(others[best]).with_columns(similarity=pl.Series(similarity[best]))
    return Neighbours(model.movies["title"][movie], table)


def explain(model: Trained, user_id: int | str, movie_id: int | str) -> Explanation:
    """One prediction by its parts, which add up to it.

    With r(v, m, S) what the model predicts for user v, movie m and genres S:

        mean   mean over users v of r(v, unknown, none)
        user   r(u, unknown, none) - mean
        genre  r(u, unknown, S + k) - r(u, unknown, S), averaged over the orders of the genres
               (Shapley 1953): all orders of up to five, else 120 random ones
        movie  r(u, m, genres of m) - r(u, unknown, genres of m)
        scale  what it takes to keep the sum on the scale of ratings

    A user who is not known has no part; the others then are means over users.
    """
    network = model.network
    user, movie = model.one("user", user_id), model.one("movie", movie_id)
    anybody = some_users(network, AVERAGED)
    users = anybody if user < 0 else np.array([user])
    own = [] if movie < 0 else model.movies["genres"][movie].to_list()
    if not network.settings.genres:
        own = []
    index = network.unknown if movie < 0 else movie

    def rated(asked: np.ndarray, which: int, sets: np.ndarray) -> np.ndarray:
        """Means over the users asked for sets of genres, (sets,)."""
        shown = torch.from_numpy(sets.astype(np.float32)).repeat_interleave(len(asked), 0)
        everyone = np.tile(asked, len(sets))
        answers = _rate(network, everyone, np.full(len(everyone), which), shown)
        return answers.reshape(len(sets), -1).mean(1)

    none = np.zeros((1, network.genre_share.shape[1]))
    mean = rated(anybody, network.unknown, none)[0]
    parts = {"mean": mean, "user": rated(users, network.unknown, none)[0] - mean}
    orders = _orders(len(own))  # (orders, genres)
    ranks = np.argsort(orders, axis=1)
    steps = np.zeros((len(orders), len(own) + 1, none.size))
    for size in range(1, len(own) + 1):
        steps[:, size, own] = ranks < size
    sets, back = np.unique(steps.reshape(-1, none.size), axis=0, return_inverse=True)
    gains = np.diff(rated(users, network.unknown, sets)[back].reshape(len(orders), -1), axis=1)
    shares = np.take_along_axis(gains, ranks, axis=1).mean(0)  # (genres,)
    names = model.genres["name"].to_list()
    parts |= {f"genre {names[k]}": share for k, share in zip(own, shares, strict=True)}
    whole = none.copy()
    whole[0, own] = 1
    full = rated(users, index, whole)[0]
    parts["movie"] = full - rated(users, network.unknown, whole)[0]

    if user < 0:
        prediction, deviation = AnyUser(network).predict(np.array([index]))[:, 0].tolist()
    else:
        prediction, deviation = answer(network, users, np.array([index]))[:, 0].tolist()
    if abs(prediction - full) > 1e-4:
        parts["scale"] = prediction - full
    table = pl.DataFrame({"part": list(parts), "stars": [float(v) for v in parts.values()]})
    return Explanation(table, prediction, deviation, user >= 0, movie >= 0)


def _orders(count: int) -> np.ndarray:
    """All orders of a few things, or as many random ones as that, (orders, count)."""
    if math.factorial(count) > ORDERS:
        start = np.tile(np.arange(count), (ORDERS, 1))
        return np.random.default_rng(0).permuted(start, axis=1)
    orders = np.zeros((1, 0), dtype=np.int64)
    for size in range(count):  # the new one takes each place among the others
        orders = np.concatenate([np.insert(orders, at, size, axis=1) for at in range(size + 1)])
    return orders


def embed(model: Trained, names: list[str], replica: int = 0) -> pl.DataFrame:
    """The vector of a new movie of these genres: the sum of theirs over the root of their number.

    Returns:
        dimension, value and deviation (of the posterior), D rows. Replicas have bases of their
        own: vectors of different ones cannot be compared.
    """
    replica = chosen_replica(model.network, replica)
    genres = sorted({model.genre(name) for name in names})
    if not genres:
        raise InputError(
            f"no genre is named; allowed, parted by commas: {', '.join(model.genres['name'])}."
        )
    mean, deviation = (part[genres, replica] for part in model.network.genre_posterior())
    root = math.sqrt(len(genres))
    return pl.DataFrame(
        {
            "dimension": np.arange(mean.shape[1]),
            "value": finite((mean.sum(0) / root).numpy()),
            "deviation": finite((deviation.square().sum(0).sqrt() / root).numpy()),
        }
    )


def chosen_replica(network: Network, replica: int) -> int:
    """The replica's number, if there is such a one."""
    if not 0 <= replica < network.replicas:
        raise InputError(
            f"replica {replica} is not there; allowed: 0 to {network.replicas - 1} "
            "(train.replicas of the model)."
        )
    return replica
