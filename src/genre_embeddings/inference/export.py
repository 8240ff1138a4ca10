"""Export of the embeddings to files for other tools.

genres.parquet   genre, movies, ratings, vector (D,), deviation (D,) of the posterior
movies.parquet   index, movie_id, title, genres, ratings (in training), vector (D,), genre_vector
                 (D,)
users.parquet    index, user_id, ratings (in training), vector (D,)
vectors.tsv, metadata.tsv   genres and movies, for TensorBoard's Embedding Projector
scorer.pt2       predictions for pairs of `index`, for PyTorch without this package

A prediction contains the product <u, v>: `vector` of a user is u, `vector` of a movie is v, its
genres included, and `genre_vector` is the part of v that comes from its genres.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import torch

from genre_embeddings import storage
from genre_embeddings.errors import InputError
from genre_embeddings.inference.scorer import write_scorer
from genre_embeddings.inference.trained import Trained, require_finite

TABLES = ("genres.parquet", "movies.parquet", "users.parquet")
NAMES = (*TABLES, "vectors.tsv", "metadata.tsv", "scorer.pt2")


def export(model: Trained, out: Path, replica: int = 0) -> None:
    """Write the embeddings of one replica to a folder, in place of an earlier export.

    Embeddings of replicas are not averaged, because each has its own basis; the scorer averages
    their predictions.

    Args:
        model: the trained model.
        out: the folder; if it exists, it may contain only an earlier export.
        replica: the number of the replica.

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
    genres, movies = _genre_table(model, replica), _movie_table(model, replica)
    points = [table["vector"].to_numpy() for table in (genres, movies)]
    with storage.replacing_folder(out) as folder:
        storage.write_table(folder / "genres.parquet", genres)
        storage.write_table(folder / "movies.parquet", movies)
        storage.write_table(folder / "users.parquet", _user_table(model, replica))
        vectors = pl.DataFrame(np.concatenate(points))
        vectors.write_csv(folder / "vectors.tsv", separator="\t", include_header=False)
        _metadata(genres, movies).write_csv(
            folder / "metadata.tsv", separator="\t", quote_style="never"
        )
        write_scorer(model.network, folder / "scorer.pt2")


def _genre_table(model: Trained, replica: int) -> pl.DataFrame:
    table, dim = model.genres, model.network.settings.dim
    if model.network.settings.genres:
        mean, deviation = (part[:, replica].numpy() for part in model.network.genre_posterior())
    else:
        mean = deviation = np.empty((0, dim), dtype=np.float32)
        table = table.head(0)
    return table.select(
        pl.col("name").alias("genre"),
        "movies",
        "ratings",
        vector=_vectors(mean),
        deviation=_vectors(deviation),
    )


@torch.no_grad()
def _movie_table(model: Trained, replica: int) -> pl.DataFrame:
    network = model.network
    movies = torch.arange(network.unknown)
    own = network.vectors(torch.zeros(1, dtype=torch.int64), movies)[2][:, replica]
    by_genre = torch.zeros_like(own)
    if network.settings.genres:
        by_genre = network.genre_share[:-1] @ network.genre_posterior()[0][:, replica]
    table = model.described(np.arange(network.unknown)).with_row_index()
    return table.with_columns(
        ratings=pl.Series(network.movie_counts[:-1].numpy()).cast(pl.UInt32),
        vector=_vectors(own.numpy()),
        genre_vector=_vectors(by_genre.numpy()),
    )


@torch.no_grad()
def _user_table(model: Trained, replica: int) -> pl.DataFrame:
    network = model.network
    vectors = network.vectors(torch.arange(network.users), torch.zeros(1, dtype=torch.int64))[0]
    return model.users.select(
        "user_id",
        ratings=pl.Series(network.user_counts.numpy()).cast(pl.UInt32),
        vector=_vectors(vectors[:, replica].numpy()),
    ).with_row_index()


def _vectors(values: np.ndarray) -> pl.Series:
    return pl.Series(
        np.ascontiguousarray(require_finite(values)), dtype=pl.Array(pl.Float32, values.shape[1])
    )


def _metadata(genres: pl.DataFrame, movies: pl.DataFrame) -> pl.DataFrame:
    """A line for each vector, genres first, in text that no program takes for anything else.

    Control characters become spaces. A text that a spreadsheet would compute as a formula begins
    with an apostrophe; the Parquet files hold it as it is.
    """
    text = pl.col(pl.String).str.replace_all(r"[\p{Cc}\u2028\u2029]+", " ")
    text = text.str.replace(r"^([\s]*[=+@-])", "'$1")
    rows = [
        genres.select(
            kind=pl.lit("genre"), id=pl.col("genre"), name="genre", genres="genre",
            ratings=pl.col("ratings").cast(pl.UInt32),
        ),
        movies.select(
            kind=pl.lit("movie"), id=pl.col("movie_id").cast(pl.String), name="title",
            genres="genres", ratings="ratings",
        ),
    ]  # fmt: skip
    return pl.concat(rows).with_columns(text)
