"""Threads and the environment: the statements of docs/results/robustness.md about equal bytes."""

import os
import subprocess
import sys

import pytest
import torch

from genre_embeddings.model.serialization import configure_torch
from tests.small import small_world


@pytest.mark.skipif(torch.cuda.is_available(), reason="is said of the CPU")
def test_threads_change_no_more_than_last_digits(settings, in_tmp, monkeypatch):
    # Steps large enough for torch to divide them among threads
    world = small_world(settings, epochs=2, batch_size=2000, replicas=2)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def trained(count: int):
        configure_torch(count)
        network, history, best = world.fit(dim=16, hidden=(64,))
        assert torch.get_num_threads() == count
        return network.state_dict(), [row["validation/rmse"] for row in history], best.epoch

    before = torch.get_num_threads()
    try:
        configure_torch(0)
        assert torch.get_num_threads() == before
        one, two, again = trained(1), trained(2), trained(2)
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(value, again[0][name]) for name, value in two[0].items())
    assert two[1:] == again[1:]
    for name, value in one[0].items():
        torch.testing.assert_close(two[0][name], value, rtol=1e-3, atol=1e-3)
    assert two[1] == pytest.approx(one[1], abs=1e-4)
    assert two[2] == one[2]


def test_the_environment_does_not_change_what_a_stage_computes():
    code = (
        "import stages, numpy; draws = numpy.random.default_rng(0).normal(size=(300, 300));"
        "print(numpy.linalg.eigh(draws).eigenvectors.tobytes().hex())"
    )
    one, two = (
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"OMP_NUM_THREADS": count},
            capture_output=True, text=True, check=True,
        ).stdout
        for count in "12"
    )  # fmt: skip
    assert one == two
