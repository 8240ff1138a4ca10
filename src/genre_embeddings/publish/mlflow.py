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
from genre_embeddings.publish.summary import headlines
from genre_embeddings.settings import Settings
from genre_embeddings.tracking import MODEL, connect, create_run, now, params, reason, steps, warn

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.models import ModelSignature

METRICS = ("prepare", "split", "train/metrics", "evaluate", "inspect")
CURVES = ("loss", "rmse")
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


def log_run(settings: Settings) -> str:
    """Log metrics, card, report, pictures and model; a line that says what was done.

    The line is empty if that failed, of which a warning tells.

    Raises:
        InputError: a file is missing.
    """
    try:
        return _log(*connect(settings, TIMEOUT), settings)
    except InputError:
        raise
    except Exception as error:  # whichever library it comes from, the results are there
        later = "`dvc repro --force --single-item publish` logs the run later"
        warn(settings, f"{reason(error)}: {later}. The results here are whole")
        return ""


def _log(client: MlflowClient, experiment: str, settings: Settings) -> str:
    from mlflow.entities import Metric, RunTag

    details = [storage.read_json(storage.METRICS / f"{stage}.json") for stage in METRICS]
    found: dict[str, Any] = {}
    for detail in (*details, headlines(*details[-2:])):
        found |= storage.flatten(detail)
    key, uri = _key(settings, found), settings.tracking.mlflow_uri
    run = _find(client, experiment, settings, key)
    name, number = run.info.run_name, run.info.run_id
    if WHOLE in run.data.tags:
        return f"this run is on {uri} already, as {name}"
    # One time for all, so that what is logged a second time takes the place of the first.
    when = run.info.start_time
    metrics = [
        Metric(_name(k), float(v), when, 0) for k, v in found.items() if isinstance(v, int | float)
    ]
    for quantity in CURVES:
        rows = storage.read_json(storage.PLOTS / f"train/{quantity}.json")
        for part in sorted({row["side"] for row in rows}):
            there = steps(client, number, f"{part}/{quantity}")
            metrics += [
                Metric(f"{part}/{quantity}", row[quantity], when, row["epoch"])
                for row in rows
                if row["side"] == part and row["epoch"] not in there
            ]
    words = {_name(k): v for k, v in found.items() if isinstance(v, str)}
    tags = [RunTag(k, v) for k, v in words.items()]
    client.log_batch(number, metrics, params(settings, {"tracking"}), tags)
    for path, folder in FILES.items():
        client.log_artifact(number, str(storage.require(path)), folder)
    _log_model(client, run)
    client.set_tag(number, WHOLE, "true")
    if run.info.status != "FINISHED":
        client.set_terminated(number)
    return f"logged to {uri} as {name}"


def _find(client: MlflowClient, experiment: str, settings: Settings, key: str) -> Run:
    """A run with this key that lacks results, or that of the model's training, or a new one.

    The fingerprint and the key are hexadecimal: they need no quoting.
    """
    fingerprint = storage.model_fingerprint()
    mine = {param.key: param.value for param in params(settings, {"tracking"})}.items()
    same = client.search_runs([experiment], f"tags.`{KEY}` = '{key}'")
    trained = [
        run
        for wanted in (f"tags.`{MODEL}` = '{fingerprint}'", "attributes.status = 'RUNNING'")
        for run in client.search_runs([experiment], wanted)
        if KEY not in run.data.tags and run.data.params and run.data.params.items() <= mine
        if MODEL in run.data.tags or _has_our_epochs(client, run.info.run_id)
    ]
    unfinished = [run for run in same if WHOLE not in run.data.tags]
    runs = [*unfinished, *trained, *same]
    if runs:
        number = runs[0].info.run_id
    else:
        number = create_run(client, experiment, settings, {MODEL: fingerprint}, now())
    client.set_tag(number, KEY, key)
    return client.get_run(number)


def _has_our_epochs(client: MlflowClient, number: str) -> bool:
    """Whether a run is that of this training, which the server did not see end."""
    rows = storage.read_json(storage.PLOTS / "train/loss.json")
    losses = {row["epoch"]: row["loss"] for row in rows if row["side"] == "train"}
    points = client.get_metric_history(number, "train/loss")
    return all(losses.get(point.step) == point.value for point in points)


def _log_model(client: MlflowClient, run: Run) -> None:
    """Log the model with the code that opens it, so that `mlflow.pyfunc.load_model` serves it."""
    from mlflow import pyfunc
    from mlflow.models import Model

    logged = run.outputs.model_outputs if run.outputs else []
    if any(client.get_logged_model(one.model_id).status == "READY" for one in logged):
        return
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
            signature=_signature(),
        )


def _signature() -> ModelSignature:
    """Columns that the logged model reads and writes; ids have the type of the data's ids."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

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
    return ModelSignature(Schema([*read]), Schema([*written]))


def _key(settings: Settings, metrics: dict[str, Any]) -> str:
    """What makes this run the run it is, the same wherever and whenever it is run again."""
    flat = storage.flatten(settings.model_dump(mode="json", exclude={"tracking"}))
    whole = json.dumps([flat, metrics, storage.fingerprint_of(storage.MODEL)])
    return hashlib.sha256(whole.encode()).hexdigest()


def _name(name: str) -> str:
    """A name without what MLflow does not allow, such as the sign in coverage.95%."""
    return re.sub(r"[^\w./: -]", "", name)
