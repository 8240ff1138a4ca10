"""Split ratings into train, validation and test.

The side of a rating follows from a hash: under `random` of (user id, movie id, seed), under
`cold_movies` of (movie id, seed). So no rating changes sides when data are added, taken away or
reordered. Under `temporal` and `per_user` it follows from the time, among all ratings or among the
user's; the hash then orders ratings of the same second. The hash is SplitMix64's finaliser (Steele,
Lea and Flood, 2014), chained over the parts; ids that are text enter by their BLAKE2b digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

from genre_embeddings import storage
from genre_embeddings.errors import InputError
from genre_embeddings.settings import SplitSettings

TRAIN, VALIDATION, TEST = range(3)
BLOCK = 1 << 18
"""Ratings hashed at once: so many stay in the processor's cache from one step to the next."""


def assign_sides(
    ratings: pl.DataFrame,
    users: pl.DataFrame,
    movies: pl.DataFrame,
    meta: storage.Meta,
    settings: SplitSettings,
    seed: int,
) -> np.ndarray:
    """The side of every rating, (N,) uint8: 0 train, 1 validation, 2 test.

    Raises:
        InputError: the split goes by time and the data hold no times, or a side stays empty.
    """
    if settings.by_time and not meta.has_time:
        raise InputError(
            f"split.strategy is '{settings.strategy}', but these ratings hold no times; add a "
            "timestamp column or set split.strategy to random or cold_movies."
        )
    movie_hash = _mix(_id_hash(movies["movie_id"]) ^ _mix(np.uint64(seed)))
    user, movie = ratings["user"].to_numpy(), ratings["movie"].to_numpy()
    if settings.strategy == "cold_movies":
        place = _fraction(_mix(movie_hash))[movie]
    else:
        user_hash = _mix(_id_hash(users["user_id"]))
        place = np.empty(user.size)
        for low in range(0, user.size, BLOCK):
            rows = slice(low, low + BLOCK)
            place[rows] = _fraction(_mix(movie_hash[movie[rows]] ^ user_hash[user[rows]]))
    if settings.strategy == "temporal":
        order = np.lexsort((place, -ratings["timestamp"].to_numpy()))  # the newest first
        place[order] = np.arange(order.size) / order.size
    elif settings.strategy == "per_user":
        order = np.lexsort((place, -ratings["timestamp"].to_numpy(), user))
        count = np.bincount(user, minlength=users.height)
        newer = np.arange(order.size) - (count.cumsum() - count)[user[order]]
        shift = _fraction(_mix(user_hash ^ _mix(np.uint64(seed))))
        # Each user's own shift gives users of few ratings their fair share of each side.
        place[order] = (newer + shift[user[order]]) / count[user[order]]
    sides = np.full(place.size, TRAIN, dtype=np.uint8)
    # Rounded, because 0.2 + 0.1 is a little more than 0.3.
    sides[place < round(settings.test + settings.validation, 12)] = VALIDATION
    sides[place < settings.test] = TEST
    for side, count in enumerate(np.bincount(sides, minlength=3)):
        if count == 0:
            name = storage.SIDES[side]
            raise InputError(
                f"split.{name} is {getattr(settings, name)}, but of {place.size:,} ratings of "
                f"{movies.height:,} movies none falls to {name}: give it a larger share, "
                "another seed, or more data."
            )
    return sides


def parts_of(ratings: pl.DataFrame, sides: np.ndarray) -> Iterator[tuple[str, pl.DataFrame]]:
    """Name and ratings of each side, one at a time: together they take the memory of the whole."""
    for side, name in enumerate(storage.SIDES):
        yield name, ratings.filter(pl.Series(sides == side))


def write_split(ratings: pl.DataFrame, sides: np.ndarray) -> dict[str, Any]:
    """Write data/split/ and return its counts, by side.

    A user or movie is cold on a side when it has no rating in train.
    """
    warm = {}
    for column in ("user", "movie"):
        index = ratings[column].to_numpy()
        warm[column] = np.bincount(index[sides == TRAIN], minlength=int(index.max()) + 1) > 0
    counts: dict[str, dict[str, Any]] = {}
    with storage.replacing_sides() as folders:
        for name, part in parts_of(ratings, sides):
            for column in storage.RATINGS_SCHEMA:
                storage.write_column(folders[name] / f"{column}.npy", part[column].to_numpy())
            counts[name] = {"ratings": part.height, "share": part.height / ratings.height}
            for column, is_warm in warm.items():
                index = part[column].to_numpy()
                seen = np.flatnonzero(np.bincount(index))
                counts[name] |= {
                    f"{column}s": seen.size,
                    f"cold_{column}s": int(np.count_nonzero(~is_warm[seen])),
                    f"share_of_ratings_of_cold_{column}s": float(np.mean(~is_warm[index])),
                }
    return counts


def _mix(value: Any) -> Any:
    """SplitMix64's finaliser on unsigned 64-bit integers."""
    with np.errstate(over="ignore"):
        value = value + np.uint64(0x9E3779B97F4A7C15)
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return value ^ (value >> np.uint64(31))


def _fraction(value: np.ndarray) -> np.ndarray:
    """The upper 53 bits as a number in [0, 1)."""
    return (value >> np.uint64(11)) / 2.0**53


def _id_hash(ids: pl.Series) -> np.ndarray:
    """Unsigned 64-bit numbers that stand for ids, the same in every data set."""
    if ids.dtype == pl.String:
        digests = b"".join(hashlib.blake2b(i.encode(), digest_size=8).digest() for i in ids)
        return np.frombuffer(digests, dtype="<u8").astype(np.uint64)
    return ids.to_numpy().astype(np.int64).view(np.uint64)
