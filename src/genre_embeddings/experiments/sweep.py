"""How quality changes with one setting, over all experiments.

"How large should the genre embedding be?" is answered by `./genres sweep model.dim`. Runs are the
experiments, the tips of branches and the workspace, with the settings that really ran.

- Runs that differ in the setting and in the seed alone make a *line*. Its points are means over
  the seeds that all its values have: a seed draws the split, and errors on other ratings cannot be
  compared. Of the settings of inspect only those count that change what an agreement measures.
- Of runs with the same settings and seed the one with most scores counts, then the newest.
- Runs of other data are not shown beside these, for the same reason.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from statistics import fmean
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
)
from genre_embeddings.figures import cut, picture
from genre_embeddings.settings import load_yaml

LOW, HIGH = "test.rmse_low", "test.rmse_high"
MEASURING = ("inspect.evidence", "inspect.min_movies", "inspect.min_pair_users")
"""Settings of inspect that change what an agreement measures."""
DATA = ("data.", "planted.", "split.")
CHANCE = 0.003
"""Difference in RMSE (stars) that another seed makes."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
"""Okabe and Ito's, which the colour-blind distinguish; grey belongs to no line."""
GREY = "#8c8c8c"
OTHERS = "Other settings"
MOST_TICKS = 8
LONGEST_LABEL = 70  # characters


@dataclass(frozen=True)
class Sweep:
    """Quality against one setting.

    Attributes:
        setting: the setting, as `section.key`.
        labels: what sets each line apart; at most four, those of most values first.
        runs: a row a run: its name, its value of the setting (Enum, numbers in ascending order),
            the number of its line (null for other settings), whether its line's means count it,
            and its scores (null where not measured).
        notes: what was left out, and why.
    """

    setting: str
    labels: list[str]
    runs: pl.DataFrame
    notes: list[str]

    @property
    def measures(self) -> list[str]:
        """The measures that some run has."""
        return [m for m in (PREDICTION, *AGREEMENTS) if self.runs[m].count()]

    def means(self) -> pl.DataFrame:
        """Mean scores by line and value, in ascending order."""
        counted = self.runs.filter(pl.col("line").is_not_null() & pl.col("counts"))
        means = pl.col(LOW, HIGH, *SCORES).mean()
        return counted.group_by("line", "value").agg(means).sort("line", "value")

    def tables(self) -> list[tuple[str, pl.DataFrame]]:
        """By title: a table a line, of means and ranges over seeds, and one of the other runs."""
        counted, tables = self.runs.filter("counts").sort("value"), []
        for number, label in enumerate(self.labels):
            groups = counted.filter(pl.col("line") == number).group_by("value", maintain_order=True)
            rows = [
                {self.setting: value, "runs": str(group.height), **_cells(group)}
                for (value,), group in groups
            ]
            tables.append((label or f"Means by {self.setting}", rows))
        rows = [
            {"run": run["run"][0], self.setting: run["value"][0], **_cells(run)}
            for run in counted.filter(pl.col("line").is_null()).iter_slices(1)
        ]
        frames = [(title, pl.DataFrame(rows)) for title, rows in (*tables, (OTHERS, rows)) if rows]
        return [
            (title, frame.select(column for column in frame if (column != "-").any()))
            for title, frame in frames
        ]

    def answer(self) -> str:
        """The value of lowest validation error; choosing by test error would make that too low."""
        said, error = [], pl.col(VALIDATION)
        means = self.means().drop_nulls(VALIDATION)
        others = self.runs.filter(pl.col("line").is_null())
        for best in means.filter(error == error.min()).head(1).rows(named=True):
            value, lowest, label = best["value"], best[VALIDATION], self.labels[best["line"]]
            said.append(
                f"Lowest validation RMSE: {lowest:.4f}, at {self.setting}={value}"
                f"{f' with {label}' if label else ''}."
            )
            close = means.filter(pl.col("line") == best["line"], error <= lowest + CHANCE)["value"]
            if _number(value) is not None and close[0] != value:
                said.append(f"The smallest within {CHANCE} of it, which may be chance: {close[0]}.")
            others = others.filter(error < lowest)
        for run in others.drop_nulls(VALIDATION).sort(VALIDATION).head(1).rows(named=True):
            said.append(
                f"Of the other runs {run['run']} ({self.setting}={run['value']}) has the lowest "
                f"validation RMSE, {run[VALIDATION]:.4f}."
            )
        return " ".join(said)


