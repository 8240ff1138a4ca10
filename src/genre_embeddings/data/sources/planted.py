"""A small MovieLens drawn from a seed, in which every genre has a known position.

The world of U users, M movies, G genres and a taste space of K dimensions:

    x_k  = unit(c_family(k) + SPREAD z_k)                      position of genre k, (K,)
    t_u  ~ N(0, I_K)                                           taste of user u
    s_um = e TASTE_SD <t_u, sum_{k in genres(m)} x_k> / sqrt(|genres(m)|)
    r_um = MEAN + b_u + b_m + s_um + FACTOR_SD <p_u, q_m> / sqrt(F) + noise N(0, sigma^2)

rounded to half stars and kept within 0.5 to 5, with e = `planted.genre_effect` and
sigma = `planted.noise`. The response of user u to genre k is e TASTE_SD <t_u, x_k>, so that over
users two genres' responses correlate as cos(x_k, x_l): that is the planted similarity.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from genre_embeddings.data.sources.base import Source, Truth
from genre_embeddings.settings import PlantedSettings

FAMILIES = {
    "adventure": ("Action", "Adventure", "Sci-Fi", "War", "Western"),
    "family": ("Animation", "Children's", "Fantasy", "Musical"),
    "dark": ("Crime", "Film-Noir", "Horror", "Mystery", "Thriller"),
    "light": ("Comedy", "Romance"),
    "serious": ("Documentary", "Drama"),
}
"""Genres under their MovieLens names; those of a family are planted near each other."""

# fmt: off
BY_FREQUENCY = (
    "Drama", "Comedy", "Thriller", "Action", "Romance", "Adventure", "Crime", "Sci-Fi", "Horror",
    "Fantasy", "Children's", "Animation", "Mystery", "Documentary", "War", "Musical", "Western",
    "Film-Noir",
)
# fmt: on
"""The genres from the most to the least common, in the order of real movies."""

TASTE_DIMENSIONS = 6
SPREAD = 0.25
FACTORS = 4
MEAN, USER_SD, MOVIE_SD, TASTE_SD, FACTOR_SD = 3.5, 0.4, 0.4, 0.5, 0.3
GENRES_OF_A_MOVIE = (0.3, 0.35, 0.25, 0.1)
"""Chance of one, two, three and four genres."""
SAME_FAMILY = 0.5
"""Chance that a movie's further genre is drawn from the first one's family."""
GENRE_EXPONENT = 0.7
POPULARITY_EXPONENT = 0.9
ACTIVITY_SD = 1.0
FEWEST_RATINGS = 5
CHUNK = 1_000_000
"""Ratings drawn at once, to bound memory."""
FIRST_DAY = 820_454_400
"""1996-01-01, in seconds since 1970."""
YEAR = 365 * 24 * 3600


def planted_world(settings: PlantedSettings) -> Source:
    """Draw a world; the same settings give the same world.

    Memory grows with the ratings (about 40 bytes each), not with users x movies.
    """
    rng = np.random.default_rng(settings.seed)
    names, families, common = _genres(settings.genres)
    positions = _positions(families, rng)
    sets = _genre_sets(families, common, settings.movies, rng)
    ratings = _ratings(settings, positions, sets, rng)
    years = rng.integers(1930, 2016, settings.movies)
    movies = pl.DataFrame(
        {
            "movie_id": np.arange(1, settings.movies + 1),
            "title": [
                f"{names[genres[0]]} {number} ({year})"
                for number, (genres, year) in enumerate(zip(sets, years, strict=True), start=1)
            ],
            "genres": [[names[k] for k in genres] for genres in sets],
        },
        schema_overrides={"movie_id": pl.Int64, "genres": pl.List(pl.String)},
    )
    truth = Truth(tuple(names), positions, positions @ positions.T)
    return Source("planted", ratings.lazy(), movies, (0.5, 5.0), truth=truth)


def _genres(count: int) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names, families and shares of the genres, in the order of their names, each (G,)."""
    family = {name: f for f, members in enumerate(FAMILIES.values()) for name in members}
    names = list(BY_FREQUENCY[:count])
    for number in range(len(names), count):
        names.append(f"Genre {number + 1}")
        family[names[-1]] = number % len(FAMILIES)
    shares = 1.0 / np.arange(1, count + 1) ** GENRE_EXPONENT
    order = sorted(range(count), key=lambda k: names[k])
    names = [names[k] for k in order]
    return names, np.array([family[name] for name in names]), (shares / shares.sum())[order]


