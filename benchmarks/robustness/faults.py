"""Faults on purpose: `python -m benchmarks.robustness.faults --help`.

In throw-away copies of the project with a small planted world, each stage is killed or lacks disk,
memory or permission. Then `dvc repro STAGE` runs without the fault. The stage survived if every
output has the bytes of a run without faults, no other file is left, and every object in DVC's cache
has the checksum in its name.

The seed draws when a fault strikes: signals at any time while the stage runs, kills at any of its
file operations and at any of DVC's. So a kill between two renames is as likely as one in the
hours between.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.measuring import Row, command_line, report
from tests.project import STAGES, Project, make_project

KINDS = (
    "signal to the stage", "signal to DVC", "signal to both", "kill the stage at a file operation",
    "kill DVC at a file operation", "disk full", "folder read-only", "memory limit",
)  # fmt: skip
FOLDERS = ("data", "metrics", "plots", ".dvc/tmp", ".dvc/cache", ".")
DVC_LEFT = re.compile(r"^(plots|metrics)/.*\.[\w-]{22}\.tmp is left over$")
"""DVC copies such outputs from its cache under this name."""
DISK = "-t", "tmpfs", "-o", "size=1g", "none"
LONGEST = 150
"""Seconds after which a run counts as hung."""
HOOK = Path(__file__).with_name("hook")
Ended = subprocess.CompletedProcess[str]


class Result(NamedTuple):
    """The outcome of a fault."""

    felt: bool  # whether the run with the fault failed
    wrong: list[str]  # empty if the stage survived
    note: str  # what else was needed


class Before(NamedTuple):
    """The project before a stage, and after the stage without a fault."""

    stage: str
    project: Project
    whole: Project  # after the stage
    needs: dict[str, dict[str, float]]  # operations, seconds and peak of each module
    written: int  # bytes


def run_dvc(project: Project, *arguments: str, fault: dict[str, Any] | None = None) -> Ended:
    """Run `dvc repro` in a process group of its own, with a fault.

    A run that hangs is ended by SIGABRT; its output then says where each Python was.
    """
    environment = {"PYTHONFAULTHANDLER": "1"}
    if fault:
        environment |= {"PYTHONPATH": str(HOOK), "FAULT": json.dumps(fault)}
    with project.start_dvc("repro", *arguments, **environment) as process:
        try:
            said, _ = process.communicate(timeout=LONGEST)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGABRT)
            said, _ = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, said)


def files_of(project: Project) -> set[str]:
    """All files of the project except those of git and DVC."""
    return {
        str(path.relative_to(project.folder))
        for path in project.folder.rglob("*")
        if not {".git", "tmp", "cache"} & set(path.relative_to(project.folder).parts[:2])
    }


def faults_left(project: Project, whole: Project) -> Iterator[str]:
    """How a recovered project differs from the one without a fault."""
    found, expected = project.results(), whole.results()
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name) != expected.get(name):
            yield f"{name} is not the same"
    yield from (f"{name} is left over" for name in sorted(files_of(project) - files_of(whole)))
    for path in (project.folder / ".dvc/cache/files/md5").glob("[0-9a-f][0-9a-f]/*"):
        name = path.parent.name + path.name.removesuffix(".dir")
        if hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() != name:
            yield f"{path.relative_to(project.folder)} holds something else"


def before(project: Project, stage: str, folder: Path) -> Before:
    """Run a stage without a fault in a copy of the project, which lacks its outputs."""
    whole = project.copy(folder / "whole")
    size = _size(whole.folder)
    done = run_dvc(whole, stage, fault={"module": "", "tell": str(folder / "needs")})
    if done.returncode or f"Running stage '{stage}'" not in done.stdout:
        sys.exit(f"error: without a fault, stage {stage}: {done.stdout}")
    needs = {
        module: json.loads((folder / f"needs-{module}").read_text())
        for module in (f"stages.{stage}", "dvc")
    }
    return Before(stage, project, whole, needs, _size(whole.folder) - size)


def _size(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def draw(kind: str, at: Before, rng: random.Random) -> dict[str, Any]:
    """When and where a fault strikes."""
    module = "dvc" if kind.startswith("kill DVC") else f"stages.{at.stage}"
    needs = at.needs[module]
    if kind.startswith("signal"):
        return {
            "module": module,
            "after": round(rng.uniform(0, needs["seconds"]), 3),
            "signal": rng.choice(("SIGKILL", "SIGTERM", "SIGINT")),
            "target": kind.split()[-1],
        }
    if kind.startswith("kill"):
        operation = rng.randint(1, int(needs["operations"]))
        return {"module": module, "operation": operation, "signal": "SIGKILL", "target": "stage"}
    if kind == "disk full":
        return {"room": rng.randrange(0, at.written, 4096)}
    if kind == "folder read-only":
        return {"folder": rng.choice(FOLDERS)}
    return {"module": module, "limit": int(needs["peak"] * rng.random())}


def mount(*options: str) -> None:
    """Mount something, or change how it is mounted."""
    subprocess.run(["mount", *options], check=True, capture_output=True)


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """Something mounted at a folder, and taken away again."""
    folder.mkdir(parents=True, exist_ok=True)
    mount(*options, str(folder))
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, capture_output=True)


def can_mount() -> bool:
    """Whether this process may mount a file system."""
    with (
        suppress(OSError, subprocess.CalledProcessError),
        tempfile.TemporaryDirectory() as name,
        mounted(Path(name), *DISK),
    ):
        return True
    return False


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A folder that nobody can write to; root heeds no modes, so it is mounted over itself."""
    if os.geteuid():
        folder.chmod(0o555)
        yield
        folder.chmod(0o755)
        return
    with mounted(folder, "--bind", str(folder)):
        mount("-o", "remount,bind,ro", str(folder))
        yield


