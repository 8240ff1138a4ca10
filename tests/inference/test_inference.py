"""Predictions, recommendations, neighbours and explanations, by the ids of the data."""

import math
import shutil
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from genre_embeddings import storage
from genre_embeddings.data.tables import build_tables
from genre_embeddings.errors import InputError
from genre_embeddings.inference import recommend as recommendation
from genre_embeddings.inference.explain import explain
from genre_embeddings.inference.export import embed, export
from genre_embeddings.inference.neighbours import neighbours
from genre_embeddings.inference.predict import ADDED, AnyUser, predict_file, predict_pairs
from genre_embeddings.inference.recommend import recommend, recommend_all
from genre_embeddings.inference.trained import Trained, open_model
from genre_embeddings.model.predict import predict
from genre_embeddings.model.serialization import load_whole, save_model
from tests.conftest import small_settings, source_of
from tests.small import World, small_world, write_world

NOBODY, NOTHING = 999_999, 888_888


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def pair(model, user, movie):
    """Prediction and deviation for a user and a movie."""
    return predict_pairs(model, pl.Series([user]), pl.Series([movie])).row(0)[:2]


def test_a_file_is_predicted_as_the_network_predicts(model, tmp_path):
    source = write(
        tmp_path / "pairs.csv",
        f'note,movieId,userId,timestamp\n"a, b",7,3,900000000\nc,{NOTHING},4,900000001\n'
        f"d,7,{NOBODY},900000002\n\n,,,\ne,9,3,900000003\n",
    )
    assert predict_file(model, source, tmp_path / "out.csv", rows=2) == (4, 1, 1)
    rows = pl.read_csv(tmp_path / "out.csv")
    assert rows.columns == ["note", "movieId", "userId", "timestamp", *ADDED]
    assert rows["note"].to_list() == ["a, b", "c", "d", "e"]
    assert rows["known_user"].to_list() == [True, True, False, True]
    assert rows["known_movie"].to_list() == [True, False, True, True]
    rows = rows[[0, 1, 3]]  # of known users
    movie = model.find("movie", rows["movieId"]).replace(-1, model.network.unknown).to_numpy()
    users = model.find("user", rows["userId"]).to_numpy()
    expected = predict(model.network, users, movie, rows["timestamp"].to_numpy())
    for column, values in zip(ADDED, expected, strict=False):
        assert rows[column].to_list() == pytest.approx(values.tolist(), abs=1e-4)
    with pytest.raises(InputError, match="is the input file"):
        predict_file(model, source, source)


def test_a_pair_has_the_same_answer_in_any_file_and_order(model, tmp_path):
    """Known and unknown ids, with and without genres of their own."""
    name = model.genres["name"][0]
    pairs = [f"{1 + n % 90},{1 + n % 70},{name if n % 3 else ''}" for n in range(200)]
    pairs += [f"{NOBODY},{NOTHING},{name}", f"{NOBODY},7,", f"3,{NOTHING},{name}"]
    frames = []
    for rows, order in ((7, 1), (1000, 1), (50, -1)):
        text = "\n".join(("user_id,movie_id,genres", *pairs[::order]))
        predict_file(model, write(tmp_path / "pairs.csv", text), tmp_path / "out.csv", rows)
        frames.append(pl.read_csv(tmp_path / "out.csv")[::order])
    assert all(frame.equals(frames[0]) for frame in frames[1:])


