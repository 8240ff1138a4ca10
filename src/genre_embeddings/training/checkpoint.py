"""Checkpoints for resuming an interrupted training, one for each epoch.

A checkpoint is found by a key: a hash of everything that decides the result. These are the
settings, the seed, the untrained network, the training and validation ratings, this package's
code and the versions of libraries. So only the same training resumes from it, in whichever copy of
the project, and the result has the same bytes as without the interruption.

Checkpoints are under .dvc/tmp/ of the main checkout, which no experiment tracks. An output with
`persist` would make DVC return an old model as the result of a new experiment.
"""

from __future__ import annotations

import os
import shutil
import sys
import zipfile
from collections.abc import Iterable
from contextlib import suppress
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import Tensor, distributed

from genre_embeddings.training.replicas import is_first_process

KEPT = 3
"""How many unfinished trainings of other settings to keep; older ones are removed."""
FILE = "checkpoint.ckpt"
INHERITED = "GENRE_EMBEDDINGS_CHECKPOINT"
"""Environment variable that gives a process's children the path of the first checkpoint."""


def key_of(parts: Iterable[str], tensors: Iterable[Tensor]) -> str:
    """Key of a training: 32 hexadecimal digits that change with everything it depends on."""
    found = blake2b(digest_size=16)
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        found.update(path.name.encode() + path.read_bytes())
    libraries = [f"{name} {version(name)}" for name in ("torch", "pytorch-lightning", "numpy")]
    hardware = f"{torch.get_num_threads()} threads, {torch.cuda.is_available()}"
    for part in (sys.version, hardware, *libraries, *parts):
        found.update(part.encode() + b"\0")
    for tensor in tensors:
        found.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


class Scratch:
    """The checkpoints of one stage: `with Scratch() as scratch: fit(..., scratch)`.

    They are removed when the stage succeeds, and stay when it fails or is killed. If two processes
    run the same training at the same time, the second writes no checkpoints.
    """

    def __init__(self, folder: Path | None = None, quiet: bool = False) -> None:
        """`folder` is .dvc/tmp/training of the main checkout by default.

        `quiet` leaves out the line about an interruption.
        """
        root = Path(os.environ.get("DVC_ROOT", "."))
        self.folder = (folder or root / ".dvc/tmp/training").absolute()
        self.quiet = quiet
        self.locks: dict[Path, FileLock] = {}

    def __enter__(self) -> Scratch:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        stopped = kind is not None and issubclass(kind, (KeyboardInterrupt, SystemExit))
        if stopped and not self.quiet and os.environ.get("LOCAL_RANK", "0") == "0":
            started = any((place / FILE).exists() for place in self.locks)
            again = "resumes training after the last whole epoch" if started else "starts it again"
            print(f"training was interrupted: the same command {again}", file=sys.stderr)
        for place, lock in self.locks.items():
            if kind is None:
                shutil.rmtree(place, ignore_errors=True)
            lock.release()

    def claim(self, key: str, share: bool = False) -> Path | None:
        """The file for a training's checkpoint; it exists if that training was interrupted.

        Args:
            key: from `key_of`.
            share: whether several processes train together, and use the same file.

        Returns:
            The path; None if the folder cannot be written, or another process has the key.
        """
        if share and distributed.is_initialized():
            claimed = [self._claim(key) if is_first_process() else None]
            distributed.broadcast_object_list(claimed)
            return claimed[0]
        # The processes of the first training do not know each other yet: the first starts the rest.
        if share and (inherited := os.environ.get(INHERITED)) is not None:
            return Path(inherited) if inherited else None
        file = self._claim(key)
        if share:
            os.environ[INHERITED] = str(file or "")
        return file

    def _claim(self, key: str) -> Path | None:
        """`claim`, for this process alone."""
        place = self.folder / key
        file = place / FILE if self._lock(place) else None
        if file:
            with suppress(OSError):  # another process may remove them at the same time
                self._remove_old()
            if file.exists() and not _is_whole(file):
                file.unlink()
        return file

    def _lock(self, place: Path) -> bool:
        try:
            place.mkdir(parents=True, exist_ok=True)
            lock = FileLock(f"{place}.lock", timeout=0)
            lock.acquire()
        except (OSError, Timeout):
            return False
        self.locks[place] = lock
        return True

    def _remove_old(self) -> None:
        """Remove the oldest checkpoints of other trainings, unless a process is using them."""
        others = [path for path in self.folder.iterdir() if path.is_dir()]
        others = sorted(set(others) - self.locks.keys(), key=lambda path: -path.stat().st_mtime_ns)
        for place in others[KEPT:]:
            with suppress(OSError, Timeout), FileLock(f"{place}.lock", timeout=0):
                shutil.rmtree(place, ignore_errors=True)


def _is_whole(file: Path) -> bool:
    """Whether a checkpoint, which is a zip archive with checksums, is complete."""
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False
