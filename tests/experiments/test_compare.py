"""Revisions read from a real DVC project in git, and compared."""

import base64
import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from genre_embeddings import storage
from genre_embeddings.cli import genres
from genre_embeddings.errors import InputError
from genre_embeddings.experiments.compare import compare, read_revision, write_page

A = np.array([[1, 0.5, 0.1, -0.4], [0.5, 1, 0.3, 0], [0.1, 0.3, 1, 0.2], [-0.4, 0, 0.2, 1]])
NAMES = ("Crime", "Action", "Drama", "War")


def git(*arguments):
    done = subprocess.run(
        ["git", "-c", "user.name=A", "-c", "user.email=a@example.org", *arguments],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout.strip()


def init():
    """A DVC project in git, as `dvc init` makes one."""
    git("init", "--quiet", "--initial-branch", "main")
    Path(".dvc").mkdir()
    Path(".dvc/config").write_text("")
    Path(".dvc/.gitignore").write_text("/tmp\n/cache\n")


def rows(values, names=NAMES, half=0.05):
    return [
        {"a": names[a], "b": names[b], "similarity": value, "ratings": 5}
        | {"low": value and value - half, "high": value and value + half}
        for b in range(len(names))
        for a, value in enumerate(values[b])
    ]


def write(values, names=NAMES, lr=0.01, structure="pass", seed=0, data="1", split="1"):
    """What a run would have written in the working directory."""
    params = {"seed": seed, "train": {"lr": lr, "epochs": 3}}
    model = [{"path": "models", "md5": "1"}]
    stages = {
        "prepare": {"outs": [{"path": "data/prepared", "md5": data}]},
        "split": {"outs": [{"path": f"data/split/{side}", "md5": split} for side in storage.SIDES]},
        "train": {"params": {"params.yaml": params}, "outs": model},
        "evaluate": {"deps": model},
        "inspect": {"deps": model},
    }
    contents = {
        "dvc.lock": {"schema": "2.0", "stages": stages},
        "plots/inspect/similarity.json": rows(values, names),
        "metrics/inspect.json": {
            "verdict": {"structure": structure, "stability": "pass", "value": "inconclusive"},
            "agreement": {"likelihood": {"spearman": 0.7}},
            "stability": {"spearman": 0.95},
        },
        "metrics/evaluate.json": {"test": {"rmse": 0.85}},
    }
    for name, content in contents.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(json.dumps(content))


def commit(message="a commit"):
    git("add", "--all")
    git("commit", "--quiet", "--message", message)
    return git("rev-parse", "HEAD")


def as_experiment(name, base):
    """What DVC does with an experiment: a commit of its own that only a ref of its kind names."""
    made = commit(name)
    git("update-ref", f"refs/exps/{base[:2]}/{base[2:]}/{name}", made)
    git("reset", "--quiet", "--hard", base)
    return made


@pytest.fixture
def repository(in_tmp):
    init()
    (in_tmp / "README").write_text("before the inspection\n")
    old = commit()
    git("tag", "old")
    write(A.tolist())
    return {"old": old, "base": commit()}


def test_an_experiment_against_main_and_the_workspace(repository):
    moved = A.copy()
    moved[0, 3] = moved[3, 0] = 0.5
    write(moved.tolist(), lr=0.1, structure="fail")
    as_experiment("bold-lynx", repository["base"])
    found = compare(["main", "bold-lynx", "workspace"])
    assert found.genres == list(NAMES)
    # Pairs: .5 .1 -.4 .3 0 .2 against .5 .1 .5 .3 0 .2, of which two are the same.
    assert found.agreement[0, 2] == 1
    ranks = [6, 3, 1, 5, 2, 4], [5.5, 2, 5.5, 4, 1, 3]
    assert found.agreement[0, 1] == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert found.change[1] == pytest.approx([0.9 / 3, 0, 0, 0.9 / 3])
    assert not found.change[2].any()
    assert found.moved().columns == ["genre", "bold-lynx", "workspace"]
    assert found.moved()["genre"].to_list() == ["Crime", "War", "Action", "Drama"]
    scores = {row[0]: row[1:] for row in found.scores().iter_rows()}
    assert scores["train.lr"] == ("0.01", "0.1", "0.01")
    assert scores["structure"] == ("pass", "fail", "pass")
    assert scores["agreement with likelihood"] == ("0.7",) * 3
    assert scores["test RMSE (stars)"] == ("0.85",) * 3
    assert "train.epochs" not in scores
    assert "agreement with truth" not in scores


def test_the_page(repository, tmp_path):
    write((A * 0.9 + 0.1).tolist())
    as_experiment("bold-lynx", repository["base"])
    write(A[:, ::-1][::-1].tolist(), names=NAMES[::-1])
    as_experiment("mild-wren", repository["base"])
    page = tmp_path / "pages" / "compare.html"
    found = compare(["main", "bold-lynx", "mild-wren"])
    assert found.agreement[0] == pytest.approx([1, 1, 1])
    assert not found.change[2].any()  # the same similarities, listed in another order
    write_page(found, page)
    text = page.read_text(encoding="utf-8")
    pictures = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", text)
    assert len(pictures) == 2
    assert all(base64.b64decode(p).startswith(b"\x89PNG") for p in pictures)
    assert not re.search(r"(src|href)=['\"](?!data:)", text)
    assert "<td>Crime</td>" in text
    write_page(found, page)
    assert page.read_text(encoding="utf-8") == text


def test_unknown_cells_and_genres_of_one_revision(repository):
    holes = A.tolist()
    holes[0][1] = holes[1][0] = None
    holes[3] = [None] * 4
    for row in holes:
        row[3] = None
    write(holes, names=("Crime", "Action", "Drama", "Western"))
    found = compare(["main", "workspace"])
    assert found.genres == ["Crime", "Action", "Drama"]
    assert found.left_out == ["War", "Western"]
    assert found.change[1] == pytest.approx([0, 0, 0])
    assert np.isnan(found.agreement[0, 1])  # two pairs are left
    assert found.agreements()["main"].to_list() == ["1", "-"]


def test_a_page_says_what_was_left_out(repository, tmp_path):
    write(A.tolist(), names=("Crime", "Action", "Drama", "<b>Western"))
    write_page(compare(["main", "workspace"]), tmp_path / "compare.html")
    text = (tmp_path / "compare.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;Western, War" in text
    assert "<b>Western" not in text


def test_names_of_experiments(repository):
    write((A * 0.5).tolist())
    first = as_experiment("bold-lynx", repository["base"])
    write((A * 0.5).tolist(), lr=0.2)
    second = as_experiment("bold-lynx", repository["old"])
    git("checkout", "--quiet", "main")
    git("reset", "--quiet", "--hard", repository["base"])
    # The one that started from where we are goes first.
    assert read_revision("bold-lynx").run.settings["train.lr"] == 0.01
    assert read_revision(second[:10]).run.settings["train.lr"] == 0.2
    git("commit", "--quiet", "--allow-empty", "--message", "further on")
    with pytest.raises(InputError, match="is the name of 2 experiments") as caught:
        read_revision("bold-lynx")
    assert first[:10] in str(caught.value)
    assert second[:10] in str(caught.value)
    with pytest.raises(InputError, match=r"'bold-linx' .*did you mean bold-lynx.*: bold-lynx, "):
        read_revision("bold-linx")
    with pytest.raises(InputError, match="'--all' is not known"):
        read_revision("--all")


def test_what_cannot_be_compared(repository, in_tmp):
    with pytest.raises(InputError, match="Revisions named: 1;"):
        compare(["main"])
    with pytest.raises(InputError, match="'main' is named twice"):
        compare(["main", "workspace", "main"])
    with pytest.raises(
        InputError, match=r"'x' is not known\. Experiments and branches here: main\."
    ):
        compare(["main", "x"])
    with pytest.raises(InputError, match=r"old has no plots/inspect/similarity\.json"):
        compare(["main", "old"])
    write(A.tolist(), names=("Crime", "Action", "Poetry", "Prose"))
    with pytest.raises(InputError, match=r"2 genres in common, .* needs 3 .*Poetry"):
        compare(["main", "workspace"])
    plot = in_tmp / "plots" / "inspect" / "similarity.json"
    for content, message in (
        ("[]", "compared no genres"),
        ("[1]", "does not hold rows"),
        ('[{"a": "x"}]', "does not hold rows"),
        ("<<<<<<< HEAD", "is not JSON"),
    ):
        plot.write_text(content)
        with pytest.raises(InputError, match=message):
            compare(["main", "workspace"])
    plot.unlink()
    with pytest.raises(InputError, match=r"workspace has no .* run `dvc repro`"):
        compare(["main", "workspace"])


def test_differences_in_data_split_and_seed_are_said_in_words(repository, tmp_path):
    for name, change in (
        ("same", {"lr": 0.2}),
        ("other-seed", {"seed": 1}),
        ("other-split", {"seed": 1, "split": "2"}),
        ("other-data", {"data": "2", "split": "2"}),
        ("third-data", {"data": "3", "split": "3"}),
    ):
        write(A.tolist(), **change)
        as_experiment(name, repository["base"])
    found = compare(["main", "same", "other-seed", "other-split", "other-data", "third-data"])
    different = "Their test ratings differ, so their errors cannot be compared directly."
    assert found.warnings == [
        "other-seed differs from main in seed.",
        f"other-split differs from main in split and seed. {different}",
        f"other-data, third-data differ from main in data and split. {different}",
    ]
    write_page(found, tmp_path / "compare.html")
    text = (tmp_path / "compare.html").read_text(encoding="utf-8")
    assert text.count('<p class="warning">') == 3
    assert "other-seed differs from main in seed." in text


def test_command_prints_what_the_page_shows(repository, tmp_path):
    write(A[:3, :3].tolist(), names=("Crime", "Action", "Drama"), lr=0.1, split="2")
    as_experiment("bold-lynx", repository["base"])
    out = tmp_path / "page.html"
    said = CliRunner().invoke(
        genres, ["compare", "main", "bold-lynx", "--out", str(out)], catch_exceptions=False
    )
    assert said.exit_code == 0
    for part in ("train.lr", "Spearman's rho", "Genres that changed most from main", f"-> {out}"):
        assert part in said.stdout
    assert said.stdout.startswith("bold-lynx differs from main in split. Their test ratings")
    assert "Left out, because some revision lacks them: War\n" in said.stdout
    assert out.stat().st_size > 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("seed: [0\n", "is not valid YAML"),
        ("only words\n", "does not hold stages"),
        ("stages: [1]\n", "does not hold stages"),
        ("stages: {train: {outs: [1]}}\n", "does not hold stages"),
        ("stages: {train: {params: {params.yaml: &a {b: *a}}}}\n", "does not hold stages"),
    ],
)
def test_damaged_lock_file_is_named(repository, text, says):
    Path("dvc.lock").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=rf"workspace: dvc\.lock {says}"):
        compare(["main", "workspace"])


def test_outside_a_repository(in_tmp, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(in_tmp.parent))
    with pytest.raises(InputError, match="is not a DVC project in git: run the command in"):
        read_revision("main")
    with pytest.raises(InputError, match=r"workspace has no .* run `dvc repro`"):
        read_revision("workspace")
