"""`python -m benchmarks.quality.peers`: the peers and this project on the same splits.

See README.md beside this file.
"""

from __future__ import annotations

# Comes first: it puts this checkout's src/ on the import path.
from stages import run  # isort: skip

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.quality.peers import environment, folds, pipeline, report
from benchmarks.quality.peers.peers import LINEAR, OURS, PEERS, Own, Peer, Settings
from genre_embeddings import storage
from genre_embeddings.errors import InputError
from genre_embeddings.evaluation.metrics import UserSums, user_sums
from genre_embeddings.settings import load_yaml

MODELS: dict[str, Peer | Own] = {model.name: model for model in (*PEERS, LINEAR, OURS)}
WORKER = Path(__file__).with_name("worker.py")


@dataclass(frozen=True)
class Run:
    """One model with one choice of settings on one split.

    Attributes:
        sums: test errors within users.
        validation_mse: None for our own models, which use validation in training.
        fit_seconds: of a peer the fit alone, of ours the whole stage train.
        peak_bytes: of the process that fitted.
    """

    sums: UserSums
    validation_mse: float | None
    fit_seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Split:
    """A split to be judged on: the checkout that holds its files, its name and its seed."""

    folder: Path
    name: str
    seed: int

    def column(self, side: str, name: str) -> np.ndarray:
        """One column of one side."""
        column: np.ndarray = np.load(self.folder / storage.SPLIT / side / f"{name}.npy")
        return column

    def users(self) -> int:
        """Number of users, U."""
        return pl.read_parquet(self.folder / storage.PREPARED / "users.parquet").height


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.peers",
        description="Compare this project's predictions with other libraries' on the same splits.",
    )
    parser.add_argument("--source", default="ml-latest-small", help="as data.source")
    parser.add_argument("--path", default="data/raw", help="as data.path")
    parser.add_argument("--strategy", default="random", choices=["random", "cold_movies"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="a split each")
    parser.add_argument(
        "--folds",
        type=int,
        nargs="*",
        choices=folds.FOLDS,
        metavar="FOLD",
        help="the official folds of ml-100k instead of splits by seed; all five if none is named",
    )
    parser.add_argument("--only", nargs="+", choices=MODELS, metavar="NAME", help=", ".join(MODELS))
    parser.add_argument(
        "--tune", action="store_true", help="choose the peers' settings again on validation"
    )
    parser.add_argument(
        "-S",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="another setting of params.yaml, such as data.top_movies=50",
    )
    parser.add_argument("--out", type=Path, help="docs/results/peers-SOURCE-SPLIT.json")
    args = parser.parse_args(arguments)
    if args.folds is not None and (args.source != "ml-100k" or args.strategy != "random"):
        parser.error("--folds are those of ml-100k: add --source ml-100k, leave --strategy out")
    args.folds = args.folds if args.folds is None else args.folds or list(folds.FOLDS)
    args.only = list(MODELS) if args.only is None else [n for n in MODELS if n in args.only]
    kind = "folds" if args.folds else args.strategy
    args.out = args.out or Path("docs/results") / f"peers-{args.source}-{kind}.json"
    return args


def overrides(args: argparse.Namespace) -> Settings:
    """What the command line changes in `params.yaml`.

    Raises:
        InputError: a setting is not written as KEY=VALUE.
    """
    found: Settings = {
        "data.source": args.source,
        "data.path": str(Path(args.path).expanduser().resolve()),
        "split.strategy": args.strategy,
    }
    for setting in args.settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise InputError(f"-S {setting} is not KEY=VALUE, such as -S data.top_movies=50.")
        try:
            found[key] = load_yaml(value)
        except InputError:
            raise InputError(f"-S {setting}: {value!r} is not a value as YAML writes it.") from None
    return found


def make_split(args: argparse.Namespace, base: Path, changes: Settings, at: int) -> Split:
    """Make the split of one seed, or one official fold, in the base checkout."""
    if args.folds:
        seed, name = args.seeds[0], f"fold {at}"
        place = folds.archive(changes["data.path"])
        folds.write_fold(place, at, base / storage.PREPARED, base / storage.SPLIT, seed)
    else:
        seed, name = at, f"seed {at}"
        params = pipeline.parameters({**changes, "seed": seed})
        (base / "params.yaml").write_text(params, encoding="utf-8")
        pipeline.run_stage(base, "split")
    return Split(base, name, seed)


def run_peer(python: Path, peer: Peer, settings: Settings, split: Split) -> Run:
    """Fit a peer in a process of its own and judge its predictions."""
    with tempfile.TemporaryDirectory(prefix="genre-embeddings-") as name:
        out = Path(name)
        job = {
            "fit": peer.fit,
            "settings": settings,
            "seed": split.seed,
            "split": str(split.folder / storage.SPLIT),
            "prepared": str(split.folder / storage.PREPARED),
            "out": str(out),
        }
        (out / "job.json").write_text(json.dumps(job), encoding="utf-8")
        cost = pipeline.measured(python, [str(WORKER), str(out / "job.json")], out, peer.name)
        seconds = json.loads((out / "result.json").read_text(encoding="utf-8"))["fit_seconds"]
        sums = {}
        for side in ("validation", "test"):
            error = np.load(out / f"{side}.npy") - split.column(side, "rating")
            sums[side] = user_sums(split.column(side, "user"), error, split.users())
    validation = sums["validation"].squared.sum() / sums["validation"].ratings.sum()
    return Run(sums["test"], float(validation), seconds, cost.peak_bytes)


def run_own(own: Own, split: Split, changes: Settings) -> Run:
    """Train and evaluate a model of ours in a checkout of its own."""
    with tempfile.TemporaryDirectory(prefix="genre-embeddings-") as name:
        params = pipeline.parameters({**changes, **own.overrides, "seed": split.seed})
        folder = pipeline.checkout(Path(name) / "own", params, split.folder)
        cost = pipeline.run_stage(folder, "train")
        pipeline.run_stage(folder, "evaluate")
        predicted = pl.read_parquet(folder / storage.PREDICTIONS / "test.parquet")
    for name in ("user", "movie", "rating"):
        if not np.array_equal(predicted[name].to_numpy(), split.column("test", name)):
            raise InputError(f"{own.name}: stage evaluate predicted other ratings than the test's.")
    error = predicted["prediction"].to_numpy().astype(np.float64) - predicted["rating"].to_numpy()
    sums = user_sums(split.column("test", "user"), error, split.users())
    return Run(sums, None, cost.seconds, cost.peak_bytes)


def run_all(args: argparse.Namespace) -> tuple[dict[str, list[list[Run]]], dict[str, str]]:
    """Run every model on every split.

    Returns:
        Of each model that held out, a list of runs (one a split) for each choice of settings;
        and of each model that failed, what it said.
    """
    changes = overrides(args)
    for seed in args.seeds:  # a bad setting stops here, before any work
        pipeline.parameters({**changes, "seed": seed})
    models = [MODELS[name] for name in args.only]
    python = Path()
    if any(isinstance(model, Peer) for model in models):
        python = environment.peers_python()
    runs: dict[str, list[list[Run]]] = {}
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="genre-embeddings-") as name:
        base = pipeline.checkout(Path(name) / "base", pipeline.parameters(changes))
        pipeline.run_stage(base, "prepare")
        has_time = storage.read_json(base / storage.PREPARED / "meta.json")["has_time"]
        for at in args.folds or args.seeds:
            split = make_split(args, base, changes, at)
            for model in models:
                if isinstance(model, Peer) and model.needs_time and not has_time:
                    failed[model.name] = "left out: these ratings hold no times"
                if model.name in failed:
                    continue
                grid = model.grid if isinstance(model, Peer) else ({},)
                choices = runs.setdefault(
                    model.name, [[] for _ in grid[: None if args.tune else 1]]
                )
                for chosen, settings in zip(choices, grid, strict=False):
                    try:
                        if isinstance(model, Peer):
                            done = run_peer(python, model, settings, split)
                        else:
                            done = run_own(model, split, changes)
                    except InputError as error:
                        failed[model.name] = str(error)
                        runs.pop(model.name)
                        print(f"{split.name} · {model.name}: {_last_line(str(error))}", flush=True)
                        break
                    chosen.append(done)
                    print(_progress(split, model, settings if args.tune else {}, done), flush=True)
    return runs, failed


