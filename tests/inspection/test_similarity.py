from itertools import combinations

import numpy as np
import pytest
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform
from scipy.stats import spearmanr

from genre_embeddings.inspection.similarity import (
    Similarity,
    centred_cosine,
    cluster_order,
    genre_labels,
    genre_map,
    nearest_genres,
    replica_similarities,
    replica_stability,
    response_similarity,
    similarity_interval,
    spearman,
)


def similarity(values) -> Similarity:
    """A Similarity in which NaN stands for unknown."""
    values = np.array(values, dtype=float)
    return Similarity(np.nan_to_num(values), ~np.isnan(values))


def test_response_similarity_by_hand():
    responses = np.array([[1, 2, -1, 5], [2, 4, -2, 5], [3, 6, -4, 5], [4, 8, -3, 5.0]])
    found = response_similarity(responses)
    assert found.values[0, 1] == pytest.approx(1)
    assert found.values[0, 2] == pytest.approx(np.corrcoef(responses[:, 0], responses[:, 2])[0, 1])
    assert found.values[0, 2] == pytest.approx(-0.8)
    assert found.genres.tolist() == [True, True, True, False]
    assert found.values[3].tolist() == [0, 0, 0, 0]  # the last genre moves nobody
    assert np.diagonal(found.values).tolist() == [1, 1, 1, 0]


def test_rounding_noise_is_no_response():
    rng = np.random.default_rng(0)
    responses = rng.normal(size=(50, 3))
    responses[:, 2] = 4 + 1e-6 * rng.normal(size=50)
    assert response_similarity(responses).genres.tolist() == [True, True, False]


def test_a_diverged_genre_is_unknown_and_leaves_the_others_alone():
    responses = np.random.default_rng(0).normal(size=(50, 3))
    expected = response_similarity(responses).values[:2, :2]
    responses[7, 2] = np.nan
    found = response_similarity(responses)
    assert found.genres.tolist() == [True, True, False]
    assert np.allclose(found.values[:2, :2], expected)
    assert np.isfinite(found.values).all()


def test_replicas_are_averaged_before_they_are_compared():
    responses = np.random.default_rng(1).normal(size=(3, 40, 4))
    mean = response_similarity(responses)
    assert np.allclose(mean.values, np.corrcoef(responses.mean(axis=0).T))
    each = replica_similarities(responses)
    assert np.allclose(each[2].values, np.corrcoef(responses[2].T))
    assert not any(one.known.any() for one in replica_similarities(responses, min_spread=9.0))


def test_numbers_in_float32_are_summed_in_float64():
    responses = np.random.default_rng(1).normal(5, 1, (3, 40, 4)).astype(np.float32)
    for given in (responses, responses[0]):
        wide = response_similarity(given.astype(np.float64))
        assert np.array_equal(response_similarity(given).values, wide.values)
    same = [similarity(np.eye(40))] * 3
    wide = replica_stability(same, responses.astype(np.float64)).cka
    assert replica_stability(same, responses).cka == wide
    wide = centred_cosine(responses[0].astype(np.float64)).values
    assert np.array_equal(centred_cosine(responses[0]).values, wide)


def test_correlations_stay_within_their_range():
    rng = np.random.default_rng(2)
    responses = rng.normal(size=(7, 60))
    values = response_similarity(np.hstack([responses, responses, -responses])).values
    assert np.array_equal(np.abs(values) > 1, np.zeros((180, 180), dtype=bool))
    embeddings = rng.normal(size=(60, 7))
    values = centred_cosine(np.vstack([embeddings, embeddings, -embeddings, -embeddings])).values
    assert np.array_equal(np.abs(values) > 1, np.zeros((240, 240), dtype=bool))


def test_three_users_suffice_and_no_response_does_not():
    responses = np.array([[1.0, 1.0, 0.0], [2.0, 3.0, 0.0], [3.0, 2.0, 0.0]])
    found = response_similarity(responses, min_spread=0.0)
    assert found.values[0, 1] == pytest.approx(0.5)
    assert found.genres.tolist() == [True, True, False]


@pytest.mark.parametrize("shape", [(2, 5), (0, 5), (9, 0)])
def test_too_little_to_compare_is_unknown_and_not_nan(shape):
    found = response_similarity(np.random.default_rng(0).normal(size=shape))
    assert not found.known.any()
    assert not found.values.any()


