"""`make doctor` finds the fault of a broken project, and its command repairs it."""

import os
import re
import shutil

import pytest

from genre_embeddings import doctor
from tests.project import make_project, shared

pytestmark = pytest.mark.pipeline


@pytest.fixture
def project(tmp_path_factory, tmp_path, monkeypatch):
    """A copy of the committed project, without results, as the working directory."""
    project = shared(tmp_path_factory, "bare", make_project).copy(tmp_path / "project")
    monkeypatch.chdir(project.folder)
    environment = project.environment()
    for name in {*os.environ, *environment}:
        if name in environment:
            monkeypatch.setenv(name, environment[name])
        else:
            monkeypatch.delenv(name)
    return project


def mend(project, finding):
    # What the command starts and leaves at work, a queue, must not hold our end of the pipe.
    project.run("bash", "-c", f"({finding.mend}) > ../said 2>&1")


def test_make_doctor(project):
    assert project.run("make", "--silent", "doctor") == "all is well\n"
    (project.folder / ".git/index.lock").touch()
    said = project.run("make", "--silent", "doctor", status=2)
    assert said.startswith("broken: .git/index.lock is held")
    assert "\nbroken: 1, hints: 0\n" in said
    mend(project, *doctor.repository())
    assert [*doctor.repository()] == []
    shutil.rmtree(".git")
    (repository,) = doctor.repository()
    assert repository.what == "this is no git repository"
    project.git("init", "--quiet")
    (commit,) = doctor.repository()
    assert commit.what.startswith("there is no commit yet")
    mend(project, repository)
    assert [*doctor.repository()] == []


def test_source_that_git_does_not_know(project):
    (project.folder / "src/genre_embeddings/extra.py").write_text("VALUE = 1\n")
    exclude = project.folder / ".git/info/exclude"
    for kind, pattern in (("not known to", ""), ("ignored by", "extra.py\n")):
        project.git("reset", "--quiet")
        exclude.write_text(pattern)
        (finding,) = doctor.repository()
        assert finding.broken
        assert re.match(f"{kind} git.*: src/genre_embeddings/extra.py$", finding.what)
        mend(project, finding)
        assert not any(finding.broken for finding in doctor.repository())
        assert "extra.py" in project.git("ls-files", "src")


def test_changes_and_settings(project):
    project.change({"train": {"lr": -1}})
    (hint,) = doctor.repository()
    assert not hint.broken
    assert hint.what.endswith("so that the next experiment has it: params.yaml")
    (finding,) = doctor.environment()
    assert finding.broken
    assert "train.lr is -1; allowed: greater than 0" in finding.what
    mend(project, hint)
    (committed,) = doctor.environment()
    project.run("bash", "-c", f"EDITOR='sed -i s/lr:.-1/lr:\\x201/'; {committed.mend}")
    assert [*doctor.environment()] == []
    project.git("checkout", "--quiet", "HEAD", "params.yaml")
    mend(project, finding)  # what is committed is wrong
    assert [*doctor.environment()] == [committed]


def test_run_cache_of_a_killed_dvc(project):
    project.dvc("repro", "check")
    assert [*doctor.run_cache()] == []
    for path in (project.folder / ".dvc/cache/runs").rglob("*"):
        if path.is_file():
            path.unlink()
    (project.folder / "dvc.lock").unlink()
    assert "join() argument must be str" in project.dvc("repro", "check", status=255)
    (finding,) = doctor.run_cache()
    assert finding.broken
    mend(project, finding)
    assert [*doctor.run_cache()] == []


STATUS = """
Task     Name     Created    Status
7c5a1d0  killed   10:00 AM   Running
52c0fd0  waiting  10:00 AM   Queued

Worker status: {} active, 0 idle
"""


def test_queue(project, monkeypatch):
    project.dvc("exp", "run", "--queue", "-n", "first", "-S", "model.dim=3", "check")
    assert [*doctor.queue()] == []
    killed = "listed as running, but killed: killed. Free it, then queue it again"
    for active, expected in ((0, [(True, killed, "dvc queue kill killed")]), (1, [])):
        monkeypatch.setattr(doctor, "run", lambda *_, n=active: (True, STATUS.format(n), ""))
        assert [*doctor.queue()] == expected


def test_environment(project, tmp_path, monkeypatch):
    pyproject = project.folder / "pyproject.toml"
    pyproject.write_text('[project]\ndependencies = ["no-such-package>=1", "numpy"]\n')
    (lacking,) = doctor.environment()
    assert lacking.what == "the environment lacks no-such-package"
    project.git("checkout", "--quiet", "HEAD", "pyproject.toml")
    # A moved environment: its programs name an interpreter that is gone.
    program = tmp_path / "bin/dvc"
    program.parent.mkdir()
    program.write_text("#!/nowhere/python\n")
    program.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
        (moved,) = doctor.environment()
    assert moved.what.startswith(f"`{program} doctor` fails: ")
    assert moved.mend == "make clean install && source .venv/bin/activate"
    monkeypatch.setenv("PATH", str(tmp_path))  # neither python nor dvc nor git
    found = [finding.what for check in doctor.CHECKS for finding in check()]
    programs = ("`python` on PATH, and stages need it", "`dvc` on PATH, and stages need it")
    assert found == [f"there is no {what}" for what in (*programs, "`git` on PATH")]