def _progress(split: Split, model: Peer | Own, settings: Settings, done: Run) -> str:
    mse = done.sums.squared.sum() / done.sums.ratings.sum()
    validation = f" (validation {done.validation_mse:.4f})" if done.validation_mse else ""
    return (
        f"{split.name} · {model.name}{f' {json.dumps(settings)}' if settings else ''}: "
        f"MSE {mse:.4f}{validation}, fit {done.fit_seconds:.1f} s, "
        f"peak {done.peak_bytes / 2**20:,.0f} MiB"
    )


def _last_line(said: str) -> str:
    """Where a traceback says what happened."""
    return said.strip().splitlines()[-1]


def _mean_validation(runs: Sequence[Run]) -> float:
    return float(np.mean([run.validation_mse for run in runs]))


def tabulate(
    runs: dict[str, list[list[Run]]],
) -> tuple[list[dict[str, Any]], str | None]:
    """Rows of the table, and the title of the model that the others are compared to, if any."""
    best = {
        name: 0 if len(choices) == 1 else int(np.argmin([_mean_validation(c) for c in choices]))
        for name, choices in runs.items()
    }
    chosen = {name: choices[best[name]] for name, choices in runs.items()}
    found = report.summarise(
        {name: [run.sums for run in some] for name, some in chosen.items()},
        OURS.name,
        np.random.default_rng(0),
    )
    rows = []
    for name, some in chosen.items():
        model = MODELS[name]
        row: dict[str, Any] = {"name": name, "title": model.title}
        if isinstance(model, Peer):
            row["settings"] = model.grid[best[name]]
            row["validation_mse"] = _mean_validation(some)
        else:
            row["settings"] = model.overrides
        if len(runs[name]) > 1 and isinstance(model, Peer):
            row["tuned"] = [
                {"settings": settings, "validation_mse": _mean_validation(choice)}
                for settings, choice in zip(model.grid, runs[name], strict=True)
            ]
        row |= found[name]
        row["fit_seconds"] = float(np.mean([run.fit_seconds for run in some]))
        row["peak_mib"] = max(run.peak_bytes for run in some) / 2**20
        rows.append(row)
    return rows, OURS.title if OURS.name in chosen else None


