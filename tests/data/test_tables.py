"""Canonical tables from a handful of ratings, with answers counted by hand."""

import pytest

from genre_embeddings import storage
from genre_embeddings.data.tables import build_tables
from genre_embeddings.errors import InputError
from tests.conftest import source_of

MOVIES = [
    (10, "Ten", ["Drama", "Comedy"]),
    (20, "Twenty", []),
    (30, "Thirty", ["Drama"]),
    (40, "Never rated", ["War"]),
]
RATINGS = [
    (7, 30, 4.0, 300),
    (7, 10, 3.0, 100),
    (2, 10, 5.0, 50),
    (2, 20, 1.0, 50),
    (2, 10, 2.0, 60),
    (9, 10, 4.5, 10),
]


def build(settings, rows=RATINGS, movies=MOVIES, **changes):
    return build_tables(source_of(rows, movies), settings.data.model_copy(update=changes))


def test_indices_order_and_genres(settings):
    tables = build(settings)
    assert tables.ratings.schema == storage.RATINGS_SCHEMA
    assert tables.ratings.rows() == [
        (0, 1, 1, 50), (0, 0, 2, 60), (1, 0, 3, 100), (1, 2, 4, 300), (2, 0, 4.5, 10),
    ]  # fmt: skip
    assert tables.users.rows() == [(0, 2), (1, 7), (2, 9)]
    movies = [(0, 10, "Ten", [0, 1]), (1, 20, "Twenty", []), (2, 30, "Thirty", [1])]
    assert tables.movies.rows() == movies
    assert tables.genres.rows() == [(0, "Comedy", 1, 3), (1, "Drama", 2, 4)]
    assert tables.unrated.rows() == [(40, "Never rated", [])]  # nobody can know what War means
    assert tables.counts == {
        "ratings": 5, "users": 3, "movies": 3, "genres": 2, "density": 5 / 9, "mean_rating": 2.9,
        "movies_without_genre": 1, "movies_never_rated": 1, "rows_read": 6,
        "dropped": {"movie_without_entry": 0, "rated_again": 1},
    }  # fmt: skip


def test_of_two_ratings_at_one_time_the_later_row_counts(settings):
    rows = [(1, 10, 1.0, 5), (1, 10, 2.0, 5), (1, 10, 3.0, 4)]
    assert build(settings, rows).ratings["rating"].to_list() == [2]


def test_sessions_are_half_of_the_ratings_with_another_in_ten_minutes(settings):
    apart = [(1, 20, 1.0, 10_000), (2, 20, 2.0, 800)]  # the second is near a rating of user 1
    for gap, sessions in ((600, True), (601, False)):
        rows = [(1, 10, 3.0, 200), (1, 30, 4.0, 200 + gap), *apart]
        assert build(settings, rows).meta.sessions == sessions
    days = [(1, movie, 3.0, 86_400) for movie in (10, 20, 30)]
    assert not build(settings, days).meta.sessions
    assert not build_tables(source_of(rows, MOVIES, has_time=False), settings.data).meta.sessions


@pytest.mark.parametrize(
    ("change", "kept", "reason", "count"),
    [
        ({"top_movies": 1}, [2.0, 3.0, 4.5], "not_a_top_movie", 2),
        ({"min_ratings_per_user": 2}, [1.0, 2.0, 3.0, 4.0], "user_with_few_ratings", 1),
        ({"min_ratings_per_movie": 2}, [2.0, 3.0, 4.5], "movie_with_few_ratings", 2),
    ],
)
def test_filters(settings, change, kept, reason, count):
    tables = build(settings, **change)
    assert tables.ratings["rating"].to_list() == kept
    assert tables.counts["dropped"][reason] == count


def test_dropping_users_and_movies_goes_on_until_both_have_enough(settings):
    """A user who is dropped takes a movie below its minimum, and that another user."""
    pairs = [(1, 10), (1, 20), (2, 10), (2, 20), (3, 30), (3, 20), (4, 30)]
    rows = [(user, movie, 1.0 + user % 2, 0) for user, movie in pairs]
    movies = [(movie, "", []) for movie in (10, 20, 30, 40)]
    tables = build(settings, rows, movies, min_ratings_per_user=2, min_ratings_per_movie=2)
    assert tables.users["user_id"].to_list() == [1, 2]
    assert tables.movies["movie_id"].to_list() == [10, 20]
    assert tables.counts["dropped"]["user_with_few_ratings"] == 2
    assert tables.counts["dropped"]["movie_with_few_ratings"] == 1
    assert tables.unrated.is_empty()  # it has fewer ratings than the minimum


def test_ratings_that_are_all_alike_are_noticed(settings, capsys):
    rows = [(user, 10, 3.0, 0) for user in range(4)]
    build(settings, rows)
    said = capsys.readouterr().err
    assert said.startswith("test: all 4 ratings are 3, so there is nothing to learn from them; ")


def test_nothing_left_names_the_reasons(settings):
    with pytest.raises(InputError, match=r"none is left \(1 rated again, 5 user with few ratings"):
        build(settings, min_ratings_per_user=9)


def test_a_rated_movie_without_an_entry(settings):
    rows = [*RATINGS, (7, 99, 2.0, 1)]
    with pytest.raises(InputError, match=r"1 ratings are of 1 movies .*movie ids 99"):
        build(settings, rows)
    dropped = build(settings, rows, missing_movies="drop")
    assert dropped.counts["dropped"]["movie_without_entry"] == 1
    kept = build(settings, rows, missing_movies="keep")
    assert kept.movies.row(3) == (3, 99, "99", [])


def test_ids_may_be_text_or_far_apart(settings):
    rows = [("ann", "x1", 3.0, 0), ("Bob", "x2", 4.0, 0)]
    tables = build(settings, rows, [("x1", "X", ["A"]), ("x2", "Y", [])])
    assert tables.users["user_id"].to_list() == ["Bob", "ann"]
    assert tables.ratings.select("user", "movie").rows() == [(0, 1), (1, 0)]
    far = 10**15
    rows = [(1, 5, 3.0, 0), (far, 5, 4.0, 1), (far, far, 5.0, 2)]
    tables = build(settings, rows, [(5, "Near", ["Drama"]), (far, "Far", ["Drama"])])
    assert tables.ratings.select("user", "movie").rows() == [(0, 0), (1, 0), (1, 1)]
