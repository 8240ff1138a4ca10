"""Input and places that cannot be used: a line says so, the old files stay, nothing is left."""

import os
import shutil
import subprocess
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
        (lambda: storage.replacing_folder(Path("old.csv")).__enter__(), "old.csv is a file, and a"),
    ):
        with pytest.raises(InputError, match=message):
            write()
    assert everything(project) == before


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
