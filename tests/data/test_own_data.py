"""The tutorial docs/guide/own-data.md: its commands run, and say what it shows."""

import shutil
from pathlib import Path

import pytest

from tests.project import ROOT, make_project
from tests.tutorial import follow, steps


@pytest.mark.pipeline
def test_the_tutorial_does_what_it_shows(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    shutil.copy(ROOT / "params.yaml", project.folder)
    project.commit()
    follow(project, steps((ROOT / "docs/guide/own-data.md").read_text(encoding="utf-8")))
    made = project.dvc("exp", "list", "--name-only", "--all-commits").split()
    assert sorted(made) == ["few", "many"]
    assert project.git("ls-files", "data/books*").split() == ["data/books.dvc"]
    assert "??" not in project.git("status", "--porcelain")  # nothing to commit by mistake
