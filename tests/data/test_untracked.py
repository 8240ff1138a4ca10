"""What prepare reads is what DVC recorded: a changed rating changes the result, or is refused."""

import json
import zipfile
from pathlib import Path

import pytest
import yaml

from tests.project import Project, finish_queue, make_project

pytestmark = pytest.mark.pipeline

HEADER = "userId,movieId,rating,timestamp\n"
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


def mean(project: Project, experiment: str = "") -> float:
    """The mean rating that prepare finds in the workspace, or in an experiment of a copy.

    An experiment `queued` runs from the queue.
    """
    if not experiment:
        project.dvc("repro", "prepare")
        return json.loads((project.folder / "metrics/prepare.json").read_text())["mean_rating"]
    if experiment == "queued":
        project.dvc("exp", "run", "--queue", "-n", experiment, "prepare")
        assert set(finish_queue(project).values()) == {"Success"}
    else:
        project.dvc("exp", "run", "--temp", "-n", experiment, "prepare")
    commit = project.git("for-each-ref", "--format=%(objectname)", f"refs/exps/**/{experiment}")
    lock = yaml.safe_load(project.git("show", f"{commit.strip()}:dvc.lock"))
    outs = {out["path"]: out["md5"] for out in lock["stages"]["prepare"]["outs"]}
    digest = outs["metrics/prepare.json"]  # `dvc get` would take seconds
    cached = project.folder / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
    return json.loads(cached.read_text())["mean_rating"]


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
    write(raw, 1)  # without another `dvc add`
    assert mean(project, "changed") == 2.9
    assert mean(project) == 2.9
    write(raw, 2)
    assert mean(project, "queued") == 2.95


def test_a_release_dropped_into_data_raw(project: Project) -> None:
    """An archive that is not the published one."""

    def pack(stars: int) -> None:
        with zipfile.ZipFile(archive, "w") as packed:
            packed.writestr("ratings.csv", f"{HEADER}1,1,{stars},5\n2,1,3,5\n")
            packed.writestr("movies.csv", MOVIES)

    archive = project.folder / "data/raw/ml-latest-small.zip"
    project.change({"data": {"source": "ml-latest-small"}})
    project.commit()
    pack(3)
    assert "reads it only after `dvc add data/raw/ml-l" in project.dvc("repro", "prepare")
    said = project.dvc("exp", "run", "--temp", "prepare", status=255)
    assert "neither git nor DVC tracks it: run `dvc add data/raw/ml-latest-small.zip` and" in said
    project.dvc("add", "data/raw/ml-latest-small.zip")
    pack(5)
    assert mean(project, "changed") == 4
    pack(1)
    assert mean(project, "queued") == 2
    assert mean(project) == 2


def test_a_linked_folder_of_ones_own(project: Project, tmp_path: Path) -> None:
    """DVC follows the link that data.path names."""
    books, link = tmp_path / "books", tmp_path / "link"
    link.symlink_to(books)
    write(books, 3)
    project.change({"data": {"path": str(link)}})
    assert mean(project, "one") == 3
    write(books, 4)
    assert mean(project, "two") == 3.05


def test_what_dvc_does_not_see_is_refused(project: Project, tmp_path: Path) -> None:
    """A link to a folder, and another DVC project."""
    mine = project.folder / "data/raw/mine"
    write(tmp_path / "books", 3)
    mine.symlink_to(tmp_path / "books")
    said = project.dvc("repro", "prepare", status=255)
    assert "data/raw/mine is a link to a folder, so that DVC does not notice changes in it" in said
    mine.unlink()
    write(mine, 3)
    (mine / ".dvc").mkdir()
    said = project.dvc("repro", "--force", "prepare", status=255)
    assert "data/raw/mine is another DVC project, so that" in said


def test_a_genome_in_a_folder(project: Project) -> None:
    """An experiment's copy may lack it, and would take the result of an earlier run without it."""
    books = project.folder / "books"
    write(books, 3)
    project.change({"data": {"path": "books"}})
    project.commit()
    assert mean(project, "without") == 3
    scores = "".join(f"{movie},{tag},0.{movie % 9}\n" for movie in range(20) for tag in (1, 2))
    (books / "genome-scores.csv").write_text(f"movieId,tagId,relevance\n{scores}")
    said = project.dvc("repro", "prepare")
    assert "books/genome-scores.csv is not read: pack the files in a zip archive" in said
    assert json.loads((project.folder / "data/genome.json").read_text()) is None
    assert mean(project, "with") == 3
    with zipfile.ZipFile(project.folder / "books.zip", "w") as archive:
        for path in books.glob("*.csv"):
            archive.write(path, path.name)
    project.change({"data": {"path": "books.zip"}})
    project.dvc("repro", "prepare")
    assert json.loads((project.folder / "data/genome.json").read_text())["genres"] == ["A", "B"]
