"""Each stage over growing worlds: `python -m benchmarks.speed.scaling [--ratings 100000 ...]`.

CPU seconds, clock seconds and peak resident memory of stages run as users run them, on planted
worlds with ML-25M's ratings a user, and the growth exponent of the CPU seconds since the size
before. The model is a light one: one replica without history and time, one epoch, batches of
16,384; the inspection trains no second one.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from benchmarks.measuring import ROOT, Row, report
from genre_embeddings.settings import load_yaml

STAGES = ("prepare", "split", "train", "evaluate", "inspect")
SIZES = (100_000, 1_000_000, 10_000_000, 25_000_000, 100_000_000)
PER_USER, PER_MOVIE, FEWEST = 154, 423, 1000
LIGHT = {
    "model": {"dim": 16, "hidden": [64, 32], "history": 0, "time": False},
    "train": {
        "replicas": 1,
        "epochs": 1,
        "min_epochs": 1,
        "batch_size": 16_384,
        "without_genres": False,
    },
}


def write_params(folder: Path, ratings: int) -> None:
    """The committed settings, on a world of so many ratings."""
    content = load_yaml((ROOT / "params.yaml").read_text(encoding="utf-8"))
    users, movies = (max(FEWEST, ratings // per) for per in (PER_USER, PER_MOVIE))
    content["planted"] |= {"users": users, "movies": movies, "ratings": ratings}
    for section, keys in LIGHT.items():
        content[section] |= keys
    (folder / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def measured(folder: Path, *command: str) -> tuple[float, float, float]:
    """CPU seconds, clock seconds and peak memory in GB of a command.

    Raises:
        SystemExit: it failed.
    """
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *command], cwd=folder, stdout=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"error: {' '.join(command)} ended with {process.returncode}.")
    # Linux counts kilobytes, macOS bytes.
    peak = usage.ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - start, peak


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
            folder = Path(name)
            write_params(folder, ratings)
            (folder / "data/raw").mkdir(parents=True)
            for stage in options.stages:
                cpu, wall, peak = measured(folder, "-m", f"stages.{stage}")
                exponent: float | str = ""
                if stage in before:
                    size, spent = before[stage]
                    exponent = math.log(cpu / spent) / math.log(ratings / size)
                before[stage] = ratings, cpu
                rows.append(
                    {
                        "ratings": ratings, "stage": stage, "CPU s": cpu, "clock s": wall,
                        "peak GB": peak, "exponent": exponent,
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
