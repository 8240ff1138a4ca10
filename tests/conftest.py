"""Shared by all tests: settings shrunk to a world that trains in a second."""

import os
from pathlib import Path

# Batches are small here: a second thread would only wait, and long where tests run side by side.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import polars as pl
import pytest

from genre_embeddings.settings import Settings, load_settings
from genre_embeddings.sources.base import Source

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def settings() -> Settings:
    """The committed settings, on a small planted world."""
    whole = load_settings(ROOT / "params.yaml")
    small = {"users": 80, "movies": 60, "genres": 6, "ratings": 2000}
    return whole.model_copy(update={"planted": whole.planted.model_copy(update=small)})


@pytest.fixture
def in_tmp(tmp_path, monkeypatch):
    """An empty project folder as the working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def source_of(
    ratings: list[tuple], movies: list[tuple], *, has_time: bool = True, **more
) -> Source:
    """A source from rows (user_id, movie_id, rating, timestamp) and (movie_id, title, genres)."""
    ids = pl.String if isinstance(ratings[0][0], str) else pl.Int64
    return Source(
        name="test",
        ratings=pl.LazyFrame(
            ratings,
            schema={
                "user_id": ids,
                "movie_id": pl.String if isinstance(ratings[0][1], str) else pl.Int64,
                "rating": pl.Float32,
                "timestamp": pl.Int64,
            },
            orient="row",
        ),
        movies=pl.DataFrame(
            movies,
            schema={
                "movie_id": pl.String if isinstance(movies[0][0], str) else pl.Int64,
                "title": pl.String,
                "genres": pl.List(pl.String),
            },
            orient="row",
        ),
        scale=(0.5, 5.0),
        has_time=has_time,
        **more,
    )
