"""The command line."""

import os
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from genre_embeddings.cli import genres, main
from genre_embeddings.inference import recommend
from genre_embeddings.inference.trained import open_model
from tests.conftest import ROOT


@pytest.fixture
def run(trained, monkeypatch):
    monkeypatch.chdir(trained)
    monkeypatch.setenv("COLUMNS", "1000")

    def invoke(*arguments):
        result = CliRunner().invoke(genres, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    return invoke


def test_help_comes_at_once(tmp_path):
    assert os.access(ROOT / "genres", os.X_OK)
    command = [sys.executable, ROOT / "genres", "--help"]
    out = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert all(f"  {command} " in out for command in genres.commands)
    heavy = "import sys, genre_embeddings.cli; print({'torch', 'polars', 'scipy'} & {*sys.modules})"
    command, source = [sys.executable, "-c", heavy], {"PYTHONPATH": str(ROOT / "src")}
    assert subprocess.check_output(command, text=True, env=source).strip() == "set()"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["embed", "Dramma"], "genre 'Dramma' is not known (did you mean 'Drama'?); allowed: "),
        (
            ["explain", "caf\udce9", "5"],
            r"'caf\udce9' is not UTF-8 text: give ids, names and paths",
        ),
        (
            ["--model", "/nowhere", "explain", "1", "2"],
            "/nowhere/model.safetensors is not here: name the fol",
        ),
    ],
)
def test_errors_end_in_one_line(trained, monkeypatch, arguments, message):
    monkeypatch.chdir(trained)
    monkeypatch.setattr(sys, "argv", ["genres", *arguments])
    with pytest.raises(SystemExit) as raised:
        main()
    assert raised.value.code.startswith(f"error: {message}")
    assert "\n" not in raised.value.code


@pytest.mark.parametrize("arguments", [(), ("7", "--all"), ("--all",), ("7", "--out", "a.parquet")])
def test_one_way_to_name_whom_to_recommend_to(arguments):
    said = CliRunner().invoke(genres, ["recommend", *arguments])
    assert said.exit_code == 2
    assert "Give one of USER_ID, --ratings FILE, and --all with --out FILE.parquet." in said.output


def test_predict_and_recommend(run, tmp_path, monkeypatch):
    file, out = tmp_path / "pairs.csv", tmp_path / "out.csv"
    file.write_text("userId,movieId\n1,2\n1,99999\n")
    said = f"predicted 2 rows, 0 of unknown users and 1 of unknown movies -> {out}\n"
    assert run("predict", str(file), "--out", str(out)) == said
    assert pl.read_csv(out)["known_movie"].to_list() == [True, False]
    lines = run("recommend", "1", "--genre", "drama", "--top", "2").strip().splitlines()
    assert (lines[0], len(lines)) == ("For user 1, Drama", 4)
    average = "User 99999 is not known: this is what users like on average."
    assert run("recommend", "99999", "--top", "1").startswith(average)
    out = tmp_path / "all.parquet"
    said = run("recommend", "--all", "--top", "2", "--out", str(out))
    assert said == f"recommended 160 movies to 80 users -> {out}\n"
    columns = ["user_id", "rank", "movie_id", "prediction", "deviation"]
    assert pl.read_parquet(out).columns == columns
    monkeypatch.setattr(recommend, "_candidates", lambda *_: np.empty(0, dtype=np.int64))
    assert run("recommend", "1") == "There are no movies to recommend.\n"


def test_recommend_to_a_new_person(run, tmp_path):
    file = tmp_path / "mine.csv"
    file.write_text("movieId,rating\n1,5\n2,1\n88888,3\n")
    first, _, title, head, *rest = run("recommend", "--ratings", str(file)).splitlines()
    left_out = "Left out 1 of 3 ratings, of movies that the model does not know: row 4, '88888'."
    assert (first, title) == (left_out, f"From 2 ratings in {file}")
    assert head.split()[0] == "movie_id"
    assert "Taste by genre, in stars above or below what users think of it on average" in rest
    file.write_text("movieId,rating\n1,5\n")
    assert run("recommend", "--ratings", str(file)).startswith("One rating says little: ")


def test_neighbours_embed_export_and_explain(run, trained, tmp_path):
    assert run("neighbours", "Drama").startswith("Most like Drama\n genre")
    assert "similarity" in run("neighbours", "5", "--top", "1")
    lines = run("embed", "Drama, comedy", "--replica", "1").strip().splitlines()
    assert lines[0] == "Drama, Comedy, replica 1"
    assert [line.split()[0] for line in lines[2:]] == ["0", "1", "2", "3"]
    assert run("--model", str(trained / "models"), "embed", "Drama") == run("embed", "Drama")
    out = run("export", "--out", str(tmp_path / "exports"))
    assert out.startswith("exported 6 genres, 60 movies and 80 users of replica 0, and the ")
    assert (tmp_path / "exports" / "vectors.tsv").is_file()
    out = run("explain", "1", "5")
    title = open_model().movies.filter(pl.col("movie_id") == 5)["title"].item()
    assert out.startswith(f"User 1, {title}: ")
    assert run("explain", "1", title.upper()) == out
    assert [line.split()[0] for line in out.splitlines()[2:4]] == ["mean", "user"]
    out = run("explain", "99999", "88888")
    assert "User 99999 is not known" in out
    assert "Movie 88888 is not known" in out


def test_a_terminal_gets_whole_lines(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = run("recommend", "1", "--top", "3")
    assert max(map(len, out.splitlines())) <= 80
    assert "deviation" in out
    monkeypatch.delenv("COLUMNS")  # neither a terminal nor a width: nothing is cut
    assert "…" not in run("recommend", "1", "--top", "3")
