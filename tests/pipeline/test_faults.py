"""After a stage was killed or could not write, the next run gives the right results."""

import os
from pathlib import Path
from typing import Any

import pytest

from benchmarks.robustness.faults import Before, before, can_mount, faults_left, trial
from tests.project import make_project

pytestmark = [
    pytest.mark.pipeline,
    pytest.mark.skipif(not Path("/proc/self").exists(), reason="faults are those of Linux"),
]


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Before]:
    """The first stages of a small project, without a fault."""
    folder = tmp_path_factory.mktemp("faults")
    project, found = make_project(folder / "project"), {}
    for stage in ("check", "prepare", "split"):
        found[stage] = before(project, stage, folder / stage)
        project = found[stage].whole
    return found


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    # The whole folder lies under its temporary name: only the last rename is missing.
    "killed before the last rename": (
        "prepare",
        {"module": "stages.prepare", "event": "os.rename", "path": ".tmp", "operation": 6,
         "signal": "SIGKILL", "target": "stage"},
    ),
    "ended while it writes, DVC as well": (
        "split",
        {"module": "stages.split", "event": "os.rename", "operation": 2,
         "signal": "SIGTERM", "target": "both"},
    ),
    "DVC killed as it writes dvc.lock": (
        "split",
        {"module": "dvc", "event": "open", "path": "dvc.lock", "operation": 1,
         "signal": "SIGKILL", "target": "stage"},
    ),
    "a folder that cannot be written": ("split", {"folder": "data"}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_next_run_is_right(stages: dict[str, Before], tmp_path: Path, case: str) -> None:
    stage, fault = CASES[case]
    if "folder" in fault and not os.geteuid() and not can_mount():
        pytest.skip("root heeds no modes, and may not mount here")
    result = trial(fault, stages[stage], tmp_path / "trial")
    assert result.felt
    assert (result.note, result.wrong) == ("", [])


def test_what_is_wrong_is_seen(stages: dict[str, Before], tmp_path: Path) -> None:
    whole = stages["split"].whole
    project = whole.copy(tmp_path / "project")
    assert [*faults_left(project, whole)] == []
    (project.folder / "data/.prepared.7.tmp").mkdir()
    (project.folder / "data/.prepared.7.tmp/half").touch()
    with (project.folder / "data/truth.json").open("a") as file:
        file.write(" ")
    kept = next((project.folder / ".dvc/cache/files/md5").glob("[0-9a-f][0-9a-f]/*"))
    kept.chmod(0o644)
    kept.write_bytes(kept.read_bytes() + b" ")
    assert [*faults_left(project, whole)] == [
        "data/truth.json is not the same",
        "data/.prepared.7.tmp is left over",
        "data/.prepared.7.tmp/half is left over",
        f"{kept.relative_to(project.folder)} holds something else",
    ]
