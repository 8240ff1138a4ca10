"""Errors and intervals against SciPy or their definitions."""

import numpy as np
import pytest
from numpy.random import default_rng as rng
from scipy import stats

from genre_embeddings.evaluation import metrics
from genre_embeddings.evaluation.metrics import (
    bootstrap_over_users,
    coverage,
    error_interval,
    interval,
    mse,
    rmse_rise,
    skill,
    user_sums,
)

USER = np.array([0, 0, 2], dtype=np.uint32)
ERROR = np.array([1.0, -2.0, 0.1], dtype=np.float32)


def errors(seed: int, users: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """User of each rating, and the errors of two models: long-tailed, unlike between users."""
    draw = rng(seed)
    user = np.repeat(np.arange(users), 1 + draw.poisson(draw.lognormal(1.5, 1, users)))
    first = draw.normal(size=user.size) * draw.lognormal(0, 0.3, users)[user]
    return user, first, 0.9 * first + 0.2 * draw.normal(size=user.size)


def test_sums_by_hand():
    sums = user_sums(USER, ERROR, users=4)
    tenth = float(ERROR[2])  # squared in float64
    assert sums.ratings.tolist() == [2, 0, 1, 0]
    assert sums.squared.tolist() == [5, 0, tenth**2, 0]
    assert mse(sums) == pytest.approx((5 + tenth**2) / 3)


def test_skill_by_hand():
    assert skill(np.array([0.75, 1.5, 0.0]), np.array([1.0, 1.0, 0.0])).tolist() == [0.25, -0.5, 0]


@pytest.mark.parametrize(
    ("statistic", "models"),
    [(np.sqrt, 1), (np.subtract, 2), (rmse_rise, 2), (skill, 2)],
)
def test_intervals_are_those_of_scipys_bootstrap(statistic, models):
    user, *both = errors(1, 150)
    sums = [user_sums(user, error, 160) for error in both[:models]]  # ten users have no ratings

    def of_users(*columns, axis):
        *totals, ratings = (column.sum(axis) for column in columns)
        return statistic(*(total / ratings for total in totals))

    expected = stats.bootstrap(
        [column[:150] for column in (*(one.squared for one in sums), sums[0].ratings)],
        of_users,
        paired=True,
        method="percentile",
        n_resamples=20_000,
        rng=rng(2),
    ).confidence_interval
    found = error_interval(statistic, sums, 20_000, rng(3))
    near = 0.03 * (expected.high - expected.low)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=near)
    assert found.estimate == pytest.approx(statistic(*map(mse, sums)))


@pytest.mark.parametrize(("users", "moved"), [(2, True), (12, True), (99, True), (100, False)])
def test_few_normal_users_get_the_interval_of_student(users, moved):
    """Bootstrap draws of normal means are normal, with √((n - 1) / n) of the standard error."""
    sample = rng(7).normal(3, 2, users)
    draws = sample.mean() + sample.std() / np.sqrt(users) * stats.norm.ppf(
        (np.arange(10**6) + 0.5) / 10**6
    )
    student = stats.t.interval(0.95, users - 1, sample.mean(), stats.sem(sample))
    plain = stats.norm.interval(0.95, sample.mean(), sample.std() / np.sqrt(users))
    found = interval(sample.mean(), draws, users)
    # With two users, the million draws do not reach as far as Student's t.
    near = (1e-4 if users > 2 else 0.5) * (student[1] - student[0])
    assert (found.low, found.high) == pytest.approx(student if moved else plain, abs=near)
    unknown = interval(sample.mean(), draws)
    assert (unknown.low, unknown.high) == pytest.approx(plain, abs=1e-4)


@pytest.mark.parametrize(("users", "enough"), [(0, False), (1, False), (19, False), (20, True)])
def test_a_few_users_do_not_tell_how_users_differ(users, enough):
    sums = user_sums(np.repeat(np.arange(users), 3), rng(1).normal(size=3 * users), users=30)
    found = error_interval(np.sqrt, [sums], 200, rng(0))
    assert (found is not None) == enough


def test_bootstrap_in_small_parts_gives_the_same(monkeypatch):
    totals, ratings = rng(5).integers(1, 9, (2, 30))
    whole = bootstrap_over_users(totals[None], ratings, 50, rng(0))
    monkeypatch.setattr(metrics, "_CELLS", 30 * 8)  # eight draws at a time
    assert np.allclose(bootstrap_over_users(totals[None], ratings, 50, rng(0)), whole)


def test_groups_of_many_users_spread_as_the_users():
    draw = rng(1)
    ratings = draw.integers(1, 20, 25_000)
    level = draw.normal(size=25_000)  # all of a user's errors move together
    draws = bootstrap_over_users((level * ratings)[None], ratings, 1000, draw)[:, 0]
    mean = (level * ratings).sum() / ratings.sum()
    expected = np.sqrt((((level - mean) * ratings) ** 2).sum()) / ratings.sum()
    assert draws.std() == pytest.approx(expected, rel=0.1)


def test_coverage_by_hand():
    # 0.674, 1.282 and 1.960 standard deviations hold 50, 80 and 95 %.
    rating, levels = np.array([3.0, 3.7, 4.5, 5.5]), (0.5, 0.8, 0.95)
    shares = coverage(rating, np.full(4, 3.0), np.ones(4), levels)
    assert shares == {0.5: 0.25, 0.8: 0.5, 0.95: 0.75}
    # In float32 the distance would be rounded up, over the end of the interval.
    near = np.array([1], dtype=np.float32), np.array([-0.9e-7], dtype=np.float32)
    std = np.array([(1 + 0.95e-7) / stats.norm.ppf(0.975)])
    assert coverage(*near, std, (0.95,)) == {0.95: 1.0}
