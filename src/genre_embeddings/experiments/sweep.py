"""How quality changes with one setting, over all experiments.

"How large should the genre embedding be?" is answered by `./genres sweep model.dim`. Runs are the
experiments, the tips of branches and the workspace, with the settings that really ran.

- Runs that differ in the setting and in the seed alone make a *line*. Its points are means over
  the seeds that all its values have: a seed draws the split, and errors on other ratings cannot be
  compared.
- Of runs with the same settings and seed the one with most scores counts, then the newest.
- Runs of other data are not shown beside these, for the same reason.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
INSPECTION_SETTINGS = tuple(
    f"inspect.{key}" for key in ("evidence", "min_movies", "min_pair_users")
)
"""Settings that change what an agreement measures: the agreements of a line share them."""
DATA = ("data.", "planted.", "split.")
CHANCE = 0.003
"""Difference in RMSE (stars) that another seed makes."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
"""Okabe and Ito's, which the colour-blind distinguish; grey belongs to no line."""
GREY = "#8c8c8c"
MOST_TICKS = 8
LONGEST_LABEL = 70  # characters

Value = int | float | str
"""A setting's value; one that is not a number is represented by its text."""


@dataclass(frozen=True)
class Line:
    """Runs that differ in the setting and the seed alone.

    Attributes:
        label: what sets it apart from the other lines.
        runs: runs by value of the setting, in ascending order; seeds that all values have.
        more: runs with other seeds.
    """

    label: str
    runs: dict[Value, list[Run]]
    more: list[Run]

    def means(self, measure: str) -> dict[Value, float]:
        """Mean over seeds by value, where there is a number."""
        found = {value: _scores(runs, measure) for value, runs in self.runs.items()}
        return {value: float(np.mean(scores)) for value, scores in found.items() if scores}


@dataclass(frozen=True)
class Sweep:
    """Quality against one setting.

    Attributes:
        setting: the setting, as `section.key`.
        lines: at most four, those of most values first.
        others: runs of the same data that are on none of the lines.
        notes: what was left out, and why.
    """

    setting: str
    lines: list[Line]
    others: list[Run]
    notes: list[str] = field(default_factory=list)

    @property
    def measures(self) -> list[str]:
        """Those that some run has."""
        runs = [*self.others, *(run for line in self.lines for run in _runs(line))]
        return [m for m in (PREDICTION, *AGREEMENTS) if any(m in run.scores for run in runs)]

    def tables(self) -> list[tuple[str, pl.DataFrame]]:
        """By title: a table a line, of means and ranges over seeds, and one of the other runs."""
        columns = [VALIDATION, PREDICTION, "95 % interval", *AGREEMENTS]
        found = []
        for line in self.lines:
            rows = [
                [_text(value), str(len(runs)), *_cells(runs)] for value, runs in line.runs.items()
            ]
            title = line.label or f"Means by {self.setting}"
            found.append((title, _frame([self.setting, "runs", *columns], rows)))
        if self.others:
            rows = [
                [run.name, _text(_value(run, self.setting)), *_cells([run])] for run in self.others
            ]
            found.append(("Other settings", _frame(["run", self.setting, *columns], rows)))
        return found

    def answer(self) -> str:
        """The value of lowest validation error; choosing by test error would make that too low."""
        found = [
            (error, value, line)
            for line in self.lines
            for value, error in line.means(VALIDATION).items()
        ]
        said = ""
        if found:
            error, best, line = min(found, key=lambda entry: entry[0])
            where = f" with {line.label}" if line.label else ""
            said = f"Lowest validation RMSE: {error:.4f}, at {self.setting}={_text(best)}{where}."
            near = [v for v, other in line.means(VALIDATION).items() if other <= error + CHANCE]
            if not isinstance(best, str) and near[0] != best:
                said += f" The smallest within {CHANCE} of it, which may be chance: {near[0]}."
        others = [run for run in self.others if VALIDATION in run.scores]
        first = min(others, key=lambda run: run.scores[VALIDATION], default=None)
        if first is not None and (not found or first.scores[VALIDATION] < error):
            value = _text(_value(first, self.setting))
            said += f" Of the other runs {first.name} ({self.setting}={value}) has the lowest"
            said += f" validation RMSE, {first.scores[VALIDATION]:.4f}."
        return said.strip()


