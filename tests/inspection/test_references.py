"""Evidence in held-out ratings, its noise, and the rival on the training ratings."""

import numpy as np
import pytest
from numpy.random import default_rng as rng
from scipy.spatial.distance import pdist, squareform

from genre_embeddings.inspection import references as module
from genre_embeddings.inspection.agreement import correlation
from genre_embeddings.inspection.references import (
    Residuals,
    catalogue_similarity,
    dominant_user,
    measure_evidence,
    size_slope,
    usable_genres,
)
from genre_embeddings.inspection.similarity import known_genres
from genre_embeddings.inspection.slopes import movie_design


def test_catalogue_is_scipys_jaccard():
    table = rng(12).random((40, 7)) < 0.3
    found = catalogue_similarity(np.column_stack([table, np.zeros(40, dtype=bool)]))
    assert np.allclose(found[:7, :7], 1 - squareform(pdist(table.T, "jaccard")))
    assert known_genres(found).tolist() == [True] * 7 + [False]


def test_usable_genres_names_what_it_leaves_out(monkeypatch):
    table = np.array([[1, 1, 1, 0, 0], [1, 1, 0, 0, 0], [0, 0, 0, 1, 0], [1, 1, 0, 1, 0]]) > 0
    names = ["Drama", "Talkie", "Western", "War", "Opera"]
    chosen, remarks = usable_genres(table, names, 2)
    assert chosen.tolist() == [0, 3]
    assert remarks == [
        "Western is left out: it has 1 of at least 2 movies.",
        "Opera is left out: it has 0 of at least 2 movies.",
        "Talkie is left out: it has the same movies as Drama.",
    ]
    monkeypatch.setattr(module, "MOST_GENRES", 1)
    chosen, remarks = usable_genres(table, names, 2)
    assert chosen.tolist() == [0]
    assert remarks[-1] == "Only the 1 genres with the most movies are compared."


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
    return every.part(held), every.part(~held), design, cosine


@pytest.mark.parametrize("name", ["moments", "likelihood"])
@pytest.mark.parametrize("random_split", [True, False])
def test_evidence_finds_the_truth_up_to_its_ceiling(name, random_split):
    *given, truth = rated(0)
    found = measure_evidence(name, *given, random_split, 20, rng(1))
    assert correlation(found.similarity, truth) > 0.85
    assert found.ceiling > 0.85
    assert found.ceiling == pytest.approx(correlation(found.similarity, truth), abs=0.12)
    assert found.movie_halves > 0.6
    assert correlation(found.rival, truth) > 0.9
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
        *given, _ = rated(seed, effect=0.0, users=300)
        ceilings.append(measure_evidence("likelihood", *given, True, 20, rng(4)).replicated)
    assert np.mean(ceilings) < 0.3


def test_the_slope_of_evidence_on_similarities_twice_too_large_is_a_half():
    *given, _ = rated(7)
    found = measure_evidence("moments", *given, True, 20, rng(8))
    assert size_slope(found.similarity, found) == pytest.approx(1)
    assert size_slope(found.similarity * 2, found) == pytest.approx(0.5)
    assert size_slope(np.zeros((12, 12)), found) is None
