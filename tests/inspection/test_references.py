import itertools
import math

import numpy as np
import pytest
from numpy.random import default_rng as rng
from scipy.stats import permutation_test, spearmanr

from benchmarks.statistics.simulation import complete
from genre_embeddings.inspection import references as evidence
from genre_embeddings.inspection.references import (
    TasteMoments,
    agreement,
    catalogue_similarity,
    holm,
    membership,
    movie_halves,
    noise_ceiling,
    pair_users,
    taste_moments,
    taste_similarity,
    upper_p_value,
    usable_genres,
)
from genre_embeddings.inspection.similarity import Similarity


def random_similarity(genres: int, seed: int) -> Similarity:
    return complete(np.corrcoef(rng(seed).normal(size=(genres, 6))))


def moments(user, movie, residual, table, shrinkage=0.0, **more) -> TasteMoments:
    return taste_moments(
        np.array(user), np.array(movie), np.array(residual), table, shrinkage, rng(0), **more
    )


# Movies: 0 is of genre A, 1 of B, 2 of A and B, 3 of C, 4 of none, 5 of A.
TABLE = membership([[0], [1], [0, 1], [2], [], [0]], 3)


def test_membership_by_hand():
    assert TABLE.astype(int).tolist() == [
        [1, 0, 0],
        [0, 1, 0],
        [1, 1, 0],
        [0, 0, 1],
        [0, 0, 0],
        [1, 0, 0],
    ]


def test_catalogue_by_hand():
    found = catalogue_similarity(np.column_stack([TABLE, np.zeros(6, dtype=bool)]))
    assert found.values[0, 1] == pytest.approx(1 / 4)  # one movie of both among four of either
    assert found.values[0, 2] == 0
    assert np.diagonal(found.values).tolist() == [1, 1, 1, 0]
    assert np.array_equal(found.known, np.outer([1, 1, 1, 0], [1, 1, 1, 0]))


def test_usable_genres_names_what_it_leaves_out():
    table = membership([[0, 1, 2], [0, 1], [3], [0, 1, 3]], 5)
    found = usable_genres(table, ["Drama", "Talkie", "Western", "War", "Opera"])
    assert found.mask.tolist() == [True, False, False, True, False]
    assert found.reasons == (
        "Western has 1 of the 2 movies that tell a genre from a movie",
        "Opera has 0 of the 2 movies that tell a genre from a movie",
        "Talkie has the same movies as Drama",
    )
    assert usable_genres(np.zeros((3, 0), dtype=bool), []).mask.shape == (0,)
    with pytest.raises(ValueError, match="zip"):
        usable_genres(table, ["Drama"])


def test_taste_by_hand():
    # Affinities of three users, shrinkage 1; movie 2 is of both genres and speaks for neither.
    user = [0, 0, 0, 0, 1, 1, 2, 2]
    movie = [0, 5, 1, 2, 0, 1, 5, 1]
    residual = [1.0, 0.5, 0.2, 9.0, -1.0, -0.4, 0.5, 0.1]
    a, b = [1.5 / 3, -1 / 2, 0.5 / 2], [0.2 / 2, -0.4 / 2, 0.1 / 2]
    found = moments(user, movie, residual, TABLE, shrinkage=1.0)
    assert pair_users(found)[0, 1] == pair_users(found)[1, 0] == 3
    assert found.first.sum(axis=0)[0, 1] == pytest.approx(sum(a))
    assert found.first.sum(axis=0)[1, 0] == pytest.approx(sum(b))
    assert found.second.sum(axis=0)[0, 1] == pytest.approx(np.dot(a, a))
    assert found.product.sum(axis=0)[1, 0] == pytest.approx(np.dot(a, b))
    taste = taste_similarity(found, 3)
    assert taste.values[0, 1] == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert taste.values[1, 0] == taste.values[0, 1]
    assert taste.genres.tolist() == [True, True, False]  # nobody rated genre C
    assert np.isfinite(taste.values).all()
    assert not taste_similarity(found, 4).known.any()


