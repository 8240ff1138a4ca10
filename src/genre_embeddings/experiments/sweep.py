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
            low, high = (_written(means[end], 4) for end in (LOW, HIGH))
            columns: dict[str, Any] = {self.setting: means["value"], "runs": means["runs"]}
            columns |= {name: _written(means[name], 4) for name in (VALIDATION, PREDICTION)}
            ends = zip(low, high, strict=True)
            columns["95 % interval"] = ["-" if a == "-" else f"{a} to {b}" for a, b in ends]
            columns |= {name: _written(means[name], 3) for name in AGREEMENTS}
            measured = {name: cells for name, cells in columns.items() if {*cells} != {"-"}}
            tables[str(line) or f"Means by {self.setting}"] = pl.DataFrame(measured)
        return tables

    def answer(self) -> str:
        """The value of lowest validation error; choosing by test error would make that too low."""
        error, means = pl.col(VALIDATION), self.means().drop_nulls(VALIDATION)
        for best in means.filter(error == error.min()).head(1).rows(named=True):
            line, value, lowest = best["line"], best["value"], best[VALIDATION]
            said = f"Lowest validation RMSE: {lowest:.4f}, at {self.setting}={value}"
            said += f" with {line}." if line else "."
            close = means.filter(pl.col("line") == line, error <= lowest + CHANCE)["value"]
            if _number(value) is not None and close[0] != value:
                said += (
                    f" Smallest value with an error within {CHANCE} (may be chance): {close[0]}."
                )
            return said
        return ""


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
    # Runs by the settings that a line shares, as JSON, then by value and seed; the newest first
    groups: dict[str, dict[tuple[str, Any], Run]] = {}
    for run in every:
        if setting in run.settings and all(run.settings.get(k) == v for k, v in wanted.items()):
            at = _text(run.settings[setting]), run.settings.get("seed")
            groups.setdefault(_shared_settings(run, setting), {}).setdefault(at, run)
    sizes = {text: (len({v for v, _ in group}), len(group)) for text, group in groups.items()}
    lines = sorted((t for t in groups if sizes[t][0] > 1), key=sizes.__getitem__, reverse=True)
    if not lines:
        among = f" where {' and '.join(where)}" if where else ""
        values = sorted({value for group in groups.values() for value, _ in group}, key=_in_order)
        raise InputError(
            f"No two runs{among} differ in {setting} and the seed alone, and a chart needs such "
            f"runs (values of {setting}: {', '.join(values) or 'none'}): run more with `dvc exp "
            f"run --queue -S {setting}=VALUE,VALUE` and `dvc queue start`."
        )
    shared = {text: json.loads(text) for text in lines}
    data = [{k: v for k, v in shared[t].items() if k.startswith(DATA)} for t in lines]
    same = [t for t, own in zip(lines, data, strict=True) if own == data[0]][: len(COLOURS)]
    keys = sorted({key for text in same for key in shared[text]})
    apart = [k for k in keys if any(shared[t].get(k) != shared[same[0]].get(k) for t in same)]
    rows, notes = [], []
    for text in same:
        own, group = shared[text], groups[text]
        label = ", ".join(f"{k}={_text(own[k])}" if k in own else f"no {k}" for k in apart)
        seeds = {value: {seed for v, seed in group if v == value} for value, _ in group}
        common = set.intersection(*seeds.values())
        if not common:
            notes.append(
                "No seed is shared by all values, so their errors are on different ratings."
            )
        elif any(found != common for found in seeds.values()):
            listed = ", ".join(map(str, sorted(common)))
            notes.append(f"Means are over seed {listed}, which all values have.")
        for (value, seed), run in group.items():
            scores = [run.metrics.get(SCORES.get(name, name)) for name in (LOW, HIGH, *SCORES)]
            rows.append((label, value, run.name, seed, not common or seed in common, *scores))
    if others := sum(map(len, groups.values())) - len(rows):
        notes.append(f"Not shown, with other data or settings: {others}; select runs with --where.")
    ordered = pl.Enum(sorted({row[1] for row in rows}, key=_in_order))
    schema: dict[str, Any] = {"line": pl.String, "value": ordered}
    schema |= {"run": pl.String, "seed": pl.Int64, "counts": pl.Boolean}
    schema |= dict.fromkeys((LOW, HIGH, *SCORES), pl.Float64)
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    places = {line: place for place, line in enumerate(frame["line"].unique(maintain_order=True))}
    frame = frame.sort(pl.col("line").replace_strict(places), "value", maintain_order=True)
    return Sweep(setting, frame, list(dict.fromkeys(notes)))


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
    place = {value: at for at, value in enumerate(values)}
    axes.set_xticks(range(len(values)), values, rotation=90 if len(values) > MOST_TICKS else 0)
    means = sweep.means()
    for line, colour in zip(sweep.runs["line"].unique(maintain_order=True), COLOURS, strict=False):
        own = means.filter(pl.col("line") == line).drop_nulls(measure)
        x = [place[value] for value in own["value"]]
        axes.plot(x, own[measure], color=colour, label=cut(line, LONGEST_LABEL))
        if measure == PREDICTION:
            low, high = (own[end].to_numpy() for end in (LOW, HIGH))
            axes.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
        dots = sweep.runs.filter(pl.col("line") == line).drop_nulls(measure)
        x = [place[value] for value in dots["value"]]
        axes.plot(x, dots[measure], "o", color=colour, markersize=4, alpha=0.8)
    better, unit = "higher", "Spearman correlation"
    if measure == PREDICTION:
        better, unit = "lower", "RMSE (stars)"
    axes.set_title(f"{measure}: {better} is better", fontsize=11)
    axes.set(xlabel=sweep.setting, ylabel=unit)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)


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


def _written(scores: pl.Series, digits: int) -> list[str]:
    return ["-" if score is None else f"{score:.{digits}f}" for score in scores]


def _conditions(where: Iterable[str]) -> dict[str, Any]:
    wanted = {}
    for condition in where:
        key, equals, text = condition.partition("=")
        if not equals:
            raise InputError(f"{condition!r} is no condition; allowed: section.key=value.")
        wanted[key] = load_yaml(text, f"the value of {condition!r}")
    return wanted
