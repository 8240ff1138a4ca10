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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from genre_embeddings import storage

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Param

    from genre_embeddings.settings import Settings

MODEL = "genre_embeddings.model"
"""Tag of a run: the fingerprint of its trained model."""
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

    After the first failure, a line says so, and nothing more is sent.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings, self.started = settings, now()
        self.wanted = bool(settings.tracking.mlflow_uri)
        self.client: MlflowClient | None = None

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.client:
            stopped = kind is not None and issubclass(kind, (KeyboardInterrupt, SystemExit))
            with self._attempt():
                if kind is None:
                    self.client.set_tag(self.number, MODEL, storage.model_fingerprint())
                status = "KILLED" if stopped else "FAILED" if kind else "FINISHED"
                self.client.set_terminated(self.number, status)

    def log(self, row: Mapping[str, float]) -> None:
        """Add the errors of an epoch: `epoch`, counted from one, and metrics by name."""
        if not self.wanted:
            return
        with self._attempt():
            from mlflow.entities import Metric

            if not self.client:
                client, experiment = connect(self.settings, PATIENCE)
                self.number = create_run(client, experiment, self.settings, {}, self.started)
                # Settings that decide the training; stage publish adds the others.
                decisive = params(self.settings, {"tracking", "inspect"})
                client.log_batch(self.number, params=decisive)
                self.client = client
            when, epoch = now(), int(row["epoch"])
            points = [Metric(key, row[key], when, epoch) for key in row if key != "epoch"]
            self.client.log_batch(self.number, points)

    @contextmanager
    def _attempt(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whichever library it comes from, training goes on
            goes_on = "training goes on without it, and stage publish logs the run"
            warn(self.settings, f"{reason(error)}: {goes_on}")
            self.wanted, self.client = False, None


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
