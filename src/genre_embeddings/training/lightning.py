"""Fitting the network with PyTorch Lightning: loss, optimiser, schedule.

References: variational inference by minimising fit + KL (Graves, 2011); cosine schedule (Loshchilov
and Hutter, 2017); early stopping on validation error with the best weights kept (Prechelt, 1998).
"""

from __future__ import annotations

import logging
import math
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, distributed
from torch.nn import Parameter

from genre_embeddings.errors import InputError
from genre_embeddings.model.embedding import EmbeddingTable
from genre_embeddings.model.network import Network
from genre_embeddings.model.ratings import Ratings, ShuffledPositions, slices
from genre_embeddings.seeds import seed_of
from genre_embeddings.settings import TrainSettings
from genre_embeddings.training.callbacks import (
    BestWeights,
    Checkpoint,
    CheckpointFile,
    Progress,
    Recorder,
    learnt,
)
from genre_embeddings.training.checkpoint import Scratch, key_of
from genre_embeddings.training.optimizer import RowAdamW
from genre_embeddings.training.replicas import ReplicaParallel, gather_replicas, keep_replicas

PRIOR_LR = 0.003
"""Learning rate of the prior scales and the noise level."""
EVALUATION_BATCH = 16_384
MEASURED = 250_000
"""About how many training ratings are measured after an epoch; all of them if they have times."""
SPARSE_PAYS = 10
"""A table has sparse gradients if it has at least this many times the rows that a batch names. One
table's part of a step, forward to optimiser, at 4, 8, 16 and 64 times: dense 4.8, 9.9, 8.7, 41 ms,
sparse 6.2, 6.7, 6.6, 8.6 ms (batches of 1,024 on one busy core)."""

# Silence Lightning's messages about accelerators, tips, processes and the end of training.
for _name in ("pytorch_lightning", "lightning_fabric"):
    logging.getLogger(_name).setLevel(logging.WARNING)


