"""Fitting the network with PyTorch Lightning: loss, optimiser, schedule, early stopping, curves.

References: variational inference by minimising fit + KL (Graves, 2011); cosine schedule (Loshchilov
and Hutter, 2017); early stopping on validation error with the best weights kept (Prechelt, 1998).
"""

from __future__ import annotations

import copy
import logging
import math
import sys
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from dvclive import Live
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor

from genre_embeddings import files
from genre_embeddings.batches import Ratings, ShuffledPositions, Slices, seed_of
from genre_embeddings.errors import InputError
from genre_embeddings.network import Network
from genre_embeddings.settings import TrainSettings

PRIOR_LR = 0.003
"""Learning rate of the prior scales and the noise level."""
EVALUATION_BATCH = 16_384
CURVES = files.PLOTS / "train"
LIVE = files.METRICS / "train"

# Which accelerators were not found, tips, and that training stopped: a stage says what it made.
logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)


class Fitting(lightning.LightningModule):
    """Owns the loss and the optimiser of a network, and one epoch's errors.

    Both sides are measured alike, after each epoch, by the mean of the posterior and of the
    replicas: `rmse` in stars, and `loss`, the negative log likelihood per rating.
    """

    def __init__(
        self,
        network: Network,
        train: Ratings,
        validation: Ratings,
        settings: TrainSettings,
        seed: int,
    ) -> None:
        super().__init__()
        self.network = network
        self.settings, self.seed = settings, seed
        self.sides = {"train": train, "validation": validation}
        self.history: list[dict[str, float]] = []

    def on_fit_start(self) -> None:
        """Bring all ratings to the device once."""
        self.sides = {name: side.to(self.device) for name, side in self.sides.items()}

    def on_train_epoch_start(self) -> None:
        """Draw this epoch's noise from the seed and the epoch's number alone."""
        seed = seed_of(self.seed, self.current_epoch, 1)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.finite = torch.ones((), dtype=torch.bool, device=self.device)

    def training_step(self, own: Tensor) -> Tensor:
        """Loss of the training ratings at the positions `own`, (B,)."""
        batch = self.sides["train"].part(own.to(self.device))
        genres = (self.network.genre_share[batch.movie] > 0).float()  # (B, G)
        rare = self.settings.rare_dropout / self.network.movie_counts[batch.movie]  # (B,)
        chance = torch.rand(batch.count, generator=self.generator, device=self.device)
        hidden = chance < self.settings.movie_dropout + rare
        shown = torch.where(hidden, self.network.unknown, batch.movie)
        output = self.network(
            batch.user, shown, batch.time, genres=genres, own=own, generator=self.generator
        )
        terms = self.network.loss(output, batch.rating, batch.user, batch.movie)
        loss = (terms.fit + self.settings.kl_weight * terms.kl).sum()
        self.finite = self.finite & loss.isfinite()
        self.network.remember(own, batch.rating, output)
        return loss

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Loss and RMSE of both sides after an epoch; renews the training ratings' residuals."""
        found = {}
        for name, side in self.sides.items():
            squared = torch.zeros((), dtype=torch.float64, device=self.device)
            for rows in Slices(side.count, EVALUATION_BATCH):
                part = side.part(rows)
                own = torch.arange(rows.start, rows.stop, device=self.device)
                output = self.network(
                    part.user, part.movie, part.time, own=own if name == "train" else None
                )
                if name == "train":
                    self.network.remember(own, part.rating, output)
                mean = output.rating.mean(0).clamp(*self.network.limits)
                squared += (mean - part.rating).double().square().sum()
            mse = squared.item() / side.count
            found[f"{name}/loss"] = self.network.negative_log_likelihood(mse)
            found[f"{name}/rmse"] = math.sqrt(mse)
        return found

    def finish_epoch(self) -> dict[str, float]:
        """Measure both sides after an epoch and note the errors.

        Raises:
            InputError: the loss is no longer a finite number.
        """
        found = self.measure() if self.finite.item() else {}
        if not found or not all(math.isfinite(value) for value in found.values()):
            raise InputError(
                f"train: in epoch {self.current_epoch + 1} the loss is no longer a finite number; "
                "lower train.lr and train.network_lr in params.yaml, or raise train.kl_weight "
                "(train.weight_decay for point embeddings). No model was written."
            )
        self.history.append({"epoch": self.current_epoch + 1, **found})
        return self.history[-1]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with a rate each for embeddings, network and prior; cosine schedule by step."""
        groups: dict[str, list[torch.nn.Parameter]] = {"embedding": [], "prior": [], "network": []}
        for name, parameter in self.network.named_parameters():
            groups[self.network.kind_of(name)].append(parameter)
        s = self.settings
        # Variational embeddings have their prior in the place of weight decay.
        decay = s.weight_decay if self.network.settings.embedding == "point" else 0.0
        optimizer = torch.optim.AdamW(
            [
                {"params": groups["embedding"], "lr": s.lr, "weight_decay": decay},
                {"params": groups["prior"], "lr": PRIOR_LR},
                {"params": groups["network"], "lr": s.network_lr},
            ],
            weight_decay=0.0,
            fused=True,
        )
        steps = self.trainer.estimated_stepping_batches
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


class BestWeights(lightning.Callback):
    """Keeps the weights of the best validation error and stops when it no longer improves.

    Epochs count against `patience` only after `min_epochs`: Lightning's own EarlyStopping,
    combined with its Trainer's min_epochs, remembers a stop that it was told of too early.
    """

    def __init__(self, min_epochs: int, patience: int) -> None:
        self.min_epochs, self.patience = min_epochs, patience
        self.rmse, self.epoch, self.idle = math.inf, 0, 0
        self.weights: dict[str, Tensor] = {}

    def on_train_epoch_end(self, trainer: lightning.Trainer, fitting: Fitting) -> None:  # type: ignore[override]
        """Measure the epoch and compare it with the best one; the other callbacks come after."""
        latest = fitting.finish_epoch()
        if latest["validation/rmse"] < self.rmse:
            self.rmse, self.epoch, self.idle = latest["validation/rmse"], int(latest["epoch"]), 0
            self.weights = copy.deepcopy(fitting.network.state_dict())
        elif latest["epoch"] > self.min_epochs:
            self.idle += 1
            trainer.should_stop = trainer.should_stop or self.idle >= self.patience


class Recorder(lightning.Callback):
    """Writes each epoch to dvclive and to the curves that `dvc plots` overlays."""

    def __init__(self, best: BestWeights) -> None:
        self.best = best
        self.live = Live(dir=str(LIVE), dvcyaml=None, save_dvc_exp=False)

    def on_train_epoch_end(self, trainer: lightning.Trainer, fitting: Fitting) -> None:  # type: ignore[override]  # noqa: ARG002
        """One point on every curve; epochs count from 1."""
        latest = fitting.history[-1]
        self.live.step = int(latest["epoch"])
        for name, value in latest.items():
            if name != "epoch":
                self.live.log_metric(name, float(f"{value:.6g}"))
        self.live.next_step()
        for quantity in ("loss", "rmse"):
            files.write_rows(
                CURVES / f"{quantity}.json",
                [
                    {"epoch": row["epoch"], quantity: row[f"{side}/{quantity}"], "side": side}
                    for side in ("train", "validation")
                    for row in fitting.history
                ],
            )

    def finish(self, fitting: Fitting) -> None:
        """Leave the best epoch's numbers as the summary; stage evaluate measures the errors."""
        best = fitting.history[self.best.epoch - 1]
        self.live.end()
        content = {"best_epoch": int(best["epoch"]), "epochs": len(fitting.history)}
        losses = {f"{side}_loss": best[f"{side}/loss"] for side in ("train", "validation")}
        files.write_metrics(LIVE / "metrics.json", {"fit": {**content, **losses}})


