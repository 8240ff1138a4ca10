"""Each stage over growing worlds: `python -m benchmarks.speed.scaling [--ratings 100000 ...]`.

Clock seconds and peak resident memory of stages run as users run them, on planted worlds with
ML-25M's ratings a user, and the growth exponent of the CPU seconds since the size before. The model
is a light one: one replica without history and time, one epoch, batches of 16,384; no second model
is trained.
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
    before: dict[str, tuple[int, float]] = {}
    for ratings in options.ratings:
        row: Row = {"ratings": ratings}
        world = {
            "planted.users": max(FEWEST, ratings // PER_USER),
            "planted.movies": max(FEWEST, ratings // PER_MOVIE),
            "planted.ratings": ratings,
        }
        with tempfile.TemporaryDirectory(prefix="genre-embeddings-") as name:
            folder = checkout(Path(name) / "copy", LIGHT | world)
            for stage in options.stages:
                cost = run_stage(folder, stage)
                numbers = [cost.seconds, cost.peak_bytes / 1e9]
                if stage in before:
                    size, spent = before[stage]
                    numbers.append(math.log(cost.cpu_seconds / spent) / math.log(ratings / size))
                before[stage] = ratings, cost.cpu_seconds
                row[stage] = ", ".join(f"{number:.3g}" for number in numbers)
        print(row, flush=True)
        rows.append(row)
    notes = (
        f"`python -m benchmarks.speed.scaling --ratings {' '.join(map(str, options.ratings))}`: "
        "clock seconds (with start-up), peak GB, and the growth exponent of the CPU seconds since "
        f"the size before. {hardware}."
    )
    report(options.doc, "scaling", rows, notes)


if __name__ == "__main__":
    main()