def test_an_unknown_user_is_the_mixture_of_the_known(model):
    movie = np.array([5, 5, model.network.unknown])
    anybody = AnyUser(model.network)
    mean, deviation = anybody.predict(movie)
    assert np.array_equal(anybody.predict(movie), (mean, deviation))  # from what it kept
    everyone = np.arange(model.network.users)  # 80 of them: all are asked
    means, deviations = predict(model.network, everyone, np.full(80, 5))
    assert mean[0] == mean[1] == pytest.approx(means.mean(), abs=1e-5)
    mixture = math.sqrt((deviations.astype(float) ** 2).mean() + means.astype(float).var())
    assert deviation[0] == pytest.approx(mixture, rel=0.05)
    assert deviation[0] > deviations.mean()
    assert mean[2] != mean[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"movieId\n1\n", "row 1: 'movieId' must be the header, with the columns userId,movieId"),
        (b"userId,user_id,movieId\n1,1,2\n", "must be the header, .* userId,movieId .* each once"),
        (b"userId,movieId,note,note\n1,2,3,4\n", "row 1: the header has 'note' twice"),
        (b"userId,movieId\n\n1.0,2\n", "row 3: userId is '1.0'; the model's user ids are whole"),
        (b"userId,movieId\n,2\n", "row 2: userId is empty"),
        (b"userId,movieId\n99999999999999999999,2\n", "row 2: userId is '9999"),
        (b"userId,movieId,timestamp\n1,2,today\n", "row 2: timestamp is 'today'; allowed: whole"),
        (b"userId,movieId,timestamp\n1,2,900000000000\n", "row 2: timestamp is '900000000000'"),
        (b"userId,movieId,prediction\n1,2,3\n", "a column 'prediction', which the prediction"),
        (b"userId,movieId\n", "no rows"),
        (b"userId,movieId\n,\n", "no rows"),
        ("userId,movieId,note\n1,2,café\n".encode("latin-1"), "row 2: .* is not UTF-8 text"),
    ],
)
def test_a_file_that_cannot_be_used_leaves_the_old_answer(model, in_tmp, content, message):
    out = write(in_tmp / "out.csv", "old")
    (in_tmp / "pairs.csv").write_bytes(content)
    with pytest.raises(InputError, match=f"^pairs.csv.*{message}") as raised:
        predict_file(model, Path("pairs.csv"), out)
    assert "\n" not in str(raised.value)
    assert out.read_text(encoding="utf-8") == "old"
    assert sorted(path.name for path in in_tmp.iterdir()) == ["out.csv", "pairs.csv"]


def with_unrated(model):
    """The model with movie 777, which nobody rated, of genres 0 and 2."""
    row = {"movie": [model.movies.height], "movie_id": [777], "title": ["New"], "genres": [[0, 2]]}
    movies = pl.concat([model.movies, pl.DataFrame(row, schema=model.movies.schema)])
    sets = torch.tensor([[1.0, 0, 1, 0, 0, 0]])
    return replace(model, network=model.network.with_movies(sets), movies=movies)


def test_genres_of_a_new_movie_count(model, tmp_path, capsys):
    """From the column genres, however it is written, or from the list of unrated movies."""
    first, _, third, *_ = model.genres["name"]
    catalogue = with_unrated(model)
    rows = [
        f"3,{NOTHING},{third}|{first}",
        f"3,{NOTHING},\"['{first.lower()}', '{third}']\"",
        f'3,{NOTHING},"{first}, {third}"',
        "3,777,",
        f"3,{NOTHING},",
        f"3,7,{first}",
        f"{NOBODY},777,",
        f"{NOBODY},{NOTHING},{first};{third}",
    ]
    source = write(tmp_path / "pairs.csv", "userId,movieId,genres\n" + "\n".join(rows))
    assert predict_file(catalogue, source, tmp_path / "out.csv") == (8, 2, 5)
    found = pl.read_csv(tmp_path / "out.csv")
    assert found["known_movie"].to_list() == [False] * 3 + [True, False, True, True, False]
    answers = found.select(ADDED[:2]).rows()
    membership = torch.zeros(model.network.unknown + 1, 6)
    membership[-1, [0, 2]] = 1
    user, unknown = np.array([model.find_one("user", 3)]), np.array([model.network.unknown])
    expected = np.concatenate(predict(model.network, user, unknown, membership=membership))
    assert answers[:4] == [pytest.approx(expected, abs=1e-4)] * 4
    assert answers[4] != answers[3]
    assert answers[5] == pytest.approx(pair(model, 3, 7), abs=1e-4)  # it has genres of its own
    assert answers[6] == answers[7]
    more = f"3,7,Nonsense\n3,{NOTHING},Nonsense;{first}\n3,{NOTHING},[]\n"
    write(source, f"userId,movieId,genres\n{more}")
    assert predict_file(model, source, tmp_path / "out.csv") == (3, 0, 2)
    said = capsys.readouterr().err
    assert "pairs.csv: the model does not know 1 of the genres of new movies, which do" in said
    assert "'Nonsense' (1 rows); it knows" in said


