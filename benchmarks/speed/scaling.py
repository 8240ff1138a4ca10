"""Each stage over growing worlds: `python -m benchmarks.speed.scaling [--ratings 100000 ...]`.

Clock seconds and peak resident memory of stages run as users run them, on planted worlds with
ML-25M's ratings a user; the growth exponents of the CPU seconds are printed as they are found. The
model is a light one: one replica without history and time, one epoch, batches of 16,384; no second
model is trained.
"""

import math
import tempfile
from pathlib import Path

from benchmarks.measuring import Row, checkout, command_line, machine, report, run_stage

STAGES = ("prepare", "split", "train", "evaluate", "inspect")
SIZES = (100_000, 1_000_000, 10_000_000, 25_000_000, 100_000_000)
PER_USER, PER_MOVIE, FEWEST = 154, 423, 1000
LIGHT = {
    "model.dim": 16, "model.hidden": [64, 32], "model.history": 0, "model.time": "none",
    "train.replicas": 1, "train.epochs": 1, "train.min_epochs": 1, "train.batch_size": 16_384,
    "train.without_genres": False,
}  # fmt: skip


def main() -> None:
    parser = command_line(__doc__, "docs/results/speed.md")
    parser.add_argument("--ratings", type=int, nargs="+", default=SIZES, help="sizes of the world")
    parser.add_argument("--stages", nargs="+", default=STAGES, choices=STAGES)
    options = parser.parse_args()
    hardware = machine()
    rows: list[Row] = []
    before: dict[str, float] = {}
    for ratings in options.ratings:
        row: Row = {"ratings": ratings}
        world = {
            "planted.users": max(FEWEST, ratings // PER_USER),
            "planted.movies": max(FEWEST, ratings // PER_MOVIE),
            "planted.ratings": ratings,
        }
        with tempfile.TemporaryDirectory(prefix="genre-embeddings-") as name:
            folder = Path(name) / "copy"
            checkout(folder, LIGHT | world)
            for stage in options.stages:
                cost = run_stage(folder, stage)
                row[stage] = f"{cost.seconds:.3g}, {cost.peak_bytes / 1e9:.3g}"
                if stage in before:
                    size = ratings / rows[-1]["ratings"]
                    growth = math.log(cost.cpu_seconds / before[stage]) / math.log(size)
                    print(f"{ratings:,} ratings, {stage}: exponent {growth:.3g}", flush=True)
                before[stage] = cost.cpu_seconds
        print(row, flush=True)
        rows.append(row)
    notes = (
        f"`python -m benchmarks.speed.scaling --ratings {' '.join(map(str, options.ratings))}`: "
        f"clock seconds (with start-up) and peak GB. {hardware}."
    )
    report(options.doc, "scaling", rows, notes)


if __name__ == "__main__":
    main()
