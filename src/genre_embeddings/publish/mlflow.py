"""Adds a run's results to an MLflow server, if `tracking.mlflow_uri` names one.

They go to the run that stage train logged while it trained (`tracking`); where there is none, as
when DVC restored the model from its cache, to a new one. A server that is down costs a warning.

A run's key is a digest of its settings, results and model. A run that the server has under that key
is not logged twice; one whose logging was interrupted is completed.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from genre_embeddings import storage
from genre_embeddings.errors import InputError
from genre_embeddings.publish.card import CARD
from genre_embeddings.publish.summary import Details, headlines
from genre_embeddings.settings import Settings
from genre_embeddings.tracking import MODEL, connect, create_run, now, params, reason, warn

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
KEY = "genre_embeddings.key"
WHOLE = "genre_embeddings.whole"
"""Tag of a run that has everything."""
TIMEOUT = 30
"""Seconds that a request may take: a server may hand large files on before it answers."""
LIBRARIES = (
    "numpy", "pandas", "polars", "psutil", "pydantic", "pyyaml", "safetensors", "scipy", "torch",
)  # fmt: skip
"""What the code of a logged model imports."""


def log_run(settings: Settings, details: Details) -> str:
    """Log metrics, card, report, pictures and model; a line that says what was done.

    The line is empty if that failed, of which a warning tells.

    Raises:
        InputError: a file is missing.
    """
    try:
        return _log(*connect(settings, TIMEOUT), settings, details)
    except InputError:
        raise
    except Exception as error:  # whichever library it comes from, the results are there
        later = "`dvc repro --force --single-item publish` logs the run later"
        warn(settings, f"{reason(error)}: {later}. The results here are whole")
        return ""


def _log(client: MlflowClient, experiment: str, settings: Settings, details: Details) -> str:
    from mlflow.entities import Metric, RunTag

    found = storage.flatten(storage.read_json(storage.METRICS / "train/metrics.json"))
    for detail in (*details, headlines(details)):
        found |= storage.flatten(detail)
    # MLflow allows no such sign as in coverage.95%.
    found = {re.sub(r"[^\w./: -]", "", name): value for name, value in found.items()}
    run, uri = _find(client, experiment, settings, found), settings.tracking.mlflow_uri
    name, number = run.info.run_name, run.info.run_id
    if WHOLE in run.data.tags:
        return f"this run is on {uri} already, as {name}"
    # One time for all, so that what is logged a second time takes the place of the first.
    when = run.info.start_time
    metrics = [Metric(k, float(v), when, 0) for k, v in found.items() if isinstance(v, int | float)]
    if not client.get_metric_history(number, "train/loss"):  # else it was logged live
        metrics += [
            Metric(f"{row['side']}/{quantity}", row[quantity], when, row["epoch"])
            for quantity in ("loss", "rmse")
            for row in storage.read_json(storage.PLOTS / f"train/{quantity}.json")
        ]
    tags = [RunTag(k, v) for k, v in found.items() if isinstance(v, str)]
    client.log_batch(number, metrics, params(settings, {"tracking"}), tags)
    for path, folder in FILES.items():
        client.log_artifact(number, str(storage.require(path)), folder)
    _log_model(client, run)
    client.set_tag(number, WHOLE, "true")
    if run.info.status != "FINISHED":
        client.set_terminated(number)
    return f"logged to {uri} as {name}"


def _find(
    client: MlflowClient, experiment: str, settings: Settings, metrics: dict[str, Any]
) -> Run:
    """The run with our key, or that of the model's training, or a new one.

    The key is the same wherever and whenever the run is run again. Key and fingerprint are
    hexadecimal: they need no quoting.
    """
    flat = storage.flatten(settings.model_dump(mode="json", exclude={"tracking"}))
    whole = json.dumps([flat, metrics, storage.fingerprint_of(storage.MODEL)])
    key = hashlib.sha256(whole.encode()).hexdigest()
    fingerprint = storage.model_fingerprint()
    mine = {param.key: param.value for param in params(settings, {"tracking"})}.items()
    same = client.search_runs([experiment], f"tags.`{KEY}` = '{key}'")
    trained = [
        run
        for run in client.search_runs([experiment], f"tags.`{MODEL}` = '{fingerprint}'")
        if KEY not in run.data.tags and run.data.params and run.data.params.items() <= mine
    ]
    if runs := [*same, *trained]:
        number = runs[0].info.run_id
    else:
        number = create_run(client, experiment, settings, {MODEL: fingerprint}, now())
    client.set_tag(number, KEY, key)
    return client.get_run(number)


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
