"""Similarity of genres; their order, map and neighbours; stability."""

import numpy as np
import pytest
from numpy.random import default_rng as rng
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform
from scipy.stats import spearmanr

from genre_embeddings.inspection.similarity import (
    centred_cosine,
    cluster_order,
    genre_map,
    known_genres,
    measure_stability,
    nearest_genres,
    response_similarity,
    similarity_interval,
    spearman,
)


def test_responses_are_correlated_over_users_after_the_mean_over_replicas():
    responses = rng(1).normal(size=(3, 40, 4))
    assert np.allclose(response_similarity(responses), np.corrcoef(responses.mean(axis=0).T))
    single = responses.astype(np.float32)
    wide = response_similarity(single.astype(np.float64))
    assert np.array_equal(response_similarity(single), wide)


@pytest.mark.parametrize("last", [5.0, 4 + 1e-6 * rng(0).normal(size=50), np.nan])
def test_a_genre_that_moves_nobody_or_diverged_is_unknown_and_leaves_the_others_alone(last):
    responses = rng(0).normal(size=(50, 3))
    responses[:, 2] = last
    found = response_similarity(responses)
    assert known_genres(found).tolist() == [True, True, False]
    assert np.isnan(found[2]).all()
    assert np.allclose(found[:2, :2], np.corrcoef(responses[:, :2].T))


def test_correlations_stay_within_their_range():
    responses = rng(2).normal(size=(7, 60))
    twice = np.hstack([responses, responses, -responses])
    assert np.abs(response_similarity(twice)).max() <= 1
    assert np.abs(centred_cosine(twice.T)).max() <= 1


@pytest.mark.parametrize("shape", [(2, 5), (0, 5), (9, 0)])
def test_too_little_to_compare_is_unknown(shape):
    found = response_similarity(rng(0).normal(size=shape))
    assert found.shape == (shape[1], shape[1])
    assert np.isnan(found).all()


def test_the_size_of_correlations_follows_from_the_communalities():
    responses = rng(4).normal(size=(50, 3))
    plain, scaled = (response_similarity(responses, h) for h in (None, np.array([1, 0.25, 0.49])))
    factors = [[1, 0.5, 0.7], [0.5, 1, 0.35], [0.7, 0.35, 1]]
    assert np.allclose(scaled, plain * factors)


def test_centred_cosine_by_hand():
    # The mean is (1, 1): (1, 0), (-1, 0), (0, 1), (0, -1) and nothing are left.
    embeddings = np.array([[2, 1], [0, 1], [1, 2], [1, 0], [1, 1]])
    found = centred_cosine(embeddings)
    assert found[0, :4].tolist() == [1, -1, 0, 0]
    known = np.array([True, True, True, True, False])
    assert np.array_equal(np.isfinite(found), np.outer(known, known))
    assert np.allclose(centred_cosine(1e-9 * embeddings), found, equal_nan=True)
    assert np.isnan(centred_cosine(np.array([[3.0, 4.0]]))).all()  # a genre alone is the mean


def test_intervals_are_fishers():
    """As in a table of the correlation coefficient: r = 0.5 of 103 users."""
    found = np.array([[1, 0.5, np.nan], [0.5, 1, np.nan], [np.nan] * 3])
    low, high = similarity_interval(found, np.full((3, 3), 0.1))
    assert low[0, 1] == pytest.approx(0.3393, abs=1e-4)
    assert high[0, 1] == pytest.approx(0.6323, abs=1e-4)
    for end in (low, high):
        assert np.diagonal(end)[:2].tolist() == [1, 1]
        assert np.isnan(end[2]).all()


@pytest.mark.parametrize("seed", range(6))
def test_cluster_order_follows_the_tree_of_averages(seed):
    values = np.corrcoef(rng(seed).normal(size=(8, 6)))
    holed = np.full((9, 9), np.nan)  # a genre that is unknown comes last
    holed[1:, 1:] = values
    order = cluster_order(holed).tolist()
    assert order.pop() == 0
    assert order[0] < order[-1]
    place = np.argsort(np.array(order) - 1)
    clusters = [{k} for k in range(8)]
    for one, other, *_ in linkage(squareform(1 - values, checks=False), "average"):
        clusters.append(clusters[int(one)] | clusters[int(other)])
        side_by_side = sorted(place[list(clusters[-1])])
        assert side_by_side[-1] - side_by_side[0] == len(clusters[-1]) - 1


