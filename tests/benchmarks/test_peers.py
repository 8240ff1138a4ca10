"""The light parts of the benchmarks of quality: mathematics of the tables, a run, the options."""

import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.measuring import measured, replace_generated, table, write_params
from benchmarks.quality.peers.__main__ import Run, best, changes_of, parse, rows_of, summarise
from benchmarks.quality.peers.worker import Stopwatch
from benchmarks.quality.seconds import draw
from benchmarks.quality.seconds import rows_of as rows_of_fits
from genre_embeddings.errors import InputError
from genre_embeddings.evaluation.metrics import UserSums, user_sums


def sums(user: list[int], error: list[float]) -> UserSums:
    return user_sums(np.array(user), np.array(error), users=3)


def test_errors_are_means_over_splits() -> None:
    # Split 0: squared errors 1, 1, 4 -> mse 2; split 1: 0, 4 -> mse 2, of other users.
    peer = [sums([0, 0, 1], [1, -1, 2]), sums([1, 2], [0, 2])]
    # Split 0: 1, 1, 1 -> mse 1; split 1: 0, 0 -> mse 0.
    ours = [sums([0, 0, 1], [1, 1, 1]), sums([1, 2], [0, 0])]
    found = summarise({"peer": peer, "ours": ours}, np.random.default_rng(0))
    error, ratio = found["peer"]
    assert (error, ratio.estimate) == pytest.approx((2, 0.25))
    assert found["ours"][1].low == found["ours"][1].high == 1


def test_ratios_are_paired() -> None:
    # Users differ by far more than the models do: only a paired interval excludes 1.
    generator = np.random.default_rng(0)
    squared = generator.uniform(0, 10, 200)
    ones = np.ones(200)
    model, ours = [UserSums(ones, squared * 1.01)], [UserSums(ones, squared)]
    _, ratio = summarise({"peer": model, "ours": ours}, generator)["peer"]
    assert ratio.low == pytest.approx(ratio.high) == pytest.approx(1 / 1.01)


def test_rows_have_the_settings_that_are_best_on_validation() -> None:
    # The second choice is best on validation and worst on test: it is the one that counts.
    choices = [[Run(sums([0], [1]), 0.5)], [Run(sums([0], [2]), 0.1)]]
    assert best(choices) == choices[1]
    peer, ours = rows_of({"lenskit": choices, "ours": [[Run(sums([0], [1]), float("nan"))]]})
    ratio = "0.2500 [0.2500, 0.2500]"
    assert peer == {"model": "LensKit", "MSE": "4.0000", "ours ÷ model, MSE": ratio}
    assert ours["ours ÷ model, MSE"] == ""


def test_predictions_on_the_way_cost_no_seconds_of_fit() -> None:
    watch = Stopwatch()
    with watch.paused():
        time.sleep(0.2)
        sum(range(10**6))
    watch.note(np.array([1.0, -3.0]))
    clock, cpu, error = watch.points[0]
    assert clock < 0.1
    assert cpu < 0.01
    assert error == 5


def test_a_peer_is_passed_at_the_first_better_epoch(tmp_path: Path) -> None:
    ours = {"points": [[2, 1, 0.9], [4, 2, 0.7], [6, 3, 0.6]], "end": [6, 3, 0.6]}
    peers = {"lenskit": {"points": [[9, 8, 0.8]], "end": [9, 8, 0.8]}}
    peers["myfm"] = {"points": [[20, 15, 0.5]], "end": [20, 15, 0.5]}
    fast = {"points": [[1, 1, 0.75], [2, 2, 0.72]], "end": [2, 2, 0.72]}
    fits = {"ml-latest-small": {"ours": ours, "ours, fast": fast, **peers}}
    rows = [*rows_of_fits(fits)]
    assert [row["ours, passes it after CPU s"] for row in rows] == ["", "", 2, "no"]
    assert [row["ours, fast, passes it after CPU s"] for row in rows] == ["", "", 1, "no"]
    draw(fits, tmp_path / "seconds.png")
    assert (tmp_path / "seconds.png").stat().st_size > 0


def test_peers_need_their_environment(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse(["--only", "ours", "linear"]).only == ["linear", "ours"]
    with pytest.raises(SystemExit):
        parse([])
    assert "the peers need --python" in capsys.readouterr().err


def test_settings_are_checked_before_any_work(tmp_path: Path) -> None:
    arguments = ["--only", "ours", "-S", "model.hidden=[]"]
    write_params(tmp_path, changes_of(parse(arguments)))
    assert "hidden: []" in (tmp_path / "params.yaml").read_text()
    with pytest.raises(InputError, match="dims is not a setting"):
        write_params(tmp_path, changes_of(parse([*arguments, "-S", "model.dims=8"])))


def test_a_command_is_measured_or_says_why_it_failed(tmp_path: Path) -> None:
    script = "block = bytearray(64 * 2**20); print('no such luck'); raise SystemExit({})"
    cost = measured([sys.executable, "-c", script.format(0)], tmp_path)
    assert 64 * 2**20 < cost.peak_bytes < 2**30
    assert cost.seconds > 0
    with pytest.raises(SystemExit, match="no such luck"):
        measured([sys.executable, "-c", script.format(1)], tmp_path)


def test_a_page_keeps_what_is_written_by_hand(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- begin a -->\nold\n<!-- end a -->\nafter\n")
    replace_generated(page, "a", table([{"n": 1234, "x": 0.12345}]))
    generated = "| n | x |\n| --- | --- |\n| 1,234 | 0.123 |"
    assert page.read_text() == (
        f"before\n<!-- begin a -->\n\n{generated}\n\n<!-- end a -->\nafter\n"
    )
    with pytest.raises(ValueError, match="has no <!-- begin b -->"):
        replace_generated(page, "b", "")
