"""Nothing of the test ratings, and nothing that is planted, reaches training or its defaults.

The real stages run; then what training must not know is changed, and they run again. The settings
stop early on purpose: an epoch chosen by the test ratings would differ.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from genre_embeddings import storage
from genre_embeddings.data.sources.planted import planted_world
from genre_embeddings.settings import Settings
from stages import prepare, split, train

OWN = Path("own")
STOPPING = {"replicas": 2, "epochs": 30, "min_epochs": 2, "patience": 1, "lr": 0.3}


def use(settings: Settings, **sections: dict) -> None:
    """Write params.yaml."""
    content = settings.model_dump(mode="json")
    content["train"] |= {**STOPPING, "batch_size": 256}
    content["model"] |= {"dim": 4, "hidden": [8]}
    for section, values in sections.items():
        content[section] |= values
    Path("params.yaml").write_text(yaml.safe_dump(content))


def made(*names: str) -> dict[str, bytes]:
    """Bytes of all files in folders."""
    paths = (path for name in names for path in Path(name).rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in paths}


def trained() -> dict[str, bytes]:
    """Train; all that it made."""
    folders = ("models", "data/ablations", "metrics", "plots")
    for name in folders:
        shutil.rmtree(name, ignore_errors=True)
    train.main()
    found = made(*folders)
    assert {"models/model.safetensors", "metrics/train/metrics.json"} <= found.keys()
    assert "data/ablations/without_genres/model.safetensors" in found
    return found


def ratings_of_test() -> pl.DataFrame:
    """The ratings of the test side: user, movie, rating."""
    columns = ("user", "movie", "rating")
    return pl.DataFrame({name: np.load(storage.SPLIT / f"test/{name}.npy") for name in columns})


def poison() -> None:
    test = ratings_of_test().with_columns(rating=pl.lit(5.0, dtype=pl.Float32))
    np.save(storage.SPLIT / "test/rating.npy", test["rating"].to_numpy())
    table = storage.PREPARED / "ratings.parquet"
    whole = pl.read_parquet(table)
    whole.update(test, on=["user", "movie"]).write_parquet(table)
    assert not whole.equals(pl.read_parquet(table))
    for path in (storage.TRUTH, storage.GENOME):
        path.write_text('{"poisoned": true}\n')


def test_training_knows_neither_test_ratings_nor_what_is_planted(in_tmp, settings):
    use(settings)
    prepare.main()
    split.main()
    expected = trained()
    fit = json.loads(expected["metrics/train/metrics.json"])["fit"]
    assert fit["best_epoch"] < fit["epochs"] < STOPPING["epochs"]
    assert json.loads(storage.TRUTH.read_text()) is not None
    poison()
    assert trained() == expected
    # The comparison can fail: a rating that it does know
    column = storage.SPLIT / "validation/rating.npy"
    np.save(column, 5.5 - np.load(column))
    assert trained() != expected


def write_own(ratings: pl.DataFrame, movies: pl.DataFrame) -> None:
    OWN.mkdir(exist_ok=True)
    ratings.write_csv(OWN / "ratings.csv")
    movies.with_columns(pl.col("genres").list.join("|")).write_csv(OWN / "movies.csv")


@pytest.mark.parametrize("strategy", ["random", "temporal", "per_user", "cold_movies"])
def test_no_test_rating_of_the_source_reaches_what_training_reads(in_tmp, settings, strategy):
    world = planted_world(settings.planted)
    ratings = world.ratings.collect()
    write_own(ratings, world.movies)
    use(settings, data={"source": "folder", "path": str(OWN)}, split={"strategy": strategy})

    def run() -> dict[str, bytes]:
        prepare.main()
        split.main()
        return made("data")

    expected = run()
    ids = [pl.read_parquet(storage.PREPARED / f"{name}s.parquet") for name in ("user", "movie")]
    test = ratings_of_test().join(ids[0], on="user").join(ids[1], on="movie")
    on = ["user_id", "movie_id"]
    assert test.height >= 100
    # Every test rating becomes another one of the scale: 0.5 to 5.0, in halves
    poisoned = ratings.update(test.select(*on, rating=5.5 - pl.col("rating")), on=on)
    assert (poisoned["rating"] != ratings["rating"]).sum() == test.height
    write_own(poisoned, world.movies)
    found = run()
    changed = {name for name in expected.keys() | found.keys() if expected[name] != found[name]}
    assert changed == {"data/prepared/ratings.parquet", "data/split/test/rating.npy"}
