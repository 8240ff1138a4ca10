"""Pictures as PNG for people who would rather look; the same bytes from the same numbers."""

from __future__ import annotations

import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from genre_embeddings.storage import replacing

mpl.use("Agg")
from matplotlib import font_manager
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font

mpl.rcParams["text.parse_math"] = False  # a genre may be called "$"

ACTUAL, PREDICTED = "#7f7f7f", "#0072b2"
"""Grey and Okabe and Ito's blue: told apart by everyone."""
DIVERGING = "RdBu_r"
LONGEST = 28
"""Letters of a genre's label that are drawn; of a longer one both ends."""


def _save(figure: Figure, path: Path) -> None:
    """Write without the metadata that would change from version to version."""
    with replacing(path) as temporary, warnings.catch_warnings():
        # A box stands for the letter, and `_families` has told of it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})
    plt.close(figure)


def _families(labels: list[str], path: Path) -> list[str]:
    """Matplotlib's own font, then those of this machine that have the letters that it lacks."""
    families = ["DejaVu Sans"]
    own = font_manager.get_font(font_manager.findfont(families[0]))
    missing = {ord(letter) for label in labels for letter in label} - set(own.get_charmap())
    for file, font in _fonts() if missing else []:
        if found := missing.intersection(font.get_charmap()):
            font_manager.fontManager.addfont(file)
            families.append(font.family_name)
            missing -= found
    if missing:
        letters = "".join(map(chr, sorted(missing)[:20]))
        print(
            f"{path} shows boxes in place of {letters}: no font of this machine has "
            "them; install one (Debian: fonts-noto) and run again.",
            file=sys.stderr,
        )
    return families


def _fonts() -> list[tuple[str, FT2Font]]:
    """This machine's fonts and their files, the regular ones before the bold and the light."""
    fonts = []
    for path in font_manager.findSystemFonts():
        with suppress(RuntimeError, OSError):  # one that cannot be read
            fonts.append((path, font_manager.get_font(path)))
    return sorted(fonts, key=lambda font: (font[1].style_name not in ("Regular", "Book"), font[0]))


def _cut(label: str) -> str:
    """A label that leaves room for the picture."""
    if len(label) <= LONGEST:
        return label
    return f"{label[: LONGEST // 2]}…{label[-(LONGEST // 2 - 1) :]}"


def draw_histogram(rows: list[dict[str, Any]], path: Path) -> None:
    """Test ratings beside predictions, as rows {rating, count, kind}."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for kind, colour, shift in (("actual", ACTUAL, -0.5), ("predicted", PREDICTED, 0.5)):
        chosen = [row for row in rows if row["kind"] == kind]
        centres = np.array([row["rating"] for row in chosen])
        width = 0.42 * float(np.diff(centres).min())
        axes.bar(
            centres + shift * width, [row["count"] for row in chosen], width, color=colour,
            label=kind,
        )  # fmt: skip
    axes.set(xlabel="rating (stars)", ylabel="test ratings", title="Ratings and predictions")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def draw_heatmaps(
    matrices: dict[str, np.ndarray],
    labels: list[str],
    order: list[int],
    told: np.ndarray,
    path: Path,
) -> None:
    """Similarities side by side, all in the same order of genres; unknown cells stay white.

    Args:
        matrices: similarities by title, (G, G), NaN where unknown; `told` belongs to the first.
        labels: genre names with counts, length G.
        order: genre indices in the order of drawing.
        told: (G, G) whether the interval of a cell of the first excludes zero; others get a dot.
        path: the PNG.
    """
    if not matrices:
        figure = plt.figure(figsize=(6, 1.5))
        figure.text(0.5, 0.5, "No genres could be compared: see the report.", ha="center")
        _save(figure, path)
        return
    names = [_cut(labels[k]) for k in order]
    with mpl.rc_context({"font.family": _families(names, path)}):
        figure = _heatmaps(matrices, names, order, told)
        _save(figure, path)


def _heatmaps(
    matrices: dict[str, np.ndarray], names: list[str], order: list[int], told: np.ndarray
) -> Figure:
    rows = -(-len(matrices) // 3)
    columns = -(-len(matrices) // rows)
    size = 2.2 + 0.22 * len(order)
    figure, grid = plt.subplots(
        rows, columns, figsize=(size * columns + 1.2, size * rows), layout="constrained",
        squeeze=False, sharex=True, sharey=True,
    )  # fmt: skip
    for axes in grid.flat[len(matrices) :]:
        axes.remove()
    image = None
    for axes, (title, similarity) in zip(grid.flat, matrices.items(), strict=False):
        index = np.ix_(order, order)
        shown = similarity[index]
        image = axes.imshow(shown, cmap=DIVERGING, vmin=-1, vmax=1)
        axes.set_title(title)
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.tick_params(labelbottom=True)
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(length=0)
        if title == next(iter(matrices)):
            unsure = ~told[index] & np.isfinite(shown) & ~np.eye(len(order), dtype=bool)
            down, across = np.nonzero(unsure)
            axes.scatter(across, down, s=4, color="black")
    if image is not None:
        figure.colorbar(
            image, ax=grid.flat[: len(matrices)].tolist(), label="similarity", shrink=0.6
        )
    return figure
