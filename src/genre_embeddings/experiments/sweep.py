"""How quality changes with one setting, over all experiments.

"How large should the genre embedding be?" is answered by `./genres sweep model.dim`. Runs are the
experiments, the tips of branches and the workspace, with the settings that really ran.

- Runs that differ in the setting and in the seed alone make a *line*. Its points are means over
  the seeds that all its values have: a seed draws the split, and errors on other ratings cannot be
  compared. Of the settings of inspect only those count that change what an agreement measures.
- Of runs with the same settings and seed the newest counts.
- Runs on no line and runs of other data are counted in a note, and not shown.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import polars as pl
from matplotlib.axes import Axes

from genre_embeddings.errors import InputError
from genre_embeddings.experiments.revisions import (
    AGREEMENTS,
    PREDICTION,
    SCORES,
    VALIDATION,
    Run,
    read_runs,
    text,
)
from genre_embeddings.figures import cut, picture
from genre_embeddings.pages import cell
from genre_embeddings.settings import effective, load_yaml

LOW, HIGH = "test.rmse_low", "test.rmse_high"
MEASURING = ("inspect.evidence", "inspect.min_movies", "inspect.min_pair_users")
"""Settings of inspect that change what an agreement measures."""
DATA = ("data.", "planted.", "split.")
CHANCE = 0.003
"""Difference in RMSE (stars) that another seed makes."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
"""Okabe and Ito's, which the colour-blind distinguish."""
MOST_TICKS = 8
"""Values above which their labels stand upright."""
LONGEST_LABEL = 70  # characters


@dataclass(frozen=True)
class Sweep:
    """Quality against one setting.

    Attributes:
        setting: the setting, as `section.key`.
        runs: a row a run: its line (what sets the line apart from others), its value of the setting
            (Enum, numbers in ascending order), its name and seed, whether its line's means count
            it, and its scores (null where not measured).
        notes: what was left out, and why.
    """

    setting: str
    runs: pl.DataFrame
    notes: list[str]

    def means(self) -> pl.DataFrame:
        """Mean scores by line and value, in ascending order, and how many runs they count."""
        scores, keys = pl.col(LOW, HIGH, *SCORES).mean(), ["line", "value"]
        counted = self.runs.filter("counts").group_by(keys, maintain_order=True)
        return counted.agg(pl.len().alias("runs"), scores)

    def tables(self) -> dict[str, pl.DataFrame]:
        """A table of means as text for each line, by title."""
        tables = {}
        for (line,), means in self.means().group_by("line", maintain_order=True):
            low, high = (_cells(means[end]) for end in (LOW, HIGH))
            columns: dict[str, Any] = {self.setting: means["value"], "runs": means["runs"]}
            columns |= {name: _cells(means[name]) for name in (VALIDATION, PREDICTION)}
            ends = zip(low, high, strict=True)
            columns["95 % interval"] = ["-" if a == "-" else f"{a} to {b}" for a, b in ends]
            columns |= {name: _cells(means[name], ".3f") for name in AGREEMENTS}
            measured = {name: cells for name, cells in columns.items() if {*cells} != {"-"}}
            tables[str(line) or f"Means by {self.setting}"] = pl.DataFrame(measured)
        return tables

    def answer(self) -> str:
        """The value of lowest validation error; choosing by test error would make that too low."""
        means = self.means().drop_nulls(VALIDATION)
        if means.is_empty():
            return ""
        best = means.row(means[VALIDATION].arg_min(), named=True)
        line, value, lowest = best["line"], best["value"], best[VALIDATION]
        said = f"Lowest validation RMSE: {lowest:.4f}, at {self.setting}={value}"
        said += f" with {line}." if line else "."
        near = pl.col(VALIDATION) <= lowest + CHANCE
        smallest = means.filter(pl.col("line") == line, near)["value"][0]
        if _number(value) is not None and smallest != value:
            said += f" Smallest value with an error within {CHANCE} (may be chance): {smallest}."
        return said


def collect(setting: str = "model.dim", where: Sequence[str] = ()) -> Sweep:
    """Read all runs and put them in lines.

    Args:
        setting: the setting to vary, as `section.key`.
        where: conditions `section.key=value`; only runs that meet all of them.

    Raises:
        InputError: a setting is not known, or no two runs differ in `setting` and the seed alone.
    """
    wanted, every = _conditions(where), read_runs()
    known = {key for run in every for key in run.settings}
    for key in (setting, *wanted):
        if every and key not in known:
            close = get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]}?" if close else "params.yaml lists them all."
            raise InputError(f"{key!r} is not a setting of any run: {hint}")
    meeting = (run for run in every if all(run.settings.get(k) == v for k, v in wanted.items()))
    rows = [_row(run, setting) for run in meeting if setting in run.settings]
    schema: dict[str, Any] = dict.fromkeys(("shared", "data", "value", "run"), pl.String)
    schema |= {"seed": pl.Int64, **dict.fromkeys((LOW, HIGH, *SCORES), pl.Float64)}
    runs = pl.DataFrame(rows, schema=schema, orient="row")
    runs = runs.unique(["shared", "value", "seed"], keep="first", maintain_order=True)
    lines = (
        runs.group_by("shared", "data", maintain_order=True)
        .agg(pl.col("value").n_unique(), pl.len().alias("runs"))
        .filter(pl.col("value") > 1)
        .sort("value", "runs", descending=True, maintain_order=True)
    )
    if lines.is_empty():
        among = f" where {' and '.join(where)}" if where else ""
        values = sorted(runs["value"].unique(), key=_in_order)
        raise InputError(
            f"No two runs{among} differ in {setting} and the seed alone, and a chart needs such "
            f"runs (values of {setting}: {', '.join(values) or 'none'}): run more with `dvc exp "
            f"run --queue -S {setting}=VALUE,VALUE` and `dvc queue start`."
        )
    lines = lines.filter(pl.col("data") == pl.col("data").first()).head(len(COLOURS))
    labels = pl.Enum(_labels(list(map(json.loads, lines["shared"]))))
    lines = lines.select("shared", line=pl.Series(labels.categories, dtype=labels))
    # Those runs count whose seed all values of their line have; without such a seed, all runs.
    count = pl.col("value").n_unique()
    shown = runs.join(lines, on="shared")
    shown = shown.with_columns(
        pl.col("value").cast(pl.Enum(sorted(shown["value"].unique(), key=_in_order))),
        counts=count.over("line", "seed") == count.over("line"),
    ).sort("line", "value", "seed")
    notes = []
    for _, line in shown.group_by("line", maintain_order=True):
        if not line["counts"].any():
            notes.append(
                "No seed is shared by all values, so their errors are on different ratings."
            )
        elif not line["counts"].all():
            listed = ", ".join(map(str, line.filter("counts")["seed"].unique().sort()))
            notes.append(f"Means are over seed {listed}, which all values have.")
    if others := runs.height - shown.height:
        notes.append(f"Not shown, with other data or settings: {others}; select runs with --where.")
    shown = shown.with_columns(pl.col("counts") | ~pl.col("counts").any().over("line"))
    return Sweep(setting, shown.drop("shared", "data"), list(dict.fromkeys(notes)))


