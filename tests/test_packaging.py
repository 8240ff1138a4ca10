"""What is installed: few dependencies, each for a reason, and extras only for who asks."""

import ast
import re
import subprocess
import tomllib

from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
IMPORTED_AS = {"pyyaml": "yaml", "pytorch-lightning": "pytorch_lightning"}
RUN = {"dvc"}
"""Needed as a command."""


def names(lines):
    return {re.match(r"[\w-]+", line)[0] for line in lines}


def imported():
    """Top-level names of the modules that the library and the stages import."""
    found = set()
    for path in [*(ROOT / "src").rglob("*.py"), *(ROOT / "stages").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    return found


def test_every_dependency_is_imported():
    used = imported()
    needed = names(PROJECT["dependencies"]) - RUN
    assert {name for name in needed if IMPORTED_AS.get(name, name) not in used} == set()


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
