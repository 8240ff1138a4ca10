"""Training throughput: `python -m benchmarks.speed.throughput [--threads 2] [--steps 40] [--doc]`.

On the notebook's shape: the notebook way (a DataLoader over a TensorDataset, Lightning, a log entry
every step), a bare loop (slices, fused Adam) and stage train, with the notebook's model. On the
shapes of the embedded world and of ML-25M: a bare loop of our network, and stage train.

An epoch's time is extrapolated from some steps and the measuring at its end.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from unittest.mock import patch

import pytorch_lightning as lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.measuring import ROOT, Row, clock, made_up, report, untrained
from genre_embeddings.model.network import Network
from genre_embeddings.model.ratings import Ratings, ShuffledPositions
from genre_embeddings.settings import TrainSettings, load_settings
from genre_embeddings.training import lightning as training

NOTEBOOK = {"users": 157_481, "movies": 50, "ratings": 2_544_549, "train": 1_781_184}
ML_25M = {"users": 162_541, "movies": 59_047, "ratings": 25_000_095, "train": 17_500_067}
ROUNDS = 3


def ratings(shape: dict[str, int]) -> tuple[Ratings, Ratings]:
    """Training and validation ratings of a shape; a fifth of the ratings validates."""
    users, movies = shape["users"], shape["movies"]
    return made_up(users, movies, shape["train"]), made_up(users, movies, shape["ratings"] // 5, 1)


class Notebook(lightning.LightningModule):
    """The notebook's model: both embeddings into a linear layer and a sigmoid onto the scale."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.user = nn.Embedding(NOTEBOOK["users"], dim)
        self.movie = nn.Embedding(NOTEBOOK["movies"], dim)
        self.linear = nn.Linear(2 * dim, 1)

    def forward(self, user: Tensor, movie: Tensor) -> Tensor:
        """Ratings, (B,)."""
        x = torch.cat([self.user(user), self.movie(movie)], 1)
        return 0.5 + 4.5 * self.linear(x)[:, 0].sigmoid()

    def training_step(self, batch: list[Tensor]) -> Tensor:
        """Squared error of a batch, logged every step."""
        user, movie, rating = batch
        loss = nn.functional.mse_loss(self(user, movie), rating)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam, as the notebook has it."""
        return torch.optim.Adam(self.parameters(), lr=0.01)


def notebook_way(train: Ratings, dim: int, batch: int, steps: int) -> float:
    """Seconds a step."""
    data = TensorDataset(train.user, train.movie, train.rating)
    loader = DataLoader(data, batch_size=batch, shuffle=True)
    times: list[float] = []

    class Clock(lightning.Callback):
        def on_train_batch_end(self, *_: object) -> None:
            times.append(clock())

    trainer = lightning.Trainer(
        accelerator="auto", devices=1, max_steps=steps, logger=False, callbacks=[Clock()],
        enable_checkpointing=False, enable_model_summary=False, enable_progress_bar=False,
    )  # fmt: skip
    trainer.fit(Notebook(dim), loader)
    return (times[-1] - times[2]) / (len(times) - 3)


def timed(step: Callable[[Tensor], None], batches: Iterator[Tensor], steps: int) -> float:
    """Seconds a step, after three to warm up."""
    for _ in range(3):
        step(next(batches))
    start = clock()
    for _ in range(steps):
        step(next(batches))
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (clock() - start) / steps


def bare_notebook(train: Ratings, dim: int, batch: int, steps: int) -> float:
    """Seconds a step of the notebook's model, sliced and fused."""
    model = Notebook(dim)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)

    def step(own: Tensor) -> None:
        part = train.part(own)
        loss = nn.functional.mse_loss(model(part.user, part.movie), part.rating)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return timed(step, iter(ShuffledPositions(train.count, batch, 0)), steps)


def bare(
    network: Network, train: Ratings, settings: TrainSettings, steps: int, compiled: bool = False
) -> tuple[float, float]:
    """Seconds a step of our network: loss, backward, fused AdamW over all parameters."""
    ask = torch.compile(network) if compiled else network
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.001, fused=True)
    generator = torch.Generator().manual_seed(0)
    network.user.sparse = network.movie.sparse = False

    def step(own: Tensor) -> None:
        part = train.part(own)
        genres = (network.genre_share[part.movie] > 0).float()
        times = part.time if network.settings.time else None
        output = ask(part.user, part.movie, times, genres, own, generator)
        terms = network.loss(output, part.rating, part.user, part.movie)
        optimizer.zero_grad()
        (terms.fit + settings.kl_weight * terms.kl).sum().backward()
        optimizer.step()
        network.remember(own, part.rating, output)

    return timed(step, iter(ShuffledPositions(train.count, settings.batch_size, 0)), steps), 0.0


def ours(
    network: Network, train: Ratings, validation: Ratings, settings: TrainSettings, steps: int
) -> tuple[float, float]:
    """Seconds a step, and seconds at the end of an epoch (measuring, best weights), by `fit`."""
    times: list[float] = []
    tails: list[float] = []

    class Fitting(training.Fitting):
        """Stops the epoch early and looks at the clock."""

        def on_train_batch_end(self, *_: object) -> None:
            """Look at the clock before the epoch is measured."""
            times.append(clock())
            super().on_train_batch_end()

        def finish_epoch(self) -> dict[str, float]:
            """Measure, timed."""
            start = clock()
            found = super().finish_epoch()
            tails.append(clock() - start)
            return found

        def train_dataloader(self) -> ShuffledPositions:
            """The first batches of an epoch."""
            return Few(super().train_dataloader(), steps + 3)

    with patch.object(training, "Fitting", Fitting):
        changed = settings.model_copy(update={"epochs": 1, "min_epochs": 1})
        training.fit(network, train, validation, changed, 0, record=False)
    return (times[-1] - times[2]) / (len(times) - 3), tails[0]


