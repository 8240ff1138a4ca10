"""The model card: what the trained model is, how good, what for, and where it ends.

Its text, `card.md.jinja`, has the sections of Mitchell et al., "Model cards for model reporting"
(2019), arXiv:1810.03993, and on top the YAML that hubs of models read
(https://huggingface.co/docs/hub/model-cards). Every number comes from the stages' own files, so
that the same run writes the same bytes.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from genre_embeddings import storage
from genre_embeddings.pages import data_name, render
from genre_embeddings.publish.summary import Details
from genre_embeddings.settings import Settings

CARD = storage.METRICS / "card.md"
TEMPLATE = Path(__file__).with_name("card.md.jinja")
GROUPLENS = "https://grouplens.org/datasets/movielens/"
FEWEST = 30
"""Test ratings below which a group's error is not worth a line."""

Rows = list[dict[str, Any]]


def write_card(settings: Settings, details: Details) -> None:
    """Write metrics/card.md.

    Raises:
        InputError: a file of an earlier stage is missing or damaged.
    """
    text = render(TEMPLATE, **gather(settings, details)).lstrip("\n")
    with storage.replacing(CARD) as temporary:
        temporary.write_text(text, encoding="utf-8")


def gather(settings: Settings, details: Details) -> dict[str, Any]:
    """Everything that the card's text names, from the stages' files."""
    users, movies, genres = (
        storage.read_table(storage.PREPARED / f"{name}.parquet")
        for name in ("users", "movies", "genres")
    )
    meta = storage.read_meta()
    prepared, split, evaluated, inspected = details
    weights = storage.require(storage.MODEL / "model.safetensors")
    model = settings.in_effect(meta.has_time, meta.sessions, genres.height)
    kept = settings.model_dump(mode="json", exclude={"inspect", "tracking"})
    del kept["data"]["path"]  # where a person keeps files is nobody's business
    if meta.source != "planted":
        del kept["planted"]
    counts, years = _ratings(meta)
    parts = split["parts"]
    train = settings.train.for_ratings(parts["train"]["ratings"])
    return {
        "settings": settings.model_copy(update={"train": train}),
        "kept": kept,
        "meta": meta,
        "source": meta.source,
        "name": data_name(meta.source),
        "grouplens": GROUPLENS,
        "time": model.time != "none",
        "megabytes": weights.stat().st_size / 1e6,
        "prepared": prepared,
        "parts": parts,
        "fit": storage.read_json(storage.METRICS / "train/metrics.json")["fit"],
        "test": evaluated["test"],
        "support": _support(storage.read_json(storage.PLOTS / "evaluate/support.json")),
        "extremes": _extremes(storage.read_json(storage.PLOTS / "evaluate/genres.json")),
        "verdict": inspected["verdict"],
        "open_lines": [line for line, word in inspected["verdict"].items() if word != "pass"],
        # Where the inspection could ask nothing, it leaves them out.
        **{part: inspected.get(part, {}) for part in ("agreement", "stability", "value")},
        "popular": _movies_of_half(counts["ratings"]),
        "median": counts["ratings"][counts.height // 2],
        "years": years,
        "genres": "1 genre" if genres.height == 1 else f"{genres.height} genres",
        # For examples: somebody, a movie and a genre that many rated
        "user": users["user_id"][0],
        "movie": movies["movie_id"][counts["movie"][0]],
        "genre": genres.sort("ratings", descending=True, maintain_order=True)["name"][0]
        if model.genres
        else None,
    }


def _ratings(meta: storage.Meta) -> tuple[pl.DataFrame, list[int]]:
    """Ratings of each movie, most first, and the first and last year, where there are times."""
    ratings = pl.scan_parquet(storage.require(storage.PREPARED / "ratings.parquet"))
    counts = ratings.group_by("movie").len("ratings").collect()
    years = []
    if meta.has_time:
        time = pl.col("timestamp")
        ends = ratings.select(first=time.min(), last=time.max()).collect().row(0)
        years = sorted({datetime.fromtimestamp(end, UTC).year for end in ends})
    return counts.sort("ratings", "movie", descending=[True, False]), years


def _movies_of_half(ratings: pl.Series) -> int:
    """How many movies, the most rated first, it takes for half of all ratings."""
    return int((ratings.cum_sum() * 2 < ratings.sum()).sum()) + 1


def _support(rows: Rows) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """For movies and users, the errors of those with fewest and with most training ratings."""
    found = []
    for kind in ("movie", "user"):
        large = [r for r in rows if r["kind"] == f"ratings of the {kind}" and r["count"] >= FEWEST]
        if len(large) > 1:
            found.append((f"{kind.capitalize()}s", large[0], large[-1]))
    return found


def _extremes(rows: Rows) -> Rows:
    """The genres of lowest and highest error; none where there are fewer than two."""
    large = sorted((r for r in rows if r["ratings"] >= FEWEST), key=lambda row: row["rmse"])
    return [large[0], large[-1]] if len(large) > 1 else []
