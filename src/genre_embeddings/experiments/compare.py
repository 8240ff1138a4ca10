"""Compare what several revisions learnt about the genres.

Letters: N revisions, G genres that all of them have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from genre_embeddings import storage
from genre_embeddings.errors import InputError
from genre_embeddings.experiments.revisions import (
    AGREEMENTS,
    PREDICTION,
    SCORES,
    VERDICTS,
    WORKSPACE,
    Revision,
    Run,
    warnings,
)
from genre_embeddings.inspection.agreement import correlation
from genre_embeddings.pages import cell

SIMILARITY = storage.PLOTS / "inspect" / "similarity.json"
FEWEST = 3
"""Genres in common that a comparison needs."""
ROWS = {name: f"verdict.{name}" for name in VERDICTS}
ROWS |= {name: SCORES[name] for name in (*AGREEMENTS, PREDICTION)}
"""Verdicts and scores to compare: what they are called, and their key in the metrics."""


class Learnt(NamedTuple):
    """What one revision learnt: similarities of its genres, (G, G), NaN where unknown."""

    run: Run
    genres: list[str]
    values: np.ndarray


@dataclass(frozen=True)
class Comparison:
    """Revisions over the genres that all of them have, in the order of the first.

    Attributes:
        runs: settings and metrics, N of them; the others are compared with the first.
        genres: names, length G.
        values: learnt similarities, (N, G, G), NaN where unknown.
        left_out: genres that some revision lacks.
    """

    runs: list[Run]
    genres: list[str]
    values: np.ndarray
    left_out: list[str]

    @property
    def warnings(self) -> list[str]:
        """Sentences on revisions whose data, split or seed differ from those of the first."""
        return warnings(self.runs[0], self.runs[1:])

    def scores(self) -> pl.DataFrame:
        """Settings that differ, verdicts and scores: a row each, a column for each revision."""
        keys = sorted(set().union(*(run.settings for run in self.runs)))
        settings = {key: [run.settings.get(key) for run in self.runs] for key in keys}
        scores = {name: [run.metrics.get(key) for run in self.runs] for name, key in ROWS.items()}
        rows = {key: row for key, row in settings.items() if any(v != row[0] for v in row)}
        rows |= {name: row for name, row in scores.items() if any(v is not None for v in row)}
        return self._frame("", rows)

    def agreements(self) -> pl.DataFrame:
        """Spearman's rho of the similarities of each two revisions, over pairs of genres."""
        rows = {
            run.name: [correlation(one, other) for other in self.values]
            for run, one in zip(self.runs, self.values, strict=True)
        }
        return self._frame("revision", rows)

    def moved(self) -> pl.DataFrame:
        """Mean absolute change of a genre's row since the first revision, the largest first."""
        change = abs(self.values - self.values[0])
        change[:, np.eye(len(self.genres), dtype=bool)] = np.nan
        means = np.ma.masked_invalid(change).mean(2).filled(np.nan)  # (N, G)
        order = np.argsort(-np.nan_to_num(means[1:], nan=-1).max(0), kind="stable")
        rows = {self.genres[k]: means[:, k].tolist() for k in order}
        return self._frame("genre", rows).drop(self.runs[0].name)

    def _frame(self, first: str, rows: dict[str, list[Any]]) -> pl.DataFrame:
        cells = [[label, *map(cell, values)] for label, values in rows.items()]
        schema = dict.fromkeys([first, *(run.name for run in self.runs)], pl.String)
        return pl.DataFrame(cells, schema=schema, orient="row")


def compare(names: Sequence[str]) -> Comparison:
    """Read the revisions and compare them with the first.

    Args:
        names: experiments, branches, tags or commits, or `workspace`; two or more.

    Raises:
        InputError: a revision is not known, is named twice or lacks what is compared, or fewer
            than three genres are in all of them.
    """
    if len(names) < 2:
        raise InputError(
            f"Revisions named: {len(names)}; a comparison needs two or more: experiments "
            f"(`dvc exp list`), branches, commits, or {WORKSPACE}."
        )
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"revision {twice[0]!r} is named twice: name each once.")
    runs, listed, squares = zip(*map(read_revision, names), strict=True)
    known = [set(genres) for genres in listed]
    genres = [name for name in listed[0] if name in set.intersection(*known)]
    if len(genres) < FEWEST:
        every = "; ".join(f"{name}: {', '.join(g)}" for name, g in zip(names, listed, strict=True))
        raise InputError(
            f"The revisions have {len(genres)} genres in common, and a comparison needs {FEWEST} "
            f"({every}): compare revisions of the same data."
        )
    places = [[own.index(name) for name in genres] for own in listed]
    values = [square[np.ix_(at, at)] for square, at in zip(squares, places, strict=True)]
    left_out = sorted(set.union(*known).difference(genres))
    return Comparison([*runs], genres, np.stack(values), left_out)


def read_revision(name: str) -> Learnt:
    """What a revision learnt.

    Raises:
        InputError: the revision is not known, or has no similarity of genres.
    """
    revision = Revision(name)
    rows = revision.read(SIMILARITY)
    if not rows:
        raise InputError(
            f"{name} has no similarities in {SIMILARITY}: its run did not end, or compared no "
            f"genres, because model.genres is false or fewer than {FEWEST} have movies of their "
            "own. Choose another revision, or run it again."
        )
    try:
        cells = {(row["a"], row["b"]): row["similarity"] for row in rows}
        genres = list(dict.fromkeys(a for a, _ in cells))
        square = np.array([[cells[a, b] for b in genres] for a in genres], dtype=np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{name}: {SIMILARITY} does not hold rows of a, b and similarity ({error!r}): "
            "choose another revision."
        ) from None
    return Learnt(revision.read_run(), genres, square)