class Few(ShuffledPositions):
    """The first batches of an epoch."""

    def __init__(self, whole: ShuffledPositions, batches: int) -> None:
        self.whole, self.batches = whole, min(batches, len(whole))

    def __iter__(self) -> Iterator[Tensor]:
        return itertools.islice(self.whole, self.batches)


Way = Callable[[], tuple[float, float]]
"""Seconds a step, and seconds after the steps of an epoch."""


def compared(shape: str, ways: dict[str, Way], ratings: int, batch: int, rounds: int) -> list[Row]:
    """The fastest round of each way as an epoch; the ways take turns."""
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, measure in ways.items():
            found[way].append(measure())
    rows, steps = [], math.ceil(ratings / batch)
    for way, times in found.items():
        step, tail = (min(values) for values in zip(*times, strict=True))
        row = {"shape": shape, "way": way, "ms a step": step * 1e3, "steps": steps}
        rows.append(row | {"s after the steps": tail, "s an epoch": step * steps + tail})
    base = next(row["s an epoch"] for row in rows if row["way"] == "bare loop")
    return [row | {"x bare loop": row["s an epoch"] / base} for row in rows]


def on_notebook_shape(steps: int) -> list[Row]:
    settings, batch = load_settings(ROOT / "params.yaml"), 4096
    train, validation = ratings(NOTEBOOK)
    plain = settings.model.model_copy(
        update={
            "hidden": (), "cross": False, "genres": False, "embedding": "point", "history": 0,
            "time": "none", "squash": True,
        }
    )  # fmt: skip
    fitting = settings.train.model_copy(update={"batch_size": batch, "replicas": 1})
    fitting = fitting.for_ratings(train.count)

    def own() -> tuple[float, float]:
        network = untrained(plain, 1, train, NOTEBOOK["users"], NOTEBOOK["movies"])
        return ours(network, train, validation, fitting, steps * 3)

    ways: dict[str, Way] = {
        "notebook way": lambda: (notebook_way(train, plain.dim, batch, min(20, steps)), 0.0),
        "bare loop": lambda: (bare_notebook(train, plain.dim, batch, steps * 3), 0.0),
        "ours": own,
    }
    return compared("notebook", ways, train.count, batch, ROUNDS)


def on_ml_25m_shape(steps: int) -> list[Row]:
    settings = load_settings(ROOT / "params.yaml")
    train, validation = ratings(ML_25M)
    fitting = settings.train.for_ratings(train.count)
    rows = []
    default = (settings.model.history, "near", fitting.replicas)
    for variant in ((0, "none", 1), (0, "near", 1), (32, "none", 1), (32, "near", 1), default):
        history, time, replicas = variant
        model = settings.model.model_copy(update={"history": history, "time": time})
        shape = f"history {history}, time {time}, replicas {replicas}"
        shape += " (the default)" * (variant == default)
        network = untrained(model, replicas, train, ML_25M["users"], ML_25M["movies"])
        ways: dict[str, Way] = {
            "bare loop": partial(bare, network, train, fitting, steps),
            "ours": partial(ours, network, train, validation, fitting, steps),
        }
        rows += compared(shape, ways, train.count, fitting.batch_size, 1 if time == "near" else 2)
        print(*rows[-2:], sep="\n", flush=True)
    return rows


def on_default_shape(steps: int) -> list[Row]:
    """The default settings on the embedded world, and what could make their steps faster."""
    settings = load_settings(ROOT / "params.yaml")
    planted = settings.planted
    shape = {"users": planted.users, "movies": planted.movies, "ratings": planted.ratings}
    train, validation = ratings(shape | {"train": round(planted.ratings * settings.split.train)})
    fitting = settings.train.for_ratings(train.count)

    def network() -> Network:
        return untrained(settings.model, fitting.replicas, train, planted.users, planted.movies)

    half = fitting.model_copy(update={"precision": "bf16-mixed"})
    ways: dict[str, Way] = {
        "bare loop": lambda: bare(network(), train, fitting, steps),
        "bare loop, torch.compile": lambda: bare(network(), train, fitting, steps, compiled=True),
        "ours": lambda: (ours(network(), train, validation, fitting, steps)[0], 0.0),
        "ours, bf16-mixed": lambda: (ours(network(), train, validation, half, steps)[0], 0.0),
    }
    return compared("default", ways, train.count, fitting.batch_size, ROUNDS)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads")
    parser.add_argument("--steps", type=int, default=20, help="steps timed at ML-25M's shape")
    parser.add_argument("--shape", choices=["notebook", "default", "ml-25m"], help="one alone")
    parser.add_argument("--doc", action="store_true", help="write docs/results/speed.md")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore")
    notes = (
        f"`python -m benchmarks.speed.throughput --threads {options.threads} "
        f"--steps {options.steps}`: "
        "seconds of an epoch from the fastest round's steps (of the CPU where threads is 1, else "
        "by the clock); made-up ratings of the shape."
    )
    shapes = {
        "notebook": on_notebook_shape, "default": on_default_shape, "ml-25m": on_ml_25m_shape,
    }  # fmt: skip
    for name, measure in shapes.items():
        if options.shape in (None, name):
            report(f"training-{name}", notes, measure(options.steps), options.doc)


if __name__ == "__main__":
    main()