def collect(setting: str = "model.dim", where: Sequence[str] = ()) -> Sweep:
    """Read all runs and put them in lines.

    Args:
        setting: the setting to vary, as `section.key`.
        where: conditions `section.key=value`; only runs that meet all of them.

    Raises:
        InputError: a setting is not known, or fewer than two values of `setting` were run.
    """
    wanted, every = _conditions(where), read_runs()
    known = {key for run in every for key in run.settings}
    for key in (setting, *wanted):
        if every and key not in known:
            close = get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]}?" if close else "params.yaml lists them all."
            raise InputError(f"{key!r} is not a setting of any run: {hint}")
    chosen = [
        run
        for run in every
        if setting in run.settings and all(run.settings.get(k) == v for k, v in wanted.items())
    ]
    values = sorted({_text(run.settings[setting]) for run in chosen}, key=_in_order)
    if len(values) < 2:
        among = f" where {' and '.join(where)}" if where else ""
        raise InputError(
            f"Runs{among} have one value of {setting} ({', '.join(values) or 'none'}), and a chart "
            f"needs two: run more with `dvc exp run --queue -S {setting}=VALUE,VALUE` and `dvc "
            "queue start`."
        )
    rows = [
        {
            "run": run.name,
            "value": _text(run.settings[setting]),
            "seed": run.settings.get("seed"),
            "shared": _shared_settings(run, setting),
            **{name: run.metrics.get(SCORES.get(name, name)) for name in (LOW, HIGH, *SCORES)},
        }
        for run in chosen
    ]
    schema: dict[str, Any] = dict.fromkeys((LOW, HIGH, *SCORES), pl.Float64)
    schema |= {"run": pl.String, "value": pl.Enum(values), "seed": pl.Int64, "shared": pl.String}
    runs = (
        pl.DataFrame(rows, schema=schema)
        .with_row_index()
        .sort(pl.sum_horizontal(pl.col(*SCORES).is_null()), maintain_order=True)
        .unique(["shared", "value", "seed"], keep="first", maintain_order=True)
        .sort("index")
    )
    sizes = runs.group_by("shared", maintain_order=True).agg(pl.col("value").n_unique(), pl.len())
    sizes = sizes.sort("value", "len", descending=True, maintain_order=True)
    groups = {text: json.loads(text) for text in sizes["shared"]}
    first, *_ = groups.values()
    lines, notes = list[str](), list[str]()
    for text, count in sizes.select("shared", "value").iter_rows():
        own = groups[text]
        keys = [k for k in (*own, *first) if k.startswith(DATA) and own.get(k) != first.get(k)]
        if keys:
            runs = runs.filter(pl.col("shared") != text)
            notes.append(
                f"Not shown, of other data: --where {keys[0]}={_text(own.get(keys[0]))} shows them."
            )
        elif count > 1 and len(lines) < len(COLOURS):
            lines.append(text)
    settings = [groups[text] for text in lines]
    keys = sorted({key for own in settings for key in own})
    apart = [k for k in keys if any(own.get(k) != settings[0].get(k) for own in settings)]
    labels = [
        ", ".join(f"{key}={_text(own[key])}" if key in own else f"no {key}" for key in apart)
        for own in settings
    ]
    number = pl.col("shared").replace_strict(lines, range(len(lines)), default=None)
    runs = runs.with_columns(number.cast(pl.Int64).alias("line"))
    # A line's means count the seeds that all its values have, or all if there is no such seed.
    values_of_seed = pl.col("value").n_unique().over("line", "seed")
    runs = runs.with_columns(whole=values_of_seed == pl.col("value").n_unique().over("line"))
    counts = pl.col("whole") | ~pl.col("whole").any().over("line") | pl.col("line").is_null()
    for _, group in runs.drop_nulls("line").sort("line").group_by("line", maintain_order=True):
        if not group["whole"].any():
            notes.append(
                "No seed is shared by all values, so their errors are on different ratings."
            )
        elif not group["whole"].all():
            seeds = ", ".join(map(str, group.filter("whole")["seed"].unique().sort()))
            notes.append(f"Means are over seed {seeds}, which all values have; dots are all runs.")
    if not lines:
        notes.append(f"No two runs differ in nothing but {setting} and the seed: there is no line.")
    return Sweep(setting, labels, runs.with_columns(counts=counts), list(dict.fromkeys(notes)))


