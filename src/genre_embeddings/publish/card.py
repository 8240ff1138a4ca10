"""The model card: what the trained model is, how good, what for, and where it ends.

Its text, `card.md.jinja`, has the sections of Mitchell et al., "Model cards for model reporting"
(2019), arXiv:1810.03993, and on top the YAML that hubs of models read
(https://huggingface.co/docs/hub/model-cards). Every number comes from the stages' own files, so
that the same run writes the same bytes.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from genre_embeddings import storage
from genre_embeddings.pages import data_name, render
from genre_embeddings.publish.summary import Details
from genre_embeddings.settings import Settings

CARD = storage.METRICS / "card.md"
TEMPLATE = Path(__file__).with_name("card.md.jinja")


def write_card(settings: Settings, details: Details) -> None:
    """Write metrics/card.md.

    Raises:
        InputError: a file of an earlier stage is missing or damaged.
    """
    meta = storage.read_meta()
    model = settings.in_effect(meta.has_time, meta.sessions, details.prepared["genres"])
    kept = storage.flatten(settings.model_dump(mode="json", exclude={"inspect", "tracking"}))
    # Where a person keeps files is nobody's business.
    unused = ("data.path",) if meta.source == "planted" else ("data.path", "planted.")
    parts = details.split["parts"]
    train = settings.train.for_ratings(parts["train"]["ratings"])
    weights = storage.require(storage.MODEL / "model.safetensors")
    ratings = pl.scan_parquet(storage.require(storage.PREPARED / "ratings.parquet"))
    counts = ratings.group_by("movie").len("ratings").collect()["ratings"].sort(descending=True)
    text = render(
        TEMPLATE,
        settings=settings.model_copy(update={"train": train}),
        kept={key: value for key, value in kept.items() if not key.startswith(unused)},
        meta=meta,
        name=data_name(meta.source),
        time=model.time != "none",
        megabytes=weights.stat().st_size / 1e6,
        prepared=details.prepared,
        parts=parts,
        fit=storage.read_json(storage.METRICS / "train/metrics.json")["fit"],
        test=details.evaluated["test"],
        verdict=details.inspected["verdict"],
        agreement=details.inspected.get("agreement", {}),  # absent where nothing could be asked
        movies_of_half=int((counts.cum_sum() * 2 < counts.sum()).sum()) + 1,
        years=_years(ratings) if meta.has_time else [],
        with_genres=model.genres,
    )
    storage.write_text(CARD, text.lstrip("\n"))


def _years(ratings: pl.LazyFrame) -> list[int]:
    """The first and the last year of the ratings, or the only one."""
    time = pl.col("timestamp")
    ends = ratings.select(first=time.min(), last=time.max()).collect().row(0)
    return sorted({datetime.fromtimestamp(end, UTC).year for end in ends})
