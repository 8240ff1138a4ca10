"""The report: verdicts, the usual checks and the heatmaps on one page, `report.html.jinja`."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np

from genre_embeddings import storage
from genre_embeddings.figures import FADED, cut, draw_curves
from genre_embeddings.inspection.inspect import Answer
from genre_embeddings.pages import data_name, render, setting_text
from genre_embeddings.settings import DEFAULTS, Settings

TEMPLATE = Path(__file__).with_name("report.html.jinja")


def write_report(answer: Answer, settings: Settings) -> None:
    """Write plots/report.html, a single file that needs nothing from outside.

    Raises:
        InputError: a file of an earlier stage is missing or damaged.
    """
    meta = storage.read_meta()
    users, movies, genres = (
        storage.read_table(storage.PREPARED / f"{name}.parquet")
        for name in ("users", "movies", "genres")
    )
    names = list(answer.genres)
    changes = _changes(settings, meta.source)
    title = [data_name(meta.source), *(f"{key} {here}" for key, (here, _) in changes.items())]
    evaluated = storage.read_measured("evaluate")
    page = render(
        TEMPLATE,
        answer=answer,
        settings=settings,
        meta=meta,
        name=title[0],
        title=", ".join(title[:4] + [f"{len(title) - 4} more"] * (len(title) > 4)),
        counts={"users": users.height, "movies": movies.height, "genres": genres.height},
        parts={name: storage.read_side(name).rating.size for name in storage.SIDES},
        changes=changes,
        test=evaluated["test"],
        model=evaluated["model"],
        curves=draw_curves(storage.read_json(storage.PLOTS / "train/loss.json")),
        histogram=storage.require(storage.PLOTS / "evaluate/histogram.png").read_bytes(),
        labels=[cut(names[k]) for k in answer.order],
        maps={
            name: _cells(similarity, answer.unsure.get(name), names, answer.order)
            for name, similarity in answer.matrices.items()
        },
        numbers=storage.flatten(answer.metrics),
    )
    storage.write_text(storage.REPORT, page)


def _cells(
    similarity: np.ndarray, unsure: np.ndarray | None, names: list[str], order: list[int]
) -> list[tuple[str, float, str]]:
    """Of each cell of a heatmap, row by row: classes of the stylesheet, % of colour, and text."""
    cells = []
    for b, a in product(order, order):
        value, pair = float(similarity[a, b]), f"{names[a]}, {names[b]}"
        if np.isnan(value):
            cells.append(("unknown", 0.0, f"{pair}: not known"))
            continue
        kind, share, said = "up" if value > 0 else "down", 100 * min(abs(value), 1), ""
        if unsure is not None and unsure[a, b]:
            kind, share, said = f"{kind} dot", FADED * share, " (the interval includes zero)"
        cells.append((kind, share, f"{pair}: {value:.2f}{said}"))
    return cells


def _changes(settings: Settings, source: str) -> dict[str, tuple[str, str]]:
    """The settings that differ from the defaults: here, and by default.

    Without those that change no result, such as the folder of the data.
    """
    here, default = (storage.flatten(one) for one in (settings.model_dump(mode="json"), DEFAULTS))
    unused = ["data.source", "data.path", "tracking."] + ["planted."] * (source != "planted")
    return {
        key: (setting_text(here[key]), setting_text(value))
        for key, value in default.items()
        if here[key] != value and not key.startswith(tuple(unused))
    }