def test_taste_with_shared_movies_by_hand():
    user = [0, 0, 0, 1, 1, 2, 2]
    movie = [0, 1, 2, 0, 1, 0, 1]
    residual = [1.0, 0.2, 9.0, -1.0, -0.4, 0.5, 0.1]
    a, b = [10 / 2, -1, 0.5], [9.2 / 2, -0.4, 0.1]
    found = taste_similarity(moments(user, movie, residual, TABLE, shared_movies=True), 3)
    assert found.values[0, 1] == pytest.approx(np.corrcoef(a, b)[0, 1])


def test_taste_does_not_depend_on_the_order_of_ratings():
    user, movie, residual, table = world(1, effect=1.0)
    turn = rng(0).permutation(len(user))
    one = taste_similarity(taste_moments(user, movie, residual, table, 5.0, rng(1)), 10)
    other = taste_similarity(
        taste_moments(user[turn], movie[turn], residual[turn], table, 5.0, rng(2)), 10
    )
    assert np.allclose(one.values, other.values)


def test_taste_of_float32_is_summed_in_float64():
    user, movie, residual, table = world(1, effect=1.0)
    residual = residual.astype(np.float32)
    one, other = (
        taste_moments(user, movie, given, table, 5.0, rng(1))
        for given in (residual, residual.astype(np.float64))
    )
    assert np.array_equal(one.product, other.product)
    assert pair_users(one).dtype == np.int64


@pytest.mark.parametrize(("users", "blocks"), [(1, 2), (7, 7), (50, 40)])
def test_blocks_of_users(users, blocks):
    found = moments(np.arange(users), [0] * users, [0.5] * users, TABLE)
    assert len(found.users) == blocks


def test_work_in_small_parts_gives_the_same(monkeypatch):
    user, movie, residual, table = world(1, effect=1.0)
    whole = taste_moments(user, movie, residual, table, 5.0, rng(1))
    learnt, reference = random_similarity(6, 1), random_similarity(6, 2)
    orders = agreement(learnt, reference, 100, rng(1))
    monkeypatch.setattr(evidence, "_CELLS", 420)  # four users at a time, 28 orders at a time
    parts = taste_moments(user, movie, residual, table, 5.0, rng(1))
    for name in ("users", "first", "second", "product"):
        assert np.allclose(getattr(parts, name), getattr(whole, name))
    again = agreement(learnt, reference, 100, rng(1))
    assert again.null.shape == (100,)
    assert np.allclose(again.null, orders.null)


@pytest.mark.parametrize("affinities", [(0.3, 0.1), (0.0, 0.0)])
def test_constant_affinities_are_unknown(affinities):
    user, movie = np.repeat(np.arange(5), 2), np.tile([0, 1], 5)
    found = taste_similarity(moments(user, movie, np.tile(affinities, 5), TABLE), 3)
    assert not found.known.any()


def test_the_same_affinities_correlate_by_one_and_no_more():
    user, movie = np.repeat(np.arange(9), 2), np.tile([0, 1], 9)
    found = []
    for seed, sign in itertools.product(range(40), (1, -1)):
        liking = rng(seed).normal(size=9)
        residual = np.column_stack([liking, sign * 0.3 * liking]).ravel()
        found.append(taste_similarity(moments(user, movie, residual, TABLE), 3).values[0, 1])
    assert np.allclose(np.abs(found), 1)
    assert max(np.abs(found)) <= 1


@pytest.mark.parametrize("table", [TABLE, np.zeros((6, 0), dtype=bool)])
def test_no_ratings_and_no_genres_are_unknown(table):
    found = taste_moments(
        np.array([], dtype=int), np.array([], dtype=int), np.array([]), table, 5.0, rng(0)
    )
    assert not taste_similarity(found, 3).known.any()
    for splits in (0, 20):
        ceiling = noise_ceiling(found, 3, splits, rng(0))
        assert (ceiling.ceiling, ceiling.reliability, ceiling.halves) == (None, None, None)
        assert ceiling.reason == "fewer than 3 pairs of genres have 3 users in common"
        assert ceiling.pairs == 0


