"""Evidence in held-out ratings, its noise, and the rival on the training ratings."""

import numpy as np
import pytest
from numpy.random import default_rng as rng

from benchmarks.statistics.simulation import complete
from genre_embeddings.inspection import references as module
from genre_embeddings.inspection.references import (
    Residuals,
    catalogue_similarity,
    dominant_user,
    measure_evidence,
    size_slope,
    usable_genres,
)
from genre_embeddings.inspection.similarity import spearman
from genre_embeddings.inspection.slopes import movie_design

# Movies: 0 is of genre A, 1 of B, 2 of A and B, 3 of C, 4 of none, 5 of A.
TABLE = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1], [0, 0, 0], [1, 0, 0]], dtype=bool)


def test_catalogue_by_hand():
    found = catalogue_similarity(np.column_stack([TABLE, np.zeros(6, dtype=bool)]))
    assert found.values[0, 1] == pytest.approx(1 / 4)  # one movie of both among four of either
    assert found.values[0, 2] == 0
    assert np.diagonal(found.values).tolist() == [1, 1, 1, 0]
    assert np.array_equal(found.known, np.outer([1, 1, 1, 0], [1, 1, 1, 0]))


def test_usable_genres_names_what_it_leaves_out():
    table = np.array([[1, 1, 1, 0, 0], [1, 1, 0, 0, 0], [0, 0, 0, 1, 0], [1, 1, 0, 1, 0]]) > 0
    found = usable_genres(table, ["Drama", "Talkie", "Western", "War", "Opera"])
    assert found.mask.tolist() == [True, False, False, True, False]
    assert found.reasons == (
        "Western is left out: it has 1 of at least 2 movies",
        "Opera is left out: it has 0 of at least 2 movies",
        "Talkie is left out: it has the same movies as Drama",
    )
    assert usable_genres(np.zeros((3, 0), dtype=bool), []).mask.shape == (0,)
    with pytest.raises(ValueError, match="zip"):
        usable_genres(table, ["Drama"])


def test_of_many_genres_those_with_the_most_movies_are_compared(monkeypatch):
    monkeypatch.setattr(module, "MOST_GENRES", 2)
    table = np.zeros((9, 4), dtype=bool)
    for genre, movies in enumerate((4, 9, 3, 5)):
        table[:movies, genre] = True
    found = usable_genres(table, list("ABCD"))
    assert found.mask.tolist() == [False, True, False, True]
    assert found.reasons == ("only the 2 genres with the most movies are compared",)


def rated(seed, effect=1.0, movie_effect=0.0, users=800, ratings=60, movies=160, genres=12):
    """Held-out and training residuals of users with tastes for genres, and for single movies."""
    draw = rng(seed)
    places = draw.normal(size=(genres, 2))
    membership = (draw.random((movies, genres)) < 0.15).astype(float)
    membership[np.arange(movies), np.arange(movies) % genres] = 1
    design = movie_design(membership)
    user = np.repeat(np.arange(users), ratings)
    movie = np.concatenate([draw.choice(movies, ratings, replace=False) for _ in range(users)])
    liking = effect * draw.normal(size=(users, 2)) @ places.T / np.linalg.norm(places, axis=1)
    single = movie_effect * draw.normal(size=(users, 2)) @ draw.normal(size=(2, movies))
    residual = (liking[user] * design[movie, :-1]).sum(axis=1) + single[user, movie]
    residual += 0.7 * draw.normal(size=user.size)
    held = draw.random(user.size) < 0.3
    every = Residuals(user, movie, residual)
    cosine = places @ places.T / np.outer(*[np.linalg.norm(places, axis=1)] * 2)
    return every.part(held), every.part(~held), design, complete(cosine)


def agree(one, other):
    pairs = np.triu(one.known & other.known, 1)
    return spearman(one.values[pairs], other.values[pairs])


@pytest.mark.parametrize("name", ["moments", "likelihood"])
@pytest.mark.parametrize("random_split", [True, False])
def test_evidence_finds_the_truth_up_to_its_ceiling(name, random_split):
    *given, truth = rated(0)
    found = measure_evidence(name, *given, random_split, 20, rng(1))
    assert agree(found.similarity, truth) > 0.85
    assert found.ceiling > 0.85
    assert found.ceiling == pytest.approx(agree(found.similarity, truth), abs=0.12)
    assert found.movie_halves > 0.6
    assert agree(found.rival, truth) > 0.9
    assert found.error[np.triu_indices(12, 1)].min() > 0


def test_taste_for_single_movies_is_not_taste_for_their_genres():
    """It is found again in other ratings, and not in other movies."""
    *given, _ = rated(2, effect=0.0, movie_effect=0.7, users=1500)
    found = measure_evidence("likelihood", *given, True, 20, rng(3))
    assert found.replicated > 0.5
    assert found.movie_halves < 0.3


def test_a_user_with_half_of_the_ratings_is_named():
    many = np.repeat(np.arange(5), 4)
    assert dominant_user(many) == dominant_user(many[:0]) == ""
    half = np.concatenate([many, np.zeros(16, int)])
    assert dominant_user(half).startswith("One user gave 56% of the held-out ratings")


def test_noise_has_no_ceiling():
    ceilings = []
    for seed in range(4):
        *given, _ = rated(seed, effect=0.0)
        ceilings.append(measure_evidence("likelihood", *given, True, 20, rng(4)).replicated)
    assert np.mean(ceilings) < 0.3


def test_genres_that_are_not_usable_are_unknown():
    *given, _ = rated(5)
    narrow = measure_evidence("moments", *given, True, 20, rng(6))
    mask = np.ones(14, dtype=bool)
    mask[[0, 4]] = False
    wide = narrow.widened(mask)
    assert wide.similarity.genres.tolist() == mask.tolist()
    assert np.array_equal(wide.similarity.values[np.ix_(mask, mask)], narrow.similarity.values)
    assert wide.influence.shape[1:] == (14, 14)
    assert not wide.influence[:, ~mask].any()


def test_the_slope_of_evidence_on_similarities_twice_too_large_is_a_half():
    *given, _ = rated(7)
    found = measure_evidence("moments", *given, True, 20, rng(8))
    assert size_slope(found.similarity, found) == pytest.approx(1)
    twice = complete(found.similarity.values * 2)
    assert size_slope(twice, found) == pytest.approx(0.5)
    assert size_slope(complete(np.zeros((12, 12))), found) is None


def test_same_seed_same_numbers():
    *given, _ = rated(9, users=80)
    first, second = (measure_evidence("likelihood", *given, True, 20, rng(10)) for _ in range(2))
    assert np.array_equal(first.similarity.values, second.similarity.values)
    assert (first.ceiling, first.movie_halves) == (second.ceiling, second.movie_halves)
