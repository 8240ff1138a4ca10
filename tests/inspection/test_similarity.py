"""Similarity of genres; their order, map and neighbours; stability."""

import numpy as np
import pytest
from numpy.random import default_rng as rng
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform
from scipy.stats import spearmanr

from benchmarks.statistics.simulation import complete
from genre_embeddings.inspection.similarity import (
    Similarity,
    centred_cosine,
    cluster_order,
    genre_map,
    measure_stability,
    nearest_genres,
    response_similarity,
    similarity_interval,
    spearman,
)


def similarity(values) -> Similarity:
    """A Similarity in which NaN stands for unknown."""
    values = np.array(values, dtype=float)
    return Similarity(np.nan_to_num(values), ~np.isnan(values))


def test_responses_are_correlated_over_users_after_the_mean_over_replicas():
    responses = rng(1).normal(size=(3, 40, 4))
    assert np.allclose(response_similarity(responses).values, np.corrcoef(responses.mean(axis=0).T))
    single = responses.astype(np.float32)
    wide = response_similarity(single.astype(np.float64))
    assert np.array_equal(response_similarity(single).values, wide.values)


@pytest.mark.parametrize("last", [5.0, 4 + 1e-6 * rng(0).normal(size=50), np.nan])
def test_a_genre_that_moves_nobody_or_diverged_is_unknown_and_leaves_the_others_alone(last):
    responses = rng(0).normal(size=(50, 3))
    responses[:, 2] = last
    found = response_similarity(responses)
    assert found.genres.tolist() == [True, True, False]
    assert found.values[2].tolist() == [0, 0, 0]
    assert np.allclose(found.values[:2, :2], np.corrcoef(responses[:, :2].T))


def test_correlations_stay_within_their_range():
    responses = rng(2).normal(size=(7, 60))
    twice = np.hstack([responses, responses, -responses])
    assert np.abs(response_similarity(twice).values).max() <= 1
    assert np.abs(centred_cosine(twice.T).values).max() <= 1


@pytest.mark.parametrize("shape", [(2, 5), (0, 5), (9, 0)])
def test_too_little_to_compare_is_unknown_and_not_nan(shape):
    found = response_similarity(rng(0).normal(size=shape))
    assert not found.known.any()
    assert not found.values.any()


def test_centred_cosine_by_hand():
    # The mean is (1, 1): (1, 0), (-1, 0), (0, 1), (0, -1) and nothing are left.
    embeddings = np.array([[2, 1], [0, 1], [1, 2], [1, 0], [1, 1]])
    found = centred_cosine(embeddings)
    assert found.values[0].tolist() == [1, -1, 0, 0, 0]
    assert found.genres.tolist() == [True, True, True, True, False]
    assert np.array_equal(found.known, np.outer(found.genres, found.genres))
    assert np.allclose(centred_cosine(1e-9 * embeddings).values, found.values)
    assert not centred_cosine(np.array([[3.0, 4.0]])).known.any()  # a genre alone is the mean


def test_intervals_are_fishers():
    """As in a table of the correlation coefficient: r = 0.5 of 103 users."""
    found = similarity([[1, 0.5, np.nan], [0.5, 1, np.nan], [np.nan] * 3])
    low, high = similarity_interval(found, np.full((3, 3), 0.1))
    assert low[0, 1] == pytest.approx(0.3393, abs=1e-4)
    assert high[0, 1] == pytest.approx(0.6323, abs=1e-4)
    assert np.diagonal(low).tolist() == [1, 1, -1]
    assert np.diagonal(high).tolist() == [1, 1, 1]
    assert (low[0, 2], high[0, 2]) == (-1, 1)


@pytest.mark.parametrize("seed", range(6))
def test_cluster_order_follows_the_tree_of_averages(seed):
    values = np.corrcoef(rng(seed).normal(size=(8, 6)))
    holed = np.full((9, 9), np.nan)  # a genre that is unknown comes last
    holed[1:, 1:] = values
    order = cluster_order(similarity(holed)).tolist()
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
    tiny = similarity(np.eye(genres))
    assert cluster_order(tiny).tolist() == list(range(genres))
    assert sorted(genre_map(tiny)) == ([0, 1] if genres == 2 else [])
    assert nearest_genres(tiny, 3) == [[i for i in range(genres) if i != k] for k in range(genres)]


def test_map_is_the_principal_components_of_unit_vectors():
    vectors = rng(22).normal(size=(9, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    values = np.full((10, 10), np.nan)  # the last genre is unknown
    values[:9, :9] = vectors @ vectors.T
    places = genre_map(similarity(values))
    assert list(places) == list(range(9))
    found = np.array(list(places.values()))
    left, size, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    assert np.allclose(np.abs(found), np.abs(left[:, :2] * size[:2]))
    assert (found[np.abs(found).argmax(axis=0), [0, 1]] > 0).all()


def test_unknown_pairs_count_as_average_ones():
    holed = np.corrcoef(rng(1).normal(size=(6, 9)))
    holed[0, 1] = holed[1, 0] = holed[2, 4] = holed[4, 2] = np.nan
    mean = np.nanmean(holed[~np.eye(6, dtype=bool)])
    filled = similarity(np.where(np.isnan(holed), mean, holed))
    one, other = (list(genre_map(each).values()) for each in (similarity(holed), filled))
    assert np.allclose(one, other)


def test_nearest_genres_by_hand():
    values = [[1, 0.5, 0.5, np.nan], [0.5, 1, -0.2, np.nan], [0.5, -0.2, 1, np.nan], [np.nan] * 4]
    assert nearest_genres(similarity(values), 2) == [[1, 2], [0, 2], [0, 1], []]
    assert nearest_genres(similarity(values), 1) == [[1], [0], [0], []]


def drawn(error: float, seed: int, size: int = 18) -> Similarity:
    """Always the same similarities, with another error for each seed."""
    learnt, noise = (np.triu(rng(each).normal(size=(size, size)), 1) for each in (999, seed))
    z = 0.4 * learnt + error * noise
    return complete(np.tanh(z + z.T))


@pytest.mark.parametrize("error", [0.05, 0.3, 0.8])
def test_stability_is_what_two_draws_have_in_common(error):
    learnt = drawn(0, 0)
    upper = np.triu_indices(18, 1)
    rho, shared = [], []
    for seed in range(30):
        one, other = drawn(error, seed), drawn(error, 100 + seed)
        rho.append(spearman(one.values[upper], other.values[upper]))
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
    values = drawn(0.1, 5, 12).values
    values[6] = values[:, 6] = np.nan
    learnt = similarity(values)
    found = measure_stability(learnt, [learnt], np.full((12, 12), 0.1))
    assert (found.by_genre[6], found.stable[6]) == (0, False)
    assert found.chance == pytest.approx(0.3)
    assert measure_stability(similarity(np.eye(2)), [], np.ones((2, 2))) is None


def test_spearman_needs_three_entries_that_vary():
    a, b = rng(15).integers(0, 6, (2, 40))  # with ties
    assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert spearman(a[:2], b[:2]) is None
    assert spearman(a, np.ones(40)) is None