def world(seed, effect, users=600, movies=300, genres=10, noise=0.8):
    """Residuals of a world in which other genres come together than are alike."""
    draw = rng(seed)
    table = np.zeros((movies, genres), dtype=bool)
    first = draw.integers(genres, size=movies)
    table[np.arange(movies), first] = True
    partner = (first + genres // 2) % genres  # genres k and k + 5 come together …
    both = draw.random(movies) < 0.5
    table[np.flatnonzero(both), partner[both]] = True
    place = positions(genres)
    taste = draw.normal(size=(users, place.shape[1]))
    key = np.unique(draw.integers(users * movies, size=25 * users))
    user, movie = np.divmod(key, movies)
    weight = table / np.sqrt(table.sum(axis=1, keepdims=True))
    signal = ((taste @ place.T)[user] * weight[movie]).sum(axis=1)
    return user, movie, effect * signal + noise * draw.normal(size=len(user)), table


def positions(genres):
    """… while k and k + 1 are alike: places on a circle."""
    angle = 2 * np.pi * np.arange(genres) / genres
    return np.column_stack([np.cos(angle), np.sin(angle)])


def test_leaving_out_shared_movies_recovers_more_truth_and_less_catalogue():
    truth = positions(10) @ positions(10).T
    pairs = np.triu_indices(10, 1)
    scores = {}
    for effect, shared in itertools.product((0.0, 0.5), (False, True)):
        rhos = []
        for seed in range(3):
            user, movie, residual, table = world(seed, effect)
            found = taste_moments(user, movie, residual, table, 5.0, rng(0), shared_movies=shared)
            taste = taste_similarity(found, 10).values[pairs]
            catalogue = catalogue_similarity(table).values[pairs]
            rhos.append([spearmanr(taste, other).statistic for other in (truth[pairs], catalogue)])
        scores[effect, shared] = np.mean(rhos, axis=0)
    assert scores[0.5, False][0] > scores[0.5, True][0] + 0.1
    assert abs(scores[0.0, False][1]) < 0.2  # a world without taste for genres
    assert scores[0.0, True][1] > 0.5


def test_ceiling_bounds_what_the_truth_reaches():
    truth = positions(10) @ positions(10).T
    pairs = np.triu_indices(10, 1)
    ceilings, reached = [], []
    for effect in (0.0, 0.3, 1.0):
        user, movie, residual, table = world(5, effect)
        found = taste_moments(user, movie, residual, table, 5.0, rng(0))
        ceilings.append(noise_ceiling(found, 10, 20, rng(0)))
        taste = taste_similarity(found, 10)
        reached.append(spearmanr(taste.values[pairs], truth[pairs]).statistic)
    values = [ceiling.ceiling for ceiling in ceilings]
    assert values[0] < 0.5
    assert 0.6 < values[1] < values[2]
    assert values[2] > 0.95
    assert all(value > rho - 0.1 for value, rho in zip(values, reached, strict=True))
    assert values[1] - 0.25 < reached[1]


def test_taste_for_these_very_movies_is_not_taste_for_their_genres():
    """A few movies in sets that mean nothing: halves of the users agree, of the movies do not."""
    draw = rng(0)
    table = np.zeros((40, 10), dtype=bool)
    table[np.arange(40), np.arange(40) % 10] = True
    user, movie = np.divmod(np.arange(3000 * 40), 40)
    for by_genre, alike in ((False, False), (True, True)):
        place = positions(10)[np.arange(40) % 10] if by_genre else draw.normal(size=(40, 2))
        residual = (draw.normal(size=(3000, 2)) @ place.T).ravel() + draw.normal(size=len(user))
        ceiling = noise_ceiling(
            taste_moments(user, movie, residual, table, 5.0, rng(0)), 20, 20, rng(0)
        )
        assert ceiling.halves > 0.9
        found = movie_halves(user, movie, residual, table, 5.0, 20, rng(0))
        assert (found > 0.9) == alike
        assert alike or abs(found) < 0.3


def test_halves_of_too_few_movies_cannot_be_compared():
    rating = np.array([0]), np.array([1]), np.array([0.5])
    assert movie_halves(*rating, TABLE, 5.0, 3, rng(0)) is None


@pytest.mark.parametrize(
    ("users", "fewest", "measured"),
    [(3, 6, True), (3, 7, True), (3, 5, True), (2, 4, False), (5, 12, False), (6, 12, True)],
)
def test_halves_of_movies_need_half_of_the_users(users, fewest, measured):
    """Six movies, two of each genre: only halves with a movie of each genre can be compared."""
    table = membership([[0], [0], [1], [1], [2], [2]], 3)
    user, movie = np.divmod(np.arange(users * 6), 6)
    residual = rng(1).normal(size=users * 6)
    found = movie_halves(user, movie, residual, table, 5.0, fewest, rng(4))
    assert (found is not None) == measured


def test_halves_of_movies_are_heard_of_some_users_where_there_are_many(monkeypatch):
    user, movie, residual, table = world(3, effect=1.0)
    monkeypatch.setattr(evidence, "_MOVIE_USERS", 100)
    draw = rng(5)
    asked = np.isin(user, draw.choice(np.unique(user), 100, replace=False))
    expected = movie_halves(user[asked], movie[asked], residual[asked], table, 5.0, 10, draw)
    assert movie_halves(user, movie, residual, table, 5.0, 10, rng(5)) == expected
    assert 0.2 < expected < 1


def halved(first, second, users=((10,) * 6, (10,) * 6)) -> TasteMoments:
    """Two blocks of users, so that the halves are always the one and the other: of six pairs of
    four genres the product of affinities, and the number of users."""
    upper = np.triu_indices(4, 1)
    product, count = np.zeros((2, 2, 4, 4))
    for block, (values, counted) in enumerate(zip((first, second), users, strict=True)):
        product[block][upper], count[block][upper] = values, counted
    product, count = product + product.transpose(0, 2, 1), count + count.transpose(0, 2, 1)
    return TasteMoments(count, np.zeros((2, 4, 4)), np.full((2, 4, 4), 10.0), product)


def test_halves_that_contradict_each_other_leave_no_ceiling():
    ceiling = noise_ceiling(halved([1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1]), 6, 4, rng(0))
    assert (ceiling.halves, ceiling.reliability, ceiling.ceiling) == (-1, 0, 0)


@pytest.mark.parametrize(
    ("fewest", "first", "second", "compared"),
    [
        (6, 3, 3, True),
        (7, 3, 4, True),  # half of 7 is 3
        (7, 3, 3, False),  # enough for the halves, too few for the whole
        (12, 5, 20, False),
        (4, 2, 20, False),  # no correlation without three users
    ],
)
def test_halves_need_half_of_the_users(fewest, first, second, compared):
    users = [first, *[30] * 5], [second, *[30] * 5]
    found = halved([1, 2, 3, 4, 5, 6], [2, 1, 3, 4, 6, 5], users)
    ceiling = noise_ceiling(found, fewest, 20, rng(0))
    assert ceiling.pairs == 5 + compared
    pairs = slice(0 if compared else 1, None)
    expected = spearmanr([1, 2, 3, 4, 5, 6][pairs], [2, 1, 3, 4, 6, 5][pairs]).statistic
    assert ceiling.halves == pytest.approx(expected)


def test_spearman_brown_by_hand():
    found = halved([1, 2, 3, 4, 5, 6], [2, 1, 3, 4, 6, 5])
    rho = spearmanr([1, 2, 3, 4, 5, 6], [2, 1, 3, 4, 6, 5]).statistic
    ceiling = noise_ceiling(found, 6, 20, rng(0))
    assert ceiling.halves == pytest.approx(rho)
    assert ceiling.reliability == pytest.approx(2 * rho / (1 + rho))
    assert ceiling.ceiling == pytest.approx(math.sqrt(2 * rho / (1 + rho)))
    assert ceiling.pairs == 6


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


def test_same_seed_same_numbers():
    user, movie, residual, table = world(2, effect=0.5)
    results = []
    for _ in range(2):
        draw = rng(3)
        found = taste_moments(user, movie, residual, table, 5.0, draw)
        ceiling = noise_ceiling(found, 10, 20, draw)
        score = agreement(catalogue_similarity(table), taste_similarity(found, 10), 99, draw)
        results.append((ceiling, score.spearman, score.p_value, score.null.tobytes()))
    assert results[0] == results[1]