def _positions(families: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Unit positions around orthogonal family centres, (G, K)."""
    centres, _ = np.linalg.qr(rng.standard_normal((TASTE_DIMENSIONS, TASTE_DIMENSIONS)))
    jitter = rng.standard_normal((families.size, TASTE_DIMENSIONS)) * SPREAD
    positions = centres[families] + jitter
    return positions / np.linalg.norm(positions, axis=1, keepdims=True)


def _genre_sets(
    families: np.ndarray, weights: np.ndarray, movies: int, rng: np.random.Generator
) -> list[list[int]]:
    """One to four genres for each movie; some are common, and families appear together."""
    count = families.size
    sizes = rng.choice(len(GENRES_OF_A_MOVIE), movies, p=GENRES_OF_A_MOVIE) + 1
    within = [weights * (families == family) for family in families]
    within = [chances / chances.sum() for chances in within]
    # Every genre opens at least one movie, as long as the movies suffice.
    first = np.concatenate([np.arange(count), rng.choice(count, movies, p=weights)])[:movies]
    sets = []
    for genre, size in zip(rng.permutation(first), sizes, strict=True):
        chosen = [int(genre)]
        for kin in rng.random(size - 1) < SAME_FAMILY:
            chances = within[genre] if kin else weights
            chosen.append(int(rng.choice(count, p=chances)))
        sets.append(list(dict.fromkeys(chosen)))
    return sets


def _ratings(
    settings: PlantedSettings,
    positions: np.ndarray,
    sets: list[list[int]],
    rng: np.random.Generator,
) -> pl.DataFrame:
    users, movies = settings.users, settings.movies
    taste = rng.standard_normal((users, TASTE_DIMENSIONS)).astype(np.float32)
    place = np.stack([positions[s].sum(axis=0) / np.sqrt(len(s)) for s in sets])
    place = (settings.genre_effect * TASTE_SD * place).astype(np.float32)
    user_factor = rng.standard_normal((users, FACTORS)).astype(np.float32)
    movie_factor = rng.standard_normal((movies, FACTORS)).astype(np.float32)
    movie_factor *= FACTOR_SD / np.sqrt(FACTORS)
    user_bias = rng.normal(0, USER_SD, users).astype(np.float32)
    movie_bias = rng.normal(0, MOVIE_SD, movies).astype(np.float32)
    start = FIRST_DAY + (rng.random(users) * 19 * YEAR).astype(np.int64)
    span = rng.lognormal(np.log(30 * 24 * 3600), 1.0, users).clip(3600, YEAR)
    popularity = 1.0 / np.arange(1, movies + 1) ** POPULARITY_EXPONENT
    edges = np.cumsum(rng.permutation(popularity / popularity.sum()))
    activity = _activity(settings, rng)

    chunks = []
    total = np.cumsum(activity)
    for low in range(0, int(total[-1]), CHUNK):
        first, last = np.searchsorted(total, [low, low + CHUNK], side="right")
        user, movie = _pairs(np.arange(first, last), activity[first:last], edges, rng)
        score = MEAN + user_bias[user] + movie_bias[movie]
        score += np.einsum("nk,nk->n", taste[user], place[movie])
        score += np.einsum("nf,nf->n", user_factor[user], movie_factor[movie])
        score += settings.noise * rng.standard_normal(user.size, dtype=np.float32)
        moment = start[user] + (rng.random(user.size) * span[user]).astype(np.int64)
        chunks.append(
            pl.DataFrame(
                {
                    "user_id": user + 1,
                    "movie_id": movie + 1,
                    "rating": (np.round(score * 2) / 2).clip(0.5, 5.0).astype(np.float32),
                    "timestamp": moment,
                }
            )
        )
    return pl.concat(chunks)


def _activity(settings: PlantedSettings, rng: np.random.Generator) -> np.ndarray:
    """Ratings of each user, long-tailed, summing to `planted.ratings`, (U,)."""
    most = settings.movies // 2
    least = min(FEWEST_RATINGS, settings.ratings // settings.users)
    share = rng.lognormal(0.0, ACTIVITY_SD, settings.users)
    activity = np.full(settings.users, least)
    while (open_ratings := settings.ratings - int(activity.sum())) > 0:
        room = most - activity
        chances = share * (room > 0)
        activity += np.minimum(rng.multinomial(open_ratings, chances / chances.sum()), room)
    return activity


def _pairs(
    users: np.ndarray, activity: np.ndarray, edges: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """For each of `users` as many different movies as its activity says, by popularity."""
    movies = edges.size
    pairs = np.empty(0, dtype=np.int64)
    lacking, rounds = activity.copy(), 0
    while lacking.any():
        user = np.repeat(users, lacking)
        draw = rng.random(user.size)
        # A user who has seen all that is popular takes the rest at random, or this never ends.
        movie = np.searchsorted(edges, draw) if rounds < 20 else (draw * movies).astype(np.int64)
        # Not np.unique, which hashes: several times slower here.
        drawn = np.sort(user * movies + movie.clip(max=movies - 1))
        drawn = drawn[np.append(True, drawn[1:] != drawn[:-1])]
        place = np.searchsorted(pairs, drawn)
        new = np.append(pairs, -1)[place] != drawn
        pairs = np.insert(pairs, place[new], drawn[new])
        lacking = activity - np.bincount(pairs // movies - users[0], minlength=users.size)
        rounds += 1
    return pairs // movies, pairs % movies
