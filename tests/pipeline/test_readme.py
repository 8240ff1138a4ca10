"""The README, and what it names, against what is there."""

import re

import pytest

from tests.conftest import ROOT
from tests.project import listed, read_yaml

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
README = PAGES[0].read_text(encoding="utf-8")
TARGETS = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)


def test_the_tree_names_all_that_lies_at_the_top():
    top = {path.split("/")[0] for path in listed()}
    block = README.split("## What lies where")[1].split("```")[1]
    named = {line.split()[0].rstrip("/") for line in block.strip().splitlines()}
    quiet = {
        ".ci", ".devcontainer", ".dvc", ".dvcignore", ".gitignore", ".github", "CHANGELOG.md",
        "LICENSE", "Makefile", "README.md", "constraints.txt", "pyproject.toml",
    }  # fmt: skip
    assert named == top - quiet


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_settings_commands_and_targets_exist(page):
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"@[A-Z]+@", text)  # nothing is left to fill in
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("http") or (page.parent / target).exists(), target
    params = read_yaml(ROOT / "params.yaml")
    for section, key in re.findall(r"-S '?(\w+)\.(\w+)=", text):
        assert key in params[section], f"{section}.{key}"
    for module in re.findall(r"python -m (benchmarks[\w.]*|stages\.[a-z]+)", text):
        path = ROOT / module.rstrip(".").replace(".", "/")
        assert path.with_suffix(".py").exists() or path.is_dir(), module
    for target in re.findall(r"(?:`|^)make ([a-z]+)", text, re.M):
        assert target in TARGETS, target
    commands = (ROOT / "src/genre_embeddings/cli.py").read_text(encoding="utf-8")
    for command in re.findall(r"\./genres ([a-z]+)", text):
        assert f"def {command}" in commands or f'"{command}"' in commands, command


def test_the_makefile_has_ten_targets_at_most():
    assert len(TARGETS) <= 10
    assert {"help", "repro", "test", "lint", "typecheck", "bench", "clean"} <= set(TARGETS)
