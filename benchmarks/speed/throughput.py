"""Training throughput: `python -m benchmarks.speed.throughput [--threads 2] [--steps 40] [--doc]`.

On the notebook's shape: the notebook way (a DataLoader over a TensorDataset, Lightning, a log entry
every step), a bare loop (slices, fused Adam) and stage train, with the notebook's model. On the
shapes of the embedded world and of ML-25M: a bare loop of our network, and stage train.

An epoch's time is extrapolated from some steps and the measuring at its end.
"""

import itertools
import math
import os
import warnings
from collections.abc import Callable, Iterator
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
NOTEBOOK = {"users": 157_481, "movies": 50, "ratings": 2_544_549, "train": 1_781_184}
SHAPES = {
    "notebook": NOTEBOOK,
    "default": {
        "users": SETTINGS.planted.users, "movies": SETTINGS.planted.movies,
        "ratings": SETTINGS.planted.ratings,
        "train": round(SETTINGS.planted.ratings * SETTINGS.split.train),
    },
    "ml-25m": {
        "users": 162_541, "movies": 59_047, "ratings": 25_000_095, "train": 17_500_067,
    },
}  # fmt: skip
LINEAR = {
    "hidden": (), "cross": False, "genres": False, "embedding": "point", "history": 0,
    "time": "none", "squash": True,
}  # fmt: skip
"""The notebook's model."""
Changes = dict[str, Any]
VARIANTS: dict[str, dict[str, tuple[Changes, Changes]]] = {
    "notebook": {"notebook": (LINEAR, {"batch_size": 4096, "replicas": 1})},
    "default": {"default": ({}, {}), "default, bf16-mixed": ({}, {"precision": "bf16-mixed"})},
    "ml-25m": {
        "history 0, time none, replicas 1": ({"history": 0, "time": "none"}, {"replicas": 1}),
        "history 32, time near, replicas 1": ({"history": 32}, {"replicas": 1}),
        "the default": ({}, {}),
    },
}
"""Changes of the sections model and train."""
WARM_UP = 3
"""Steps that are not timed."""
ROUNDS = 3
Time = tuple[float, float]
"""Seconds a step, and seconds after the steps of an epoch."""


class Clock(lightning.Callback):
    """Looks at the clock after each step, before its epoch is measured, and at the end."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, *_: object) -> None:
        """Note the time."""
        self.times.append(clock())

    def on_train_end(self, *_: object) -> None:
        """Note the time."""
        self.end = clock()

    @property
    def found(self) -> Time:
        """What the training took."""
        steps = self.times[WARM_UP - 1 :]
        return (steps[-1] - steps[0]) / (len(steps) - 1), self.end - steps[-1]


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


def notebook_way(train: Ratings, batch: int, steps: int) -> Time:
    """The notebook's training loop; its first steps warm up."""
    data = TensorDataset(train.user, train.movie, train.rating)
    watch = Clock()
    trainer = lightning.Trainer(
        accelerator="auto", devices=1, max_steps=WARM_UP + steps, logger=False, callbacks=[watch],
        enable_checkpointing=False, enable_model_summary=False, enable_progress_bar=False,
    )  # fmt: skip
    trainer.fit(Notebook(SETTINGS.model.dim), DataLoader(data, batch_size=batch, shuffle=True))
    return watch.found[0], 0.0


def bare(
    optimizer: torch.optim.Optimizer, loss: Callable[[Tensor], Tensor], count: int, batch: int,
    steps: int,
) -> Time:  # fmt: skip
    """A plain loop over batches of positions."""
    batches: Iterator[Tensor] = iter(ShuffledPositions(count, batch, 0))
    start = clock()
    for number, own in enumerate(itertools.islice(batches, WARM_UP + steps)):
        if number == WARM_UP:
            start = clock()
        value = loss(own)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (clock() - start) / steps, 0.0


