"""Experiments as a person runs and compares them: real `dvc exp run`."""

import json
import re
from pathlib import Path

import pytest

from genre_embeddings.storage import flatten
from tests.project import Project, stages_run

pytestmark = pytest.mark.pipeline
WARNING = re.compile(r"warning|failed to load", re.IGNORECASE)


def test_dvc_compares_without_a_warning(compared: Project) -> None:
    found = compared.dvc_json("metrics", "diff", "main", "wide")
    assert set(found) == {"metrics/summary.json"}
    rmse = found["metrics/summary.json"]["test.rmse"]
    assert rmse["old"] != rmse["new"]
    summary = json.loads((compared.folder / "metrics/summary.json").read_text(encoding="utf-8"))
    assert len(flatten(summary)) <= 20
    changed = compared.dvc_json("params", "diff", "main", "wide")
    assert changed == {"params.yaml": {"model.dim": {"old": 2, "new": 8, "diff": 6}}}
    assert not WARNING.search(said := compared.dvc("exp", "show")), said


def test_going_back_runs_nothing(base: Project, compared: Project, tmp_path: Path) -> None:
    project, expected = compared.copy(tmp_path / "project"), base.results()
    project.dvc("exp", "apply", "wide")
    assert project.results().items() - expected.items() != set()
    project.git("checkout", "--quiet", "main", "--", "params.yaml")
    said = project.dvc("repro")
    assert stages_run(said) == ["publish"]  # with the card, which the run cache leaves out
    # check, train, evaluate, inspect
    assert said.count("is cached - skipping run") == 4
    assert project.results() == expected
    assert project.git("status", "--porcelain") == ""
