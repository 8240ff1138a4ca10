"""What prepare reads is what DVC recorded: a changed rating changes the result, or is refused."""

import json
import zipfile
from pathlib import Path

import pytest
import yaml

from tests.project import Project, finish_queue, make_project

pytestmark = pytest.mark.pipeline

HEADER = "userId,movieId,rating,timestamp\n"
RATINGS = HEADER + "".join(f"{n % 5},{n},3,5\n" for n in range(20))
MOVIES = "movieId,title,genres\n" + "".join(f"{n},T,{'A|B' if n % 2 else 'A'}\n" for n in range(20))


@pytest.fixture
def project(tmp_path):
    project = make_project(tmp_path / "project")
    project.change({"data": {"source": "folder"}})
    project.commit()
    return project


def write(folder: Path, last: int) -> None:
    """Twenty ratings of 3, the last of which becomes `last`."""
    folder.mkdir(exist_ok=True)
    (folder / "ratings.csv").write_text(RATINGS.removesuffix("3,5\n") + f"{last},5\n")
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


@pytest.mark.parametrize("source", ["folder", "ml-latest-small"])
def test_what_is_dropped_into_data_raw(project, source):
    """Two files, or the archive of a release that is not the published one."""
    raw, names = project.folder / "data/raw", ["movies.csv", "ratings.csv"]
    archive = raw / "ml-latest-small.zip"

    def put(last: int) -> None:
        write(raw, last)
        if source != "folder":
            with zipfile.ZipFile(archive, "w") as packed:
                for name in names:
                    packed.write(raw / name, name)
                    (raw / name).unlink()

    files = [f"data/raw/{name}" for name in (names if source == "folder" else [archive.name])]
    project.change({"data": {"source": source}})
    put(3)
    assert mean(project) == 3
    put(5)
    assert mean(project) == 3.1
    said = project.dvc("exp", "run", "--temp", "prepare", status=255)
    command = " ".join(["dvc", "add", *files])
    assert f"neither git nor DVC tracks it: run `{command}` and" in said
    project.run("bash", "-c", command)
    status = project.git("status", "--short", "data").split()[1::2]
    assert status == [f"{file}.dvc" for file in files]
    put(1)  # without another `dvc add`
    assert mean(project, "changed") == 2.9
    assert mean(project) == 2.9
    if source == "folder":  # the queue works on such a copy, too
        put(2)
        assert mean(project, "queued") == 2.95


def test_a_linked_folder_of_ones_own(project, tmp_path):
    """DVC follows the link that data.path names."""
    books, link = tmp_path / "books", tmp_path / "link"
    link.symlink_to(books)
    write(books, 3)
    project.change({"data": {"path": str(link)}})
    assert mean(project, "one") == 3
    write(books, 4)
    assert mean(project, "two") == 3.05


def test_a_genome_in_a_folder(project):
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
