"""Shared by the benchmarks: tables, pages, copies of the pipeline, made-up ratings and networks."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml

from genre_embeddings.model.network import Network
from genre_embeddings.model.ratings import Ratings
from genre_embeddings.settings import ModelSettings, load_yaml, parse_settings

ROOT = Path(__file__).resolve().parent.parent

Row = dict[str, Any]
GENRES = 18


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


def command_line(doc: str | None, page: str) -> argparse.ArgumentParser:
    """A parser with the option --doc, described by the first line of a module's docstring."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument(
        "--doc", action="store_const", const=ROOT / page, help=f"write the tables of {page}"
    )
    return parser


def report(page: Path | None, name: str, rows: Iterable[Row], notes: str = "") -> None:
    """Print a table below its notes, and write both between the marks of a page, if any."""
    text = f"{notes}\n\n{table(list(rows))}".strip()
    print(f"\n{text}", flush=True)
    if page:
        replace_generated(page, name, text)


def machine() -> str:
    """The hardware on which a figure was measured."""
    processors = Path("/proc/cpuinfo")
    found = processors.exists() and re.search(r"model name\s*: (.*)", processors.read_text())
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"{os.cpu_count()} cores ({found[1] if found else os.uname().machine}), {card}, "
        f"torch {torch.__version__}, load {os.getloadavg()[0]:.1f} at the start"
    )


def clock() -> float:
    """Seconds: by the CPU where one thread computes, so that a busy machine does not matter."""
    if torch.get_num_threads() == 1 and not torch.cuda.is_available():
        return time.process_time()
    return time.perf_counter()


class Cost(NamedTuple):
    """What a command took: seconds by the clock and of the CPU, and its largest resident memory."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int


def measured(command: Sequence[str], folder: Path) -> Cost:
    """Run a command in a folder.

    Raises:
        SystemExit: it failed; the message ends with what it said.
    """
    result = folder / "measured.json"
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/measured.py"), str(result), *command],
        cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"error: `{' '.join(command)}` failed:\n{done.stdout.strip()[-2000:]}")
    return Cost(**json.loads(result.read_text(encoding="utf-8")))


def checkout(folder: Path, changes: Mapping[str, Any], *stages: str) -> list[Cost]:
    """Make a copy of the pipeline, with some `section.key` of its settings, and run some stages."""
    for name in ("stages", "src"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "data/raw").mkdir(parents=True)
    write_params(folder, changes)
    return [run_stage(folder, stage) for stage in stages]


def write_params(folder: Path, changes: Mapping[str, Any]) -> None:
    """Write the committed `params.yaml` with some `section.key` changed.

    Raises:
        InputError: a key does not exist, or a value is not allowed.
    """
    content = load_yaml((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for name, value in changes.items():
        section, _, key = name.rpartition(".")
        (content.setdefault(section, {}) if section else content)[key] = value
    text = yaml.safe_dump(content, sort_keys=False)
    parse_settings(text, "params.yaml")
    (folder / "params.yaml").write_text(text, encoding="utf-8")


def run_stage(folder: Path, stage: str) -> Cost:
    """Run one stage in a copy of the pipeline."""
    return measured([sys.executable, "-m", f"stages.{stage}"], folder)


def made_up(users: int, movies: int, ratings: int, seed: int = 0) -> Ratings:
    """Long-tailed ratings, by user, then time."""
    rng = np.random.default_rng(seed)
    activity = rng.lognormal(0.0, 1.0, users)
    user = np.repeat(np.arange(users), rng.multinomial(ratings, activity / activity.sum()))
    popularity = np.cumsum(1.0 / np.arange(1, movies + 1) ** 0.9)
    movie = np.searchsorted(popularity, rng.random(ratings) * popularity[-1])
    rating = rng.integers(1, 11, ratings).astype(np.float32) / 2
    time = rng.integers(0, 10**9, ratings)
    order = np.lexsort((time, user))
    columns = user, movie.clip(max=movies - 1), rating, time[order]
    return Ratings(*map(torch.from_numpy, columns))


def untrained(
    settings: ModelSettings, replicas: int, train: Ratings, users: int, movies: int
) -> Network:
    """An untrained network with made-up genre sets."""
    generator = torch.Generator().manual_seed(0)
    membership = (torch.rand(movies, GENRES, generator=generator) < 0.12).float()
    network = Network(settings, replicas, (users, movies, GENRES), (0.5, 5.0), generator)
    network.set_data(train, membership)
    return network