def struck(project: Project, stage: str, fault: dict[str, Any]) -> Ended:
    """Run a stage with the fault; the world is in order again afterwards."""
    if "folder" in fault:
        with read_only(project.folder / fault["folder"]):
            return run_dvc(project, stage)
    if "room" in fault:
        disk = project.folder.parent
        size = shutil.disk_usage(disk).used + fault["room"]
        mount("-o", f"remount,size={size}", str(disk))
        done = run_dvc(project, stage)
        mount("-o", "remount,size=1g", str(disk))
        return done
    return run_dvc(project, stage, fault=fault)


def trial(fault: dict[str, Any], at: Before, folder: Path) -> Result:
    """One fault in a copy of the project, and the recovery."""
    with mounted(folder, *DISK) if "room" in fault else nullcontext():
        project, note = at.project.copy(folder / "project"), ""
        done = struck(project, at.stage, fault)
        if done.returncode == -signal.SIGABRT:
            note = f"Ended by hand, as DVC did not end in {LONGEST} s: {done.stdout[:9000]}"
        again = run_dvc(project, at.stage)
        # DVC fell between making a folder of its run cache and filling it, and cannot read it.
        if "join() argument must be str" in again.stdout:
            note = "Recovered by `dvc repro --no-run-cache`"
            again = run_dvc(project, at.stage, "--no-run-cache")
        wrong = [*faults_left(project, at.whole)]
        if any(DVC_LEFT.search(line) for line in wrong):
            note = "A temporary file of DVC's own stayed in plots/ or metrics/"
        if again.returncode:
            wrong.insert(0, f"the next run ends with {again.returncode}: {again.stdout[-1500:]}")
    shutil.rmtree(folder, ignore_errors=True)
    return Result(done.returncode != 0, wrong, note)


def rows_of(tried: dict[str, list[Result]]) -> Iterator[Row]:
    """How many faults were survived and how many felt."""
    every = [result for results in tried.values() for result in results]
    for kind, results in (tried | {"all": every}).items():
        survived = sum(not result.wrong for result in results)
        felt = sum(result.felt for result in results)
        yield {"fault": kind, "survived": f"{survived} of {len(results)}", "felt": felt}


def main() -> None:
    parser = command_line(__doc__, "docs/results/robustness.md")
    parser.add_argument("--rounds", type=int, default=1, help="faults of each kind for each stage")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    options = parser.parse_args()
    # Where the shell started us in the background, all that we start would ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    tried: dict[str, list[Result]] = {kind: [] for kind in options.kinds}
    if "disk full" in tried and not can_mount():
        print("disk full is left out, as nothing can be mounted here")
        del tried["disk full"]
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        top = Path(name)
        project = make_project(top / "project")
        for stage in STAGES:
            at = before(project, stage, top / stage)
            kinds = tried if stage in options.stages else ()
            for number, kind in itertools.product(range(options.rounds), kinds):
                rng = random.Random(f"{options.seed} {number} {kind} {stage}")
                fault = draw(kind, at, rng)
                found = trial(fault, at, top / f"{number}-{kind}-{stage}".replace(" ", "-"))
                tried[kind].append(found)
                print(f"{stage}, {kind}, {fault}: {found}", flush=True)
            project = at.whole
    report(options.doc, "faults", rows_of(tried))
    if any(result.wrong for results in tried.values() for result in results):
        sys.exit("error: not every fault was survived")


if __name__ == "__main__":
    main()
