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
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
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
MOST_TICKS = 8
LONGEST_LABEL = 70  # characters

Value = int | float | str
"""A setting's value; one that is not a number is represented by its text."""


@dataclass(frozen=True)
class Line:
    """Runs that differ in the setting and the seed alone.

    Attributes:
        label: what sets it apart from the other lines.
        every: its runs, by value of the setting in ascending order.
    """

    label: str
    every: dict[Value, list[Run]]

    @property
    def seeds(self) -> set[Any]:
        """Seeds that all values have."""
        return set.intersection(*({_seed(run) for run in runs} for runs in self.every.values()))

    @property
    def runs(self) -> dict[Value, list[Run]]:
        """By value the runs whose seeds all values have; all runs if there is no such seed."""
        seeds = self.seeds
        return {
            value: [run for run in runs if not seeds or _seed(run) in seeds]
            for value, runs in self.every.items()
        }

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
    notes: list[str]

    @property
    def runs(self) -> list[Run]:
        """All runs that are shown."""
        groups = [self.others, *(runs for line in self.lines for runs in line.every.values())]
        return [run for runs in groups for run in runs]

    @property
    def measures(self) -> list[str]:
        """The measures that some run has."""
        return [m for m in (PREDICTION, *AGREEMENTS) if any(m in run.scores for run in self.runs)]

    def tables(self) -> list[tuple[str, pl.DataFrame]]:
        """By title: a table a line, of means and ranges over seeds, and one of the other runs."""
        rows = {
            line.label or f"Means by {self.setting}": [
                {self.setting: _text(value), "runs": str(len(runs)), **_cells(runs)}
                for value, runs in line.runs.items()
            ]
            for line in self.lines
        }
        rows["Other settings"] = [
            {"run": run.name, self.setting: _text(_value(run, self.setting)), **_cells([run])}
            for run in self.others
        ]
        frames = [(title, pl.DataFrame(listed)) for title, listed in rows.items() if listed]
        return [
            (title, frame.select(column for column in frame if (column != "-").any()))
            for title, frame in frames
        ]

    def answer(self) -> str:
        """The value of lowest validation error; choosing by test error would make that too low."""
        means = [line.means(VALIDATION) for line in self.lines]
        found = [(e, n, value) for n, by in enumerate(means) for value, e in by.items()]
        lowest, said = np.inf, []
        if found:
            lowest, n, best = min(found, key=lambda entry: entry[0])
            where = f" with {self.lines[n].label}" if self.lines[n].label else ""
            value = f"{self.setting}={_text(best)}{where}"
            said.append(f"Lowest validation RMSE: {lowest:.4f}, at {value}.")
            near = next(value for value, error in means[n].items() if error <= lowest + CHANCE)
            if not isinstance(best, str) and near != best:
                said.append(f"The smallest within {CHANCE} of it, which may be chance: {near}.")
        measured = [run for run in self.others if VALIDATION in run.scores]
        run = min(measured, key=lambda run: run.scores[VALIDATION], default=None)
        if run and run.scores[VALIDATION] < lowest:
            value = f"{self.setting}={_text(_value(run, self.setting))}"
            said.append(
                f"Of the other runs {run.name} ({value}) has the lowest validation RMSE, "
                f"{run.scores[VALIDATION]:.4f}."
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
    wanted, runs = _conditions(where), read_runs()
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
    values = _ordered({_value(run, setting) for run in chosen})
    if len(values) < 2:
        among = f" where {' and '.join(where)}" if where else ""
        listed = ", ".join(map(_text, values)) or "none"
        raise InputError(
            f"Runs{among} have one value of {setting} ({listed}), and a chart needs two: run more "
            f"with `dvc exp run --queue -S {setting}=VALUE,VALUE` and `dvc queue start`."
        )
    # By the settings that the runs of a line share, and by value; for each seed one run
    best: dict[tuple[str, Value, Any], Run] = {}
    for run in chosen:
        place = _shared_settings(run, setting), _value(run, setting), _seed(run)
        if place not in best or len(run.scores) > len(best[place].scores):
            best[place] = run
    groups: dict[str, dict[Value, list[Run]]] = {}
    for (shared, value, _), run in best.items():
        groups.setdefault(shared, {}).setdefault(value, []).append(run)
    most_first = sorted(
        ((json.loads(shared), group) for shared, group in groups.items()),
        key=lambda entry: (-len(entry[1]), -sum(map(len, entry[1].values()))),
    )
    first = most_first[0][0]
    drawn: list[tuple[dict[str, Any], dict[Value, list[Run]]]] = []
    others: list[Run] = []
    notes: list[str] = []
    for own, group in most_first:
        runs = [run for listed in group.values() for run in listed]
        keys = [k for k in (*own, *first) if k.startswith(DATA) and own.get(k) != first.get(k)]
        if keys:
            condition = f"{keys[0]}={_text(runs[0].settings.get(keys[0]))}"
            notes.append(f"Not shown, of other data: --where {condition} shows them.")
        elif len(group) > 1 and len(drawn) < len(COLOURS):
            drawn.append((own, group))
        else:
            others += runs
    every = sorted({key for own, _ in drawn for key in own})
    apart = [key for key in every if any(own.get(key) != drawn[0][0].get(key) for own, _ in drawn)]
    lines = []
    for own, group in drawn:
        label = ", ".join(f"{k}={_text(own[k])}" if k in own else f"no {k}" for k in apart)
        line = Line(label, {value: group[value] for value in _ordered(group)})
        lines.append(line)
        if not line.seeds:
            notes.append(
                "No seed is shared by all values, so their errors are on different ratings."
            )
        elif line.runs != line.every:
            listed = ", ".join(map(str, sorted(line.seeds)))
            notes.append(f"Means are over seed {listed}, which all values have; dots are all runs.")
    if not lines:
        notes.append(f"No two runs differ in nothing but {setting} and the seed: there is no line.")
    return Sweep(setting, lines, others, list(dict.fromkeys(notes)))


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
        if len(sweep.lines) > 1:
            handles, labels = grid.flat[0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
        figure.suptitle(f"Quality against {sweep.setting}\n", fontsize=14)  # and a line below it
        said = "a dot a run; lines: means over seeds; band: 95 % interval; grey: other settings"
        below = 1 - 0.45 / figure.get_figheight()
        figure.text(0.5, below, said, ha="center", fontsize=9, color="#555555")


def _draw_measure(axes: Axes, sweep: Sweep, measure: str) -> None:
    place = _scale(axes, _ordered({_value(run, sweep.setting) for run in sweep.runs}))

    def dots(runs: Iterable[Run], colour: str) -> None:
        measured = [run for run in runs if measure in run.scores]
        x = [place[_value(run, sweep.setting)] for run in measured]
        y = [run.scores[measure] for run in measured]
        axes.plot(x, y, "o", color=colour, markersize=4, alpha=0.8, linestyle="none")

    dots(sweep.others, GREY)
    for line, colour in zip(sweep.lines, COLOURS, strict=False):
        means, low, high = (line.means(name) for name in (measure, LOW, HIGH))
        banded = [v for v in means if v in low and v in high] if measure == PREDICTION else []
        axes.fill_between(
            [place[v] for v in banded], [low[v] for v in banded], [high[v] for v in banded],
            color=colour, alpha=0.12, linewidth=0,
        )  # fmt: skip
        label = cut(line.label, LONGEST_LABEL)
        axes.plot([place[v] for v in means], [*means.values()], color=colour, label=label)
        dots((run for runs in line.every.values() for run in runs), colour)
    better, unit = "higher", "Spearman correlation"
    if measure == PREDICTION:
        better, unit = "lower", "RMSE (stars)"
    axes.set_title(f"{measure}: {better} is better", fontsize=11)
    axes.set(xlabel=sweep.setting, ylabel=unit)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)


def _scale(axes: Axes, values: list[Value]) -> dict[Value, float]:
    """Set up the axis of values; where each lies on it."""
    numbers = [value for value in values if not isinstance(value, str)]
    if len(numbers) < len(values):
        axes.set_xticks(range(len(values)), [_text(value) for value in values])
        return {value: float(place) for place, value in enumerate(values)}
    if min(numbers) > 0 and max(numbers) / min(numbers) >= 4:
        axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    if len(numbers) <= MOST_TICKS:
        axes.set_xticks(numbers)
    axes.minorticks_off()
    return {value: float(value) for value in values}


def _shared_settings(run: Run, setting: str) -> str:
    """The settings that runs of a line share, as JSON."""
    shared = {
        key: value
        for key, value in run.effective().items()
        if key not in (setting, "seed") and (key in MEASURING or not key.startswith("inspect."))
    }
    return json.dumps(shared, sort_keys=True)


def _ordered(values: Iterable[Value]) -> list[Value]:
    """Numbers in ascending order, then texts."""
    return sorted(values, key=lambda value: (isinstance(value, str), value))


def _scores(runs: Sequence[Run], measure: str) -> list[float]:
    """A score, or a metric by its key, of the runs that have it."""
    found = (run.metrics.get(SCORES.get(measure, measure)) for run in runs)
    return [score for score in found if score is not None]


def _seed(run: Run) -> Any:
    return run.settings.get("seed")


def _value(run: Run, setting: str) -> Value:
    value = run.settings[setting]
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if number else _text(value)


def _text(value: Any) -> str:
    """A value as it is written in params.yaml."""
    return value if isinstance(value, str) else json.dumps(value)


def _cells(runs: Sequence[Run]) -> dict[str, str]:
    """Of each measure the mean and its range; of the interval the mean ends."""
    low, high = _scores(runs, LOW), _scores(runs, HIGH)
    interval = f"{np.mean(low):.4f} to {np.mean(high):.4f}" if low and high else "-"
    cells = dict.fromkeys((VALIDATION, PREDICTION, "95 % interval", *AGREEMENTS), interval)
    for measure in (VALIDATION, PREDICTION, *AGREEMENTS):
        scores, digits = _scores(runs, measure), 3 if measure in AGREEMENTS else 4
        cells[measure] = f"{np.mean(scores):.{digits}f}" if scores else "-"
        if len(scores) > 1:
            cells[measure] += f" ({min(scores):.{digits}f} to {max(scores):.{digits}f})"
    return cells


def _conditions(where: Sequence[str]) -> dict[str, Any]:
    wanted = {}
    for condition in where:
        key, equals, text = condition.partition("=")
        if not equals:
            raise InputError(f"{condition!r} is no condition; allowed: section.key=value.")
        wanted[key] = load_yaml(text, f"the value of {condition!r}")
    return wanted
