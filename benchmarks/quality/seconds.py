"""Test error against seconds of fit: `python -m benchmarks.quality.seconds --python PEERS`.

Ours after each epoch, with the default settings and with fast ones, and the best peers, on one
split of each data set. The seconds are those of the fit alone: without imports, reading and
predictions. A busy machine lengthens only those by the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.measuring import (
    ROOT,
    Row,
    checkout,
    command_line,
    machine,
    measured,
    report,
    write_params,
)
from benchmarks.quality.peers.__main__ import fit_peer
from benchmarks.quality.peers.models import MODELS, Settings
from benchmarks.quality.peers.worker import WATCH

PICTURE = ROOT / "docs/images/seconds.png"
DATA: dict[str, tuple[str, ...]] = {
    "ml-latest-small": ("lenskit", "lightgbm", "deepfm", "myfm-day"),
    "ml-1m": ("lenskit", "lightgbm", "deepfm", "myfm-implicit"),
}
"""Of each data set, its peers."""
OURS: dict[str, Settings] = {"ours": {}, "ours, fast": {"train.replicas": 1, "train.epochs": 8}}
"""Changes of the default settings."""
Fit = dict[str, Any]
"""`points`: (seconds by the clock, seconds of the CPU, test MSE) after some steps of a fit, `end`:
the point that counts."""


def fit_ours() -> Fit:
    """Fit the main model of stage train to the split in the current folder."""
    from genre_embeddings import storage
    from genre_embeddings.model.build import build_network, genre_sets
    from genre_embeddings.model.predict import predict
    from genre_embeddings.model.ratings import Ratings
    from genre_embeddings.model.serialization import configure_torch
    from genre_embeddings.settings import load_settings
    from genre_embeddings.training.callbacks import Recorder
    from genre_embeddings.training.lightning import fit
    from genre_embeddings.training.neighbourhood import fit_neighbourhood

    settings, meta = load_settings(), storage.read_meta()
    configure_torch(settings.train.threads)
    users, movies, genres = (
        storage.read_table(storage.PREPARED / f"{name}.parquet")
        for name in ("users", "movies", "genres")
    )
    train, validation = (Ratings.of(storage.read_side(side)) for side in ("train", "validation"))
    test, log = storage.read_side("test"), Recorder._log

    def measure(recorder: Recorder, history: list[dict[str, float]]) -> None:
        """Take the test error of a training that ends after this epoch.

        Its seconds contain those of its neighbourhood, and no predictions or neighbourhoods of
        earlier epochs.
        """
        new = len(history) > recorder.logged
        log(recorder, history)
        if new:
            ended = WATCH.now()
            fit_neighbourhood(network, train, validation)
            fitted = WATCH.now()
            found, _ = predict(network, test.user, test.movie, test.timestamp, posterior=False)
            network.neighbourhood = None
            WATCH.begin += WATCH.now() - fitted
            WATCH.note(found.astype(float) - test.rating)
            WATCH.begin += fitted - ended

    Recorder._log = measure  # type: ignore[method-assign, assignment]
    WATCH.begin = WATCH.now()
    network = build_network(settings, train, genre_sets(movies, genres.height), users.height, meta)
    _, best = fit(network, train, validation, settings.train, settings.seed)
    return {"points": WATCH.points, "end": WATCH.points[best.epoch - 1]}


def fits_of(data: str, options: argparse.Namespace, folder: Path) -> dict[str, Fit]:
    """Of each model, its curve on a data set."""
    path = Path(options.path).resolve()
    changes: Settings = {"data.source": data, "data.path": str(path), "seed": 0}
    if (path / data / "ratings.csv").exists():  # the ratings without times, for example
        changes |= {"data.source": "folder", "data.path": str(path / data), "data.min_rating": 1.0}
    checkout(folder, changes, "prepare", "split")
    found = {}
    for name in (*OURS, *DATA[data]):
        if name in OURS:
            write_params(folder, changes | OURS[name])
            command = [sys.executable, "-m", "benchmarks.quality.seconds", "--fit"]
            measured(["env", f"PYTHONPATH={ROOT}", *command], folder)
            found[name] = json.loads((folder / "ours.json").read_text())
        else:
            found[name], _ = fit_peer(options.python, MODELS[name], MODELS[name].grid[0], folder, 0)
        clock, cpu, error = found[name]["end"]
        print(f"{data}, {name}: MSE {error:.4f}, CPU {cpu:.1f} s, clock {clock:.1f} s", flush=True)
    return found


def title(name: str) -> str:
    """How a model is called in the table and in the picture."""
    return name if name in OURS else MODELS[name].title


def rows_of(fits: dict[str, dict[str, Fit]]) -> Iterator[Row]:
    """A row for each model; beside a peer, when ours passes its final error."""
    for data, found in fits.items():
        for name, fit in found.items():
            _, cpu, error = fit["end"]
            row: Row = {"data": data, "model": title(name), "MSE": f"{error:.4f}", "CPU s": cpu}
            for own in OURS:
                passed = (point[1] for point in found[own]["points"] if point[2] < error)
                row[f"{own}, passes it after CPU s"] = "" if name in OURS else next(passed, "no")
            yield row


def draw(fits: dict[str, dict[str, Fit]], path: Path) -> None:
    """A panel for each data set."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    figure = Figure(figsize=(4.5 * len(fits), 3.6), layout="constrained")
    panels = figure.subplots(1, len(fits), squeeze=False)[0]
    for axes, (data, found) in zip(panels, fits.items(), strict=True):
        for name, fit in found.items():
            _, seconds, errors = zip(*fit["points"], strict=True)
            style = {"color": "black", "zorder": 3} if name in OURS else {}
            line = ".:" if name == "ours, fast" else ".-"
            axes.plot(seconds, errors, line, label=title(name), **style)
        ends = [fit["end"][2] for fit in found.values()]
        axes.set(title=data, xlabel="CPU seconds of the fit", xscale="log", ylabel="test MSE")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(min(ends) * 0.98, max(ends) * 1.1)
        axes.legend(fontsize=7)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    parser = command_line(__doc__, "docs/results/prediction.md")
    parser.add_argument("--python", type=os.path.abspath, help="of the peers' environment")
    parser.add_argument(
        "--path", default="data/raw", help="folder of the archives, or of folders with CSVs"
    )
    parser.add_argument("--data", nargs="+", choices=DATA, default=[*DATA])
    parser.add_argument("--fit", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fit:
        Path("ours.json").write_text(json.dumps(fit_ours()))
        return
    hardware = machine()
    with tempfile.TemporaryDirectory(prefix="genre-embeddings-") as folder:
        fits = {data: fits_of(data, options, Path(folder) / data) for data in options.data}
    report(options.doc, "seconds", rows_of(fits), f"{hardware}.")
    if options.doc:
        draw(fits, PICTURE)


if __name__ == "__main__":
    main()
