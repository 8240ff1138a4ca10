"""Data of odd shapes go through every stage, or are refused with the reason."""

import importlib
import json

import numpy as np
import pytest
import yaml

from tests.conftest import ROOT

QUICK = {
    "data": {"source": "folder"},
    "model": {"dim": 2, "hidden": [4]},
    "train": {"replicas": 2, "epochs": 2, "min_epochs": 1},
    "inspect": {"permutations": 99, "bootstrap": 100},
}


def pipeline(folder, ratings, movies, **split):
    """All stages in the working directory, on a folder of one's own files."""
    content = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for section, values in {**QUICK, "split": split}.items():
        content[section] |= values
    (folder / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    raw = folder / "data/raw"
    raw.mkdir(parents=True)
    lines = [f"{u},{m},{r},{t}" for u, m, r, t in ratings]
    (raw / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + "\n".join(lines) + "\n")
    lines = [f"{m},Title {m},{'|'.join(genres)}" for m, genres in movies]
    (raw / "movies.csv").write_text("movieId,title,genres\n" + "\n".join(lines) + "\n")
    for stage in ("check", "prepare", "split", "train", "evaluate", "inspect"):
        importlib.import_module(f"stages.{stage}").main()
    return {
        name: json.loads((folder / f"metrics/{name}.json").read_text())
        for name in ("prepare", "evaluate", "inspect")
    }


def pairs(users, movies, seed=0, share=0.8):
    rng = np.random.default_rng(seed)
    return [
        (u, m, rng.integers(1, 11) / 2, 1_000_000 + 60 * m)
        for u in range(1, users + 1)
        for m in range(1, movies + 1)
        if rng.random() < share
    ]


GENRES = ["Drama", "Comedy", "War", "Crime"]
ALIKE = [(u, m, 3.0, 0) for u, m, *_ in pairs(20, 20)]


@pytest.mark.parametrize(
    ("ratings", "movies", "genres"),
    [
        (pairs(1, 60), [(m, [GENRES[m % 4]]) for m in range(1, 61)], 4),
        (pairs(80, 1), [(1, ["Drama"])], 1),
        (pairs(20, 20), [(m, []) for m in range(1, 21)], 0),
        (pairs(20, 20), [(m, GENRES) for m in range(1, 21)], 4),
        (pairs(20, 20), [(m, GENRES[: 1 + m // 20]) for m in range(1, 21)], 2),
        (ALIKE, [(m, [GENRES[m % 4]]) for m in range(1, 21)], 4),
    ],
    ids=[
        "one user", "one movie", "no genres", "equal genres", "a genre of one movie",
        "equal ratings",
    ],
)  # fmt: skip
def test_small_shapes_train_and_are_inconclusive(in_tmp, ratings, movies, genres):
    found = pipeline(in_tmp, ratings, movies)
    assert found["prepare"]["genres"] == genres
    assert found["evaluate"]["test"]["rmse"] < (0.5 if ratings is ALIKE else 4)
    assert found["inspect"]["verdict"]["structure"] == "inconclusive"
    json.dumps(found, allow_nan=False)
    assert "inconclusive" in (in_tmp / "plots/report.html").read_text()


def test_movies_that_are_all_cold(in_tmp):
    movies = [(m, [GENRES[m % 4]]) for m in range(1, 41)]
    found = pipeline(in_tmp, pairs(30, 40), movies, strategy="cold_movies")
    test = found["evaluate"]["test"]
    assert test["warm_movies"] == {"ratings": 0}
    assert test["cold_movies"]["ratings"] == test["ratings"]
