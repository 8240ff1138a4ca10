import math

import numpy as np
import pytest
from scipy.stats import norm

from genre_embeddings.evaluation import metrics
from genre_embeddings.evaluation.metrics import (
    bootstrap_over_users,
    coverage,
    interval,
    mae,
    mse,
    paired_difference,
    rmse,
    rmse_interval,
    skill,
    user_sums,
)

USER = np.array([0, 0, 2], dtype=np.uint32)
ERROR = np.array([1.0, -2.0, 0.5], dtype=np.float32)


def test_sums_and_errors_by_hand():
    sums = user_sums(USER, ERROR, users=4)
    assert sums.ratings.tolist() == [2, 0, 1, 0]
    assert sums.squared.tolist() == [5, 0, 0.25, 0]
    assert sums.absolute.tolist() == [3, 0, 0.5, 0]
    assert sums.squared.dtype == np.float64
    assert mse(sums) == pytest.approx(5.25 / 3)
    assert rmse(sums) == pytest.approx(math.sqrt(1.75))
    assert mae(sums) == pytest.approx(3.5 / 3)


def test_errors_in_float32_are_squared_in_float64():
    error = np.array([0.1], dtype=np.float32)
    assert user_sums(np.array([0]), error, 1).squared.tolist() == [float(error[0]) ** 2]


def test_no_ratings_have_no_error():
    sums = user_sums(np.array([], dtype=int), np.array([]), users=2)
    assert (mse(sums), rmse(sums), mae(sums)) == (None, None, None)
    assert paired_difference(sums, sums, 10, np.random.default_rng(0)) is None
    assert rmse_interval(sums, 10, np.random.default_rng(0)) is None


def test_one_user_does_not_tell_how_users_differ():
    sums = user_sums(np.array([1, 1, 1]), np.array([0.1, 0.2, 0.3]), users=3)
    assert paired_difference(sums, sums, 10, np.random.default_rng(0)) is None
    assert rmse_interval(sums, 10, np.random.default_rng(0)) is None


def test_two_users_with_a_rating_each_have_an_interval():
    sums = user_sums(np.array([0, 2]), np.array([1.0, 2.0]), users=4)
    double = user_sums(np.array([0, 2]), np.array([2.0, 4.0]), users=4)
    found = rmse_interval(sums, 200, np.random.default_rng(0))
    # Of two users, the ends are the draws of the one alone and of the other alone.
    assert (found.low, found.high, found.level) == (1.0, 2.0, 0.95)
    gain = paired_difference(double, sums, 200, np.random.default_rng(0), error="mse")
    assert (gain.low, gain.high, gain.level) == (3.0, 12.0, 0.95)


def test_intervals_are_wider_for_few_users_who_rated():
    rng = np.random.default_rng(4)
    user, error = np.repeat(np.arange(12), 3), rng.normal(size=36)
    sums, other = user_sums(user, error, 200), user_sums(user, error * rng.normal(size=36), 200)
    totals = np.stack([sums.squared, other.squared])
    drawn = np.sqrt(bootstrap_over_users(totals, sums.ratings, 500, np.random.default_rng(5)))
    expected = interval(rmse(sums) - rmse(other), drawn[:, 0] - drawn[:, 1], level=0.9, users=12)
    found = paired_difference(sums, other, 500, np.random.default_rng(5), level=0.9)
    assert found == expected
    found = rmse_interval(sums, 500, np.random.default_rng(5), level=0.9)
    assert found == interval(rmse(sums), drawn[:, 0], level=0.9, users=12)
    plain = interval(rmse(sums), drawn[:, 0], level=0.9)
    assert found.low < plain.low < plain.high < found.high


def test_skill_by_hand():
    assert skill(0.75, 1.0) == pytest.approx(0.25)
    assert skill(1.5, 1.0) == pytest.approx(-0.5)
    assert skill(1.0, 4.0) == pytest.approx(0.75)
    assert skill(0.0, 0.0) is None


def test_bootstrap_draws_whole_users():
    # Two users: a draw is all of the first, all of the second, or both of them.
    draws = bootstrap_over_users(
        np.array([[4.0, 0.0, 1.0]]), np.array([4, 0, 1]), 400, np.random.default_rng(0)
    )
    assert draws.shape == (400, 1)
    assert np.allclose(draws, 1.0)
    draws = bootstrap_over_users(
        np.array([[8.0, 0.0, 0.0]]), np.array([4, 0, 1]), 4000, np.random.default_rng(0)
    )
    values, counts = np.unique(draws.round(9), return_counts=True)
    assert values.tolist() == [0.0, 1.6, 2.0]
    assert np.allclose(counts / 4000, [0.25, 0.5, 0.25], atol=0.03)


