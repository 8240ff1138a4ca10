"""A project folder with a small trained model, and stage train as a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from genre_embeddings.model.serialization import save_model
from genre_embeddings.settings import Settings
from genre_embeddings.training.neighbourhood import fit_neighbourhood
from stages import train
from tests.conftest import ROOT, small_settings
from tests.small import small_world, write_world


def train_project(folder: Path, **model) -> Path:
    """Prepare, split and train in `folder`, which is returned."""
    world = small_world(small_settings(), epochs=10, patience=10)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_world(world)
        network = world.fit(**model)[0]
        fit_neighbourhood(network, world.ratings("train"))
        save_model(network, world.sides["train"])
    return folder


def write_settings(settings: Settings) -> None:
    """Write params.yaml in the working directory."""
    Path("params.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json")))


def start_training(settings: Settings) -> subprocess.Popen[str]:
    """Start stage train in the working directory, in a process group of its own."""
    write_settings(settings)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "COV"))}
    return subprocess.Popen(
        [sys.executable, "-m", "stages.train"],
        env=kept | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def train_stage(settings: Settings, status: int = 0) -> str:
    """Run stage train in the working directory to its end; what it said."""
    with start_training(settings) as process:
        try:
            said, _ = process.communicate(timeout=300)
        finally:
            process.kill()
    assert process.returncode == status, said
    return said


def train_here(settings: Settings) -> None:
    """Run stage train in the working directory in this process, which has imported torch."""
    write_settings(settings)
    train.main()
