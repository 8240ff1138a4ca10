"""An interrupted training goes on where it was, to the same bytes, and never as another's."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from genre_embeddings.settings import Settings
from genre_embeddings.training import checkpoint as resuming
from genre_embeddings.training import lightning as training
from genre_embeddings.training.checkpoint import KEPT, Scratch, key_of
from genre_embeddings.training.lightning import Fitting, fit
from tests.conftest import changed
from tests.project import make_project
from tests.small import small_world, write_world
from tests.trained import start_training, train_stage

# So many that a training is far from its end when it is interrupted, on a busy machine too
EPOCHS = 60
LONG = 200
PLACE = Path(".dvc/tmp/training")
RESUMED = "resuming the interrupted training"


@pytest.fixture
def settings_here(settings, in_tmp) -> Settings:
    """A tiny world, prepared and split in the working directory, and its settings."""
    world = small_world(settings, epochs=EPOCHS, patience=EPOCHS)
    write_world(world)
    return world.settings


def wait_for(condition, process: subprocess.Popen) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.005)


def epochs_done(folder: Path = Path()) -> int:
    try:
        rows = json.loads((folder / "plots/train/loss.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return 0
    return max((row["epoch"] for row in rows), default=0)


def interrupt(settings: Settings, epochs: int, how: int = signal.SIGKILL) -> str:
    """Train until so many epochs have a checkpoint, then send the signal to all; what was said."""
    shutil.rmtree("plots", ignore_errors=True)
    with start_training(settings) as process:
        # The curves are written before the checkpoint: the next epoch's say that it is there.
        wait_for(lambda: epochs_done() > epochs, process)
        os.killpg(process.pid, how)
        said, _ = process.communicate(timeout=60)
    assert process.returncode != 0, said
    return said


def results() -> dict[str, bytes]:
    """All that stage train wrote."""
    return {
        str(file): file.read_bytes()
        for name in ("models", "metrics", "plots")
        for file in sorted(Path(name).rglob("*"))
        if file.is_file()
    }


def forget() -> None:
    for name in ("models", "metrics", "plots"):
        shutil.rmtree(name, ignore_errors=True)


@pytest.mark.pipeline
def test_a_killed_training_ends_with_the_bytes_of_an_uninterrupted_one(settings_here):
    train_stage(settings_here)
    whole = results()
    forget()
    for epochs, how in ((2, signal.SIGTERM), (4, signal.SIGINT), (6, signal.SIGKILL)):
        said = interrupt(settings_here, epochs, how)
        assert "Traceback" not in said
        resumes = "the same command resumes training after the last whole epoch"
        assert said.count(resumes) == (how != signal.SIGKILL)
        assert not Path("models").exists()
    said = train_stage(settings_here)
    assert RESUMED in said
    assert "\nepoch 6 of" not in said  # the main model; lines of the other begin with its name
    assert results() == whole
    rows = json.loads(whole["plots/train/loss.json"])
    assert [row["epoch"] for row in rows] == 2 * [*range(1, EPOCHS + 1)]
    assert not [path for path in PLACE.iterdir() if path.is_dir()]


@pytest.mark.pipeline
def test_two_processes_go_on_together(settings_here):
    both = changed(settings_here, train={"devices": 2, "without_genres": False})
    train_stage(both)
    whole = results()
    forget()
    interrupt(both, 3)
    said = train_stage(both)
    assert said.count(RESUMED) == 1
    assert results() == whole


class CutError(Exception):
    """Ends a training from within."""


@pytest.fixture
def world(settings, in_tmp):
    return small_world(settings, epochs=4, patience=4)


def fitted(world, **train):
    """Weights and curves of a training that keeps checkpoints in the folder scratch."""
    network, sides = world.network(), (world.ratings("train"), world.ratings("validation"))
    changed = world.settings.train.model_copy(update=train)
    with Scratch(Path("scratch").absolute()) as scratch:
        history, _ = fit(network, *sides, changed, world.settings.seed, False, scratch)
    return {name: value.clone() for name, value in network.state_dict().items()}, history


def cut(world, monkeypatch, after: int, **train) -> None:
    """End a training when so many epochs have a checkpoint."""
    finish = Fitting.finish_epoch

    def finish_or_end(self):
        if len(self.history) == after:
            raise CutError
        return finish(self)

    with monkeypatch.context() as patch:
        patch.setattr(Fitting, "finish_epoch", finish_or_end)
        with pytest.raises(CutError):
            fitted(world, **train)


def test_one_process_goes_on_with_the_same_weights(world, monkeypatch, capsys):
    whole, curves = fitted(world)
    assert not any(Path("scratch").rglob("*.ckpt"))
    for epochs in (1, 3):
        cut(world, monkeypatch, epochs)
    again, history = fitted(world)
    assert capsys.readouterr().err.count(RESUMED) == 2
    assert history == curves
    assert all(torch.equal(value, again[name]) for name, value in whole.items())


def test_tables_with_sparse_gradients_go_on_too(world, monkeypatch):
    monkeypatch.setattr(training, "SPARSE_PAYS", 0)
    whole, curves = fitted(world)
    cut(world, monkeypatch, 2)
    again, history = fitted(world)
    assert history == curves
    assert all(torch.equal(value, again[name]) for name, value in whole.items())


def test_one_that_had_stopped_early_does_not_go_on(world, monkeypatch):
    stopping = {"epochs": 30, "patience": 1, "min_epochs": 2, "lr": 0.3}
    whole, curves = fitted(world, **stopping)
    assert len(curves) < 30
    with monkeypatch.context() as patch:
        # Killed after the last epoch, before the model was saved
        patch.setattr(
            Scratch, "__exit__", lambda self, *_: [lock.release() for _, lock in self.held]
        )
        fitted(world, **stopping)
    again, history = fitted(world, **stopping)
    assert history == curves
    assert all(torch.equal(value, again[name]) for name, value in whole.items())


@pytest.mark.parametrize("change", ["lr", "patience", "seed", "dim", "a rating", "genres"])
def test_another_training_is_not_taken_up(world, monkeypatch, capsys, change):
    cut(world, monkeypatch, 2)
    other, train = world, {}
    if change in ("lr", "patience"):
        train = {"lr": 0.02} if change == "lr" else {"patience": 3}
    elif change == "seed":
        other = replace(world, settings=world.settings.model_copy(update={"seed": 1}))
    elif change == "dim":
        other = replace(world, settings=changed(world.settings, model={"dim": 3}))
    elif change == "a rating":
        side = world.sides["validation"]
        rating = side.rating.copy()
        rating[-1] = 5.5 - rating[-1]
        other = replace(world, sides=world.sides | {"validation": side._replace(rating=rating)})
    else:
        other = replace(world, settings=changed(world.settings, model={"genres": False}))
    fitted(other, **train)
    assert RESUMED not in capsys.readouterr().err


def test_a_damaged_checkpoint_is_not_used(world, monkeypatch, capsys):
    whole, _ = fitted(world)
    cut(world, monkeypatch, 2)
    (file,) = Path("scratch").rglob("checkpoint.ckpt")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    again, _ = fitted(world)
    assert RESUMED not in capsys.readouterr().err
    assert all(torch.equal(value, again[name]) for name, value in whole.items())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_training_does_without_a_checkpoint_when_the_disk_is_full(world, monkeypatch, capsys):
    whole, _ = fitted(world)
    monkeypatch.setattr(Scratch, "claim", lambda *_, **__: Path("/dev/full/checkpoint.ckpt"))
    again, _ = fitted(world)
    assert "no checkpoint was written" in capsys.readouterr().err
    assert all(torch.equal(value, again[name]) for name, value in whole.items())


def stage_processes(folder: Path) -> list[int]:
    """Processes that work on a stage in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.joinpath("cwd").resolve() != folder.resolve():
                continue
            if b"stages.train" in process.joinpath("cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return found


@pytest.mark.pipeline
@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="looks processes up in /proc")
def test_when_dvc_is_killed_its_stage_ends_and_the_next_run_goes_on(base, tmp_path):
    whole = base.copy(tmp_path / "whole")
    whole.change({"train": {"epochs": LONG, "patience": LONG, "without_genres": False}})
    killed = whole.copy(tmp_path / "killed")
    whole.dvc("repro", "train")
    done = 0
    # A shell that gives its place to the stage, and one that stays between DVC and the stage
    for shell in (shutil.which("bash") or "/bin/sh", "/bin/sh"):
        with killed.start_dvc("repro", "train", SHELL=shell) as process:
            wait_for(lambda done=done: epochs_done(killed.folder) > done + 3, process)
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
        end = time.monotonic() + 10
        while stage_processes(killed.folder):
            assert time.monotonic() < end, "the stage goes on without DVC"
            time.sleep(0.05)
        done = epochs_done(killed.folder)
        assert done < LONG, "the stage went on without DVC"
    said = killed.dvc("repro", "train")
    assert RESUMED in said
    assert killed.results() == whole.results()


