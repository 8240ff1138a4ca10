"""How often the inspection errs: `python -m benchmarks.statistics.calibration [--worlds 100]`.

Plants many small worlds of which it is known what there is to be found, trains and inspects each
as the pipeline would, counts the verdicts, and writes docs/method/calibration.md with its picture.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from time import monotonic
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch starts: processes run side by side

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.stats import binomtest

from benchmarks.measuring import ROOT, Row, replace_generated, table
from genre_embeddings import storage
from genre_embeddings.data.sources.planted import planted_world
from genre_embeddings.data.split import assign_sides, parts_of
from genre_embeddings.data.tables import Tables, build_tables, truth_content
from genre_embeddings.evaluation.bias import fit_bias
from genre_embeddings.figures import picture
from genre_embeddings.inspection.inspect import inspect
from genre_embeddings.inspection.question import Question
from genre_embeddings.model.build import build_network, genre_sets
from genre_embeddings.model.network import Network
from genre_embeddings.model.ratings import Ratings
from genre_embeddings.settings import Settings, load_settings
from genre_embeddings.training.gauge import fit_genres
from genre_embeddings.training.lightning import fit

PAGE, PICTURE = "docs/method/calibration.md", "docs/images/calibration-power.png"
LINES = ("structure", "stability", "value")
EVIDENCE, CEILING = (("structure", f"likelihood.{name}") for name in ("spearman", "ceiling"))
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
    whole = load_settings(ROOT / "params.yaml")
    scale = math.sqrt(kind.ratings / RATINGS)
    changes = {name: dict(part) for name, part in SMALL.items()}
    changes["planted"] |= {
        "seed": seed,
        "users": round(150 * scale),
        "movies": round(kind.movies * scale),
        "ratings": kind.ratings,
        "genre_effect": kind.genre_effect,
    }
    changes["train"]["batch_size"] = round(128 * scale)
    sections = {
        name: getattr(whole, name).model_copy(update=part) for name, part in changes.items()
    }
    return Settings.model_validate(whole.model_copy(update={"seed": seed, **sections}).model_dump())


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

    def build(sets: torch.Tensor | None) -> Network:
        model = settings.model.model_copy(update={"genres": sets is not None})
        chosen = settings.model_copy(update={"model": model})
        shown = membership if sets is None else sets
        return build_network(chosen, train, shown, tables.users.height, tables.meta)

    def retrain(sets: torch.Tensor | None) -> Network:
        network = build(sets)
        fit(network, train, validation, settings.train, settings.seed, record=False)
        fit_genres(network, train)
        return network.eval()

    learnt, network = sides["train"], retrain(membership)
    return Question(
        network=network,
        untrained=build(membership),
        without_genres=retrain(None),
        shuffled_genres=[],
        movies=tables.movies,
        genres=tables.genres,
        train=learnt,
        held_out=storage.Side(
            *map(np.concatenate, zip(sides["validation"], sides["test"], strict=True))
        ),
        test=sides["test"],
        baseline=fit_bias(learnt.user, learnt.movie, learnt.rating, network.users, network.unknown),
        truth=truth,
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
    row: Row = {"kind": kind.name, "seed": seed, "ratings": kind.ratings}
    row |= {verdict.line: verdict.outcome for verdict in answer.verdicts}
    row["structure, truth known"] = informed.verdicts[0].outcome
    row["reason"] = answer.verdicts[0].reason
    row["numbers"] = {v.line: v.numbers for v in answer.verdicts}
    row["truth"] = informed.metrics["agreement"]["truth"]["spearman"]
    return row | {"seconds": monotonic() - began}


def false_rate(count: int, worlds: int) -> str:
    """A count with its share and the exact 95 % interval of Clopper and Pearson (1934)."""
    around = binomtest(count, worlds).proportion_ci()
    return f"{count} of {worlds} ({around.low:.1%} to {around.high:.1%})"


def passed(row: Row) -> bool:
    """Whether all three lines pass."""
    return all(row[line] == "pass" for line in LINES)


def _known(rows: Sequence[Row], line: str, number: str) -> list[float]:
    """A number behind a line, of the worlds that have it."""
    values = [row["numbers"][line].get(number) for row in rows]
    return [value for value in values if value is not None]


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
            "rho with truth": [row["truth"] for row in rows if row["truth"] is not None],
            "rho with evidence": _known(rows, *EVIDENCE),
            "its ceiling": _known(rows, *CEILING),
            "rho of replicas": _known(rows, "stability", "spearman"),
        }
        yield {
            "genre effect": f"{kind.genre_effect:g}",
            "ratings": kind.ratings,
            "worlds": len(rows),
            **{line: f"{share:.0%}" for line, share in shares.items()},
            "all three": f"{fmean(map(passed, rows)):.0%}",
            **{name: f"{fmean(values):.2f}" if values else "-" for name, values in numbers.items()},
        }


def draw(found: dict[str, list[Row]], path: Path) -> None:
    """Passes, and agreement with the truth, against the number of ratings."""
    with picture(path, 10, 4) as figure:
        _draw(figure, found)


def _draw(figure: Figure, found: dict[str, list[Row]]) -> None:
    left, right = figure.subplots(1, 2)
    for effect, style in ((1.0, "o-"), (2.0, "s--")):
        kinds = [kind for kind in POWER if kind.genre_effect == effect]
        ratings = [kind.ratings for kind in kinds]
        for line, colour in zip(LINES, ("#0072b2", "#d55e00", "#009e73"), strict=True):
            shares = [fmean(row[line] == "pass" for row in found[kind.name]) for kind in kinds]
            left.plot(ratings, shares, style, color=colour, label=f"{line}, effect {effect:g}")
        curves = {
            "truth": [[row["truth"] for row in found[kind.name]] for kind in kinds],
            "evidence": [
                _known(found[kind.name], "structure", "likelihood.spearman") for kind in kinds
            ],
            "ceiling": [
                _known(found[kind.name], "structure", "likelihood.ceiling") for kind in kinds
            ],
        }
        labels = {
            "truth": "with truth",
            "evidence": "with evidence",
            "ceiling": "ceiling of the evidence",
        }
        for (name, values), colour in zip(
            curves.items(), ("#0072b2", "#d55e00", "#7f7f7f"), strict=True
        ):
            means = [fmean(part) if part else math.nan for part in values]
            label = f"{labels[name]}, effect {effect:g}"
            right.plot(ratings, means, style, color=colour, label=label)
    left.set(title="Share of worlds that pass", xlabel="ratings", ylim=(-0.05, 1.05))
    right.set(title="Spearman's rho", xlabel="ratings", ylim=(-0.05, 1.05))
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xticks(ratings, [f"{count / 1000:g}k" for count in ratings])
        axes.minorticks_off()
        axes.legend(frameon=False, fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)


def page(found: dict[str, list[Row]], worlds: int, seconds: float) -> Iterator[str]:
    """The generated part of docs/method/calibration.md."""
    changes = ", ".join(
        f"`{section}.{key}` {list(value) if isinstance(value, tuple) else value}"
        for section, part in SMALL.items()
        for key, value in part.items()
    )
    planted = sum(map(len, found.values()))
    yield f"Command: `python -m benchmarks.statistics.calibration --worlds {worlds}`. It took"
    yield f"{seconds / 60:.0f} minutes on one core for {planted} planted worlds. To save time,"
    yield f"these settings differ from the defaults: {changes}."
    yield f"A world of {RATINGS:,} ratings has 150 users and 100 movies and is trained in batches"
    yield "of 128; all three grow with the square root of the number of ratings."
    yield ""
    yield "## Worlds without genre structure"
    yield ""
    yield table(list(null_rows(found)))
    yield ""
    yield "Stability has no false passes: replicas can agree even where genres have no effect."
    yield ""
    yield "## Worlds with genre structure"
    yield ""
    yield table(list(power_rows(found)))
    yield ""
    yield f"![Passes and agreement by ratings](../{Path(PICTURE).relative_to('docs')})"


def gather(worlds: int, jobs: int, kept: Path | None) -> dict[str, list[Row]]:
    """The rows of all kinds; those that `kept` holds are not made again, new ones are added."""
    rows: list[Row] = []
    if kept and kept.exists():
        rows = [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()]
    have = {(row["kind"], row["seed"]) for row in rows}
    found: dict[str, list[Row]] = {}
    # Forked processes would inherit torch's threads.
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        for kind in (*NULL, *POWER):
            wanted = range(max(1, round(worlds * kind.share)))
            fresh = [seed for seed in wanted if (kind.name, seed) not in have]
            began = monotonic()
            new = []
            for row in pool.map(inspect_world, [kind] * len(fresh), fresh):
                new.append(row)
                if kept:
                    with kept.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(row) + "\n")
            rows += new
            own = [row for row in rows if row["kind"] == kind.name and row["seed"] in wanted]
            found[kind.name] = sorted(own, key=lambda row: int(row["seed"]))
            counts = ", ".join(
                f"{line} {sum(row[line] == 'pass' for row in own)}" for line in LINES
            )
            print(
                f"{kind.name}: passes of {len(own)} worlds: {counts} ({monotonic() - began:.0f} s)",
                flush=True,
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--worlds", type=int, default=100, help="worlds without a genre effect; fewer of the others"
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument(
        "--rows", type=Path, help="keep each world's numbers here, and go on from there"
    )
    options = parser.parse_args()
    found = gather(options.worlds, options.jobs, options.rows)
    seconds = sum(row["seconds"] for rows in found.values() for row in rows)
    draw(found, ROOT / PICTURE)
    text = "\n".join(page(found, options.worlds, seconds))
    replace_generated(ROOT / PAGE, "calibration", text)
    print(f"wrote {PAGE} and {PICTURE}")


if __name__ == "__main__":
    main()
