"""The planted world: the seed decides it, its sizes are those of the settings, its truth holds."""

import numpy as np
import polars as pl
import pytest

from genre_embeddings.data.sources.planted import BY_FREQUENCY, FAMILIES, planted_world
from genre_embeddings.data.tables import build_tables, truth_content
from genre_embeddings.settings import PlantedSettings


def ratings_of(settings, **changed):
    return planted_world(settings.planted.model_copy(update=changed)).ratings.collect()


def test_the_seed_draws_the_world(settings):
    assert ratings_of(settings).equals(ratings_of(settings))
    assert not ratings_of(settings).equals(ratings_of(settings, seed=1))
    assert planted_world(settings.planted).movies.equals(planted_world(settings.planted).movies)


def test_sizes_and_scale(settings):
    world = planted_world(settings.planted)
    ratings = world.ratings.collect()
    assert ratings.height == 2000
    assert ratings["user_id"].n_unique() == 80
    assert ratings.select("user_id", "movie_id").is_unique().all()
    assert set(ratings["rating"]) <= {step / 2 for step in range(1, 11)}
    sizes = world.movies["genres"].list.len()
    assert (sizes.min(), sizes.max()) == (1, 4)
    assert (sizes == world.movies["genres"].list.n_unique()).all()
    # Popularity is long-tailed
    counts = ratings_of(settings, movies=300, ratings=1500)["movie_id"].value_counts(sort=True)
    assert counts["count"].head(30).sum() > 0.35 * 1500


def test_names_of_genres(settings):
    assert sorted(BY_FREQUENCY) == sorted(sum(FAMILIES.values(), ()))
    truth = planted_world(settings.planted.model_copy(update={"genres": 21})).truth
    assert {"Genre 19", "Genre 20", "Genre 21"} <= set(truth.names)
    assert np.allclose(np.diagonal(truth.similarity), 1)
    world = planted_world(settings.planted)
    tables = build_tables(world, settings.data)
    assert truth_content(tables.genres, world.truth)["genres"] == tables.genres["name"].to_list()


def test_the_truth_explains_the_ratings(settings):
    """Users' mean residuals of two genres agree as much as the planted similarity says."""
    chosen = {"users": 600, "movies": 400, "genres": 8, "ratings": 80_000, "genre_effect": 2.0}
    world = planted_world(settings.planted.model_copy(update=chosen))
    residual = pl.col("rating") - pl.col("rating").mean().over("movie_id")
    affinity = (
        world.ratings.collect()
        .join(world.movies.filter(pl.col("genres").list.len() == 1), on="movie_id")
        .with_columns(pl.col("genres").list.first(), residual=residual)
        .group_by("user_id", "genres")
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
    quiet, loud = (ratings_of(settings, genre_effect=effect)["rating"] for effect in (0.0, 3.0))
    assert loud.std() > 1.2 * quiet.std()


@pytest.mark.parametrize(("users", "movies"), [(51, 101), (4, 7), (5, 5), (7, 4)])
def test_as_many_ratings_as_the_settings_allow(settings, users, movies):
    most = users * (movies // 2)
    sizes = {"users": users, "movies": movies, "genres": 2, "ratings": most}
    checked = PlantedSettings.model_validate(settings.planted.model_dump() | sizes)
    ratings = planted_world(checked).ratings.collect()
    assert ratings.group_by("user_id").len()["len"].to_list() == [movies // 2] * users