class Progress(TQDMProgressBar):
    """A bar for each epoch's batches where somebody looks, a line an epoch in a log."""

    def __init__(self, batches: int) -> None:
        super().__init__(refresh_rate=max(1, batches // 20) if sys.stderr.isatty() else 0)

    def get_metrics(self, trainer: lightning.Trainer, fitting: Fitting) -> dict[str, Any]:  # type: ignore[override]  # noqa: ARG002
        """What stands at the end of the bar."""
        if not fitting.history:
            return {}
        latest = fitting.history[-1]
        return {f"{side} RMSE": f"{latest[f'{side}/rmse']:.4f}" for side in fitting.sides}

    def on_train_epoch_end(self, trainer: lightning.Trainer, fitting: Fitting) -> None:  # type: ignore[override]
        """Close the epoch's bar, or write its line."""
        super().on_train_epoch_end(trainer, fitting)
        if not sys.stderr.isatty():
            shown = ", ".join(f"{k} {v}" for k, v in self.get_metrics(trainer, fitting).items())
            epoch = len(fitting.history)
            print(f"epoch {epoch} of {trainer.max_epochs}: {shown}", file=sys.stderr, flush=True)


def use_threads(threads: int) -> None:
    """Compute on this many CPU threads; 0 leaves torch's own choice, one a core."""
    if threads:
        torch.set_num_threads(threads)


def fit(
    network: Network,
    train: Ratings,
    validation: Ratings,
    settings: TrainSettings,
    seed: int,
    record: bool = True,
) -> tuple[list[dict[str, float]], BestWeights]:
    """Fit the network in place and leave it with the weights of the best epoch.

    Args:
        network: built from the same training ratings.
        train: training ratings, by user, then time.
        validation: ratings that choose the epoch.
        settings: section `train`.
        seed: order of the batches, noise, dropout.
        record: write curves and metrics under metrics/train/ and plots/train/.

    Returns:
        The errors of each epoch, and which was the best.

    Raises:
        InputError: the loss became infinite or not a number.
    """
    best = BestWeights(settings.min_epochs, settings.patience)
    callbacks: list[lightning.Callback] = [best]
    recorder = Recorder(best) if record else None
    if recorder:
        callbacks += [recorder, Progress(math.ceil(train.count / settings.batch_size))]
    fitting = Fitting(network, train, validation, settings, seed)
    trainer = lightning.Trainer(
        accelerator="auto",
        devices=1,
        max_epochs=settings.epochs,
        logger=False,
        callbacks=callbacks,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=record,
        inference_mode=False,
        default_root_dir=Path.cwd(),
    )
    with warnings.catch_warnings():
        # Batches are slices of what is in memory: there is nothing for workers to fetch.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        # Lightning's own, about torch's trees.
        warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")
        trainer.fit(fitting, ShuffledPositions(train.count, settings.batch_size, seed))
    network.load_state_dict(best.weights)
    if recorder:
        recorder.finish(fitting)
    return fitting.history, best
