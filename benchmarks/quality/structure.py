"""Genre structure of several data sets, from finished runs of the pipeline.

    python -m benchmarks.quality.structure ml-1m=FOLDER anime=FOLDER [--doc]

Each FOLDER is a checkout whose stages evaluate and inspect have run. --doc writes the table of
docs/results/structure.md and its pictures.
"""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl

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
    evidence, intervals = (  # a row for each cell, row by row
        pl.read_json(folder / f"plots/inspect/{name}.json", infer_schema_length=None)
        for name in ("evidence", "similarity")
    )
    names = intervals["a"].unique(maintain_order=True).to_list()
    shape = len(names), len(names)
    matrices = {
        title: evidence.filter(reference=name)["similarity"].to_numpy().reshape(shape)
        for name, title in SHOWN.items()
    }
    low, high = (intervals[end].to_numpy().reshape(shape) for end in ("low", "high"))
    unsure = {SHOWN["learnt"]: (low <= 0) & (high >= 0)}
    draw_heatmaps(matrices, names, list(range(len(names))), unsure, path)


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