def collect(setting: str = "model.dim", where: Sequence[str] = ()) -> Sweep:
    """Read all runs and put them in lines.

    Args:
        setting: the setting to vary, as `section.key`.
        where: conditions `section.key=value`; only runs that meet all of them.

    Raises:
        InputError: a setting is not known, or fewer than two values of `setting` were run.
    """
    wanted = _conditions(where)
    runs = read_runs()
    known = {key for run in runs for key in run.settings}
    for key in (setting, *wanted):
        if runs and key not in known:
            close = get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]}?" if close else "params.yaml lists them all."
            raise InputError(f"{key!r} is not a setting of any run: {hint}")
    chosen = [
        run
        for run in runs
        if setting in run.settings and all(run.settings.get(k) == v for k, v in wanted.items())
    ]
    if len(_by_value(chosen, setting)) < 2:
        raise InputError(_too_few(setting, where, chosen))
    groups: dict[str, list[Run]] = {}
    for run in chosen:
        groups.setdefault(_key(_compared(run, setting)), []).append(run)
    ordered = sorted(groups.values(), key=lambda g: (-len(_by_value(g, setting)), -len(g)))
    data = _data(ordered[0][0], setting)
    here = [group for group in ordered if _data(group[0], setting) == data]
    notes = []
    if len(here) < len(ordered):
        other = next(group[0] for group in ordered if _data(group[0], setting) != data)
        theirs = _data(other, setting)
        key = next(key for key in (*theirs, *data) if theirs.get(key) != data.get(key))
        count = sum(len(group) for group in ordered) - sum(len(group) for group in here)
        condition = f"{key}={_text(other.settings.get(key))}"
        notes.append(f"Not shown: {count} runs of other data; --where {condition} shows them.")
    on_lines = [group for group in here if len(_by_value(group, setting)) > 1][: len(COLOURS)]
    others = [run for group in here[len(on_lines) :] for run in group]
    lines = []
    for label, group in zip(_labels(on_lines, setting), on_lines, strict=True):
        alike, dropped = _same_inspection(group, setting)
        if dropped:
            notes.append(f"Without agreements, as settings of inspect differ: {dropped}.")
        distinct = _distinct(alike, setting)
        seeds = _shared_seeds(distinct, setting)
        if not seeds:
            notes.append(
                "No seed is shared by all values, so their errors are on different ratings."
            )
        at = [run for run in distinct if not seeds or run.settings.get("seed") in seeds]
        more = [run for run in distinct if run not in at]
        if more:
            listed = ", ".join(map(str, sorted(seeds)))
            notes.append(f"Means are over seed {listed}, which all values have; dots are all runs.")
        lines.append(Line(label, _by_value(at, setting), more))
    if not lines:
        notes.append(f"No two runs differ in nothing but {setting} and the seed: there is no line.")
    return Sweep(setting, lines, _distinct(others, setting), list(dict.fromkeys(notes)))


