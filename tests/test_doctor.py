"""`make doctor` in really broken projects: what it finds, and whether its command mends it."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
import zipfile

import pytest

from genre_embeddings import doctor
from tests.project import MOST_SECONDS, finish_queue, make_project, shared

pytestmark = pytest.mark.pipeline


@pytest.fixture(scope="session")
def bare(tmp_path_factory):
    """The committed project, without results: never to be changed."""
    return shared(tmp_path_factory, "bare", make_project)


@pytest.fixture
def project(bare, tmp_path, monkeypatch):
    """A copy of the project, as the working directory."""
    project = bare.copy(tmp_path / "project")
    monkeypatch.chdir(project.folder)
    for name in set(os.environ) - set(project.environment()):
        monkeypatch.delenv(name)
    for name, value in project.environment().items():
        monkeypatch.setenv(name, value)
    return project


def mend(project, finding):
    # What the command starts and leaves at work, a queue, must not hold our end of the pipe.
    project.run("bash", "-c", f"({finding.mend}) > ../said 2>&1")


def test_make_doctor(project):
    said = project.run("make", "--silent", "doctor")
    hint = r"hint: no remote: .*\n  mend: (.*)\nbroken: 0, hints: 1\n"
    project.run("bash", "-c", re.fullmatch(hint, said)[1])
    assert project.run("make", "--silent", "doctor") == "all is well\n"
    (project.folder / ".git/index.lock").touch()
    said = project.run("make", "--silent", "doctor", status=2)
    assert said.startswith("broken: .git/index.lock is held")
    assert "\nbroken: 1, hints: 0\n" in said


def test_neither_repository_nor_commit(project):
    shutil.rmtree(".git")
    (repository,) = doctor.repository()
    assert repository.what == "this is no git repository"
    assert "is not a git repository" in project.dvc("exp", "run", "check", status=255)
    project.git("init", "--quiet")
    (commit,) = doctor.repository()
    assert commit.what.startswith("there is no commit yet")
    assert commit.mend in repository.mend
    assert "Empty git repo" in project.dvc("exp", "run", "check", status=255)
    assert [*doctor.sources(), *doctor.changes()] == []
    mend(project, repository)
    assert [*doctor.repository(), *doctor.sources(), *doctor.changes()] == []
    project.dvc("exp", "run", "check")


@pytest.mark.parametrize("ignored", [False, True])
def test_source_that_git_does_not_know(project, ignored):
    (project.folder / "src/genre_embeddings/extra.py").write_text("VALUE = 1\n")
    stage = project.folder / "stages/check.py"
    stage.write_text(
        "import stages\nfrom genre_embeddings.extra import VALUE\n" + stage.read_text()
    )
    project.git("commit", "--quiet", "--all", "--message", "A module more")
    if ignored:
        (project.folder / ".git/info/exclude").write_text("extra.py\n")
    assert "genre_embeddings.extra" in project.dvc("exp", "run", "--temp", "check", status=255)
    (finding,) = doctor.sources()
    assert finding.broken
    assert finding.what.startswith("ignored by git" if ignored else "not known to git")
    assert finding.what.endswith(": src/genre_embeddings/extra.py")
    mend(project, finding)
    assert [*doctor.sources()] == []
    project.dvc("exp", "run", "--temp", "check")


def test_changes(project):
    project.change({"model": {"dim": 4}})
    (finding,) = doctor.changes()
    assert not finding.broken
    assert finding.what.endswith("starts from settings not committed: model.dim 2 -> 4")
    mend(project, finding)
    assert [*doctor.changes()] == []
    with (project.folder / "stages/check.py").open("a") as file:
        file.write("# a comment\n")
    (finding,) = doctor.changes()
    assert finding.what.startswith("changed and not committed: stages/check.py;")
    mend(project, finding)
    assert [*doctor.changes()] == []


def test_settings_that_cannot_be_used(project):
    project.change({"train": {"lr": -1}})
    (finding,) = doctor.settings()
    assert finding.broken
    assert "train.lr is -1; allowed: above 0" in finding.what
    mend(project, finding)
    assert [*doctor.settings()] == []
    project.change({"train": {"lr": -1}})
    project.commit()
    (finding,) = doctor.settings()
    project.run("bash", "-c", f"EDITOR='sed -i s/lr:.-1/lr:\\x201/'; {finding.mend}")
    assert [*doctor.settings()] == []


def test_data_that_are_not_there(project):
    project.change({"data": {"path": "nowhere"}})
    shutil.rmtree("data/raw")
    (finding,) = doctor.settings()
    assert finding == (True, "data.path is 'nowhere', which does not exist", finding.mend)
    mend(project, finding)
    assert [*doctor.settings()] == []


def test_locks_of_killed_processes(project):
    lock = project.folder / ".dvc/tmp/rwlock"
    project.dvc("repro", "check")
    assert lock.exists()
    assert [*doctor.locks()] == []
    lock.write_text('{"read": {"/a": [{"pid"')
    assert "corrupted" in project.dvc("repro", "--force", "check", status=255)
    (finding,) = doctor.locks()
    assert finding == (True, ".dvc/tmp/rwlock was cut short when DVC was killed", finding.mend)
    mend(project, finding)
    project.dvc("repro", "--force", "check")
    # The number of a killed DVC, borne by another process now.
    other = subprocess.Popen(["sleep", "600"])
    held = {"pid": other.pid, "cmd": "dvc exp run"}
    content = {"write": {str(project.folder / "data/checked"): held}, "read": {}}
    lock.write_text(json.dumps(content))
    try:
        assert "is being blocked by" in project.dvc("repro", "--force", "check", status=255)
        (finding,) = doctor.locks()
        assert finding.broken
        assert f"process {other.pid}, which is another by now" in finding.what
    finally:
        other.kill()
        other.wait()
    (gone,) = doctor.locks()
    assert not gone.broken
    mend(project, finding)
    assert [*doctor.locks()] == []
    project.dvc("repro", "--force", "check")


def test_lock_of_a_killed_git(project):
    (project.folder / ".git/index.lock").touch()
    (finding,) = doctor.git_lock()
    assert finding.broken
    project.run("git", "add", "README.md", status=128)
    mend(project, finding)
    project.git("add", "README.md")
    assert [*doctor.git_lock()] == []


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
    project.dvc("repro", "check")


def test_half_copies_of_a_killed_dvc(project):
    left = project.folder / "plots/train/.DjRGt5peo04ojoI2Mx9pQQ.tmp"
    left.parent.mkdir(parents=True, exist_ok=True)
    left.touch()
    assert [*doctor.leftovers()] == []
    minutes_ago = time.time() - 120
    os.utime(left, (minutes_ago, minutes_ago))
    (finding,) = doctor.leftovers()
    assert not finding.broken
    mend(project, finding)
    assert not left.exists()


def test_killed_queue(project):
    assert [*doctor.queue()] == []
    stage = project.folder / "stages/check.py"
    slow = "import time\n    if load_settings().model.dim == 3:\n        time.sleep(600)\n"
    stage.write_text(
        stage.read_text().replace(
            "    path = load_settings", f"    {slow}\n    path = load_settings"
        )
    )
    project.commit()
    for name, dim in (("killed", "3"), ("waiting", "4")):
        project.dvc("exp", "run", "--queue", "-n", name, "-S", f"model.dim={dim}", "check")
    (finding,) = doctor.queue()
    assert finding == (False, "2 experiments wait, and no worker has been started", finding.mend)
    mend(project, finding)
    runs = project.folder / ".dvc/tmp/exps"
    end = time.monotonic() + MOST_SECONDS
    while not list(runs.glob("run/*/*.json")):  # the first is at work
        assert time.monotonic() < end
        time.sleep(0.05)
    assert [*doctor.queue()] == []
    worker = json.loads((runs / "celery/dvc-exp-worker-1.json").read_text())["pid"]
    os.killpg(os.getpgid(worker), signal.SIGKILL)  # the worker, the experiment and its stage
    while len(found := [*doctor.queue()]) < 2:  # the kill takes a moment
        assert time.monotonic() < end, found
        time.sleep(0.1)
    running, waiting = found
    assert running.broken
    assert running.what.startswith("listed as running, but killed: killed.")
    assert waiting == (True, "1 experiments wait, and the worker was killed", waiting.mend)
    for folder in runs.glob("tmp*"):
        os.utime(folder, (0, 0))
    (left,) = (found for found in doctor.locks() if "is left of a killed" in found.what)
    for finding in (running, waiting, left):
        mend(project, finding)
    assert finish_queue(project) == {"killed": "Failed", "waiting": "Success"}
    (finding,) = doctor.queue()
    assert finding == (False, "failed: killed. Why: dvc queue logs killed", finding.mend)
    mend(project, finding)
    assert [*doctor.queue()] == []
    assert not any("is left of a killed" in found.what for found in doctor.locks())


def test_disk(project):
    assert [*doctor.disk(least=0, tight=0)] == []
    (hint,) = doctor.disk(least=0, tight=1e9)
    (broken,) = doctor.disk(least=1e9, tight=1e9)
    assert (hint.broken, broken.broken) == (False, True)
    (project.folder / "data/raw/a.csv").write_text("of no experiment\n")
    project.dvc("repro", "prepare")
    (project.folder / "data/raw/a.csv").unlink()
    project.dvc("repro", "prepare")
    files = project.folder / ".dvc/cache/files"
    before = sum(path.is_file() for path in files.rglob("*"))
    project.run("bash", "-c", f"{broken.mend} --force")
    assert 0 < sum(path.is_file() for path in files.rglob("*")) < before


def test_environment(project, tmp_path, monkeypatch):
    for version in ("1.0", "2.0"):
        make_wheel(tmp_path, version)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", tmp_path.as_uri())
    (project.folder / "pyproject.toml").write_text('[project]\ndependencies = ["tiny>=1"]\n')
    (project.folder / "constraints.txt").write_text("tiny==1.0\n")
    (lacking,) = doctor.environment()
    assert lacking.broken
    assert lacking.what.endswith("/python lacks tiny")
    assert lacking.mend == "make install && source .venv/bin/activate"
    path = project.run("bash", "-c", f"{lacking.mend} >&2 && echo $PATH").splitlines()[-1]
    # Set up and not activated: the remedy is shorter.
    found = [*doctor.environment()]
    assert {finding.mend for finding in found} == {"source .venv/bin/activate"}
    assert [finding.broken for finding in found] == [True, False]
    monkeypatch.setenv("PATH", path)  # activated; dvc comes from elsewhere
    (dvc,) = doctor.environment()
    assert re.fullmatch(r"not of \.venv: \S+/dvc", dvc.what)
    pip = [".venv/bin/python", "-m", "pip", "--quiet", "--disable-pip-version-check"]
    for change, broken, end in (
        (["install", "tiny==2.0"], False, "so other numbers: tiny 2.0 for 1.0"),
        (["uninstall", "--yes", "tiny"], True, "/python lacks tiny"),
    ):
        project.run(*pip, *change)
        finding, _ = doctor.environment()
        assert finding.broken == broken
        assert finding.what.endswith(end)
        mend(project, finding)
        assert [*doctor.environment()] == [dvc]
    # A moved environment: its programs name an interpreter that is gone.
    program = project.folder / ".venv/bin/dvc"
    program.write_text("#!/nowhere/python\n")
    program.chmod(0o755)
    (finding,) = doctor.environment()
    assert "/dvc does not run: " in finding.what
    assert finding.mend == "make clean install && source .venv/bin/activate"


def make_wheel(folder, version):
    """A package `tiny` that pip can install without a network."""
    info = f"tiny-{version}.dist-info"
    with zipfile.ZipFile(folder / f"tiny-{version}-py3-none-any.whl", "w") as file:
        name = f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n"
        kind = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        contents = {"METADATA": name, "WHEEL": kind, "RECORD": ""}
        for part, content in contents.items():
            file.writestr(f"{info}/{part}", content)


def test_programs_that_are_not_there(project, tmp_path, monkeypatch):
    (tmp_path / "git").symlink_to(shutil.which("git"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [finding.what for check in doctor.CHECKS for finding in check()] == [
        "there is no `python` on PATH, and stages need it",
        "there is no `dvc` on PATH, and stages need it",
    ]
    (tmp_path / "git").unlink()
    (finding,) = doctor.repository()
    assert finding.what == "there is no `git` on PATH"
