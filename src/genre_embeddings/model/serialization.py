"""Saving and loading a trained model: a folder with weights, settings and id maps.

models/model.safetensors  weights and indexed training ratings; its only metadata entry is a
                          JSON string with the settings and checksums of the tables and of the
                          training ratings
models/tables.json        id maps and genre sets, as prepared

The folder may come from a stranger: loading executes nothing in it and checks everything. It holds
no pickle, and no Parquet, whose reader a damaged file can crash.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import polars as pl
import torch
from psutil import virtual_memory
from pydantic import ConfigDict, Field, ValidationError, model_validator
from pydantic_core import from_json
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from genre_embeddings import storage
from genre_embeddings.errors import InputError
from genre_embeddings.model.build import genre_sets
from genre_embeddings.model.network import Network
from genre_embeddings.settings import ModelSettings, Section

FORMAT = 5
WEIGHTS = "model.safetensors"
REMEDY = "run `dvc checkout` or `dvc repro train`"
OUT_OF_MEMORY = "allocate memory"
"""Part of torch's message when there is no memory left."""
LARGEST_HEADER = 1 << 18
"""Most bytes of the weights' names, shapes and metadata; usual settings need 10,000."""
LARGEST_ROW = 10_000
"""Most bytes of tables.json per user, movie or genre, on average."""


def configure_torch(threads: int) -> None:
    """Set torch's CPU threads for the whole process, and its determinism where threads need it.

    Args:
        threads: number of CPU threads; 0 keeps torch's own choice, one a core. With any number but
            1, torch uses deterministic algorithms only, so that a seed gives the same bytes again.
    """
    if threads:
        torch.set_num_threads(threads)
        # Without it, Lightning divides the cores among the processes that it starts.
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    if threads != 1 and not torch.cuda.is_available():
        # Otherwise threads add up gradients in the order in which they happen to finish.
        torch.use_deterministic_algorithms(True)


Stars = Annotated[float, Field(ge=-1e30, le=1e30)]  # within float32


class About(Section):
    """The metadata of the weights."""

    format: Literal[5]
    settings: ModelSettings
    replicas: Annotated[int, Field(ge=1, le=64)]
    limits: tuple[Stars, Stars]
    tables: str  # SHA-256 of tables.json
    train: str  # SHA-256 of the training ratings

    @model_validator(mode="after")
    def _limits_are_ordered(self) -> About:
        if not self.limits[0] < self.limits[1]:
            raise ValueError(f"limits {self.limits}: the first must be below the second")
        return self


# Validation stops at the first error of a list: a hostile list would give a report of gigabytes.
Ids = Annotated[list[Annotated[int, Field(ge=-(2**63), lt=2**63)]], Field(fail_fast=True)]
Texts = Annotated[list[str], Field(fail_fast=True)]
Numbers = Annotated[list[Annotated[int, Field(ge=0, lt=2**32)]], Field(fail_fast=True)]


class Columns(Section):
    """tables.json: the columns of the tables of users, movies and genres, in their order."""

    model_config = ConfigDict(extra="ignore")  # a million unknown keys would be a million errors

    user_id: Ids | Texts
    movie_id: Ids | Texts
    title: Texts
    genres: Annotated[list[Numbers], Field(fail_fast=True)]
    name: Texts
    movies: Numbers
    ratings: Numbers
    unrated_movie_id: Ids | Texts = Field(default_factory=list)
    unrated_title: Texts = Field(default_factory=list)
    unrated_genres: Annotated[list[Numbers], Field(fail_fast=True)] = Field(default_factory=list)


class Tables(NamedTuple):
    """Ids and names of users, movies and genres, as in the tables of data/prepared/."""

    users: pl.DataFrame
    movies: pl.DataFrame
    genres: pl.DataFrame


def save_model(
    network: Network, folder: Path = storage.MODEL, movies: pl.DataFrame | None = None
) -> None:
    """Write a model folder: the weights, and beside them the tables of data/prepared/.

    The folder records on which ratings the network was trained, those of data/split/train/.

    Args:
        network: the trained network.
        folder: where to write; a folder that is there already is replaced.
        movies: the table of movies whose genres the network has; None takes the prepared one.
    """
    written = _prepared_tables(movies)
    about = {
        "format": FORMAT,
        "settings": network.settings.model_dump(),
        "replicas": network.replicas,
        "limits": network.limits,
        "tables": sha256(written).hexdigest(),
        "train": storage.fingerprint(storage.read_side("train")),
    }
    # Sorted names and one metadata entry: the order of several would differ between runs.
    state = {name: value.cpu().contiguous() for name, value in sorted(network.state_dict().items())}
    with storage.replacing_folder(folder) as fresh:
        weights = fresh / WEIGHTS
        save_file(state, weights, {"model": json.dumps(about)})
        weights.chmod(0o644)  # safetensors makes it readable by its owner only
        (fresh / "tables.json").write_bytes(written)


