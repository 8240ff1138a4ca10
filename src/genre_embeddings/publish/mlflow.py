"""Logs the run to an MLflow tracking server, if `tracking.mlflow_uri` names one.

Stage publish does so at the end, from the files that the stages wrote. So a server that is down
never costs a training: the stage fails, and the next `dvc repro` runs it alone again.

A run's key is a digest of its settings, results and model. A run that the server has under that key
is not logged twice; one whose logging was interrupted is completed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import requests

from genre_embeddings import storage
from genre_embeddings.errors import InputError
from genre_embeddings.publish.card import CARD
from genre_embeddings.settings import Settings
from genre_embeddings.summary import SUMMARY

if TYPE_CHECKING:
    import mlflow

METRICS = ("prepare", "split", "train/metrics", "evaluate", "inspect")
CURVES = ("loss", "rmse")
KEY = "genre_embeddings.key"
PATIENCE = 5
"""Seconds after which a server that does not answer is taken to be down."""
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
}
"""MLflow's own variables, where the user has not set them: it would try for minutes."""


def log_run(settings: Settings) -> str:
    """Log settings, curves, metrics, model, card and report; a line that says what was done.

    Raises:
        InputError: MLflow is not installed, or the server is not there or refuses.
    """
    uri, experiment = settings.tracking.mlflow_uri, settings.tracking.mlflow_experiment

    def failed(reason: str) -> InputError:
        return InputError(
            f"tracking.mlflow_uri is {uri!r}, and logging to its experiment {experiment!r} failed: "
            f"{reason}. Start or mend the server, or set tracking.mlflow_uri to '' in params.yaml; "
            "then `dvc repro` runs this stage alone. Nothing else is lost."
        )

    try:
        # An address that answers with a bad certificate answers: MLflow's settings decide on it.
        with suppress(requests.exceptions.SSLError):
            requests.head(uri, timeout=PATIENCE)
    except requests.RequestException as error:
        raise failed(f"no server answers there ({type(error).__name__})") from None
    for variable, value in ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    try:
        import mlflow

        mlflow.set_tracking_uri(uri)
        found = mlflow.set_experiment(experiment)  # made where there is none
        return _log(mlflow.MlflowClient(), found.experiment_id, settings)
    except ModuleNotFoundError as error:
        raise InputError(
            f"tracking.mlflow_uri is {uri!r}, but the module {error.name!r} is not installed: "
            "`pip install -c constraints.txt mlflow-skinny` (a store of artifacts that is not "
            "behind the server may need more), or set tracking.mlflow_uri to '' in params.yaml."
        ) from None
    except (requests.RequestException, mlflow.MlflowException) as error:
        raise failed(str(error).partition("\n")[0]) from None


def _log(client: mlflow.MlflowClient, experiment: str, settings: Settings) -> str:
    from mlflow.entities import Metric, Param, RunTag

    params = storage.flatten(settings.model_dump(mode="json", exclude={"tracking"}))
    found: dict[str, Any] = {}
    for stage in METRICS:
        found |= storage.flatten(storage.read_json(storage.METRICS / f"{stage}.json"))
    found |= storage.flatten(storage.read_json(SUMMARY))
    key = _key(params, found)
    uri = settings.tracking.mlflow_uri

    # The key is hexadecimal: it needs no quoting.
    runs = client.search_runs([experiment], f"tags.`{KEY}` = '{key}'")
    for run in runs:
        if run.info.status == "FINISHED":
            return f"this run is on {uri} already, as {run.info.run_name}"
    name = os.environ.get("DVC_EXP_NAME") or f"{settings.data.source}-{key[:7]}"
    run = runs[0] if runs else client.create_run(experiment, run_name=name, tags={KEY: key})
    number = run.info.run_id
    # One time for all, so that what is logged a second time takes the place of the first.
    when = run.info.start_time
    metrics = [
        Metric(_name(k), float(v), when, 0) for k, v in found.items() if isinstance(v, int | float)
    ]
    for quantity in CURVES:
        metrics += [
            Metric(f"{row['side']}/{quantity}", row[quantity], when, row["epoch"])
            for row in storage.read_json(storage.PLOTS / f"train/{quantity}.json")
        ]
    entries = [Param(k, v if isinstance(v, str) else json.dumps(v)) for k, v in params.items()]
    words = {_name(k): v for k, v in found.items() if isinstance(v, str)} | _origin()
    client.log_batch(number, metrics, entries, [RunTag(k, v) for k, v in words.items()])
    client.log_artifacts(number, str(storage.MODEL), "model")
    for path in (CARD, storage.REPORT):
        client.log_artifact(number, str(path))
    client.set_terminated(number)
    return f"logged to {uri} as {run.info.run_name}"


def _key(params: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """What makes this run the run it is, the same wherever and whenever it is run again."""
    digest = hashlib.sha256(json.dumps([dict(params), dict(metrics)]).encode())
    for path in sorted(storage.require(storage.MODEL).iterdir()):
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _name(name: str) -> str:
    """A name without what MLflow does not allow, such as the sign in coverage.95%."""
    return re.sub(r"[^\w./: -]", "", name)


def _origin() -> dict[str, str]:
    """The commit on which the run stands, and its experiment's name, where they are known."""
    asked = ["git", "rev-parse", "HEAD"]
    try:
        commit = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = ""
    known = {"mlflow.source.git.commit": commit, "dvc.exp": os.environ.get("DVC_EXP_NAME")}
    return {key: value for key, value in known.items() if value}
