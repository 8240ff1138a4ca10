"""A run on a real MLflow server, with its SQLite store, on this machine."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import HTTPServer, SimpleHTTPRequestHandler
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import requests

from genre_embeddings import storage
from genre_embeddings.publish.mlflow import LIBRARIES, log_run
from genre_embeddings.settings import Settings, load_settings
from genre_embeddings.tracking import RUN, Tracker
from tests.conftest import ROOT, changed
from tests.project import Project, stages_run
from tests.small import small_world, write_world
from tests.trained import start_training, train_stage
from tests.training.test_resuming import kill_after, take_results

pytestmark = [pytest.mark.pipeline, pytest.mark.filterwarnings("ignore::UserWarning:mlflow")]

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
    from mlflow import MlflowClient, pyfunc

    _, port = free_address()
    uri = f"http://127.0.0.1:{port}"
    (command,) = re.findall(r"^dvc (exp run .*)$", PAGE.replace(DOCUMENTED, uri), flags=re.M)

    before = project.results()
    said = project.dvc(*command.split())  # The server is down.
    assert stages_run(said) == ["check", "publish"]  # The address alone does not train again.
    assert said.count(f"warning: MLflow on {uri}: the server does not answer (ConnectionE") == 1
    (later,) = re.findall(r"`dvc (repro .*?)`", said)
    assert "Traceback" not in said
    after = project.results()
    assert {name for name in before if after[name] != before[name]} == {"dvc.lock"}

    with server(tmp_path / "server", port):
        said = project.dvc(*later.split())
        name = f"planted-{project.git('rev-parse', 'HEAD')[:7]}"
        assert f"logged to {uri} as {name}" in said
        assert f"this run is on {uri} already, as {name}" in project.dvc(*later.split())

        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name("genre-embeddings").experiment_id
        (run,) = client.search_runs([experiment])
        check(client, run, project, name)

        # A try that was cut short is completed, and nothing in it doubled.
        client.delete_tag(run.info.run_id, "genre_embeddings.whole")
        client.delete_tag(run.info.run_id, "verdict.structure")
        assert log_run(tracked(uri)) == f"logged to {uri} as {name}"
        check(client, client.search_runs([experiment])[0], project, name)

        # While it trains, the run of an experiment gets each epoch; then the results.
        said = project.dvc(*command.split(), "-n", "wide", "-S", "model.dim=3")
        assert f"logged to {uri} as wide" in said
        assert "warning" not in said
        run, _ = client.search_runs([experiment])
        check(client, run, project, "wide")
        assert run.data.tags["dvc.exp"] == "wide"
        first, second = client.get_metric_history(run.info.run_id, "validation/rmse")
        assert run.info.start_time < first.timestamp < second.timestamp < run.info.end_time
        card = project.folder / "metrics/card.md"
        assert run.info.end_time < card.stat().st_mtime * 1000  # stages came after the training

        (example,) = re.findall(r"(?ms)^```python\n(.*?)^```$", PAGE.replace(DOCUMENTED, uri))
        exec(example, names := {})
        rows = names["rows"]
        assert [*rows] == ["prediction", "deviation", "known_user", "known_movie"]
        assert rows["known_movie"].tolist() == [True, False]
        (project.folder / "pairs.csv").write_text("userId,movieId,genres\n1,2,\n1,9999,Comedy\n")
        project.run("./genres", "predict", "pairs.csv", "--out", "rated.csv")
        lines = (project.folder / "rated.csv").read_text().splitlines()[1:]
        own = [float(line.split(",")[3]) for line in lines]
        assert rows["prediction"].tolist() == pytest.approx(own, abs=1e-4)
        signature = pyfunc.load_model(f"runs:/{run.info.run_id}/model").metadata.signature
        assert signature.inputs.input_names() == ["userId", "movieId", "timestamp", "genres"]
        for path in (project.folder / "models").iterdir():
            assert (Path("fetched/model/data/models") / path.name).read_bytes() == path.read_bytes()


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server."""
    _, port = free_address()
    with server(tmp_path_factory.mktemp("server"), port):
        yield f"http://127.0.0.1:{port}"


def test_a_training_that_is_killed_goes_on_in_its_run(
    settings: Settings, in_tmp: Path, live: str
) -> None:
    from mlflow import MlflowClient

    world = small_world(settings, epochs=30, patience=30, without_genres=False)
    write_world(world)
    train_stage(world.settings)
    whole = take_results()
    tracking = changed(world.settings, tracking={"mlflow_uri": live})
    client = MlflowClient(live)
    with start_training(tracking) as process:
        while not any(file.read_text() for file in Path().rglob(RUN) if file.is_file()):
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.05)
        kill_after(3, process, signal.SIGKILL)
    train_stage(tracking)
    experiment = client.get_experiment_by_name("genre-embeddings")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    points = client.get_metric_history(run.info.run_id, "train/loss")
    assert [point.step for point in points] == [*range(1, 31)]
    assert take_results() == whole  # with a tracker and without


