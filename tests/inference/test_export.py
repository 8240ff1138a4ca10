"""Exported embeddings, loaded back and held against the model."""

import subprocess
import sys
from urllib.request import urlopen

import numpy as np
import polars as pl
import pytest
import torch

from genre_embeddings.errors import InputError
from genre_embeddings.inference.export import TABLES, export, movie_vectors
from genre_embeddings.inference.predict import predict_pairs
from genre_embeddings.inference.scorer import write_scorer
from genre_embeddings.inference.trained import open_model
from genre_embeddings.model.serialization import save_model
from tests.conftest import ROOT
from tests.small import small_world, write_world
from tests.trained import train_project


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return train_project(tmp_path_factory.mktemp("project"), cross=True)


def lines_of(path):
    return [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("replica", [0, 1])
def test_everything_loads_back(model, tmp_path, replica):
    out = tmp_path / "exports"
    export(model, out, replica)
    genres, movies, users = (pl.read_parquet(out / name) for name in TABLES)
    mean, deviation = (part[:, replica].numpy() for part in model.network.genre_posterior())
    own = movie_vectors(model.network)[:, replica].numpy()
    assert genres["genre"].equals(model.genres["name"], check_names=False)
    assert (genres["vector"].to_numpy() == mean).all()
    assert (genres["deviation"].to_numpy() == deviation).all()
    assert movies.select("movie_id", "title").equals(model.movies.select("movie_id", "title"))
    assert movies["ratings"].to_list() == model.network.movie_counts[:-1].int().tolist()
    by_genre = model.network.genre_share[:-1].numpy() @ mean
    assert movies["genre_vector"].to_numpy() == pytest.approx(by_genre, abs=1e-6)
    assert users["user_id"].equals(model.users["user_id"])
    assert users["ratings"].to_list() == model.network.user_counts.int().tolist()
    for table in (movies, users):
        assert table["index"].to_list() == list(range(table.height))
    # The network computes with these vectors: u and v are inputs of its dense part.
    seen = []
    hook = model.network.dense.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model.network(torch.arange(60), torch.arange(60))
    hook.remove()
    x = seen[0][replica].numpy()  # (60, inputs)
    assert users["vector"].to_numpy()[:60] == pytest.approx(x[:, :4], abs=1e-6)
    assert movies["vector"].to_numpy() == pytest.approx(x[:, 4:8], abs=1e-6)

    vectors = np.array(lines_of(out / "vectors.tsv"), dtype=np.float32)
    assert vectors == pytest.approx(np.concatenate([mean, own]), abs=1e-6)
    head, *rows = lines_of(out / "metadata.tsv")
    assert head == ["kind", "id", "name", "genres", "ratings"]
    ids = [*model.genres["name"], *map(str, model.movies["movie_id"])]
    assert [row[1] for row in rows] == ids


ASK = """
import sys, torch
scorer = torch.export.load("scorer.pt2").module()
assert not any(name.startswith("genre_embeddings") for name in sys.modules)
users, movies = torch.arange(-1, 80), torch.arange(-1, 60)
print(*scorer(users.repeat_interleave(61), movies.repeat(81)).tolist())
print(scorer(users[:1], movies[:1]).item())
"""
VARIANTS = [{"cross": False, "time": "none", "history": 0}, {"squash": True, "genres": False}]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_scorer_predicts_what_the_model_predicts(settings, in_tmp, variant):
    """Read by PyTorch alone; of known and unknown users and movies, in batches of any size."""
    world = small_world(settings)
    write_world(world)
    network = world.network(**variant).eval()
    torch.manual_seed(0)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    save_model(network)
    model = open_model()
    write_scorer(model.network, in_tmp / "scorer.pt2")
    assert str(ROOT).encode() not in (in_tmp / "scorer.pt2").read_bytes()
    said = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ASK], check=True, capture_output=True, text=True
    ).stdout
    users = pl.concat([pl.Series([999_999]), model.users["user_id"]])
    movies = pl.concat([pl.Series([888_888]), model.movies["movie_id"]])
    every = pl.DataFrame({"u": users}).join(pl.DataFrame({"m": movies}), how="cross")
    expected = predict_pairs(model, every["u"], every["m"])["prediction"].to_list()
    assert list(map(float, said.split())) == pytest.approx([*expected, expected[0]], abs=1e-5)


def test_titles_cannot_break_the_table(model, tmp_path):
    model.movies[0, "title"] = 'A "tab"\there\r\nand a line'
    model.movies[1, "title"] = '=HYPERLINK("http://example.org")'
    export(model, tmp_path / "exports")
    rows = lines_of(tmp_path / "exports" / "metadata.tsv")
    assert len(rows) == 1 + 6 + 60
    assert rows[7][2] == 'A "tab" here and a line'
    assert rows[8][2] == """'=HYPERLINK("http://example.org")"""


def test_a_folder_of_other_files_is_left_alone(model, tmp_path):
    out = tmp_path / "exports"
    export(model, out)
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    export(model, out)  # an earlier export is replaced, and by the same bytes
    assert {path.name: path.read_bytes() for path in out.iterdir()} == first
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match=r"contains thesis\.txt, which no export wrote"):
        export(model, out)
    assert (out / "thesis.txt").read_text() == "years of work"
    with pytest.raises(InputError, match="is a file"):
        export(model, out / "thesis.txt")
    with pytest.raises(InputError, match="replica 9 does not exist"):
        export(model, tmp_path / "other", 9)
    assert not (tmp_path / "other").exists()


def test_a_model_without_genres(tmp_path, monkeypatch):
    monkeypatch.chdir(train_project(tmp_path, genres=False))
    export(open_model(), tmp_path / "exports")
    assert pl.read_parquet(tmp_path / "exports" / "genres.parquet").is_empty()
    movies = pl.read_parquet(tmp_path / "exports" / "movies.parquet")
    assert not movies["genre_vector"].to_numpy().any()


def test_the_server_of_the_guide_answers(model, in_tmp):
    guide = (ROOT / "docs/guide/serving.md").read_text(encoding="utf-8")
    script = guide.partition("```python\n")[2].partition("```")[0].replace("8000", "0")
    # Port 0 is any free one, which the server has to name.
    script = script.replace("HTTPServer((", "server = HTTPServer((").replace(
        ".serve_forever()", "; print(server.server_port, flush=True); server.serve_forever()"
    )
    export(model, in_tmp / "exports")
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=in_tmp, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        try:
            address = f"http://127.0.0.1:{int(process.stdout.readline())}/"
            for user, movie in ((3, 7), (999_999, 7), (3, 888_888)):
                with urlopen(f"{address}?user={user}&movie={movie}", timeout=60) as answer:
                    said = float(answer.read())
                expected = predict_pairs(model, pl.Series([user]), pl.Series([movie]))
                assert said == pytest.approx(expected["prediction"].item(), abs=1e-4)
        finally:
            process.kill()