@pytest.mark.parametrize("genres", [0, 1, 2])
def test_tiny_catalogues_have_an_order_and_a_map(genres):
    tiny = np.eye(genres)
    assert cluster_order(tiny).tolist() == list(range(genres))
    assert sorted(genre_map(tiny)) == ([0, 1] if genres == 2 else [])
    assert nearest_genres(tiny, 3) == [[i for i in range(genres) if i != k] for k in range(genres)]


def test_map_is_the_principal_components_of_unit_vectors():
    vectors = rng(22).normal(size=(9, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    values = np.full((10, 10), np.nan)  # the last genre is unknown
    values[:9, :9] = vectors @ vectors.T
    places = genre_map(values)
    assert list(places) == list(range(9))
    found = np.array(list(places.values()))
    left, size, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    assert np.allclose(np.abs(found), np.abs(left[:, :2] * size[:2]))
    assert (found[np.abs(found).argmax(axis=0), [0, 1]] > 0).all()


def test_unknown_pairs_count_as_average_ones():
    holed = np.corrcoef(rng(1).normal(size=(6, 9)))
    holed[0, 1] = holed[1, 0] = holed[2, 4] = holed[4, 2] = np.nan
    mean = np.nanmean(holed[~np.eye(6, dtype=bool)])
    filled = np.where(np.isnan(holed), mean, holed)
    one, other = (list(genre_map(each).values()) for each in (holed, filled))
    assert np.allclose(one, other)


def test_nearest_genres_by_hand():
    values = np.full((4, 4), np.nan)
    values[:3, :3] = [[1, 0.5, 0.5], [0.5, 1, -0.2], [0.5, -0.2, 1]]
    assert nearest_genres(values, 2) == [[1, 2], [0, 2], [0, 1], []]
    assert nearest_genres(values, 1) == [[1], [0], [0], []]


def drawn(error: float, seed: int, size: int = 18) -> np.ndarray:
    """Always the same similarities, with another error for each seed."""
    learnt, noise = (np.triu(rng(each).normal(size=(size, size)), 1) for each in (999, seed))
    z = 0.4 * learnt + error * noise
    return np.tanh(z + z.T)


@pytest.mark.parametrize("error", [0.05, 0.3, 0.8])
def test_stability_is_what_two_draws_have_in_common(error):
    learnt = drawn(0, 0)
    upper = np.triu_indices(18, 1)
    rho, shared = [], []
    for seed in range(30):
        one, other = drawn(error, seed), drawn(error, 100 + seed)
        rho.append(spearman(one[upper], other[upper]))
        pairs = zip(nearest_genres(one, 3), nearest_genres(other, 3), strict=True)
        shared += [len({*a} & {*b}) / 3 for a, b in pairs]
    found = measure_stability(learnt, [learnt], np.full((18, 18), error))
    assert found.spearman == pytest.approx(np.mean(rho), abs=0.05)
    assert found.overlap == pytest.approx(np.mean(shared), abs=0.05)
    assert found.replicas is None


def test_noise_has_no_stability_and_certain_similarities_are_stable():
    learnt, certain = drawn(0, 0), np.zeros((18, 18))
    found = measure_stability(learnt, [learnt], certain + 10)
    assert abs(found.spearman) < 0.1
    assert not found.stable.any()
    found = measure_stability(learnt, [learnt, learnt], certain, min_overlap=0.99)
    assert (found.spearman, found.replicas, found.overlap) == (1, 1, 1)
    assert found.stable.all()
    found = measure_stability(learnt, [learnt, drawn(1, 1)], certain)
    assert found.spearman < 0.8, "replicas that disagree count, too"


def test_stability_of_part_of_the_genres():
    learnt = drawn(0.1, 5, 12)
    learnt[6] = learnt[:, 6] = np.nan
    found = measure_stability(learnt, [learnt], np.full((12, 12), 0.1))
    assert (found.by_genre[6], found.stable[6]) == (0, False)
    assert found.chance == pytest.approx(0.3)
    assert measure_stability(np.eye(2), [], np.ones((2, 2))) is None


def test_spearman_needs_three_entries_that_vary():
    a, b = rng(15).integers(0, 6, (2, 40))  # with ties
    assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert spearman(a[:2], b[:2]) is None
    assert spearman(a, np.ones(40)) is None
