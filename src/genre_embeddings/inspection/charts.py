"""Where the report's charts have their ticks, lines, bars and cells; `parts.html.jinja` draws them.

They are SVG in the page, in whose fonts and colours the browser writes every name as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from genre_embeddings.figures import FADED, cut, includes_zero

Rows = list[dict[str, Any]]
Tick = tuple[float, str]
LETTER = 6.8
"""Mean width of a letter, in units of the picture; letters of Asian scripts have twice as much."""


@dataclass(frozen=True)
class Chart:
    """Lines or bars over two axes, in units of the picture.

    Attributes:
        title: what it shows, for those who do not see it.
        x_label, y_label: of the axes.
        x_ticks, y_ticks: place and text of each tick.
        lines: points of each line, as SVG writes them.
        bars: (x, y, width, height, class of the stylesheet, what it says) of each bar.
    """

    title: str
    x_label: str
    y_label: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    lines: list[str] = field(default_factory=list)
    bars: list[tuple[float, float, float, float, str, str]] = field(default_factory=list)
    width: int = 360
    height: int = 220
    left: int = 66
    right: int = 352
    top: int = 8
    bottom: int = 184


@dataclass(frozen=True)
class Heatmap:
    """Similarities of genres as a square of cells.

    Attributes:
        title: what it shows, for those who do not see it.
        names: genres, shortened, in the order of drawing.
        left: width of the names.
        cells: (column, row, class of the stylesheet, opacity, what it says) of each cell.
        dots: the path of the dots in cells that are not sure.
        cell: size of a cell; letters have a size of 11.
    """

    title: str
    names: list[str]
    left: int
    cells: list[tuple[int, int, str, float, str]]
    dots: str
    cell: int

    @property
    def side(self) -> int:
        """Size of the square."""
        return self.cell * len(self.names)


class _Axis:
    """A linear scale with some five round ticks."""

    def __init__(self, low: float, high: float, start: float, end: float, whole: bool = False):
        if low == high:
            low, high = low - 1, high + 1
        self.ticks = MaxNLocator(5, integer=whole, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        self.low, self.high, self.start, self.end = low, high, start, end

    def widened(self) -> _Axis:
        """The same from its first tick to its last."""
        self.low, self.high = self.ticks[0], self.ticks[-1]
        return self

    def at(self, value: float) -> float:
        """The place of a value."""
        share = (value - self.low) / (self.high - self.low)
        return round(float(self.start + share * (self.end - self.start)), 1)

    def labels(self) -> list[Tick]:
        """The ticks between both ends."""
        margin = 1e-9 * (self.high - self.low)
        inside = (t for t in self.ticks if self.low - margin <= t <= self.high + margin)
        return [(self.at(tick), f"{tick:,.6g}") for tick in inside]


def draw_curves(rows: Rows) -> Chart:
    """Loss by epoch, as rows {epoch, loss, side}: validation, then training."""
    x = _Axis(0, max(row["epoch"] for row in rows), Chart.left, Chart.right, whole=True)
    losses = [row["loss"] for row in rows]
    y = _Axis(min(losses), max(losses), Chart.bottom, Chart.top).widened()
    lines = []
    for side in ("validation", "train"):
        points = [f"{x.at(r['epoch'])},{y.at(r['loss'])}" for r in rows if r["side"] == side]
        lines.append(" ".join(points + points[-1:]))  # one point is a line of no length: a dot
    title = "Loss on validation and training ratings, by epoch"
    return Chart(title, "epoch", "loss", x.labels(), y.labels(), lines)


def draw_histogram(rows: Rows) -> Chart:
    """Test ratings beside predictions, as rows {rating, count, kind}."""
    kinds = {kind: [row for row in rows if row["kind"] == kind] for kind in ("actual", "predicted")}
    centres = [row["rating"] for row in kinds["actual"]]
    width = float(np.diff(centres).min())
    x = _Axis(centres[0] - width / 2, centres[-1] + width / 2, Chart.left, Chart.right)
    y = _Axis(0, max(row["count"] for row in rows), Chart.bottom, Chart.top).widened()
    wide = round(0.42 * (x.at(width) - x.at(0)), 1)
    bars = [
        (
            round(x.at(row["rating"]) - wide * (kind == "actual"), 1),
            y.at(row["count"]),
            wide,
            round(Chart.bottom - y.at(row["count"]), 1),
            "first" if kind == "actual" else "second",
            f"{row['rating']:g}: {row['count']:,} {kind}",
        )
        for kind, chosen in kinds.items()
        for row in chosen
    ]
    title = "Histogram of test ratings and of their predictions"
    return Chart(title, "rating (stars)", "test ratings", x.labels(), y.labels(), bars=bars)


def draw_heatmap(
    title: str,
    similarity: np.ndarray,
    names: list[str],
    order: list[int],
    sure: np.ndarray | None = None,
) -> Heatmap:
    """The cells of a similarity.

    Args:
        title: what it is.
        similarity: (G, G), NaN where unknown.
        names: genres, length G.
        order: genre indices in the order of drawing.
        sure: (G, G) bool, whether the interval of a cell excludes zero; None: it has no intervals.
    """

    def cells() -> Iterator[tuple[int, int, str, float, str]]:
        for y, b in enumerate(order):
            for x, a in enumerate(order):
                value, pair = float(similarity[a, b]), f"{names[a]}, {names[b]}"
                if not np.isfinite(value):
                    yield x, y, "unknown", 1, f"{pair}: not known"
                    continue
                faded = (x, y) in unsure
                strength = min(abs(value), 1) * (FADED if faded else 1)
                note = " (the interval includes zero)" if faded else ""
                kind = "up" if value > 0 else "down"
                yield x, y, kind, round(strength, 2), f"{pair}: {value:.2f}{note}"

    zero = includes_zero(similarity, sure)[np.ix_(order, order)]
    unsure = {(x, y) for y, x in np.argwhere(zero).tolist()}
    labels = [cut(names[k]) for k in order]
    longest = max(sum(2 if ord(c) >= 0x2E80 else 1 for c in label) for label in labels)
    dots = "".join(f"M{x}.5 {y}.5h0" for x, y in sorted(unsure))
    size = max(14, 200 // len(names))
    return Heatmap(title, labels, round(longest * LETTER) + 8, list(cells()), dots, size)
