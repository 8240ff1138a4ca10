"""How the default settings were chosen: `python -m benchmarks.quality.sweep [--path ARCHIVE]`.

Changes one setting at a time, over several data sets, each as a DVC experiment in a clone of the
project. --doc writes the validation errors into docs/method/choosing.md. Two replicas are trained,
unless their number is what changes, to halve the time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measuring import ROOT, Row, replace_generated, table

PAGE = ROOT / "docs/method/choosing.md"
CHANGES = (
    "model.dim=8",
    "model.hidden=[]",
    "model.cross=false", "model.genres=false", "model.embedding=point",
    "model.history=0",
    "model.time=none",
    "train.kl_weight=0.2", "train.kl_weight=0.6",
    "train.lr=0.005", "train.lr=0.02",
    "train.movie_dropout=0.0", "train.movie_dropout=0.2",
    "train.rare_dropout=0.0", "train.rare_dropout=1.0",
    "train.epochs=10", "train.epochs=30",
    "train.replicas=1", "train.replicas=4",
)  # fmt: skip


def run(clone: Path, name: str, changes: list[str]) -> float:
    """The validation error of an experiment, which runs up to stage evaluate."""
    options = [part for change in changes for part in ("-S", change)]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # An experiment leaves its settings in the workspace: begin each from the commit.
    subprocess.run(["git", "reset", "--quiet", "--hard"], cwd=clone, check=True)
    done = subprocess.run(
        ["dvc", "exp", "run", "-f", "-n", name, *options, "evaluate"],
        cwd=clone, env=os.environ | {"PATH": path}, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"error: {name} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    found = json.loads((clone / "metrics/evaluate.json").read_text())
    return float(found["validation"]["mse"])


def rows_of(found: dict[str, dict[str, float]]) -> Iterator[Row]:
    """A row for each change: the error, and how much it differs from that of the defaults."""
    base = found["the defaults"]
    for change, values in found.items():
        cells = {t: f"{mse:.4f} ({mse - base[t]:+.4f})" for t, mse in values.items()}
        if values is base:
            cells = {title: f"{mse:.4f}" for title, mse in values.items()}
        yield {"change": change, **cells}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--path", default="data/raw", help="where ml-latest-small.zip lies")
    parser.add_argument("--changes", nargs="+", default=CHANGES, help="such as model.dim=8")
    parser.add_argument("--doc", action="store_true", help="write docs/method/choosing.md")
    options = parser.parse_args()
    small = ["data.source=ml-latest-small", f"data.path={Path(options.path).resolve()}"]
    data = {
        "planted": [],
        "latest-small": small,
        "latest-small, cold movies": [*small, "split.strategy=cold_movies"],
    }
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        clone = Path(temporary) / "project"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        for change in ("", *options.changes):
            # A later setting of the same key counts.
            settings = ["train.replicas=2", "train.without_genres=false", *filter(None, [change])]
            row = found.setdefault(f"`{change}`" if change else "the defaults", {})
            for title, source in data.items():
                name = f"sweep-{len(found)}-{len(row)}"
                row[title] = run(clone, name, [*source, *settings])
                print(f"{change or 'the defaults'}, {title}: {row[title]:.4f}", flush=True)
            if options.doc:  # after each change, because a sweep takes long
                replace_generated(PAGE, "sweep", table(list(rows_of(found))))


if __name__ == "__main__":
    main()