def main() -> None:
    """Run the comparison, print its table and save it as JSON and Markdown."""
    args = parse()
    runs, failed = run_all(args)
    if not runs:
        raise InputError("no model could be compared:\n" + "\n".join(failed.values()))
    rows, reference = tabulate(runs)
    table = report.markdown(rows, reference)
    judged = (
        f"official folds {args.folds}" if args.folds else f"{args.strategy}, seeds {args.seeds}"
    )
    note = (
        f"{args.source}, {judged}; means over splits of test errors, "
        f"95 % intervals by bootstrap over users; {os.cpu_count()} cores.\n"
    )
    misses = "".join(f"\n{name}: {_last_line(said)}\n" for name, said in failed.items())
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with storage.replacing(args.out.with_suffix(".md")) as temporary:
        temporary.write_text(f"{note}\n{table}{misses}", encoding="utf-8")
    content = {
        "source": args.source,
        "strategy": args.strategy,
        "seeds": args.seeds,
        "folds": args.folds,
        "settings": args.settings,
        "cores": os.cpu_count(),
        "versions": environment.versions(),
        "models": [report.plain(row) for row in rows],
        "failed": failed,
    }
    storage.write_metrics(args.out, content)
    print(f"\n{note}\n{table}{misses}\n-> {args.out}, {args.out.with_suffix('.md')}")
    if any(not said.startswith("left out") for said in failed.values()):
        raise InputError(f"not all models could be run: {', '.join(failed)}")


if __name__ == "__main__":
    run(main)
