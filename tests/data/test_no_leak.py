"""Training and its defaults depend neither on the test ratings nor on the planted truth.

The real stages run. Then the test ratings and the truth are changed, and the stages run again. The
settings stop early on purpose: an epoch chosen by the test ratings would differ.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from genre_embeddings import storage
from genre_embeddings.data.sources.planted import planted_world
from stages import prepare, split, train
from tests.conftest import changed
from tests.trained import write_settings

OWN = Path("own")
QUICK = {
    "train": {"replicas": 2, "epochs": 30, "min_epochs": 2, "patience": 1, "lr": 0.3,
              "batch_size": 256},
    "model": {"dim": 4, "hidden": (8,)},
    "data": {"source": "folder", "path": str(OWN)},
}  # fmt: skip


def write_own(ratings: pl.DataFrame, movies: pl.DataFrame) -> None:
    OWN.mkdir(exist_ok=True)
    ratings.write_csv(OWN / "ratings.csv")
    movies.with_columns(pl.col("genres").list.join("|")).write_csv(OWN / "movies.csv")


def made(*names: str) -> dict[str, bytes]:
    """Bytes of all files in folders."""
    paths = (path for name in names for path in Path(name).rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in paths}


def split_data() -> dict[str, bytes]:
    prepare.main()
    split.main()
    return made("data/prepared", "data/split")


def trained() -> dict[str, bytes]:
    folders = ("models", "data/ablations", "metrics", "plots")
    for name in folders:
        shutil.rmtree(name, ignore_errors=True)
    train.main()
    return made(*folders)


@pytest.mark.parametrize("strategy", ["random", "temporal", "per_user", "cold_movies"])
def test_nothing_that_is_held_out_reaches_training(in_tmp, settings, strategy):
    world = planted_world(settings.planted)
    ratings = world.ratings.collect()
    write_settings(changed(settings, **QUICK, split={"strategy": strategy}))
    write_own(ratings, world.movies)
    before = split_data()
    if strategy == "random":
        model = trained()
        fit = json.loads(model["metrics/train/metrics.json"])["fit"]
        assert fit["best_epoch"] < fit["epochs"] < QUICK["train"]["epochs"]
        assert "data/ablations/without_genres/model.safetensors" in model

    # Every test rating becomes another one of the scale: 0.5 to 5.0, in halves
    columns = ("user", "movie", "rating")
    test = pl.DataFrame({name: np.load(storage.SPLIT / f"test/{name}.npy") for name in columns})
    for name in ("user", "movie"):
        test = test.join(pl.read_parquet(storage.PREPARED / f"{name}s.parquet"), on=name)
    on = ["user_id", "movie_id"]
    poisoned = ratings.update(test.select(*on, rating=5.5 - pl.col("rating")), on=on)
    assert (poisoned["rating"] != ratings["rating"]).sum() == test.height >= 100
    write_own(poisoned, world.movies)
    after = split_data()
    differ = {name for name in before.keys() | after.keys() if before[name] != after[name]}
    assert differ == {"data/prepared/ratings.parquet", "data/split/test/rating.npy"}
    if strategy == "random":
        for path in (storage.TRUTH, storage.GENOME):
            path.write_text('{"poisoned": true}\n')
        assert trained() == model
        # The comparison can fail: a rating that it does know
        column = storage.SPLIT / "validation/rating.npy"
        np.save(column, 5.5 - np.load(column))
        assert trained() != model
