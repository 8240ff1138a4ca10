"""How often the inspection errs: `python -m benchmarks.statistics.calibration [--worlds 100]`.

Plants many small worlds of which it is known what there is to be found, trains and inspects each
as the pipeline would, and counts the verdicts.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from statistics import fmean
from typing import Any, NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"  # before torch starts: processes run side by side

import numpy as np
import torch
from scipy.stats import binomtest

from benchmarks.measuring import ROOT, Row, command_line, report
from genre_embeddings import storage
from genre_embeddings.data.sources.planted import planted_world
from genre_embeddings.data.split import assign_sides, parts_of
from genre_embeddings.data.tables import Tables, build_tables, truth_content
from genre_embeddings.evaluation.bias import fit_bias
from genre_embeddings.inspection.inspect import inspect
from genre_embeddings.inspection.question import Question
from genre_embeddings.inspection.verdict import LINES
from genre_embeddings.model.build import build_network, genre_sets
from genre_embeddings.model.network import Network
from genre_embeddings.model.ratings import Ratings
from genre_embeddings.settings import Settings, load_settings
from genre_embeddings.storage import flatten
from genre_embeddings.training.gauge import fit_genres, trained_is_better
from genre_embeddings.training.lightning import fit

OUTCOMES = ("pass", "fail", "inconclusive")
KNOWN, RHO = "structure, truth known", "rho with truth"
SMALL: dict[str, dict[str, Any]] = {
    "planted": {"genres": 10},
    "model": {"dim": 8, "hidden": (16,)},
    "train": {"replicas": 2, "epochs": 8},
    "inspect": {"permutations": 999, "bootstrap": 300},
}
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
    """Whether the genre sets change movies before training: that keeps all counts and
    co-occurrences and leaves no tie to the ratings."""
    share: float = 1.0
    """Of the worlds that are asked for."""


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


def settings_of(kind: Kind, seed: int) -> Settings:
    """The committed settings, made small, for one world of a kind."""
    scale = math.sqrt(kind.ratings / RATINGS)
    content = load_settings(ROOT / "params.yaml").model_dump() | {"seed": seed}
    for name, part in SMALL.items():
        content[name] |= part
    content["planted"] |= {
        "seed": seed, "users": round(150 * scale), "movies": round(kind.movies * scale),
        "ratings": kind.ratings, "genre_effect": kind.genre_effect,
    }  # fmt: skip
    content["train"]["batch_size"] = round(128 * scale)
    return Settings.model_validate(content)


def plant(kind: Kind, settings: Settings) -> tuple[Tables, dict[str, storage.Side], Any]:
    """The tables, sides and truth of a world."""
    source = planted_world(settings.planted)
    if kind.shuffled:
        order = np.random.default_rng([settings.seed, 7]).permutation(source.movies.height)
        moved = source.movies.with_columns(source.movies["genres"].gather(order))
        source = replace(source, movies=moved)
    tables = build_tables(source, settings.data)
    number = assign_sides(
        tables.ratings, tables.users, tables.movies, tables.meta, settings.split, settings.seed
    )
    sides = {name: storage.Side.of(part) for name, part in parts_of(tables.ratings, number)}
    return tables, sides, truth_content(tables.genres, source.truth)


def question(kind: Kind, settings: Settings) -> Question:
    """Plant and train, and put together what the inspection is given in the pipeline."""
    tables, sides, truth = plant(kind, settings)
    train, validation = Ratings.of(sides["train"]), Ratings.of(sides["validation"])
    membership = genre_sets(tables.movies, tables.genres.height)

    def build(genres: bool) -> Network:
        model = settings.model.model_copy(update={"genres": genres})
        chosen = settings.model_copy(update={"model": model})
        return build_network(chosen, train, membership, tables.users.height, tables.meta)

    def trained(genres: bool) -> Network:
        network = build(genres)
        fit(network, train, validation, settings.train, settings.seed, record=False)
        fit_genres(network, train, trained_is_better(network, validation))
        return network.eval()

    learnt, network = sides["train"], trained(genres=True)
    held_out = map(np.concatenate, zip(sides["validation"], sides["test"], strict=True))
    return Question(
        network=network,
        untrained=build(genres=True),
        without_genres=trained(genres=False),
        shuffled_genres=[],
        genres=tables.genres,
        train=learnt,
        held_out=storage.Side(*held_out),
        test=sides["test"],
        baseline=fit_bias(learnt.user, learnt.movie, learnt.rating, network.users, network.unknown),
        truth=truth,
        genome=None,
        settings=settings.inspect,
        random_split=True,
        seed=settings.seed,
    )


def inspect_world(kind: Kind, seed: int) -> Row:
    """The verdicts of one world, without the truth and with it, and its agreement with it."""
    torch.set_num_threads(1)
    asked = question(kind, settings_of(kind, seed))
    # A user knows no truth, so what counts is the answer without it.
    answer = inspect(replace(asked, truth=None)).metrics
    informed = inspect(replace(asked, without_genres=None)).metrics
    return {
        **answer["verdict"],
        KNOWN: informed["verdict"]["structure"],
        RHO: flatten(informed).get("agreement.truth.spearman"),
    }


def false_rate(count: int, worlds: int) -> str:
    """A count with its share and the exact 95 % interval of Clopper and Pearson (1934)."""
    around = binomtest(count, worlds).proportion_ci()
    return f"{count} of {worlds} ({around.low:.1%} to {around.high:.1%})"


def null_rows(found: dict[str, list[Row]]) -> Iterator[Row]:
    """Outcomes in worlds without genre structure, with the rate of false passes below."""
    shown, first = (*LINES, KNOWN), "pass / fail / inconclusive"
    for kind in NULL:
        outcomes = {line: [row[line] for row in found[kind.name]] for line in shown}
        yield {first: kind.name} | {
            line: "/".join(str(said.count(outcome)) for outcome in OUTCOMES)
            for line, said in outcomes.items()
        }
    every = [row for kind in NULL for row in found[kind.name]]
    passes = {line: sum(row[line] == "pass" for row in every) for line in shown}
    yield {first: "false passes (95 % interval)"} | {
        line: false_rate(count, len(every)) for line, count in passes.items()
    }


def power_rows(found: dict[str, list[Row]]) -> Iterator[Row]:
    """How often the lines pass where there is something to find, and how well it is found."""
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
