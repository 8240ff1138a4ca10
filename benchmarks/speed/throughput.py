"""Training throughput: `python -m benchmarks.speed.throughput [--threads 2] [--steps 40] [--doc]`.

At the notebook's shape and with the notebook's model: the notebook way (a DataLoader over a
TensorDataset, Lightning, a log entry every step), a bare loop (slices, fused Adam) and ours (stage
train). At the shapes of the embedded world and of ML-25M, with our network: a bare loop and ours.

The time of an epoch is extrapolated from some steps; that of ours contains the errors that stage
train measures after each epoch.
"""

import itertools
import os
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import patch

import pytorch_lightning as lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.measuring import (
    GENRES,
    ROOT,
    Row,
    clock,
    command_line,
    machine,
    made_up,
    report,
    untrained,
)
from genre_embeddings.model.network import Network
from genre_embeddings.model.ratings import Ratings, ShuffledPositions
from genre_embeddings.settings import TrainSettings, load_settings
from genre_embeddings.training.lightning import fit

SETTINGS = load_settings(ROOT / "params.yaml")
MODEL = SETTINGS.in_effect(has_time=True, sessions=True, genres=GENRES)
PLANTED = SETTINGS.planted
LINEAR = {
    "hidden": (), "cross": False, "genres": False, "embedding": "point", "history": 0,
    "similar_movies": 0, "time": "none", "squash": True,
}  # fmt: skip
"""Settings with which our network is the notebook's model."""
SMALL = PLANTED.users, PLANTED.movies, PLANTED.ratings
SHAPES: dict[str, tuple[tuple[int, int, int], dict[str, Any], dict[str, Any]]] = {
    "notebook": ((157_481, 50, 2_544_549), LINEAR, {"batch_size": 4096, "replicas": 1}),
    "default": (SMALL, {}, {}),
    "default, bf16-mixed": (SMALL, {}, {"precision": "bf16-mixed"}),
    "ml-25m": ((162_541, 59_047, 25_000_095), {}, {}),
}
"""Users, movies and ratings; changes of the sections model and train."""
WARM_UP = 3
"""Steps that are not timed."""
ROUNDS = 3


class Clock(lightning.Callback):
    """Takes the time after each step, before its epoch is measured, and at the end."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, *_: object) -> None:
        """Take the time after a step."""
        self.times.append(clock())

    def on_train_end(self, *_: object) -> None:
        """Take the time at the end."""
        self.end = clock()

    def step(self) -> float:
        """Seconds of a step."""
        return (self.times[-1] - self.times[WARM_UP - 1]) / (len(self.times) - WARM_UP)


class Notebook(lightning.LightningModule):
    """The notebook's model: both embeddings into a linear layer and a sigmoid onto the scale."""

    def __init__(self, users: int, movies: int) -> None:
        super().__init__()
        self.user = nn.Embedding(users, SETTINGS.model.dim)
        self.movie = nn.Embedding(movies, SETTINGS.model.dim)
        self.linear = nn.Linear(2 * SETTINGS.model.dim, 1)

    def training_step(self, batch: list[Tensor]) -> Tensor:
        """Squared error of a batch, logged every step."""
        loss = self.loss(*batch)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss

    def loss(self, user: Tensor, movie: Tensor, rating: Tensor) -> Tensor:
        """Squared error of a batch."""
        x = torch.cat([self.user(user), self.movie(movie)], 1)
        return nn.functional.mse_loss(0.5 + 4.5 * self.linear(x)[:, 0].sigmoid(), rating)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam with the notebook's learning rate."""
        return torch.optim.Adam(self.parameters(), lr=0.01)


def notebook_way(shape: tuple[int, int], train: Ratings, batch: int, steps: int) -> float:
    """Seconds of an epoch of the notebook's training loop."""
    data = TensorDataset(train.user, train.movie, train.rating)
    watch = Clock()
    trainer = lightning.Trainer(
        accelerator="auto", devices=1, max_steps=WARM_UP + steps, logger=False, callbacks=[watch],
        enable_checkpointing=False, enable_model_summary=False, enable_progress_bar=False,
    )  # fmt: skip
    trainer.fit(Notebook(*shape), DataLoader(data, batch_size=batch, shuffle=True))
    return watch.step() * train.count / batch