def _prepared_tables(movies: pl.DataFrame | None = None) -> bytes:
    """tables.json for the prepared data, or with another table of movies."""
    columns: dict[str, list[Any]] = {}
    for name in Tables._fields:
        table = storage.read_table(storage.PREPARED / f"{name}.parquet")
        if name == "movies" and movies is not None:
            table = movies
        columns |= {key: table[key].to_list() for key in table.columns if f"{key}s" != name}
    unrated = storage.PREPARED / "unrated.parquet"
    if movies is None and unrated.exists() and (table := storage.read_table(unrated)).height:
        columns |= {f"unrated_{key}": table[key].to_list() for key in table.columns}
    return json.dumps(columns, ensure_ascii=False, separators=(",", ":")).encode()


def require_same_data(train: storage.Side, ablations: Sequence[Path] = ()) -> None:
    """Check that the model was trained on these ratings, and prepared data and ablations fit it.

    Args:
        train: the training ratings of the split.
        ablations: folders of models that are compared with the model.

    Raises:
        InputError: they come from different runs; the message names both folders.
    """
    model, *others = (_about(_file(folder / WEIGHTS)) for folder in (storage.MODEL, *ablations))
    prepared, split = storage.PREPARED, storage.SPLIT / "train"
    if model.train != storage.fingerprint(train):
        why = "the model was trained on other ratings"
        raise storage.different_runs(storage.MODEL, split, why)
    if model.tables != sha256(_prepared_tables()).hexdigest():
        why = "the model has other users, movies or genres"
        raise storage.different_runs(storage.MODEL, prepared, why)
    for folder, other in zip(ablations, others, strict=True):
        same = other.settings.model_copy(update={"genres": model.settings.genres})
        if (same, other.replicas, other.train) != (model.settings, model.replicas, model.train):
            why = "the two were trained with other ratings or settings"
            raise storage.different_runs(storage.MODEL, folder, why)


def load_model(folder: Path = storage.MODEL) -> Network:
    """The network of a model folder, ready to predict.

    Raises:
        InputError: a file is missing, cut short, from another version or inconsistent.
    """
    return load_whole(folder)[0]


def load_whole(folder: Path = storage.MODEL) -> tuple[Network, Tables]:
    """The network of a model folder, and its tables; memory use is in proportion to file sizes.

    Raises:
        InputError: a file is missing, cut short, from another version or inconsistent.
    """
    path = _file(folder / WEIGHTS)
    with _enough_memory(path):
        about = _about(path)
        try:
            state = _read_weights(path)
            network = Network.from_state(about.settings, about.replicas, about.limits, state)
        except SafetensorError as error:
            raise _damaged(path, error) from None
        except (KeyError, OverflowError, TypeError, ValueError) as error:
            raise _unfit(path, error) from None
        except RuntimeError as error:
            if OUT_OF_MEMORY in str(error):
                raise MemoryError from None
            raise _unfit(path, error) from None
    beside = _file(folder / "tables.json")
    rows = network.users + network.unknown + network.genre_share.shape[1]
    if beside.stat().st_size > LARGEST_ROW * rows:
        raise InputError(f"{beside} is far too long for {rows:,} rows; {REMEDY}.")
    written = beside.read_bytes()
    if sha256(written).hexdigest() != about.tables:
        raise InputError(f"{beside} and {path} are of different models; {REMEDY}.")
    try:
        tables = _tables(Columns.model_validate_json(written), network)
    except (IndexError, ValueError) as error:
        raise InputError(f"{beside} does not fit {path} ({_short(error)}); {REMEDY}.") from None
    return network.eval(), tables