def draw(sweep: Sweep, path: Path) -> None:
    """Draw a panel a measure, as PNG: means as lines, runs as dots, the interval as a band."""
    measures = sweep.measures
    columns = 2 if len(measures) in (2, 4) else min(3, len(measures))
    rows = -(-len(measures) // columns)
    with picture(path, 4.6 * columns, 3.3 * rows + 0.9) as figure:
        _draw(figure, sweep, rows, columns)


def _draw(figure: Figure, sweep: Sweep, rows: int, columns: int) -> None:
    measures = sweep.measures
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(measures) :]:
        axes.remove()
    shown = [*sweep.others, *(run for line in sweep.lines for run in _runs(line))]
    values = list(_by_value(shown, sweep.setting))
    for axes, measure in zip(grid.flat, measures, strict=False):
        place = _scale(axes, values)
        _dots(axes, place, sweep.others, sweep.setting, measure, GREY)
        for line, colour in zip(sweep.lines, COLOURS, strict=False):
            means, low, high = (line.means(name) for name in (measure, LOW, HIGH))
            banded = [v for v in means if v in low and v in high] if measure == PREDICTION else []
            axes.fill_between(
                [place[v] for v in banded], [low[v] for v in banded], [high[v] for v in banded],
                color=colour, alpha=0.12, linewidth=0,
            )  # fmt: skip
            label = cut(line.label, LONGEST_LABEL)
            axes.plot([place[v] for v in means], [*means.values()], color=colour, label=label)
            _dots(axes, place, _runs(line), sweep.setting, measure, colour)
        better = "lower" if measure == PREDICTION else "higher"
        axes.set_title(f"{measure}: {better} is better", fontsize=11)
        axes.set_xlabel(sweep.setting)
        axes.set_ylabel("RMSE (stars)" if measure == PREDICTION else "Spearman correlation")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e6e6e6", linewidth=0.8)
        axes.set_axisbelow(True)
    if len(sweep.lines) > 1:
        handles, labels = grid.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    figure.suptitle(f"Quality against {sweep.setting}\n", fontsize=14)  # and a line below it
    said = ["a dot a run"]
    if sweep.lines:
        said.append("lines: means over seeds")
    if any(line.means(LOW) for line in sweep.lines):
        said.append("band: 95 % interval of the RMSE")
    if sweep.others:
        said.append("grey: runs whose other settings differ")
    below = 1 - 0.45 / figure.get_figheight()
    figure.text(0.5, below, ", ".join(said), ha="center", fontsize=9, color="#555555")


def _compared(run: Run, setting: str) -> dict[str, Any]:
    """The settings that runs of a line share."""
    return {
        key: value
        for key, value in run.effective().items()
        if key not in (setting, "seed") and not key.startswith("inspect.")
    }


def _data(run: Run, setting: str) -> dict[str, Any]:
    return {k: v for k, v in _compared(run, setting).items() if k.startswith(DATA)}


def _same_inspection(group: list[Run], setting: str) -> tuple[list[Run], str]:
    """The runs, without agreements of those inspected with other settings; the names of these."""

    def asked(run: Run) -> list[Any]:
        return [run.settings.get(key) for key in INSPECTION_SETTINGS if key != setting]

    inspected = [run for run in group if AGREEMENTS.keys() & run.scores.keys()]
    other = [run for run in inspected if asked(run) != asked(inspected[0])]
    without = [
        replace(run, metrics={k: v for k, v in run.metrics.items() if k not in AGREEMENTS.values()})
        if run in other
        else run
        for run in group
    ]
    return without, ", ".join(run.name for run in other)


def _distinct(runs: list[Run], setting: str) -> list[Run]:
    """Of runs with the same settings and seed the one with most scores, then the newest."""
    found: dict[str, Run] = {}
    for run in runs:
        key = _key([_compared(run, setting), _value(run, setting), run.settings.get("seed")])
        if key not in found or len(run.scores) > len(found[key].scores):
            found[key] = run
    return list(found.values())


def _shared_seeds(runs: list[Run], setting: str) -> set[Any]:
    """The seeds of which every value has a run."""
    seeds = [{run.settings.get("seed") for run in at} for at in _by_value(runs, setting).values()]
    return set() if setting == "seed" else set.intersection(*seeds)


def _labels(groups: list[list[Run]], setting: str) -> list[str]:
    """The settings of each group in which the groups differ."""
    compared = [_compared(group[0], setting) for group in groups]
    keys = sorted({key for one in compared for key in one})
    apart = [key for key in keys if len({_key(one.get(key)) for one in compared}) > 1]
    return [
        ", ".join(f"{key}={_text(one[key])}" if key in one else f"no {key}" for key in apart)
        for one in compared
    ]


