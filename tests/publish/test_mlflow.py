"""A run on a real MLflow server, with its SQLite store, on this machine."""

import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import requests

from genre_embeddings import storage
from genre_embeddings.errors import InputError
from genre_embeddings.publish.mlflow import log_run
from genre_embeddings.settings import Settings, load_settings
from tests.conftest import ROOT, changed
from tests.project import Project, stages_run

pytestmark = pytest.mark.pipeline

PAGE = (ROOT / "docs/guide/tracking.md").read_text(encoding="utf-8")
DOCUMENTED = "http://127.0.0.1:5000"
MOST_SECONDS = 240


def free_address() -> tuple[str, int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()


@contextmanager
def server(folder: Path, port: int) -> Iterator[None]:
    """An MLflow server that keeps all in the folder."""
    folder.mkdir(exist_ok=True)
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
            try:
                if requests.get(f"http://127.0.0.1:{port}/health", timeout=5).ok:
                    break
            except requests.RequestException:
                time.sleep(0.2)
        else:
            pytest.fail((folder / "log").read_text())
        yield
    finally:
        os.killpg(running.pid, 15)
        running.wait()


def tracked(uri: str, **more: Any) -> Settings:
    return changed(load_settings(), tracking={"mlflow_uri": uri, **more})


def test_a_run_is_on_the_server_as_it_is_here(project: Project, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    _, port = free_address()
    uri = f"http://127.0.0.1:{port}"
    (command,) = re.findall(r"^dvc (exp run .*)$", PAGE.replace(DOCUMENTED, uri), flags=re.M)

    before = project.results()
    said = project.dvc(*command.split(), status=255)  # The server is down.
    assert stages_run(said) == ["check", "publish"]
    assert f"error: tracking.mlflow_uri is '{uri}'" in said
    assert "no server answers there (ConnectionError)" in said
    assert "Traceback" not in said
    after = project.results()
    assert {name for name in before if after[name] != before[name]} == {"dvc.lock"}

    with server(tmp_path / "server", port):
        said = project.dvc(*command.split())
        assert stages_run(said) == ["publish"]
        assert f"logged to {uri} as tracked" in said
        said = project.dvc("repro", "--force", "--single-item", "publish")
        assert f"this run is on {uri} already, as tracked" in said

        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name("genre-embeddings")
        (run,) = client.search_runs([experiment.experiment_id])
        check(client, run, project)

        # A try that was cut short is completed, and nothing in it doubled.
        client.update_run(run.info.run_id, "RUNNING")
        client.delete_tag(run.info.run_id, "verdict.structure")
        assert log_run(tracked(uri)) == f"logged to {uri} as tracked"
        (run,) = client.search_runs([experiment.experiment_id])
        check(client, run, project)

        # More epochs and settings than one request takes; another experiment has runs of its own.
        epochs = range(1, 1502)
        rows = [{"epoch": epoch, "rmse": 1 / epoch, "side": "train"} for epoch in epochs]
        storage.write_rows(storage.PLOTS / "train/rmse.json", rows)
        log_run(tracked(uri, mlflow_experiment="an other"))
        experiment = client.get_experiment_by_name("an other")
        (run,) = client.search_runs([experiment.experiment_id])
        assert run.info.run_name.startswith("planted-")
        curve = client.get_metric_history(run.info.run_id, "train/rmse")
        assert sorted(point.step for point in curve) == list(epochs)

        (example,) = re.findall(r"(?ms)^```python\n(.*?)^```$", PAGE.replace(DOCUMENTED, uri))
        exec(example, {})
        assert {path.name for path in Path("fetched/model").iterdir()} == {
            path.name for path in storage.MODEL.iterdir()
        }


def check(client: Any, run: Any, project: Project) -> None:
    """The run holds what the project's own files hold."""
    number = run.info.run_id
    assert (run.info.run_name, run.info.status) == ("tracked", "FINISHED")
    assert run.data.params["model.dim"] == "2"
    assert run.data.params["model.hidden"] == "[8]"
    assert run.data.params["data.source"] == "planted"
    assert not [name for name in run.data.params if name.startswith("tracking")]
    own = metrics(project)["metrics/summary.json"]["data"]
    headlines = {k: v for k, v in storage.flatten(own).items() if not isinstance(v, str)}
    assert headlines.items() <= run.data.metrics.items()
    assert run.data.metrics["fit.epochs"] == 2
    assert 0 <= run.data.metrics["test.coverage.95"] <= 1
    verdict = own["verdict"]
    assert {f"verdict.{line}": run.data.tags[f"verdict.{line}"] for line in verdict} == {
        f"verdict.{line}": outcome for line, outcome in verdict.items()
    }
    assert run.data.tags["dvc.exp"] == "tracked"
    assert run.data.tags["mlflow.source.git.commit"] == project.git("rev-parse", "HEAD").strip()
    for quantity in ("rmse", "loss"):
        for side in ("train", "validation"):
            rows = storage.read_json(project.folder / f"plots/train/{quantity}.json")
            wanted = {row["epoch"]: row[quantity] for row in rows if row["side"] == side}
            points = client.get_metric_history(number, f"{side}/{quantity}")
            assert len(points) == len(wanted) == 2
            assert {point.step: point.value for point in points} == wanted
    fetched = Path(client.download_artifacts(number, "", str(project.folder.parent)))
    assert {path.name for path in fetched.iterdir()} >= {"card.md", "report.html", "model"}
    for path in (project.folder / "models").iterdir():
        assert (fetched / "model" / path.name).read_bytes() == path.read_bytes()
    assert (fetched / "card.md").read_bytes() == (project.folder / "metrics/card.md").read_bytes()


def metrics(project: Project) -> dict[str, Any]:
    return project.dvc_json("metrics", "show")[""]["data"]


@contextmanager
def another_server() -> Iterator[int]:
    """A web server that is not MLflow."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Quiet) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        yield other.server_port
        other.shutdown()
        thread.join()


def test_what_is_not_a_server_of_mlflow_s_is_reported(project: Project) -> None:
    with another_server() as port:
        with pytest.raises(
            InputError, match=r"get-by-name failed with error code 404.*`dvc repro`"
        ):
            log_run(tracked(f"http://127.0.0.1:{port}"))
        with pytest.raises(InputError, match="failed with exception HTTPSConnectionPool"):
            log_run(tracked(f"https://127.0.0.1:{port}"))
    with pytest.raises(InputError, match=r"no server answers there \(InvalidURL\)"):
        log_run(tracked("http://127.0.0.1:99999"))


def test_a_server_that_is_down_is_reported_at_once(project: Project) -> None:
    host, port = free_address()
    start = time.monotonic()
    with pytest.raises(InputError, match=r"no server answers there \(ConnectionError\)"):
        log_run(tracked(f"http://{host}:{port}"))
    with socket.socket() as silent:  # It accepts, and never answers.
        silent.bind((host, port))
        silent.listen()
        with pytest.raises(InputError, match=r"no server answers there \(ReadTimeout\)"):
            log_run(tracked(f"http://{host}:{port}"))
    assert time.monotonic() - start < 30


def test_without_mlflow_it_is_said_how_to_get_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with another_server() as port, pytest.raises(InputError, match=r"-c constraints\.txt mlflow"):
        log_run(tracked(f"http://127.0.0.1:{port}"))
