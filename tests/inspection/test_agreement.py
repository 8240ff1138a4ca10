import itertools
import math

import numpy as np
import pytest
from numpy.random import default_rng as rng
from scipy.stats import permutation_test, spearmanr

from benchmarks.statistics.simulation import complete
from genre_embeddings.inspection.agreement import agreement, difference, holm, upper_p_value
from genre_embeddings.inspection.similarity import Similarity


def random_similarity(genres: int, seed: int) -> Similarity:
    return complete(np.corrcoef(rng(seed).normal(size=(genres, 6))))


def test_agreement_is_scipys_spearman():
    learnt, reference = random_similarity(8, 1), random_similarity(8, 2)
    pairs = np.triu_indices(8, 1)
    found = agreement(learnt, reference, 99, rng(0))
    expected = spearmanr(learnt.values[pairs], reference.values[pairs]).statistic
    assert found.spearman == pytest.approx(expected)
    assert (found.genres, found.pairs, len(found.null)) == (8, 28, 99)
    assert found.null_95 in found.null


@pytest.mark.parametrize("holes", [0, 2, 3, 4])
def test_null_is_that_of_all_orders(holes):
    """Five genres have 120 orders: all of them, one by one, against the vectorised null."""
    learnt, reference = random_similarity(5, 3), random_similarity(5, 4)
    known = np.ones((5, 5), dtype=bool)
    for k, other in [(0, 3), (1, 2), (0, 4), (2, 4)][:holes]:
        known[k, other] = known[other, k] = False
    reference = Similarity(np.where(known, reference.values, 0), known)
    pairs = np.nonzero(np.triu(known, 1))
    every = [
        spearmanr(learnt.values[np.ix_(order, order)][pairs], reference.values[pairs]).statistic
        for order in map(list, itertools.permutations(range(5)))
    ]
    found = agreement(learnt, reference, 5000, rng(0))
    assert set(found.null.round(9)) == set(np.round(every, 9))
    share = np.mean(np.array(every) >= found.spearman - 1e-9)
    assert found.p_value == pytest.approx(share, abs=0.02)
    assert found.null_95 == pytest.approx(np.quantile(every, 0.95, method="higher"), abs=0.15)
    assert found.null_95 in found.null
    assert found.smallest_p == pytest.approx(1 / 120)


def test_p_value_is_scipys():
    learnt, reference = random_similarity(12, 5), random_similarity(12, 5)
    noisy = learnt.values + 0.9 * random_similarity(12, 7).values
    learnt = complete(noisy)
    rows, columns = np.triu_indices(12, 1)

    def statistic(order):
        shuffled = learnt.values[np.ix_(order.astype(int), order.astype(int))]
        return spearmanr(shuffled[rows, columns], reference.values[rows, columns]).statistic

    expected = permutation_test(
        (np.arange(12),),
        statistic,
        permutation_type="pairings",
        n_resamples=999,
        alternative="greater",
        rng=rng(1),
    )
    found = agreement(learnt, reference, 9999, rng(0))
    assert found.p_value == pytest.approx(expected.pvalue, abs=0.03)


def test_false_alarms_are_as_rare_as_they_say():
    p = [
        agreement(random_similarity(9, one), random_similarity(9, 1000 + one), 199, rng(0)).p_value
        for one in range(200)
    ]
    assert 0.01 < np.mean(np.array(p) <= 0.05) < 0.1
    assert np.mean(p) == pytest.approx(0.5, abs=0.08)


def test_genres_unknown_to_either_side_are_left_out():
    learnt, reference = random_similarity(7, 8), random_similarity(7, 9)
    one = learnt.restrict(np.arange(7) != 0)
    other = reference.restrict(np.arange(7) != 6)
    found = agreement(one, other, 99, rng(0))
    keep = np.ix_(range(1, 6), range(1, 6))
    same = agreement(complete(learnt.values[keep]), complete(reference.values[keep]), 99, rng(0))
    assert (found.genres, found.pairs) == (5, 10)
    assert found.spearman == pytest.approx(same.spearman)
    assert np.allclose(found.null, same.null)


def test_a_genre_without_a_known_pair_is_left_out():
    known = np.ones((6, 6), dtype=bool)
    known[0, 1:] = known[1:, 0] = False
    reference = Similarity(np.where(known, random_similarity(6, 9).values, 0), known)
    assert agreement(random_similarity(6, 8), reference, 99, rng(0)).genres == 5