def draw(sweep: Sweep, path: Path) -> None:
    """Draw a panel a measure, as PNG: means as lines, runs as dots, the interval as a band."""
    measures = sweep.measures
    columns = 2 if len(measures) in (2, 4) else min(3, len(measures))
    rows = -(-len(measures) // columns)
    with picture(path, 4.6 * columns, 3.3 * rows + 0.9) as figure:
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat[len(measures) :]:
            axes.remove()
        for axes, measure in zip(grid.flat, measures, strict=False):
            _draw_measure(axes, sweep, measure)
        if len(sweep.labels) > 1:
            handles, labels = grid.flat[0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
        figure.suptitle(f"Quality against {sweep.setting}\n", fontsize=14)  # and a line below it
        said = "a dot a run; lines: means over seeds; band: 95 % interval; grey: other settings"
        below = 1 - 0.45 / figure.get_figheight()
        figure.text(0.5, below, said, ha="center", fontsize=9, color="#555555")


def _draw_measure(axes: Axes, sweep: Sweep, measure: str) -> None:
    place = _scale(axes, sweep.runs["value"].unique().sort().to_list())
    for line in (None, *range(len(sweep.labels))):
        colour = GREY if line is None else COLOURS[line]
        of_line = pl.col("line").eq_missing(line), pl.col(measure).is_not_null()
        if line is not None:
            means = sweep.means().filter(*of_line)
            banded = means.drop_nulls([LOW, HIGH]) if measure == PREDICTION else means.clear()
            axes.fill_between(
                [place[v] for v in banded["value"]], banded[LOW], banded[HIGH],
                color=colour, alpha=0.12, linewidth=0,
            )  # fmt: skip
            label = cut(sweep.labels[line], LONGEST_LABEL)
            x = [place[v] for v in means["value"]]
            axes.plot(x, means[measure], color=colour, label=label)
        dots = sweep.runs.filter(*of_line)
        x = [place[v] for v in dots["value"]]
        axes.plot(x, dots[measure], "o", color=colour, markersize=4, alpha=0.8, linestyle="none")
    better, unit = "higher", "Spearman correlation"
    if measure == PREDICTION:
        better, unit = "lower", "RMSE (stars)"
    axes.set_title(f"{measure}: {better} is better", fontsize=11)
    axes.set(xlabel=sweep.setting, ylabel=unit)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)


def _scale(axes: Axes, values: list[str]) -> dict[str, float]:
    """Set up the axis of values; where each lies on it."""
    places = {value: number for value in values if (number := _number(value)) is not None}
    numbers = [*places.values()]
    if len(numbers) < len(values):
        axes.set_xticks(range(len(values)), values)
        return {value: float(place) for place, value in enumerate(values)}
    if min(numbers) > 0 and max(numbers) / min(numbers) >= 4:
        axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    if len(numbers) <= MOST_TICKS:
        axes.set_xticks(numbers)
    axes.minorticks_off()
    return places


def _shared_settings(run: Run, setting: str) -> str:
    """The settings that runs of a line share, as JSON."""
    shared = {
        key: value
        for key, value in run.effective().items()
        if key not in (setting, "seed") and (key in MEASURING or not key.startswith("inspect."))
    }
    return json.dumps(shared, sort_keys=True)


def _text(value: Any) -> str:
    """A value as it is written in params.yaml; 1 and 1.0 are the same."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, str) else json.dumps(value)


def _number(text: str) -> float | None:
    with suppress(ValueError):
        return float(text)
    return None


def _in_order(text: str) -> tuple[bool, float, str]:
    """A key that sorts numbers in ascending order, and texts after them."""
    number = _number(text)
    return number is None, number or 0, text


def _cells(runs: pl.DataFrame) -> dict[str, str]:
    """Of each measure the mean and its range; of the interval the mean ends."""
    cells = {}
    for name in (VALIDATION, PREDICTION, LOW, HIGH, *AGREEMENTS):
        scores, digits = runs[name].drop_nulls().to_list(), 3 if name in AGREEMENTS else 4
        cells[name] = f"{fmean(scores):.{digits}f}" if scores else "-"
        if name == HIGH:
            interval = f"{cells.pop(LOW)} to {cells.pop(HIGH)}"
            cells["95 % interval"] = interval if scores else "-"
        elif len(scores) > 1 and name != LOW:
            cells[name] += f" ({min(scores):.{digits}f} to {max(scores):.{digits}f})"
    return cells


def _conditions(where: Iterable[str]) -> dict[str, Any]:
    wanted = {}
    for condition in where:
        key, equals, text = condition.partition("=")
        if not equals:
            raise InputError(f"{condition!r} is no condition; allowed: section.key=value.")
        wanted[key] = load_yaml(text, f"the value of {condition!r}")
    return wanted
