"""Saving and loading a trained model: a folder with weights, settings and id maps.

models/model.safetensors  weights and indexed training ratings; its only metadata entry is a
                          JSON string with the settings and checksums of the tables and of the
                          training ratings
models/tables.json        id maps and genre sets, as prepared

The folder may come from a stranger: loading executes nothing in it and checks everything. It holds
no pickle, and no Parquet, whose reader a damaged file can crash.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Any, NamedTuple

import polars as pl
import torch
from psutil import virtual_memory
from pydantic import Field, ValidationError
from pydantic_core import from_json
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from genre_embeddings import storage
from genre_embeddings.errors import InputError
from genre_embeddings.model.build import genre_sets
from genre_embeddings.model.network import Network
from genre_embeddings.settings import ModelSettings, Section

FORMAT = 8
WEIGHTS, TABLES = "model.safetensors", "tables.json"
REMEDY = "run `dvc checkout` or `dvc repro train`"
LARGEST_HEADER = 1 << 18
"""Maximum bytes of the weights' names, shapes and metadata; usual settings need 10,000."""
LARGEST_ROW = 10_000
"""Maximum bytes of tables.json per user, movie or genre, on average."""
MOVIES = {"movie_id": None, "title": pl.String(), "genres": pl.List(pl.UInt32)}
GENRES = {"name": pl.String(), "movies": pl.UInt32(), "ratings": pl.UInt32()}
UNREADABLE = (
    AttributeError, LookupError, MemoryError, OSError, OverflowError, RuntimeError, TypeError,
    ValueError, SafetensorError, pl.exceptions.PolarsError,
)  # fmt: skip
"""What the libraries raise for a damaged file."""
Stars = Annotated[float, Field(ge=-1e30, le=1e30)]  # within float32


class About(Section):
    """The metadata of the weights."""

    format: int
    settings: ModelSettings
    replicas: Annotated[int, Field(ge=1, le=64)]
    limits: tuple[Stars, Stars]
    tables: str  # SHA-256 of tables.json
    train: str  # SHA-256 of the training ratings


class Tables(NamedTuple):
    """Ids and names of users, movies and genres, as in the tables of data/prepared/."""

    users: pl.DataFrame
    movies: pl.DataFrame
    genres: pl.DataFrame


def configure_torch(threads: int) -> None:
    """Set torch's CPU threads for the whole process; 0 keeps torch's own choice, one a core.

    With any number but 1, torch uses deterministic algorithms only, so that a seed gives the same
    bytes again.
    """
    if threads:
        torch.set_num_threads(threads)
        # Without it, Lightning divides the cores among the processes that it starts.
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    if threads != 1 and not torch.cuda.is_available():
        # Otherwise threads add up gradients in the order in which they happen to finish.
        torch.use_deterministic_algorithms(True)


def save_model(
    network: Network,
    train: storage.Side,
    folder: Path = storage.MODEL,
    movies: pl.DataFrame | None = None,
) -> None:
    """Write a model folder, in place of an earlier one: the weights, and the prepared tables.

    Args:
        network: a trained network.
        train: the ratings on which it was trained; the folder records their checksum.
        folder: the folder to write.
        movies: table of movies to use in place of all prepared ones, rated or not.
    """
    tables = _tables_json(movies)
    about = {
        "format": FORMAT,
        "settings": network.settings.model_dump(),
        "replicas": network.replicas,
        "limits": network.limits,
        "tables": sha256(tables).hexdigest(),
        "train": storage.fingerprint(train),
    }
    # Sorted names and one metadata entry: the order of several would differ between runs.
    state = {name: value.cpu().contiguous() for name, value in sorted(network.state_dict().items())}
    with storage.replacing(folder, folder=True) as fresh:
        save_file(state, fresh / WEIGHTS, {"model": json.dumps(about)})
        (fresh / WEIGHTS).chmod(0o644)  # safetensors makes it readable by its owner only
        (fresh / TABLES).write_bytes(tables)


def read_tables() -> Tables:
    """The tables of data/prepared/."""
    return Tables(
        *(storage.read_table(storage.PREPARED / f"{name}.parquet") for name in Tables._fields)
    )


def _tables_json(movies: pl.DataFrame | None = None) -> bytes:
    """tables.json for the prepared data, or with another table of movies; see `save_model`."""
    tables = read_tables()._asdict()
    unrated = storage.PREPARED / "unrated.parquet"
    if movies is not None:
        tables["movies"] = movies
    elif unrated.exists() and (table := storage.read_table(unrated)).height:
        tables["unrated"] = table.rename("unrated_{}".format)
    columns = {
        key: table[key].to_list()
        for name, table in tables.items()
        for key in table.columns
        if f"{key}s" != name  # the index
    }
    return json.dumps(columns, ensure_ascii=False, separators=(",", ":")).encode()


def require_same_data(train: storage.Side, ablations: Sequence[Path] = ()) -> None:
    """Check that the model was trained on these ratings, and prepared data and ablations fit it.

    Raises:
        InputError: they come from different runs; the message names both folders.
    """
    model, *others = (_about(_file(folder / WEIGHTS)) for folder in (storage.MODEL, *ablations))
    if model.train != storage.fingerprint(train):
        place, why = storage.SPLIT / "train", "the model was trained on other ratings"
        raise storage.different_runs(storage.MODEL, place, why)
    if model.tables != sha256(_tables_json()).hexdigest():
        why = "the model has other users, movies or genres"
        raise storage.different_runs(storage.MODEL, storage.PREPARED, why)
    for folder, other in zip(ablations, others, strict=True):
        same = other.settings.model_copy(update={"genres": model.settings.genres})
        if (same, other.replicas, other.train) != (model.settings, model.replicas, model.train):
            why = "the two were trained with other ratings or settings"
            raise storage.different_runs(storage.MODEL, folder, why)