def test_a_movie_that_nobody_rated_has_one_prediction(model):
    catalogue, names = with_unrated(model), model.genre_names
    found = explain(catalogue, 3, "New")
    assert found.known_movie
    assert found.parts["part"].to_list()[2:4] == [f"genre {names[0]}", f"genre {names[2]}"]
    (listed,) = recommend(catalogue, 3, top=10_000)[0].filter(movie_id=777).rows(named=True)
    assert listed["ratings"] == 0
    expected = pytest.approx(pair(catalogue, 3, 777), abs=1e-5)
    assert (found.prediction, found.deviation) == expected
    assert (listed["prediction"], listed["deviation"]) == expected
    assert neighbours(catalogue, 777, top=3).table.height == 3
    assert pair(catalogue, 3, 7) == pair(model, 3, 7)


def test_unrated_movies_are_saved_with_the_model(trained, model, in_tmp, monkeypatch):
    table = pl.DataFrame(
        {"movie_id": [777_777, 777_778], "title": ["A", "B"], "genres": [[1], []]},
        schema_overrides={"genres": pl.List(pl.UInt32)},
    )
    shutil.copytree(trained, in_tmp / "copy")
    monkeypatch.chdir(in_tmp / "copy")
    size = (storage.MODEL / "model.safetensors").stat().st_size

    def saved(table):
        storage.write_table(storage.PREPARED / "unrated.parquet", table)
        save_model(model.network, storage.read_side("train"))
        return open_model()

    movies = saved(table).movies
    assert movies.drop("movie").tail(2).equals(table)
    assert movies.head(-2).equals(model.movies)
    assert load_whole()[1].movies.equals(model.movies)  # stages do not see them
    assert (storage.MODEL / "model.safetensors").stat().st_size == size
    for change, message in (
        ({"movie_id": pl.Series([777_777, 777_777])}, "has an entry twice"),
        ({"genres": pl.Series([[99], []])}, "out of bounds"),
    ):
        with pytest.raises(InputError, match=message):
            saved(table.with_columns(**change).cast({"genres": pl.List(pl.UInt32)}))


def test_ids_may_be_text(settings, tmp_path):
    ratings = [(user, item, 3.0, 0) for user in ("ann", "bob") for item in ("007", "7", "dune")]
    movies = [("007", "Bond", ["Spy"]), ("7", "Seven", ["Crime"]), ("dune", "Dune", ["Spy"])]
    tables = build_tables(source_of(ratings, movies), settings.data)
    world = World(tables, {"train": storage.Side.of(tables.ratings)}, settings)
    named = Trained(world.network().eval(), tables.users, tables.movies, tables.genres)
    source = write(tmp_path / "pairs.csv", "userId,movieId\nann,7\nann, 007 \nann,07\neve,dune\n")
    assert predict_file(named, source, tmp_path / "out.csv") == (4, 1, 1)
    known = pl.read_csv(tmp_path / "out.csv").select("known_user", "known_movie").rows()
    assert known == [(True, True), (True, True), (True, False), (False, True)]
    assert explain(named, "ann", "007").known_movie


