"""What happens after each epoch of a training: early stopping, checkpoint, curves, progress."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from dvclive import Live
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import Tensor
from tqdm import tqdm

from genre_embeddings import storage
from genre_embeddings.errors import InputError

CURVES = storage.PLOTS / "train"
LIVE = storage.METRICS / "train"


def learnt(module: torch.nn.Module) -> dict[str, Tensor]:
    """The parameters and the residuals: what training changes."""
    return {
        name: value.detach()
        for name, value in module.state_dict(keep_vars=True).items()
        if value.requires_grad or name.endswith("session.residuals")
    }


class BestWeights(EarlyStopping):
    """Early stopping that counts `patience` after `min_epochs`, and keeps the best epoch's weights.

    They are kept in memory, and in the one file of `Checkpoint`: a second file, as ModelCheckpoint
    writes, could be from another epoch after a kill, and be missing where the disk is full.
    """

    def __init__(self, min_epochs: int, patience: int) -> None:
        super().__init__("validation/rmse", patience=patience, check_on_train_epoch_end=True)
        self.min_epochs, self.epoch = min_epochs, 0
        self.weights: dict[str, Tensor] = {}

    def on_train_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Stop at once if the training had stopped before it was resumed."""
        trainer.should_stop = self.wait_count >= self.patience

    def on_train_epoch_end(self, trainer: lightning.Trainer, fitting: Any) -> None:
        """Compare the epoch with the best one."""
        super().on_train_epoch_end(trainer, fitting)
        epoch = trainer.current_epoch + 1
        if self.wait_count == 0:
            self.epoch = epoch
            self.weights = {name: value.clone() for name, value in learnt(fitting.network).items()}
        if epoch <= self.min_epochs:
            self.wait_count, trainer.should_stop = 0, False

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return super().state_dict() | {"epoch": self.epoch, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From a checkpoint."""
        super().load_state_dict(state)
        self.epoch, self.weights = state["epoch"], state["weights"]


class Checkpoint(lightning.callbacks.Checkpoint):
    """Writes a checkpoint after every epoch; Lightning calls it after all other callbacks."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def on_train_epoch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Replace the checkpoint of the epoch before."""
        trainer.save_checkpoint(self.file)


class CheckpointFile(TorchCheckpointIO):
    """Writes a checkpoint whole or not at all; training continues if it cannot be written.

    Lightning's own writer builds the file in memory, and does not wait until it is on the disk.
    """

    def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:  # noqa: ARG002
        """Write a temporary file and rename it."""
        try:
            with storage.replacing(Path(path)) as fresh, fresh.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
        except (InputError, OSError, RuntimeError) as error:
            behind = error.__context__
            if isinstance(behind, (KeyboardInterrupt, SystemExit)):
                raise behind from None  # torch fails to close the half-written file
            print(f"no checkpoint was written: {error}", file=sys.stderr, flush=True)


class Recorder(lightning.Callback):
    """Writes each epoch to dvclive, and to the curves that `dvc plots` overlays.

    Lightning's logger for dvclive would not be shorter: the epochs before an interruption must be
    logged again.
    """

    logged = 0

    def setup(self, trainer: lightning.Trainer, *_: Any, **__: Any) -> None:
        """Start dvclive, which removes the files of an earlier run."""
        if trainer.is_global_zero:
            self.live = Live(dir=str(LIVE), dvcyaml=None, save_dvc_exp=False)

    def on_train_epoch_end(self, trainer: lightning.Trainer, fitting: Any) -> None:
        """Add a point to every curve, in the first process."""
        if trainer.is_global_zero:
            self._log(fitting.history)

    def finish(self, history: list[dict[str, float]], best_epoch: int) -> None:
        """Write which epoch was the best, and the curves of a training resumed after its end."""
        self._log(history)
        self.live.end()
        content = {"best_epoch": best_epoch, "epochs": len(history)}
        storage.write_metrics(LIVE / "metrics.json", {"fit": content})

    def _log(self, history: list[dict[str, float]]) -> None:
        """Log the epochs that are not logged yet, those before an interruption too."""
        for row in history[self.logged :]:
            self.live.step = int(row["epoch"])
            for name, value in row.items():
                if name != "epoch":
                    self.live.log_metric(name, float(f"{value:.6g}"))
            self.live.next_step()
        self.logged = len(history)
        for quantity in ("loss", "rmse"):
            storage.write_rows(
                CURVES / f"{quantity}.json",
                [
                    {"epoch": row["epoch"], quantity: row[f"{side}/{quantity}"], "side": side}
                    for side in ("train", "validation")
                    for row in history
                ],
            )


class Progress(lightning.Callback):
    """One line that tells how far training is. On a terminal it is rewritten; in a log, a new one
    follows after each epoch and each minute. A model with a name may be trained beside another one:
    on a terminal, it writes a line a minute between those of the other. The time left is an upper
    limit, as training can stop early.
    """

    def __init__(self, name: str = "") -> None:
        self.name, self.errors = f"{name}: " if name else "", ""
        self.terminal = sys.stderr.isatty()
        self.rewrites = self.terminal and not name
        self.unfinished = False  # whether the line on the terminal has no end yet

    def on_train_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Begin after the epochs before an interruption."""
        self.first, self.started = trainer.global_step, time.monotonic()
        self.printed = self.started

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Print now and then."""
        if time.monotonic() > self.printed + (0.1 if self.rewrites else 60):
            self._print(trainer)

    def on_train_epoch_end(self, trainer: lightning.Trainer, fitting: Any) -> None:
        """Show the errors of the epoch."""
        # Short enough for a terminal of 80 columns
        row = fitting.history[-1]
        self.errors = f", train RMSE {row['train/rmse']:.4f}"
        if "validation/rmse" in row:
            self.errors += f", validation {row['validation/rmse']:.4f}"
        if self.rewrites or not self.terminal:
            self._print(trainer)

    def on_train_end(self, *_: Any) -> None:
        """End the line on the terminal."""
        if self.unfinished:
            print(file=sys.stderr)
        self.unfinished = False

    def on_exception(self, *_: Any) -> None:
        """End it if training failed or was interrupted, too."""
        self.on_train_end()

    def _print(self, trainer: lightning.Trainer) -> None:
        self.printed = time.monotonic()
        if not trainer.is_global_zero:
            return
        epochs, done = trainer.max_epochs or 0, trainer.global_step
        steps = epochs * int(trainer.num_training_batches)
        left = (self.printed - self.started) * (steps - done) / max(done - self.first, 1)
        line = (
            f"{self.name}epoch {trainer.current_epoch + 1} of {epochs} "
            f"({100 * done / steps:.0f} %), at most {tqdm.format_interval(left)} left{self.errors}"
        )
        if self.terminal:  # over the line that is rewritten there
            width = shutil.get_terminal_size().columns - 1
            line = f"\r{line[:width]:<{width}}"
        self.unfinished = self.rewrites
        print(line, end="" if self.rewrites else "\n", file=sys.stderr, flush=True)
