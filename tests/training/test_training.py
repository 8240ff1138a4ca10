"""Training learns, stops early, keeps the best epoch and repeats its bytes."""

import re

import pytest
import pytorch_lightning as lightning
import torch

from genre_embeddings import storage
from genre_embeddings.errors import InputError
from genre_embeddings.model.embedding import EmbeddingTable
from genre_embeddings.training import lightning as training
from genre_embeddings.training.callbacks import BestWeights
from genre_embeddings.training.optimizer import RowAdamW
from tests.small import small_world


def test_it_learns_and_the_same_seed_gives_the_same_weights(settings):
    world = small_world(settings, epochs=6, lr=0.2, patience=6)
    network, history, best = world.fit()
    assert len(history) == 6
    lowest = min(row["validation/rmse"] for row in history)
    assert history[best.epoch - 1]["validation/rmse"] == lowest
    assert lowest < world.ratings("validation").rating.std().item()
    mean = network.genre.mean
    assert not torch.allclose(mean[:, 0], mean[:, 1])  # replicas differ
    weights = network.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in best.weights.items())
    again = world.fit()[0].state_dict()
    assert all(torch.equal(value, again[name]) for name, value in weights.items())


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


def test_a_loss_that_is_not_a_number_stops_with_what_to_change(settings):
    with pytest.raises(InputError, match=r"in epoch 1 .* lower train.lr"):
        small_world(settings, lr=1e30, network_lr=1e30).fit()


def test_curves_and_progress_count_epochs_from_one(world, in_tmp, capsys):
    _, history, best = world.fit(record=True, name="without genres")
    rows = storage.read_json(in_tmp / "plots/train/rmse.json")
    assert [(row["epoch"], row["side"]) for row in rows] == [
        (1, "train"), (2, "train"), (1, "validation"), (2, "validation"),
    ]  # fmt: skip
    assert rows[0]["rmse"] == pytest.approx(history[0]["train/rmse"], rel=1e-5)
    content = storage.read_json(in_tmp / "metrics/train/metrics.json")["fit"]
    assert content["best_epoch"] == best.epoch
    table = (in_tmp / "metrics/train/plots/metrics/validation/rmse.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in table] == ["step", "1", "2"]
    first, last = capsys.readouterr().err.splitlines()
    numbers = r"train RMSE \d\.\d{4}, validation \d\.\d{4}"
    start = r"without genres: epoch 1 of 2 \(50 %\), at most \d\d:\d\d left"
    assert re.fullmatch(rf"{start}, {numbers}", first)
    end = r"without genres: epoch 2 of 2 \(100 %\), at most 00:00 left"
    assert re.fullmatch(rf"{end}, {numbers}", last)


def test_a_gradient_of_rows_is_the_dense_one():
    table = EmbeddingTable(5, 2, 2, True, torch.Generator().manual_seed(0), bias=0.3)
    rows, gradients = torch.tensor([3, 1, 3]), []
    for table.sparse in (False, True):
        table.zero_grad()
        mean, variance = table(rows, variances=True)
        (
            mean.square().sum()
            + variance.sum()
            + table.kl(rows).sum()
            + table.kl(slice(4, None)).sum()
        ).backward()
        gradients.append((table.mean.grad, table.log_std.grad))
    for dense, sparse in zip(*gradients, strict=True):
        assert sparse.is_sparse
        assert torch.allclose(sparse.to_dense(), dense, atol=1e-6)


def test_rows_of_every_step_move_as_in_adamw_and_the_others_stay():
    start = torch.arange(6.0).view(3, 1, 2)
    dense, sparse = torch.nn.Parameter(start[1:].clone()), torch.nn.Parameter(start.clone())
    options = {"lr": 0.1, "weight_decay": 0.2}
    ordinary, by_row = torch.optim.AdamW([dense], **options), RowAdamW([sparse], **options)
    for step in range(1, 5):
        if step == 3:  # as after a checkpoint
            by_row.load_state_dict(by_row.state_dict())
        gradient = torch.tensor([[[1.0, -2.0]], [[0.5, 3.0]]]) * step
        dense.grad = gradient
        index = torch.tensor([[2, 1, 1]])
        parts = torch.cat([gradient[1:], gradient[:1] / 4, gradient[:1] * 3 / 4])
        sparse.grad = torch.sparse_coo_tensor(index, parts, (3, 1, 2), check_invariants=True)
        ordinary.step()
        by_row.step()
    assert torch.allclose(sparse[1:], dense, atol=1e-6)
    assert torch.equal(sparse[0], start[0])


@pytest.mark.parametrize("model", [{}, {"embedding": "point", "history": 0}])
def test_a_model_learns_as_well_by_rows(settings, monkeypatch, model):
    world = small_world(settings, epochs=4)
    _, dense, _ = world.fit(**model)
    monkeypatch.setattr(training, "SPARSE_PAYS", 0)
    network, by_row, _ = world.fit(**model)
    tables = [network.user, network.movie]
    if network.settings.history:
        tables += [network.user_seen, network.movie_seen]
    assert all(table.sparse for table in tables)
    assert by_row != dense
    assert by_row[-1]["validation/rmse"] == pytest.approx(dense[-1]["validation/rmse"], rel=0.02)


def test_a_part_of_the_training_ratings_tells_their_error(world, monkeypatch):
    network, whole, _ = world.fit(time="none")
    monkeypatch.setattr(training, "EVALUATION_BATCH", 16)
    monkeypatch.setattr(training, "MEASURED", 400)
    again, part, _ = world.fit(time="none")
    assert part[-1]["train/rmse"] != whole[-1]["train/rmse"]
    assert part[-1]["train/rmse"] == pytest.approx(whole[-1]["train/rmse"], rel=0.1)
    assert part[-1]["validation/rmse"] == pytest.approx(whole[-1]["validation/rmse"], rel=1e-5)
    assert torch.equal(network.user.mean, again.user.mean)
