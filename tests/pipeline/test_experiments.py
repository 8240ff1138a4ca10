"""Experiments as a person runs and compares them: real `dvc exp run`, the queue, the page."""

import re
import sys
from pathlib import Path

import pytest

from genre_embeddings.storage import flatten
from tests.browser import Page, open_page
from tests.experiments.test_page import charts, marks
from tests.project import Project, finish_queue, read_yaml, stages_run

pytestmark = pytest.mark.pipeline
REVISIONS = ["main", "wide", "shrunk"]
WARNING = re.compile(r"warning|failed to load", re.IGNORECASE)


@pytest.fixture(scope="module")
def page(compared: Project, tmp_path_factory: pytest.TempPathFactory) -> Page:
    """What `dvc plots diff` draws of three revisions, in a browser."""
    folder = tmp_path_factory.mktemp("three")
    said = compared.dvc("plots", "diff", *REVISIONS, "--out", str(folder / "page"))
    assert not WARNING.search(said), said
    return open_page(folder / "page/index.html", folder / "profile")


def test_dvc_compares_without_a_warning(compared: Project) -> None:
    found = compared.dvc_json("metrics", "diff", "main", "wide")
    assert set(found) == {"metrics/summary.json"}
    rmse = found["metrics/summary.json"]["test.rmse"]
    assert rmse["old"] != rmse["new"]
    # More permutations change no headline.
    assert compared.dvc_json("metrics", "diff", "main", "shrunk") == {}
    shown = compared.dvc_json("metrics", "show")[""]["data"]
    assert len(flatten(shown["metrics/summary.json"]["data"])) <= 20
    changed = compared.dvc_json("params", "diff", "main", "wide")
    assert changed == {"params.yaml": {"model.dim": {"old": 2, "new": 8, "diff": 6}}}
    for command in (("metrics", "diff", "main", "wide"), ("exp", "show")):
        assert not WARNING.search(said := compared.dvc(*command)), said


def test_a_clone_without_remote_compares(compared: Project, tmp_path: Path) -> None:
    clone = compared.clone(tmp_path / "clone")
    clone.git("fetch", "--quiet", "origin", "refs/exps/*:refs/exps/*")
    command = (sys.executable, "genres", "runs")
    assert clone.run(*command) == compared.run(*command)
    numbers = ("metrics", "diff", "main", "wide")
    assert clone.dvc_json(*numbers) == compared.dvc_json(*numbers)
    assert not (clone.folder / "metrics/evaluate.json").exists()


def test_plots_diff_draws_every_plot(compared: Project, page: Page) -> None:
    found = charts(page)
    plots = {
        path: options.get("title", path)
        for stage in read_yaml(compared.folder / "dvc.yaml")["stages"].values()
        for entry in stage.get("plots", [])
        for path, options in entry.items()
    }
    assert set(found) == set(plots.values())
    for path, title in plots.items():
        if path.endswith(".png"):
            assert len(list(found[title].iter("img"))) == len(REVISIONS)
            continue
        chart = found[title]
        assert chart.get("data-drawn") == "yes", title
        assert not chart.findall("p[@class='note missing']"), title
        drawn = [mark for kind in ("rect", "symbol", "line", "area") for mark in marks(chart, kind)]
        assert len(drawn) >= len(REVISIONS), title
    assert page.requests == []


def test_going_back_runs_nothing(base: Project, compared: Project, tmp_path: Path) -> None:
    project, expected = compared.copy(tmp_path / "project"), base.results()
    project.dvc("exp", "apply", "wide")
    assert project.results().items() - expected.items() != set()
    project.git("checkout", "--quiet", "main", "--", "params.yaml")
    said = project.dvc("repro")
    assert stages_run(said) == ["publish"]  # the card, which the run cache leaves out
    # check, train, evaluate, inspect, summarize
    assert said.count("is cached - skipping run") == 5
    assert project.results() == expected
    assert project.git("status", "--porcelain") == ""


def test_the_queue_runs_the_code_that_it_recorded(project: Project) -> None:
    before = project.results()
    project.dvc("exp", "run", "--queue", "-n", "queued", "-S", "inspect.permutations=199")
    broken = project.folder / "src/genre_embeddings/__init__.py"
    broken.write_text(broken.read_text() + '\nraise SystemExit("the code of the workspace ran")\n')
    assert finish_queue(project) == {"queued": "Success"}
    assert project.results() == before
    (experiment,) = project.dvc_json("exp", "show")[1]["experiments"]
    params = experiment["revs"][0]["data"]["params"]["params.yaml"]["data"]
    assert (experiment["name"], params["inspect"]["permutations"]) == ("queued", 199)
    # The workspace's code is indeed broken, and the queue did not stumble over it.
    assert "the code of the workspace ran" in project.dvc("repro", "--force", "check", status=255)
