"""A trained model with the tables that translate between the data's ids and its indices.

Letters: B rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from genre_embeddings import storage
from genre_embeddings.errors import InputError, plain
from genre_embeddings.inference.titles import WHOLE, matches, suggestion
from genre_embeddings.model.network import Network
from genre_embeddings.model.predict import predict
from genre_embeddings.model.serialization import load_whole

Kind = Literal["user", "movie"]
LISTED = 18
"""Movies that an error lists at most; with its first and last line, it has 20 lines."""


@dataclass(frozen=True)
class Trained:
    """A trained network, with the ids and names of its users, movies and genres."""

    network: Network
    users: pl.DataFrame
    movies: pl.DataFrame
    genres: pl.DataFrame

    @property
    def genre_names(self) -> list[str]:
        """Names of the genres, in the order of their indices."""
        return self.genres["name"].to_list()

    def ids(self, kind: Kind) -> pl.Series:
        """The data's ids of users or movies, in the order of their dense indices."""
        return (self.users if kind == "user" else self.movies)[f"{kind}_id"]

    def find(self, kind: Kind, ids: pl.Series) -> pl.Series:
        """Dense indices of ids, which may be text, (n,) Int64.

        -1 stands for ids that the model does not know, null for text that cannot be an id.
        """
        known = self.ids(kind).alias("id")
        ids = ids.cast(pl.String).str.strip_chars().alias("id").replace("", None)
        if known.dtype != pl.String:
            ids = ids.cast(known.dtype, strict=False)
        index = known.to_frame().with_row_index("index").cast({"index": pl.Int64})
        found = ids.to_frame().join(index, on="id", how="left", maintain_order="left")["index"]
        return found.fill_null(-1).set(ids.is_null(), None)

    def could_be_id(self, kind: Kind, text: str) -> bool:
        """Whether text has the form of the data's ids, known or not."""
        return self.find(kind, pl.Series([text])).null_count() == 0

    def find_one(self, kind: Kind, value: int | str) -> int:
        """The dense index of one id; -1 if the model does not know it."""
        found = self.find(kind, pl.Series([str(value)])).item()
        if found is None:
            raise InputError(f"{kind} id {str(value)!r}: {self.allowed(kind)}.")
        return found

    def find_movie(self, value: int | str, steps: int | None = None) -> int:
        """The dense index of a movie by its id or its title; an id counts more than a title.

        Text that could be an id in data with whole-number ids is compared with whole titles only;
        `steps` are those of `titles.matches`.

        Returns:
            The index, or -1 if the model knows no such movie.

        Raises:
            InputError: the text fits several movies.
        """
        text = str(value)
        if self.could_be_id("movie", text):
            if (movie := self.find_one("movie", text)) >= 0:
                return movie
            if self.ids("movie").dtype.is_integer():
                steps = WHOLE
        return self.find_title(text, steps)

    def find_title(self, text: str, steps: int | None = None) -> int:
        """The dense index of a movie by its title alone; else as `find_movie`."""
        found = matches(self.movies["title"].to_list(), text, steps)
        if len(found) < 2:
            return found[0] if found else -1
        counts = self.network.movie_counts
        found = sorted(found, key=lambda movie: -float(counts[movie]))
        rows = self.movies[found[:LISTED]].select("movie_id", "title").rows()
        width = max(len(str(movie)) for movie, _ in rows)
        what = "give more of the title, such as the year, or the id."
        lines = [f"{text!r} fits {len(found)} movies: {what}"]
        lines += [f"  {plain(str(movie)):>{width}}  {plain(title)}" for movie, title in rows]
        if len(found) > LISTED:
            lines.append(f"  and {len(found) - LISTED} more with fewer ratings")
        raise InputError("\n".join(lines))

    def unknown_movie(self, text: str) -> InputError:
        """The error for text that is neither an id nor a title."""
        close = suggestion(self.movies["title"].to_list(), text)
        return InputError(
            f"no rated movie has the id or title {text!r}{close}; {self.allowed('movie')}."
        )

    def genre(self, name: str) -> int:
        """The index of a genre by its name, or by a part that no other genre has."""
        self.require_genres()
        names = self.genre_names
        found = [names.index(name)] if name in names else matches(names, name)
        if len(found) == 1:
            return found[0]
        if found:
            several = ", ".join(names[k] for k in found)
            raise InputError(f"genre {name.strip()!r} fits several: {several}; name one of them.")
        raise InputError(
            f"genre {name.strip()!r} is not known{suggestion(names, name, 1)}; "
            f"allowed: {', '.join(names)}."
        )

    def require_genres(self) -> None:
        """Raise an error if the model was trained without genres."""
        if not self.network.settings.genres:
            raise InputError(
                "The model was trained without genres (model.genres is false, or the data have "
                "none): set model.genres to true in params.yaml and run `dvc repro`."
            )

    def require_replica(self, replica: int) -> None:
        """Raise an error if the model has no replica of this number."""
        if not 0 <= replica < self.network.replicas:
            raise InputError(
                f"replica {replica} does not exist; allowed: 0 to {self.network.replicas - 1} "
                "(train.replicas of the model)."
            )

    def described(self, movies: np.ndarray) -> pl.DataFrame:
        """movie_id, title and genres (joined by pipes) of movies, in the order of the indices."""
        rows, names = self.movies[movies.tolist()], self.genre_names
        joined = ["|".join(names[k] for k in listed) for listed in rows["genres"].to_list()]
        return rows.select("movie_id", "title", genres=pl.Series(joined, dtype=pl.String))

    def allowed(self, kind: Kind) -> str:
        """What the model's ids look like, for error messages."""
        ids = self.ids(kind)
        what = "text" if ids.dtype == pl.String else "whole numbers"
        return f"the model's {kind} ids are {what}, such as {', '.join(map(str, ids.head(3)))}"


def open_model(folder: Path = storage.MODEL) -> Trained:
    """Load the trained model of a folder, with its tables; movies that nobody rated come last.

    Raises:
        InputError: a file is missing, cut short, from another version or inconsistent.
    """
    network, tables = load_whole(folder, unrated=True)
    return Trained(network, *tables)


def require_finite(values: np.ndarray) -> np.ndarray:
    """The values, if all are finite; extreme weights can lead to infinity or NaN."""
    if not np.isfinite(values).all():
        raise InputError(
            "The model's weights are so large that a result is infinite or not a number: run "
            "`dvc checkout`, or train the model again with `dvc repro train`."
        )
    return values


def predict_indices(
    network: Network, users: np.ndarray, movies: np.ndarray, times: np.ndarray | None = None
) -> np.ndarray:
    """Predictions and their standard deviations for dense indices, (2, B) float32."""
    return require_finite(np.stack(predict(network, users, movies, times)))
