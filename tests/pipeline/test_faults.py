"""A few faults of benchmarks.robustness.faults: killed, short of room or locked out, then right."""

import os
from pathlib import Path
from typing import Any

import pytest

from benchmarks.robustness.faults import (
    Before,
    can_mount,
    faults_left,
    trial,
    undo,
)
from tests.project import Project

pytestmark = [
    pytest.mark.pipeline,
    pytest.mark.skipif(not Path("/proc/self").exists(), reason="faults are those of Linux"),
]
NEEDS: dict[str, dict[str, float]] = {}


def before(base: Project, stage: str, folder: Path) -> Before:
    project = base.copy(folder / "before")
    undo(project, stage)
    return Before(project, stage, NEEDS, 0)


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    # The whole folder lies under its temporary name: only the last rename is missing.
    "killed before the last rename": (
        "prepare",
        {"module": "stages.prepare", "event": "os.rename", "path": ".tmp", "operation": 6,
         "signal": "SIGKILL", "target": "self"},
    ),
    "ended while it writes, DVC as well": (
        "evaluate",
        {"module": "stages.evaluate", "event": "os.rename", "operation": 2,
         "signal": "SIGTERM", "target": "group"},
    ),
    "DVC killed as it writes dvc.lock": (
        "split",
        {"module": "dvc", "event": "open", "path": "dvc.lock", "operation": 1,
         "signal": "SIGKILL", "target": "self"},
    ),
    "a folder that cannot be written": ("split", {"module": "", "folder": "data"}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_next_run_is_right(base: Project, tmp_path: Path, case: str) -> None:
    stage, fault = CASES[case]
    if "folder" in fault and not os.geteuid() and not can_mount():
        pytest.skip("root heeds no modes, and may not mount here")
    result = trial(fault, before(base, stage, tmp_path), base, tmp_path / "trial")
    assert result.felt
    assert (result.note, result.wrong) == ("", [])


def test_what_is_wrong_is_seen(base: Project, tmp_path: Path) -> None:
    project = base.copy(tmp_path / "project")
    assert [*faults_left(project, base)] == []
    (project.folder / "data/.prepared.7.tmp").mkdir()
    (project.folder / "data/.prepared.7.tmp/half").touch()
    with (project.folder / "models/tables.json").open("a") as file:
        file.write(" ")
    kept = next((project.folder / ".dvc/cache/files/md5").glob("[0-9a-f][0-9a-f]/*"))
    kept.chmod(0o644)
    kept.write_bytes(kept.read_bytes() + b" ")
    found = [*faults_left(project, base)]
    assert found == [
        "models/tables.json is not the same",
        "data/.prepared.7.tmp is left over",
        "data/.prepared.7.tmp/half is left over",
        f"{kept.relative_to(project.folder)} holds something else",
    ]
