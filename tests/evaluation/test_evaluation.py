"""Errors, tables and curves of a handful of predictions, with answers worked out by hand."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy.stats import norm

from genre_embeddings.evaluation.bias import BiasModel
from genre_embeddings.evaluation.evaluate import Predicted, evaluate, metrics

SCALE = (0.5, 5.0)


def predicted(user, movie, rating, mean):
    return Predicted(
        np.array(user),
        np.array(movie),
        np.array(rating, np.float32),
        np.array(mean, np.float32),
        np.full(len(user), 1.0, np.float32),
    )


def judged(train, test, baseline, sets=((0,), (0, 1), ()), scale=SCALE):
    movies = pl.DataFrame({"movie": range(len(sets)), "genres": [list(listed) for listed in sets]})
    return evaluate(
        {"train": train, "validation": train, "test": test},
        baseline,
        movies.with_columns(pl.col("genres").cast(pl.List(pl.UInt32))),
        pl.DataFrame({"genre": [0, 1], "name": ["Comedy", "War"]}),
        scale,
        0,
    )


@pytest.fixture
def result():
    train = predicted([0, 0, 1], [0, 1, 0], [3, 4, 5], [3, 4, 4])
    test = predicted([0, 1, 1, 1], [0, 0, 1, 2], [4, 4, 2, 3], [3, 4, 4, 3])
    baseline = BiasModel(4.0, np.array([-1.0, 1.0]), np.array([0.0, 0.0, 2.0]))
    return judged(train, test, baseline)


def test_errors_of_each_side(result):
    assert result.metrics["training"]["mse"] == pytest.approx(1 / 3)
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
    found = judged(train, test, baseline)
    assert found.metrics["test"]["warm_movies"] == {"ratings": 0}


def test_one_user_does_not_tell_how_users_differ():
    train = predicted([0, 1], [0, 1], [3, 4], [3, 4])
    test = predicted([1, 1], [0, 1], [4, 5], [3, 4])
    found = judged(train, test, BiasModel(3.5, np.zeros(2), np.zeros(3)))
    assert "rmse_low" not in found.metrics["test"]
    one = found.metrics["test"]["baselines"]["global_mean"]
    assert not {"mse_gain_low", "skill_low"} & set(one)
    assert found.support == []
    assert found.metrics["test"]["rmse"] == 1.0


@pytest.fixture
def drawn():
    """Ratings of 40 users, their evaluation, and the biases it was held against."""
    rng = np.random.default_rng(0)
    sets = [(0,), (1,), (0, 1), ()] * 10

    def side(count, movies):
        rating = rng.integers(1, 11, count) / 2
        one = predicted(
            rng.integers(40, size=count),
            (movies * rng.random(count) ** 2).astype(int),
            rating,
            np.clip(rating + rng.normal(0, 1, count), *SCALE),
        )
        return replace(one, deviation=rng.lognormal(size=count).astype(np.float32))

    train, test = side(300, 30), side(150, 40)
    baseline = BiasModel(3.2, rng.normal(size=40), rng.normal(size=40))
    return train, test, baseline, sets, judged(train, test, baseline, sets)


def test_numbers_of_test_one_by_one(drawn):
    train, test, baseline, _, found = drawn
    error = test.mean.astype(np.float64) - test.rating
    warm = np.isin(test.movie, train.movie)

    def errors(error):
        numbers = {"mse": np.mean(error**2), "rmse": np.sqrt(np.mean(error**2))}
        return {"ratings": len(error), **numbers, "mae": np.mean(np.abs(error))}

    rivals = {
        "global_mean": 3.2 - test.rating,
        "user_movie_bias": np.clip(
            3.2 + baseline.user[test.user] + baseline.movie[test.movie], *SCALE
        )
        - test.rating,
    }
    told = found.metrics["test"]
    assert 0 < warm.sum() < 150
    assert told.pop("warm_movies") == pytest.approx(errors(error[warm]))
    assert told.pop("cold_movies") == pytest.approx(errors(error[~warm]))
    assert told.pop("coverage") == {
        f"{level:.0%}": np.mean(np.abs(error) <= norm.ppf((1 + level) / 2) * test.deviation)
        for level in (0.5, 0.8, 0.95)
    }
    for name, theirs in rivals.items():
        one = told["baselines"].pop(name)
        low, high = one.pop("mse_gain_low"), one.pop("mse_gain_high")
        gain = np.mean(theirs**2) - np.mean(error**2)
        assert low < gain < high < 4 * gain
        assert one.pop("skill_low") < one["skill"] < one.pop("skill_high")
        expected = errors(theirs) | {"skill": 1 - np.mean(error**2) / np.mean(theirs**2)}
        assert one == pytest.approx({k: v for k, v in expected.items() if k != "ratings"})
    assert told.pop("baselines") == {}
    assert told.pop("rmse_low") < told["rmse"] < told.pop("rmse_high")
    assert told == pytest.approx(errors(error))
    own = errors(train.mean.astype(np.float64) - train.rating)
    assert found.metrics["training"] == found.metrics["validation"] == pytest.approx(own)
    assert set(found.metrics) == {"test", "training", "validation"}


def test_intervals_are_those_of_a_seed_and_of_a_thousand_draws(drawn):
    _, test, *_, found = drawn
    rng, told = np.random.default_rng(0), found.metrics["test"]
    ours = metrics.user_sums(test.user, test.mean - test.rating, 40)
    whole = metrics.rmse_interval(ours, 1000, rng)
    assert (told["rmse_low"], told["rmse_high"]) == (whole.low, whole.high)
    constant = metrics.user_sums(test.user, 3.2 - test.rating, 40)
    gain = metrics.paired_difference(constant, ours, 1000, rng, "mse")
    one = told["baselines"]["global_mean"]
    assert (one["mse_gain_low"], one["mse_gain_high"]) == pytest.approx((gain.low, gain.high))


def test_calibration_curve_one_by_one(drawn):
    _, test, *_, found = drawn
    distance = np.abs(test.mean.astype(np.float64) - test.rating)
    levels = [*np.arange(1, 20) / 20, 0.99]
    assert [row["level"] for row in found.calibration] == pytest.approx(levels)
    assert [row["coverage"] for row in found.calibration] == [
        np.mean(distance <= norm.ppf((1 + level) / 2) * test.deviation) for level in levels
    ]


def test_reliability_has_twenty_bins_of_equal_numbers(drawn):
    _, test, *_, found = drawn
    order = np.argsort(test.mean, kind="stable")
    expected = [
        {
            "predicted": test.mean[part].mean(dtype=np.float64),
            "actual": test.rating[part].mean(dtype=np.float64),
            "count": len(part),
        }
        for part in np.array_split(order, 20)
    ]
    assert found.reliability == expected


def test_genres_one_by_one(drawn):
    _, test, baseline, sets, found = drawn
    rival = np.clip(3.2 + baseline.user[test.user] + baseline.movie[test.movie], *SCALE)
    expected = []
    for name, has in (
        ("Comedy", lambda listed: 0 in listed),
        ("War", lambda listed: 1 in listed),
        ("(no genre)", lambda listed: not listed),
    ):
        chosen = np.array([has(sets[movie]) for movie in test.movie])
        error = test.mean[chosen].astype(np.float64) - test.rating[chosen]
        theirs = np.mean((rival - test.rating)[chosen] ** 2)
        expected.append(
            {
                "genre": name,
                "ratings": chosen.sum(),
                "rmse": pytest.approx(np.sqrt(np.mean(error**2))),
                "mae": pytest.approx(np.mean(np.abs(error))),
                "bias": np.mean((test.mean - test.rating)[chosen], dtype=np.float64),
                "skill": pytest.approx(1 - np.mean(error**2) / theirs),
            }
        )
    assert found.genres == expected


def test_support_one_by_one(drawn):
    train, test, *_, found = drawn
    bounds = [0, 1, 3, 6, 11, 21, 51, 101, 201, 501, 1001, 10_001, np.inf]
    labels = ["0", "1-2", "3-5", "6-10", "11-20", "21-50", "51-100", "101-200", "201-500"]
    rng, expected = np.random.default_rng([0, 1]), []
    for kind, of, learnt in (
        ("ratings of the user", test.user, train.user),
        ("ratings of the movie", test.movie, train.movie),
    ):
        support = np.bincount(learnt, minlength=40)[of]
        for low, high, label in zip(bounds, bounds[1:], labels, strict=False):
            chosen = (support >= low) & (support < high)
            error = (test.mean - test.rating)[chosen]
            told = metrics.rmse_interval(metrics.user_sums(test.user[chosen], error, 40), 200, rng)
            if told is not None:
                row = {"ratings": label, "count": chosen.sum(), "kind": kind}
                row |= {"rmse": pytest.approx(np.sqrt(np.mean(error.astype(np.float64) ** 2)))}
                expected.append(row | {"low": told.low, "high": told.high})
    assert found.support == expected
    assert len({row["ratings"] for row in expected}) > 4


def test_what_cannot_be_improved_has_no_skill_and_what_is_perfect_all_of_it():
    train = predicted([0, 1], [0, 1], [3, 4], [3, 4])
    test = predicted([0, 1, 0, 1], [0, 0, 1, 2], [3, 4, 2, 5], [3, 4, 2, 5])
    baseline = BiasModel(3.5, np.array([-0.5, 0.5]), np.zeros(3))
    found = judged(train, test, baseline, sets=((1,), (1,), (1,)))
    assert found.metrics["test"]["baselines"]["global_mean"]["skill"] == 1.0
    # No rating of a comedy, and the biases are perfect for movie 0 alone.
    assert [(row["genre"], row["skill"]) for row in found.genres] == [("War", 1.0)]
    exact = judged(train, test.part(np.array([0, 1])), baseline, sets=((1,), (1,), (1,)))
    assert [row["skill"] for row in exact.genres] == [0.0]
    assert exact.metrics["test"]["baselines"]["user_movie_bias"]["skill"] == 0.0


def test_equal_predictions_are_binned_in_their_order():
    rating = np.random.default_rng(1).integers(1, 11, 200) / 2
    test = predicted([0, 1] * 100, [0] * 200, rating, [3] * 200)
    found = judged(test, test, BiasModel(3.0, np.zeros(2), np.zeros(3))).reliability
    assert [row["actual"] for row in found] == rating.reshape(20, 10).mean(axis=1).tolist()


def test_support_of_more_than_ten_thousand_ratings():
    train = predicted(np.zeros(10_001, int), np.zeros(10_001, int), [3] * 10_001, [3] * 10_001)
    test = predicted([0, 1], [0, 0], [3, 3], [4, 2])
    found = judged(train, test, BiasModel(3.0, np.zeros(2), np.zeros(3)))
    rows = [row for row in found.support if row["kind"] == "ratings of the movie"]
    assert [row["ratings"] for row in rows] == ["10001+"]


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
    found = judged(train, test, BiasModel(1.0, np.zeros(2), np.zeros(3)), scale=scale).histogram
    rows = {kind: [row for row in found if row["kind"] == kind] for kind in ("actual", "predicted")}
    assert len(found) == 2 * len(centres)
    for kind, counts in (
        ("actual", [1, *[0] * (len(centres) - 2), 2]),
        ("predicted", [1, 1, *[0] * (len(centres) - 3), 1]),  # what lies outside is at the ends
    ):
        assert [row["rating"] for row in rows[kind]] == pytest.approx(centres)
        assert [row["count"] for row in rows[kind]] == counts
