"""Exported embeddings and scorers agree with the model."""

import subprocess
import sys
import warnings
from urllib.request import urlopen

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from genre_embeddings.errors import InputError
from genre_embeddings.inference.export import TABLES, export, write_scorer
from genre_embeddings.inference.predict import predict_pairs
from genre_embeddings.inference.trained import open_model
from genre_embeddings.model.serialization import save_model
from tests.conftest import ROOT


def lines_of(path):
    return [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]


def test_everything_loads_back(model, tmp_path):
    out, replica = tmp_path / "exports", 1
    export(model, out, replica)
    genres, movies, users = (pl.read_parquet(out / name) for name in TABLES)
    mean, deviation = (part[:, replica].numpy() for part in model.network.genre_posterior())
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

    read = duckdb.sql(f"select index, vector from '{out}/movies.parquet' order by index").fetchall()
    assert [index for index, _ in read] == movies["index"].to_list()
    for vectors in ([v for _, v in read], pd.read_parquet(out / "movies.parquet")["vector"]):
        assert (np.stack([*vectors]) == movies["vector"].to_numpy()).all()
    vectors = np.array(lines_of(out / "vectors.tsv"), dtype=np.float32)
    assert vectors == pytest.approx(np.concatenate([mean, movies["vector"].to_numpy()]), abs=1e-6)
    head, *rows = lines_of(out / "metadata.tsv")
    assert head == ["kind", "id", "name", "genres", "ratings"]
    ids = [*model.genres["name"], *map(str, model.movies["movie_id"])]
    assert [row[1] for row in rows] == ids


VARIANTS = [{"cross": False, "time": "none", "history": 0}, {"squash": True, "genres": False}]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_scorer_predicts_what_the_model_predicts(written, in_tmp, variant):
    """Of known and unknown users and movies, in batches of any size."""
    network = written.network(**variant).eval()
    torch.manual_seed(0)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    save_model(network, written.sides["train"])
    model = open_model()
    write_scorer(model.network, in_tmp / "scorer.pt2")
    assert str(ROOT).encode() not in (in_tmp / "scorer.pt2").read_bytes()
    with warnings.catch_warnings(action="ignore"):
        scorer = torch.export.load(in_tmp / "scorer.pt2").module()
    users, movies = torch.arange(-1, 80), torch.arange(-1, 60)
    said = scorer(users.repeat_interleave(61), movies.repeat(81)).tolist()
    said += scorer(users[:1], movies[:1]).tolist()
    users = pl.concat([pl.Series([999_999]), model.users["user_id"]])
    movies = pl.concat([pl.Series([888_888]), model.movies["movie_id"]])
    every = pl.DataFrame({"u": users}).join(pl.DataFrame({"m": movies}), how="cross")
    expected = predict_pairs(model, every["u"], every["m"])["prediction"].to_list()
    assert said == pytest.approx([*expected, expected[0]], abs=1e-5)


def test_a_folder_of_other_files_is_left_alone(model, tmp_path):
    out = tmp_path / "exports"
    export(model, out)
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    export(model, out)  # an earlier export is replaced, and by the same bytes
    assert {path.name: path.read_bytes() for path in out.iterdir()} == first
    (out / "thesis.txt").write_text("years of work")
    for arguments, message in (
        ((out,), r"contains thesis\.txt, which no export wrote"),
        ((out / "thesis.txt",), "is a file"),
        ((tmp_path / "other", 9), "replica 9 does not exist"),
    ):
        with pytest.raises(InputError, match=message):
            export(model, *arguments)
    assert (out / "thesis.txt").read_text() == "years of work"
    assert not (tmp_path / "other").exists()


def test_the_server_of_the_guide_answers(model, in_tmp):
    guide = (ROOT / "docs/guide/serving.md").read_text(encoding="utf-8")
    script = guide.partition("```python\n")[2].partition("```")[0].replace("8000", "0")
    # PyTorch reads the scorer alone. Port 0 is any free one, which the server has to name.
    script = script.replace("HTTPServer((", "server = HTTPServer((").replace(
        ".serve_forever()",
        "; import sys; assert 'genre_embeddings' not in sys.modules; "
        "print(server.server_port, flush=True); server.serve_forever()",
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