def test_change_of_basis_moves_the_cosine_and_not_the_responses():
    """E -> EA with the inverse of A in the weights is the same model."""
    rng = np.random.default_rng(2)
    users, genres, size, hidden = 200, 9, 5, 16
    taste, genre = rng.normal(size=(users, size)), rng.normal(size=(genres, size))
    of_user, of_genre = rng.normal(size=(size, hidden)), rng.normal(size=(size, hidden))
    out = rng.normal(size=hidden)

    def responses(genre: np.ndarray, of_genre: np.ndarray) -> np.ndarray:
        asked = np.vstack([np.zeros(size), genre])  # (1 + G, D)
        layer = np.tanh((taste @ of_user)[:, None] + (asked @ of_genre)[None])
        rating = layer @ out  # (N, 1 + G)
        return rating[:, 1:] - rating[:, :1]

    change = rng.normal(size=(size, size))
    moved, undone = genre @ change, np.linalg.inv(change) @ of_genre
    before, after = responses(genre, of_genre), responses(moved, undone)
    assert np.allclose(before, after)
    assert np.allclose(response_similarity(before).values, response_similarity(after).values)
    pairs = np.triu_indices(genres, 1)
    rho = spearman(centred_cosine(genre).values[pairs], centred_cosine(moved).values[pairs])
    assert rho < 0.9


def test_centred_cosine_by_hand():
    # The mean is (1, 1): what is left are (1, 0), (-1, 0), (0, 1), (0, -1) and nothing.
    found = centred_cosine(np.array([[2, 1], [0, 1], [1, 2], [1, 0], [1, 1]]))
    assert found.values[0].tolist() == [1, -1, 0, 0, 0]
    assert found.genres.tolist() == [True, True, True, True, False]
    assert np.array_equal(found.known, np.outer(found.genres, found.genres))
    assert centred_cosine(np.zeros((0, 3))).values.shape == (0, 0)
    assert not centred_cosine(np.array([[3.0, 4.0]])).known.any()  # a genre alone is the mean


@pytest.mark.parametrize("size", [1e-9, 1e-4, 1e6])
def test_cosines_know_no_unit(size):
    embeddings = np.random.default_rng(3).normal(size=(5, 3))
    found = centred_cosine(size * embeddings)
    assert found.known.all()
    assert np.allclose(found.values, centred_cosine(embeddings).values)


def test_intervals_are_fishers():
    """As in a table of the correlation coefficient: r = 0.5 of 103 users."""
    values, known = np.array([[1, 0.5], [0.5, 1]]), np.ones((2, 2), dtype=bool)
    low, high = similarity_interval(Similarity(values, known), np.full((2, 2), 0.1))
    assert low[0, 1] == pytest.approx(0.3393, abs=1e-4)
    assert high[0, 1] == pytest.approx(0.6323, abs=1e-4)
    assert np.diagonal(low).tolist() == np.diagonal(high).tolist() == [1, 1]


def test_what_is_not_known_or_not_measured_has_no_interval():
    values, known = np.eye(3), np.ones((3, 3), dtype=bool)
    known[2] = known[:, 2] = False
    low, high = similarity_interval(Similarity(values, known), np.full((3, 3), 10.0))
    assert low[0, 1] == low[0, 2] == low[2, 2] == pytest.approx(-1)
    assert high[0, 1] == high[0, 2] == high[2, 2] == pytest.approx(1)


def test_cluster_order_puts_families_together():
    # Genres 0, 2, 4 are one family, 1 and 3 the other; 5 is unknown and comes last.
    values = np.full((6, 6), np.nan)
    values[:5, :5] = 0.1
    for family in ([0, 2, 4], [1, 3]):
        values[np.ix_(family, family)] = 0.9
    values[0, 4] = values[4, 0] = 0.7
    np.fill_diagonal(values[:5, :5], 1)
    order = cluster_order(similarity(values)).tolist()
    assert sorted(order) == list(range(6))
    assert order[5] == 5
    assert {frozenset(order[:3]), frozenset(order[3:5])} == {
        frozenset({0, 2, 4}),
        frozenset({1, 3}),
    } or {
        frozenset(order[:2]),
        frozenset(order[2:5]),
    } == {frozenset({1, 3}), frozenset({0, 2, 4})}
    place = {genre: order.index(genre) for genre in (0, 2, 4)}
    assert abs(place[0] - place[4]) == 2  # the least alike of the family are its ends
    assert order[0] < order[4]


@pytest.mark.parametrize("seed", range(12))
def test_cluster_order_follows_the_tree_of_averages(seed):
    values = np.corrcoef(np.random.default_rng(seed).normal(size=(8, 6)))
    order = cluster_order(similarity(values))
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(8))
    assert order[0] < order[-1]
    place = np.argsort(order)
    clusters = [{k} for k in range(8)]
    for one, other, *_ in linkage(squareform(1 - values, checks=False), "average"):
        clusters.append(clusters[int(one)] | clusters[int(other)])
        side_by_side = sorted(place[list(clusters[-1])])
        assert side_by_side[-1] - side_by_side[0] == len(clusters[-1]) - 1


