"""Errors, tables and curves against their definitions, or computed by hand."""

import numpy as np
import polars as pl
import pytest
from scipy.stats import norm

from genre_embeddings.evaluation.bias import BiasModel
from genre_embeddings.evaluation.evaluate import Predicted, evaluate
from genre_embeddings.evaluation.metrics import FEWEST_USERS

SCALE = (0.5, 5.0)
FLAT = BiasModel(3.5, np.zeros(2), np.zeros(3))


def predicted(user, movie, rating, mean):
    ratings = np.array(rating, np.float32), np.array(mean, np.float32)
    return Predicted(np.array(user), np.array(movie), *ratings, np.ones(len(user), np.float32))


def judged(train, test, baseline=FLAT, sets=((0,), (0, 1), ()), scale=SCALE):
    """Metrics and plots; `sets` are the genres of each movie."""
    movies = pl.DataFrame({"movie": range(len(sets)), "genres": [list(listed) for listed in sets]})
    return evaluate(
        {"train": train, "validation": train, "test": test},
        baseline,
        movies.with_columns(pl.col("genres").cast(pl.List(pl.UInt32))),
        pl.DataFrame({"genre": [0, 1], "name": ["Comedy", "War"]}),
        scale,
        0,
    )


@pytest.fixture(scope="module")
def drawn():
    """Ratings of 40 users, errors of the biases they are compared with, metrics and plots."""
    rng = np.random.default_rng(0)

    def side(count, movies):
        rating = rng.integers(1, 11, count) / 2
        one = predicted(
            rng.integers(40, size=count),
            (movies * rng.random(count) ** 2).astype(int),
            rating,
            np.clip(rating + rng.normal(0, 1, count), *SCALE),
        )
        return one._replace(deviation=rng.lognormal(size=count).astype(np.float32))

    train, test = side(300, 30), side(150, 40)
    baseline = BiasModel(3.2, rng.normal(size=40), rng.normal(size=40))
    rival = np.clip(3.2 + baseline.user[test.user] + baseline.movie[test.movie], *SCALE)
    found = judged(train, test, baseline, [(0,), (1,), (0, 1), ()] * 10)
    return train, test, rival - test.rating, *found


def errors(error):
    squared = np.mean(error.astype(np.float64) ** 2)
    numbers = {"mse": squared, "rmse": np.sqrt(squared), "mae": np.mean(np.abs(error))}
    return pytest.approx({"ratings": len(error), **numbers})


def test_errors_of_each_side(drawn):
    train, test, rival, found, plots = drawn
    error = test.mean.astype(np.float64) - test.rating
    warm = np.isin(test.movie, train.movie)
    assert 0 < warm.sum() < 150
    numbers = found["test"]
    assert {key: numbers[key] for key in ("ratings", "mse", "rmse", "mae")} == errors(error)
    assert numbers["warm_movies"] == errors(error[warm])
    assert numbers["cold_movies"] == errors(error[~warm])
    assert numbers["rmse_low"] < numbers["rmse"] < numbers["rmse_high"]
    own = errors(train.mean.astype(np.float64) - train.rating)
    assert found["training"] == found["validation"] == own
    assert list(numbers["baselines"]) == ["global_mean", "user_movie_bias"]
    for one, theirs in zip(numbers["baselines"].values(), (3.2 - test.rating, rival), strict=True):
        gain = np.mean(theirs**2) - np.mean(error**2)
        assert one["mse_gain_low"] < gain < one["mse_gain_high"] < 4 * gain
        assert one["skill_low"] < one["skill"] < one["skill_high"]
        assert one["skill"] == pytest.approx(1 - np.mean(error**2) / np.mean(theirs**2))
        assert one["mae"] == pytest.approx(np.mean(np.abs(theirs)))
    shares = {
        level: np.mean(np.abs(error) <= norm.ppf((1 + level) / 2) * test.deviation)
        for level in (*np.arange(1, 20) / 20, 0.99)
    }
    assert numbers["coverage"] == {f"{level:.0%}": shares[level] for level in (0.5, 0.8, 0.95)}
    curve = {row["level"]: row["coverage"] for row in plots["calibration"]}
    assert curve == pytest.approx(shares)