def load_unrated(folder: Path, tables: Tables) -> pl.DataFrame:
    """Movies without a rating, which the network does not have: movie_id, title and genres.

    To be called after `load_whole`, which makes sure that the file is that of the model.

    Raises:
        InputError: the file does not fit the tables.
    """
    path = _file(folder / "tables.json")
    columns = Columns.model_validate_json(path.read_bytes())
    schema = pl.Schema(
        {
            "movie_id": tables.movies.schema["movie_id"],
            "title": pl.String(),
            "genres": pl.List(pl.UInt32),
        }
    )
    try:
        table = pl.DataFrame(
            {
                "movie_id": columns.unrated_movie_id,
                "title": columns.unrated_title,
                "genres": columns.unrated_genres,
            },
            schema=schema,
        )
        ids = pl.concat([table["movie_id"], tables.movies["movie_id"]])
    except (pl.exceptions.PolarsError, TypeError) as error:
        raise InputError(f"{path} has unrated movies that do not fit ({_short(error)}).") from None
    genres = table["genres"].explode(empty_as_null=False)
    if ids.n_unique() < ids.len() or (genres >= tables.genres.height).any():
        raise InputError(f"{path} has unrated movies whose ids or genres do not fit.")
    return table


def _file(path: Path) -> Path:
    if not path.exists() and path.parent != storage.MODEL:
        raise InputError(f"{path} is not here: name the folder of a trained model.")
    if not storage.require(path).is_file():
        raise InputError(f"{path} is not a file: run `dvc checkout` or `dvc repro train`.")
    return path


def _about(path: Path) -> About:
    """The metadata of a file of weights.

    Raises:
        InputError: it is cut short, from another version or inconsistent.
    """
    try:
        with path.open("rb") as opened:
            header = int.from_bytes(opened.read(8), "little")
        if header > LARGEST_HEADER:
            raise ValueError(f"its header has {header:,} bytes, above {LARGEST_HEADER:,}")
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("model", "null")
        content = from_json(text)
    except (SafetensorError, ValueError) as error:
        raise _damaged(path, error) from None
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise InputError(
            f"{path} has format {found if isinstance(found, int) else 'unknown'}; this version "
            f"reads format {FORMAT}. Train it again with `dvc repro train`."
        )
    try:
        return About.model_validate_json(text)
    except ValueError as error:
        raise _unfit(path, error) from None


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file of weights."""
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@contextmanager
def _enough_memory(path: Path) -> Iterator[None]:
    """End with one line if the weights do not fit into memory."""
    size, memory = path.stat().st_size, virtual_memory().total
    try:
        if size > memory:  # Linux would promise the memory, and kill the process later.
            raise MemoryError
        yield
    except (MemoryError, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.ENOMEM:
            raise
        raise InputError(
            f"{path} has {size / 1e9:,.1f} GB, which do not fit into the memory of this machine "
            f"({memory / 1e9:,.1f} GB) or of this process: use a machine with more memory, or "
            "train a smaller model (model.dim or train.replicas)."
        ) from None


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(f"{path} is not a whole model file ({_short(error)}); {REMEDY}.")


def _unfit(path: Path, error: Exception) -> InputError:
    return InputError(f"{path} does not fit its own settings ({_short(error)}); {REMEDY}.")


def _tables(columns: Columns, network: Network) -> Tables:
    """The tables, after a check of sizes, of genres and that every id is unique."""
    genres = network.genre_share.shape[1]
    tables = []
    for index, size, schema in (
        ("user", network.users, {"user_id": None}),
        ("movie", network.unknown, {"movie_id": None, "title": None, "genres": pl.List(pl.UInt32)}),
        ("genre", genres, {"name": pl.String, "movies": pl.UInt32, "ratings": pl.UInt32}),
    ):
        table = {index: pl.Series(np.arange(size, dtype=np.uint32))}
        for name, dtype in schema.items():
            values = getattr(columns, name)
            if len(values) != size:
                raise ValueError(f"{name} has {len(values)} entries, the weights {size} {index}s")
            table[name] = pl.Series(values, dtype=dtype)
        tables.append(pl.DataFrame(table))
        if tables[-1][next(iter(schema))].n_unique() < size:
            raise ValueError(f"{next(iter(schema))} has an entry twice")
    whole = Tables(*tables)
    if not torch.equal(genre_sets(whole.movies, genres) > 0, network.genre_share[:-1] > 0):
        raise ValueError("movies have other genres")
    return whole


def _short(error: Exception) -> str:
    """The error message in one line, without characters that control a terminal."""
    said = str(error)
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_context=False)[0]
        said = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return re.sub("[^ -~]+", " ", shorten(said, 300, placeholder=" ..."))
