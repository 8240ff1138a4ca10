"""Every statistic against another way of computing it: SciPy's, or the definition spelt out."""

import itertools

import numpy as np
import pytest
from numpy.random import default_rng as rng
from scipy import stats
from scipy.spatial.distance import pdist, squareform

from benchmarks.statistics import simulation
from benchmarks.statistics.simulation import complete
from genre_embeddings.evaluation.metrics import (
    interval,
    paired_difference,
    rmse,
    rmse_interval,
    user_sums,
)
from genre_embeddings.inspection.agreement import agreement, holm
from genre_embeddings.inspection.references import catalogue_similarity
from genre_embeddings.inspection.similarity import (
    genre_map,
    replica_stability,
)


def errors(seed: int, users: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """User of each rating, and the errors of two models: long-tailed, unlike between users."""
    draw = rng(seed)
    user = np.repeat(np.arange(users), 1 + draw.poisson(draw.lognormal(1.5, 1, users)))
    first = draw.normal(size=user.size) * draw.lognormal(0, 0.3, users)[user]
    return user, first, 0.9 * first + 0.2 * draw.normal(size=user.size)


@pytest.mark.parametrize("error", ["mse", "rmse"])
def test_intervals_are_those_of_scipys_bootstrap(error):
    user, first, second = errors(1, 150)
    one, other = user_sums(user, first, 150), user_sums(user, second, 150)
    root = np.sqrt if error == "rmse" else np.asarray

    def difference(first, second, ratings, axis):
        count = ratings.sum(axis)
        return root(first.sum(axis) / count) - root(second.sum(axis) / count)

    expected = stats.bootstrap(
        (one.squared, other.squared, one.ratings),
        difference,
        paired=True,
        method="percentile",
        n_resamples=20_000,
        rng=rng(2),
    ).confidence_interval
    found = paired_difference(one, other, 20_000, rng(3), error)
    near = 0.03 * (expected.high - expected.low)
    assert found.low == pytest.approx(expected.low, abs=near)
    assert found.high == pytest.approx(expected.high, abs=near)


def test_interval_of_one_error_is_scipys_bootstrap():
    user, first, _ = errors(4, 150)
    sums = user_sums(user, first, 160)
    expected = stats.bootstrap(
        (sums.squared[:150], sums.ratings[:150]),
        lambda squared, ratings, axis: np.sqrt(squared.sum(axis) / ratings.sum(axis)),
        paired=True,
        method="percentile",
        n_resamples=20_000,
        confidence_level=0.8,
        rng=rng(5),
    ).confidence_interval
    found = rmse_interval(sums, 20_000, rng(6), level=0.8)
    near = 0.03 * (expected.high - expected.low)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=near)
    assert (found.estimate, found.level) == (rmse(sums), 0.8)


@pytest.mark.parametrize(("users", "moved"), [(2, True), (12, True), (99, True), (100, False)])
def test_few_normal_users_get_the_interval_of_student(users, moved):
    """Where users' means are normal, draws are too, with √((n - 1) / n) of the standard error."""
    sample = rng(7).normal(3, 2, users)
    draws = sample.mean() + sample.std() / np.sqrt(users) * stats.norm.ppf(
        (np.arange(10**6) + 0.5) / 10**6
    )
    student = stats.t.interval(0.9, users - 1, sample.mean(), stats.sem(sample))
    plain = stats.norm.interval(0.9, sample.mean(), sample.std() / np.sqrt(users))
    found = interval(sample.mean(), draws, 0.9, users)
    # Of two users the draws, a million though they are, do not reach as far as Student's t.
    near = (1e-4 if users > 2 else 0.3) * (student[1] - student[0])
    assert (found.low, found.high) == pytest.approx(student if moved else plain, abs=near)
    unknown = interval(sample.mean(), draws, 0.9)
    assert (unknown.low, unknown.high) == pytest.approx(plain, abs=1e-4)


def test_catalogue_is_scipys_jaccard():
    table = rng(12).random((40, 7)) < 0.3
    expected = 1 - squareform(pdist(table.T, "jaccard"))
    assert np.allclose(catalogue_similarity(table).values, expected)


