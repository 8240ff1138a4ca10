"""Compares what several revisions learnt about the genres.

Letters: N revisions, G genres that all of them have.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from genre_embeddings import storage
from genre_embeddings.errors import InputError
from genre_embeddings.experiments.revisions import (
    AGREEMENTS,
    PREDICTION,
    VERDICTS,
    WORKSPACE,
    Revision,
    Run,
    warnings,
)
from genre_embeddings.figures import cut, drawing
from genre_embeddings.inspection.similarity import spearman
from genre_embeddings.pages import render

SIMILARITY = storage.PLOTS / "inspect" / "similarity.json"
TEMPLATE = Path(__file__).with_name("compare.html.jinja")
FEWEST = 3
"""Genres in common that a comparison needs."""
ROWS = {name: f"verdict.{name}" for name in VERDICTS} | AGREEMENTS | {PREDICTION: "test.rmse"}
"""Verdicts and scores to compare: what they are called, and their key in the metrics."""
NUMBERS = ("similarity", "low", "high")
SCHEMA = {"a": pl.String, "b": pl.String, **dict.fromkeys(NUMBERS, pl.Float64)}


@dataclass(frozen=True)
class Learnt:
    """What one revision learnt: similarities of its genres and the ends of their intervals.

    The arrays are (G, G), in the order of `genres`, and NaN where unknown.
    """

    run: Run
    genres: list[str]
    values: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def of(self, genres: list[str]) -> Learnt:
        """The same for some of the genres, in their order."""
        at = np.ix_(*[[self.genres.index(name) for name in genres]] * 2)
        return Learnt(self.run, genres, self.values[at], self.low[at], self.high[at])


@dataclass(frozen=True)
class Comparison:
    """Revisions over the genres that all of them have, in the order of the first.

    Attributes:
        revisions: N of them; the first is what the others are compared with.
        left_out: genres that some revision lacks.
    """

    revisions: list[Learnt]
    left_out: list[str]

    @property
    def runs(self) -> list[Run]:
        """Settings and metrics of the revisions."""
        return [revision.run for revision in self.revisions]

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
        rows = {}
        for one in self.revisions:
            pairs = [np.triu(np.isfinite(one.values + o.values), 1) for o in self.revisions]
            rows[one.run.name] = [
                spearman(one.values[upper], other.values[upper])
                for upper, other in zip(pairs, self.revisions, strict=True)
            ]
        return self._frame("revision", rows)

    def moved(self) -> pl.DataFrame:
        """Mean absolute change of a genre's row since the first revision, the largest first."""
        values = np.stack([revision.values for revision in self.revisions])
        values[:, np.eye(values.shape[1], dtype=bool)] = np.nan
        change = np.ma.masked_invalid(abs(values - values[0])).mean(2).filled(np.nan)  # (N, G)
        order = np.argsort(-np.nan_to_num(change[1:], nan=-1).max(0), kind="stable")
        rows = {self.revisions[0].genres[k]: change[:, k].tolist() for k in order}
        return self._frame("genre", rows).drop(self.runs[0].name)

    def _frame(self, first: str, rows: dict[str, list[Any]]) -> pl.DataFrame:
        cells = [[label, *map(_shown, values)] for label, values in rows.items()]
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
    revisions = [read_revision(name) for name in names]
    known = [set(revision.genres) for revision in revisions]
    genres = [name for name in revisions[0].genres if name in set.intersection(*known)]
    if len(genres) < FEWEST:
        listed = "; ".join(f"{r.run.name}: {', '.join(r.genres)}" for r in revisions)
        raise InputError(
            f"The revisions have {len(genres)} genres in common, and a comparison needs {FEWEST} "
            f"({listed}): compare revisions of the same data."
        )
    left_out = sorted(set.union(*known).difference(genres))
    return Comparison([revision.of(genres) for revision in revisions], left_out)


def read_revision(name: str) -> Learnt:
    """What a revision learnt.

    Raises:
        InputError: the revision is not known, or has no similarity of genres.
    """
    revision = Revision(name)
    rows = revision.read(SIMILARITY)
    if rows is None:
        remedy = "run `dvc repro`" if name == WORKSPACE else "run it again with the present code"
        raise InputError(
            f"{name} has no {SIMILARITY}: it was made before the inspection wrote one, or its run "
            f"did not end. Choose another revision, or {remedy}."
        )
    if rows == []:
        raise InputError(
            f"{name} compared no genres: its model was trained without them, or fewer than "
            f"{FEWEST} have movies of their own. Choose another revision."
        )
    try:
        cells = [[row["a"], row["b"], *map(row.get, NUMBERS)] for row in rows]
        frame = pl.DataFrame(cells, schema=SCHEMA, orient="row")
        genres = frame["a"].unique(maintain_order=True).to_list()
        frame = frame.with_columns(pl.col("a", "b").cast(pl.Enum(genres))).sort("a", "b")
        square = frame[NUMBERS].to_numpy().reshape(len(genres), len(genres), 3)
    except (AttributeError, KeyError, TypeError, ValueError, pl.exceptions.PolarsError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"{name}: {SIMILARITY} does not hold rows of a, b and similarity ({reason}): "
            "choose another revision."
        ) from None
    return Learnt(revision.read_run(), genres, *np.moveaxis(square, 2, 0))


def _shown(value: Any) -> str:
    if value is None or value != value:  # NaN
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def write_page(comparison: Comparison, path: Path) -> None:
    """Write the comparison as a single HTML file that needs nothing from outside."""
    first, *others = comparison.revisions
    widest = max(np.nanmax(abs(o.values - first.values), initial=0.01) for o in others)
    pictures = [(other.run.name, _draw(first, other, float(widest))) for other in others]
    page = render(TEMPLATE, comparison=comparison, pictures=pictures)
    with storage.replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _draw(first: Learnt, other: Learnt, widest: float) -> bytes:
    """Two heatmaps and their difference, as PNG; `widest` is the end of the difference's scale."""
    names = [cut(name) for name in first.genres]
    side = 0.3 + 0.22 * len(names)
    label_room = 0.1 * max(map(len, names))
    width, height = 3 * (side + 0.5) + label_room + 3.2, side + label_room + 1.2
    difference = other.values - first.values
    # Similarities and differences have two scales, so that no colour means two things.
    panels = [
        (first.run.name, first.values, "RdBu_r", 1.0, ""),
        (other.run.name, other.values, "RdBu_r", 1.0, "similarity"),
        (f"{other.run.name} - {first.run.name}", difference, "PuOr_r", widest, "difference"),
    ]
    written = io.BytesIO()
    with drawing("the comparison", written, width, height, dpi=80) as figure:
        grid = figure.subplots(1, 3, sharey=True)
        for axes, (title, values, colours, end, label) in zip(grid, panels, strict=True):
            image = axes.imshow(values.T, cmap=colours, vmin=-end, vmax=end)
            axes.set_facecolor("#bbbbbb")  # seen where a similarity is not known
            axes.set_title(cut(title))
            axes.set_xticks(range(len(names)), names, rotation=90)
            axes.set_yticks(range(len(names)), names)
            axes.tick_params(length=0)
            if label:
                figure.colorbar(image, ax=axes, label=label, shrink=0.7)
        apart = (other.low > first.high) | (other.high < first.low)
        unsure = ~apart & np.isfinite(difference) & ~np.eye(len(names), dtype=bool)
        down, across = np.nonzero(unsure.T)
        grid[2].scatter(across, down, s=4, color="black")
    return written.getvalue()
