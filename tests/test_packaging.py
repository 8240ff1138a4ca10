"""Dependencies, extras and files of an installation."""

import json
import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch

from genre_embeddings import cli
from tests.conftest import ROOT

CONTENT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT, TOOL = CONTENT["project"], CONTENT["tool"]
IMPORTED_AS = {"pyyaml": "yaml", "pytorch-lightning": "pytorch_lightning"}
NOT_IMPORTED = {"dvc", "tqdm"}
"""DVC is needed as a command, and tqdm draws the progress bar of pooch."""


def names(lines):
    return {re.match(r"[\w-]+", line)[0] for line in lines}


def test_every_dependency_is_imported():
    files = [*(ROOT / "src").rglob("*.py"), *(ROOT / "stages").glob("*.py")]
    code = "\n".join(path.read_text(encoding="utf-8") for path in files)
    for name in names(PROJECT["dependencies"]) - NOT_IMPORTED:
        assert re.search(rf"^ *(import|from) {IMPORTED_AS.get(name, name)}\b", code, re.M), name


def test_make_installs_the_extras_for_tests_only():
    extras = {name for lines in PROJECT["optional-dependencies"].values() for name in names(lines)}
    assert extras & names(PROJECT["dependencies"]) == set()

    def dry(target):
        command = ["make", "--dry-run", "VENV=none", target]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    for target in ("install", "repro"):
        assert "p['dependencies']" in dry(target)
        assert "optional" not in dry(target)
    steps = dry("test")
    assert steps.index("p['dependencies']") < steps.index("p['optional-dependencies']")
    assert steps.count("-c constraints.txt") == 2
    assert steps.index("touch none/.ready") < steps.index("touch none/.ready-test")


def test_every_package_and_file_of_the_library_is_installed():
    """By the rules of pyproject.toml: to build a wheel would need the network, for setuptools."""
    patterns = TOOL["setuptools"]["package-data"]["*"]
    library = ROOT / "src/genre_embeddings"
    files = [path for path in library.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert {path.name for path in files} >= {"card.md.jinja", "py.typed"}
    for path in files:
        assert (path.parent / "__init__.py").is_file()
        assert path.suffix == ".py" or any(fnmatch(path.name, one) for one in patterns), path


def test_the_version_stands_once(tmp_path, monkeypatch):
    """`genres --version` reads pyproject.toml in a checkout, and else the installed metadata."""
    assert PROJECT["scripts"] == {"genres": f"{cli.__name__}:{cli.main.__name__}"}
    done = subprocess.run(
        [sys.executable, ROOT / "genres", "--version"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == f"genres {PROJECT['version']}\n"
    about = tmp_path / "genre_embeddings-9.8.7.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Name: genre-embeddings\nVersion: 9.8.7\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(cli, "__file__", str(tmp_path / "lib/genre_embeddings/cli.py"))
    assert cli.version() == "9.8.7"


def test_uv_installs_the_same_torch_and_not_the_project():
    assert TOOL["uv"]["package"] is False
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert set(TOOL["uv"]["constraint-dependencies"]) <= set(pins)


def test_the_container_has_the_oldest_python_and_sets_up_the_environment():
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text(encoding="utf-8"))
    assert PROJECT["requires-python"] == f">={container['image'].rpartition(':')[2]}"
    target = container["postCreateCommand"].removeprefix("make ")
    assert f"\n{target}: " in (ROOT / "Makefile").read_text(encoding="utf-8")
