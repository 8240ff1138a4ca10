"""Fixtures of all tests: small settings, a small world, a trained model and real projects."""

import os
from pathlib import Path
from typing import Any

# Batches are small here: a second thread would only wait, and long where tests run side by side.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import polars as pl
import pytest

from genre_embeddings.data.sources.base import Source
from genre_embeddings.settings import Settings, load_settings
from tests.project import ROOT, Project, reproduced, shared, stages_run


def changed(settings: Settings, **sections: dict[str, Any]) -> Settings:
    """The settings with some keys of some sections changed, unchecked."""
    update = {
        name: getattr(settings, name).model_copy(update=keys) for name, keys in sections.items()
    }
    return settings.model_copy(update=update)


def small_settings(**planted: int) -> Settings:
    """The committed settings, on a small planted world, and with all inputs of the network."""
    small = {"users": 80, "movies": 60, "genres": 6, "ratings": 2000}
    whole = load_settings(ROOT / "params.yaml")
    return changed(whole, planted=small | planted, model={"time": "near"})


@pytest.fixture
def settings() -> Settings:
    """The committed settings, on a small planted world."""
    return small_settings()


@pytest.fixture
def in_tmp(tmp_path, monkeypatch):
    """An empty project folder as the working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def world(settings):
    """A small world in memory, prepared and split."""
    from tests.small import small_world  # which imports this module

    return small_world(settings)


@pytest.fixture
def written(world, in_tmp):
    """The same, written in the working directory as stages prepare and split do."""
    from tests.small import write_world

    write_world(world)
    return world


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder with a small trained model: never to be changed."""
    from tests.trained import train_project  # which imports this module

    return train_project(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The reproduced project, results committed: never to be changed."""
    return reproduced(tmp_path_factory)


@pytest.fixture(scope="session")
def compared(base: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The reproduced project, with experiments `wide` (dim 8) and `shrunk` (199 permutations)."""

    def make(folder: Path) -> None:
        project = base.copy(folder)
        wide = project.dvc("exp", "run", "-n", "wide", "-S", "model.dim=8")
        assert stages_run(wide) == ["check", "train", "evaluate", "inspect", "publish"]
        assert "Ran experiment(s): wide" in wide
        project.git("checkout", "--quiet", ".")
        shrunk = project.dvc("exp", "run", "-n", "shrunk", "-S", "inspect.permutations=199")
        assert stages_run(shrunk) == ["check", "inspect", "publish"]
        project.git("checkout", "--quiet", ".")

    return shared(tmp_path_factory, "compared", make)


@pytest.fixture
def project(base: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy of the reproduced project, as the working directory."""
    copied = base.copy(tmp_path / "project")
    monkeypatch.chdir(copied.folder)
    return copied


def source_of(
    ratings: list[tuple], movies: list[tuple], *, has_time: bool = True, **more
) -> Source:
    """A source from rows (user_id, movie_id, rating, timestamp) and (movie_id, title, genres)."""

    def ids(one: object) -> pl.DataType:
        return pl.String() if isinstance(one, str) else pl.Int64()

    of_ratings = {
        "user_id": ids(ratings[0][0]), "movie_id": ids(ratings[0][1]),
        "rating": pl.Float32(), "timestamp": pl.Int64(),
    }  # fmt: skip
    of_movies = {"movie_id": ids(movies[0][0]), "title": pl.String(), "genres": pl.List(pl.String)}
    return Source(
        name="test",
        ratings=pl.LazyFrame(ratings, schema=of_ratings, orient="row"),
        movies=pl.DataFrame(movies, schema=of_movies, orient="row"),
        scale=(0.5, 5.0),
        has_time=has_time,
        **more,
    )
