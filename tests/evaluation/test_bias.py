"""Biases against a ridge regression solved as one linear system."""

import numpy as np
import pytest

from genre_embeddings.evaluation.bias import fit_bias


def test_biases_solve_the_ridge_regression():
    rng = np.random.default_rng(0)
    user, movie = rng.integers(5, size=60), rng.integers(4, size=60)
    rating = rng.integers(1, 11, size=60) / 2
    model = fit_bias(user, movie, rating, 5, 4, user_penalty=2.0, movie_penalty=1.0)
    design = np.zeros((60, 9))
    design[np.arange(60), user] = 1
    design[np.arange(60), 5 + movie] = 1
    penalty = np.diag([2.0] * 5 + [1.0] * 4)
    exact = np.linalg.solve(design.T @ design + penalty, design.T @ (rating - rating.mean()))
    assert np.concatenate([model.user, model.movie]) == pytest.approx(exact, abs=1e-3)


def test_who_was_never_seen_has_no_bias_and_ratings_are_summed_in_float64():
    rng = np.random.default_rng(1)
    user, movie = rng.integers(3, size=40), rng.integers(4, size=40)
    rating = (rng.integers(1, 50, size=40) / 10).astype(np.float32)
    model = fit_bias(user, movie, rating, users=5, movies=7)
    wide = fit_bias(user, movie, rating.astype(np.float64), 5, 7)
    assert np.array_equal(model.user, wide.user)
    assert np.array_equal(model.movie, wide.movie)
    assert not model.user[3:].any()
    assert model.predict(np.array([4]), np.array([6])) == wide.mean
