"""The embeddings as tables, and their export to files for other tools.

genres.parquet   genre, movies, ratings, vector (D,), deviation (D,) of the posterior
movies.parquet   index, movie_id, title, genres, ratings (in training), vector (D,), genre_vector
                 (D,)
users.parquet    index, user_id, ratings (in training), vector (D,)
vectors.tsv, metadata.tsv   genres and movies, for TensorBoard's Embedding Projector
scorer.pt2       predictions for pairs of `index`, for PyTorch without this package

A prediction contains the product <u, v>: `vector` of a user is u, `vector` of a movie is v, its
genres included, and `genre_vector` is the part of v that comes from its genres.

    scorer = torch.export.load("exports/scorer.pt2").module()
    ratings = scorer(torch.tensor([0, -1]), torch.tensor([7, 7]))  # of movie 7: user 0 and unknown

Letters: B pairs, U users, M movies, D embedding size, R replicas.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn
from torch.nn import functional

from genre_embeddings import storage
from genre_embeddings.errors import InputError
from genre_embeddings.inference.predict import AnyUser
from genre_embeddings.inference.trained import Trained, require_finite
from genre_embeddings.model.neighbourhood import Neighbourhood
from genre_embeddings.model.network import Network, Vectors

TABLES = ("genres.parquet", "movies.parquet", "users.parquet")
NAMES = (*TABLES, "vectors.tsv", "metadata.tsv", "scorer.pt2")


def export(model: Trained, out: Path, replica: int = 0) -> None:
    """Write the embeddings of one replica to a folder, in place of an earlier export.

    Embeddings of replicas are not averaged, because each has its own basis; the scorer averages
    their predictions.

    Raises:
        InputError: the replica does not exist, or the folder contains other files.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file: give a folder.")
    others = sorted(path.name for path in out.glob("*") if path.name not in NAMES)
    if others:
        raise InputError(
            f"--out {out} contains {', '.join(others[:3])}{', ...' if len(others) > 3 else ''}, "
            "which no export wrote and which would be deleted: choose another folder."
        )
    model.require_replica(replica)
    tables = _tables(model, replica)
    genres, movies, _ = tables
    points = [table["vector"].to_numpy() for table in (genres, movies)]
    with storage.replacing(out, folder=True) as folder:
        for name, table in zip(TABLES, tables, strict=True):
            storage.write_table(folder / name, table)
        vectors = pl.DataFrame(np.concatenate(points))
        vectors.write_csv(folder / "vectors.tsv", separator="\t", include_header=False)
        _metadata(genres, movies).write_csv(
            folder / "metadata.tsv", separator="\t", quote_style="never"
        )
        write_scorer(model.network, folder / "scorer.pt2")


def embed(model: Trained, names: list[str], replica: int = 0) -> pl.DataFrame:
    """The vector of a new movie with these genres: the sum of theirs / sqrt(number of genres).

    Returns:
        dimension, value and deviation (of the posterior), a row for each dimension. Each replica
        has its own basis: vectors of different replicas cannot be compared.
    """
    model.require_replica(replica)
    genres = sorted({model.genre(name) for name in names})
    if not genres:
        raise InputError(
            f"no genre is given; allowed, separated by commas: {', '.join(model.genre_names)}."
        )
    mean, deviation = (part[genres, replica] for part in model.network.genre_posterior())
    root = math.sqrt(len(genres))
    return pl.DataFrame(
        {
            "dimension": np.arange(mean.shape[1]),
            "value": require_finite((mean.sum(0) / root).numpy()),
            "deviation": require_finite((deviation.square().sum(0).sqrt() / root).numpy()),
        }
    )


def _tables(model: Trained, replica: int) -> list[pl.DataFrame]:
    """The tables of genres, movies and users."""
    network = model.network
    users, movies = torch.arange(network.users), torch.arange(network.unknown)
    with torch.no_grad():
        u, _, v, _ = (part[:, replica] for part in network.vectors(users, movies))
    genres = model.genres.select(pl.col("name").alias("genre"), "movies", "ratings")
    if network.settings.genres:
        mean, deviation = (part[:, replica] for part in network.genre_posterior())
    else:
        genres, mean = genres.head(0), u[:0]
        deviation = mean
    by_genre = network.genre_share[:-1, : len(mean)] @ mean
    counts = pl.Series(network.movie_counts[:-1].numpy()).cast(pl.UInt32)
    rated = pl.Series(network.user_counts.numpy()).cast(pl.UInt32)
    described = model.described(movies.numpy()).with_row_index().with_columns(ratings=counts)
    users_table = model.users.select("user_id", ratings=rated).with_row_index()
    return [
        genres.with_columns(vector=_vectors(mean), deviation=_vectors(deviation)),
        described.with_columns(vector=_vectors(v), genre_vector=_vectors(by_genre)),
        users_table.with_columns(vector=_vectors(u)),
    ]


def _vectors(values: Tensor) -> pl.Series:
    found = np.ascontiguousarray(require_finite(values.numpy()))
    return pl.Series(found, dtype=pl.Array(pl.Float32, values.shape[1]))