def bare(
    optimizer: torch.optim.Optimizer, loss: Callable[[Tensor], Tensor], count: int, batch: int,
    steps: int,
) -> float:  # fmt: skip
    """Seconds of an epoch of a plain loop over batches of positions."""
    start = clock()
    batches = itertools.islice(ShuffledPositions(count, batch, 0), WARM_UP + steps)
    for number, own in enumerate(batches):
        if number == WARM_UP:
            start = clock()
        optimizer.zero_grad()
        loss(own).backward()
        optimizer.step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (clock() - start) / steps * count / batch


def bare_notebook(shape: tuple[int, int], train: Ratings, batch: int, steps: int) -> float:
    """Seconds of an epoch of the notebook's model with sliced batches and fused Adam."""
    model = Notebook(*shape)

    def loss(own: Tensor) -> Tensor:
        part = train.part(own)
        return model.loss(part.user, part.movie, part.rating)

    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)
    return bare(optimizer, loss, train.count, batch, steps)


def bare_ours(network: Network, train: Ratings, settings: TrainSettings, steps: int) -> float:
    """Our network, with dense gradients and fused AdamW over all parameters."""
    generator = torch.Generator().manual_seed(0)
    network.user.sparse = network.movie.sparse = False

    def loss(own: Tensor) -> Tensor:
        part = train.part(own)
        genres = (network.genre_share[part.movie] > 0).float()
        output = network(part.user, part.movie, part.time, genres, own, generator)
        network.remember(own, part.rating, output)
        fit, kl = network.loss(output, part.rating, part.user, part.movie)
        return (fit + settings.kl_weight * kl).sum()

    optimizer = torch.optim.AdamW(network.parameters(), lr=0.001, fused=True)
    return bare(optimizer, loss, train.count, settings.batch_size, steps)


def ours(
    network: Network, train: Ratings, validation: Ratings, settings: TrainSettings, steps: int
) -> float:
    """Seconds of an epoch of stage train, with the measurement of errors at its end."""
    watch, whole = Clock(), lightning.Trainer

    def trainer(*arguments: Any, callbacks: list[Any], **options: Any) -> lightning.Trainer:
        options |= {"callbacks": [*callbacks, watch], "limit_train_batches": WARM_UP + steps}
        return whole(*arguments, **options)

    changed = settings.model_copy(update={"epochs": 1, "min_epochs": 1})
    with patch.object(lightning, "Trainer", trainer):
        fit(network, train, validation, changed, 0, record=False)
    return watch.step() * train.count / settings.batch_size + watch.end - watch.times[-1]


def measure(name: str, steps: int) -> list[Row]:
    """The fastest round of each way at a shape; the ways take turns."""
    (users, movies, ratings), model, training = SHAPES[name]
    train = made_up(users, movies, round(ratings * SETTINGS.split.train))
    validation = made_up(users, movies, round(ratings * SETTINGS.split.validation), 1)
    chosen = SETTINGS.train.model_copy(update=training).for_ratings(train.count)
    network = untrained(MODEL.model_copy(update=model), chosen.replicas, train, users, movies)
    ways = {
        "bare loop": partial(bare_ours, network, train, chosen, steps),
        "ours": partial(ours, network, train, validation, chosen, steps),
    }
    if name == "notebook":
        notebook = (users, movies), train, chosen.batch_size, steps
        ways |= {
            "bare loop": partial(bare_notebook, *notebook),
            "notebook way": partial(notebook_way, *notebook),
        }
    rounds = [{way: run() for way, run in ways.items()} for _ in range(ROUNDS)]
    best = {way: min(one[way] for one in rounds) for way in ways}
    return [
        {"shape": name, "way": way, "s an epoch": spent, "x bare loop": spent / best["bare loop"]}
        for way, spent in best.items()
    ]


def main() -> None:
    parser = command_line(__doc__, "docs/results/speed.md")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads")
    parser.add_argument("--steps", type=int, default=20, help="steps that are timed")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=[*SHAPES])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore")
    notes = (
        f"`python -m benchmarks.speed.throughput --threads {options.threads} --steps "
        f"{options.steps}`: the fastest round, extrapolated to an epoch; CPU seconds where threads "
        f"is 1. {machine()}."
    )
    rows = [row for name in options.shapes for row in measure(name, options.steps)]
    report(options.doc, "training", rows, notes)


if __name__ == "__main__":
    main()
