"""The steps of docs/guide/remotes.md for two people, with a folder and an S3-like server."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import requests
from moto.server import ThreadedMotoServer

from tests.project import ROOT, Project
from tests.tutorial import Step, follow, section, steps

pytestmark = pytest.mark.pipeline
PAGE = ROOT / "docs/guide/remotes.md"


class Team(NamedTuple):
    """A project with both remotes; the results of branch main and of experiment wide."""

    project: Project
    places: dict[str, str]  # what stands in the page, and what it is here
    main: dict[str, bytes]
    wide: dict[str, bytes]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Address of an S3 server with an empty bucket."""
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    requests.put(f"http://{host}:{port}/genre-embeddings", timeout=10).raise_for_status()
    yield f"http://{host}:{port}"
    moto.stop()


@pytest.fixture(scope="module")
def team(server: str, compared: Project, tmp_path_factory: pytest.TempPathFactory) -> Team:
    folder = tmp_path_factory.mktemp("team")
    project = compared.copy(folder / "project")
    # Its run cache knows the experiment of the page, which thus takes seconds.
    project.dvc("exp", "remove", "wide", "shrunk")
    project.dvc("checkout", "--quiet")
    places = {"/mnt/team": shlex.quote(str(folder)), "https://s3.example.org": server}
    main = project.results()
    follow(project, commands("A folder as remote", places) + commands("S3 as remote", places))
    experiment, *back = commands("Handing on", places)[:-3]
    follow(project, [experiment])
    wide = project.results()
    follow(project, back)
    assert project.results() == main
    assert "SECRET" not in project.git("show", "HEAD")
    return Team(project, places, main, wide)


def commands(heading: str, places: dict[str, str]) -> list[Step]:
    text = section(PAGE, heading)
    for name, place in places.items():
        text = text.replace(name, place)
    return steps(text)


@pytest.mark.parametrize("remote", ["team", "cloud"])
def test_one_hands_on_and_the_other_takes_over(team: Team, remote: str, tmp_path: Path) -> None:
    one, hub = team.project, str(tmp_path / "hub.git")
    one.git("init", "--quiet", "--bare", "--initial-branch", "main", hub)
    one.git("remote", "add", "origin", hub)
    one.dvc("remote", "default", "--local", remote)
    follow(one, commands("Handing on", team.places)[-3:])
    one.git("remote", "remove", "origin")

    other = Project(tmp_path / "other")
    one.git("clone", "--quiet", hub, str(other.folder))
    follow(other, [step for step in commands("S3 as remote", team.places) if "--local" in step[0]])
    other.dvc("remote", "default", "--local", remote)
    pull, reproduce, *compare, fetch, apply, use = commands("Taking over", team.places)
    follow(other, [pull])
    assert other.results() == team.main
    if remote == "team":  # the same commands follow, whichever the remote
        return
    follow(other, [reproduce])
    cached = files_of(other.folder / ".dvc/cache")
    follow(other, compare)  # what is compared comes from git
    assert "wide" in (other.folder / "dvc_plots/index.html").read_text(encoding="utf-8")
    assert files_of(other.folder / ".dvc/cache") == cached
    follow(other, [fetch, apply, use])
    assert other.results() == team.wide


def files_of(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}
