"""Two processes (gloo, CPU) train the model that one process trains."""

import pytest
import torch
from safetensors.torch import load_file

from genre_embeddings import storage
from genre_embeddings.errors import InputError
from genre_embeddings.settings import Settings
from tests.conftest import changed
from tests.small import small_world, write_world
from tests.trained import train_here, train_stage


def curve() -> list[float]:
    """Loss of both sides, epoch by epoch."""
    return [row["loss"] for row in storage.read_json(storage.PLOTS / "train/loss.json")]


@pytest.fixture
def prepared(settings, in_tmp) -> Settings:
    """Settings of a tiny world that lies prepared and split in the working directory."""
    world = small_world(settings, epochs=3)
    write_world(world)
    return world.settings


@pytest.mark.pipeline
def test_two_processes_give_the_curve_and_the_model_of_one(prepared):
    """Nothing is drawn at random in a step, so that they must find the same numbers."""
    train = {"replicas": 3, "movie_dropout": 0.0, "rare_dropout": 0.0}
    settings = changed(prepared, model={"embedding": "point"}, train=train)
    train_here(settings)
    one, alone = curve(), load_file("models/model.safetensors")
    said = train_stage(changed(settings, train={"devices": 2}))
    assert said.count("trained 3 replicas in batches of 256 ratings for 3 epochs") == 1
    # The line of the other model begins with its name.
    assert sum(line.startswith("epoch 1 of 3") for line in said.splitlines()) == 1
    assert "sync_dist" not in said
    assert "Initializing distributed" not in said
    assert len(one) == 6
    # Rounding alone differs: sums are added in another order.
    assert curve() == pytest.approx(one, rel=1e-5)
    together = load_file("models/model.safetensors")
    # In so small a world the covariances of tastes hardly settle these, and rounding shows.
    settled = {"communality", "genre.mean", "genre_rare", "movie.mean"}
    for name in together.keys() - settled:
        assert torch.allclose(together[name], alone[name], atol=1e-4), name
    first, second = (
        model["movie.mean"][:-1]
        + torch.einsum("mk,krc->mrc", model["genre_share"][:-1], model["genre.mean"])
        for model in (alone, together)
    )
    assert torch.allclose(first, second, atol=1e-4)
    before = storage.model_fingerprint()
    infinite = changed(settings, train={"devices": 2, "lr": 1e30, "network_lr": 1e30})
    assert "in epoch 1 the loss is no longer a finite number" in train_stage(infinite, status=1)
    assert storage.model_fingerprint() == before


def test_nodes_that_were_not_started_are_named_at_once(settings, in_tmp, monkeypatch):
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(InputError, match=r"train.num_nodes is 2, .*torchrun --nnodes=2"):
        small_world(settings, num_nodes=2).fit(record=True)


def test_precision_may_be_lower(settings):
    exact, mixed = (
        small_world(settings, **train).fit()[1] for train in ({}, {"precision": "bf16-mixed"})
    )
    assert exact != mixed
    assert mixed[-1]["validation/rmse"] == pytest.approx(exact[-1]["validation/rmse"], rel=0.02)
