"""What genre embeddings hold on several data sets, from finished runs of the pipeline.

    python -m benchmarks.quality.structure ml-1m=FOLDER anime=FOLDER [--doc]

Each FOLDER is a checkout whose stages evaluate and inspect have run. --doc writes the table of
docs/results/structure.md and its pictures.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from benchmarks.measuring import ROOT, Row, replace_generated, table
from genre_embeddings.figures import draw_heatmaps

PAGE, PICTURES = "docs/results/structure.md", "docs/images"
SHOWN = {"learnt": "learnt", "likelihood": "evidence in held-out ratings"}


def row(folder: Path) -> Row:
    """The numbers of one data set."""
    found = json.loads((folder / "metrics/inspect.json").read_text())
    errors = json.loads((folder / "metrics/evaluate.json").read_text())["test"]
    cells: Row = {}
    for reference in ("likelihood", "moments"):
        one = found["agreement"][reference]
        interval = f"{one['above_rival_low']:+.2f} to {one['above_rival_high']:+.2f}"
        cells |= {
            f"{reference}: genre embeddings": f"{one['spearman']:.2f}",
            f"{reference}: whole model": f"{one['whole_model']:.2f}",
            f"{reference}: mixed model": f"{one['rival']:.2f}",
            f"{reference}: ours less mixed": interval,
            f"{reference}: ceiling": f"{one['ceiling']:.2f}" if one["ceiling"] else "-",
        }
    cells["size"] = f"{found['size_slope']:.2f}"
    cells["expected with other users"] = f"{found['stability']['spearman']:.2f}"
    cells |= found["verdict"]
    for group in ("warm", "cold"):
        error = errors.get(f"{group}_movies")
        cells[f"RMSE, {group} movies"] = (
            f"{error['rmse']:.4f}" if error and error["ratings"] else "-"
        )
    return cells


def draw(folder: Path, path: Path) -> None:
    """Learnt similarities and evidence side by side."""
    rows, intervals = (
        json.loads((folder / f"plots/inspect/{name}.json").read_text(encoding="utf-8"))
        for name in ("evidence", "similarity")
    )
    names = list(dict.fromkeys(cell["a"] for cell in rows))
    place = {name: k for k, name in enumerate(names)}
    size = len(names)
    matrices = {title: np.full((size, size), np.nan) for title in SHOWN.values()}
    for cell in rows:
        title = SHOWN.get(cell["reference"])
        if title and cell["similarity"] is not None:
            matrices[title][place[cell["a"]], place[cell["b"]]] = cell["similarity"]
    clear = np.zeros((size, size), dtype=bool)
    for cell in intervals:
        known = cell["similarity"] is not None
        clear[place[cell["a"]], place[cell["b"]]] = known and not cell["low"] <= 0 <= cell["high"]
    draw_heatmaps(matrices, names, list(range(size)), {SHOWN["learnt"]: clear}, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--doc", action="store_true", help=f"write {PAGE} and its pictures")
    options = parser.parse_args()
    runs = {name: Path(folder) for name, _, folder in (run.partition("=") for run in options.runs)}
    found = {name: row(folder) for name, folder in runs.items()}
    # A table with a row for each number is narrow enough for a page.
    numbers = next(iter(found.values()))
    text = table([{"": key, **{name: found[name][key] for name in found}} for key in numbers])
    print(text)
    if options.doc:
        replace_generated(ROOT / PAGE, "structure", text)
        for name, folder in runs.items():
            draw(folder, ROOT / PICTURES / f"structure-{name}.png")


if __name__ == "__main__":
    main()
