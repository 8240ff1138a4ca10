"""The workflow of pull requests: linters, commands, permissions and a real report."""

import re
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import pytest

from tests.project import ROOT, Project, read_yaml

WORKFLOW = ROOT / ".github/workflows/pipeline.yml"
REPORT = ".github/report.sh"


def steps() -> list[dict]:
    return [step for job in read_yaml(WORKFLOW)["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize(
    "linter",
    [
        ("check-jsonschema", "--builtin-schema", "vendor.github-workflows", str(WORKFLOW)),
        ("zizmor", "--offline", "--persona", "pedantic", str(ROOT / ".github")),
    ],
    ids=lambda linter: linter[0],
)
def test_linters_find_nothing(linter: tuple[str, ...]) -> None:
    command = [str(Path(sys.executable).with_name(linter[0])), *linter[1:]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_commands_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    commands = [step["run"] for step in steps() if "run" in step]
    targets = [target for text in commands for target in re.findall(r"^make (\w+)$", text, re.M)]
    assert set(targets) == {"test", "repro"}
    assert all(f"\n{target}: " in makefile for target in targets)
    assert any(text.startswith(REPORT) for text in commands)
    assert any(text.startswith("cml comment create") for text in commands)


def test_only_the_comment_may_write_and_it_runs_nothing_of_the_change() -> None:
    jobs = read_yaml(WORKFLOW)["jobs"]
    may = {name: job["permissions"] for name, job in jobs.items()}
    assert may.pop("comment") == {"pull-requests": "write"}
    assert all(permissions == {"contents": "read"} for permissions in may.values())
    assert not any("checkout" in step.get("uses", "") for step in jobs["comment"]["steps"])


@pytest.mark.pipeline
def test_report_tells_what_changed(compared: Project, tmp_path: Path) -> None:
    project = compared.copy(tmp_path / "project")
    project.dvc("exp", "apply", "wide")
    project.run(REPORT, "main", "tmp/report")
    folder = project.folder / "tmp/report"
    report = (folder / "report.md").read_text(encoding="utf-8")
    assert len(report) < 65_536  # the most that a comment holds
    assert re.search(r"^ model\.dim +2 +8 *$", report, re.M)
    assert re.search(r"^ structure +\w+ +\w+ *$", report, re.M)
    assert re.search(r"^\| Path +\| Metric +\| main +\| workspace +\| Change +\|$", report, re.M)
    assert "| metrics/summary.json" in report
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", report)
    assert len(pictures) == 4
    before, after = (matplotlib.image.imread(folder / name) for name in pictures[:2])
    assert before.shape == after.shape
    assert (before != after).any()
    assert "plots/index.html" in report
    assert (folder / "plots/index.html").stat().st_size > 10_000
    assert "tmp" not in project.git("status", "--porcelain")
    # Where there is nothing to compare with, there is no report.
    assert "nowhere" in project.run(REPORT, "nowhere", "tmp/none", status=1)
    assert not (project.folder / "tmp/none/report.md").exists()
