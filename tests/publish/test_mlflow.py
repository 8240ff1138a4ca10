"""Runs logged to a real MLflow server on this machine."""

import os
import re
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from http.server import HTTPServer, SimpleHTTPRequestHandler
from importlib.metadata import packages_distributions
from io import StringIO
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import requests

from genre_embeddings import storage
from genre_embeddings.publish.mlflow import LIBRARIES, log_run
from genre_embeddings.publish.summary import read_details
from genre_embeddings.settings import Settings, load_settings
from stages import publish
from tests.conftest import ROOT, changed
from tests.project import Project, stages_run
from tests.tutorial import run_command

pytestmark = [pytest.mark.pipeline, pytest.mark.filterwarnings("ignore::UserWarning:mlflow")]

PAGE = (ROOT / "docs/guide/tracking.md").read_text(encoding="utf-8")
DOCUMENTED = "http://127.0.0.1:5000"
MOST_SECONDS = 240


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an MLflow server."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", "sqlite:///runs.db", "--artifacts-destination", "artifacts"]
    # The jobs are of no use here, and need a package more.
    jobs = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log").open("w") as log:
        running = subprocess.Popen(
            [*command, "--workers", "1"],
            cwd=folder,
            env=os.environ | jobs,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + MOST_SECONDS
        while time.monotonic() < end and running.poll() is None:
            with suppress(requests.RequestException):
                if requests.get(f"http://127.0.0.1:{port}/health", timeout=5).ok:
                    break
            time.sleep(0.2)
        else:
            pytest.fail((folder / "log").read_text())
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(running.pid, 15)
        running.wait()


@pytest.fixture(scope="module")
def logged(live: str, base: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The reproduced project, logged."""
    project = base.copy(tmp_path_factory.mktemp("logged") / "project")
    project.change({"tracking": {"mlflow_uri": live}})
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as said:
        patch.chdir(project.folder)
        publish.main()
    assert f"logged to {live} as {name_of(project)}" in said.getvalue()
    assert project.results() == base.results()
    project.git("checkout", "--quiet", "params.yaml")
    return project


def name_of(project: Project) -> str:
    return f"planted-{project.git('rev-parse', 'HEAD')[:7]}"


@pytest.fixture
def here(logged: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(logged.folder)
    return logged


def tracked(uri: str, **more: Any) -> Settings:
    return changed(load_settings(), tracking={"mlflow_uri": uri, **more})


def runs_of(uri: str, experiment: str) -> tuple[Any, list[Any]]:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    return client, client.search_runs([client.get_experiment_by_name(experiment).experiment_id])


def check(client: Any, run: Any, project: Project) -> None:
    """The run holds what the project's own files hold."""
    number, tags, params = run.info.run_id, run.data.tags, run.data.params
    assert (run.info.run_name, run.info.status) == (name_of(project), "FINISHED")
    wanted = {"model.dim": "2", "model.hidden": "[8]", "data.source": "planted"}
    assert params | wanted == params
    assert not [key for key in params if key.startswith("tracking")]
    own = storage.flatten(storage.read_json(project.folder / "metrics/summary.json"))
    words = {key: value for key, value in own.items() if isinstance(value, str)}
    assert words.items() <= tags.items()
    assert {key: own[key] for key in own.keys() - words}.items() <= run.data.metrics.items()
    assert run.data.metrics["fit.epochs"] == 2
    assert 0 <= run.data.metrics["test.coverage.95"] <= 1
    assert tags["mlflow.source.git.commit"] == project.git("rev-parse", "HEAD").strip()
    for quantity in ("rmse", "loss"):
        rows = storage.read_json(project.folder / f"plots/train/{quantity}.json")
        for side in ("train", "validation"):
            points = client.get_metric_history(number, f"{side}/{quantity}")
            found = sorted((point.step, point.value) for point in points)
            assert found == [(row["epoch"], row[quantity]) for row in rows if row["side"] == side]
    fetched = Path(client.download_artifacts(number, "", str(project.folder.parent)))
    for logged, path in {
        "card.md": "metrics/card.md",
        "report.html": "plots/report.html",
        "pictures/heatmaps.png": "plots/inspect/heatmaps.png",
        "pictures/histogram.png": "plots/evaluate/histogram.png",
    }.items():
        assert (fetched / logged).read_bytes() == (project.folder / path).read_bytes()


def test_a_run_is_on_the_server_as_it_is_here(here: Project, live: str) -> None:
    from mlflow import pyfunc

    client, (run,) = runs_of(live, "genre-embeddings")
    check(client, run, here)
    (example,) = re.findall(r"(?ms)^```python\n(.*?)^```$", PAGE.replace(DOCUMENTED, live))
    exec(example, names := {})
    rows = names["rows"]
    assert [*rows] == ["prediction", "deviation", "known_user", "known_movie"]
    assert rows["known_movie"].tolist() == [True, False]
    (here.folder / "pairs.csv").write_text("userId,movieId,genres\n1,2,\n1,9999,Comedy\n")
    run_command(here, "./genres predict pairs.csv --out rated.csv")
    lines = (here.folder / "rated.csv").read_text().splitlines()[1:]
    own = [float(line.split(",")[3]) for line in lines]
    assert rows["prediction"].tolist() == pytest.approx(own, abs=1e-4)
    signature = pyfunc.load_model(f"runs:/{run.info.run_id}/model").metadata.signature
    assert signature.inputs.input_names() == ["userId", "movieId", "timestamp", "genres"]
    for path in (here.folder / "models").iterdir():
        assert (Path("fetched/model/data/models") / path.name).read_bytes() == path.read_bytes()


def test_the_command_of_the_page_does_not_train_again_and_logs_nothing_twice(
    here: Project, live: str
) -> None:
    (command,) = re.findall(r"^dvc (exp run .*)$", PAGE.replace(DOCUMENTED, live), flags=re.M)
    said = here.dvc(*command.split())
    assert stages_run(said) == ["check", "publish"]
    assert f"this run is on {live} already, as {name_of(here)}" in said


def test_a_run_that_was_cut_short_is_completed(here: Project, live: str) -> None:
    settings = tracked(live, mlflow_experiment="again")
    said = f"logged to {live} as {name_of(here)}"
    assert log_run(settings, read_details()) == said
    client, (run,) = runs_of(live, "again")
    for tag in ("genre_embeddings.whole", "verdict.structure"):
        client.delete_tag(run.info.run_id, tag)
    assert log_run(settings, read_details()) == said
    client, (run,) = runs_of(live, "again")
    check(client, run, here)


def test_what_fails_is_said_in_a_line(
    here: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    def said(uri: str) -> str:
        assert log_run(tracked(uri), read_details()) == ""
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"warning: MLflow on {uri}: ")
        assert "`dvc repro --force --single-item publish` logs the run later" in line
        return line

    with HTTPServer(("127.0.0.1", 0), Quiet) as other:  # not MLflow
        Thread(target=other.serve_forever, daemon=True).start()
        port = other.server_port
        assert "get-by-name failed with error code 404" in said(f"http://127.0.0.1:{port}")
        assert "the server does not answer (SSLError)" in said(f"https://127.0.0.1:{port}")
        monkeypatch.setitem(sys.modules, "mlflow", None)
        assert "-c constraints.txt mlflow-skinny pandas" in said(f"http://127.0.0.1:{port}")
        other.shutdown()
    assert "the server does not answer (ConnectionError)" in said(f"http://127.0.0.1:{port}")
    assert "the server does not answer (InvalidURL)" in said("http://127.0.0.1:99999")
    monkeypatch.setattr("genre_embeddings.publish.mlflow.PATIENCE", 1)
    with socket.socket() as silent:  # It accepts, and never answers.
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        assert "(ReadTimeout)" in said(f"http://127.0.0.1:{silent.getsockname()[1]}")


def test_the_logged_model_names_what_its_code_imports() -> None:
    code = "import sys, genre_embeddings.inference.pyfunc as p; print(*sys.modules)"
    said = subprocess.check_output(
        [sys.executable, "-c", code], text=True, env=os.environ | {"PYTHONPATH": str(ROOT / "src")}
    )
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    ours = {re.split("[>=]", line)[0] for line in declared}
    owners = packages_distributions()
    used = {owner.lower() for name in said.split() for owner in owners.get(name, ())}
    assert used & ours | {"pandas"} == {*LIBRARIES, "tqdm"}  # torch takes tqdm if it is there
