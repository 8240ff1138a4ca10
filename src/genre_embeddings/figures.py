"""Pictures as PNG; the same numbers give the same bytes."""

from __future__ import annotations

import io
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any

import matplotlib as mpl
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from genre_embeddings.storage import replacing

FONTS = (
    "DejaVu Sans", "Noto Sans", "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans Arabic",
    "Noto Sans Hebrew", "Noto Sans Devanagari", "Noto Sans Bengali", "Noto Sans Tamil",
    "Noto Sans Thai", "Noto Sans Georgian", "Noto Sans Armenian", "Noto Sans Symbols",
    "Noto Sans Symbols2", "Noto Emoji", "Droid Sans Fallback", "WenQuanYi Zen Hei", "Unifont",
    "Arial Unicode MS", "Hiragino Sans", "MS Gothic", "Malgun Gothic", "Microsoft YaHei",
)  # fmt: skip
"""Matplotlib draws each letter with the first of these fonts that is installed and has it."""
ACTUAL, PREDICTED = "#7f7f7f", "#0072b2"
"""Grey, and Okabe and Ito's blue: people with any colour vision can distinguish them."""
DIVERGING = "RdBu_r"
FADED = 0.4
"""Share of its colour that a cell keeps whose interval includes zero."""
UNKNOWN = "#bbbbbb"
LONGEST = 28
"""Letters of a genre's label that are drawn; of a longer one both ends."""


@contextmanager
def picture(target: Path | IO[bytes], width: float, height: float) -> Iterator[Figure]:
    """A figure of `width` x `height` inches to draw on, written as PNG to `target` at the end.

    All pictures are made here: no "$" in a name starts a formula, and a letter that no font has
    becomes a box and is named on stderr. Metadata that change with the version of Matplotlib are
    left out.
    """
    installed = set(font_manager.get_font_names())
    fonts = [font for font in FONTS if font in installed]
    name = str(target) if isinstance(target, Path) else "the report"
    with (
        mpl.rc_context({"text.parse_math": False, "text.usetex": False, "font.family": fonts}),
        warnings.catch_warnings(record=True) as caught,
        replacing(target) if isinstance(target, Path) else nullcontext(target) as written,
    ):
        warnings.filterwarnings("always", message="Glyph .* missing from")
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        figure.savefig(written, format="png", dpi=110, metadata={"Software": None})
    found = (re.match(r"Glyph (\d+)", str(warning.message)) for warning in caught)
    if missing := sorted({int(glyph[1]) for glyph in found if glyph}):
        letters = "".join(map(chr, missing[:20]))
        print(
            f"{name} shows boxes in place of {letters}: no font that is installed has them; "
            "install one (Debian: fonts-noto) and run again.",
            file=sys.stderr,
        )


def cut(label: str, longest: int = LONGEST) -> str:
    """A label that leaves room for the picture, as one line."""
    label = " ".join(label.split())
    if len(label) <= longest:
        return label
    return f"{label[: longest // 2]}…{label[-(longest // 2 - 1) :]}"


def draw_curves(rows: list[dict[str, Any]]) -> bytes:
    """Loss by epoch as a PNG, from rows {epoch, loss, side}."""
    written = io.BytesIO()
    with picture(written, 7, 4) as figure:
        axes = figure.subplots()
        for side, style in (("validation", ".-"), ("train", ".--")):
            points = [(row["epoch"], row["loss"]) for row in rows if row["side"] == side]
            axes.plot(*zip(*points, strict=True), style, color=PREDICTED, label=side)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _finish(axes, xlabel="epoch", ylabel="loss", title="Loss by epoch")
    return written.getvalue()


def draw_histogram(rows: list[dict[str, Any]], path: Path) -> None:
    """Test ratings beside predictions, as rows {rating, count, kind}."""
    with picture(path, 7, 4) as figure:
        axes = figure.subplots()
        for kind, colour, shift in (("actual", ACTUAL, -0.5), ("predicted", PREDICTED, 0.5)):
            chosen = [row for row in rows if row["kind"] == kind]
            centres = np.array([row["rating"] for row in chosen])
            counts = [row["count"] for row in chosen]
            width = 0.42 * float(np.diff(centres).min())
            axes.bar(centres + shift * width, counts, width, color=colour, label=kind)
        title = "Ratings and predictions"
        _finish(axes, xlabel="rating (stars)", ylabel="test ratings", title=title)


def _finish(axes: Axes, **texts: str) -> None:
    axes.set(**texts)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def draw_heatmaps(
    matrices: dict[str, np.ndarray],
    labels: list[str],
    order: list[int],
    unsure: dict[str, np.ndarray],
    path: Path,
) -> None:
    """Similarities, two to a row, all in the same order of genres; unknown cells are grey.

    Args:
        matrices: similarities by title, (G, G), NaN where unknown.
        labels: genre names with counts, length G.
        order: genre indices in the order of drawing.
        unsure: by title, where there are intervals, (G, G) whether that of a cell includes zero;
            such cells are faded and get a dot.
        path: the PNG.
    """
    if not matrices:
        with picture(path, 6, 1.5) as figure:
            figure.text(0.5, 0.5, "No genres could be compared: see the report.", ha="center")
        return
    names = [cut(labels[k]) for k in order]
    columns = min(2, len(matrices))
    rows = -(-len(matrices) // columns)
    size = 2.2 + 0.22 * len(order)
    scale = ScalarMappable(Normalize(-1, 1), DIVERGING)
    with picture(path, size * columns, size * rows + 1) as figure:
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat[len(matrices) :]:
            axes.remove()
        for axes, (title, similarity) in zip(grid.flat, matrices.items(), strict=False):
            shown = similarity[np.ix_(order, order)]
            faded = unsure.get(title, np.zeros_like(similarity, bool))[np.ix_(order, order)]
            colours = scale.to_rgba(shown)
            colours[faded] = 1 - FADED * (1 - colours[faded])
            colours[~np.isfinite(shown)] = to_rgba(UNKNOWN)
            axes.imshow(colours)
            axes.set_title(title)
            axes.set_xticks(range(len(names)), names, rotation=90)
            axes.set_yticks(range(len(names)), names)
            axes.tick_params(length=0)
            down, across = np.nonzero(faded)
            axes.scatter(across, down, s=4, color="black")
        used = grid.flat[: len(matrices)].tolist()
        label = "similarity; faded, with a dot: the 95 % interval includes zero"
        figure.colorbar(
            scale, ax=used, label=label, location="top", shrink=0.6, aspect=40, pad=0.02
        )
