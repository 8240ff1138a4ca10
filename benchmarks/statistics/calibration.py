"""How often the inspection errs: `python -m benchmarks.statistics.calibration [--worlds 100]`.

Runs the pipeline on many small worlds whose genre structure is known, and counts the verdicts.
"""

from __future__ import annotations

import io
import math
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"  # before torch starts: processes run side by side

import numpy as np
from scipy.stats import binomtest

from benchmarks.measuring import Row, command_line, report, write_params
from genre_embeddings import storage
from genre_embeddings.inspection.inspect import inspect
from genre_embeddings.inspection.question import gather
from genre_embeddings.inspection.verdict import LINES
from genre_embeddings.settings import load_settings
from stages import prepare, split, train

OUTCOMES = ("pass", "fail", "inconclusive")
KNOWN, RHO = "structure, truth known", "rho with truth"
SMALL = {
    "planted.genres": 10, "model.dim": 8, "model.hidden": [16], "train.replicas": 2,
    "train.epochs": 8, "inspect.permutations": 999, "inspect.bootstrap": 300,
}  # fmt: skip
"""What is changed from params.yaml so that a world takes seconds; thresholds are kept."""
RATINGS = 5000


class Kind(NamedTuple):
    """Worlds of one kind; users, movies and the batch grow with the root of the ratings."""

    name: str
    genre_effect: float
    ratings: int = RATINGS
    movies: int = 100
    """For 5,000 ratings."""
    shuffled: bool = False
    """Whether the genre sets are shuffled across movies before training: all counts and
    co-occurrences stay, and the ratings say nothing about genres."""
    share: float = 1.0
    """How many worlds, as a share of --worlds."""


NULL = (
    Kind("no genre effect", 0.0),
    Kind("no genre effect, 20,000 ratings", 0.0, 4 * RATINGS, share=0.4),
    Kind("no genre effect, five times the movies", 0.0, movies=500, share=0.4),
    Kind("genre sets shuffled", 2.0, shuffled=True, share=0.5),
    Kind("genre sets shuffled, 20,000 ratings", 2.0, 4 * RATINGS, shuffled=True, share=0.4),
)
POWER = tuple(
    Kind(f"effect {effect:g}, {ratings:,} ratings", effect, ratings, share=share)
    for effect, share, most in ((1.0, 0.12, 4), (2.0, 0.08, 3))
    for ratings in (2500, 5000, 10_000, 20_000)[:most]
)


def changes_of(kind: Kind, seed: int) -> dict[str, Any]:
    """What a world of a kind changes in params.yaml, as `section.key`."""
    scale = math.sqrt(kind.ratings / RATINGS)
    return SMALL | {
        "seed": seed, "planted.seed": seed, "planted.genre_effect": kind.genre_effect,
        "planted.users": round(150 * scale), "planted.movies": round(kind.movies * scale),
        "planted.ratings": kind.ratings, "train.batch_size": round(128 * scale),
    }  # fmt: skip


def plant(kind: Kind, seed: int) -> None:
    """Prepare and split a world in the working directory."""
    write_params(Path(), changes_of(kind, seed))
    prepare.main()
    if kind.shuffled:
        path = storage.PREPARED / "movies.parquet"
        movies = storage.read_table(path)
        order = np.random.default_rng([seed, 7]).permutation(movies.height)
        storage.write_table(path, movies.with_columns(movies["genres"].gather(order)))
    split.main()


def inspect_world(kind: Kind, seed: int) -> Row:
    """The verdicts of one world, without the truth and with it, and its agreement with it."""
    said = io.StringIO()
    with (
        tempfile.TemporaryDirectory() as folder,
        chdir(folder), redirect_stdout(said), redirect_stderr(said),
    ):  # fmt: skip
        plant(kind, seed)
        train.main()
        question = gather(load_settings())
        # A user knows no truth, so what counts is the answer without it.
        answer = inspect(replace(question, truth=None)).metrics
        informed = inspect(replace(question, without_genres=None)).metrics
    return {
        **answer["verdict"],
        KNOWN: informed["verdict"]["structure"],
        RHO: storage.flatten(informed).get("agreement.truth.spearman"),
    }


def false_rate(count: int, worlds: int) -> str:
    """A count with its share and the exact 95 % interval of Clopper and Pearson (1934)."""
    around = binomtest(count, worlds).proportion_ci()
    return f"{count} of {worlds} ({around.low:.1%} to {around.high:.1%})"


def null_rows(found: dict[str, list[Row]]) -> Iterator[Row]:
    """Outcomes in worlds without genre structure, with the rate of false passes below."""
    first, worlds = " / ".join(OUTCOMES), sum(len(found[kind.name]) for kind in NULL)
    passes: Counter[str] = Counter()
    for kind in NULL:
        cells: Row = {first: kind.name}
        for line in (*LINES, KNOWN):
            counts = Counter(row[line] for row in found[kind.name])
            passes[line] += counts["pass"]
            cells[line] = "/".join(str(counts[outcome]) for outcome in OUTCOMES)
        yield cells
    rates = {line: false_rate(count, worlds) for line, count in passes.items()}
    yield {first: "false passes (95 % interval)"} | rates


def power_rows(found: dict[str, list[Row]]) -> Iterator[Row]:
    """How often the lines pass in worlds with genre structure, and how well it is found."""
    for kind in POWER:
        rows = found[kind.name]
        cells: Row = {"genre effect": f"{kind.genre_effect:g}", "ratings": kind.ratings}
        cells |= {line: f"{fmean(row[line] == 'pass' for row in rows):.0%}" for line in LINES}
        known = [row[RHO] for row in rows if row[RHO] is not None]
        yield cells | {RHO: f"{fmean(known):.2f}" if known else "-"}


def main() -> None:
    parser = command_line(__doc__, "docs/method/calibration.md")
    parser.add_argument(
        "--worlds", type=int, default=100, help="worlds without a genre effect; fewer of the others"
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    options = parser.parse_args()
    found: dict[str, list[Row]] = {}
    # Forked processes would inherit torch's threads.
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        for kind in (*NULL, *POWER):
            seeds = range(max(1, round(options.worlds * kind.share)))
            found[kind.name] = rows = list(pool.map(inspect_world, [kind] * len(seeds), seeds))
            passes = {line: sum(row[line] == "pass" for row in rows) for line in LINES}
            print(f"{kind.name}: passes of {len(rows)} worlds: {passes}", flush=True)
    report(options.doc, "without", null_rows(found))
    report(options.doc, "with", power_rows(found))


if __name__ == "__main__":
    main()
