"""Files of different runs are not used together: an error names them."""

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from genre_embeddings import storage
from genre_embeddings.errors import InputError
from genre_embeddings.inspection.question import gather
from genre_embeddings.model.serialization import save_model
from genre_embeddings.settings import load_settings
from stages import evaluate, train
from tests.conftest import changed, small_settings
from tests.small import small_world, write_world
from tests.trained import write_settings


def make_run(folder: Path, **model) -> Path:
    """A folder with data, untrained models with and without genres, and no metrics."""
    folder.mkdir()
    world = small_world(small_settings())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_world(world)
        train = world.sides["train"]
        save_model(world.network(**model), train)
        plain = world.network(**model, genres=False)
        save_model(plain, train, storage.ABLATIONS / "without_genres")
        storage.write_json(storage.ABLATIONS / "ablations.json", ["without_genres"])
        write_settings(world.settings)
    return folder


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "first")


@pytest.fixture
def here(first, tmp_path, monkeypatch):
    shutil.copytree(first, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")


def inspect() -> None:
    gather(load_settings())


def fails(one: Path, other: Path, *stages) -> None:
    for stage in stages or (evaluate.main, inspect):
        with pytest.raises(InputError, match="`dvc repro`") as raised:
            stage()
        assert str(raised.value).startswith(f"{one} and {other} are from different runs: ")


def test_a_split_of_other_data(here):
    """Each side comes from a world of the same size; files of one run belong together."""
    inspect()
    world = small_world(small_settings(seed=9))
    storage.write_table(storage.PREPARED / "ratings.parquet", world.tables.ratings)
    fails(storage.SPLIT, storage.PREPARED)
    users = storage.PREPARED / "users.parquet"
    storage.write_table(users, storage.read_table(users).head(9))
    fails(storage.SPLIT, storage.PREPARED, train.main)


def test_sides_of_two_splits_and_a_model_of_another_split(here):
    """Test ratings of another split of the same data: the model was trained on some of them."""
    world = small_world(changed(small_settings(), split={"strategy": "temporal"}))
    for column, values in zip(storage.RATINGS_SCHEMA, world.sides["test"], strict=True):
        storage.write_column(storage.SPLIT / "test" / f"{column}.npy", np.asarray(values))
    fails(storage.SPLIT, storage.PREPARED)
    write_world(world)
    fails(storage.MODEL, storage.SPLIT / "train")


def test_one_rating_that_differs(here):
    """The same pairs of users and movies, so that all indices fit."""
    column = storage.SPLIT / "train" / "rating.npy"
    values = np.load(column)
    values[0] = 5.5 - values[0]
    np.save(column, values)
    fails(storage.SPLIT, storage.PREPARED)
    side, path = storage.read_side("train"), storage.PREPARED / "ratings.parquet"
    key = (pl.col("user") == int(side.user[0])) & (pl.col("movie") == int(side.movie[0]))
    change = pl.when(key).then(float(values[0])).otherwise("rating").cast(pl.Float32)
    storage.write_table(path, storage.read_table(path).with_columns(rating=change))
    fails(storage.MODEL, storage.SPLIT / "train")


def test_movies_with_other_genres(here):
    path = storage.PREPARED / "movies.parquet"
    movies = storage.read_table(path)
    storage.write_table(path, movies.with_columns(genres=movies["genres"].reverse()))
    fails(storage.MODEL, storage.PREPARED)


def test_models_for_comparison_with_other_settings(here, tmp_path):
    other = make_run(tmp_path / "other", hidden=(4,))
    shutil.rmtree(storage.ABLATIONS)
    shutil.copytree(other / storage.ABLATIONS, storage.ABLATIONS)
    fails(storage.MODEL, storage.ABLATIONS / "without_genres", inspect)


def test_a_truth_of_other_genres(here):
    storage.write_json(storage.TRUTH, {"genres": ["Spy"], "similarity": [[1.0]]})
    fails(storage.TRUTH, storage.PREPARED, inspect)