@pytest.mark.parametrize("seed", range(5))
def test_null_of_ties_is_that_of_all_orders(seed):
    """Similarities of few values, as of a small catalogue: each order of five genres by SciPy."""
    learnt, reference = rng(seed).integers(0, 3, (2, 5, 5)).astype(float)
    learnt, reference = learnt + learnt.T, reference + reference.T
    pairs = np.triu_indices(5, 1)
    every = [
        stats.spearmanr(learnt[np.ix_(order, order)][pairs], reference[pairs]).statistic
        for order in itertools.permutations(range(5))
    ]
    found = agreement(complete(learnt), complete(reference), 3000, rng(0))
    assert set(found.null.round(9)) == set(np.round(every, 9))
    share = np.mean(np.array(every) >= found.spearman - 1e-9)
    assert found.p_value == pytest.approx(share, abs=0.04)


@pytest.mark.parametrize("seed", range(20))
def test_holm_is_the_closed_test_of_bonferronis(seed):
    """A hypothesis is rejected where every set of hypotheses that holds it is."""
    p = rng(seed).random(4) ** 2
    sets = [s for size in range(1, 5) for s in itertools.combinations(range(4), size)]
    expected = [
        max(min(1, len(s) * min(p[j] for j in s)) for s in sets if i in s) for i in range(4)
    ]
    assert holm(p.tolist()) == pytest.approx(expected)


def test_cka_is_that_of_features_and_its_chance_that_of_all_orders():
    """Linear CKA as ‖YᵀX‖² / (‖XᵀX‖ ‖YᵀY‖), and its mean over the 120 orders of five genres."""

    def cka(first, second):
        first, second = first - first.mean(axis=0), second - second.mean(axis=0)
        norms = [np.linalg.norm(one.T @ one) for one in (first, second)]
        return np.linalg.norm(second.T @ first) ** 2 / np.prod(norms)

    embeddings = rng(20).normal(size=(3, 5, 4)) + rng(21).normal(size=(5, 4))
    replicas = [complete(np.corrcoef(rng(seed).normal(size=(5, 9)))) for seed in range(3)]
    found = replica_stability(replicas, embeddings)
    pairs = list(itertools.combinations(embeddings, 2))
    assert found.cka == pytest.approx(np.mean([cka(one, other) for one, other in pairs]))
    by_chance = [
        cka(one, other[list(order)])
        for one, other in pairs
        for order in itertools.permutations(range(5))
    ]
    assert found.cka_chance == pytest.approx(np.mean(by_chance))


def test_overlap_by_chance_is_the_hypergeometric_mean():
    replicas = [complete(np.corrcoef(rng(seed).normal(size=(11, 20)))) for seed in range(2)]
    found = replica_stability(replicas, neighbours=4)
    assert found.chance == pytest.approx(stats.hypergeom(10, 4, 4).mean() / 4)


def test_map_is_the_principal_components_of_unit_vectors():
    vectors = rng(22).normal(size=(9, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = genre_map(complete(vectors @ vectors.T))
    left, size, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    expected = left[:, :2] * size[:2]
    signs = np.sign((found.positions * expected).sum(axis=0))
    assert np.allclose(found.positions, expected * signs)
    assert found.shown == pytest.approx((size[:2] ** 2).sum() / (size**2).sum())


def test_simulated_users_err_as_is_expected_of_them():
    user, first, second = simulation.errors(100_000, rng(23))
    truth = simulation.expected_mse()
    assert np.mean(first**2) == pytest.approx(truth, rel=0.03)
    assert np.mean(second**2) == pytest.approx(truth * simulation.BETTER**2, rel=0.03)
    assert user[-1] == 99_999


def test_the_simulation_counts_what_it_says():
    assert simulation.luck(0.95, 1000) == "93.6% to 96.4%"
    assert simulation.percent(3, 8) == "37.5%"
    few = next(simulation.error_rows(5))
    assert few["users"] == 5
    assert set(few) >= {"RMSE", "difference of MSE", "difference of RMSE"}
    assert len(list(simulation.null_rows(2))) == len(simulation.NULLS)
    assert next(row["references"] for row in simulation.holm_rows(2)) == "2, correlated 0"
    assert len(list(simulation.movie_rows(1))) == 2
    assert next(simulation.ceiling_rows(1))["users"] == 100
