"""What several revisions learnt about the genres, held against each other.

The similarity and the metrics that stage inspect writes lie in git, experiments included, so that
revisions are read with git alone: no model, no data and no DVC cache are needed.

Letters: N revisions, G genres that all of them have.
"""

from __future__ import annotations

import base64
import html
import io
import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from genre_embeddings import storage
from genre_embeddings.errors import InputError
from genre_embeddings.figures import plain_text
from genre_embeddings.inspection.similarity import spearman
from genre_embeddings.settings import load_yaml

WORKSPACE = "workspace"
SIMILARITY = storage.PLOTS / "inspect" / "similarity.json"
INSPECTION = storage.METRICS / "inspect.json"
EVALUATION = storage.METRICS / "evaluate.json"
FEWEST = 3
"""Genres in common that a comparison needs."""
SCORES = {
    "structure": (INSPECTION, "verdict.structure"),
    "stability": (INSPECTION, "verdict.stability"),
    "value": (INSPECTION, "verdict.value"),
    "agreement with taste": (INSPECTION, "agreement.taste.spearman"),
    "agreement with the truth": (INSPECTION, "agreement.truth.spearman"),
    "agreement of replicas": (INSPECTION, "stability.spearman"),
    "test RMSE (stars)": (EVALUATION, "test.rmse"),
}
SIMILAR, CHANGED = "RdBu_r", "PuOr_r"
"""Colours of similarities and of differences: two scales, so that no colour means two things."""
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 88rem; margin: 2rem auto; padding: 0 1rem;
  color: #222 } h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
