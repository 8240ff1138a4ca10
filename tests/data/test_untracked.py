"""Stage prepare reads what DVC recorded: a changed rating changes the result, or is refused."""

import json
from pathlib import Path

import pytest
import yaml

from tests.project import Project, make_project

pytestmark = pytest.mark.pipeline

RATINGS = "userId,movieId,rating,timestamp\n" + "".join(f"{n % 5},{n},3,5\n" for n in range(20))
MOVIES = "movieId,title,genres\n" + "".join(f"{n},T,{'A|B' if n % 2 else 'A'}\n" for n in range(20))


@pytest.fixture
def project(tmp_path):
    project = make_project(tmp_path / "project")
    project.change({"data": {"source": "folder"}})
    project.commit()
    return project


def write(folder: Path, last: int) -> None:
    """Twenty ratings of 3, the last of which becomes `last`."""
    (folder / "ratings.csv").write_text(RATINGS.removesuffix("3,5\n") + f"{last},5\n")
    (folder / "movies.csv").write_text(MOVIES)


def mean(project: Project, experiment: str = "") -> float:
    """The mean rating that prepare finds in the workspace, or in an experiment of a copy."""
    if not experiment:
        project.dvc("repro", "prepare")
        return json.loads((project.folder / "metrics/prepare.json").read_text())["mean_rating"]
    project.dvc("exp", "run", "--temp", "-n", experiment, "prepare")
    commit = project.git("for-each-ref", "--format=%(objectname)", f"refs/exps/**/{experiment}")
    lock = yaml.safe_load(project.git("show", f"{commit.strip()}:dvc.lock"))
    outs = {out["path"]: out["md5"] for out in lock["stages"]["prepare"]["outs"]}
    digest = outs["metrics/prepare.json"]  # `dvc get` would take seconds
    cached = project.folder / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
    return json.loads(cached.read_text())["mean_rating"]


def test_what_is_dropped_into_data_raw(project):
    raw, files = project.folder / "data/raw", ["data/raw/movies.csv", "data/raw/ratings.csv"]
    write(raw, 3)
    assert mean(project) == 3
    write(raw, 5)
    assert mean(project) == 3.1
    said = project.dvc("exp", "run", "--temp", "prepare", status=255)
    command = " ".join(["dvc", "add", *files])
    assert f"neither git nor DVC tracks it: run `{command}` and" in said
    project.run("bash", "-c", command)
    status = project.git("status", "--short", "data").split()[1::2]
    assert status == [f"{file}.dvc" for file in files]
    write(raw, 1)  # without another `dvc add`
    assert mean(project, "changed") == 2.9
    assert mean(project) == 2.9
