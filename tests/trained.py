"""A project folder with a small trained model, for tests of what is done with one."""

from pathlib import Path

import pytest

from genre_embeddings.model import save_model
from genre_embeddings.settings import load_settings
from genre_embeddings.training import fit

from .conftest import ROOT
from .small import small_world, write_world


def train_project(folder: Path, **model) -> Path:
    """Prepare, split and train in `folder`, which is returned."""
    whole = load_settings(ROOT / "params.yaml")
    small = {"users": 80, "movies": 60, "genres": 6, "ratings": 2000}
    planted = whole.planted.model_copy(update=small)
    world = small_world(whole.model_copy(update={"planted": planted}), epochs=10, patience=10)
    network = world.network(**model)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_world(world)
        sides = world.ratings("train"), world.ratings("validation")
        fit(network, *sides, world.settings.train, world.settings.seed, record=False)
        save_model(network)
    return folder
