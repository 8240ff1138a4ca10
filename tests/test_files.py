"""Files are replaced whole or not at all."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from genre_embeddings import storage
from genre_embeddings.errors import InputError
from genre_embeddings.inference.export import export
from genre_embeddings.inference.predict import predict_file
from genre_embeddings.inference.trained import open_model
from genre_embeddings.model.serialization import load_whole, save_model
from tests.conftest import ROOT


def write_folder(name, content):
    with storage.replacing(Path("out"), folder=True) as folder:
        (folder / name).write_text(content)
        if not content:
            raise RuntimeError


def test_a_folder_is_replaced_whole_or_not_at_all(in_tmp):
    write_folder("a", "old")
    with pytest.raises(RuntimeError):
        write_folder("a", "")
    assert Path("out/a").read_text() == "old"
    write_folder("b", "new")
    assert [str(path) for path in Path().rglob("*")] == ["out", "out/b"]


def test_json(in_tmp):
    path = Path("m.json")
    storage.write_metrics(path, {"a": 1 / 3, "b": [1, 2.0]})
    with pytest.raises(ValueError, match="not JSON compliant"):
        storage.write_metrics(path, {"a": float("nan")})
    assert storage.read_json(path) == {"a": 0.333333, "b": [1, 2.0]}
    storage.write_rows(path, [{"x": 1}, {"x": 2 / 3}])
    assert path.read_text() == '[\n{"x": 1},\n{"x": 0.666667}\n]\n'
    assert list(Path().iterdir()) == [path]


@pytest.mark.parametrize("kind", ["tmp", "old"])
def test_what_a_killed_process_left_is_taken_away(in_tmp, kind):
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        killed, alive = process.pid, os.getppid()
    for name in (f".out.{killed}.{kind}", f".out.{os.getpid()}.{kind}"):
        (in_tmp / name).mkdir()
        (in_tmp / name / "half").touch()
    kept = {f".out.{alive}.{kind}", f".other.{killed}.{kind}", f".out.{killed}.{kind}.txt"}
    for name in kept:
        (in_tmp / name).touch()
    for content in ("one", "two"):
        write_folder("a", content)
    assert (in_tmp / "out/a").read_text() == "two"
    assert {path.name for path in in_tmp.iterdir()} == kept | {"out"}


@pytest.fixture
def project(trained, tmp_path, monkeypatch):
    """A copy of a project with a trained model, as the working directory."""
    folder = tmp_path / "project"
    shutil.copytree(trained, folder)
    pairs = "".join(f"{1 + n % 80},{1 + n % 60}\n" for n in range(3000))
    (folder / "pairs.csv").write_text(f"userId,movieId\n{pairs}")
    (folder / "old.csv").write_text("old")
    (folder / "exports").mkdir()
    monkeypatch.chdir(folder)
    return folder


def everything(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_places_that_cannot_be_written(project):
    before, model = everything(project), open_model()
    for write, message in (
        (lambda: predict_file(model, Path("pairs.csv"), Path("models")), "models is a folder, and"),
        (lambda: predict_file(model, Path("pairs.csv"), Path("old.csv/new")), "old.csv is no fol"),
        (lambda: predict_file(model, Path("data"), Path("old.csv")), "data is not a file: give a"),
        (lambda: storage.write_json(Path("/dev/null"), []), "/dev/null is a device or a pipe, and"),
        (lambda: storage.write_json(Path("/dev/stdout"), []), "/dev/stdout is a .*, and a file"),
        (lambda: storage.replacing(Path("old.csv"), True).__enter__(), "old.csv is a file, and a"),
    ):
        with pytest.raises(InputError, match=message):
            write()
    assert everything(project) == before


def test_a_disk_that_is_full(project):
    resource = pytest.importorskip("resource")  # no limits to set on Windows
    (network, _), model = load_whole(), open_model()
    before = everything(project)

    def column():
        with storage.replacing_sides() as folders:
            storage.write_column(folders["train"] / "user.npy", np.arange(100_000))

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # bytes that a file may have
    try:
        for name, write in {
            "models": lambda: save_model(network, storage.read_side("train")),
            "old.csv": lambda: predict_file(model, Path("pairs.csv"), Path("old.csv")),
            "exports": lambda: export(model, Path("exports")),
            "data/split": column,
            "metrics/m.json": lambda: storage.write_json(Path("metrics/m.json"), [*range(9999)]),
        }.items():
            with pytest.raises(OSError, match=r"No space left|File too large") as raised:
                write()
            assert raised.value.errno
            assert str(raised.value.filename).startswith(name) or name == "data/split"
            assert everything(project) == before, name
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert np.array_equal(load_whole()[0].user_counts, network.user_counts)


WRITE = """
from genre_embeddings import errors, storage
with errors.messages():
    storage.write_json(storage.Path("closed/old.json"), [])
"""


def test_a_folder_that_is_read_only(in_tmp):
    closed = Path("closed")
    closed.mkdir()
    (closed / "old.json").write_text("old")
    weaker = []
    if os.geteuid() == 0:  # root writes where it may not, unless it gives that up
        if not shutil.which("setpriv"):
            pytest.skip("root cannot be kept from writing without setpriv")
        weaker = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"]
    closed.chmod(0o555)
    try:
        environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
        write = [*weaker, sys.executable, "-c", WRITE]
        done = subprocess.run(write, capture_output=True, text=True, env=environment)
    finally:
        closed.chmod(0o755)
    said = (
        "error: closed/old.json: Permission denied. Nothing was replaced; mend it and run again.\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)
    assert [path.read_text() for path in closed.iterdir()] == ["old"]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"{", b"\xff" * 100])
def test_what_a_stage_made_and_was_damaged(in_tmp, content):
    for path, read in {
        (users := storage.PREPARED / "users.parquet"): lambda: storage.read_table(users),
        storage.PREPARED / "meta.json": storage.read_meta,
        storage.SPLIT / "train/user.npy": lambda: storage.read_side("train"),
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"{path} is damaged .*`dvc repro (prepare|split)"):
            read()


def test_nested_values_go_by_dotted_names():
    content = {"seed": 0, "test": {"rmse": None, "users": {"all": [1, 2]}}, "none": {}}
    flat = storage.flatten(content)
    assert list(flat.items()) == [("seed", 0), ("test.rmse", None), ("test.users.all", [1, 2])]
