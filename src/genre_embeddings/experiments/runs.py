"""A table of all runs: what was changed, and what came of it."""

from __future__ import annotations

import json

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
    warnings,
)
from genre_embeddings.pages import MARKS

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
    agreements = [run.scores.get(name) for name in AGREEMENTS if name != STABILITY]
    agreement = next((rho for rho in agreements if rho is not None), None)
    stable, before = run.scores.get(STABILITY), first.effective()
    rmse = run.scores.get(PREDICTION)
    return {
        "run": run.name,
        "RMSE": "-" if rmse is None else f"{rmse:.4f}",
        "agree": "-" if agreement is None else f"{agreement:.2f}",
        "stable": "-" if stable is None else f"{stable:.2f}",
        "SSV": "".join(MARKS.get(run.metrics.get(f"verdict.{v}", ""), "-") for v in VERDICTS),
        "changed": ", ".join(
            f"{key}={value if isinstance(value, str) else json.dumps(value)}"
            for key, value in run.effective().items()
            if key not in before or before[key] != value
        ),
    }
