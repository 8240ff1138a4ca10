"""Errors, tables and curves of a handful of predictions, with answers worked out by hand."""

import numpy as np
import polars as pl
import pytest

from genre_embeddings.baselines import BiasModel
from genre_embeddings.evaluation import Predicted, evaluate

MOVIES = pl.DataFrame({"movie": [0, 1, 2], "genres": [[0], [0, 1], []]}).with_columns(
    pl.col("genres").cast(pl.List(pl.UInt32))
)
GENRES = pl.DataFrame({"genre": [0, 1], "name": ["Comedy", "War"]})
SCALE = (0.5, 5.0)


def predicted(user, movie, rating, mean):
    return Predicted(
        np.array(user),
        np.array(movie),
        np.array(rating, np.float32),
        np.array(mean, np.float32),
        np.full(len(user), 1.0, np.float32),
    )


@pytest.fixture
def result():
    train = predicted([0, 0, 1], [0, 1, 0], [3, 4, 5], [3, 4, 4])
    test = predicted([0, 1, 1, 1], [0, 0, 1, 2], [4, 4, 2, 3], [3, 4, 4, 3])
    baseline = BiasModel(4.0, np.array([-1.0, 1.0]), np.array([0.0, 0.0, 2.0]))
    return evaluate(
        {"train": train, "validation": train, "test": test}, baseline, MOVIES, GENRES, SCALE, 0
    )


def test_errors_of_each_side(result):
    assert result.metrics["error"]["train"]["mse"] == pytest.approx(1 / 3)
    test = result.metrics["test"]
    assert (test["mse"], test["mae"]) == pytest.approx((5 / 4, 3 / 4))
    assert test["rmse_low"] <= test["rmse"] <= test["rmse_high"]


def test_warm_and_cold_movies_apart(result):
    assert result.metrics["test"]["warm_movies"]["mse"] == pytest.approx(5 / 3)
    assert result.metrics["test"]["cold_movies"] == {
        "ratings": 1,
        "mse": 0.0,
        "rmse": 0.0,
        "mae": 0.0,
    }


def test_skill_over_baselines_that_stay_on_the_scale(result):
    rivals = result.metrics["test"]["baselines"]
    assert rivals["global_mean"]["mse"] == pytest.approx((0 + 0 + 4 + 1) / 4)
    assert rivals["global_mean"]["skill"] == pytest.approx(0.0)
    # 3, 5, 5 and 7, which the scale cuts to 5
    assert rivals["user_movie_bias"]["mse"] == pytest.approx((1 + 1 + 9 + 4) / 4)
    assert rivals["user_movie_bias"]["skill"] == pytest.approx(1 - 5 / 15)


def test_a_movie_counts_in_all_of_its_genres(result):
    rows = {row["genre"]: row for row in result.genres}
    assert rows["Comedy"]["ratings"] == 3
    assert rows["War"]["ratings"] == 1
    assert rows["War"]["bias"] == pytest.approx(2.0)
    assert rows["(no genre)"]["rmse"] == 0.0


def test_histogram_counts_every_rating(result):
    for kind in ("actual", "predicted"):
        assert sum(row["count"] for row in result.histogram if row["kind"] == kind) == 4
    counts = {row["rating"]: row["count"] for row in result.histogram if row["kind"] == "actual"}
    assert counts[4.0] == 2
    assert list(counts) == pytest.approx([0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5])


def test_coverage_is_that_of_normal_intervals(result):
    # Errors of 1, 0, 2 and 0 standard deviations
    assert result.metrics["test"]["coverage"] == {"50%": 0.5, "80%": 0.75, "95%": 0.75}


def test_support_counts_training_ratings(result):
    movies = [row for row in result.support if row["kind"] == "ratings of the movie"]
    assert [(row["ratings"], row["count"]) for row in movies] == [("1-2", 3)]


def test_reliability_keeps_all_ratings(result):
    assert sum(row["count"] for row in result.reliability) == 4


def test_test_ratings_of_cold_movies_alone():
    train = predicted([0, 1], [0, 1], [3, 4], [3, 4])
    test = predicted([0, 1], [2, 2], [4, 5], [3, 4])
    baseline = BiasModel(3.5, np.zeros(2), np.zeros(3))
    found = evaluate(
        {"train": train, "validation": train, "test": test}, baseline, MOVIES, GENRES, SCALE, 0
    )
    assert found.metrics["test"]["warm_movies"] == {"ratings": 0}
