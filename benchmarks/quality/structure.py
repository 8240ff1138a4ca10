"""What genre embeddings hold on several data sets, from finished runs of the pipeline.

    python -m benchmarks.quality.structure ml-1m=FOLDER anime=FOLDER [--doc]

Each FOLDER is a checkout whose stages evaluate and inspect have run. --doc writes the table of
docs/results/structure.md and its pictures.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks.measuring import ROOT, Row, command_line, report
from genre_embeddings.figures import draw_heatmaps

SHOWN = {"learnt": "learnt", "likelihood": "evidence in held-out ratings"}


def row(folder: Path) -> Row:
    """The numbers of one data set."""
    found = json.loads((folder / "metrics/inspect.json").read_text())
    one = found["agreement"]["likelihood"]
    return {
        "genre embeddings": f"{one['spearman']:.2f}",
        "mixed model": f"{one['rival']:.2f}",
        "ours less mixed": f"{one['above_rival_low']:+.2f} to {one['above_rival_high']:+.2f}",
        "ceiling": f"{one['ceiling']:.2f}" if one["ceiling"] else "-",
        "size": f"{found['size_slope']:.2f}",
        "expected with other users": f"{found['stability']['spearman']:.2f}",
        **found["verdict"],
    }


def draw(folder: Path, path: Path) -> None:
    """Learnt similarities and evidence side by side."""
    rows, intervals = (
        json.loads((folder / f"plots/inspect/{name}.json").read_text(encoding="utf-8"))
        for name in ("evidence", "similarity")
    )
    names = list(dict.fromkeys(cell["a"] for cell in rows))
    place = {name: k for k, name in enumerate(names)}
    shape = len(names), len(names)
    matrices = {title: np.full(shape, np.nan) for title in SHOWN.values()}
    for cell in rows:
        if cell["reference"] in SHOWN and cell["similarity"] is not None:
            matrix = matrices[SHOWN[cell["reference"]]]
            matrix[place[cell["a"]], place[cell["b"]]] = cell["similarity"]
    unsure = np.zeros(shape, dtype=bool)
    for cell in intervals:
        known = cell["similarity"] is not None
        unsure[place[cell["a"]], place[cell["b"]]] = known and cell["low"] <= 0 <= cell["high"]
    draw_heatmaps(matrices, names, list(range(len(names))), {SHOWN["learnt"]: unsure}, path)


def main() -> None:
    parser = command_line(__doc__, "docs/results/structure.md")
    parser.add_argument("runs", nargs="+", metavar="NAME=FOLDER")
    options = parser.parse_args()
    runs = {name: Path(folder) for name, _, folder in (run.partition("=") for run in options.runs)}
    found = {name: row(folder) for name, folder in runs.items()}
    # A table with a row for each number is narrow enough for a page.
    numbers = next(iter(found.values()))
    cells = ({"": key, **{name: found[name][key] for name in found}} for key in numbers)
    report(options.doc, "structure", cells)
    for name, folder in runs.items() if options.doc else ():
        draw(folder, ROOT / f"docs/images/structure-{name}.png")


if __name__ == "__main__":
    main()
