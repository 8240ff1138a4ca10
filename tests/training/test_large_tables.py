"""What changes with the size of the data: rows moved one by one, errors measured on a part."""

import pytest
import torch

from genre_embeddings.model.embedding import EmbeddingTable
from genre_embeddings.training import lightning as training
from genre_embeddings.training.lightning import fit
from genre_embeddings.training.optimizer import RowAdamW
from tests.small import small_world


def run(world, **model):
    network = world.network(**model)
    sides = world.ratings("train"), world.ratings("validation")
    history, _ = fit(network, *sides, world.settings.train, 0, record=False)
    return network, history


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
    _, dense = run(world, **model)
    monkeypatch.setattr(training, "SPARSE_PAYS", 0)
    network, by_row = run(world, **model)
    tables = [network.user, network.movie]
    if network.settings.history:
        tables += [network.user_seen, network.movie_seen]
    assert all(table.sparse for table in tables)
    assert by_row != dense
    assert by_row[-1]["validation/rmse"] == pytest.approx(dense[-1]["validation/rmse"], rel=0.02)


def test_a_part_of_the_training_ratings_tells_their_error(settings, monkeypatch):
    world = small_world(settings)
    network, whole = run(world, time="none")
    monkeypatch.setattr(training, "EVALUATION_BATCH", 16)
    monkeypatch.setattr(training, "MEASURED", 400)
    again, part = run(world, time="none")
    assert part[-1]["train/rmse"] != whole[-1]["train/rmse"]
    assert part[-1]["train/rmse"] == pytest.approx(whole[-1]["train/rmse"], rel=0.1)
    assert part[-1]["validation/rmse"] == pytest.approx(whole[-1]["validation/rmse"], rel=1e-5)
    assert torch.equal(network.user.mean, again.user.mean)
