"""Each stage over growing worlds: `python -m benchmarks.speed.scaling [--ratings 100000 ...]`.

CPU seconds, clock seconds and peak resident memory of stages run as users run them, on planted
worlds with ML-25M's ratings a user, and the growth exponent of the CPU seconds since the size
before. The model is a light one: one replica without history and time, one epoch, batches of
16,384; no second model is trained.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.measuring import Row, checkout, report, run_stage

STAGES = ("prepare", "split", "train", "evaluate", "inspect")
SIZES = (100_000, 1_000_000, 10_000_000, 25_000_000, 100_000_000)
PER_USER, PER_MOVIE, FEWEST = 154, 423, 1000


def world(ratings: int) -> dict[str, Any]:
    """Settings of a world of so many ratings."""
    return {
        "planted.users": max(FEWEST, ratings // PER_USER),
        "planted.movies": max(FEWEST, ratings // PER_MOVIE),
        "planted.ratings": ratings,
        "model.dim": 16,
        "model.hidden": [64, 32],
        "model.history": 0,
        "model.time": "none",
        "train.replicas": 1,
        "train.epochs": 1,
        "train.min_epochs": 1,
        "train.batch_size": 16_384,
        "train.without_genres": False,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ratings", type=int, nargs="+", default=SIZES, help="sizes of the world")
    parser.add_argument("--stages", nargs="+", default=STAGES, choices=STAGES)
    parser.add_argument("--doc", action="store_true", help="write docs/results/speed.md")
    options = parser.parse_args()
    rows: list[Row] = []
    before: dict[str, tuple[int, float]] = {}
    for ratings in options.ratings:
        with tempfile.TemporaryDirectory(prefix="genre-embeddings-") as name:
            folder = checkout(Path(name) / "copy", world(ratings))
            for stage in options.stages:
                cost = run_stage(folder, stage)
                exponent: float | str = ""
                if stage in before:
                    size, spent = before[stage]
                    exponent = math.log(cost.cpu_seconds / spent) / math.log(ratings / size)
                before[stage] = ratings, cost.cpu_seconds
                rows.append(
                    {
                        "ratings": ratings, "stage": stage, "CPU s": cost.cpu_seconds,
                        "clock s": cost.seconds, "peak GB": cost.peak_bytes / 1e9,
                        "exponent": exponent,
                    }
                )  # fmt: skip
                print(rows[-1], flush=True)
    sizes = " ".join(map(str, options.ratings))
    notes = (
        f"`python -m benchmarks.speed.scaling --ratings {sizes} "
        f"--stages {' '.join(options.stages)}`. "
        "Start-up is within the seconds, so that exponents mean something from a million on."
    )
    report("scaling", notes, rows, options.doc)


if __name__ == "__main__":
    main()