def _by_value(runs: Sequence[Run], setting: str) -> dict[Value, list[Run]]:
    found: dict[Value, list[Run]] = {}
    for run in runs:
        found.setdefault(_value(run, setting), []).append(run)
    return dict(sorted(found.items(), key=lambda item: (isinstance(item[0], str), item[0])))


def _runs(line: Line) -> Iterator[Run]:
    return (run for runs in (*line.runs.values(), line.more) for run in runs)


def _scores(runs: Sequence[Run], measure: str) -> list[float]:
    """A score, or a metric by its key, of the runs that have it."""
    found = (run.metrics.get(SCORES.get(measure, measure)) for run in runs)
    return [score for score in found if score is not None]


def _value(run: Run, setting: str) -> Value:
    value = run.settings[setting]
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if number else _text(value)


def _text(value: Any) -> str:
    """A value as it is written in params.yaml."""
    return value if isinstance(value, str) else json.dumps(value)


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _cells(runs: Sequence[Run]) -> list[str]:
    """Of each measure the mean and its range; of the interval the mean ends."""
    low, high = _scores(runs, LOW), _scores(runs, HIGH)
    interval = f"{np.mean(low):.4f} to {np.mean(high):.4f}" if low and high else "-"
    shown = {}
    for measure in (VALIDATION, PREDICTION, *AGREEMENTS):
        scores, digits = _scores(runs, measure), 3 if measure in AGREEMENTS else 4
        shown[measure] = f"{np.mean(scores):.{digits}f}" if scores else "-"
        if len(scores) > 1:
            shown[measure] += f" ({min(scores):.{digits}f} to {max(scores):.{digits}f})"
    return [shown[VALIDATION], shown[PREDICTION], interval, *(shown[name] for name in AGREEMENTS)]


def _frame(columns: list[str], rows: list[list[str]]) -> pl.DataFrame:
    """The rows, less the columns in which nothing stands."""
    frame = pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String), orient="row")
    return frame.select(name for name in columns if (frame[name] != "-").any())


def _scale(axes: Axes, values: list[Value]) -> dict[Value, float]:
    """Set up the axis of values; where each lies on it."""
    numbers = [value for value in values if not isinstance(value, str)]
    if len(numbers) < len(values):
        axes.set_xticks(range(len(values)), [_text(value) for value in values])
        return {value: float(place) for place, value in enumerate(values)}
    if min(numbers) > 0 and max(numbers) / min(numbers) >= 4:
        axes.set_xscale("log", base=2)
    if len(numbers) > MOST_TICKS:
        spaced = np.geomspace if axes.get_xscale() == "log" else np.linspace
        numbers = sorted({float(f"{x:.2g}") for x in spaced(min(numbers), max(numbers), 5)})
    axes.set_xticks(numbers, [f"{number:g}" for number in numbers])
    axes.minorticks_off()
    return {value: float(value) for value in values}


def _dots(
    axes: Axes, place: dict[Value, float], runs: Sequence[Run] | Iterator[Run], setting: str,
    measure: str, colour: str,
) -> None:  # fmt: skip
    measured = [run for run in runs if measure in run.scores]
    axes.plot(
        [place[_value(run, setting)] for run in measured],
        [run.scores[measure] for run in measured],
        "o", color=colour, markersize=4, alpha=0.8, linestyle="none",
    )  # fmt: skip


def _conditions(where: Sequence[str]) -> dict[str, Any]:
    wanted = {}
    for condition in where:
        key, equals, text = condition.partition("=")
        try:
            wanted[key] = load_yaml(text)
        except InputError:
            equals = ""
        if not equals:
            raise InputError(f"{condition!r} is no condition; allowed: section.key=value.")
    return wanted


def _too_few(setting: str, where: Sequence[str], runs: list[Run]) -> str:
    values = ", ".join(_text(value) for value in _by_value(runs, setting)) or "none"
    among = f" where {' and '.join(where)}" if where else ""
    return (
        f"Runs{among} have one value of {setting} ({values}), and a chart needs two: run more with "
        f"`dvc exp run --queue -S {setting}=VALUE,VALUE` and `dvc queue start`."
    )