def bare_notebook(train: Ratings, batch: int, steps: int) -> Time:
    """The notebook's model, sliced and fused."""
    model = Notebook(SETTINGS.model.dim)

    def loss(own: Tensor) -> Tensor:
        part = train.part(own)
        return nn.functional.mse_loss(model(part.user, part.movie), part.rating)

    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)
    return bare(optimizer, loss, train.count, batch, steps)


def bare_ours(network: Network, train: Ratings, settings: TrainSettings, steps: int) -> Time:
    """Our network: loss, backward, fused AdamW over all parameters."""
    generator = torch.Generator().manual_seed(0)
    network.user.sparse = network.movie.sparse = False

    def loss(own: Tensor) -> Tensor:
        part = train.part(own)
        genres = None
        if network.settings.genres:
            genres = (network.genre_share[part.movie] > 0).float()
        output = network(part.user, part.movie, part.time, genres, own, generator)
        network.remember(own, part.rating, output)
        fit, kl = network.loss(output, part.rating, part.user, part.movie)
        return (fit + settings.kl_weight * kl).sum()

    optimizer = torch.optim.AdamW(network.parameters(), lr=0.001, fused=True)
    return bare(optimizer, loss, train.count, settings.batch_size, steps)


def ours(
    network: Network, train: Ratings, validation: Ratings, settings: TrainSettings, steps: int
) -> Time:
    """The first steps of an epoch of stage train, and the measuring at its end."""
    watch, whole = Clock(), lightning.Trainer

    def trainer(*arguments: Any, callbacks: list[Any], **options: Any) -> lightning.Trainer:
        options |= {"callbacks": [*callbacks, watch], "limit_train_batches": WARM_UP + steps}
        return whole(*arguments, **options)

    changed = settings.model_copy(update={"epochs": 1, "min_epochs": 1})
    with patch.object(lightning, "Trainer", trainer):
        fit(network, train, validation, changed, 0, record=False)
    return watch.found


def measure(name: str, steps: int) -> list[Row]:
    """The fastest round of each way as an epoch; the ways take turns."""
    shape = SHAPES[name]
    train = made_up(shape["users"], shape["movies"], shape["train"])
    validation = made_up(shape["users"], shape["movies"], shape["ratings"] // 5, 1)
    rows: list[Row] = []
    for label, (model, fitting) in VARIANTS[name].items():
        chosen = SETTINGS.train.model_copy(update=fitting).for_ratings(train.count)
        network = untrained(
            MODEL.model_copy(update=model), chosen.replicas, train, shape["users"], shape["movies"]
        )
        ways: dict[str, Callable[[], Time]] = {
            "bare loop": partial(bare_ours, network, train, chosen, steps),
            "ours": partial(ours, network, train, validation, chosen, steps),
        }
        if name == "notebook":
            ways["bare loop"] = partial(bare_notebook, train, chosen.batch_size, steps)
            ways["notebook way"] = partial(notebook_way, train, chosen.batch_size, steps)
        rounds = [{way: run() for way, run in ways.items()} for _ in range(ROUNDS)]
        seconds = {}
        for way in ways:
            step, tail = (min(times) for times in zip(*(one[way] for one in rounds), strict=True))
            seconds[way] = step * math.ceil(train.count / chosen.batch_size) + tail
            row = {"shape": label, "way": way, "ms a step": step * 1e3, "s an epoch": seconds[way]}
            rows.append(row | {"x bare loop": seconds[way] / seconds["bare loop"]})
    return rows


def main() -> None:
    parser = command_line(__doc__, "docs/results/speed.md")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads")
    parser.add_argument("--steps", type=int, default=20, help="steps that are timed")
    parser.add_argument("--shape", choices=SHAPES, help="one alone")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore")
    notes = (
        f"`python -m benchmarks.speed.throughput --threads {options.threads} --steps "
        f"{options.steps}`: the fastest round, extrapolated to an epoch; CPU seconds where threads "
        f"is 1. {machine()}."
    )
    for name in [options.shape] if options.shape else SHAPES:
        report(options.doc, f"training-{name}", measure(name, options.steps), notes)


if __name__ == "__main__":
    main()
