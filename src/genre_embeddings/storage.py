"""Every file that passes from stage to stage: its name, its schema, how it is read and written.

Writers are atomic: a file or folder is written beside its place under a temporary name and moved
there when it is whole, so a stage that fails leaves what was there before. Readers name the
command to run where a file is missing.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from psutil import pid_exists
from safetensors import SafetensorError

from genre_embeddings.errors import InputError

PREPARED = Path("data/prepared")
TRUTH = Path("data/truth.json")
GENOME = Path("data/genome.json")
SPLIT = Path("data/split")
MODEL = Path("models")
ABLATIONS = Path("data/ablations")
PREDICTIONS = Path("data/predictions")
METRICS = Path("metrics")
PLOTS = Path("plots")
REPORT = Path("plots/report.html")

SIDES = ("train", "validation", "test")
RATINGS_SCHEMA = pl.Schema(
    {"user": pl.UInt32, "movie": pl.UInt32, "rating": pl.Float32, "timestamp": pl.Int64}
)


class Meta(NamedTuple):
    """What the prepared tables do not say themselves.

    Attributes:
        source: where the ratings come from, as `data.source` names it.
        min_rating: lowest rating of the scale, in stars.
        max_rating: highest rating of the scale, in stars.
        has_time: whether the ratings have timestamps.
        sessions: whether at least half of the ratings have another one by the same user within ten
            minutes, by times that are finer than a day.
    """

    source: str
    min_rating: float
    max_rating: float
    has_time: bool
    sessions: bool


class Side(NamedTuple):
    """The ratings of one part of the split, in the order of the canonical ratings.

    Users and movies are dense indices, ratings are in stars, timestamps in seconds since 1970.
    """

    user: np.ndarray
    movie: np.ndarray
    rating: np.ndarray
    timestamp: np.ndarray

    @classmethod
    def of(cls, ratings: pl.DataFrame) -> Side:
        """The columns of canonical ratings."""
        return cls(*(ratings[column].to_numpy() for column in RATINGS_SCHEMA))

    def part(self, rows: np.ndarray | slice) -> Side:
        """Some of the ratings."""
        return Side(*(column[rows] for column in self))


_MAKER = {
    PREPARED: "prepare",
    TRUTH: "prepare",
    GENOME: "prepare",
    SPLIT: "split",
    MODEL: "train",
    ABLATIONS: "train",
    PREDICTIONS: "evaluate",
    METRICS / "train": "train",
    **{METRICS / f"{stage}.json": stage for stage in ("prepare", "split", "evaluate", "inspect")},
}


def require(path: Path) -> Path:
    """`path`, or an error that names the stage which makes it."""
    if not path.exists():
        remedy = f"{_remedy(path)}, in the project's top folder"
        raise InputError(f"{path} is not here: {remedy}.")
    return path


def _remedy(path: Path) -> str:
    for made, stage in _MAKER.items():
        if made in (path, *path.parents):
            return f"run `dvc repro {stage}` first"
    return "bring it back with git"


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """`path`; where it is missing or cannot be read, an error that names the stage to run."""
    try:
        yield require(path)
    except (EOFError, ValueError, pl.exceptions.PolarsError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{path} is damaged ({reason}): {_remedy(path)}.") from None


@contextmanager
def replacing(path: Path, folder: bool = False) -> Iterator[Path]:
    """A temporary path beside `path`; what is written there takes its place on success.

    With `folder`, it is an empty folder. What a killed process left beside `path` is taken away.

    Raises:
        InputError: its parent is a file, or a folder, a file, a device or a pipe is in its place.
    """
    wanted = "folder" if folder else "file"
    exists, fits = path.exists(), path.is_dir() if folder else path.is_file()
    if (exists and not fits) or path.parent == Path("/dev"):
        kind = "folder" if path.is_dir() else "device or a pipe"
        kind = "file" if folder and path.is_file() else kind
        raise InputError(f"{path} is a {kind}, and a {wanted} is to be written: name another path.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"{path.parent} is no folder: {path} cannot be written there.") from None
    temporary, aside = (
        path.with_name(f".{path.name}.{os.getpid()}.{end}") for end in ("tmp", "old")
    )
    try:
        _remove(temporary)  # left by a killed process with the same id, as in containers
        if folder:
            temporary.mkdir()
        yield temporary
        if path.is_dir() and not path.is_symlink():
            # A folder cannot be replaced in one step: the old one steps aside first.
            _remove(aside)
            path.rename(aside)
        temporary.replace(path)
        _remove(aside)
        for left in path.parent.iterdir():
            found = re.fullmatch(rf"\.{re.escape(path.name)}\.(\d+)\.(tmp|old)", left.name)
            if found and not pid_exists(int(found[1])):
                _remove(left)
    except (OSError, pl.exceptions.PolarsError, SafetensorError) as error:
        # The error of a full disk names no file, and others name the temporary one, which the user
        # does not know. Libraries in Rust give the number of an error in its text.
        words = re.search(r"\(os error (\d+)\)", str(error))
        number = int(words[1]) if words else getattr(error, "errno", None)
        where = str(getattr(error, "filename", None) or temporary)
        if number and where.startswith(str(temporary)):
            raise OSError(number, os.strerror(number), str(path)) from None
        raise
    finally:
        _remove(temporary)


def _remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write JSON that a person can read in a diff; NaN and infinity raise a ValueError."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_metrics(path: Path, content: dict[str, Any]) -> None:
    """Write (nested) metrics as JSON; floats keep six significant digits."""
    write_json(path, _shorten(content))


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write the rows of a plot as JSON, one a line; floats keep six significant digits."""
    lines = (json.dumps(_shorten(row), ensure_ascii=False, allow_nan=False) for row in rows)
    write_text(path, "[\n" + ",\n".join(lines) + "\n]\n")