def test_a_server_that_goes_down_costs_a_line(
    project: Project, live: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow import MlflowClient

    def refuse(*_: Any, **__: Any) -> None:
        raise requests.ConnectionError("down")

    def wait_for(what: Callable[[], object]) -> None:
        end = time.monotonic() + MOST_SECONDS
        while not what():
            assert time.monotonic() < end
            time.sleep(0.05)

    tracker = Tracker(tracked(live, mlflow_experiment="goes down"))
    rows = [{"epoch": epoch, "train/loss": 1 / epoch} for epoch in range(1, 6)]
    with tracker:
        tracker.start(None)
        tracker.log(rows[0])
        wait_for(lambda: tracker.sent)
        with monkeypatch.context() as patch:
            patch.setattr(MlflowClient, "log_batch", refuse)
            for row in rows[1:4]:
                tracker.log(row)
            wait_for(lambda: tracker.failed)
        tracker.log(rows[4])
    # It was back before the training ended.
    client = MlflowClient(live)
    (run,) = client.search_runs([client.get_experiment_by_name("goes down").experiment_id])
    points = client.get_metric_history(run.info.run_id, "train/loss")
    assert [point.step for point in points] == [1, 2, 3, 4, 5]
    assert run.info.status == "FINISHED"
    lines = [line for line in capsys.readouterr().err.splitlines() if "INFO" not in line]
    assert lines == [
        f"warning: MLflow on {live}: the server does not answer (ConnectionError): training goes "
        "on without it, and stage publish tries again"
    ]


def test_a_run_whose_end_the_server_missed_is_completed(
    project: Project, live: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another training with the same settings, whose errors differ, has a run of its own."""
    from mlflow import MlflowClient

    monkeypatch.chdir(project.folder)
    settings = tracked(live, mlflow_experiment="misses the end")
    rows = storage.read_json(Path("plots/train/loss.json"))
    loss = next(row["loss"] for row in rows if row["side"] == "train" and row["epoch"] == 1)
    for wrong in (1, 0):
        tracker = Tracker(settings)
        tracker.start(None)
        tracker.log({"epoch": 1, "train/loss": loss + wrong})
        tracker.thread.shutdown()  # as if the server were down from here on
    client = MlflowClient(live)
    experiment = client.get_experiment_by_name("misses the end").experiment_id
    assert log_run(settings)
    ours, other = client.search_runs([experiment])
    assert (ours.info.status, other.info.status) == ("FINISHED", "RUNNING")
    points = client.get_metric_history(ours.info.run_id, "train/loss")
    assert {point.step for point in points} == {1, 2}


def check(client: Any, run: Any, project: Project, name: str) -> None:
    """The run holds what the project's own files hold."""
    number = run.info.run_id
    assert (run.info.run_name, run.info.status) == (name, "FINISHED")
    assert run.data.params["model.dim"] == ("3" if name == "wide" else "2")
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
    assert run.data.tags["mlflow.source.git.commit"] == project.git("rev-parse", "HEAD").strip()
    for quantity in ("rmse", "loss"):
        for side in ("train", "validation"):
            rows = storage.read_json(project.folder / f"plots/train/{quantity}.json")
            wanted = {row["epoch"]: row[quantity] for row in rows if row["side"] == side}
            points = client.get_metric_history(number, f"{side}/{quantity}")
            assert len(points) == len(wanted) == 2
            assert {point.step: point.value for point in points} == wanted
    fetched = Path(client.download_artifacts(number, "", str(project.folder.parent)))
    shown = {"card.md": "metrics", "report.html": "plots"}
    shown |= {"pictures/heatmaps.png": "plots/inspect", "pictures/histogram.png": "plots/evaluate"}
    for path, folder in shown.items():
        own = project.folder / folder / Path(path).name
        assert (fetched / path).read_bytes() == own.read_bytes()


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


def test_what_fails_is_said_in_a_line(
    project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(uri: str) -> str:
        assert log_run(tracked(uri)) == ""
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"warning: MLflow on {uri}: ")
        assert "`dvc repro --force --single-item publish` logs the run later" in line
        return line

    with another_server() as port:
        assert "get-by-name failed with error code 404" in said(f"http://127.0.0.1:{port}")
        assert "the server does not answer (SSLError)" in said(f"https://127.0.0.1:{port}")
        monkeypatch.setitem(sys.modules, "mlflow", None)
        assert "-c constraints.txt mlflow-skinny pandas" in said(f"http://127.0.0.1:{port}")
    assert "the server does not answer (InvalidURL)" in said("http://127.0.0.1:99999")


def test_a_server_that_is_down_or_silent_costs_seconds(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    host, port = free_address()
    start = time.monotonic()
    with Tracker(tracked(f"http://{host}:{port}")) as tracker:
        tracker.start(None)
    with socket.socket() as silent:  # It accepts, and never answers.
        silent.bind((host, port))
        silent.listen()
        with Tracker(tracked(f"http://{host}:{port}")) as tracker:
            tracker.start(None)
            tracker.log({"epoch": 1, "train/loss": 0.5})
            assert time.monotonic() - start < 5  # The training did not wait.
    assert time.monotonic() - start < 30
    first, second = capsys.readouterr().err.splitlines()
    assert "(ConnectionError)" in first
    assert "(ReadTimeout)" in second


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
