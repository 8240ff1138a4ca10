"""The report: verdicts, the usual checks and the heatmaps on one page.

Its text is `report.html.jinja`; here the values are collected that the text names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from genre_embeddings import storage
from genre_embeddings.inspection.charts import draw_curves, draw_heatmap, draw_histogram
from genre_embeddings.inspection.inspect import Answer
from genre_embeddings.inspection.verdict import LINES
from genre_embeddings.pages import data_name, render
from genre_embeddings.settings import DEFAULTS, Settings

TEMPLATE = Path(__file__).with_name("report.html.jinja")
FIRST = ("learnt", "truth", "likelihood", "rival", "model")
"""The heatmaps that say most, in this order; the others follow."""
SHOWN = 4
"""Heatmaps that everyone sees; the others are behind a click."""
MANY = 26
"""Above this many genres, a heatmap has a row to itself."""


def write_report(answer: Answer, settings: Settings, path: Path) -> None:
    """Write the page as a single HTML file that needs nothing from outside.

    Args:
        answer: what the inspection found.
        settings: those of the run.
        path: the page.

    Raises:
        InputError: a file of an earlier stage is missing or damaged.
    """
    meta = storage.read_meta()
    names = storage.read_table(storage.PREPARED / "genres.parquet")["name"].to_list()
    maps = [
        (title, draw_heatmap(title, similarity, names, answer.order, answer.clear.get(title)))
        for title, similarity in answer.matrices.items()
    ]
    maps.sort(key=lambda one: (*FIRST, one[0]).index(one[0]))
    evaluated = storage.read_measured("evaluate")
    page = render(
        TEMPLATE,
        answer=answer,
        settings=settings,
        meta=meta,
        name=data_name(meta.source),
        genres=len(names),
        users=storage.read_table(storage.PREPARED / "users.parquet").height,
        movies=storage.read_table(storage.PREPARED / "movies.parquet").height,
        sides={name: storage.read_side(name).rating.size for name in storage.SIDES},
        changes=_changes(settings, meta.source),
        test=evaluated["test"],
        model=evaluated["model"],
        curves=draw_curves(storage.read_json(storage.PLOTS / "train/loss.json")),
        histogram=draw_histogram(storage.read_json(storage.PLOTS / "evaluate/histogram.json")),
        shown=maps[:SHOWN],
        more=maps[SHOWN:],
        numbers={
            line: storage.flatten(answer.metrics.get(section, {}))
            for line, section in zip(LINES, ("agreement", "stability", "value"), strict=True)
        },
        many=len(names) > MANY,
    )
    with storage.replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _changes(settings: Settings, source: str) -> dict[str, tuple[Any, Any]]:
    """The settings that differ from the defaults: here, and by default.

    Without those that change no result, such as the folder of the data.
    """
    here = storage.flatten(settings.model_dump(mode="json"))
    unused = ["data.source", "data.path", "tracking."] + ["planted."] * (source != "planted")
    return {
        key: (here[key], default)
        for key, default in storage.flatten(DEFAULTS).items()
        if here[key] != default and not key.startswith(tuple(unused))
    }
