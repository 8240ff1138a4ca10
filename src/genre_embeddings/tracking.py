"""Logs a training to an MLflow server while it runs, if `tracking.mlflow_uri` names one.

Stage publish adds the results to the same run, which it finds by the model's fingerprint in tag
`MODEL`. No file that git or DVC tracks holds the run's number, which differs from run to run.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from genre_embeddings import storage

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Param

    from genre_embeddings.settings import Settings

MODEL = "genre_embeddings.model"
"""Tag of a run: the fingerprint of its trained model."""
RUN = "mlflow"
"""File beside a checkpoint: the number of the training's run, for resuming it."""
PATIENCE = 5
"""Seconds after which a server that does not answer is taken to be down."""
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}
"""MLflow's own variables, where the user has not set them: it would try for minutes, and talk."""


class Tracker:
    """The MLflow run of a training: `with Tracker(settings) as tracker: fit(..., tracker=tracker)`.

    After the first failure, a line says so, and nothing is sent until the end, when what the server
    lacks is sent again.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.client: MlflowClient | None = None
        self.rows: list[tuple[int, Mapping[str, float]]] = []
        self.number, self.started, self.sent = "", 0, 0
        self.failed = False

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        stopped = kind is not None and issubclass(kind, (KeyboardInterrupt, SystemExit))
        self._send("KILLED" if stopped else "FAILED" if kind else "FINISHED")

    def start(self, checkpoint: Path | None) -> None:
        """Start the run, or go on in that of an interrupted training.

        Args:
            checkpoint: the training's file, which exists if it is resumed; None without one.
        """
        if self.settings.tracking.mlflow_uri:
            self.place = checkpoint and checkpoint.with_name(RUN)
            self.started = now()
            self._send()

    def log(self, row: Mapping[str, float]) -> None:
        """Add the errors of an epoch: `epoch`, counted from one, and metrics by name."""
        self.rows.append((now(), row))
        self._send()

    def _send(self, status: str = "") -> None:
        """Send what the server lacks, and at the end a status; a failure costs a line."""
        if not self.started or (self.failed and not status):
            return
        try:
            from mlflow.entities import Metric

            if self.failed:
                connect(self.settings, PATIENCE)  # fails soon where the server is still down
            client = self.client or self._begin()
            new = self.rows[self.sent :]
            points = [
                Metric(name, value, when, int(row["epoch"]))
                for when, row in new
                for name, value in row.items()
                if name != "epoch"
            ]
            client.log_batch(self.number, points)
            self.sent += len(new)
            if status == "FINISHED":
                client.set_tag(self.number, MODEL, storage.model_fingerprint())
            if status:
                client.set_terminated(self.number, status)
        except Exception as error:  # whichever library it comes from, training goes on
            if not self.failed:
                goes_on = "training goes on without it, and stage publish tries again"
                warn(self.settings, f"{reason(error)}: {goes_on}")
            self.failed = True

    def _begin(self) -> MlflowClient:
        """Connect, and find or create the run."""
        client, experiment = connect(self.settings, PATIENCE)
        number = self.place.read_text() if self.place and self.place.exists() else ""
        # A search finds nothing where the run was deleted, or is on another server.
        if number and client.search_runs([experiment], f"attributes.run_id = '{number}'"):
            client.update_run(number, "RUNNING")
            self.sent = len(steps(client, number, "train/loss"))
        else:
            number = create_run(client, experiment, self.settings, {}, self.started)
            if self.place:
                with suppress(OSError):  # without it, a resumed training has a run of its own
                    self.place.write_text(number)
            # Settings that decide the training; stage publish adds the others.
            client.log_batch(number, params=params(self.settings, {"tracking", "inspect"}))
        self.client, self.number = client, number
        return client


def connect(settings: Settings, timeout: int) -> tuple[MlflowClient, str]:
    """A client, and the number of the experiment, which is created if it is missing.

    Args:
        settings: all settings.
        timeout: seconds that a request may take, where the user has set no other.

    Raises:
        ModuleNotFoundError: MLflow is not installed.
        requests.RequestException, MlflowException: the server does not answer, or refuses.
    """
    import requests

    uri, experiment = settings.tracking.mlflow_uri, settings.tracking.mlflow_experiment
    # An address that answers with a bad certificate answers: MLflow's settings decide on it.
    with suppress(requests.exceptions.SSLError):
        requests.head(uri, timeout=PATIENCE)
    for variable, value in {**ENVIRONMENT, "MLFLOW_HTTP_REQUEST_TIMEOUT": f"{timeout}"}.items():
        os.environ.setdefault(variable, value)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # it would announce each further try
    import mlflow

    mlflow.set_tracking_uri(uri)
    found = mlflow.set_experiment(experiment)
    return mlflow.MlflowClient(), found.experiment_id


def create_run(
    client: MlflowClient, experiment: str, settings: Settings, tags: Mapping[str, str], started: int
) -> str:
    """The number of a new run, named after the DVC experiment, or else after data and commit."""
    name = os.environ.get("DVC_EXP_NAME", "")
    asked, commit = ["git", "rev-parse", "HEAD"], ""
    with suppress(OSError):
        commit = subprocess.run(asked, capture_output=True, text=True).stdout.strip()
    known = {"mlflow.source.git.commit": commit, "dvc.exp": name}
    run = client.create_run(
        experiment,
        start_time=started,
        tags={**tags, **{key: value for key, value in known.items() if value}},
        run_name=name or f"{settings.data.source}-{commit[:7]}",
    )
    return run.info.run_id


def params(settings: Settings, without: set[str]) -> list[Param]:
    """Settings as MLflow's parameters, without some sections."""
    from mlflow.entities import Param

    flat = storage.flatten(settings.model_dump(mode="json", exclude=without))
    return [Param(k, v if isinstance(v, str) else json.dumps(v)) for k, v in flat.items()]


def steps(client: MlflowClient, number: str, name: str) -> set[int]:
    """The epochs that a run has of a curve."""
    return {point.step for point in client.get_metric_history(number, name)}


def reason(error: Exception) -> str:
    """Why a request to the server failed, in a few words."""
    import requests

    if isinstance(error, ModuleNotFoundError):
        return (
            f"the module {error.name!r} is not installed "
            "(`pip install -c constraints.txt mlflow-skinny pandas`)"
        )
    cause = error if isinstance(error, requests.RequestException) else error.__context__
    if isinstance(cause, requests.RequestException):
        return f"the server does not answer ({type(cause).__name__})"
    return str(error).partition("\n")[0] or type(error).__name__


def warn(settings: Settings, text: str) -> None:
    """Print one line of warning; on a terminal, over the line of progress."""
    over = "\r" if sys.stderr.isatty() else ""
    line = f"{over}warning: MLflow on {settings.tracking.mlflow_uri}: {text}"
    print(line, file=sys.stderr, flush=True)


def now() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)
