"""Splits: shares, stability when data grow, order in time, whole movies."""

import numpy as np
import polars as pl
import pytest

from genre_embeddings import storage
from genre_embeddings.data.sources.planted import planted_world
from genre_embeddings.data.split import TEST, TRAIN, VALIDATION, assign_sides, write_split
from genre_embeddings.data.tables import build_tables
from genre_embeddings.errors import InputError
from tests.conftest import source_of


def split(tables, settings, seed=0, **changes):
    chosen = settings.split.model_copy(update=changes)
    return assign_sides(tables.ratings, tables.users, tables.movies, tables.meta, chosen, seed)


@pytest.fixture
def tables(settings):
    return build_tables(planted_world(settings.planted), settings.data)


def test_shares(tables, settings):
    counts = np.bincount(split(tables, settings))
    expected = np.array([1400, 400, 200])
    assert np.all(np.abs(counts - expected) < 4 * np.sqrt(expected))
    assert not np.array_equal(split(tables, settings), split(tables, settings, seed=1))


@pytest.mark.parametrize("strategy", ["random", "cold_movies"])
def test_growing_the_data_moves_no_rating(settings, strategy):
    source = planted_world(settings.planted)
    rows = source.ratings.collect()
    rng = np.random.default_rng(0)

    def sides(part):
        tables = build_tables(source_of(part.rows(), source.movies.rows()), settings.data)
        ids = tables.ratings.join(tables.users, on="user").join(tables.movies, on="movie")
        found = split(tables, settings, strategy=strategy)
        return dict(zip(ids.select("user_id", "movie_id").rows(), found, strict=True))

    whole = sides(rows)
    some = sides(rows[rng.permutation(rows.height)[:900]])
    assert len(some) == 900
    assert all(whole[pair] == side for pair, side in some.items())


def test_cold_movies_are_whole_movies(tables, settings):
    sides = split(tables, settings, strategy="cold_movies")
    per_movie = tables.ratings.with_columns(side=sides).group_by("movie")
    assert per_movie.agg(pl.col("side").n_unique())["side"].max() == 1


def test_temporal_puts_the_newest_last(tables, settings):
    sides = split(tables, settings, strategy="temporal")
    time = tables.ratings["timestamp"].to_numpy()
    assert time[sides == TEST].min() >= time[sides == VALIDATION].max()
    assert time[sides == VALIDATION].min() >= time[sides == TRAIN].max()
    assert np.bincount(sides).tolist() == [1400, 400, 200]


def test_per_user_puts_each_users_newest_last(tables, settings):
    sides = split(tables, settings, strategy="per_user")
    assert np.bincount(sides, minlength=3) == pytest.approx([1400, 400, 200], rel=0.1)
    by_user = tables.ratings.with_columns(side=sides).sort("user", "timestamp")
    # From oldest to newest: train, validation, test
    steps = by_user.group_by("user").agg(pl.col("side").cast(pl.Int8).diff().min())["side"]
    assert steps.drop_nulls().min() == 0
    assert not np.array_equal(sides, split(tables, settings, seed=1, strategy="per_user"))


def test_what_cannot_be_split(settings):
    source = source_of([(1, 1, 3.0, 0)], [(1, "a", [])], has_time=False)
    tables = build_tables(source, settings.data)
    with pytest.raises(InputError, match=r"split.strategy is 'temporal'"):
        split(tables, settings, strategy="temporal")
    with pytest.raises(InputError, match=r"of 1 ratings of 1 movies none falls to"):
        split(tables, settings)


def test_text_ids_are_hashed_alike_everywhere(settings):
    rows = [(f"u{i}", f"m{i % 7}", 3.0, i) for i in range(200)]
    movies = [(f"m{i}", "t", []) for i in range(7)]
    found = split(build_tables(source_of(rows, movies), settings.data), settings)
    # Computed once: a change here means that everybody's splits change.
    assert found[:24].tolist() == [0, 0, 0, 1] + [0] * 9 + [2, 1, 0, 0, 0, 0, 2, 0, 0, 0, 0]


def test_counts_of_cold_users_and_movies(settings, in_tmp):
    rows = [(1, 1, 3.0, 0), (1, 2, 4.0, 1), (2, 1, 3.0, 2), (2, 3, 3.0, 3)]
    tables = build_tables(source_of(rows, [(m, "t", []) for m in (1, 2, 3)]), settings.data)
    counts = write_split(tables.ratings, np.array([TRAIN, VALIDATION, TEST, TEST]))
    names = ("ratings", "share", "users", "cold_users", "share_of_ratings_of_cold_users")
    names += ("movies", "cold_movies", "share_of_ratings_of_cold_movies")
    assert counts["validation"] == dict(zip(names, (1, 0.25, 1, 0, 0, 1, 1, 1), strict=True))
    assert counts["test"] == dict(zip(names, (2, 0.5, 1, 1, 1, 2, 1, 0.5), strict=True))
    test = storage.read_side("test")
    assert [column.tolist() for column in test] == [[1, 1], [0, 2], [3.0, 3.0], [2, 3]]
    assert isinstance(test.user, np.memmap)
