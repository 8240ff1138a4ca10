"""Writers that leave the old or the new, never half of either."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from genre_embeddings import storage
from genre_embeddings.errors import InputError
from tests.conftest import ROOT


def write_folder(name, content):
    with storage.replacing_folder(Path("out")) as folder:
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
    shutil.rmtree("out")
    Path("out").write_text("a note")
    with pytest.raises(InputError, match="out is a file, and a folder is to be written"):
        write_folder("a", "new")
    assert Path("out").read_text() == "a note"


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


def test_a_pipe_or_a_device_is_written_to_and_not_replaced(in_tmp):
    pipe = in_tmp / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as process:
        storage.write_json(pipe, [1])
        said, _ = process.communicate(timeout=60)
    assert said == b"[\n  1\n]\n"
    assert list(in_tmp.iterdir()) == [pipe]
    assert pipe.is_fifo()
    # Asked of the path alone: root, who runs some test machines, could replace it.
    with storage.replacing(Path("/dev/null")) as path:
        assert path == Path("/dev/null")


def test_what_the_shell_appends_to_is_not_replaced(in_tmp):
    """`>> file` keeps what the file holds, and what is printed later comes after the content."""
    write = "from pathlib import Path; from genre_embeddings import storage; "
    write += "storage.write_json(Path('/dev/stdout'), [1]); print('done')"
    file = in_tmp / "file"
    file.write_text("old\n")
    with file.open("a") as opened:
        environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
        subprocess.run([sys.executable, "-c", write], stdout=opened, check=True, env=environment)
    assert file.read_text() == "old\n[\n  1\n]\ndone\n"


def test_nested_values_go_by_dotted_names():
    content = {"seed": 0, "test": {"rmse": None, "users": {"all": [1, 2]}}, "none": {}}
    flat = storage.flatten(content)
    assert list(flat.items()) == [("seed", 0), ("test.rmse", None), ("test.users.all", [1, 2])]
    assert all(storage.value_at(content, name) == value for name, value in flat.items())
    assert storage.value_at(content, "test.users") == {"all": [1, 2]}
    for nowhere in ("test.mae", "seed.rmse", "test.rmse.low", "test.users.all.0"):
        assert storage.value_at(content, nowhere) is None
    assert storage.value_at(None, "test") is storage.value_at([content], "test") is None
