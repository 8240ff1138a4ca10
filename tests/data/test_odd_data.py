"""Data of odd shapes go through every stage, or are refused with the reason."""

import importlib
import json

import numpy as np
import pytest

from genre_embeddings.settings import load_settings
from tests.conftest import ROOT, changed
from tests.trained import write_settings

QUICK = {
    "data": {"source": "folder"},
    "model": {"dim": 2, "hidden": (4,)},
    "train": {"replicas": 2, "epochs": 2, "min_epochs": 1},
    "inspect": {"permutations": 99, "bootstrap": 100},
}
GENRES = ["Drama", "Comedy", "War", "Crime"]


def one_of_four(movie):
    return GENRES[movie % 4 :][:1]


@pytest.mark.parametrize(
    ("users", "movies", "genres_of", "genres"),
    [
        (1, 60, one_of_four, 4),
        (80, 1, lambda _: GENRES[:1], 1),
        (20, 20, lambda _: [], 0),
        (20, 20, lambda _: GENRES, 4),
        (20, 20, lambda movie: GENRES[: 1 + movie // 20], 2),
        (20, 20, one_of_four, 4),
        (30, 40, one_of_four, 4),
    ],
    ids=[
        "one user", "one movie", "no genres", "equal genres", "a genre of one movie",
        "equal ratings", "cold movies",
    ],
)  # fmt: skip
def test_small_shapes_train_and_are_inconclusive(in_tmp, request, users, movies, genres_of, genres):
    case = request.node.callspec.id
    strategy = "cold_movies" if case == "cold movies" else "random"
    write_settings(
        changed(load_settings(ROOT / "params.yaml"), **QUICK, split={"strategy": strategy})
    )
    rng, raw = np.random.default_rng(0), in_tmp / "data/raw"
    raw.mkdir(parents=True)
    lines = [
        f"{user},{movie},{3 if case == 'equal ratings' else rng.integers(1, 11) / 2},{60 * movie}\n"
        for user in range(1, users + 1)
        for movie in range(1, movies + 1)
        if rng.random() < 0.8
    ]
    (raw / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + "".join(lines))
    lines = [f"{m},Title {m},{'|'.join(genres_of(m))}\n" for m in range(1, movies + 1)]
    (raw / "movies.csv").write_text("movieId,title,genres\n" + "".join(lines))
    for stage in ("check", "prepare", "split", "train", "evaluate", "inspect"):
        importlib.import_module(f"stages.{stage}").main()
    prepared, test, inspected = (
        json.loads((in_tmp / f"metrics/{name}.json").read_text())
        for name in ("prepare", "evaluate", "inspect")
    )
    test = test["test"]
    assert prepared["genres"] == genres
    assert test["rmse"] < (0.5 if case == "equal ratings" else 4)
    if case == "cold movies":
        assert test["warm_movies"] == {"ratings": 0}
        assert test["cold_movies"]["ratings"] == test["ratings"]
    else:
        assert inspected["verdict"]["structure"] == "inconclusive"
        assert "inconclusive" in (in_tmp / "plots/report.html").read_text()
    json.dumps([prepared, test, inspected], allow_nan=False)
