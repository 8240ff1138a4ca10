"""Shared by the benchmarks: tables, pages, the machine, the clock, made-up ratings and networks."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from genre_embeddings.model.network import Network
    from genre_embeddings.model.ratings import Ratings
    from genre_embeddings.settings import ModelSettings

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/results/speed.md"

Row = dict[str, Any]
GENRES = 18


def machine() -> str:
    """The hardware that stands beside every figure."""
    import torch

    name = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = found[0].partition(":")[2].strip() if found else name
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{os.cpu_count()} cores ({name}), {card}, torch {torch.__version__}{load} at the start"


def clock() -> float:
    """Seconds: by the CPU where one thread computes, so that a busy machine does not matter."""
    import torch

    if torch.get_num_threads() == 1 and not torch.cuda.is_available():
        return time.process_time()
    return time.perf_counter()


def table(rows: list[Row]) -> str:
    """A Markdown table; numbers in three significant digits."""

    def shown(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
        return f"{value:,}" if isinstance(value, int) else str(value)

    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([shown(row.get(n, "")) for n in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def replace_generated(page: Path, name: str, text: str) -> None:
    """Replace what a page holds between the comments `begin NAME` and `end NAME`."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    head, opened, rest = page.read_text(encoding="utf-8").partition(begin)
    _, closed, tail = rest.partition(end)
    if not (opened and closed):
        raise ValueError(f"{page} has no {begin} followed by {end}")
    page.write_text(f"{head}{begin}\n\n{text.strip()}\n\n{end}{tail}", encoding="utf-8")


def report(name: str, notes: str, rows: list[Row], doc: bool) -> None:
    """Print a measurement, and write it between its marks in docs/results/speed.md if asked."""
    text = f"{notes}\n\n{machine()}.\n\n{table(rows)}"
    print(text)
    if doc:
        replace_generated(PAGE, name, text)


def columns(users: int, movies: int, ratings: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Long-tailed user, movie, rating, time, (N,) each, by user, then time."""
    rng = np.random.default_rng(seed)
    activity = rng.lognormal(0.0, 1.0, users)
    user = np.repeat(np.arange(users), rng.multinomial(ratings, activity / activity.sum()))
    popularity = np.cumsum(1.0 / np.arange(1, movies + 1) ** 0.9)
    movie = np.searchsorted(popularity, rng.random(ratings) * popularity[-1])
    rating = rng.integers(1, 11, ratings).astype(np.float32) / 2
    time = rng.integers(0, 10**9, ratings)
    order = np.lexsort((time, user))
    return user, movie.clip(max=movies - 1), rating, time[order]


def made_up(users: int, movies: int, ratings: int, seed: int = 0) -> Ratings:
    """Long-tailed ratings."""
    import torch

    from genre_embeddings.model.ratings import Ratings

    return Ratings(*(torch.from_numpy(c) for c in columns(users, movies, ratings, seed)))


def untrained(
    settings: ModelSettings, replicas: int, train: Ratings, users: int, movies: int
) -> Network:
    """An untrained network with made-up genre sets."""
    import torch

    from genre_embeddings.model.network import Network

    generator = torch.Generator().manual_seed(0)
    membership = (torch.rand(movies, GENRES, generator=generator) < 0.12).float()
    return Network(settings, replicas, train, membership, users, (0.5, 5.0), generator)
