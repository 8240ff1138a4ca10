"""The mixed model of users' genre slopes, by moments and by likelihood."""

import itertools

import numpy as np
import pytest
from numpy.random import default_rng as rng
from scipy.stats import spearmanr

from genre_embeddings.inspection import slopes as module
from genre_embeddings.inspection.slopes import (
    by_some_users,
    likelihood,
    moments,
    movie_design,
    slope_similarity,
    sum_up,
)


def world(seed, users, genres=5, movies=60, ratings=12, noise=1.0):
    """Ratings by users whose slopes have a known covariance, and that covariance."""
    draw = rng(seed)
    factor = draw.normal(size=(genres + 1, 2)) * 0.5
    covariance = factor @ factor.T + 0.2 * np.eye(genres + 1)
    membership = draw.random((movies, genres)) < 0.35
    membership[np.arange(movies), draw.integers(genres, size=movies)] = True
    design = movie_design(membership.astype(float))
    user = np.repeat(np.arange(users), ratings)
    movie = np.concatenate([draw.choice(movies, ratings, replace=False) for _ in range(users)])
    tastes = draw.multivariate_normal(np.zeros(genres + 1), covariance, users)
    residual = (tastes[user] * design[movie]).sum(axis=1) + noise * draw.normal(size=user.size)
    return (user, movie, residual, design), covariance


def test_moments_are_least_squares_over_pairs_of_ratings_of_one_user():
    (user, movie, residual, design), _ = world(0, 40, genres=3)
    rows, columns = np.triu_indices(4)
    left, right = [], []
    for one in range(40):
        for i, j in itertools.permutations(np.flatnonzero(user == one), 2):
            x, z = design[movie[i]], design[movie[j]]
            both = np.outer(x, z) + np.outer(z, x)
            left.append(np.where(rows == columns, both[rows, columns] / 2, both[rows, columns]))
            right.append(residual[i] * residual[j])
    expected = np.linalg.lstsq(np.array(left), np.array(right), rcond=None)[0]
    found = moments(sum_up(user, movie, residual, design)).covariance
    assert found[rows, columns] == pytest.approx(expected, abs=1e-8)


def test_the_likelihood_is_nearer_to_the_truth_than_moments():
    upper, errors = np.triu_indices(8, 1), []
    for seed in range(5):
        given, covariance = world(seed, 1500, genres=8, ratings=20)
        scale = np.sqrt(np.diagonal(covariance))
        truth, sums = (covariance / np.outer(scale, scale))[upper], sum_up(*given)
        found = (fit(sums).correlations()[upper] for fit in (moments, likelihood))
        errors.append([spearmanr(one, truth).statistic for one in found])
    by_moments, by_likelihood = np.mean(errors, axis=0)
    assert by_likelihood > max(by_moments, 0.8)


@pytest.mark.parametrize("fit", [moments, likelihood])
def test_influence_is_what_leaving_a_user_out_changes(fit, monkeypatch):
    monkeypatch.setattr(module, "TOLERANCE", 1e-4)
    monkeypatch.setattr(module, "MOST_STEPS", 400)
    given, _ = world(3, 800, genres=3, ratings=20)
    sums = sum_up(*given)
    whole = fit(sums)
    influence = whole.correlation_influence()
    rows, columns = np.triu_indices(3, 1)
    changes = []
    for one in range(0, 800, 40):
        rest = fit(sums.part(np.flatnonzero(np.arange(800) != one)))
        changes.append((whole.correlations() - rest.correlations())[rows, columns])
    found = influence[::40][:, rows, columns]
    assert np.corrcoef(np.ravel(changes), found.ravel())[0, 1] > 0.95
    assert np.std(changes) / np.std(found) == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("fit", [moments, likelihood])
def test_users_in_parts_and_groups_give_the_same_and_many_are_sampled(fit, monkeypatch):
    given, _ = world(5, 90)
    sums = sum_up(*given)
    whole = fit(sums)
    monkeypatch.setattr(module, "AT_ONCE", 7)
    parts = fit(sums)
    assert parts.covariance == pytest.approx(whole.covariance)
    assert parts.influence == pytest.approx(whole.influence)
    monkeypatch.setattr(module, "GROUPS", 30)
    assert fit(sums).influence == pytest.approx(whole.influence.reshape(30, 3, -1).sum(axis=1))
    monkeypatch.setattr(module, "GROUPS", 2000)
    monkeypatch.setattr(module, "LIKELIHOOD_USERS", 50)
    monkeypatch.setattr(module, "MOST_CELLS", 50 * 21)
    assert len(fit(sums).influence) == 50


def test_ratings_by_some_users_are_measured_where_there_are_many(monkeypatch):
    monkeypatch.setattr(module, "MOST_USERS", 3)
    user = np.array([0, 0, 1, 2, 3, 4])
    assert by_some_users(user, users=5).tolist() == [True, True, False, True, False, True]
    assert by_some_users(user[:4], users=3).all()


def test_a_negative_variance_is_unknown_and_said():
    given, _ = world(7, 12, genres=4, ratings=3, noise=3.0)
    sums = sum_up(*given)
    found = moments(sums)
    negative = found.variances <= 0
    assert negative.any()
    assert f"no positive variance for {negative.sum()} of 4 genres" in found.remark
    similarity = slope_similarity(found, sums, 3)
    assert np.isnan(similarity[negative]).all()
    assert np.isfinite(found.correlation_influence()).all()


def test_a_fit_that_does_not_converge_says_so(monkeypatch):
    given, _ = world(8, 60)
    assert likelihood(sum_up(*given)).remark == ""
    monkeypatch.setattr(module, "MOST_STEPS", 1)
    assert "did not converge in 1 steps" in likelihood(sum_up(*given)).remark


def test_pairs_need_users_who_rated_both_genres():
    design = movie_design(np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]], dtype=float))
    user, movie = np.array([0, 0, 1, 1, 2, 2, 3, 3]), np.array([0, 1, 3, 0, 3, 1, 0, 2])
    sums = sum_up(user, movie, rng(0).normal(size=8), design)
    assert sums.rated.tolist() == [[4, 3, 1], [3, 3, 0], [1, 0, 1]]
    found = slope_similarity(likelihood(sums), sums, 3)
    known = [[True, True, False], [True, True, False], [False] * 3]
    assert np.isfinite(found).tolist() == known


@pytest.mark.parametrize(
    "case", ["nothing varies", "one user", "one rating each", "one genre a movie", "half by one"]
)
def test_odd_ratings_have_finite_answers(case):
    (user, movie, residual, design), _ = world(9, 40)
    rows = {"one user": slice(12), "one rating each": slice(None, None, 12)}.get(case, slice(None))
    user, movie, residual = user[rows], movie[rows], residual[rows]
    if case == "nothing varies":
        residual = np.zeros_like(residual)
    if case == "one genre a movie":
        design = movie_design(np.eye(5)[np.arange(60) % 5])
    if case == "half by one":
        movie = np.append(movie, np.tile(np.arange(60), 8))
        residual = np.append(residual, rng(1).normal(size=480))
        user = np.append(user, np.full(480, 40))
    sums = sum_up(user, movie, residual, design)
    for fit in (moments, likelihood):
        found = fit(sums)
        assert np.isfinite(found.covariance).all()
        assert np.isfinite(found.correlation_influence()).all()
        assert not np.isinf(slope_similarity(found, sums, 3)).any()
