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
SIMILAR, CHANGED = "RdBu_r", "PuOr_r"
"""Colours of similarities and of differences: two scales, so that no colour means two things."""


@dataclass(frozen=True)
class Learnt:
    """What one revision learnt; arrays (G, G), NaN where unknown.

    Attributes:
        run: its settings and metrics.
        genres: its genres, in the order of its heatmap.
        values: similarity.
        low: lower end of each similarity's interval.
        high: upper end.
    """

    run: Run
    genres: list[str]
    values: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def name(self) -> str:
        """How the revision is called."""
        return self.run.name

    def of(self, genres: Sequence[str]) -> Learnt:
        """The same for these genres alone, in this order."""
        chosen = [self.genres.index(name) for name in genres]
        arrays = (array[np.ix_(chosen, chosen)] for array in (self.values, self.low, self.high))
        return Learnt(self.run, list(genres), *arrays)


@dataclass(frozen=True)
class Comparison:
    """Revisions over the genres that all of them have, in the order of the first.

    Attributes:
        revisions: N of them; the first is what the others are compared with.
        agreement: Spearman's rho of the similarities of two revisions over pairs of genres,
            (N, N), NaN where the pairs do not vary.
        change: mean absolute change of a genre's row against the first revision, (N, G), NaN for
            genres unknown to either.
        left_out: genres that some revision lacks.
    """

    revisions: list[Learnt]
    agreement: np.ndarray
    change: np.ndarray
    left_out: list[str]

    @property
    def genres(self) -> list[str]:
        """The genres compared."""
        return self.first.genres

    @property
    def first(self) -> Learnt:
        """What the others are compared with."""
        return self.revisions[0]

    @property
    def warnings(self) -> list[str]:
        """Sentences on revisions whose data, split or seed differ from those of the first."""
        return warnings(self.first.run, [other.run for other in self.revisions[1:]])

    def scores(self) -> pl.DataFrame:
        """Settings that differ, verdicts and scores: a row each, a column for each revision."""
        settings = [revision.run.settings for revision in self.revisions]
        rows = {}
        for key in sorted({key for one in settings for key in one}):
            values = [one.get(key) for one in settings]
            if any(value != values[0] for value in values):
                rows[key] = values
        for name, key in ROWS.items():
            values = [revision.run.metrics.get(key) for revision in self.revisions]
            if any(value is not None for value in values):
                rows[name] = values
        return self._frame("", [*rows], [*rows.values()])

    def agreements(self) -> pl.DataFrame:
        """Spearman's rho of each two revisions."""
        names = [revision.name for revision in self.revisions]
        return self._frame("revision", names, self.agreement.tolist())

    def moved(self) -> pl.DataFrame:
        """Genres with the mean absolute change of their row, the largest first."""
        most = np.nan_to_num(self.change[1:], nan=-1).max(0)
        order = np.argsort(-most, kind="stable")
        rows = [[None, *self.change[1:, k].tolist()] for k in order]
        return self._frame("genre", [self.genres[k] for k in order], rows).drop(self.first.name)

    def _frame(self, first: str, labels: list[str], rows: list[list[Any]]) -> pl.DataFrame:
        columns: dict[str, list[str]] = {first: labels}
        for number, revision in enumerate(self.revisions):
            columns[revision.name] = [_shown(row[number]) for row in rows]
        return pl.DataFrame(columns, schema_overrides=dict.fromkeys(columns, pl.String))


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
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"revision {twice!r} is named twice: name each once.")
    revisions = [read_revision(name) for name in names]
    everywhere = set.intersection(*(set(revision.genres) for revision in revisions))
    genres = [name for name in revisions[0].genres if name in everywhere]
    if len(genres) < FEWEST:
        listed = "; ".join(f"{r.name}: {', '.join(r.genres)}" for r in revisions)
        raise InputError(
            f"The revisions have {len(genres)} genres in common, and a comparison needs {FEWEST} "
            f"({listed}): compare revisions of the same data."
        )
    all_names = {name for revision in revisions for name in revision.genres}
    revisions = [revision.of(genres) for revision in revisions]
    change = np.stack([_row_change(revisions[0], revision) for revision in revisions])
    agreement = np.array([[_agreement(a, b) for b in revisions] for a in revisions])
    return Comparison(revisions, agreement, change, sorted(all_names - everywhere))


