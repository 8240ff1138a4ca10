"""The page of results: `python -m benchmarks.quality.results --source SOURCE [--path ARCHIVE]`.

Runs the pipeline in temporary copies, for each seed with the default settings and with those of
the notebook that the project grew from, and writes docs/results/SOURCE.md and the pictures in
docs/images/. Nothing in place is touched.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.measuring import table
from benchmarks.quality.peers.pipeline import ROOT, checkout, parameters, run_stage
from genre_embeddings.errors import InputError

NOTEBOOK = {
    "model.cross": False,
    "model.hidden": [],
    "model.embedding": "point",
    "model.history": 0,
    "model.time": False,
    "model.squash": True,
    "train.replicas": 1,
}
"""The notebook's model: embeddings of user, movie and genres into one linear layer."""
STAGES = ("check", "prepare", "split", "train", "evaluate")


def run(source: str, path: str, seed: int, changes: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Metrics and seconds of one run of the pipeline; inspect is left out for changed models."""
    settings = {"data.source": source, "data.path": path, "seed": seed, **changes}
    checkout(folder, parameters(settings))
    (folder / "data/raw").mkdir()
    stages = STAGES if changes else (*STAGES, "inspect")
    seconds = {stage: run_stage(folder, stage).seconds for stage in stages}
    found = {
        file.stem: json.loads(file.read_text()) for file in (folder / "metrics").glob("*.json")
    }
    best = json.loads((folder / "metrics/train/metrics.json").read_text())
    return {**found, "train": best["fit"], "seconds": seconds}


def page(source: str, seeds: list[int], runs: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    """The lines of the page."""
    default = runs["default"]
    yield f"# Results on {source}"
    yield ""
    command = f"python -m benchmarks.quality.results --source {source} --seeds {_words(seeds)}"
    yield f"Made by `{command}`."
    yield ""
    counts = default[0]["prepare"]
    yield (
        f"{counts['ratings']:,} ratings by {counts['users']:,} users of {counts['movies']:,} "
        f"movies in {counts['genres']} genres. Each seed draws its own split (70 % train, 20 % "
        "validation, 10 % test) and its own weights. Models are fitted on train, and validation "
        "chooses the epoch; test is used only for the results."
    )
    yield ""
    yield "## Errors on test"
    yield ""
    names = [f"seed {seed}" for seed in seeds]
    tests = [found["evaluate"]["test"] for found in default]
    errors = {
        "global mean": [test["baselines"]["global_mean"]["mse"] for test in tests],
        "user + movie bias": [test["baselines"]["user_movie_bias"]["mse"] for test in tests],
        "the notebook's model": [f["evaluate"]["test"]["mse"] for f in runs["notebook"]],
        "default settings": [test["mse"] for test in tests],
    }
    means = {name: [*values, mean(values)] for name, values in errors.items()}
    cells = {name: [f"{value:.4f}" for value in values] for name, values in means.items()}
    yield _columns("MSE of", [*names, "mean"], cells)
    yield ""
    cold = [test["cold_movies"] for test in tests]
    cells = {
        "RMSE (95 % interval over users)": [
            f"{t['rmse']:.4f} ({t['rmse_low']:.4f} to {t['rmse_high']:.4f})" for t in tests
        ],
        "MAE": [f"{test['mae']:.4f}" for test in tests],
        **{
            f"ratings within the {level} interval": [f"{t['coverage'][level]:.1%}" for t in tests]
            for level in ("50%", "80%", "95%")
        },
        "RMSE on movies without training ratings (how many)": [
            f"{c['rmse']:.4f} ({c['ratings']})" if c["ratings"] else "-" for c in cold
        ],
        "best epoch": [str(found["train"]["best_epoch"]) for found in default],
    }
    yield _columns("default settings", names, cells)
    yield ""
    yield "## Are the genre embeddings appropriate?"
    yield ""
    inspected = [found["inspect"] for found in default]
    cells = {
        line: [found["verdict"][line] for found in inspected]
        for line in ("structure", "stability", "value")
    }
    for reference in inspected[0].get("agreement", {}):
        cells[f"agreement with {reference} (Spearman)"] = [
            _agreement(found["agreement"][reference]) for found in inspected
        ]
    cells["agreement between replicas (Spearman)"] = [
        _number(found["stability"]["spearman"]) for found in inspected
    ]
    for group in ("warm_movies", "cold_movies"):
        cells[f"RMSE rise without genres, {group.replace('_', ' ')}"] = [
            _gain(found["value"], group) for found in inspected
        ]
    yield _columns("", names, cells)
    yield ""
    yield f"![Similarities of the genres, seed {seeds[0]}](../images/{source}-heatmaps.png)"
    yield ""
    yield f"![Ratings and predictions, seed {seeds[0]}](../images/{source}-histogram.png)"
    yield ""
    yield "[Comparison with other libraries on the same splits](../method/prediction.md);"
    yield "[how the settings were chosen](../method/choosing.md)."


def _columns(title: str, names: list[str], cells: dict[str, list[str]]) -> str:
    """A table with a column for each name."""
    rows = [{title: line, **dict(zip(names, row, strict=True))} for line, row in cells.items()]
    return table(rows)


def _words(seeds: list[int]) -> str:
    return " ".join(map(str, seeds))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _gain(found: dict[str, Any], group: str) -> str:
    estimate, low, high = (found.get(f"{group}_{part}") for part in ("estimate", "low", "high"))
    return "-" if estimate is None else f"{estimate:+.4f} ({low:+.4f} to {high:+.4f})"


def _agreement(found: dict[str, Any]) -> str:
    text = f"{_number(found['spearman'])}, chance reaches {_number(found['null_95'])}"
    if "ceiling" in found:
        text += f", ceiling {_number(found['ceiling'])}"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--source", default="ml-latest-small")
    parser.add_argument("--path", default="data/raw", help="as data.path in params.yaml")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    path = str(Path(options.path).resolve()) if Path(options.path).exists() else options.path
    runs: dict[str, list[dict[str, Any]]] = {"default": [], "notebook": []}
    images, results = ROOT / "docs/images", ROOT / "docs/results"
    for folder in (images, results):
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        for seed in options.seeds:
            for name, changes in (("default", {}), ("notebook", NOTEBOOK)):
                folder = Path(temporary) / f"{name}-{seed}"
                found = run(options.source, path, seed, dict(changes), folder)
                runs[name].append(found)
                seconds = ", ".join(f"{k} {v:.1f} s" for k, v in found["seconds"].items())
                test = found["evaluate"]["test"]
                print(f"{name}, seed {seed}: test MSE {test['mse']:.4f} ({seconds})", flush=True)
        first = Path(temporary) / f"default-{options.seeds[0]}"
        pictures = {"heatmaps": "inspect/heatmaps.png", "histogram": "evaluate/histogram.png"}
        for name, made in pictures.items():
            shutil.copy(first / "plots" / made, images / f"{options.source}-{name}.png")
    target = results / f"{options.source}.md"
    target.write_text("\n".join(page(options.source, options.seeds, runs)) + "\n")
    print(f"wrote {target.relative_to(ROOT)} and docs/images/{options.source}-*.png")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
