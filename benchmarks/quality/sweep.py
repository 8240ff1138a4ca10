"""How the default settings were chosen: `python -m benchmarks.quality.sweep [--path ARCHIVE]`.

Changes one setting at a time, over several data sets, each as a DVC experiment in a clone of the
project, and writes the validation errors into docs/method/choosing.md. Two replicas are trained,
unless their number is what changes, to halve the time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measuring import ROOT, replace_generated, table

PAGE = ROOT / "docs/method/choosing.md"
REPLICAS = "train.replicas=2"
CHANGES = (
    "model.dim=8",
    "model.hidden=[]",
    "model.cross=false", "model.genres=false", "model.embedding=point",
    "model.history=0",
    "model.time=false",
    "train.kl_weight=0.2", "train.kl_weight=0.6",
    "train.lr=0.005", "train.lr=0.02",
    "train.movie_dropout=0.0", "train.movie_dropout=0.2",
    "train.rare_dropout=0.0", "train.rare_dropout=1.0",
    "train.epochs=10", "train.epochs=30",
    "train.replicas=1", "train.replicas=4",
)  # fmt: skip


def datasets(path: str) -> dict[str, list[str]]:
    """What is swept over, by title."""
    small = ["data.source=ml-latest-small", f"data.path={path}"]
    return {
        "planted": [],
        "latest-small": small,
        "latest-small, cold movies": [*small, "split.strategy=cold_movies"],
    }


def run(clone: Path, name: str, changes: list[str]) -> dict[str, Any]:
    """One experiment, up to stage evaluate; its metrics."""
    options = [part for change in changes for part in ("-S", change)]
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    }
    # An experiment leaves its settings in the workspace: begin each from the commit.
    subprocess.run(["git", "reset", "--quiet", "--hard"], cwd=clone, check=True)
    done = subprocess.run(
        ["dvc", "exp", "run", "-f", "-n", name, *options, "evaluate"],
        cwd=clone, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"error: {name} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    found = json.loads((clone / "metrics/evaluate.json").read_text())
    fit = json.loads((clone / "metrics/train/metrics.json").read_text())["fit"]
    return {"mse": found["validation"]["mse"], "best_epoch": fit["best_epoch"]}


def write_page(found: dict[str, dict[str, float]]) -> None:
    """Update docs/method/choosing.md after each change, because a sweep takes long."""
    base = found["defaults"]
    rows: list[dict[str, Any]] = [
        {"change": "the defaults", **{title: f"{mse:.4f}" for title, mse in base.items()}}
    ]
    for change, values in found.items():
        if change != "defaults":
            cells = {t: f"{mse:.4f} ({mse - base[t]:+.4f})" for t, mse in values.items()}
            rows.append({"change": f"`{change}`", **cells})
    replace_generated(PAGE, "sweep", table(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--path", default="data/raw", help="where ml-latest-small.zip lies")
    options = parser.parse_args()
    path = str(Path(options.path).resolve())
    sets = datasets(path)
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        clone = Path(temporary) / "project"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        for number, change in enumerate(("defaults", *CHANGES)):
            own = [] if change == "defaults" else [change]
            if not change.startswith("train.replicas"):
                own.insert(0, REPLICAS)
            row: dict[str, float] = {}
            for which, (title, data) in enumerate(sets.items()):
                began = time.monotonic()
                result = run(clone, f"sweep-{number}-{which}", [*data, *own])
                row[title] = result["mse"]
                print(
                    f"{change}, {title}: validation MSE {result['mse']:.4f}, best epoch "
                    f"{result['best_epoch']} ({time.monotonic() - began:.0f} s)",
                    flush=True,
                )
            found[change] = row
            write_page(found)
    print("wrote docs/method/choosing.md")


if __name__ == "__main__":
    main()