def _row(run: Run, setting: str) -> tuple[Any, ...]:
    """The settings that all runs of the run's line share, those of the data, and its results."""
    shared = {
        key: text(value)
        for key, value in effective(run.settings).items()
        if key not in (setting, "seed") and (key in MEASURING or not key.startswith("inspect."))
    }
    data = {key: value for key, value in shared.items() if key.startswith(DATA)}
    scores = [run.metrics.get(SCORES.get(name, name)) for name in (LOW, HIGH, *SCORES)]
    value, seed = text(run.settings[setting]), run.settings.get("seed")
    return json.dumps(shared), json.dumps(data), value, run.name, seed, *scores


def _labels(lines: Sequence[dict[str, str]]) -> list[str]:
    """What sets each line apart from the others, by the settings that its runs share."""
    keys = sorted(set().union(*lines))
    apart = [key for key in keys if len({line.get(key) for line in lines}) > 1]
    return [
        ", ".join(f"{key}={line[key]}" if key in line else f"no {key}" for key in apart)
        for line in lines
    ]


def draw(sweep: Sweep, path: Path) -> None:
    """Draw a panel a measure, as PNG: means as lines, runs as dots, the interval as a band."""
    measures = [name for name in (PREDICTION, *AGREEMENTS) if sweep.runs[name].count()]
    columns = 2 if len(measures) in (2, 4) else min(3, len(measures))
    rows = -(-len(measures) // columns)
    with picture(path, 4.6 * columns, 3.3 * rows + 0.9) as figure:
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat[len(measures) :]:
            axes.remove()
        for axes, measure in zip(grid.flat, measures, strict=False):
            _draw_measure(axes, sweep, measure)
        handles, labels = grid.flat[0].get_legend_handles_labels()
        if len(labels) > 1:
            figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
        figure.suptitle(f"Quality against {sweep.setting}\n", fontsize=14)  # and a line below it
        said = "a dot a run; lines: means over seeds; band: 95 % interval"
        below = 1 - 0.45 / figure.get_figheight()
        figure.text(0.5, below, said, ha="center", fontsize=9, color="#555555")


def _draw_measure(axes: Axes, sweep: Sweep, measure: str) -> None:
    values = sweep.runs["value"].unique().sort().to_list()  # at equal distances, whatever they are
    axes.set_xticks(range(len(values)), values, rotation=90 if len(values) > MOST_TICKS else 0)
    means = sweep.means()
    for line, colour in zip(sweep.runs["line"].unique(maintain_order=True), COLOURS, strict=False):
        own = means.filter(pl.col("line") == line).drop_nulls(measure)
        x = own["value"].to_physical()
        axes.plot(x, own[measure], color=colour, label=cut(line, LONGEST_LABEL))
        if measure == PREDICTION:
            low, high = (own[end].to_numpy() for end in (LOW, HIGH))
            axes.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
        dots = sweep.runs.filter(pl.col("line") == line).drop_nulls(measure)
        x = dots["value"].to_physical()
        axes.plot(x, dots[measure], "o", color=colour, markersize=4, alpha=0.8)
    better, unit = "higher", "Spearman correlation"
    if measure == PREDICTION:
        better, unit = "lower", "RMSE (stars)"
    axes.set_title(f"{measure}: {better} is better", fontsize=11)
    axes.set(xlabel=sweep.setting, ylabel=unit)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)


def _number(text: str) -> float | None:
    with suppress(ValueError):
        return float(text)
    return None


def _in_order(text: str) -> tuple[bool, float, str]:
    """A key that sorts numbers in ascending order, and texts after them."""
    number = _number(text)
    return number is None, number or 0, text


def _cells(scores: pl.Series, form: str = ".4f") -> list[str]:
    return [cell(score, form) for score in scores]


def _conditions(where: Iterable[str]) -> dict[str, Any]:
    wanted = {}
    for condition in where:
        key, equals, text = condition.partition("=")
        if not equals:
            raise InputError(f"{condition!r} is no condition; allowed: section.key=value.")
        wanted[key] = load_yaml(text, f"the value of {condition!r}")
    return wanted
