"""Every file that passes from stage to stage: its name, its schema, how it is read and written.

Writers are atomic: a file or folder is written beside its place under a temporary name and moved
there when it is whole, so a stage that fails leaves what was there before. Readers name the
command to run where a file is missing.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from genre_embeddings.errors import InputError

PREPARED = Path("data/prepared")
TRUTH = Path("data/truth.json")
GENOME = Path("data/genome.json")
SPLIT = Path("data/split")
MODEL = Path("models")
PREDICTIONS = Path("data/predictions")
METRICS = Path("metrics")
PLOTS = Path("plots")
REPORT = Path("plots/report.html")

SIDES = ("train", "validation", "test")

RATINGS_SCHEMA = pl.Schema(
    {"user": pl.UInt32, "movie": pl.UInt32, "rating": pl.Float32, "timestamp": pl.Int64}
)


class Meta(NamedTuple):
    """What the prepared tables do not say themselves."""

    source: str
    min_rating: float
    max_rating: float
    has_time: bool


class Side(NamedTuple):
    """The ratings of one side of the split, in the order of the canonical ratings, all (n,)."""

    user: np.ndarray
    movie: np.ndarray
    rating: np.ndarray
    timestamp: np.ndarray


_MAKER = {
    PREPARED: "prepare",
    TRUTH: "prepare",
    GENOME: "prepare",
    SPLIT: "split",
    MODEL: "train",
    PREDICTIONS: "evaluate",
}


def require(path: Path) -> Path:
    """`path`, or an error that names the stage which makes it."""
    if path.exists():
        return path
    stage = next((s for made, s in _MAKER.items() if made == path or made in path.parents), None)
    remedy = f"run `dvc repro {stage}` first" if stage else "bring it back with git"
    raise InputError(f"{path} is not here: {remedy}.")


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`; what is written there takes its place on success."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        yield temporary
        if path.is_dir() and not path.is_symlink():
            # A folder cannot be replaced in one step: the old one steps aside first.
            aside = path.with_name(f".{path.name}.{os.getpid()}.old")
            path.rename(aside)
            temporary.rename(path)
            shutil.rmtree(aside)
        else:
            temporary.replace(path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """An empty temporary folder that takes the place of the folder `path` on success."""
    with replacing(path) as temporary:
        temporary.mkdir(parents=True)
        yield temporary


def write_json(path: Path, content: Any, *, compact: bool = False) -> None:
    """Write JSON that a person can read in a diff (or, compact, one row of a list a line).

    Raises:
        ValueError: a number is NaN or infinite, which JSON cannot hold.
    """
    if compact:
        rows = ",\n".join(json.dumps(row, ensure_ascii=False, allow_nan=False) for row in content)
        text = f"[\n{rows}\n]\n"
    else:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write the rows of a plot, one a line; floats keep six significant digits.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    short = [{key: _shorten(value) for key, value in row.items()} for row in rows]
    write_json(path, short, compact=True)


def write_metrics(path: Path, content: dict[str, Any]) -> None:
    """Write (nested) metrics; floats keep six significant digits.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    write_json(path, _shorten(content))


def _shorten(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shorten(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_shorten(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}")
    return value


def read_json(path: Path) -> Any:
    """The content of a JSON file that a stage made."""
    return json.loads(require(path).read_text(encoding="utf-8"))


def write_table(path: Path, table: pl.DataFrame) -> None:
    """Write a Parquet table."""
    with replacing(path) as temporary:
        table.write_parquet(temporary, compression="zstd", statistics=True)


def read_table(path: Path) -> pl.DataFrame:
    """A Parquet table that a stage made."""
    return pl.read_parquet(require(path))


def read_meta() -> Meta:
    """What prepare noted of the data."""
    return Meta(**read_json(PREPARED / "meta.json"))


def write_column(path: Path, values: np.ndarray) -> None:
    """Write one column of a side as .npy; made within a folder that is replaced as a whole."""
    path.parent.mkdir(exist_ok=True)
    np.save(path, np.ascontiguousarray(values), allow_pickle=False)


def read_side(side: str) -> Side:
    """One side of the split, its columns memory-mapped: workers of one machine share them."""
    folder = require(SPLIT / side)
    return Side(
        *(
            np.load(require(folder / f"{name}.npy"), mmap_mode="r", allow_pickle=False)
            for name in RATINGS_SCHEMA
        )
    )