def test_bootstrap_in_small_parts_gives_the_same(monkeypatch):
    totals, ratings = np.random.default_rng(5).integers(1, 9, (2, 30))
    whole = bootstrap_over_users(totals[None], ratings, 50, np.random.default_rng(0))
    monkeypatch.setattr(metrics, "_CELLS", 30 * 8)  # eight draws at a time
    parts = bootstrap_over_users(totals[None], ratings, 50, np.random.default_rng(0))
    assert np.allclose(parts, whole)


def test_bootstrap_without_ratings_says_so():
    with pytest.raises(ValueError, match=r"^bootstrap_over_users: no user has a rating$"):
        bootstrap_over_users(np.zeros((1, 2)), np.zeros(2), 5, np.random.default_rng(0))


@pytest.mark.parametrize("users", [400, 25_000])
def test_bootstrap_spread_is_that_of_the_users(users):
    rng = np.random.default_rng(1)
    ratings = rng.integers(1, 20, users)
    level = rng.normal(size=users)  # all of a user's errors move together
    draws = bootstrap_over_users((level * ratings)[None], ratings, 1000, rng)[:, 0]
    mean = (level * ratings).sum() / ratings.sum()
    expected = np.sqrt((((level - mean) * ratings) ** 2).sum()) / ratings.sum()
    assert draws.std() == pytest.approx(expected, rel=0.1)


def test_paired_difference_is_narrower_than_the_errors():
    rng = np.random.default_rng(2)
    user = np.repeat(np.arange(300), 5)
    error = rng.normal(size=1500) * rng.lognormal(size=300)[user]
    better, worse = user_sums(user, error, 300), user_sums(user, error * 1.05, 300)
    result = paired_difference(worse, better, 500, rng)
    expected = 0.05 * math.sqrt(float((error**2).mean()))
    assert result.estimate == pytest.approx(expected)
    assert 0 < result.low < expected < result.high
    single = interval(
        0.0, np.sqrt(bootstrap_over_users(worse.squared[None], worse.ratings, 500, rng))
    )
    assert result.high - result.low < (single.high - single.low) / 10
    squares = paired_difference(worse, better, 500, rng, error="mse")
    assert squares.estimate == pytest.approx((1.05**2 - 1) * float((error**2).mean()))


def test_paired_difference_needs_the_same_ratings():
    one, other = user_sums(USER, ERROR, 3), user_sums(USER[:2], ERROR[:2], 3)
    with pytest.raises(
        ValueError, match=r"^paired_difference: the two sums count different ratings$"
    ):
        paired_difference(one, other, 5, np.random.default_rng(0))


def test_same_seed_same_interval():
    sums = user_sums(USER, ERROR, 3)
    other = user_sums(USER, ERROR / 2, 3)
    results = [paired_difference(sums, other, 50, np.random.default_rng(3)) for _ in range(2)]
    assert results[0] == results[1]


def test_interval_by_hand():
    result = interval(1.0, np.arange(101.0), level=0.8)
    assert (result.estimate, result.low, result.high) == pytest.approx((1.0, 10.0, 90.0))


def test_coverage_by_hand():
    # 0.674, 1.282 and 1.960 standard deviations hold 50, 80 and 95 %.
    rating = np.array([3.0, 3.7, 4.5, 5.5])
    shares = coverage(rating, np.full(4, 3.0), np.ones(4))
    assert shares == {0.5: 0.25, 0.8: 0.5, 0.95: 0.75}
    assert coverage(rating[:2], rating[:2], np.zeros(2)) == {0.5: 1.0, 0.8: 1.0, 0.95: 1.0}
    # In float32 the distance would be rounded up, over the end of the interval.
    near = np.array([1], dtype=np.float32), np.array([-0.9e-7], dtype=np.float32)
    assert coverage(*near, np.array([(1 + 0.95e-7) / norm.ppf(0.975)]), (0.95,)) == {0.95: 1.0}
    with pytest.raises(ValueError, match=r"^coverage: there are no ratings$"):
        coverage(np.array([]), np.array([]), np.array([]))
