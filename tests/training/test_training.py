"""Training: it learns, stops when it should, keeps the best, and gives the same bytes again."""

import re

import pytest
import pytorch_lightning as lightning
import torch

from genre_embeddings import storage
from genre_embeddings.errors import InputError
from genre_embeddings.training.lightning import BestWeights, fit
from tests.small import small_world


@pytest.fixture
def world(settings):
    return small_world(settings)


def fitted(world, record=False, model=None, name="", **train):
    changed = world.settings.train.model_copy(update=train)
    network = world.network(**(model or {}))
    sides = world.ratings("train"), world.ratings("validation")
    return network, *fit(network, *sides, changed, world.settings.seed, record, name=name)


def test_it_learns_and_the_same_seed_gives_the_same_weights(world):
    network, history, best = fitted(world, epochs=4)
    lowest = min(row["validation/rmse"] for row in history)
    assert history[best.epoch - 1]["validation/rmse"] == lowest
    assert lowest < world.ratings("validation").rating.std().item()
    mean = network.genre.mean
    assert not torch.allclose(mean[:, 0], mean[:, 1])  # replicas differ
    again = fitted(world, epochs=4)[0].state_dict()
    assert all(torch.equal(value, again[name]) for name, value in network.state_dict().items())


class Scripted(lightning.LightningModule):
    """A module with written validation errors; its weight is the number of the epoch."""

    def __init__(self, errors):
        super().__init__()
        self.errors, self.network = errors, torch.nn.Linear(1, 1)
        self.automatic_optimization = False

    def training_step(self, batch):  # noqa: ARG002
        torch.nn.init.constant_(self.network.weight, self.current_epoch + 1)
        error = self.errors[self.current_epoch]
        self.log("validation/rmse", error, on_step=False, on_epoch=True, batch_size=1)

    def configure_optimizers(self):
        return None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("errors", "min_epochs", "epochs", "best_epoch"),
    [
        ([1.0, 0.9, 1.1, 1.2, 1.3, 0.1], 1, 4, 2),
        ([1.0, 0.9, 1.1, 1.2, 1.3, 0.1], 3, 5, 2),
        ([1.0, 1.2, 1.3, 1.4, 1.1, 0.8, 0.7], 4, 7, 7),  # worsens early, and recovers
    ],
)
def test_it_stops_when_patience_runs_out_and_keeps_the_best(errors, min_epochs, epochs, best_epoch):
    best = BestWeights(min_epochs, patience=2)
    trainer = lightning.Trainer(
        accelerator="cpu", max_epochs=len(errors), callbacks=[best], logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Scripted(errors), [0])
    assert trainer.current_epoch == epochs
    assert best.epoch == best.weights["weight"].item() == best_epoch


def test_the_network_is_left_with_the_best_epoch(world):
    network, history, best = fitted(world, epochs=6, lr=0.2, patience=6)
    assert len(history) == 6
    for name, value in best.weights.items():
        assert torch.equal(value, network.state_dict()[name]), name


def test_a_loss_that_is_not_a_number_stops_with_what_to_change(world):
    with pytest.raises(InputError, match=r"in epoch 1 .* lower train.lr"):
        fitted(world, lr=1e30, network_lr=1e30)


def test_curves_count_epochs_from_one(world, in_tmp):
    _, history, best = fitted(world, record=True)
    rows = storage.read_json(in_tmp / "plots/train/rmse.json")
    assert [(row["epoch"], row["side"]) for row in rows] == [
        (1, "train"), (2, "train"), (1, "validation"), (2, "validation"),
    ]  # fmt: skip
    assert rows[0]["rmse"] == pytest.approx(history[0]["train/rmse"], rel=1e-5)
    content = storage.read_json(in_tmp / "metrics/train/metrics.json")["fit"]
    assert content["best_epoch"] == best.epoch
    table = (in_tmp / "metrics/train/plots/metrics/validation/rmse.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in table] == ["step", "1", "2"]


def test_progress_counts_epochs_from_one_and_says_how_long_it_takes(world, capsys):
    fitted(world, name="without genres")
    first, last = capsys.readouterr().err.splitlines()
    numbers = r"train RMSE \d\.\d{4}, validation \d\.\d{4}"
    start = r"without genres: epoch 1 of 2 \(50 %\), at most \d\d:\d\d left"
    assert re.fullmatch(rf"{start}, {numbers}", first)
    end = r"without genres: epoch 2 of 2 \(100 %\), at most 00:00 left"
    assert re.fullmatch(rf"{end}, {numbers}", last)


@pytest.mark.parametrize("model", [{"embedding": "point"}, {"genres": False}, {"time": "none"}])
def test_variants_train(world, model):
    _, history, _ = fitted(world, model=model)
    assert history[-1]["validation/rmse"] < 2
