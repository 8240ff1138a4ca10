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

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

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
    header = "".join(f" seed {seed} |" for seed in seeds)
    yield f"| MSE of |{header} mean |"
    yield "|---|" + "---|" * (len(seeds) + 1)
    tests = [found["evaluate"]["test"] for found in default]
    rows = {
        "global mean": [test["baselines"]["global_mean"]["mse"] for test in tests],
        "user + movie bias": [test["baselines"]["user_movie_bias"]["mse"] for test in tests],
        "the notebook's model": [f["evaluate"]["test"]["mse"] for f in runs["notebook"]],
        "default settings": [test["mse"] for test in tests],
    }
    for name, values in rows.items():
        cells = "".join(f" {value:.4f} |" for value in values)
        yield f"| {name} |{cells} {mean(values):.4f} |"
    yield ""
    yield "| default settings |" + header
    yield "|---|" + "---|" * len(seeds)
    rmse = "".join(
        f" {t['rmse']:.4f} ({t['rmse_low']:.4f} to {t['rmse_high']:.4f}) |" for t in tests
    )
    yield f"| RMSE (95 % interval over users) |{rmse}"
    yield "| MAE |" + "".join(f" {test['mae']:.4f} |" for test in tests)
    for level in ("50%", "80%", "95%"):
        shares = "".join(f" {test['coverage'][level]:.1%} |" for test in tests)
        yield f"| ratings within the {level} interval |{shares}"
    cold = [test["cold_movies"] for test in tests]
    cells = "".join(
        f" {c['rmse']:.4f} ({c['ratings']}) |" if c["ratings"] else " - |" for c in cold
    )
    yield f"| RMSE on movies without training ratings (how many) |{cells}"
    yield "| best epoch |" + "".join(f" {found['train']['best_epoch']} |" for found in default)
    yield ""
    yield "## Are the genre embeddings appropriate?"
    yield ""
    yield f"| |{header}"
    yield "|---|" + "---|" * len(seeds)
    for line in ("structure", "stability", "value"):
        yield f"| {line} |" + "".join(f" {f['inspect']['verdict'][line]} |" for f in default)
    for reference in default[0]["inspect"].get("agreement", {}):
        cells = "".join(f" {_agreement(f['inspect']['agreement'][reference])} |" for f in default)
        yield f"| agreement with {reference} (Spearman) |{cells}"
    stable = "".join(f" {_number(f['inspect']['stability']['spearman'])} |" for f in default)
    yield f"| agreement between replicas (Spearman) |{stable}"
    gains = [f["inspect"]["value"] for f in default]
    for group in ("warm_movies", "cold_movies"):
        cells = "".join(f" {_gain(found, group)} |" for found in gains)
        yield f"| RMSE rise without genres, {group.replace('_', ' ')} |{cells}"
    yield ""
    yield f"![Similarities of the genres, seed {seeds[0]}](../images/{source}-heatmaps.png)"
    yield ""
    yield f"![Ratings and predictions, seed {seeds[0]}](../images/{source}-histogram.png)"
    yield ""
    yield "[Comparison with other libraries on the same splits](../method/prediction.md);"
    yield "[how the settings were chosen](../method/choosing.md)."


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
