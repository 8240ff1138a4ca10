"""Predictions and tastes of people who were not in training."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from genre_embeddings.errors import InputError
from genre_embeddings.inference.explain import explain
from genre_embeddings.inference.newcomer import add_user, read_user, taste
from genre_embeddings.inference.posterior import posterior, prior, with_user
from genre_embeddings.inference.predict import predict_pairs
from genre_embeddings.inference.recommend import recommend
from genre_embeddings.inspection.responses import ask, spaced_users
from genre_embeddings.model.network import Vectors
from genre_embeddings.model.predict import predict
from tests.small import small_world

MOVIES, RATINGS = torch.tensor([3, 8, 21, 40]), torch.tensor([5.0, 1.0, 3.5, 4.0])


@torch.no_grad()
def history_of(network):
    """What the network computes from MOVIES for a user who rated them, (R, D)."""
    share = network.genre_share[MOVIES].sum(0)[None] / 2
    return (
        network.movie_seen.mean[MOVIES].sum(0) / 2
        + network.genre_seen.weighted_sum(share, False)[0][0]
    )


def test_where_the_network_is_linear_the_posterior_is_exact(settings):
    network = small_world(settings).network(hidden=())
    mode, covariance = posterior(network, MOVIES, RATINGS, MOVIES)
    mean, spread = prior(network, 4)
    history = history_of(network)
    with torch.no_grad():
        _, _, v, bias = network.vectors(torch.zeros(4, dtype=torch.int64), MOVIES)

        def predicted(t):
            u = (history + t[:, :-1]).expand(4, -1, -1)
            rated = network.rate(Vectors(u, t[:, -1], v, bias)).rating
            return rated.T  # (N, R), in stars of width 4.5

        start = predicted(torch.zeros_like(mean))
        slopes = torch.stack(
            [predicted(torch.eye(5)[[c, c]]) - start for c in range(5)], -1
        )  # (N, R, C)
        for r in range(2):  # Bayesian linear regression, in the form of Kalman's gain
            J, S = slopes[:, r], spread[r]
            noise = (2 * network.log_noise[r]).exp() * torch.eye(4)
            gain = S @ J.T @ torch.linalg.inv(J @ S @ J.T + noise)
            expected = mean[r] + gain @ (RATINGS - start[:, r] - J @ mean[r])
            assert torch.allclose(mode[r], expected, atol=1e-4)
            assert torch.allclose(covariance[r], S - gain @ J @ S, atol=1e-5)


@pytest.mark.parametrize(
    "changes", [{"squash": True}, {"embedding": "point", "cross": False}, {"history": 2}]
)
def test_elsewhere_no_other_vector_fits_better(settings, changes):
    network = small_world(settings).network(**changes).eval()
    mode, _ = posterior(network, MOVIES, RATINGS, MOVIES)
    mean, spread = prior(network, 4)
    new = with_user(network, MOVIES, RATINGS)
    user = torch.full((4,), new.users - 1)

    @torch.no_grad()
    def misfit(t):
        new.user.mean[-1] = t
        error = (RATINGS - new(user, MOVIES).timeless) / new.star
        away = torch.einsum("rc,rcd,rd->r", t - mean, torch.linalg.inv(spread), t - mean)
        return (error.square().sum(1) * (-2 * new.log_noise).exp() + away) / 2

    least = misfit(mode)
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        step = torch.randn(mode.shape, generator=generator) * 0.02
        assert (misfit(mode + step) > least).all()


def test_the_new_user_has_all_parts_of_a_user_and_others_stay(model):
    network = model.network
    new = with_user(network, MOVIES, RATINGS)
    everyone, movies = torch.arange(80), torch.arange(60).repeat(2)[:80]
    with torch.no_grad():
        assert torch.equal(new(everyone, movies).rating, network(everyone, movies).rating)
        u, *_ = new.vectors(torch.tensor([80]), torch.tensor([0]))
        expected = new.user.mean[80, :, :-1] + history_of(network)
    assert torch.allclose(u[0], expected, atol=1e-6)
    assert 80 not in spaced_users(new)  # who is no known user, of whom averages are taken


@pytest.mark.parametrize(
    "changes", [{"history": 0}, {"embedding": "point"}, {"history": 2, "time": "none"}]
)
def test_other_networks(settings, changes):
    network = small_world(settings).network(**changes).eval()
    unrated = int((network.movie_counts[:-1]).argmin())
    network.movie_counts[unrated] = 0  # a movie of the validation or test ratings only
    new = with_user(network, torch.tensor([unrated, *MOVIES]), torch.tensor([3.0, *RATINGS]))
    assert torch.isfinite(new(torch.tensor([new.users - 1]), torch.tensor([5])).rating).all()
    if changes.get("history"):
        assert new.user_history.entries[-2:].tolist() == [40, 21]


def test_ratings_by_id_or_title(model):
    title = model.movies["title"][3]
    person = add_user(model, {title.upper(): 5, int(model.movies["movie_id"][8]): 1.5})
    assert person.ratings.movie.tolist() == [3, 8]
    assert person.user_id not in model.users["user_id"]
    table, known = recommend(person.model, person.user_id, top=1000, rated=person.ratings.movie)
    assert known
    assert table.height == 58
    pair = pl.Series([person.user_id]), pl.Series([model.movies["movie_id"][5]])
    answer = predict_pairs(person.model, *pair)
    assert answer["known_user"].item()
    found = explain(person.model, person.user_id, pair[1][0])
    assert found.prediction == pytest.approx(answer["prediction"].item(), abs=1e-5)
    for ratings, message in (
        ({999: 5}, "no rated movie has the id or title '999'"),
        ({}, "no rat"),
    ):
        with pytest.raises(InputError, match=message):
            add_user(model, ratings)
    one, many = (add_user(model, dict.fromkeys(range(1, n), 4.0)) for n in (2, 31))
    deviations = [
        predict(person.model.network, np.full(30, 80), np.arange(30, 60))[1].mean()
        for person in (one, many)
    ]
    assert deviations[0] > deviations[1]  # one rating leaves more open
    named = replace(model, users=model.users.cast({"user_id": pl.String}))
    assert add_user(named, {1: 5}).user_id == "new 0"


def test_taste_is_how_much_more_than_others_a_user_likes_a_genre(model):
    found = taste(model, 5)
    assert found["taste"].is_sorted(descending=True)
    user, every = np.array([model.find_one("user", 5)]), ask(model.network, np.arange(80))
    expected = every[:, user[0]] - every.mean(1)  # (R, G)
    draws, rows = [], model.network.user
    generator = torch.Generator().manual_seed(0)
    mean, spread = rows.mean[user[0]].detach().clone(), rows.log_std[user[0]].detach().exp()
    for _ in range(300):
        rows.mean.data[user[0]] = mean + spread * torch.randn(mean.shape, generator=generator)
        draws.append(ask(model.network, user)[:, 0])
    deviation = np.sqrt(np.var(draws, axis=0).mean(0) + expected.var(0))
    order = [model.genre_names.index(name) for name in found["genre"]]
    assert found["taste"].to_numpy() == pytest.approx(expected.mean(0)[order], abs=1e-6)
    assert found["deviation"].to_numpy() == pytest.approx(deviation[order], rel=0.2)
    with pytest.raises(InputError, match="user 999999 is not known"):
        taste(model, 999_999)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("movieId,rating\n1,9\n", r"row 2: rating is '9'; allowed: 0\.5 to 5, the scale of the"),
        ("movieId,rating\n1,\n", r"row 2: rating is ''"),
        ("movieId,rating\n\n1,4\n2,3\n1,5\n", r"row 5: '.*' is rated twice \(see .*row 3\)"),
        ("movieId,rating\nToy Story,4\n", r"row 2: movie id 'Toy Story': .* a column title"),
        ("movieId,rating\n,4\n", r"row 2: movie id ''"),
        ("movieId,rating\n", r"holds no rows"),
        ("", r"row 1: '' must be the header, with the columns title,rating"),
        (
            "title,rating\nMatrix, The,4\n",
            r"row 2: 'Matrix, The,4' has 3 fields .* needs quotation",
        ),
        ("movieId,rating\n777,4\n", r"knows none of the movies: row 2, '777'\."),
        ("title,rating\nDrama,4\n", r"row 2: 'Drama' fits \d+ movies: give more"),
        (None, "is not a file: give a csv file"),
    ],
)
def test_a_file_that_cannot_be_used(model, tmp_path, text, message):
    path = tmp_path / "mine.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=rf"mine\.csv,? ?.*{message}"):
        read_user(model, path)


def test_titles_in_a_file(model, tmp_path):
    titles = ["Toy Story (1995)", "Toy Story 2 (1999)", "1", *model.movies["title"][3:]]
    named = replace(model, movies=model.movies.with_columns(title=pl.Series(titles)))
    path = tmp_path / "mine.csv"
    path.write_bytes("\ufefftitle, rating\r\ntoy story,5\r\n1,2\r\nToi Story,3\r\n".encode())
    person = read_user(named, path)
    assert person.ratings.movie.tolist() == [0, 2]  # in a column of titles, 1 is a title
    assert person.ratings.rating.tolist() == [5, 2]
    assert person.unknown == 1
    assert person.left_out == "row 4, 'Toi Story' (did you mean 'Toy Story (1995)'?)"