@pytest.mark.pipeline
def test_an_experiment_is_taken_up_in_a_copy_of_the_project(base, tmp_path):
    project = base.copy(tmp_path / "project")
    settings = (f"epochs={LONG}", f"patience={LONG}", "without_genres=false")
    more = ("train", *(word for setting in settings for word in ("-S", f"train.{setting}")))
    with project.start_dvc("exp", "run", *more) as process:
        wait_for(lambda: 3 < epochs_done(project.folder) < 20, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    project.git("checkout", "--quiet", "--", ".")
    assert RESUMED in project.dvc("exp", "run", "--temp", *more)


def test_the_key_changes_with_every_part():
    column = torch.arange(4.0)
    one = key_of(["a", "b"], [column])
    assert one == key_of(["a", "b"], [column.clone()])
    others = [
        key_of(["ab", ""], [column]),
        key_of(["a", "c"], [column]),
        key_of(["a", "b"], [column + 1]),
        key_of(["a", "b"], [column.int()]),
        key_of(["a", "b"], [column.view(2, 2)]),
        key_of(["a", "b"], []),
    ]
    assert len({one, *others}) == 7


def test_the_key_changes_with_a_line_of_code(tmp_path):
    project = make_project(tmp_path / "project")
    ask = "from genre_embeddings.training.checkpoint import key_of; print(key_of([], []))"

    def key() -> str:
        environment = project.environment() | {"PYTHONPATH": str(project.folder / "src")}
        return subprocess.run(
            [sys.executable, "-c", ask], env=environment, check=True, capture_output=True, text=True
        ).stdout

    first = key()
    assert key() == first
    with (project.folder / "src/genre_embeddings/model/network.py").open("a") as file:
        file.write("# a line more\n")
    assert key() != first


def test_what_is_kept_is_bounded(tmp_path):
    for number in range(KEPT + 4):
        with suppress(CutError), Scratch(tmp_path) as scratch:
            scratch.claim(f"key{number}").write_text("a checkpoint")
            raise CutError
        os.utime(tmp_path / f"key{number}", (number, number))
    left = {path.name for path in tmp_path.iterdir() if path.is_dir()}
    assert left == {f"key{number}" for number in range(3, KEPT + 4)}


def test_what_another_is_at_work_on_is_left_alone(tmp_path):
    with Scratch(tmp_path) as busy:
        oldest = busy.claim("oldest")
        os.utime(oldest.parent, (0, 0))
        for number in range(KEPT + 2):
            (tmp_path / f"key{number}").mkdir()
        with FileLock(tmp_path / "mine.lock"), Scratch(tmp_path) as scratch:
            assert scratch.claim("mine") is None
            assert scratch.claim("oldest") is None
            assert scratch.claim("another") is not None
        assert oldest.parent.exists()
    assert not oldest.parent.exists()


def test_a_folder_that_cannot_be_written_is_done_without(tmp_path):
    (tmp_path / "file").touch()
    with Scratch(tmp_path / "file" / "below") as scratch:
        assert scratch.claim("key") is None


def test_the_checkpoint_lies_in_the_main_checkout(monkeypatch, tmp_path):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert Scratch().folder == tmp_path / ".dvc/tmp/training"
    assert resuming.INHERITED not in os.environ