def test_unknown_pairs_count_as_average_ones():
    values = np.corrcoef(np.random.default_rng(1).normal(size=(6, 9)))
    holed = values.copy()
    holed[0, 1] = holed[1, 0] = holed[2, 4] = holed[4, 2] = np.nan
    off = ~np.isnan(holed) & ~np.eye(6, dtype=bool)
    filled = np.where(np.isnan(holed), values[off].mean(), values)
    assert np.allclose(
        genre_map(similarity(holed)).positions, genre_map(similarity(filled)).positions
    )


@pytest.mark.parametrize("genres", [0, 1, 2])
def test_tiny_catalogues_have_an_order_and_a_map(genres):
    tiny = similarity(np.eye(genres))
    assert cluster_order(tiny).tolist() == list(range(genres))
    found = genre_map(tiny)
    assert found.positions.shape == (genres, 2)
    # Two genres that have nothing in common lie √2 apart; of one there is nothing to show.
    assert np.abs(found.positions[:, 0]).tolist() == pytest.approx(
        [0.5**0.5 * (genres == 2)] * genres
    )
    assert found.placed.tolist() == [genres == 2] * genres
    assert found.shown == (genres == 2)
    assert nearest_genres(tiny, 3) == [[i for i in range(genres) if i != k] for k in range(genres)]


def test_labels():
    assert genre_labels(["Drama", "War"], [4361, 7]) == ["Drama (4,361)", "War (7)"]
    with pytest.raises(ValueError, match="zip"):
        genre_labels(["Drama"], [1, 2])


def test_map_keeps_distances_and_signs():
    angle = np.array([0.0, 0.4, 1.5, 3.0, 4.2])
    found = genre_map(similarity(np.cos(angle[:, None] - angle)))
    apart = np.linalg.norm(found.positions[:, None] - found.positions, axis=2)
    assert np.allclose(apart**2, 2 - 2 * np.cos(angle[:, None] - angle))
    assert found.shown == pytest.approx(1)
    assert found.placed.all()
    largest = np.abs(found.positions).argmax(axis=0)
    assert (found.positions[largest, [0, 1]] > 0).all()


def test_map_of_genres_that_are_all_the_same_or_nearly():
    same = genre_map(similarity(np.ones((4, 4))))
    assert same.shown == 0.0
    assert np.abs(same.positions).max() < 1e-7
    nearly = genre_map(similarity(0.9 + 0.1 * np.eye(4)))
    assert nearly.shown == pytest.approx(2 / 3)


def test_map_leaves_out_unknown_genres():
    values = np.full((4, 4), np.nan)
    values[:3, :3] = [[1, 0.5, 0.1], [0.5, 1, 0.2], [0.1, 0.2, 1]]
    found = genre_map(similarity(values))
    assert found.placed.dtype == bool
    assert found.placed.tolist() == [True, True, True, False]
    assert found.positions[3].tolist() == [0, 0]
    assert 0 < found.shown <= 1


def test_nearest_genres_by_hand():
    values = [[1, 0.5, 0.9, np.nan], [0.5, 1, -0.2, np.nan], [0.9, -0.2, 1, np.nan], [np.nan] * 4]
    assert nearest_genres(similarity(values), 2) == [[2, 1], [0, 2], [0, 1], []]
    few = np.random.default_rng(18).integers(0, 3, (200, 200)) / 4
    few = np.triu(few, 1) + np.triu(few, 1).T + np.eye(200)
    for genre, nearest in enumerate(nearest_genres(similarity(few), 150)):
        others = [k for k in range(200) if k != genre]  # of equals the first
        assert nearest == sorted(others, key=lambda k, row=few[genre]: -row[k])[:150]
    stable = np.array([True, False, True, True])
    assert nearest_genres(similarity(values), 1, stable) == [[2], [], [0], []]


def test_stability_of_equal_replicas_is_complete():
    rng = np.random.default_rng(9)
    one = response_similarity(rng.normal(size=(30, 8)))
    embeddings = rng.normal(size=(8, 3))
    turned = embeddings @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
    found = replica_stability([one, one], np.stack([embeddings, turned]))
    assert found.spearman == pytest.approx(1)
    assert found.cka == pytest.approx(1)  # a rotation changes nothing
    assert found.overlap == 1
    assert found.stable.all()
    assert found.neighbours == 3


