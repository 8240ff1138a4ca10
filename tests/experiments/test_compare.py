"""Comparison and table of revisions, read from git."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from genre_embeddings import storage
from genre_embeddings.cli import genres
from genre_embeddings.errors import InputError
from genre_embeddings.experiments.compare import compare, read_revision
from genre_embeddings.experiments.revisions import read_runs
from genre_embeddings.experiments.runs import table
from tests.project import Project

A = np.array([[1, 0.5, 0.1, -0.4], [0.5, 1, 0.3, 0], [0.1, 0.3, 1, 0.2], [-0.4, 0, 0.2, 1]])
NAMES = ("Crime", "Action", "Drama", "War")
PLOT = Path("plots/inspect/similarity.json")


def git(*arguments):
    return Project(Path.cwd()).git(*arguments).strip()


def init():
    """What `dvc init` makes."""
    git("init", "--quiet", "--initial-branch", "main")
    Path(".dvc").mkdir()
    Path(".dvc/config").write_text("")
    Path(".dvc/.gitignore").write_text("/tmp\n/cache\n")


def commit(message="a commit"):
    git("add", "--all")
    git("commit", "--quiet", "--message", message)
    return git("rev-parse", "HEAD")


def as_experiment(name, base):
    """Save an experiment as DVC does: in a commit that only a ref below refs/exps names."""
    made = commit(name)
    git("update-ref", f"refs/exps/{base[:2]}/{base[2:]}/{name}", made)
    git("reset", "--quiet", "--hard", base)
    return made


def write(
    values=A, names=NAMES, lr=0.01, structure="pass", seed=0, data="1", split="1", summarized="1"
):
    """Write the files of a run in the working directory.

    `data`, `split` and `summarized` are hashes of the prepared data, their split and the model that
    was summarized; the trained one has hash 1.
    """
    params = {"seed": seed, "train": {"lr": lr, "epochs": 3}}
    sides = [{"path": f"data/split/{side}", "md5": split} for side in storage.SIDES]
    measured = [{"path": f"metrics/{name}.json", "md5": "1"} for name in ("evaluate", "inspect")]
    stages = {
        "prepare": {"outs": [{"path": "data/prepared", "md5": data}]},
        "split": {"outs": sides},
        "train": {"params": {"params.yaml": params}, "outs": [{"path": "models", "md5": "1"}]},
        "inspect": {"outs": measured},
        "publish": {"deps": [*measured, {"path": "models", "md5": summarized}]},
    }
    rows = [
        {"a": names[a], "b": names[b], "similarity": None if np.isnan(value) else value}
        for b, row in enumerate(np.asarray(values).tolist())
        for a, value in enumerate(row)
    ]
    summary = {
        "verdict": {"structure": structure, "stability": "pass", "value": "inconclusive"},
        "test": {"rmse": 0.85},
        "agreement": {"likelihood": 0.7},
        "stability": {"spearman": 0.95},
    }
    for name, content in {
        "dvc.lock": {"schema": "2.0", "stages": stages},
        "metrics/summary.json": summary,
        PLOT: rows,
    }.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(json.dumps(content))


@pytest.fixture
def repository(in_tmp):
    init()
    (in_tmp / "README").write_text("before the inspection\n")
    old = commit()
    git("tag", "old")
    write()
    return {"old": old, "base": commit()}


def test_an_experiment_against_main_and_the_workspace(repository):
    moved = A.copy()
    moved[0, 3] = moved[3, 0] = 0.5
    write(moved, lr=0.1, structure="fail")
    as_experiment("bold-lynx", repository["base"])
    write(A[::-1, ::-1], names=NAMES[::-1])  # the same similarities, in another order
    found = compare(["main", "bold-lynx", "workspace"])
    # Pairs: .5 .1 -.4 .3 0 .2 against .5 .1 .5 .3 0 .2, of which two are the same.
    rho = np.corrcoef([6, 3, 1, 5, 2, 4], [5.5, 2, 5.5, 4, 1, 3])[0, 1]
    assert found.agreements()["main"].to_list() == ["1", f"{rho:.4g}", "1"]
    assert found.moved().columns == ["genre", "bold-lynx", "workspace"]
    assert found.moved().rows() == [
        ("Crime", "0.3", "0"), ("War", "0.3", "0"), ("Action", "0", "0"), ("Drama", "0", "0"),
    ]  # fmt: skip
    assert found.scores().rows() == [
        ("train.lr", "0.01", "0.1", "0.01"),
        ("structure", "pass", "fail", "pass"),
        ("stability", *["pass"] * 3),
        ("value", *["inconclusive"] * 3),
        ("agreement with likelihood", *["0.7"] * 3),
        ("agreement with other users", *["0.95"] * 3),
        ("test RMSE (stars)", *["0.85"] * 3),
    ]


def test_unknown_cells_and_genres_of_one_revision(repository):
    holes = A.copy()
    holes[0, 1] = holes[1, 0] = holes[3] = holes[:, 3] = np.nan
    write(holes, names=("Crime", "Action", "Drama", "Western"))
    found = compare(["main", "workspace"])
    assert found.genres == ["Crime", "Action", "Drama"]
    assert found.left_out == ["War", "Western"]
    assert found.moved()["workspace"].to_list() == ["0", "0", "0"]
    assert found.agreements()["main"].to_list() == ["1", "-"]  # two pairs are left


def test_names_of_experiments(repository):
    write(A * 0.5)
    as_experiment("bold-lynx", repository["base"])
    write(A * 0.5, lr=0.2)
    second = as_experiment("bold-lynx", repository["old"])
    git("checkout", "--quiet", "main")
    git("reset", "--quiet", "--hard", repository["base"])
    # The one that started from where we are goes first.
    assert read_revision("bold-lynx").run.settings["train.lr"] == 0.01
    assert read_revision(second[:10]).run.settings["train.lr"] == 0.2
    git("commit", "--quiet", "--allow-empty", "--message", "further on")
    for name, message in (
        ("bold-lynx", "or several experiments have that name"),
        ("bold-linx", r"'bold-linx' .*did you mean bold-lynx.*: bold-lynx, "),
        ("--all", "'--all' is not known"),
    ):
        with pytest.raises(InputError, match=message):
            read_revision(name)


def test_what_cannot_be_compared(repository):
    for named, message in (
        (["main"], "Revisions named: 1;"),
        (["main", "workspace", "main"], "'main' is named twice"),
        (["main", "x"], r"'x' is not known, .* Experiments and branches here: main\."),
        (["main", "old"], r"old has no similarities in plots/inspect/similarity\.json"),
    ):
        with pytest.raises(InputError, match=message):
            compare(named)
    write(names=("Crime", "Action", "Poetry", "Prose"))
    with pytest.raises(InputError, match=r"2 genres in common, .* needs 3 .*Poetry"):
        compare(["main", "workspace"])
    for path, content, message in (
        (PLOT, "[]", "has no similarities in .*, or compared no genres"),
        (PLOT, "[1]", "does not hold rows"),
        (PLOT, '[{"a": "x", "b": "y"}]', "does not hold rows"),
        (PLOT, "<<<<<<< HEAD", r"similarity\.json cannot be read"),
        (PLOT, "[" * 10**5, r"similarity\.json cannot be read"),
        ("dvc.lock", "seed: [0\n", r"dvc\.lock cannot be read .the text is not valid YAML"),
        ("dvc.lock", "only words\n", r"dvc\.lock or .* is not as DVC and stage publish write"),
        ("dvc.lock", "stages: {train: {outs: [1]}}\n", r"dvc\.lock or .* is not as DVC and"),
        ("dvc.lock", "stages: &a {b: *a}\n", r"dvc\.lock cannot be read"),
        ("metrics/summary.json", "<<<<<<<", r"metrics/summary\.json cannot be read"),
    ):
        write()
        Path(path).write_text(content)
        with pytest.raises(InputError, match=f"workspace.*{message}"):
            compare(["main", "workspace"])


def test_only_numbers_of_the_run_s_own_model_are_read(repository):
    write(lr=0.2)
    Path("params.yaml").write_text("seed: 99\n")  # changed, and not run
    run = read_runs()[0]
    assert run.settings == {"seed": 0, "train.lr": 0.2, "train.epochs": 3}
    assert (run.name, run.metrics["test.rmse"]) == ("workspace", 0.85)
    write(summarized="another")
    assert [run.name for run in read_runs()] == ["main"]
    Path("dvc.lock").unlink()
    assert [run.name for run in read_runs()] == ["main"]


def test_without_a_project_or_results(in_tmp, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(in_tmp.parent))
    for read in (lambda: read_revision("main"), table):
        with pytest.raises(InputError, match="is not a DVC project in git: run the command in"):
            read()
    init()
    with pytest.raises(InputError, match="no results yet: `dvc repro`"):
        table()
    write()
    assert table()[0]["run"].to_list() == ["workspace"]  # before the first commit
    shutil.rmtree(".git")
    Path(".dvc/config").write_text("[core]\nno_scm = true\n")
    with pytest.raises(InputError, match="is not a DVC project in git"):
        table()


def test_differences_in_data_split_and_seed_are_said_in_words(repository):
    for name, change in (
        ("same", {"lr": 0.2}),
        ("other-seed", {"seed": 1}),
        ("other-split", {"seed": 1, "split": "2"}),
        ("other-data", {"data": "2", "split": "2", "names": ("Crime", "Action", "Drama", "X")}),
        ("third-data", {"data": "3", "split": "3", "seed": 1}),
    ):
        write(**change)
        as_experiment(name, repository["base"])
    named = ["main", "same", "other-seed", "other-split", "other-data", "third-data"]
    said = CliRunner().invoke(genres, ["compare", *named])
    different = "Their test ratings differ, so their errors cannot be compared directly."
    assert said.stdout.startswith(
        "other-seed differs from main in seed.\n\n"
        f"other-split differs from main in split and seed. {different}\n\n"
        f"other-data differs from main in data and split. {different}\n\n"
        f"third-data differs from main in data, split and seed. {different}\n\n"
    )
    for part in ("train.lr", "Spearman's rho", "Genres that changed most from main"):
        assert part in said.stdout
    assert "Left out, because some revision lacks them: War, X\n" in said.stdout


def test_the_table_of_runs(repository, monkeypatch):
    write(lr=0.2, structure="fail")
    as_experiment("bold-lynx", repository["base"])
    write(seed=1, split="2", structure="inconclusive")
    as_experiment("other", repository["base"])
    monkeypatch.setenv("COLUMNS", "80")
    said = CliRunner().invoke(genres, ["runs"], catch_exceptions=False).stdout
    assert max(map(len, said.splitlines())) <= 80
    rows = {line.split()[0]: line.split()[1:] for line in said.splitlines() if line.strip()}
    numbers = "0.8500", "0.70", "0.95"
    assert rows["run"] == ["RMSE", "agree", "stable", "SSV", "changed"]
    assert rows["main"] == [*numbers, "✓✓?"]
    assert rows["bold-lynx"] == [*numbers, "✗✓?", "train.lr=0.2"]
    assert "workspace" not in rows  # the same as main
    assert "other differs from main in split and seed." in " ".join(said.split())


def test_of_branches_at_one_commit_the_one_checked_out_gives_its_name(repository):
    git("branch", "a-branch")
    for branch in ("main", "a-branch"):
        git("checkout", "--quiet", branch)
        assert table()[0]["run"].to_list() == [branch]
    git("checkout", "--quiet", "--detach")
    assert table()[0]["run"].to_list() == ["a-branch"]