def test_an_order_in_which_nothing_differs_agrees_by_zero():
    values, known = np.zeros((4, 4)), np.ones((4, 4), dtype=bool)
    values[0, 1] = values[1, 0] = 1
    known[2, 3] = known[3, 2] = False
    reference = Similarity(np.where(known, random_similarity(4, 1).values, 0), known)
    assert 0 in agreement(complete(values), reference, 99, rng(0)).null


def test_a_learnt_similarity_with_holes_is_refused():
    known = np.ones((5, 5), dtype=bool)
    known[0, 1] = known[1, 0] = False
    with pytest.raises(
        ValueError,
        match=r"^agreement: the learnt similarity lacks pairs; pass it as the reference$",
    ):
        agreement(Similarity(np.eye(5), known), random_similarity(5, 1), 9, rng(0))


@pytest.mark.parametrize(
    ("learnt", "why"),
    [
        (np.eye(0), "0 genres and 0 pairs can be compared; it takes at least 3 of each"),
        (np.eye(2), "2 genres and 1 pairs can be compared; it takes at least 3 of each"),
        (np.eye(3), "the pairs do not differ, in the learnt similarity or in the reference"),
        (np.eye(6), "the pairs do not differ, in the learnt similarity or in the reference"),
    ],
)
def test_agreement_that_cannot_be_measured_says_why(learnt, why):
    genres = len(learnt)
    reference = complete(np.eye(0)) if genres == 0 else random_similarity(genres, 1)
    found = agreement(complete(learnt), reference, 99, rng(0))
    assert found.spearman is None
    assert found.p_value is None
    assert found.null_95 is None
    assert found.reason == why
    assert (found.genres, found.pairs) == (genres, genres * (genres - 1) // 2)
    assert found.smallest_p == pytest.approx(max(1 / 100, 1 / math.factorial(genres)))
    assert found.null.shape == (0,)


def test_no_permutations_leave_the_observed_value():
    found = agreement(random_similarity(5, 1), random_similarity(5, 2), 0, rng(0))
    assert found.spearman is not None
    assert (found.p_value, found.null_95, found.smallest_p) == (1.0, None, 1.0)


def test_plus_one_rule_by_hand():
    null = np.array([0.1, 0.2, 0.3, 0.4])
    assert upper_p_value(0.35, null) == pytest.approx(2 / 5)
    assert upper_p_value(0.3, null) == pytest.approx(3 / 5)
    assert upper_p_value(0.9, null) == pytest.approx(1 / 5)


def test_holm_by_hand():
    # Sorted .01, .02, .03, .04 times 4, 3, 2, 1: .04, .06, .06, .06.
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.7, 0.9]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


def test_difference_is_that_of_the_correlations_and_its_interval_covers_resampled_users():
    truth = np.corrcoef(rng(0).normal(size=(9, 4)))
    good = complete(truth + 0.05 * symmetric_noise(1))
    bad = complete(truth + 0.5 * symmetric_noise(2))
    influence = np.stack([0.02 * symmetric_noise(k) for k in range(10, 90)])
    reference = complete(truth)
    found = difference(good, bad, reference, influence, 2000, rng(3))
    pairs = np.triu_indices(9, 1)
    rhos = [spearmanr(one.values[pairs], truth[pairs])[0] for one in (good, bad)]
    assert found.estimate == pytest.approx(rhos[0] - rhos[1])
    assert found.low < found.estimate < found.high
    assert found.high - found.estimate == pytest.approx(found.estimate - found.low)
    # Half the influence of each user: an interval about half as wide
    narrow = difference(good, bad, reference, influence / 2, 2000, rng(3))
    assert (found.high - found.low) / (narrow.high - narrow.low) == pytest.approx(2, rel=0.35)
    same = difference(good, good, reference, influence, 200, rng(4))
    assert (same.estimate, same.low, same.high) == (0, 0, 0)


def test_a_difference_of_too_few_pairs_is_not_known():
    two = complete(np.eye(2))
    assert difference(two, two, two, np.zeros((4, 2, 2)), 100, rng(0)) is None


def symmetric_noise(seed: int) -> np.ndarray:
    noise = rng(seed).normal(size=(9, 9))
    return np.triu(noise, 1) + np.triu(noise, 1).T
