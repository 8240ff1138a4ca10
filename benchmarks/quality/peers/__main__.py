"""`python -m benchmarks.quality.peers`: other libraries and this project on the same splits.

See README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np
import polars as pl

from benchmarks.measuring import (
    ROOT,
    Cost,
    Row,
    checkout,
    measured,
    replace_generated,
    run_stage,
    table,
    write_params,
)
from benchmarks.quality.peers.models import MODELS, Model, Settings
from benchmarks.quality.peers.report import cell, summarise
from genre_embeddings import storage
from genre_embeddings.errors import InputError
from genre_embeddings.evaluation.metrics import UserSums, mse, user_sums
from genre_embeddings.settings import SplitSettings, load_yaml

PAGE = ROOT / "docs/results/prediction.md"
STRATEGIES = get_args(SplitSettings.model_fields["strategy"].annotation)
WORKER = Path(__file__).with_name("worker.py")


@dataclass(frozen=True)
class Run:
    """One model with one choice of settings on one split.

    Attributes:
        test: test errors within users.
        validation: mean squared error on validation, which chooses a peer's settings; NaN for
            our models, which use validation in training.
        seconds: of a peer the fit alone, of ours the whole stage train.
        peak_bytes: of the process that fitted.
    """

    test: UserSums
    validation: float
    seconds: float
    peak_bytes: int


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.peers",
        description="Compare this project's predictions with other libraries' on the same splits.",
    )
    parser.add_argument(
        "--python", type=os.path.abspath, help="of the environment in which the peers are installed"
    )
    parser.add_argument("--source", default="ml-latest-small", help="as data.source")
    parser.add_argument("--path", default="data/raw", help="as data.path")
    parser.add_argument("--strategy", default="random", choices=STRATEGIES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="a split each")
    parser.add_argument(
        "--until", type=float, nargs="+", default=[1.0], metavar="SHARE",
        help="use only this share of the ratings, the oldest; a split each",
    )  # fmt: skip
    parser.add_argument("--only", nargs="+", choices=MODELS, default=[*MODELS], metavar="NAME")
    parser.add_argument(
        "--tune", action="store_true", help="choose the peers' settings again on validation"
    )
    parser.add_argument(
        "-S", dest="settings", action="append", default=[], metavar="KEY=VALUE",
        help="another setting of params.yaml, such as data.top_movies=50",
    )  # fmt: skip
    parser.add_argument("--doc", metavar="NAME", help=f"the part of {PAGE.name} to write")
    options = parser.parse_args(arguments)
    options.only = [name for name in MODELS if name in options.only]
    if not options.python and any(MODELS[name].fit for name in options.only):
        parser.error("the peers need --python, see benchmarks/quality/peers/README.md")
    return options


def changes_of(options: argparse.Namespace) -> Settings:
    """What the command line changes in `params.yaml`."""
    found: Settings = {
        "data.source": options.source,
        "data.path": str(Path(options.path).expanduser().resolve()),
        "split.strategy": options.strategy,
    }
    for setting in options.settings:
        key, _, value = setting.partition("=")
        found[key] = load_yaml(value)
    return found


def fit_peer(
    python: str, model: Model, choice: Settings, folder: Path, seed: int, out: Path | None = None
) -> tuple[dict[str, Any], Cost]:
    """Fit a peer to the split in a copy of the pipeline, and leave its predictions in `out`.

    Returns:
        What `worker.py` writes into `result.json`, and what the process took.
    """
    out = out or folder
    job = {
        "fit": model.fit, "settings": choice, "seed": seed, "out": str(out),
        "split": str(folder / storage.SPLIT), "prepared": str(folder / storage.PREPARED),
    }  # fmt: skip
    (out / "job.json").write_text(json.dumps(job), encoding="utf-8")
    cost = measured([python, str(WORKER), str(out / "job.json")], folder)
    return json.loads((out / "result.json").read_text(encoding="utf-8")), cost


def predict(
    model: Model, choice: Settings, folder: Path, seed: int, options: argparse.Namespace
) -> tuple[dict[str, np.ndarray], float, int]:
    """Predictions of test and, by a peer, validation; seconds of the fit and its peak memory."""
    if model.fit:
        done, cost = fit_peer(options.python, model, choice, folder, seed)
        found = {side: np.load(folder / f"{side}.npy") for side in ("validation", "test")}
        return found, done["fit_seconds"], cost.peak_bytes
    write_params(folder, changes_of(options) | choice | {"seed": seed})
    cost = run_stage(folder, "train")
    run_stage(folder, "evaluate")
    test = pl.read_parquet(folder / storage.PREDICTIONS / "test.parquet")["prediction"]
    return {"test": test.to_numpy()}, cost.seconds, cost.peak_bytes


def run(
    model: Model, choice: Settings, folder: Path, seed: int, options: argparse.Namespace
) -> Run:
    """One model on the split that a copy of the pipeline holds."""
    predicted, seconds, peak = predict(model, choice, folder, seed, options)
    users = pl.read_parquet(folder / storage.PREPARED / "users.parquet").height
    sums = {}
    for side, prediction in predicted.items():
        user, rating = (
            np.load(folder / storage.SPLIT / side / f"{name}.npy") for name in ("user", "rating")
        )
        sums[side] = user_sums(user, prediction.astype(np.float64) - rating, users)
    validation = mse(sums["validation"]) if "validation" in sums else None
    return Run(sums["test"], math.nan if validation is None else validation, seconds, peak)


def run_all(options: argparse.Namespace, folder: Path) -> dict[str, list[list[Run]]]:
    """Of each model, a list of runs (one a split) for each choice of settings."""
    changes = changes_of(options)
    checkout(folder, changes)
    run_stage(folder, "prepare")
    has_time = storage.read_json(folder / storage.PREPARED / "meta.json")["has_time"]
    names = [name for name in options.only if has_time or name != "myfm-day"]
    grids = {name: MODELS[name].grid[: None if options.tune else 1] for name in names}
    runs: dict[str, list[list[Run]]] = {name: [[] for _ in grid] for name, grid in grids.items()}
    prepared = folder / storage.PREPARED / "ratings.parquet"
    whole = pl.read_parquet(prepared)
    for until, seed in product(options.until, options.seeds):
        last = whole["timestamp"].quantile(until, "nearest")
        whole.filter(pl.col("timestamp") <= last).write_parquet(prepared)
        write_params(folder, changes | {"seed": seed})
        run_stage(folder, "split")
        for name, grid in grids.items():
            for done, choice in zip(runs[name], grid, strict=True):
                found = run(MODELS[name], choice, folder, seed, options)
                done.append(found)
                print(
                    f"until {until:g}, seed {seed}, {name} {choice if options.tune else ''}: MSE "
                    f"{mse(found.test):.4f} (validation {found.validation:.4f}), fit "
                    f"{found.seconds:.1f} s, peak {found.peak_bytes / 2**20:,.0f} MiB",
                    flush=True,
                )
    return runs


def best(choices: list[list[Run]]) -> list[Run]:
    """The runs with the settings that are best on validation."""
    return min(choices, key=lambda runs: float(np.mean([run.validation for run in runs])))


def rows_of(runs: dict[str, list[list[Run]]]) -> Iterator[Row]:
    """A row for each model."""
    chosen = {name: best(choices) for name, choices in runs.items()}
    sums = {name: [run.test for run in some] for name, some in chosen.items()}
    for name, found in summarise(sums, "ours", np.random.default_rng(0)).items():
        row: dict[str, Any] = {"model": MODELS[name].title}
        row |= {"MSE": cell(found["mse"]), "RMSE": f"{found['rmse'].estimate:.4f}"}
        row["fit s"] = f"{np.mean([run.seconds for run in chosen[name]]):.1f}"
        if "ratio" in found:
            row["ours ÷ model, MSE"] = cell(found["ratio"]) if name != "ours" else ""
        yield row


def main() -> None:
    """Run the comparison and print its table."""
    options = parse()
    with tempfile.TemporaryDirectory(prefix="genre-embeddings-") as name:
        runs = run_all(options, Path(name) / "copy")
    text = table(list(rows_of(runs)))
    print(f"\n{text}")
    if options.doc:
        replace_generated(PAGE, options.doc, text)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