def test_what_is_recommended(model):
    train = storage.read_side("train")
    user, ids = model.users["user_id"][10], model.movies["movie_id"]
    table, known = recommend(model, user, top=100)
    assert known
    expected = np.setdiff1d(np.arange(model.network.unknown), train.movie[train.user == 10])
    assert sorted(table["movie_id"]) == ids[expected].to_list()
    mean, _ = predict(model.network, np.full(len(expected), 10), expected)
    assert table["movie_id"][0] == ids[int(expected[mean.argmax()])]
    assert table["prediction"].is_sorted(descending=True)
    others, _ = recommend(model, user, top=100, rated=expected[1:])
    assert others["movie_id"].to_list() == [ids[int(expected[0])]]
    name = model.genres["name"][2]
    table, _ = recommend(model, "1", genre=name.upper(), top=3)
    assert table.height == 3
    assert all(name in genres.split("|") for genres in table["genres"])
    table, known = recommend(model, NOBODY, top=1000)
    assert not known
    assert table.height == model.network.unknown
    assert table["prediction"].is_sorted(descending=True)
    with pytest.raises(InputError, match="user id 'x': the model's user ids are whole numbers"):
        recommend(model, "x")


@pytest.mark.parametrize("at_once", [1, 10**9])
def test_recommendations_for_all_are_those_for_each(model, tmp_path, monkeypatch, at_once):
    """In parts of one user, and all at once."""
    monkeypatch.setattr(recommendation, "SCORES", at_once)
    out, genre = tmp_path / "all.parquet", model.genres["name"][2]
    rows = recommend_all(model, out, genre, 100)
    found = pl.read_parquet(out)
    assert rows == found.height
    assert found["user_id"].unique().sort().equals(model.users["user_id"])
    for user in model.users["user_id"][:10]:
        own = found.filter(pl.col("user_id") == user)
        one, _ = recommend(model, user, genre, 100)
        assert own["rank"].to_list() == list(range(1, one.height + 1))
        assert own["movie_id"].equals(one["movie_id"])
        for column in ("prediction", "deviation"):
            assert own[column].to_numpy() == pytest.approx(one[column].to_numpy(), abs=1e-5)
    with pytest.raises(InputError, match=r"all\.csv: the file is a Parquet table"):
        recommend_all(model, tmp_path / "all.csv")
    model.network.centre.data.fill_(torch.nan)
    before = out.read_bytes()
    with pytest.raises(InputError, match="weights are so large"):
        recommend_all(model, out)
    assert out.read_bytes() == before


def test_a_model_folder_is_enough(trained, in_tmp):
    """The data in the working directory do not change the answers."""
    write_world(small_world(small_settings(seed=9)))  # of other data
    network, tables = load_whole(trained / storage.MODEL)
    expected, _ = recommend(Trained(network, *tables), 1)
    assert recommend(open_model(trained / storage.MODEL), 1)[0].equals(expected)


def responses(model, movies, sets):
    """Predictions of all users for movies of some genres, less those for nothing, (K, 80)."""
    everyone = torch.arange(80)

    def asked(movie, genres):
        with torch.no_grad():
            answer = model.network(everyone, torch.full((80,), movie), genres=genres.repeat(80, 1))
        return answer.rating.mean(0).double()

    nothing = asked(model.network.unknown, torch.zeros(1, 6))
    found = [asked(movie, row[None]) - nothing for movie, row in zip(movies, sets, strict=True)]
    return torch.stack(found).numpy()


def test_neighbours_of_a_genre_and_of_a_movie(model):
    names, network = model.genre_names, model.network
    found = neighbours(model, names[1].lower(), top=2)
    assert found.name == names[1]
    assert found.table.height == 2
    row = np.corrcoef(responses(model, [network.unknown] * 6, torch.eye(6)))[1]
    row[1] = -2
    assert found.table["genre"][0] == names[int(row.argmax())]
    assert found.table["similarity"][0] == pytest.approx(row.max(), abs=1e-4)
    network.similarity_error.fill_(0.01)
    assert {neighbours(model, name, top=1).repeatable for name in names} == {True, False}
    network.similarity_error.fill_(9)
    assert not any(neighbours(model, name, top=1).repeatable for name in names)
    found, index = neighbours(model, "7", top=1000), model.find_one("movie", 7)
    assert found.name == model.movies["title"][index]
    assert found.repeatable is None
    rated = network.movie_counts[:-1].numpy() > 0
    assert found.table.height == rated.sum() - rated[index]
    pair = [index, model.find_one("movie", found.table["movie_id"][0])]
    expected = np.corrcoef(responses(model, pair, (network.genre_share[pair] > 0).float()))[0, 1]
    assert found.table["similarity"][0] == pytest.approx(expected, abs=1e-4)
    with pytest.raises(InputError, match="is neither a genre nor the id"):
        neighbours(model, NOTHING)