def test_stability_by_hand():
    # Of 7 genres, each has 3 neighbours; the two replicas agree on all but those of genre 0.
    one, other = np.zeros((7, 7)), np.zeros((7, 7))
    rng = np.random.default_rng(10)
    upper = np.triu_indices(7, 1)
    one[upper] = other[upper] = rng.permutation(21) / 21
    row = one[0, 1:].copy()
    other[0, 1:] = -row
    sims = [similarity(m + m.T + np.eye(7)) for m in (one, other)]
    found = replica_stability(sims)
    assert found.spearman == pytest.approx(spearmanr(one[upper], other[upper]).statistic)
    assert found.by_genre[0] == 0
    assert not found.stable[0]
    assert found.chance == pytest.approx(3 / 6)
    lists = [nearest_genres(one, 3) for one in sims]
    expected = [len(set(a) & set(b)) / 3 for a, b in zip(*lists, strict=True)]
    assert np.allclose(found.by_genre, expected)


def test_stability_of_noise_is_chance():
    rng = np.random.default_rng(11)
    replicas = [response_similarity(rng.normal(size=(40, 16))) for _ in range(8)]
    embeddings = rng.normal(size=(8, 16, 12))
    found = replica_stability(replicas, embeddings)
    assert abs(found.spearman) < 0.08
    assert found.overlap == pytest.approx(found.chance, abs=0.06)
    assert found.cka > 0.35  # high for no reason
    assert found.cka == pytest.approx(found.cka_chance, abs=0.03)
    assert found.stable.sum() <= 1


def test_similarities_that_do_not_vary_have_no_rank_correlation():
    found = replica_stability([similarity(np.eye(5) * 0.5 + 0.5)] * 2)
    assert found.spearman is None
    assert found.reason == "the similarities of the replicas do not vary"


def test_stability_counts_only_genres_known_to_all():
    rng = np.random.default_rng(13)
    replicas = [response_similarity(rng.normal(size=(40, 6))) for _ in range(3)]
    known = np.array([True, True, True, True, True, False])
    replicas[1] = replicas[1].restrict(known)
    found = replica_stability(replicas)
    assert not found.stable[5]
    assert found.by_genre[5] == 0
    pairs = np.triu(known[:, None] & known, 1)
    rhos = [spearman(a.values[pairs], b.values[pairs]) for a, b in combinations(replicas, 2)]
    assert found.spearman == pytest.approx(np.mean(rhos))


def test_stability_leaves_out_pairs_that_a_replica_does_not_know():
    rng = np.random.default_rng(16)
    one, other = (response_similarity(rng.normal(size=(40, 9))) for _ in range(2))
    known = other.known.copy()
    known[0, 1] = known[1, 0] = False
    found = replica_stability([one, Similarity(np.where(known, other.values, 0), known)])
    pairs = np.triu(known, 1)
    assert found.spearman == pytest.approx(spearman(one.values[pairs], other.values[pairs]))
    assert (found.replicas, found.neighbours, found.reason) == (2, 3, "")


def test_full_agreement_is_stable_whatever_is_asked_for():
    one = response_similarity(np.random.default_rng(17).normal(size=(40, 9)))
    assert replica_stability([one, one], min_overlap=1.0).stable.all()


@pytest.mark.parametrize(
    ("replicas", "genres", "why"),
    [
        (1, 5, "1 replica: agreement needs at least 2"),
        (3, 2, "2 genres known to all replicas: agreement needs at least 3"),
        (2, 2, "2 genres known to all replicas: agreement needs at least 3"),
    ],
)
def test_stability_that_cannot_be_measured_says_why(replicas, genres, why):
    found = replica_stability(
        [similarity(np.eye(genres))] * replicas, np.ones((replicas, genres, 2))
    )
    assert found.spearman is None
    assert found.cka is None
    assert found.reason == why
    assert (found.replicas, found.neighbours) == (replicas, 0)
    assert found.stable.dtype == bool
    assert found.stable.tolist() == [False] * genres
    assert found.by_genre.tolist() == [0] * genres


def test_three_genres_leave_room_above_chance():
    rng = np.random.default_rng(14)
    one = response_similarity(rng.normal(size=(40, 3)))
    found = replica_stability([one, one], np.zeros((2, 3, 2)))
    assert found.neighbours == 1
    assert found.chance == 0.5
    assert found.cka is None


def test_spearman_is_scipys():
    rng = np.random.default_rng(15)
    a, b = rng.integers(0, 6, (2, 40))  # with ties
    assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic)
    same = np.array([spearman(np.arange(n), np.arange(n)) for n in range(3, 200)])
    opposite = np.array([spearman(np.arange(n), -np.arange(n)) for n in range(3, 200)])
    assert np.allclose(same, 1)
    assert np.allclose(opposite, -1)
    assert max(same.max(), -opposite.min()) <= 1
    assert spearman(a[:2], b[:2]) is None
    assert spearman(a, np.ones(40)) is None