def test_errors_of_groups(drawn):
    """A movie counts in all of its genres."""
    train, test, rival, _, plots = drawn
    error, kind = test.mean.astype(np.float64) - test.rating, test.movie % 4
    sets = {"Comedy": (0, 2), "War": (1, 2), "(no genre)": (3,)}
    assert [row["genre"] for row in plots["genres"]] == list(sets)
    for row in plots["genres"]:
        chosen = np.isin(kind, sets[row["genre"]])
        squared = np.mean(error[chosen] ** 2)
        assert (row["ratings"], row["rmse"]) == pytest.approx((chosen.sum(), squared**0.5))
        assert row["bias"] == pytest.approx(np.mean(error[chosen]))
        assert row["skill"] == pytest.approx(1 - squared / np.mean(rival[chosen] ** 2))
    support = np.bincount(train.movie, minlength=40)[test.movie]
    rows = {row["ratings"]: row for row in plots["support"] if row["kind"].endswith("movie")}
    assert list(rows) == ["0", "1-2", "3-5", "6-10", "11-20", "21-50"]
    for label, row in rows.items():
        low, _, high = label.partition("-")
        chosen = (support >= int(low)) & (support <= int(high or low))
        assert row["count"] == chosen.sum()
        assert row["rmse"] == pytest.approx(np.sqrt(np.mean(error[chosen] ** 2)))
        few = len(np.unique(test.user[chosen])) < FEWEST_USERS
        assert row["low"] is None if few else row["low"] < row["rmse"] < row["high"]
    assert {row["low"] is None for row in rows.values()} == {True, False}
    first = np.argsort(test.mean, kind="stable")[:8]  # 150 ratings in 20 bins
    assert plots["reliability"][0] == {
        "predicted": test.mean[first].mean(dtype=np.float64),
        "actual": test.rating[first].mean(dtype=np.float64),
        "count": 8,
    }


def test_support_of_more_than_ten_thousand_ratings():
    train = predicted(np.zeros(10_001, int), np.zeros(10_001, int), [3] * 10_001, [3] * 10_001)
    _, plots = judged(train, predicted([0, 1], [0, 0], [3, 3], [4, 2]))
    rows = [row for row in plots["support"] if row["kind"] == "ratings of the movie"]
    assert [row["ratings"] for row in rows] == ["10001+"]


TRAIN = predicted([0, 1], [0, 1], [3, 4], [3, 4])


def test_one_user_does_not_tell_how_users_differ():
    found, plots = judged(TRAIN, predicted([1, 1], [2, 2], [4, 5], [3, 4]))
    one = found["test"]["baselines"]["global_mean"]
    assert not {"mse_gain_low", "skill_low", "rmse_low"} & {*one, *found["test"]}
    assert [(row["rmse"], row["low"]) for row in plots["support"]] == [(1.0, None)] * 2
    assert found["test"]["rmse"] == 1.0
    assert found["test"]["warm_movies"] == {"ratings": 0}


def test_what_cannot_be_improved_has_no_skill_and_what_is_perfect_all_of_it():
    test = predicted([0, 1, 0, 1], [0, 0, 1, 2], [3, 4, 2, 5], [3, 4, 2, 5])
    baseline = BiasModel(3.5, np.array([-0.5, 0.5]), np.zeros(3))
    sets = ((1,), (1,), (1,))
    found, plots = judged(TRAIN, test, baseline, sets)
    assert found["test"]["baselines"]["global_mean"]["skill"] == 1.0
    # No rating of a comedy, and the biases are perfect for movie 0 alone.
    assert [(row["genre"], row["skill"]) for row in plots["genres"]] == [("War", 1.0)]
    found, plots = judged(TRAIN, test.part(np.array([0, 1])), baseline, sets)
    assert [row["skill"] for row in plots["genres"]] == [0.0]
    assert found["test"]["baselines"]["user_movie_bias"]["skill"] == 0.0


@pytest.mark.parametrize(
    ("scale", "centres"),
    [
        ((0.5, 5.0), np.arange(1, 11) / 2),
        ((1.0, 5.0), np.arange(2, 11) / 2),
        ((1.0, 10.0), np.arange(1, 11)),
        ((0.0, 90.0), np.arange(10) * 10),
        ((1.0, 7.0), np.arange(2, 15) / 2),
        ((-10.0, 10.0), np.arange(-10, 11)),
    ],
)
def test_histogram_has_a_bin_for_each_rating(scale, centres):
    low, high = scale
    train = predicted([0, 1], [0, 1], [low, high], [low, high])
    test = predicted([0, 1, 1], [0, 0, 1], [low, high, high], [low - 9, high + 9, centres[1]])
    _, plots = judged(train, test, scale=scale)
    middle = [0] * (len(centres) - 3)
    for kind, counts in (
        ("actual", [1, 0, *middle, 2]),
        ("predicted", [1, 1, *middle, 1]),  # what lies outside is at the ends
    ):
        rows = [row for row in plots["histogram"] if row["kind"] == kind]
        assert [row["rating"] for row in rows] == pytest.approx(centres)
        assert [row["count"] for row in rows] == counts
