"""Agreement of two similarities against SciPy and the definitions."""

import itertools
import math

import numpy as np
import pytest
from numpy.random import default_rng as rng
from scipy.stats import spearmanr

from genre_embeddings.inspection.agreement import agreement, difference, holm


def random_similarity(genres: int, seed: int) -> np.ndarray:
    return np.corrcoef(rng(seed).normal(size=(genres, 6)))


def tied_similarity(seed: int) -> np.ndarray:
    values = rng(seed).integers(0, 3, (5, 5)).astype(float)
    return values + values.T


@pytest.mark.parametrize(
    ("learnt", "reference", "holes"),
    [
        *((random_similarity(5, 3), random_similarity(5, 4), holes) for holes in (0, 2, 4)),
        *((tied_similarity(seed), tied_similarity(10 + seed), 0) for seed in range(3)),
    ],
)
def test_p_values_are_those_of_all_orders(learnt, reference, holes):
    """Five genres have 120 orders: p-values of shuffles are compared with those of all orders."""
    known = np.ones((5, 5), dtype=bool)
    for k, other in [(0, 3), (1, 2), (0, 4), (2, 4)][:holes]:
        known[k, other] = known[other, k] = False
    reference = np.where(known, reference, np.nan)
    pairs = np.nonzero(np.triu(known, 1))
    every = [
        spearmanr(learnt[np.ix_(order, order)][pairs], reference[pairs]).statistic
        for order in map(list, itertools.permutations(range(5)))
    ]
    found = agreement(learnt, reference, 9999, rng(0))
    assert found.spearman == pytest.approx(every[0])
    assert found.p_value == pytest.approx(np.mean(np.array(every) >= every[0] - 1e-9), abs=0.02)
    assert np.abs(np.array(every) - found.null_95).min() < 1e-9
    assert found.null_95 == pytest.approx(np.quantile(every, 0.95, method="higher"), abs=0.15)
    assert found.smallest_p == pytest.approx(1 / 120)


def test_a_p_value_is_never_zero():
    same = random_similarity(9, 1)
    found = agreement(same, same, 99, rng(0))
    assert found.p_value == found.smallest_p == pytest.approx(0.01)


def test_genres_unknown_to_either_side_are_left_out():
    first, last = np.arange(7) != 0, np.arange(7) != 6
    learnt = np.where(np.outer(first, first), random_similarity(7, 8), np.nan)
    known = np.outer(last, last) | np.eye(7, dtype=bool)
    reference = np.where(known, random_similarity(7, 9), np.nan)
    keep = np.ix_(range(1, 6), range(1, 6))
    same = agreement(learnt[keep], reference[keep], 99, rng(0))
    assert agreement(learnt, reference, 99, rng(0)) == same
    assert same.genres == 5


NO_DIFFERENCE = "the pairs do not differ, in the learnt similarity or in the reference"


@pytest.mark.parametrize(
    ("genres", "why"),
    [
        (0, "0 genres and 0 pairs can be compared; at least 3 of each are needed"),
        (2, "2 genres and 1 pairs can be compared; at least 3 of each are needed"),
        (3, NO_DIFFERENCE),
    ],
)
def test_agreement_that_cannot_be_measured_says_why(genres, why):
    reference = random_similarity(genres, 1) if genres else np.eye(0)
    found = agreement(np.eye(genres), reference, 99, rng(0))
    assert (found.spearman, found.p_value, found.null_95) == (None, None, None)
    assert (found.reason, found.genres) == (why, genres)
    assert found.smallest_p == pytest.approx(max(1 / 100, 1 / math.factorial(genres)))


@pytest.mark.parametrize("seed", range(5))
def test_holm_is_the_closed_test_of_bonferronis(seed):
    """A hypothesis is rejected where every set of hypotheses that contains it is."""
    p = rng(seed).random(4) ** 2
    sets = [s for size in range(1, 5) for s in itertools.combinations(range(4), size)]
    expected = [
        max(min(1, len(s) * min(p[j] for j in s)) for s in sets if i in s) for i in range(4)
    ]
    assert holm(p.tolist()) == pytest.approx(expected)


def symmetric_noise(seed: int) -> np.ndarray:
    noise = np.triu(rng(seed).normal(size=(9, 9)), 1)
    return noise + noise.T


def test_difference_is_that_of_the_correlations_and_its_interval_covers_resampled_users():
    truth = np.corrcoef(rng(0).normal(size=(9, 4)))
    good, bad = truth + 0.05 * symmetric_noise(1), truth + 0.5 * symmetric_noise(2)
    influence = np.stack([0.02 * symmetric_noise(k) for k in range(10, 90)])
    found = difference(good, bad, truth, influence, 2000, rng(3))
    pairs = np.triu_indices(9, 1)
    rhos = [spearmanr(one[pairs], truth[pairs])[0] for one in (good, bad)]
    assert found.estimate == pytest.approx(rhos[0] - rhos[1])
    assert found.high - found.estimate == pytest.approx(found.estimate - found.low)
    # Half the influence of each user: an interval about half as wide
    narrow = difference(good, bad, truth, influence / 2, 2000, rng(3))
    assert (found.high - found.low) / (narrow.high - narrow.low) == pytest.approx(2, rel=0.35)
    two = np.eye(2)
    assert difference(two, two, two, np.zeros((4, 2, 2)), 100, rng(0)) is None
