"""Logs a run to an MLflow server, if `tracking.mlflow_uri` names one.

A server that is down costs a warning. A run's key is a digest of its settings, results and model. A
run that the server has under that key is not logged twice; one whose logging was interrupted is
completed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import subprocess
import sys
import time
import warnings
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from genre_embeddings import storage
from genre_embeddings.errors import InputError
from genre_embeddings.pages import setting_text
from genre_embeddings.publish.card import CARD
from genre_embeddings.publish.summary import Details, headlines
from genre_embeddings.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

FILES = {
    CARD: "",
    storage.REPORT: "",
    storage.PLOTS / "inspect/heatmaps.png": "pictures",
    storage.PLOTS / "evaluate/histogram.png": "pictures",
}
"""Files to log, and the folder of the run's artifacts to which they go."""
KEY, MODEL = "genre_embeddings.key", "genre_embeddings.model"
WHOLE = "genre_embeddings.whole"
"""Tag of a run that has everything."""
PATIENCE = 5
"""Seconds after which a server that does not answer is taken to be down."""
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",  # a server may hand large files on before it answers
}
"""Variables of MLflow, set where the user has not: it would try for minutes, and print messages."""
LIBRARIES = (
    "numpy", "pandas", "polars", "psutil", "pydantic", "pyyaml", "safetensors", "scipy", "torch",
)  # fmt: skip
"""What the code of a logged model imports."""


def log_run(settings: Settings, details: Details) -> str:
    """Log metrics, card, report, pictures and model.

    Returns:
        A line that says what was done; empty if the server failed, after a warning on stderr.

    Raises:
        InputError: a file is missing.
    """
    try:
        return _log(settings, details)
    except InputError:
        raise
    except Exception as error:  # whichever library it comes from, the results are there
        print(
            f"warning: MLflow on {settings.tracking.mlflow_uri}: {_reason(error)}: `dvc repro "
            "--force --single-item publish` logs the run later. The results here are whole",
            file=sys.stderr,
            flush=True,
        )
        return ""


def _log(settings: Settings, details: Details) -> str:
    client, experiment = _connect(settings)
    from mlflow.entities import Metric, Param, RunTag

    found = storage.flatten(storage.read_json(storage.METRICS / "train/metrics.json"))
    for detail in (*details, headlines(details)):
        found |= storage.flatten(detail)
    # MLflow allows no such sign as in coverage.95%.
    found = {re.sub(r"[^\w./: -]", "", name): value for name, value in found.items()}
    flat = storage.flatten(settings.model_dump(mode="json", exclude={"tracking"}))
    # The key is the same wherever and whenever the run is run again; hexadecimal needs no quoting.
    whole = json.dumps([flat, found, storage.fingerprint_of(storage.MODEL)])
    key, uri = hashlib.sha256(whole.encode()).hexdigest(), settings.tracking.mlflow_uri
    same = client.search_runs([experiment], f"tags.`{KEY}` = '{key}'")
    run = same[0] if same else _create(client, experiment, settings, key)
    name, number = run.info.run_name, run.info.run_id
    if WHOLE in run.data.tags:
        return f"this run is on {uri} already, as {name}"
    # One time for all, so that what is logged a second time takes the place of the first.
    when = run.info.start_time
    metrics = [Metric(k, float(v), when, 0) for k, v in found.items() if isinstance(v, int | float)]
    metrics += [
        Metric(f"{row['side']}/{quantity}", row[quantity], when, row["epoch"])
        for quantity in ("loss", "rmse")
        for row in storage.read_json(storage.PLOTS / f"train/{quantity}.json")
    ]
    params = [Param(name, setting_text(value)) for name, value in flat.items()]
    tags = [RunTag(k, v) for k, v in found.items() if isinstance(v, str)]
    client.log_batch(number, metrics, params, tags)
    for path, folder in FILES.items():
        client.log_artifact(number, str(storage.require(path)), folder)
    _log_model(client, run)
    client.set_tag(number, WHOLE, "true")
    client.set_terminated(number)
    return f"logged to {uri} as {name}"


def _connect(settings: Settings) -> tuple[MlflowClient, str]:
    """A client, and the number of the experiment, which is created if it is missing."""
    import requests

    uri = settings.tracking.mlflow_uri
    # An address that answers with a bad certificate answers: MLflow's settings decide on it.
    with suppress(requests.exceptions.SSLError):
        requests.head(uri, timeout=PATIENCE)
    for variable, value in ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # it would announce each further try
    import mlflow

    mlflow.set_tracking_uri(uri)
    found = mlflow.set_experiment(settings.tracking.mlflow_experiment)
    return mlflow.MlflowClient(), found.experiment_id


def _create(client: MlflowClient, experiment: str, settings: Settings, key: str) -> Run:
    """A new run, named after the DVC experiment, or else after data and commit."""
    name = os.environ.get("DVC_EXP_NAME", "")
    asked, commit = ["git", "rev-parse", "HEAD"], ""
    with suppress(OSError):
        commit = subprocess.run(asked, capture_output=True, text=True).stdout.strip()
    known = {"mlflow.source.git.commit": commit, "dvc.exp": name}
    return client.create_run(
        experiment,
        start_time=int(time.time() * 1000),
        tags={KEY: key, MODEL: storage.model_fingerprint()} | {k: v for k, v in known.items() if v},
        run_name=name or f"{settings.data.source}-{commit[:7]}",
    )


def _log_model(client: MlflowClient, run: Run) -> None:
    """Log the model with the code that opens it, so that `mlflow.pyfunc.load_model` serves it."""
    from mlflow import pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, Schema

    logged = run.outputs.model_outputs if run.outputs else []
    if any(client.get_logged_model(one.model_id).status == "READY" for one in logged):
        return

    def kind(table: str, column: str) -> str:
        ids = storage.read_table(storage.PREPARED / f"{table}.parquet")[column]
        return "string" if ids.dtype == pl.String else "long"

    read = [
        ColSpec(kind("users", "user_id"), "userId"),
        ColSpec(kind("movies", "movie_id"), "movieId"),
        ColSpec("long", "timestamp", required=False),
        ColSpec("string", "genres", required=False),
    ]
    written = [ColSpec("float", "prediction"), ColSpec("float", "deviation")]
    written += [ColSpec("boolean", "known_user"), ColSpec("boolean", "known_movie")]
    with warnings.catch_warnings():
        # An example of the input would make MLflow open the model here, to try it.
        warnings.filterwarnings("ignore", message=".*input example was not provided")
        Model.log(
            artifact_path=None,
            name="model",
            flavor=pyfunc,
            run_id=run.info.run_id,
            loader_module="genre_embeddings.inference.pyfunc",
            data_path=str(storage.MODEL),
            code_paths=[str(Path(__file__).parents[1])],
            pip_requirements=[f"{name}=={version(name)}" for name in LIBRARIES],
            signature=ModelSignature(Schema([*read]), Schema([*written])),
        )


def _reason(error: Exception) -> str:
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
