"""The tables that every source of ratings provides, whatever its files look like."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

NO_TIME = 0
"""Timestamp of a rating whose source does not say when it was given."""


def shown(value: str | int) -> str:
    """Text or an id from a file, for a message: short, without characters that a terminal obeys."""
    if isinstance(value, int):
        return str(value)
    return repr(value if len(value) <= 100 else f"{value[:100]}...")


def printable(name: Path | str) -> str:
    """A name for a message: as it is, unless it is long or has characters that a terminal obeys."""
    text = str(name)
    return text if text.isprintable() and len(text) <= 200 else shown(text)


@dataclass(frozen=True)
class Truth:
    """What is planted in a planted world; only the inspection reads it.

    Attributes:
        names: genre names, length G.
        positions: planted genre positions, (G, K) float64.
        similarity: correlation of two genres' effects over users, (G, G) float64.
    """

    names: tuple[str, ...]
    positions: np.ndarray
    similarity: np.ndarray


@dataclass(frozen=True)
class Source:
    """Ratings and movies as their files give them, parsed and checked but not yet filtered.

    Attributes:
        name: the source's name in `data.source`.
        ratings: user_id, movie_id (both Int64, or both String for ids that are text),
            rating Float32, timestamp Int64 (seconds since 1970), in the order of the file.
        movies: movie_id (unique, dtype as in ratings), title String, genres List(String)
            without repeats; no genre is an empty list.
        scale: lowest and highest rating that can be given.
        has_time: whether the timestamps mean anything; all are NO_TIME if not.
        dropped: rows that the parser left out, by reason.
        rows: rows of ratings in the file, those left out included.
        truth: the planted truth, of a planted world only.
        genome: movie_id (dtype as in movies), tag_id Int64, relevance Float32 (0 to 1) and row
            (of the file, from 1) of the tag genome, where the source has one.
    """

    name: str
    ratings: pl.LazyFrame
    movies: pl.DataFrame
    scale: tuple[float, float]
    has_time: bool = True
    dropped: dict[str, int] = field(default_factory=dict)
    rows: int = 0
    truth: Truth | None = None
    genome: pl.LazyFrame | None = None