table { border-collapse: collapse; font-size: .9rem } td, th { padding: .15rem 1rem .15rem 0;
  text-align: left; vertical-align: top } img { max-width: 100% } .note { color: #555 }
"""


@dataclass(frozen=True)
class Learnt:
    """What one revision learnt; arrays (G, G), NaN where unknown.

    Attributes:
        name: how the revision was named.
        genres: its genres, in the order of its heatmap.
        values: similarity.
        low: lower end of each similarity's interval.
        high: upper end.
        scores: of `SCORES`, those that the revision has.
        settings: its params.yaml, as `section.key`.
    """

    name: str
    genres: list[str]
    values: np.ndarray
    low: np.ndarray
    high: np.ndarray
    scores: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def of(self, genres: Sequence[str]) -> Learnt:
        """The same for these genres alone, in this order."""
        chosen = [self.genres.index(name) for name in genres]
        cells = np.ix_(chosen, chosen)
        return Learnt(
            self.name, list(genres), self.values[cells], self.low[cells], self.high[cells],
            self.scores, self.settings,
        )  # fmt: skip


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
        return self.revisions[0].genres

    def scores(self) -> pl.DataFrame:
        """Settings that differ, verdicts and scores: a row each, a column for each revision."""
        rows = []
        keys = sorted({key for revision in self.revisions for key in revision.settings})
        for key in keys:
            values = [revision.settings.get(key) for revision in self.revisions]
            if any(value != values[0] for value in values):
                rows.append((key, values))
        for name in SCORES:
            values = [revision.scores.get(name) for revision in self.revisions]
            if any(value is not None for value in values):
                rows.append((name, values))
        return self._frame("", [row[0] for row in rows], [row[1] for row in rows])

    def agreements(self) -> pl.DataFrame:
        """Spearman's rho of each two revisions."""
        names = [revision.name for revision in self.revisions]
        return self._frame("revision", names, self.agreement.tolist())

    def moved(self) -> pl.DataFrame:
        """Genres with the mean absolute change of their row, those that moved most first."""
        most = np.nan_to_num(self.change[1:], nan=-1).max(0)
        order = np.argsort(-most, kind="stable")
        rows = [[None, *self.change[1:, k].tolist()] for k in order]
        return self._frame("genre", [self.genres[k] for k in order], rows).drop(
            self.revisions[0].name
        )

    def _frame(self, first: str, labels: list[str], rows: list[list[Any]]) -> pl.DataFrame:
        columns: dict[str, list[str]] = {first: labels}
        for number, revision in enumerate(self.revisions):
            columns[revision.name] = [_shown(row[number]) for row in rows]
        return pl.DataFrame(columns, schema_overrides=dict.fromkeys(columns, pl.String))


def compare(names: Sequence[str]) -> Comparison:
    """Read the revisions and hold them against the first.

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
    """What a revision learnt, from its files in git or, for `workspace`, on disk.

    Raises:
        InputError: the revision is not known, or has no similarity of genres.
    """
    commit = None if name == WORKSPACE else _resolve(name)
    rows = read_json(name, commit, SIMILARITY)
    if rows is None:
        remedy = "run `dvc repro`" if commit is None else "run it anew with the present code"
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
            f"{name} compared no genres: its model was trained without them, or with fewer than "
            f"{FEWEST} that can be told apart. Choose another revision."
        )
    scores = {}
    contents = {path: read_json(name, commit, path) for path in (INSPECTION, EVALUATION)}
    for score, (path, key) in SCORES.items():
        value = storage.value_at(contents[path], key)
        if value is not None:
            scores[score] = value
    values, low, high = cells
    settings = storage.flatten(read_yaml(name, commit, Path("params.yaml")) or {})
    return Learnt(name, genres, values, low, high, scores, settings)


def _resolve(name: str) -> str:
    """The commit that a name stands for."""
    inside = git("rev-parse", "--is-inside-work-tree")
    if inside is None:
        raise InputError(f"This is no git repository: only {WORKSPACE} can be read here.")
    found = git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if found is not None:
        return found.strip()
    known = experiments()
    commits = known.get(name, {})
    head = (git("rev-parse", "HEAD") or "").strip()
    if len(commits) == 1 or head in commits:
        return commits.get(head) or next(iter(commits.values()))
    if commits:
        raise InputError(
            f"{name!r} is the name of {len(commits)} experiments, of different commits: name one "
            f"by its commit, {' or '.join(sorted(c[:10] for c in commits.values()))}."
        )
    close = get_close_matches(name, known, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    listed = ", ".join(sorted(known)) or "none yet; `dvc exp run` makes one"
    raise InputError(
        f"revision {name!r} is not known{hint}. Experiments here: {listed}. Branches, tags, "
        f"commits and {WORKSPACE} can be named, too; `dvc exp pull` brings experiments of others."
    )


def experiments() -> dict[str, dict[str, str]]:
    """Commits of the experiments by name and by the commit from which they started.

    DVC keeps them as refs/exps/AB/CDEF.../NAME, where ABCDEF... is that commit.
    """
    listed = git("for-each-ref", "--format=%(objectname) %(refname)", "refs/exps") or ""
    found: dict[str, dict[str, str]] = {}
    for line in listed.splitlines():
        commit, _, ref = line.partition(" ")
        _, _, *parts = ref.split("/", 4)
        if len(parts) == 3 and len(parts[0] + parts[1]) == 40:
            found.setdefault(parts[2], {})[parts[0] + parts[1]] = commit
    return found


def read_text(commit: str | None, path: Path) -> str | None:
    """A file of a revision, or None where it has no such file.

    Raises:
        InputError: it is not text.
    """
    try:
        if commit is None:
            return path.read_text(encoding="utf-8") if path.is_file() else None
        return git("show", f"{commit}:./{path.as_posix()}")
    except UnicodeDecodeError as error:
        where = f"{commit[:10]}: {path}" if commit else path
        raise InputError(f"{where} is not UTF-8 text ({error}): bring it back with git.") from None


def read_json(name: str, commit: str | None, path: Path) -> Any:
    """A JSON file of a revision, or None where it has no such file.

    Raises:
        InputError: it is not JSON.
    """
    text = read_text(commit, path)
    try:
        return None if text is None else json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{name}: {path} is not JSON ({error}): bring it back with git.") from None


def read_yaml(name: str, commit: str | None, path: Path) -> Any:
    """A YAML file of a revision, or None where it has no such file.

    Raises:
        InputError: it is not YAML.
    """
    content = load_yaml(read_text(commit, path) or "", f"{name}: {path}")
    try:
        if content is not None and not isinstance(content, dict):
            raise TypeError("it holds no settings by name")
        json.dumps(content, default=str)  # refuses what an alias puts into itself
        return content
    except (RecursionError, TypeError, ValueError) as error:
        raise InputError(f"{name}: {path} is not valid YAML: {error}") from None


def git(*arguments: str) -> str | None:
    """What git prints, or None where it refuses."""
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, encoding="utf-8", check=False
        )
    except FileNotFoundError:
        raise InputError(
            "git is not on PATH, and revisions are read with it: install it."
        ) from None
    return done.stdout if done.returncode == 0 else None


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
    title = "What the genres learnt: " + ", ".join(r.name for r in comparison.revisions)
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        f"<title>{html.escape(title)}</title><style>{STYLE}</style>",
        f"<h1>{html.escape(title)}</h1>",
        "<h2>Settings that differ, verdicts and scores</h2>",
        _table(comparison.scores()),
        "<h2>Agreement of the genre similarities</h2>",
        "<p class='note'>Spearman's rho over pairs of genres. Two replicas of one revision agree "
        "as far as <i>agreement of replicas</i> says; revisions that agree as well differ by "
        "nothing but chance.</p>",
        _table(comparison.agreements()),
        "<h2>Genres that moved most</h2>",
        f"<p class='note'>Mean absolute change of a genre's similarities to the others, against "
        f"{html.escape(first.name)}.</p>",
        _table(comparison.moved()),
    ]
    if comparison.left_out:
        listed = html.escape(", ".join(comparison.left_out))
        parts.append(f"<p class='note'>Left out, as some revision lacks them: {listed}.</p>")
    parts.append(
        "<h2>Heatmaps</h2><p class='note'>The same order of genres everywhere, that of "
        f"{html.escape(first.name)}. A dot marks a difference within the intervals of both "
        "similarities: it need not be one. Grey: not known.</p>"
    )
    widest = max(
        (float(np.nanmax(np.abs(r.values - first.values), initial=0)) for r in others), default=0
    )
    for other in others:
        picture = base64.b64encode(_draw(first, other, max(widest, 0.01))).decode()
        alt = html.escape(f"{first.name}, {other.name} and their difference", quote=True)
        parts.append(f"<p><img alt='{alt}' src='data:image/png;base64,{picture}'></p>")
    with storage.replacing(path) as temporary:
        temporary.write_text("\n".join(parts) + "\n", encoding="utf-8")


def _table(frame: pl.DataFrame) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in frame.columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for row in frame.iter_rows()
    )
    return f"<table><tr>{head}</tr>{body}</table>"


@plain_text("the comparison")
def _draw(first: Learnt, other: Learnt, widest: float) -> bytes:
    """Two heatmaps and their difference, as PNG; `widest` is the end of the difference's scale."""
    count = len(first.genres)
    size = 1.6 + 0.22 * count
    figure = Figure(figsize=(3 * size + 3.2, size + 1.6), layout="constrained")
    grid = figure.subplots(1, 3, sharey=True)
    difference = other.values - first.values
    panels = [
        (first.name, first.values, SIMILAR, 1.0, "similarity"),
        (other.name, other.values, SIMILAR, 1.0, "similarity"),
        (f"{other.name} - {first.name}", difference, CHANGED, widest, "difference"),
    ]
    for axes, (title, values, colours, end, label) in zip(grid, panels, strict=True):
        image = axes.imshow(values.T, cmap=colours, vmin=-end, vmax=end)
        axes.set_facecolor("#bbbbbb")  # seen where a similarity is not known
        axes.set_title(title)
        axes.set_xticks(range(count), first.genres, rotation=90)
        axes.set_yticks(range(count), first.genres)
        axes.tick_params(length=0)
        if label == "difference" or axes is grid[1]:
            figure.colorbar(image, ax=axes, label=label, shrink=0.7)
    apart = (other.low > first.high) | (other.high < first.low)
    unsure = ~apart & np.isfinite(difference) & ~np.eye(count, dtype=bool)
    down, across = np.nonzero(unsure.T)
    grid[2].scatter(across, down, s=4, color="black")
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=80, metadata={"Software": None})
    return written.getvalue()