class Fitting(lightning.LightningModule):
    """Loss, optimiser and errors of a network.

    After each epoch, the training and validation ratings are predicted by the mean of the posterior
    and of the replicas: `rmse` is in stars, `loss` is the negative log likelihood per rating. These
    are errors before the correction by similar movies, which is fitted after training; stage
    evaluate measures errors after it.

    Each of several processes has some of the replicas, and all the ratings. The errors are those
    of all replicas, so that all processes stop after the same epoch.
    """

    def __init__(
        self,
        network: Network,
        train: Ratings,
        validation: Ratings | None,
        settings: TrainSettings,
        seed: int,
    ) -> None:
        super().__init__()
        self.network, self.replicas = network, network.replicas
        self.settings, self.seed = settings, seed
        self.sides = {"train": train}
        if validation is not None:
            self.sides["validation"] = validation
        self.history: list[dict[str, float]] = []
        self.strict_loading = False  # of checkpoints, see on_save_checkpoint

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the errors of all epochs; leave out tensors that training does not change."""
        checkpoint["history"] = self.history
        checkpoint["state_dict"] = learnt(self)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the errors of all epochs."""
        self.history = checkpoint["history"]

    def on_fit_start(self) -> None:
        """Copy all ratings to the device once."""
        self.sides = {name: side.to(self.device) for name, side in self.sides.items()}

    def train_dataloader(self) -> ShuffledPositions:
        """Positions of the ratings of each batch, the same in every process."""
        count, size = self.sides["train"].count, self.settings.batch_size
        return ShuffledPositions(count, size, self.seed, self.current_epoch)

    def on_train_epoch_start(self) -> None:
        """Seed this epoch's noise by the seed, the epoch and the process."""
        rank = [self.global_rank] if self.global_rank else []
        seed = seed_of(self.seed, "training noise", self.current_epoch, *rank)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.finite = torch.ones((), dtype=torch.bool, device=self.device)

    def training_step(self, positions: Tensor) -> Tensor:
        """Loss of the training ratings at `positions`, (B,), summed over the replicas."""
        own = positions.to(self.device)
        batch = self.sides["train"].part(own)
        genres = None
        if self.network.settings.genres:
            genres = (self.network.genre_share[batch.movie] > 0).float()  # (B, G)
        rare = self.settings.rare_dropout / self.network.movie_counts[batch.movie]  # (B,)
        chance = torch.rand(batch.count, generator=self.generator, device=self.device)
        hidden = chance < self.settings.movie_dropout + rare
        shown = torch.where(hidden, self.network.unknown, batch.movie)
        output = self.network(
            batch.user, shown, batch.time, genres=genres, own=own, generator=self.generator
        )
        fit, kl = self.network.loss(output, batch.rating, batch.user, batch.movie)
        loss = (fit + self.settings.kl_weight * kl).sum()
        self.finite = self.finite & loss.isfinite()
        self.network.remember(own, batch.rating, output)
        return loss

    def on_after_backward(self) -> None:
        """Sum the gradient of the session's scales, which all replicas share."""
        session = self.network.session
        if session is not None and session.log_scale.grad is not None:
            self._total(session.log_scale.grad)

    def _total(self, value: Tensor) -> Tensor:
        """Sum over the processes, in place."""
        if self.trainer.world_size > 1:
            distributed.all_reduce(value)
        return value

    def on_train_batch_end(self, *_: Any) -> None:
        """Measure the epoch after its last batch, before the callbacks are told of its end.

        Lightning's validation loop would be longer: the residuals of the training ratings must be
        updated before the validation ratings are measured.
        """
        if self.trainer.is_last_batch:
            rmse = self.finish_epoch().get("validation/rmse")
            if rmse is not None:
                self.log("validation/rmse", rmse, on_step=False, on_epoch=True, batch_size=1)

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Loss and RMSE of the sides after an epoch; updates the training ratings' residuals."""
        self.network.place_unrated_users()
        found = {}
        for name, side in self.sides.items():
            learns = name == "train"
            # Without times there are no residuals to update, and a sample is enough.
            sampled = learns and self.network.session is None
            every = max(1, side.count // MEASURED) if sampled else 1
            # The sum of squared errors, and the number of ratings
            total = torch.zeros(2, dtype=torch.float64, device=self.device)
            for rows in list(slices(side.count, EVALUATION_BATCH))[::every]:
                part = side.part(rows)
                own = torch.arange(rows.start, rows.stop, device=self.device) if learns else None
                output = self.network(part.user, part.movie, part.time, own=own)
                if own is not None:
                    self.network.remember(own, part.rating, output)
                mean = self._total(output.rating.sum(0)) / self.replicas  # (B,)
                error = mean.clamp(*self.network.limits) - part.rating
                total[0] += error.double().square().sum()
                total[1] += part.count
            squared, count = total.tolist()
            losses = self.network.negative_log_likelihood(squared / count).sum()
            found[f"{name}/loss"] = float(self._total(losses)) / self.replicas
            found[f"{name}/rmse"] = math.sqrt(squared / count)
        return found

    def finish_epoch(self) -> dict[str, float]:
        """Measure the sides after an epoch and append the errors to `history`.

        Raises:
            InputError: the loss is no longer a finite number.
        """
        broken = self._total((~self.finite).float()).item()
        found = {} if broken else self.measure()
        if not found or not all(math.isfinite(value) for value in found.values()):
            raise InputError(
                f"train: in epoch {self.current_epoch + 1} the loss is no longer a finite number; "
                "lower train.lr and train.network_lr in params.yaml, or raise train.kl_weight "
                "(train.weight_decay for point embeddings). No model was written."
            )
        self.history.append({"epoch": self.current_epoch + 1, **found})
        return self.history[-1]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with a learning rate for each kind of parameter, and a cosine schedule by step."""
        self._choose_sparse_tables()
        groups: dict[str, list[Parameter]] = {"embedding": [], "prior": [], "network": []}
        for name, parameter in self.network.named_parameters():
            table = name.endswith((".mean", ".log_std"))
            prior = name.endswith(("log_prior", "log_noise"))
            groups["embedding" if table else "prior" if prior else "network"].append(parameter)
        s = self.settings
        # Variational embeddings have a prior instead of weight decay.
        decay = s.weight_decay if self.network.settings.embedding == "point" else 0.0
        optimizer = RowAdamW(
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

    def _choose_sparse_tables(self) -> None:
        """Give large tables sparse gradients, so that a step updates only the rows of its batch."""
        if self.settings.precision == "16-mixed":
            return  # the scaling of gradients in float16 takes no sparse ones
        network, size = self.network, self.settings.batch_size
        # Tables, and at most how many of their rows a batch names
        named: list[tuple[EmbeddingTable, float]] = [(network.user, size), (network.movie, size)]
        if network.settings.history:
            for history, counts, table in (
                (network.user_history, network.user_counts, network.movie_seen),
                (network.movie_history, network.movie_counts, network.user_seen),
            ):
                chance = (counts * size / self.sides["train"].count).clamp(max=1)
                named.append((table, history.entries_of(chance)))
        for table, rows in named:
            table.sparse = len(table.mean) >= SPARSE_PAYS * rows


def _trainer(settings: TrainSettings, callbacks: list[Any]) -> lightning.Trainer:
    """Lightning's trainer on the devices and machines of the settings.

    Raises:
        InputError: this machine does not have them.
    """
    devices, nodes = settings.devices, settings.num_nodes
    if nodes > 1 and not {"MASTER_ADDR", "SLURM_NTASKS"} & set(os.environ):
        raise InputError(
            f"train.num_nodes is {nodes}, but the stage was not started on {nodes} machines: run "
            f"`torchrun --nnodes={nodes} --nproc-per-node={devices} ... -m stages.train` on each "
            "(docs/guide/scaling.md), or set train.num_nodes to 1 in params.yaml."
        )
    try:
        return lightning.Trainer(
            accelerator="auto",
            devices=devices,
            num_nodes=nodes,
            strategy=ReplicaParallel() if settings.processes > 1 else "auto",
            precision=settings.precision,
            plugins=[CheckpointFile()],
            max_epochs=settings.epochs,
            reload_dataloaders_every_n_epochs=1,  # each epoch has an order of its own
            logger=False,
            callbacks=callbacks,
            enable_checkpointing=any(isinstance(part, Checkpoint) for part in callbacks),
            enable_model_summary=False,
            enable_progress_bar=False,
            inference_mode=False,
            default_root_dir=Path.cwd(),
        )
    except (MisconfigurationException, ValueError) as error:
        raise InputError(
            f"train.devices is {devices}, train.num_nodes {nodes}, train.precision "
            f"{settings.precision!r}: this machine cannot do that ({error}); change them in "
            "params.yaml."
        ) from None


def _claim(scratch: Scratch, fitting: Fitting, record: bool) -> Path | None:
    """The checkpoint's file, which exists after an interruption, or None if there can be none."""
    # Several machines, or processes that others start, would have to agree on whether one exists.
    started = {"TORCHELASTIC_RUN_ID", "SLURM_NTASKS"} & os.environ.keys()
    if fitting.settings.num_nodes > 1 or (fitting.settings.devices > 1 and started):
        return None
    network, sides = fitting.network, fitting.sides.values()
    parts = (network.settings.model_dump_json(), fitting.settings.model_dump_json())
    columns = (column for side in sides for column in vars(side).values())
    tensors = (*network.state_dict().values(), *columns)
    key = key_of((*parts, repr((network.limits, fitting.seed, record))), tensors)
    file = scratch.claim(key, share=fitting.settings.devices > 1)
    if file and file.exists() and os.environ.get("LOCAL_RANK", "0") == "0":
        print(f"resuming the interrupted training ({file})", file=sys.stderr)
    return file


def fit(
    network: Network,
    train: Ratings,
    validation: Ratings | None,
    settings: TrainSettings,
    seed: int,
    record: bool = True,
    scratch: Scratch | None = None,
    name: str = "",
) -> tuple[list[dict[str, float]], BestWeights]:
    """Fit the network in place; it then has the weights of the best epoch.

    Of several processes, the first one's network then has all replicas, the others' have theirs.

    Args:
        network: built from the same training ratings.
        train: training ratings, by user, then time.
        validation: ratings that choose the epoch; if None, the last epoch is kept.
        settings: section `train`.
        seed: of the order of batches, noise and dropout.
        record: write curves and metrics under metrics/train/ and plots/train/.
        scratch: writes a checkpoint after each epoch, from which an interrupted training resumes.
        name: of the model in the line that tells the progress; without a name, that line is
            written only if `record` is set.

    Returns:
        The errors of each epoch, and the best epoch with its weights.

    Raises:
        InputError: the loss became infinite or not a number, or devices are missing.
    """
    settings = settings.for_ratings(train.count)
    best = BestWeights(settings.min_epochs, settings.patience)
    callbacks: list[lightning.Callback] = [best] if validation is not None else []
    fitting = Fitting(network, train, validation, settings, seed)
    checkpoint = _claim(scratch, fitting, record) if scratch else None
    recorder = Recorder() if record else None
    if recorder:
        callbacks.append(recorder)
    if record or name:
        callbacks.append(Progress(name))
    if checkpoint:
        callbacks.append(Checkpoint(checkpoint))
    trainer = _trainer(settings, callbacks)
    rank, processes = trainer.global_rank, trainer.world_size
    if processes > 1:
        keep_replicas(network, rank, processes)
    with warnings.catch_warnings():
        # Batches are in memory: workers would have nothing to do.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        # The validation error is the same in all processes.
        warnings.filterwarnings("ignore", message=".*sync_dist=True.*")
        # Lightning uses a deprecated class of torch.
        warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")
        resumed = checkpoint if checkpoint and checkpoint.exists() else None
        trainer.fit(fitting, ckpt_path=resumed, weights_only=True)
    if validation is not None:
        network.load_state_dict(best.weights, strict=False)
    if processes > 1:
        gather_replicas(network, rank, processes)
    if recorder and trainer.is_global_zero:
        recorder.finish(fitting.history, best.epoch)
    return fitting.history, best