def test_parts_add_up_to_the_prediction(model):
    several = model.movies.filter(pl.col("genres").list.len() == 3)
    movie, own = several["movie_id"][0], several["genres"][0].to_list()
    found = explain(model, 5, movie)
    genres = [f"genre {model.genres['name'][k]}" for k in own]
    assert found.parts["part"].to_list()[:6] == ["mean", "user", *genres, "movie"]
    assert found.parts["stars"].sum() == pytest.approx(found.prediction, abs=1e-5)
    assert found.prediction == pytest.approx(pair(model, 5, movie)[0], abs=1e-5)
    # Each genre's part by hand: its mean gain over the six orders.
    gains = dict.fromkeys(own, 0.0)
    for order in permutations(own):
        sets = torch.zeros(4, 6)
        for place, genre in enumerate(order):
            sets[place + 1 :, genre] = 1
        answers = responses(model, [model.network.unknown] * 4, sets)[:, model.find_one("user", 5)]
        for genre, gain in zip(order, np.diff(answers), strict=True):
            gains[genre] += gain / 6
    parts = dict(found.parts.iter_rows())
    assert [parts[name] for name in genres] == pytest.approx(list(gains.values()), abs=1e-5)


def test_unknown_ids_and_what_the_scale_cuts_off(model):
    found = explain(model, NOBODY, NOTHING)
    assert (found.known_user, found.known_movie) == (False, False)
    parts = dict(found.parts.iter_rows())
    assert parts["user"] == parts["movie"] == 0
    assert found.prediction == pytest.approx(parts["mean"], abs=1e-3)
    model.network.centre.data.fill_(9.0)
    found = explain(model, 1, 5)
    parts = dict(found.parts.iter_rows())
    assert parts["scale"] < 0
    assert sum(parts.values()) == pytest.approx(found.prediction, abs=1e-3)
    assert found.prediction == pytest.approx(5.0)


def test_the_vector_of_a_new_movie_is_that_of_a_movie_of_these_genres(model):
    movie = model.movies.filter(pl.col("genres").list.len() == 2).row(0, named=True)
    names = [model.genres["name"][k] for k in movie["genres"]]
    found = embed(model, names[::-1], replica=1)
    mean, deviation = (part[:, 1] for part in model.network.genre_posterior())
    share = model.network.genre_share[movie["movie"]]
    assert found["value"].to_numpy() == pytest.approx((share @ mean).numpy(), abs=1e-6)
    spread = (share**2 @ deviation**2).sqrt().numpy()
    assert found["deviation"].to_numpy() == pytest.approx(spread, abs=1e-6)
    with pytest.raises(InputError, match="replica 2 does not exist; allowed: 0 to 1"):
        embed(model, names, replica=2)
    with pytest.raises(InputError, match="no genre is given"):
        embed(model, [])


def test_a_model_without_genres(written):
    save_model(written.network(genres=False), written.sides["train"])
    model = open_model()
    with pytest.raises(InputError, match="trained without genres"):
        embed(model, ["Drama"])
    found = explain(model, 1, 1)
    assert found.parts["part"].to_list() == ["mean", "user", "movie"]
    assert found.parts["stars"].sum() == pytest.approx(found.prediction, abs=1e-5)
    assert neighbours(model, 1, top=3).table.height == 3
    export(model, Path("exports"))
    assert pl.read_parquet("exports/genres.parquet").is_empty()
    assert not pl.read_parquet("exports/movies.parquet")["genre_vector"].to_numpy().any()
