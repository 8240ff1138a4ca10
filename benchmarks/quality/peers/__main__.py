"""`python -m benchmarks.quality.peers`: other libraries and this project on the same splits.

See README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import polars as pl

from benchmarks.measuring import (
    ROOT,
    Cost,
    Row,
    checkout,
    measured,
    report,
    run_stage,
    write_params,
)
from benchmarks.quality.peers.models import MODELS, Model, Settings
from genre_embeddings import storage
from genre_embeddings.errors import messages
from genre_embeddings.evaluation.metrics import (
    Interval,
    UserSums,
    bootstrap_over_users,
    interval,
    mse,
    user_sums,
)
from genre_embeddings.settings import SplitSettings, load_yaml

PAGE = ROOT / "docs/results/prediction.md"
STRATEGIES = get_args(SplitSettings.model_fields["strategy"].annotation)
WORKER = Path(__file__).with_name("worker.py")
DRAWS = 2000


class Run(NamedTuple):
    """The errors of one model with one choice of settings on one split."""

    test: UserSums
    validation: float
    """Mean squared error, which chooses a peer's settings; NaN for our models."""


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
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
    parts = (setting.partition("=") for setting in options.settings)
    return {
        "data.source": options.source,
        "data.path": str(Path(options.path).expanduser().resolve()),
        "split.strategy": options.strategy,
        **{key: load_yaml(value) for key, _, value in parts},
    }


def fit_peer(
    python: str, model: Model, choice: Settings, folder: Path, seed: int
) -> tuple[dict[str, Any], Cost]:
    """Fit a peer to the split in a copy of the pipeline, and leave its predictions there.

    Returns:
        What `worker.py` writes into `result.json`, and the cost of its process.
    """
    job = {
        "fit": model.fit, "settings": choice, "seed": seed,
        "split": str(storage.SPLIT), "prepared": str(storage.PREPARED),
    }  # fmt: skip
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    cost = measured([python, str(WORKER), "job.json"], folder)
    return json.loads((folder / "result.json").read_text(encoding="utf-8")), cost


def run(name: str, choice: Settings, folder: Path, seed: int, options: argparse.Namespace) -> Run:
    """Fit one model to the split in a copy of the pipeline, and measure its errors."""
    model = MODELS[name]
    if model.fit:
        done, cost = fit_peer(options.python, model, choice, folder, seed)
        seconds = done["end"][0]
        predicted = {side: np.load(folder / f"{side}.npy") for side in ("validation", "test")}
    else:
        write_params(folder, changes_of(options) | choice | {"seed": seed})
        cost = run_stage(folder, "train")
        seconds = cost.seconds
        run_stage(folder, "evaluate")
        table = pl.read_parquet(folder / storage.PREDICTIONS / "test.parquet")
        predicted = {"test": table["prediction"].to_numpy()}
    users = pl.read_parquet(folder / storage.PREPARED / "users.parquet").height
    sums = {}
    for side, prediction in predicted.items():
        part = folder / storage.SPLIT / side
        user, rating = np.load(part / "user.npy"), np.load(part / "rating.npy")
        sums[side] = user_sums(user, prediction.astype(np.float64) - rating, users)
    found = Run(sums["test"], mse(sums["validation"]) if model.fit else math.nan)
    print(
        f"seed {seed}, {name} {choice if options.tune else ''}: MSE {mse(found.test):.4f} "
        f"(validation {found.validation:.4f}), fit {seconds:.1f} s, "
        f"peak {cost.peak_bytes / 2**20:,.0f} MiB",
        flush=True,
    )
    return found


def run_all(options: argparse.Namespace, folder: Path) -> dict[str, list[list[Run]]]:
    """The runs of each model: a list for each choice of settings, with a run for each split."""
    changes = changes_of(options)
    checkout(folder, changes, "prepare")
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
        print(f"the oldest {until:.0%} of the ratings, seed {seed}", flush=True)
        for name, grid in grids.items():
            for done, choice in zip(runs[name], grid, strict=True):
                done.append(run(name, choice, folder, seed, options))
    return runs


def best(choices: list[list[Run]]) -> list[Run]:
    """The runs with the settings that are best on validation."""
    return min(choices, key=lambda runs: float(np.mean([run.validation for run in runs])))


def summarise(
    sums: Mapping[str, Sequence[UserSums]], generator: np.random.Generator
) -> dict[str, tuple[float, Interval | None]]:
    """Mean squared errors, and our error divided by each, with 95 % bootstrap intervals.

    A draw takes the same users for every model and every split, so ratios are paired and a user
    that many splits test counts as the one person that it is.

    Args:
        sums: of each model, one entry a split; entry s of every model is about the same ratings.
        generator: draws the users.

    Returns:
        Of each model the mean of the splits' MSE, and, if "ours" is among the models, the ratio.
    """
    first = next(iter(sums.values()))
    rows = np.stack(
        [split.ratings for split in first]
        + [split.squared for splits in sums.values() for split in splits]
    )  # ((1 + K)·S, U)
    # The counts are drawn like any other sum, because every split has its own.
    drawn = bootstrap_over_users(rows, np.ones(rows.shape[1]), DRAWS, generator)
    values = np.vstack([rows.mean(axis=1), drawn])  # row 0: the users as they are
    values = values.reshape(1 + DRAWS, -1, len(first))  # (1 + draws, 1 + K, S)
    values = values[(values[:, 0] > 0).all(axis=1)]
    means = (values[:, 1:] / values[:, :1]).mean(axis=2).T  # (K, 1 + draws)
    errors = dict(zip(sums, means, strict=True))
    found: dict[str, tuple[float, Interval | None]] = {}
    for name, error in errors.items():
        ratio = errors["ours"] / error if "ours" in errors else None
        around = None if ratio is None else interval(ratio[0], ratio[1:])
        found[name] = float(error[0]), around
    return found


def rows_of(runs: dict[str, list[list[Run]]]) -> Iterator[Row]:
    """A row for each model."""
    sums = {name: [run.test for run in best(choices)] for name, choices in runs.items()}
    for name, (error, ratio) in summarise(sums, np.random.default_rng(0)).items():
        cell = f"{ratio.estimate:.4f} [{ratio.low:.4f}, {ratio.high:.4f}]" if ratio else ""
        yield {
            "model": MODELS[name].title, "MSE": f"{error:.4f}",
            "ours ÷ model, MSE": cell if name != "ours" else "",
        }  # fmt: skip


def main() -> None:
    options = parse()
    with messages(), tempfile.TemporaryDirectory(prefix="genre-embeddings-") as name:
        runs = run_all(options, Path(name) / "copy")
    report(PAGE if options.doc else None, options.doc, rows_of(runs))


if __name__ == "__main__":
    main()
