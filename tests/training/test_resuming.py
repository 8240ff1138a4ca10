"""An interrupted training resumes to the same bytes, and no other training uses its checkpoint."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from filelock import FileLock

from genre_embeddings.settings import Settings
from genre_embeddings.training import checkpoint
from genre_embeddings.training import lightning as training
from genre_embeddings.training.checkpoint import KEPT, Scratch
from genre_embeddings.training.lightning import Fitting
from tests.conftest import changed
from tests.small import small_world, write_world
from tests.trained import start_training, train_here, train_stage

# So many that a training is far from its end when it is interrupted, on a busy machine too
EPOCHS = 30
LONG = 80
RESUMED = "resuming the interrupted training"


@pytest.fixture
def settings_here(settings, in_tmp) -> Settings:
    """A tiny world, prepared and split in the working directory, and its settings."""
    world = small_world(settings, epochs=EPOCHS, patience=EPOCHS, without_genres=False)
    write_world(world)
    return world.settings


def epochs_done(folder: Path = Path()) -> int:
    with suppress(FileNotFoundError, json.JSONDecodeError):
        return json.loads((folder / "plots/train/loss.json").read_text())[-1]["epoch"]
    return 0


def kill_after(
    epochs: int, process: subprocess.Popen, how: int, folder: Path = Path(), kill=os.killpg
) -> str:
    """Send a signal to a process group when it has done so many epochs; return its output."""
    end = time.monotonic() + 120
    while epochs_done(folder) <= epochs:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.005)
    kill(process.pid, how)
    return process.communicate(timeout=60)[0]


def interrupt(settings: Settings, epochs: int, how: int = signal.SIGKILL) -> str:
    """Train until so many epochs have a checkpoint, then stop by the signal; return its output."""
    shutil.rmtree("plots", ignore_errors=True)
    with start_training(settings) as process:
        # The curves are written before the checkpoint: the next epoch's say that it is there.
        said = kill_after(epochs, process, how)
    assert process.returncode != 0, said
    return said


def take_results() -> dict[str, bytes]:
    """Remove and return all files that stage train wrote."""
    found = {}
    for name in ("models", "metrics", "plots", "data/ablations"):
        found |= {str(f): f.read_bytes() for f in Path(name).rglob("*") if f.is_file()}
        shutil.rmtree(name, ignore_errors=True)
    return found


@pytest.mark.pipeline
def test_a_killed_training_ends_with_the_bytes_of_an_uninterrupted_one(settings_here):
    train_here(settings_here)
    whole = take_results()
    for epochs, how in ((2, signal.SIGINT), (4, signal.SIGKILL)):
        said = interrupt(settings_here, epochs, how)
        assert "Traceback" not in said
        resumes = "the same command resumes training after the last whole epoch"
        assert said.count(resumes) == (how != signal.SIGKILL)
        assert not Path("models").exists()
    said = train_stage(settings_here)
    assert RESUMED in said
    assert "\nepoch 4 of" not in said
    assert take_results() == whole
    rows = json.loads(whole["plots/train/loss.json"])
    assert [row["epoch"] for row in rows] == 2 * [*range(1, EPOCHS + 1)]
    assert not [path for path in Path(".dvc/tmp/training").iterdir() if path.is_dir()]


@pytest.mark.pipeline
def test_two_processes_resume_together_and_learn_as_one_does_but_for_luck(settings_here):
    settings = changed(settings_here, train={"epochs": 12, "without_genres": True})
    both = changed(settings, train={"devices": 2})
    train_stage(both)
    whole = take_results()
    with start_training(both) as process:
        # Both models have a checkpoint then.
        next(line for line in process.stdout if "without genres: epoch 3 of" in line)
        os.killpg(process.pid, signal.SIGKILL)
    assert train_stage(both).count(RESUMED) == 2
    assert take_results() == whole
    train_here(settings)
    one, two = (
        [row["rmse"] for row in json.loads(content) if row["epoch"] <= 3]
        for content in (Path("plots/train/rmse.json").read_text(), whole["plots/train/rmse.json"])
    )
    assert two == pytest.approx(one, rel=0.05)
    assert two != pytest.approx(one, rel=1e-6)  # the noise of each process is its own


class CutError(Exception):
    """Ends a training from within."""


@pytest.fixture
def world(settings, in_tmp):
    return small_world(settings, epochs=4, patience=4)


def fitted(world, record=False):
    """Weights and curves of a training that keeps checkpoints in the folder scratch."""
    with Scratch(Path("scratch")) as scratch:
        network, history, _ = world.fit(record, scratch=scratch)
    weights = {name: value.numpy().tobytes() for name, value in network.state_dict().items()}
    return weights, history


def cut(world, after: int, error=CutError, record=False) -> None:
    """End a training by an error when so many epochs have a checkpoint."""
    finish = Fitting.finish_epoch

    def finish_or_end(self):
        if len(self.history) == after:
            raise error
        return finish(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Fitting, "finish_epoch", finish_or_end)
        with pytest.raises((CutError, SystemExit)):
            fitted(world, record)


def test_on_a_terminal_the_line_of_progress_ends_before_the_message(world, capsys):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.stderr, "isatty", lambda: True)
        patch.setattr(signal, "signal", lambda *_: None)  # Lightning ignores Ctrl-C afterwards
        cut(world, 1, KeyboardInterrupt, record=True)
    progress, message = capsys.readouterr().err.splitlines()[-2:]
    assert re.fullmatch(
        r"epoch [12] of 4 \(\d+ %\), at most \d\d:\d\d left, train RMSE .*", progress
    )
    assert message.endswith("the same command resumes training after the last whole epoch")


@pytest.mark.parametrize("sparse_pays", [0, 10])
def test_a_training_resumes_with_the_same_weights(world, monkeypatch, capsys, sparse_pays):
    monkeypatch.setattr(training, "SPARSE_PAYS", sparse_pays)
    whole = fitted(world)
    assert not any(Path("scratch").rglob("*.ckpt"))
    for epochs in (1, 3):
        cut(world, epochs)
    assert fitted(world) == whole
    assert capsys.readouterr().err.count(RESUMED) == 2


@pytest.mark.parametrize("most", [3, 30])
def test_one_that_was_at_its_end_does_not_go_on_and_has_all_curves(settings, in_tmp, most):
    """Killed after the last epoch or after it had stopped early, before the model was saved."""
    world = small_world(settings, epochs=most, patience=1, min_epochs=2, lr=0.3)
    whole = fitted(world, record=True)
    assert 3 <= len(whole[1]) < 30
    curves = take_results()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint.shutil, "rmtree", lambda *_, **__: None)
        fitted(world, record=True)
    take_results()
    assert any(Path("scratch").rglob("*.ckpt"))
    assert fitted(world, record=True) == whole
    assert take_results() == curves


def test_another_training_is_not_resumed(world, capsys, tmp_path, monkeypatch):
    cut(world, 2)
    # In a copy of the project, with the same code at first
    code = shutil.copytree(Path(checkpoint.__file__).parents[1], tmp_path / "package")
    monkeypatch.setattr(checkpoint, "__file__", str(code / "training/checkpoint.py"))
    validation = world.sides["validation"]
    rating = validation.rating.copy()
    rating[-1] = 5.5 - rating[-1]
    for other in (
        replace(world, sides=world.sides | {"validation": validation._replace(rating=rating)}),
        replace(world, settings=world.settings.model_copy(update={"seed": 1})),
        replace(world, settings=changed(world.settings, train={"patience": 3})),
        replace(world, settings=changed(world.settings, model={"genres": False})),
    ):
        fitted(other)
    line = code / "extra.py"
    line.write_text("# another line of code\n")
    cut(world, 1)
    assert RESUMED not in capsys.readouterr().err
    line.unlink()
    fitted(world)
    assert RESUMED in capsys.readouterr().err


def test_a_damaged_checkpoint_is_not_used(world, capsys):
    whole = fitted(world)
    cut(world, 2)
    (file,) = Path("scratch").rglob("checkpoint.ckpt")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert fitted(world) == whole
    assert RESUMED not in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_training_does_without_a_checkpoint_when_the_disk_is_full(world, monkeypatch, capsys):
    whole = fitted(world)
    monkeypatch.setattr(Scratch, "claim", lambda *_, **__: Path("/dev/full/checkpoint.ckpt"))
    assert fitted(world) == whole
    assert "no checkpoint was written" in capsys.readouterr().err


def stage_runs(folder: Path) -> bool:
    """Whether a process works on stage train in a folder."""
    return any(
        "stages.train" in " ".join(process.info["cmdline"] or ())
        and process.info["cwd"] == str(folder.resolve())
        for process in psutil.process_iter(["cmdline", "cwd"])
    )


@pytest.mark.pipeline
def test_when_dvc_is_killed_its_stage_ends_and_the_next_run_resumes(base, tmp_path):
    killed = base.copy(tmp_path / "killed")
    killed.change({"train": {"epochs": LONG, "patience": LONG, "without_genres": False}})
    done = 0
    # A shell that gives its place to the stage, and one that stays between DVC and the stage
    for shell in (shutil.which("bash") or "/bin/sh", "/bin/sh"):
        with killed.start_dvc("repro", "train", SHELL=shell) as process:
            kill_after(done + 3, process, signal.SIGKILL, killed.folder, os.kill)  # DVC alone
        end = time.monotonic() + 10
        while stage_runs(killed.folder):
            assert time.monotonic() < end, "the stage goes on without DVC"
            time.sleep(0.05)
        done = epochs_done(killed.folder)
        assert done < LONG, "the stage went on without DVC"
    assert RESUMED in killed.dvc("repro", "train")
    assert epochs_done(killed.folder) == LONG


def test_the_oldest_checkpoints_are_removed_but_not_those_in_use(tmp_path):
    with Scratch(tmp_path) as busy:
        oldest = busy.claim("oldest")
        os.utime(oldest.parent, (0, 0))
        for number in range(1, KEPT + 5):
            with suppress(CutError), Scratch(tmp_path) as scratch:
                scratch.claim(str(number)).write_text("a checkpoint")
                raise CutError
            os.utime(tmp_path / str(number), (number, number))
        left = {path.name for path in tmp_path.iterdir() if path.is_dir()}
        assert left == {"oldest", *(str(number) for number in range(4, KEPT + 5))}
        with FileLock(tmp_path / "mine.lock"), Scratch(tmp_path) as scratch:
            assert scratch.claim("mine") is None
            assert scratch.claim("oldest") is None
    assert not oldest.parent.exists()


def test_checkpoints_lie_in_the_main_checkout_if_it_can_be_written(monkeypatch, tmp_path):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert Scratch().folder == tmp_path / ".dvc/tmp/training"
    (tmp_path / "file").touch()
    assert Scratch(tmp_path / "file" / "below").claim("key") is None
