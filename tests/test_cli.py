"""The command line, run as people run it."""

import json
import os
import shutil
import subprocess
import sys
from hashlib import sha256

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from genre_embeddings import storage
from genre_embeddings.cli import genres
from genre_embeddings.errors import InputError
from tests.conftest import ROOT
from tests.trained import train_project


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return train_project(tmp_path_factory.mktemp("project"))


def call(*arguments, cwd):
    """Run ./genres; its exit status, stdout and stderr."""
    done = subprocess.run(
        [sys.executable, ROOT / "genres", *arguments],
        cwd=cwd, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def run(project, monkeypatch):
    monkeypatch.chdir(project)

    def invoke(*arguments):
        result = CliRunner().invoke(genres, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    return invoke


def test_help_comes_at_once(tmp_path):
    assert os.access(ROOT / "genres", os.X_OK)
    status, out, _ = call("--help", cwd=tmp_path)
    assert status == 0
    for command in ("compare", "export", "predict", "recommend", "neighbours", "explain", "embed"):
        assert f"  {command} " in out
    heavy = "import sys, genre_embeddings.cli; print({'torch', 'polars', 'scipy'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", heavy],
        capture_output=True, text=True, check=True, env={"PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert done.stdout.strip() == "set()"


def test_errors_end_in_one_line(project, tmp_path):
    status, out, err = call("embed", "Dramma", cwd=project)
    assert (status, out) == (1, "")
    assert err.startswith("error: genre 'Dramma' is not known (did you mean 'Drama'?); allowed: ")
    assert err.count("\n") == 1
    status, _, err = call("compare", "workspace", cwd=tmp_path)
    assert status == 1
    assert err.startswith("error: Revisions named: 1;")
    status, _, err = call("recommend", cwd=tmp_path)
    assert status == 2
    assert "Missing argument 'USER_ID'" in err


def test_without_a_model(in_tmp):
    with pytest.raises(InputError, match=r"model\.safetensors is not here: run `dvc repro train`"):
        CliRunner().invoke(genres, ["explain", "1", "2"], catch_exceptions=False)


def test_predict(run, tmp_path):
    (tmp_path / "pairs.csv").write_text("userId,movieId\n1,2\n1,99999\n")
    out = run("predict", str(tmp_path / "pairs.csv"), "--out", str(tmp_path / "out.csv"))
    assert out.startswith("predicted 2 rows, 0 of unknown users and 1 of unknown movies -> ")
    assert pl.read_csv(tmp_path / "out.csv")["known_movie"].to_list() == [True, False]


def test_recommend(run):
    out = run("recommend", "1", "--genre", "drama", "--top", "2")
    assert out.startswith("For user 1, drama\n")
    assert len(out.strip().splitlines()) == 4
    out = run("recommend", "99999", "--top", "1")
    assert out.startswith("User 99999 is not known: this is what users like on average.")


def test_nothing_is_left_to_recommend(run, project, tmp_path, monkeypatch):
    shutil.copytree(project, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    movies = np.arange(60, dtype=np.uint32)
    columns = np.zeros_like(movies), movies, np.full(60, 4, np.float32), np.zeros(60, np.int64)
    for column, values in zip(storage.RATINGS_SCHEMA, columns, strict=True):
        np.save(storage.SPLIT / "train" / f"{column}.npy", values)
    first = str(storage.read_side("train").user[0] + 1)
    assert run("recommend", first) == "There are no movies to recommend.\n"


def test_neighbours(run):
    assert run("neighbours", "Drama").startswith("Most like Drama\n genre")
    assert "similarity" in run("neighbours", "5", "--top", "1")


def test_explain(run):
    out = run("explain", "1", "5")
    assert out.startswith("User 1, movie 5: ")
    assert [line.split()[0] for line in out.splitlines()[2:4]] == ["mean", "user"]
    out = run("explain", "99999", "88888")
    assert "User 99999 is not known" in out
    assert "Movie 88888 is not known" in out


def test_embed(run):
    lines = run("embed", "Drama, comedy", "--replica", "1").strip().splitlines()
    assert lines[0] == "Drama, comedy, replica 1"
    assert [line.split()[0] for line in lines[2:]] == ["0", "1", "2", "3"]


def test_export(run, tmp_path):
    out = run("export", "--out", str(tmp_path / "exports"))
    assert out.startswith("exported 6 genres and 60 movies of replica 0, 4 numbers each -> ")
    assert (tmp_path / "exports" / "vectors.tsv").is_file()


def test_another_model(run, project, tmp_path):
    (tmp_path / "handed-on").symlink_to(project / "models")
    assert run("--model", str(tmp_path / "handed-on"), "embed", "Drama") == run("embed", "Drama")


def test_titles_do_nothing_to_a_terminal(run, project, tmp_path):
    folder = tmp_path / "models"
    shutil.copytree(project / "models", folder)
    tables = json.loads((folder / "tables.json").read_text())
    tables["title"] = ["\x1b]0;owned\x07Title"] * len(tables["title"])
    text = json.dumps(tables).encode()
    (folder / "tables.json").write_bytes(text)
    state = load_file(folder / "model.safetensors")
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        about = json.loads(file.metadata()["model"]) | {"tables": sha256(text).hexdigest()}
    save_file(state, folder / "model.safetensors", {"model": json.dumps(about)})
    out = run("--model", str(folder), "neighbours", "1", "--top", "1")
    assert out.count("?]0;owned?Title") == 2
    assert "\x1b" not in out