def _metadata(genres: pl.DataFrame, movies: pl.DataFrame) -> pl.DataFrame:
    """A line for each vector, genres first, in text that no program misreads.

    Control characters become spaces. A text that a spreadsheet would compute as a formula begins
    with an apostrophe; the Parquet files hold it as it is.
    """
    text = pl.col(pl.String).str.replace_all(r"[\p{Cc}\u2028\u2029]+", " ")
    text = text.str.replace(r"^([\s]*[=+@-])", "'$1")
    rows = [
        genres.select(
            kind=pl.lit("genre"), id="genre", name="genre", genres="genre",
            ratings=pl.col("ratings").cast(pl.UInt32),
        ),
        movies.select(
            kind=pl.lit("movie"), id=pl.col("movie_id").cast(pl.String), name="title",
            genres="genres", ratings="ratings",
        ),
    ]  # fmt: skip
    return pl.concat(rows).with_columns(text)


class _Neighbourhood(nn.Module):
    """Computes the same as `Neighbourhood`, with tensors of fixed sizes only."""

    keys: Tensor  # (ratings + 1,) user and movie in one number, ascending; the last is no rating
    errors: Tensor  # (ratings + 1,)
    similar: Tensor  # these four as in the whole
    weights: Tensor
    amplitude: Tensor
    shrinkage: Tensor

    def __init__(self, whole: Neighbourhood) -> None:
        super().__init__()
        self.count = len(whole.candidates)
        for name in ("similar", "weights", "amplitude", "shrinkage"):
            self.register_buffer(name, getattr(whole, name))
        users = torch.arange(len(whole.starts) - 1).repeat_interleave(whole.starts.diff())
        listed = whole.columns < self.count
        keys, order = (users * self.count + whole.columns)[listed].sort()
        self.register_buffer("keys", functional.pad(keys, (0, 1), value=1 << 62))
        self.register_buffer("errors", functional.pad(whole.residuals[listed][order], (0, 1)))

    def forward(self, users: Tensor, movies: Tensor) -> Tensor:
        asked = users[:, None] * self.count + self.similar[movies]  # (B, K)
        at = torch.searchsorted(self.keys, asked)
        weights = self.weights[movies] * (self.keys[at] == asked)
        sums, total = (weights * self.errors[at]).sum(1), weights.abs().sum(1)
        return self.amplitude * sums / (total + self.shrinkage)


class Scorer(nn.Module):
    """Predicted ratings of pairs of user and movie, as `Network` computes them without times.

    Terms of a user alone, or of a movie alone, are summed beforehand, so that neither the histories
    nor the genres are needed.
    """

    user: Tensor  # (U, R, D)
    user_bias: Tensor  # (U, R)
    movie: Tensor  # (M+1, R, D)
    movie_bias: Tensor  # (M+1, R)
    anybody: Tensor  # (M+1,)

    def __init__(self, network: Network) -> None:
        super().__init__()
        bare = network.settings.model_copy(update={"genres": False, "history": 0})
        self.head = Network(bare, network.replicas, (1, 1, 0), network.limits)
        self.head.dense, self.head.centre = network.dense, network.centre
        del self.head.user, self.head.movie
        users, movies = torch.arange(network.users), torch.arange(network.unknown + 1)
        with torch.no_grad():
            parts = network.vectors(users, movies)
        for name, part in zip(("user", "user_bias", "movie", "movie_bias"), parts, strict=True):
            self.register_buffer(name, part.clone())  # not the whole tensor that it is a part of
        anybody, _ = AnyUser(network).predict(movies.numpy())
        self.register_buffer("anybody", torch.tensor(anybody))
        self.neighbourhood = None
        if network.neighbourhood is not None:
            self.neighbourhood = _Neighbourhood(network.neighbourhood)

    def forward(self, users: Tensor, movies: Tensor) -> Tensor:
        """Ratings, (B,) float32.

        Args:
            users: (B,) int64, dense indices of users; -1 is an unknown user.
            movies: (B,) int64, dense indices of movies; -1 is an unknown movie without genres.
        """
        known = users.clamp(min=0)
        u, bias = self.user[known], self.user_bias[known]
        v, movie_bias = self.movie[movies], self.movie_bias[movies]
        rating = self.head.rate(Vectors(u, bias, v, movie_bias)).rating  # (R, B)
        mean = rating.mean(0)
        if self.neighbourhood is not None:
            mean = mean + self.neighbourhood(known, movies)
        mean = mean.clamp(*self.head.limits)
        return torch.where(users < 0, self.anybody[movies], mean)


def write_scorer(network: Network, path: Path) -> None:
    """Write the scorer for `torch.export.load`; the same model gives the same bytes."""
    pair = torch.zeros(2, dtype=torch.int64), torch.zeros(2, dtype=torch.int64)
    rows = torch.export.Dim("rows")
    with torch.no_grad():
        scorer = Scorer(network).eval()
        program = torch.export.export(scorer, pair, dynamic_shapes=({0: rows}, {0: rows}))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names the folder of this checkout
    torch.export.save(program, path)
