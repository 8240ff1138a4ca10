"""What prepare reads is what DVC recorded: a changed rating changes the result, or is refused."""

import json
from pathlib import Path

import pytest

from tests.project import Project, finish_queue, make_project

pytestmark = pytest.mark.pipeline

RATINGS = "userId,movieId,rating\n" + "".join(f"{n % 5},{n},3\n" for n in range(20))
MOVIES = "movieId,title,genres\n" + "".join(f"{n},T,{'A|B' if n % 2 else 'A'}\n" for n in range(20))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = make_project(tmp_path / "project")
    project.change({"data": {"source": "folder"}})
    project.commit()
    return project


def write(folder: Path, last: int) -> None:
    """Twenty ratings of 3, the last of which becomes `last`."""
    folder.mkdir(exist_ok=True)
    (folder / "ratings.csv").write_text(RATINGS.removesuffix("3\n") + f"{last}\n")
    (folder / "movies.csv").write_text(MOVIES)


def mean(project: Project, *way: str) -> float:
    """The mean rating that prepare finds in the workspace, or in an experiment `--temp -n NAME`."""
    if not way:
        project.dvc("repro", "prepare")
        return json.loads((project.folder / "metrics/prepare.json").read_text())["mean_rating"]
    project.dvc("exp", "run", *way, "prepare")
    if "--queue" in way:
        assert set(finish_queue(project).values()) == {"Success"}
    commit = project.git("for-each-ref", "--format=%(objectname)", f"refs/exps/**/{way[-1]}")
    file = project.folder.with_name(f"{way[-1]}.json")
    project.dvc("get", ".", "metrics/prepare.json", "--rev", commit.strip(), "--out", str(file))
    return json.loads(file.read_text())["mean_rating"]


def test_files_dropped_into_data_raw(project: Project) -> None:
    raw = project.folder / "data/raw"
    write(raw, 3)
    assert mean(project) == 3
    write(raw, 5)
    assert mean(project) == 3.1
    said = project.dvc("exp", "run", "--temp", "prepare", status=255)
    command = "dvc add data/raw/movies.csv data/raw/ratings.csv"
    assert f"neither git nor DVC tracks it: run `{command}` and" in said
    project.run("bash", "-c", command)
    assert project.git("status", "--short", "data").split()[1::2] == [
        "data/raw/movies.csv.dvc",
        "data/raw/ratings.csv.dvc",
    ]
    assert mean(project, "--temp", "-n", "copied") == 3.1
    write(raw, 1)  # without another `dvc add`
    assert mean(project, "--temp", "-n", "changed") == 2.9
    write(raw, 2)
    assert mean(project, "--queue", "-n", "queued") == 2.95
    assert mean(project) == 2.95


@pytest.mark.parametrize("place", ["inside", "outside", "linked"])
def test_a_folder_of_ones_own(project: Project, tmp_path: Path, place: str) -> None:
    folder = tmp_path / "books" if place != "inside" else project.folder / "data/books"
    write(folder, 3)
    path = str(folder)
    if place == "inside":
        path = "data/books"
        project.dvc("add", path)
    if place == "linked":  # DVC follows the link
        path = str(tmp_path / "link")
        Path(path).symlink_to(folder)
    project.change({"data": {"path": path}})
    ways = [()] * 2 if place == "outside" else [("--temp", "-n", name) for name in ("one", "two")]
    assert mean(project, *ways[0]) == 3
    write(folder, 4)
    assert mean(project, *ways[1]) == 3.05


def test_a_folder_in_data_raw(project: Project) -> None:
    folder = project.folder / "data/raw/mine"
    write(folder, 3)
    assert mean(project) == 3
    said = project.dvc("exp", "run", "--temp", "prepare", status=255)
    assert "run `dvc add data/raw/mine/movies.csv data/raw/mine/ratings.csv` and" in said
    project.dvc("add", "data/raw/mine")
    write(folder, 1)
    assert mean(project, "--temp", "-n", "copied") == 2.9
