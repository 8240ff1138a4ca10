"""The table of runs, read from a real DVC project in git."""

import pytest
from click.testing import CliRunner

from genre_embeddings.cli import genres
from genre_embeddings.errors import InputError
from genre_embeddings.experiments.runs import table
from tests.experiments.test_compare import A, as_experiment, init, repository, write  # noqa: F401

LONG = "a-name-that-is-longer-than-its-column"


@pytest.fixture
def runs(repository):  # noqa: F811
    write(A.tolist(), lr=0.2, structure="fail")
    as_experiment("bold-lynx", repository["base"])
    write(A.tolist(), seed=1, split="2", structure="inconclusive")
    as_experiment(LONG, repository["base"])


def test_table_shows_changes_scores_and_verdicts(runs):
    said = table(80)
    lines = said.splitlines()
    assert lines[0].split() == ["run", "RMSE", "agree", "stable", "SSV"]
    rows = {line.split()[0]: line.split()[1:] for line in lines[1:6]}
    assert rows["main"] == ["0.8500", "0.70", "0.95", "✓✓?"]
    assert rows["bold-lynx"] == ["0.8500", "0.70", "0.95", "✗✓?"]
    assert rows[LONG] == ["0.8500", "0.70", "0.95", "?✓?"]
    assert (
        lines[lines.index(next(x for x in lines if x.startswith("bold"))) + 1] == "  train.lr=0.2"
    )
    assert "workspace" not in said  # the same as main
    assert f"{LONG} differs from main in split and seed." in said.replace("\n", " ")


@pytest.mark.parametrize("width", [80, 40])
def test_table_fits_the_terminal(runs, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    said = CliRunner().invoke(genres, ["runs"], catch_exceptions=False).stdout
    assert max(map(len, said.splitlines())) <= width
    assert "  seed=1" in said.splitlines()


def test_without_runs(in_tmp):
    with pytest.raises(InputError, match="is not a DVC project in git"):
        table(80)
    init()
    with pytest.raises(InputError, match="no results yet: `dvc repro`"):
        table(80)
