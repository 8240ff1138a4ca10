"""Throw-away copies of the project, with settings shrunk to seconds, in which DVC really runs."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.serialize import modify_yaml
from filelock import FileLock

from genre_embeddings.settings import load_yaml

ROOT = Path(__file__).resolve().parent.parent
STAGES = ("check", "prepare", "split", "train", "evaluate", "inspect", "publish")
# The smallest world that every stage can work on, with all inputs of the network
SMALL: dict[str, dict[str, Any]] = {
    "planted": {"users": 60, "movies": 60, "genres": 6, "ratings": 1500},
    "model": {"dim": 2, "hidden": [8], "time": "near"},
    "train": {"replicas": 2, "epochs": 2, "min_epochs": 1, "batch_size": 256},
    "inspect": {"min_pair_users": 3, "permutations": 99, "bootstrap": 100},
}
MOST_SECONDS = 300


def read_yaml(path: Path) -> Any:
    """Content of a YAML file."""
    return load_yaml(path.read_text(encoding="utf-8"), str(path))


@dataclass(frozen=True)
class Project:
    """A copy of the project with a git repository of its own."""

    folder: Path

    def run(self, *command: str, status: int = 0, stderr: int = subprocess.STDOUT) -> str:
        """Run a command in the project; its stdout and stderr, which must end with `status`."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            encoding="utf-8",
            timeout=MOST_SECONDS,
        )
        if done.returncode != status:
            said = f"{done.stdout}{done.stderr or ''}"
            pytest.fail(f"{' '.join(command)} ended with {done.returncode}:\n{said}")
        return done.stdout

    def dvc(self, *arguments: str, status: int = 0, stderr: int = subprocess.STDOUT) -> str:
        """Run `dvc`; all that it and the stages said. It ends with 255 where a stage fails."""
        return self.run(sys.executable, "-m", "dvc", *arguments, status=status, stderr=stderr)

    def dvc_json(self, *arguments: str) -> Any:
        """What `dvc ... --json` wrote to its stdout."""
        return json.loads(self.dvc(*arguments, "--json", stderr=subprocess.PIPE))

    def start_dvc(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Run `dvc` in a process group of its own, and do not wait for it."""
        return subprocess.Popen(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=self.folder,
            env=self.environment() | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def git(self, *arguments: str) -> str:
        """Run git."""
        return self.run("git", *arguments)

    def commit(self) -> None:
        """Commit all that git does not ignore."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "A commit")

    def change(self, changes: dict[str, dict[str, Any]]) -> None:
        """Change settings in params.yaml, by section and key."""
        with modify_yaml(self.folder / "params.yaml") as content:  # keeps the comments
            for section, values in changes.items():
                content[section].update(values)

    def copy(self, folder: Path) -> "Project":
        """The project as it stands, its outputs and its DVC cache included."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder)

    def clone(self, folder: Path) -> "Project":
        """What another person gets: the last commit, with neither outputs nor cache of DVC."""
        self.git("clone", "--quiet", str(self.folder), str(folder))
        return Project(folder)

    def declared(self, *kinds: str) -> set[str]:
        """Paths that stages of dvc.yaml name under `outs`, `metrics` or `plots`."""
        stages = read_yaml(self.folder / "dvc.yaml")["stages"].values()
        entries = [entry for stage in stages for kind in kinds for entry in stage.get(kind, [])]
        return {entry if isinstance(entry, str) else next(iter(entry)) for entry in entries}

    def results(self) -> dict[str, bytes]:
        """Bytes of dvc.lock and of every file that is a declared output or lies in one."""
        found = {}
        for name in ("dvc.lock", *self.declared("outs", "metrics", "plots")):
            path = self.folder / name
            for file in path.rglob("*") if path.is_dir() else [path]:
                if file.is_file():
                    found[str(file.relative_to(self.folder))] = file.read_bytes()
        return found

    def environment(self) -> dict[str, str]:
        """No trace of the person's configuration, terminal, git hook or run of DVC around us."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("GIT_", "DVC_", "PYTHON", "COV_", "COLUMNS"))
        }
        beside = self.folder.with_name(f"{self.folder.name}.dvc")
        return kept | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(beside / "site"),
            "DVC_GLOBAL_CONFIG_DIR": str(beside / "global"),
            "DVC_SYSTEM_CONFIG_DIR": str(beside / "system"),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "Test",
            "GIT_AUTHOR_EMAIL": "test@example.org",
            "GIT_COMMITTER_NAME": "Test",
            "GIT_COMMITTER_EMAIL": "test@example.org",
        }


def listed() -> list[str]:
    """Files that are in the repository, or would be with the next `git add`."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.check_output(command, cwd=ROOT, text=True).split("\0")
    return [name for name in names if (ROOT / name).is_file()]


def make_project(folder: Path) -> Project:
    """This project's sources and small settings, committed; without any results."""
    project = Project(folder)
    for name in listed():
        result = name == "dvc.lock" or name.startswith(("metrics/", "plots/"))
        if not result or name.endswith(".gitignore"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    project.change(SMALL)
    project.git("init", "--quiet", "--initial-branch", "main")
    project.commit()
    return project


def shared(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Project:
    """The project `name`, made once for all workers of a test run: copy it before changing it."""
    base = factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, whole = base / name, base / f"{name}.whole"
    with FileLock(base / f"{name}.lock"):
        if not whole.exists():
            if folder.exists():
                pytest.fail(f"{name} could not be made, as an earlier test tells")
            make(folder)
            whole.touch()
    return Project(folder)


def reproduced(factory: pytest.TempPathFactory) -> Project:
    """The project after `dvc repro`, its results committed."""

    def make(folder: Path) -> None:
        project = make_project(folder)
        (folder.parent / "reproduced.log").write_text(project.dvc("repro"), encoding="utf-8")
        project.commit()

    return shared(factory, "reproduced", make)


def stages_run(said: str) -> list[str]:
    """The stages whose commands DVC ran, read from what it said."""
    return [line.split("'")[1] for line in said.splitlines() if line.startswith("Running stage '")]


def finish_queue(project: Project, jobs: int = 1, seconds: int = MOST_SECONDS) -> dict[str, str]:
    """Start the queue, wait until it is worked off; how each experiment ended."""
    end, said, queued = time.monotonic() + seconds, "0 active", set[str]()
    try:
        while time.monotonic() < end:
            if "0 active" in said:  # at first, and where a worker of DVC gave up too early
                # The workers keep its output open until they end: read, it would be waited for.
                start = f"python -m dvc queue start --jobs {jobs} > /dev/null 2>&1"
                project.run("bash", "-c", start)
            time.sleep(4)
            said = project.dvc("queue", "status")
            rows = [line.split() for line in said.splitlines() if line[:1].isalnum()]
            ends = {row[1]: row[-1] for row in rows if row[0] not in ("Task", "Worker")}
            queued |= ends.keys()  # DVC does not list a task that it is just about to start
            if not {"Queued", "Running"} & set(ends.values()) and queued == ends.keys():
                return ends
    finally:
        project.dvc("queue", "stop", "--kill")
    pytest.fail(f"the queue is not done after {seconds} s:\n{said}")
