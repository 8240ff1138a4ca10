"""A table of all runs: what was changed, and what came of it."""

from __future__ import annotations

import json
import textwrap

from genre_embeddings.errors import InputError
from genre_embeddings.experiments.revisions import (
    AGREEMENTS,
    PREDICTION,
    STABILITY,
    VERDICTS,
    WORKSPACE,
    Run,
    current,
    read_runs,
    warnings,
)
from genre_embeddings.publish.summary import MARKS

LEGEND = (
    "RMSE: on test ratings, in stars. agree: Spearman's rho of the learnt genre similarity with "
    "the planted truth, or else with held-out ratings. stable: rho expected with other users. "
    "SSV: verdicts on structure, stability and value (✓ pass, ✗ fail, ? inconclusive)."
)


def table(width: int) -> str:
    """All runs, the newest first, in lines of at most `width` characters where names allow it.

    Below each run are the settings in which it differs from the commit that is checked out, or else
    from the oldest run. The workspace is left out where it equals another run.

    Raises:
        InputError: there is no run, or a file of one cannot be read.
    """
    runs = read_runs()
    others = [(run.settings, run.metrics) for run in runs if run.name != WORKSPACE]
    runs = [r for r in runs if r.name != WORKSPACE or (r.settings, r.metrics) not in others]
    if not runs:
        raise InputError("There are no results yet: `dvc repro` or `dvc exp run` makes some.")
    here = current()
    first = next((run for run in runs if run.name == here), runs[-1])
    room = min(max(len(run.name) for run in runs), max(width - 29, 8))
    lines = [_line("run", ["RMSE", "agree", "stable", "SSV"], room)]
    for run in runs:
        lines.append(_line(run.name, _cells(run), room))
        before = first.effective()
        changed = [
            f"{key}={value if isinstance(value, str) else json.dumps(value)}"
            for key, value in run.effective().items()
            if key not in before or before[key] != value
        ]
        lines += textwrap.wrap(
            ", ".join(changed), width, initial_indent="  ", subsequent_indent="  ",
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip
    notes = [LEGEND, *warnings(first, runs)]
    if len(runs) > 1:
        notes.insert(0, f"Settings are listed where they differ from those of {first.name}.")
    return "\n".join([*lines, "", *(textwrap.fill(note, width) for note in notes)])


def _cells(run: Run) -> list[str]:
    agreements = [run.scores.get(name) for name in AGREEMENTS if name != STABILITY]
    agreement = next((rho for rho in agreements if rho is not None), None)
    numbers = [(run.scores.get(PREDICTION), 4), (agreement, 2), (run.scores.get(STABILITY), 2)]
    marks = [MARKS.get(run.metrics.get(f"verdict.{name}", ""), "-") for name in VERDICTS]
    return [*("-" if n is None else f"{n:.{digits}f}" for n, digits in numbers), "".join(marks)]


def _line(name: str, cells: list[str], room: int) -> str:
    """A row; a name that is too long for its column gets a line of its own."""
    start = f"{name}\n{'':{room}}" if len(name) > room else f"{name:{room}}"
    return start + "".join(f"  {cell:>6}" for cell in cells[:3]) + f"  {cells[3]}"