def load_whole(folder: Path = storage.MODEL, unrated: bool = False) -> tuple[Network, Tables]:
    """The network of a model folder, ready to predict, and its tables.

    Memory use is in proportion to the sizes of the files.

    If `unrated` is set, both also have the movies that nobody rated, after the others.

    Raises:
        InputError: a file is missing, cut short, from another version or inconsistent.
    """
    weights = _file(folder / WEIGHTS)
    about = _about(weights)
    with _reading(weights):
        if weights.stat().st_size > virtual_memory().total:
            raise MemoryError  # Linux would promise the memory, and kill the process later.
        state = load_file(weights)
        network = Network.from_state(about.settings, about.replicas, about.limits, state)
    path = _file(folder / TABLES)
    rated, genres = network.genre_share[:-1].shape
    rows = network.users + rated + genres
    if path.stat().st_size > LARGEST_ROW * rows:
        raise InputError(f"{path} is far too long for {rows:,} rows; {REMEDY}.")
    written = path.read_bytes()
    if sha256(written).hexdigest() != about.tables:
        raise InputError(f"{path} and {weights} are of different models; {REMEDY}.")
    with _reading(path):
        content = from_json(written)
        more = {name: content.get(f"unrated_{name}", []) for name in MOVIES}
        every = {name: content[name] + more[name] for name in MOVIES}
        movies = _table(every, MOVIES, rated + len(more["movie_id"])).with_row_index("movie")
        sets = genre_sets(movies, genres)
        if not torch.equal(network.shares(sets[:rated]), network.genre_share[:-1]):
            raise ValueError("movies have other genres than in the weights")
        tables = Tables(
            _table(content, {"user_id": None}, network.users).with_row_index("user"),
            movies if unrated else movies.head(rated),
            _table(content, GENRES, genres).with_row_index("genre"),
        )
        if unrated and len(sets) > rated:
            network = network.with_movies(sets[rated:])
    return network, tables


def _file(path: Path) -> Path:
    if not path.exists() and path.parent != storage.MODEL:
        raise InputError(f"{path} is not here: name the folder of a trained model.")
    if not storage.require(path).is_file():
        raise InputError(f"{path} is not a file: {REMEDY}.")
    return path


def _about(path: Path) -> About:
    """The metadata of a file of weights, of which only the header is read."""
    with _reading(path), path.open("rb") as opened:
        size = int.from_bytes(opened.read(8), "little")
        if size > LARGEST_HEADER:
            raise ValueError(f"its header has {size:,} bytes, above {LARGEST_HEADER:,}")
        text = from_json(opened.read(size)).get("__metadata__", {}).get("model", "null")
        content = from_json(text)
        found = content.get("format") if isinstance(content, dict) else None
        if found == FORMAT:
            about = About.model_validate_json(text)
            if not about.limits[0] < about.limits[1]:
                raise ValueError(f"limits {about.limits}: the first must be below the second")
            return about
    raise InputError(
        f"{path} has format {found if isinstance(found, int) else 'unknown'}; this version "
        f"reads format {FORMAT}. Train it again with `dvc repro train`."
    )


def _table(
    columns: Mapping[str, Any], schema: Mapping[str, pl.DataType | None], size: int
) -> pl.DataFrame:
    """A table of so many rows; its first column holds ids (dtype None) or names, each once."""
    first = next(iter(schema))
    table = pl.DataFrame({name: columns[name] for name in schema}, schema=dict(schema))
    if table.height != size:
        raise ValueError(f"{first} has {table.height} entries, the weights {size}")
    if size and table.schema[first] not in (pl.Int64, pl.String):
        raise ValueError(f"{first} has entries that are neither whole numbers nor text")
    if any(table.null_count().row(0)):
        raise ValueError("an entry is missing")
    if table[first].n_unique() < size:
        raise ValueError(f"{first} has an entry twice")
    return table


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what the libraries raise for a damaged file, or without memory, into one line."""
    try:
        yield
    except UNREADABLE as error:
        said = str(error).partition("\n\n")[0]  # Polars adds hints for programmers
        # Without memory, torch, safetensors and the system raise an error each of its own.
        if isinstance(error, MemoryError) or "allocate memory" in said:
            raise InputError(
                f"{path} has {path.stat().st_size / 1e9:,.1f} GB, which do not fit into the memory "
                f"of this machine ({virtual_memory().total / 1e9:,.1f} GB) or of this process: use "
                "a machine with more memory, or train a smaller model (model.dim or "
                "train.replicas)."
            ) from None
        if isinstance(error, ValidationError):
            first = error.errors(include_url=False, include_context=False)[0]
            said = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        said = re.sub("[^ -~]+", " ", shorten(said, 300, placeholder=" ..."))  # no terminal codes
        raise InputError(f"{path} is not a whole model file ({said}); {REMEDY}.") from None
