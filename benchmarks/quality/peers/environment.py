"""An environment of the peers' own, made once and kept in the per-user cache.

Nothing is installed into the environment that runs the benchmark: the peers' dependencies are
not this project's, and some contradict them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from genre_embeddings.data.sources.download import CACHE_VARIABLE, cache_folder
from genre_embeddings.errors import InputError

REQUIREMENTS = Path(__file__).with_name("requirements.txt")


def versions() -> dict[str, str]:
    """The pinned version of every package in the peers' environment."""
    lines = (line.partition("#")[0].strip() for line in REQUIREMENTS.read_text().splitlines())
    return dict(line.split("==") for line in lines if line)


def peers_python() -> Path:
    """The interpreter of the peers' environment, made first where it is not there yet.

    The folder's name is a hash of the pinned versions and the version of Python, so another list
    of versions is another environment. It is built under a name of this process's own and moved
    into place when complete: nothing half-installed is ever used.

    Raises:
        InputError: the environment cannot be made.
    """
    key = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()[:16]
    home = cache_folder() / "peers" / key
    python = Path("Scripts/python.exe") if os.name == "nt" else Path("bin/python")
    if not home.is_dir():
        print(f"making the peers' environment once, in {home} (minutes) …", flush=True)
        building = home.with_name(f"{key}.{os.getpid()}")
        try:
            _build(building, building / python)
            try:
                building.rename(home)
            except OSError:
                if not home.is_dir():  # else another process was faster
                    raise
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return home / python


def _build(folder: Path, python: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--only-binary=:all:"]
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [*install, "--disable-pip-version-check", "-r", str(REQUIREMENTS)],
    ):
        done = subprocess.run(command, text=True, stderr=subprocess.PIPE, check=False)
        if done.returncode:
            raise InputError(
                f"the peers' environment could not be made: `{' '.join(command)}` said\n"
                f"{done.stderr.strip()[-2000:]}\n"
                "It needs the network and some 2 to 7 GB of disk, once; the environment variable "
                f"{CACHE_VARIABLE} names another folder for it."
            )