def read_revision(name: str) -> Learnt:
    """What a revision learnt.

    Raises:
        InputError: the revision is not known, or has no similarity of genres.
    """
    revision = Revision(name)
    rows = revision.read_json(SIMILARITY)
    if rows is None:
        remedy = "run `dvc repro`" if name == WORKSPACE else "run it again with the present code"
        raise InputError(
            f"{name} has no {SIMILARITY}: it was made before the inspection wrote one, or its run "
            f"did not end. Choose another revision, or {remedy}."
        )
    try:
        genres = list(dict.fromkeys(row["a"] for row in rows))
        if len(rows) != len(genres) ** 2 or not all(isinstance(genre, str) for genre in genres):
            raise ValueError(f"{len(rows)} rows for {len(genres)} genres")
        at = {genre: number for number, genre in enumerate(genres)}
        cells = np.full((3, len(genres), len(genres)), np.nan)
        for row in rows:
            numbers = [row.get(key) for key in ("similarity", "low", "high")]
            cells[:, at[row["a"]], at[row["b"]]] = [np.nan if n is None else n for n in numbers]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{name}: {SIMILARITY} does not hold rows of a, b and similarity ({error!r}): "
            "choose another revision."
        ) from None
    if not genres:
        raise InputError(
            f"{name} compared no genres: its model was trained without them, or fewer than "
            f"{FEWEST} have movies of their own. Choose another revision."
        )
    return Learnt(revision.read_run(), genres, *cells)


def _agreement(one: Learnt, other: Learnt) -> float:
    upper = np.triu(np.isfinite(one.values + other.values), 1)
    rho = spearman(one.values[upper], other.values[upper])
    return np.nan if rho is None else rho


def _row_change(first: Learnt, other: Learnt) -> np.ndarray:
    """Mean absolute change of each genre's similarities to the others, (G,)."""
    change = np.abs(other.values - first.values)
    np.fill_diagonal(change, np.nan)
    known = np.isfinite(change)
    total = np.where(known, change, 0).sum(1)
    return np.where(known.any(1), total / np.maximum(known.sum(1), 1), np.nan)


def _shown(value: Any) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def write_page(comparison: Comparison, path: Path) -> None:
    """Write the comparison as a single HTML file that needs nothing from outside."""
    first, *others = comparison.revisions
    widest = max(
        (float(np.nanmax(np.abs(r.values - first.values), initial=0)) for r in others), default=0
    )
    pictures = [(other.name, _draw(first, other, max(widest, 0.01))) for other in others]
    page = render(
        TEMPLATE,
        names=[revision.name for revision in comparison.revisions],
        comparison=comparison,
        pictures=pictures,
    )
    with storage.replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _draw(first: Learnt, other: Learnt, widest: float) -> bytes:
    """Two heatmaps and their difference, as PNG; `widest` is the end of the difference's scale."""
    names = [cut(name) for name in first.genres]
    side = 0.3 + 0.22 * len(names)
    label_room = 0.1 * max(map(len, names))
    width, height = 3 * (side + 0.5) + label_room + 3.2, side + label_room + 1.2
    difference = other.values - first.values
    panels = [
        (first.name, first.values, SIMILAR, 1.0, "similarity"),
        (other.name, other.values, SIMILAR, 1.0, "similarity"),
        (f"{other.name} - {first.name}", difference, CHANGED, widest, "difference"),
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
            if label == "difference" or axes is grid[1]:
                figure.colorbar(image, ax=axes, label=label, shrink=0.7)
        apart = (other.low > first.high) | (other.high < first.low)
        unsure = ~apart & np.isfinite(difference) & ~np.eye(len(names), dtype=bool)
        down, across = np.nonzero(unsure.T)
        grid[2].scatter(across, down, s=4, color="black")
    return written.getvalue()
