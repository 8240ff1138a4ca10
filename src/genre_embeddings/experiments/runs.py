"""A table of all runs: what was changed, and what came of it."""

from __future__ import annotations

import polars as pl

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
    text,
    warnings,
)
from genre_embeddings.pages import MARKS, cell
from genre_embeddings.settings import effective

LEGEND = (
    "RMSE: on test ratings, in stars. agree: Spearman's rho of the learnt genre similarity with "
    "the planted truth, or else with held-out ratings. stable: rho expected with other users. "
    "SSV: verdicts on structure, stability and value (✓ pass, ✗ fail, ? inconclusive). changed: "
    "settings that differ from those of {}."
)


def table() -> tuple[pl.DataFrame, list[str]]:
    """All runs, the newest first, and notes on them.

    Settings are listed where they differ from the commit that is checked out, or else from the
    oldest run. The workspace is left out where it equals another run.

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
    frame = pl.DataFrame([_row(run, first) for run in runs])
    return frame, [LEGEND.format(first.name), *warnings(first, runs)]


def _row(run: Run, first: Run) -> dict[str, str]:
    scores, before = run.scores, effective(first.settings)
    agreements = [scores[name] for name in AGREEMENTS if name in scores and name != STABILITY]
    return {
        "run": run.name,
        "RMSE": cell(scores.get(PREDICTION), ".4f"),
        "agree": cell(next(iter(agreements), None), ".2f"),
        "stable": cell(scores.get(STABILITY), ".2f"),
        "SSV": "".join(MARKS.get(run.metrics.get(f"verdict.{v}", ""), "-") for v in VERDICTS),
        "changed": ", ".join(
            f"{key}={text(value)}"
            for key, value in effective(run.settings).items()
            if key not in before or before[key] != value
        ),
    }
