"""How often the inspection errs: `python -m benchmarks.statistics.calibration [--worlds 100]`.

Plants many small worlds of which it is known what there is to be found, trains and inspects each
as the pipeline would, and counts the verdicts. --doc writes docs/method/calibration.md.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from statistics import fmean
from time import monotonic
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch starts: processes run side by side

import numpy as np
import torch
from scipy.stats import binomtest

from benchmarks.measuring import ROOT, Row, replace_generated, table
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
from genre_embeddings.storage import value_at
from genre_embeddings.training.gauge import fit_genres
from genre_embeddings.training.lightning import fit

PAGE = "docs/method/calibration.md"
OUTCOMES = ("pass", "fail", "inconclusive")

SMALL: dict[str, dict[str, Any]] = {
    "planted": {"genres": 10},
    "model": {"dim": 8, "hidden": (16,)},
    "train": {"replicas": 2, "epochs": 8},
    "inspect": {"permutations": 999, "bootstrap": 300},
}
"""What is changed from params.yaml so that a world takes seconds; thresholds are kept."""
RATINGS = 5000


@dataclass(frozen=True)
class Kind:
    """Worlds of one kind.

    Attributes:
        name: what they are called on the page.
        genre_effect: how much of the taste follows genres.
        ratings: how many ratings; users and movies grow with their root.
        movies: how many movies, for 5,000 ratings.
        shuffled: whether the genre sets change movies before anything is trained, which keeps
            all counts and co-occurrences and leaves no tie to the ratings.
        share: of the worlds that are asked for.
    """

    name: str
    genre_effect: float
    ratings: int = RATINGS
    movies: int = 100
    shuffled: bool = False
    share: float = 1.0


NULL = (
    Kind("no genre effect", 0.0),
    Kind("no genre effect, 20,000 ratings", 0.0, 4 * RATINGS, share=0.4),
    Kind("no genre effect, five times the movies", 0.0, movies=500, share=0.4),
    Kind("genre sets shuffled", 2.0, shuffled=True, share=0.5),
    Kind("genre sets shuffled, 20,000 ratings", 2.0, 4 * RATINGS, shuffled=True, share=0.4),
)
POWER = tuple(
    Kind(f"effect {effect:g}, {ratings:,} ratings", effect, ratings, share=share)
    for effect, share in ((1.0, 0.12), (2.0, 0.08))
    for ratings in (2500, 5000, 10_000, 20_000, 40_000, 80_000)
)


def settings_of(kind: Kind, seed: int) -> Settings:
    """The committed settings, made small, for one world of a kind."""
    scale = math.sqrt(kind.ratings / RATINGS)
    content = load_settings(ROOT / "params.yaml").model_dump() | {"seed": seed}
    for name, part in SMALL.items():
        content[name] |= part
    content["planted"] |= {
        "seed": seed,
        "users": round(150 * scale),
        "movies": round(kind.movies * scale),
        "ratings": kind.ratings,
        "genre_effect": kind.genre_effect,
    }
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
        fit_genres(network, train)
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
    """The verdicts and numbers of one world, without the truth and with it."""
    torch.set_num_threads(1)
    began = monotonic()
    asked = question(kind, settings_of(kind, seed))
    # A user knows no truth, so what counts is the answer without it.
    answer = inspect(replace(asked, truth=None))
    informed = inspect(replace(asked, without_genres=None))
    return {
        **answer.metrics["verdict"],
        "structure, truth known": informed.metrics["verdict"]["structure"],
        "metrics": answer.metrics,
        "truth": informed.metrics["agreement"]["truth"]["spearman"],
        "seconds": monotonic() - began,
    }


def false_rate(count: int, worlds: int) -> str:
    """A count with its share and the exact 95 % interval of Clopper and Pearson (1934)."""
    around = binomtest(count, worlds).proportion_ci()
    return f"{count} of {worlds} ({around.low:.1%} to {around.high:.1%})"


def passed(row: Row) -> bool:
    """Whether all three lines pass."""
    return all(row[line] == "pass" for line in LINES)


def _mean(rows: Sequence[Row], name: str) -> str:
    """The mean of a number over the worlds that have it."""
    values = [value for row in rows if (value := value_at(row, name)) is not None]
    return f"{fmean(values):.2f}" if values else "-"


def null_rows(found: dict[str, list[Row]]) -> Iterator[Row]:
    """Outcomes in worlds without genre structure, with the rate of false passes below."""
    shown = (*LINES, "structure, truth known")
    everything = [row for kind in NULL for row in found[kind.name]]
    for name, rows in [(kind.name, found[kind.name]) for kind in NULL] + [("all", everything)]:
        counts = {
            line: [sum(row[line] == outcome for row in rows) for outcome in OUTCOMES]
            for line in shown
        }
        cells = {line: "/".join(map(str, counts[line])) for line in shown}
        together = sum(map(passed, rows))
        yield {"pass / fail / inconclusive": name, **cells, "all three pass": together}
    worlds = len(everything)
    rates = {line: false_rate(counts[line][0], worlds) for line in shown} | {"stability": "-"}
    name = "false passes (95 % interval)"
    whole = false_rate(together, worlds)
    yield {"pass / fail / inconclusive": name, **rates, "all three pass": whole}


def power_rows(found: dict[str, list[Row]]) -> Iterator[Row]:
    """How often the lines pass where there is something to find, and how well it is found."""
    for kind in POWER:
        rows = found[kind.name]
        shares = {
            line: fmean(row[line] == "pass" for row in rows)
            for line in ("structure", "structure, truth known", "stability", "value")
        }
        numbers = {
            "rho with truth": "truth",
            "rho with evidence": "metrics.agreement.likelihood.spearman",
            "its ceiling": "metrics.agreement.likelihood.ceiling",
            "rho of replicas": "metrics.stability.spearman",
        }
        yield {
            "genre effect": f"{kind.genre_effect:g}",
            "ratings": kind.ratings,
            "worlds": len(rows),
            **{line: f"{share:.0%}" for line, share in shares.items()},
            "all three": f"{fmean(map(passed, rows)):.0%}",
            **{label: _mean(rows, name) for label, name in numbers.items()},
        }


def gather(worlds: int, jobs: int) -> dict[str, list[Row]]:
    """The rows of all kinds."""
    found: dict[str, list[Row]] = {}
    # Forked processes would inherit torch's threads.
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        for kind in (*NULL, *POWER):
            seeds = range(max(1, round(worlds * kind.share)))
            rows = list(pool.map(inspect_world, [kind] * len(seeds), seeds))
            passes = {line: sum(row[line] == "pass" for row in rows) for line in LINES}
            print(f"{kind.name}: passes of {len(rows)} worlds: {passes}", flush=True)
            found[kind.name] = rows
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--worlds", type=int, default=100, help="worlds without a genre effect; fewer of the others"
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--doc", action="store_true", help=f"write {PAGE}")
    options = parser.parse_args()
    found = gather(options.worlds, options.jobs)
    seconds = sum(row["seconds"] for rows in found.values() for row in rows)
    print(f"{sum(map(len, found.values()))} worlds took {seconds / 60:.0f} minutes")
    for name, rows in {"without": null_rows(found), "with": power_rows(found)}.items():
        text = table(list(rows))
        print(f"\n{text}")
        if options.doc:
            replace_generated(ROOT / PAGE, name, text)


if __name__ == "__main__":
    main()