def write_text(path: Path, text: str) -> None:
    """Write text in UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _shorten(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shorten(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_shorten(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def read_json(path: Path) -> Any:
    """The content of a JSON file that a stage made."""
    with _whole(path) as whole:
        return json.loads(whole.read_text(encoding="utf-8"))


def flatten(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings or metrics under the names that DVC gives them, as in test.rmse."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def write_table(path: Path, table: pl.DataFrame) -> None:
    """Write a Parquet table."""
    with replacing(path) as temporary:
        table.write_parquet(temporary, compression="zstd", statistics=True)


def read_table(path: Path) -> pl.DataFrame:
    """A Parquet table that a stage made."""
    with _whole(path) as whole:
        return pl.read_parquet(whole)


def read_meta() -> Meta:
    """What prepare noted of the data."""
    return Meta(**read_json(PREPARED / "meta.json"))


@contextmanager
def replacing_sides() -> Iterator[dict[str, Path]]:
    """An empty temporary folder for each side; together they replace data/split on success.

    Each side is an output of its own in dvc.yaml, because stage train depends on two of them: DVC
    cannot restore a part of an output where the cache lacks the split that dvc.lock names.
    """
    with ExitStack() as stack:
        yield {side: stack.enter_context(replacing(SPLIT / side, folder=True)) for side in SIDES}


def write_column(path: Path, values: np.ndarray) -> None:
    """Write one column of a side as .npy; made within a folder that is replaced as a whole."""
    try:
        np.save(path, np.ascontiguousarray(values), allow_pickle=False)
    except OSError as error:
        if error.errno:
            raise
        # numpy says how much was written, not why it ended there.
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from None


def read_side(side: str) -> Side:
    """One side of the split, its columns memory-mapped: workers of one machine share them."""
    folder, columns = require(SPLIT / side), []
    for name in RATINGS_SCHEMA:
        with _whole(folder / f"{name}.npy") as path:
            columns.append(np.load(path, mmap_mode="r", allow_pickle=False))
    return Side(*columns)


def joined(*sides: Side) -> Side:
    """All ratings of some sides, in the order of the canonical ratings."""
    whole = Side(*map(np.concatenate, zip(*sides, strict=True)))
    order = np.lexsort((whole.movie, whole.timestamp, whole.user))
    return whole.part(order)


def read_sides(refit: bool = False) -> dict[str, Side]:
    """All sides of the split; with `train.refit`, validation ratings are training ratings.

    Raises:
        InputError: a file is missing or damaged, or the split is not one of the prepared ratings.
    """
    sides = {name: read_side(name) for name in SIDES}
    prepared = read_table(PREPARED / "ratings.parquet")
    tables = [pl.DataFrame(side._asdict(), schema=RATINGS_SCHEMA) for side in sides.values()]
    known, found = (
        np.sort(table.hash_rows().to_numpy()) for table in (prepared, pl.concat(tables))
    )
    at = np.searchsorted(known, found).clip(max=len(known) - 1)
    if len(found) != len(known) or (known[at] != found).any() or (found[1:] == found[:-1]).any():
        raise different_runs(
            SPLIT, PREPARED, f"the ratings in {SPLIT} are not those in {PREPARED}, each once"
        )
    if refit:
        sides["train"] = joined(sides["train"], sides["validation"])
        sides["validation"] = sides["validation"].part(slice(0))
    return sides


def different_runs(one: Path, other: Path, why: str) -> InputError:
    """The error for files that are used together and do not belong together."""
    return InputError(
        f"{one} and {other} are from different runs: {why}. Run `dvc checkout` to get the results "
        "of your commit, or `dvc repro` to make new ones."
    )


def model_fingerprint() -> str:
    """12 hexadecimal digits that identify the trained model."""
    with require(MODEL / "model.safetensors").open("rb") as opened:
        return file_digest(opened, "sha256").hexdigest()[:12]


def fingerprint_of(*folders: Path) -> str:
    """12 hexadecimal digits that identify the names and the bytes of all files in folders."""
    digest = sha256()
    for path in sorted(path for folder in folders for path in require(folder).iterdir()):
        with path.open("rb") as opened:
            digest.update(path.name.encode() + file_digest(opened, "sha256").digest())
    return digest.hexdigest()[:12]


def read_measured(stage: str) -> dict[str, Any]:
    """The metrics of stage evaluate or inspect.

    Raises:
        InputError: the file is missing, damaged or about another model than the one in models/.
    """
    content = read_json(path := METRICS / f"{stage}.json")
    if "model" in content and content["model"] != model_fingerprint():
        raise different_runs(path, MODEL, f"{path} was measured with another model")
    return content


def fingerprint(side: Side) -> str:
    """SHA-256 of the ratings of a side."""
    digest = sha256()
    for column in side:
        digest.update(np.ascontiguousarray(column).data)
    return digest.hexdigest()
