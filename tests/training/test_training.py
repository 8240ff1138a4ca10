"""Training: it learns, stops when it should, keeps the best, and gives the same bytes again."""

import pytest
import torch

from genre_embeddings import storage
from genre_embeddings.errors import InputError
from genre_embeddings.training.lightning import BestWeights, fit
from tests.small import small_world


@pytest.fixture
def world(settings):
    return small_world(settings)


def fitted(world, record=False, **train):
    changed = world.settings.train.model_copy(update=train)
    network = world.network()
    sides = world.ratings("train"), world.ratings("validation")
    history, best = fit(network, *sides, changed, world.settings.seed, record=record)
    return network, history, best


def test_it_learns(world):
    _, history, best = fitted(world, epochs=4)
    assert history[-1]["train/rmse"] < 0.9 * history[0]["train/rmse"] or best.epoch > 1
    assert best.rmse == min(row["validation/rmse"] for row in history)
    spread = world.ratings("validation").rating.std().item()
    assert best.rmse < spread


def test_the_same_seed_gives_the_same_weights(world):
    first, *_ = fitted(world)
    again, *_ = fitted(world)
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_replicas_differ(world):
    network, *_ = fitted(world)
    mean = network.genre.mean
    assert not torch.allclose(mean[:, 0], mean[:, 1])


class Scripted:
    """A trainer and a module in one, whose validation errors are written beforehand."""

    def __init__(self, errors):
        self.errors, self.history, self.should_stop = errors, [], False
        self.network = torch.nn.Linear(1, 1)

    def finish_epoch(self):
        epoch = len(self.history) + 1
        torch.nn.init.constant_(self.network.weight, float(epoch))
        self.history.append({"epoch": epoch, "validation/rmse": self.errors[epoch - 1]})
        return self.history[-1]

    def run(self, best):
        while not self.should_stop and len(self.history) < len(self.errors):
            best.on_train_epoch_end(self, self)
        return len(self.history)


def test_a_loss_that_worsens_early_and_recovers_is_not_stopped():
    best = BestWeights(min_epochs=4, patience=2)
    script = Scripted([1.0, 1.2, 1.3, 1.4, 1.1, 0.8, 0.7])
    assert script.run(best) == 7
    assert (best.epoch, best.rmse) == (7, 0.7)


def test_it_stops_when_patience_runs_out_and_keeps_the_best():
    best = BestWeights(min_epochs=2, patience=2)
    script = Scripted([1.0, 0.9, 1.1, 1.2, 0.1])
    assert script.run(best) == 4
    assert best.epoch == 2
    assert best.weights["weight"].item() == 2.0


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
    assert table[0].split("\t") == ["step", "rmse"]
    assert [line.split("\t")[0] for line in table[1:]] == ["1", "2"]


@pytest.mark.parametrize("model", [{"embedding": "point"}, {"genres": False}, {"time": False}])
def test_variants_train(world, model):
    network = world.network(**model)
    sides = world.ratings("train"), world.ratings("validation")
    history, _ = fit(network, *sides, world.settings.train, 0, record=False)
    assert history[-1]["validation/rmse"] < 2
