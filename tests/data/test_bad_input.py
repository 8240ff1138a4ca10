"""Input and places that cannot be used: a line says so, the old files stay, nothing is left."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from genre_embeddings import storage
from genre_embeddings.errors import InputError
from genre_embeddings.inference import export as exporting
from genre_embeddings.inference.predict import predict_file
from genre_embeddings.inference.trained import open_model
from genre_embeddings.model.serialization import load_model, save_model
from tests.conftest import ROOT
from tests.trained import train_project

resource = pytest.importorskip("resource")  # no limits to set on Windows


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train_project(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def project(trained, tmp_path, monkeypatch):
    """A copy of a project with a trained model, as the working directory."""
    folder = tmp_path / "project"
    shutil.copytree(trained, folder)
    pairs = "".join(f"{1 + n % 80},{1 + n % 60}\n" for n in range(3000))
    (folder / "pairs.csv").write_text(f"userId,movieId\n{pairs}")
    (folder / "old.csv").write_text("old")
    monkeypatch.chdir(folder)
    return folder


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_places_that_cannot_be_written(project):
    before, model = everything(project), open_model()
    for write, message in (
        (lambda: predict_file(model, Path("pairs.csv"), Path("models")), "models is a folder, and"),
        (lambda: predict_file(model, Path("pairs.csv"), Path("old.csv/new")), "old.csv is no fol"),
        (lambda: predict_file(model, Path("data"), Path("old.csv")), "data is not a file: give a"),
    ):
        with pytest.raises(InputError, match=message):
            write()
    assert everything(project) == before


def test_a_folder_that_is_read_only(project):
    closed = project / "closed"
    closed.mkdir()
    (closed / "old.csv").write_text("old")
    command = [sys.executable, ROOT / "genres", "predict", "pairs.csv", "--out", "closed/old.csv"]
    if os.geteuid() == 0:  # root writes where it may not, unless it gives that up
        if not shutil.which("setpriv"):
            pytest.skip("root cannot be kept from writing without setpriv")
        weaker = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"]
        command = [*weaker, *command]
    closed.chmod(0o555)
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    finally:
        closed.chmod(0o755)
    said = (
        "error: closed/old.csv: Permission denied. Nothing was replaced; mend it and run again.\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)
    assert everything(closed) == {"old.csv": b"old"}


@pytest.fixture(params=["a file as large as it may be", "a full disk"])
def no_room(project, request) -> Iterator[Path]:
    """The project again, where little more than what is there can be written."""
    if request.param == "a full disk":
        disk = project.with_name("disk")
        disk.mkdir()
        size = sum(map(len, everything(project).values())) // 1024 + 100
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", disk]
        if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("a file system of one's own is root's")
        try:
            shutil.copytree(project, disk, dirs_exist_ok=True)
            os.chdir(disk)
            Path("fill").write_bytes(bytes(shutil.disk_usage(disk).free - 8192))
            yield disk
        finally:
            os.chdir(project)
            subprocess.run(["umount", "--lazy", disk], check=True)
        return
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        yield project
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_disk_that_is_full(no_room):
    network, model = load_model(), open_model()
    Path("exports").mkdir()
    before = everything(no_room)
    large = np.arange(100_000)

    def column() -> None:
        with storage.replacing_sides() as folders:
            storage.write_column(folders["train"] / "user.npy", large)

    for name, write in {
        "models": lambda: save_model(network),
        "old.csv": lambda: predict_file(model, Path("pairs.csv"), Path("old.csv")),
        "exports": lambda: exporting.export(model, Path("exports")),
        "data/split": column,
        "metrics/m.json": lambda: storage.write_json(Path("metrics/m.json"), [*range(9999)]),
    }.items():
        with pytest.raises(OSError, match=r"No space left on device|File too large") as raised:
            write()
        assert raised.value.errno
        assert str(raised.value.filename).startswith(name) or name == "data/split"
        assert everything(no_room) == before, name
    assert np.array_equal(load_model().user_counts, network.user_counts)


def test_streams(project):
    """Rows are appended where the shell says so; a full disk and a closed pipe are no bugs."""
    pairs = "userId,movieId\n1,1\n"
    (project / "few.csv").write_text(pairs)
    predict = f"{sys.executable} {ROOT / 'genres'} predict"
    for command, status, out, said in (
        ("few.csv --out /dev/fd/1 >> old.csv", 0, "", "predicted 1 rows"),
        ("few.csv --out models/tables.json", 1, "", "error: --out models/tables.json lies in the"),
        ("few.csv --out /dev/full", 1, "", "error: /dev/full: No space left on device. Nothing"),
        ("pairs.csv --out /dev/stdout | head -n 1; exit ${PIPESTATUS[0]}", 1, "userId,", ""),
    ):
        shell = ["bash", "-c", f"{predict} {command}"]
        done = subprocess.run(shell, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr[: len(said) or None]) == (status, said), done.stderr
        assert done.stdout.startswith(out)
    assert (project / "old.csv").read_text().startswith("olduserId,movieId,prediction")


def test_what_a_stage_made_and_was_damaged(project):
    users = storage.PREPARED / "users.parquet"
    for path, read in {
        users: lambda: storage.read_table(users),
        storage.PREPARED / "meta.json": storage.read_meta,
        storage.SPLIT / "train/user.npy": lambda: storage.read_side("train"),
    }.items():
        whole = path.read_bytes()
        for content in (b"", whole[: len(whole) // 2], b"\xff" * 100):
            path.write_bytes(content)
            with pytest.raises(
                InputError, match=rf"{path} is damaged .*`dvc repro (prepare|split)"
            ):
                read()
