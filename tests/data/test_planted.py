"""The planted world: the same from the same seed, shaped as it says, with its truth apart."""

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from genre_embeddings.data.sources.planted import BY_FREQUENCY, FAMILIES, planted_world
from genre_embeddings.data.tables import build_tables, truth_content
from genre_embeddings.settings import PlantedSettings


def test_the_seed_draws_the_world(settings):
    first, second = planted_world(settings.planted), planted_world(settings.planted)
    assert first.ratings.collect().equals(second.ratings.collect())
    assert first.movies.equals(second.movies)
    other = planted_world(settings.planted.model_copy(update={"seed": 1}))
    assert not first.ratings.collect().equals(other.ratings.collect())


def test_sizes_and_scale(settings):
    world = planted_world(settings.planted)
    ratings = world.ratings.collect()
    assert ratings.height == 2000
    assert ratings["user_id"].n_unique() == 80
    assert ratings.select("user_id", "movie_id").is_unique().all()
    assert set(ratings["rating"]) <= {step / 2 for step in range(1, 11)}
    sizes = world.movies["genres"].list.len()
    assert (sizes.min(), sizes.max()) == (1, 4)
    assert (world.movies["genres"].list.len() == world.movies["genres"].list.n_unique()).all()


def test_more_genres_than_movielens_has_names_for(settings):
    planted = settings.planted.model_copy(update={"genres": 21})
    world = planted_world(planted)
    assert {"Genre 19", "Genre 20", "Genre 21"} <= set(world.truth.names)
    assert world.truth.similarity.shape == (21, 21)
    assert np.allclose(np.diagonal(world.truth.similarity), 1)


def test_popularity_is_long_tailed(settings):
    world = planted_world(settings.planted.model_copy(update={"movies": 300, "ratings": 1500}))
    counts = world.ratings.collect().group_by("movie_id").len().sort("len", descending=True)["len"]
    assert counts.head(30).sum() > 0.35 * 1500


def test_families_are_near_each_other():
    assert sorted(BY_FREQUENCY) == sorted(sum(FAMILIES.values(), ()))


def test_the_truth_explains_the_ratings(settings):
    """Users' mean residuals of two genres agree as much as the planted similarity says."""
    chosen = {"users": 600, "movies": 400, "genres": 8, "ratings": 80_000, "genre_effect": 2.0}
    world = planted_world(settings.planted.model_copy(update=chosen))
    rows = (
        world.ratings.collect()
        .join(world.movies, on="movie_id")
        .filter(pl.col("genres").list.len() == 1)
    )
    rows = rows.with_columns(
        pl.col("genres").list.first(),
        residual=pl.col("rating") - pl.col("rating").mean().over("movie_id"),
    )
    affinity = (
        rows.group_by("user_id", "genres")
        .agg(pl.col("residual").mean(), pl.len())
        .filter(pl.col("len") >= 3)
    )
    wide = affinity.pivot("genres", index="user_id", values="residual")
    names = world.truth.names
    upper = np.triu_indices(len(names), 1)
    seen = np.ma.corrcoef(
        np.ma.masked_invalid(wide.select(names).to_numpy().astype(float)), rowvar=False
    )
    assert np.corrcoef(seen[upper], world.truth.similarity[upper])[0, 1] > 0.8


def test_without_an_effect_genres_say_nothing(settings):
    quiet = settings.planted.model_copy(update={"genre_effect": 0.0, "ratings": 2000})
    loud = settings.planted.model_copy(update={"genre_effect": 3.0, "ratings": 2000})
    assert planted_world(loud).ratings.collect()["rating"].std() > (
        1.2 * planted_world(quiet).ratings.collect()["rating"].std()
    )


def test_truth_follows_the_genre_table(settings):
    world = planted_world(settings.planted)
    tables = build_tables(world, settings.data)
    truth = truth_content(tables.genres, world.truth)
    assert truth["genres"] == tables.genres["name"].to_list()
    assert np.diag(truth["similarity"]) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(("users", "movies"), [(51, 101), (4, 7), (5, 5), (7, 4)])
def test_as_many_ratings_as_the_settings_allow(settings, users, movies):
    most = users * (movies // 2)
    sizes = {"users": users, "movies": movies, "genres": 2, "ratings": most}
    checked = PlantedSettings.model_validate(settings.planted.model_dump() | sizes)
    assert planted_world(checked).ratings.collect().height == most
    with pytest.raises(ValidationError, match="at most half"):
        PlantedSettings.model_validate(
            settings.planted.model_dump() | sizes | {"ratings": most + 1}
        )


def test_users_who_rate_half_of_all_movies(settings):
    crowded = {"users": 10, "movies": 20, "genres": 3, "ratings": 100}
    ratings = planted_world(settings.planted.model_copy(update=crowded)).ratings.collect()
    assert ratings.height == 100
    assert ratings.group_by("user_id").len()["len"].to_list() == [10] * 10
