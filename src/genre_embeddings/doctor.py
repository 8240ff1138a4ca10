"""What commonly breaks experiments, and the command that mends each: `make doctor`.

Needs the standard library, git and, if it is there, dvc: it has to work where nothing else does.
Everything is looked at from outside, as DVC sees it: `python` and `dvc` are those on PATH.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

OLDEST_PYTHON = (3, 11)
SOURCE = ("src", "stages", "dvc.yaml", "params.yaml", ".dvc/config", ".dvc/html", ".dvc/plots")
"""What a run reads: a queued experiment has of it what git has."""
LEAST_GB, TIGHT_GB = 0.5, 5.0
"""Free space below which runs fail, and below which a sweep may."""
RUNS = Path(".dvc/tmp/exps")
ENVIRONMENT = Path(".venv/bin")
ACTIVATE = f"source {ENVIRONMENT}/activate"
REINSTALL = "rm -f .venv/.ready && make install"
PUT_BACK = "git checkout HEAD -- params.yaml"

_PACKAGES = """
import json
from importlib.metadata import distributions
print(json.dumps([(d.metadata["Name"], d.version) for d in distributions() if d.metadata["Name"]]))
"""
_SETTINGS = """
import sys
sys.path.insert(0, "src")
from genre_embeddings.errors import InputError
from genre_embeddings.settings import load_settings
try:
    found = load_settings()
except InputError as error:
    sys.exit(str(error))
print(found.data.path)
"""


class Finding(NamedTuple):
    """Something that breaks experiments (`broken`), or may surprise."""

    broken: bool
    what: str
    mend: str


class Done(NamedTuple):
    """How a command ended."""

    well: bool
    out: str
    said: str


def run(*command: str) -> Done:
    """Run a command; one that is not on PATH ended badly."""
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", check=False
        )
    except OSError as error:
        return Done(False, "", str(error))
    return Done(done.returncode == 0, done.stdout, (done.stdout + done.stderr).strip())


def environment() -> Iterator[Finding]:
    """Whether `python` and `dvc` run, are those of .venv, and have the project's packages."""
    found = {name: shutil.which(name) for name in ("python", "dvc")}
    activate = ACTIVATE if ENVIRONMENT.is_dir() else f"make install && {ACTIVATE}"
    own = {
        name: path is not None and Path(path).parent.resolve() == ENVIRONMENT.resolve()
        for name, path in found.items()
    }
    for name, path in found.items():
        if path is None:
            yield Finding(True, f"there is no `{name}` on PATH, and stages need it", activate)
        elif not (done := run(path, "--version")).well:
            again = f"make clean install && {ACTIVATE}" if own[name] else activate
            yield Finding(True, f"{path} does not run: {done.said}", again)
        elif name == "python":
            yield from _packages(path, REINSTALL if own[name] else activate)
    elsewhere = [path for name, path in found.items() if path and not own[name]]
    if elsewhere and ENVIRONMENT.is_dir():
        yield Finding(False, f"not of {ENVIRONMENT.parent}: {', '.join(elsewhere)}", activate)


def _packages(python: str, mend: str) -> Iterator[Finding]:
    installed = {
        _plain(name): version for name, version in json.loads(run(python, "-c", _PACKAGES).out)
    }
    missing = [name for name in _required() if name not in installed]
    if missing:
        yield Finding(True, f"{python} lacks {_some(missing)}", mend)
    other = [
        f"{name} {installed[name]} for {version}"
        for name, version in _pinned().items()
        if name in installed and installed[name].split("+")[0] != version.split("+")[0]
    ]
    if other and not missing:
        what = f"versions that constraints.txt does not name, so other numbers: {_some(other)}"
        yield Finding(False, what, mend)


def repository() -> Iterator[Finding]:
    """Whether there is a commit from which experiments can start."""
    commit = "git add --all && git commit --message 'Begin'"
    if shutil.which("git") is None:
        yield Finding(True, "there is no `git` on PATH", "install git")
    elif not run("git", "rev-parse", "--is-inside-work-tree").well:
        yield Finding(True, "this is no git repository", f"git init && {commit}")
    elif not _has_commit():
        yield Finding(True, "there is no commit yet, and experiments start from one", commit)


def git_lock() -> Iterator[Finding]:
    """A lock that a killed git left, which stops DVC as well."""
    found = run("git", "rev-parse", "--git-path", "index.lock")
    lock = Path(found.out.strip())
    if found.well and lock.exists():
        time.sleep(2)  # a git at work is done by then
        if lock.exists():
            yield Finding(True, f"{lock} is held, or left by a killed git", f"rm {lock}")


def sources() -> Iterator[Finding]:
    """Files that a run reads and a queued experiment would not have."""
    if not _has_commit():
        return
    for ignored in (False, True):
        options = ["--ignored"] if ignored else []
        listed = run(
            "git", "ls-files", "-z", "--others", "--exclude-standard", *options, "--", *SOURCE
        )
        names = [
            name
            for name in listed.out.split("\0")
            if name and not re.search(r"__pycache__|\.egg-info/|\.pyc$|~$|\.sw.$", name)
        ]
        if names and listed.well:
            kind = "ignored by" if ignored else "not known to"
            force = "--force " if ignored else ""
            yield Finding(
                True,
                f"{kind} git, so that a queued experiment runs without: {_some(names)}",
                f"git add {force}-- {shlex.join(names)}",
            )


def changes() -> Iterator[Finding]:
    """Changes that the next experiment takes along."""
    if not _has_commit():
        return
    status = run("git", "status", "--porcelain", "--untracked-files=no", "--", *SOURCE)
    dirty = [line[3:] for line in status.out.splitlines()]
    if "params.yaml" in dirty:
        dirty.remove("params.yaml")
        diff = run("dvc", "params", "diff", "--json")
        found = json.loads(diff.out).get("params.yaml", {}) if diff.well and diff.out else {}
        changed = [f"{key} {value['old']} -> {value['new']}" for key, value in found.items()]
        if changed:
            what = f"the next experiment starts from settings not committed: {_some(changed)}"
            yield Finding(False, what, PUT_BACK)
    if dirty:
        yield Finding(
            False,
            f"changed and not committed: {_some(dirty)}; a queued experiment records it as it is",
            "git commit --all --message 'Before the experiments'",
        )


def settings() -> Iterator[Finding]:
    """Whether params.yaml can be used, and the data are there."""
    python = shutil.which("python")
    done = run(python, "-c", _SETTINGS) if python else Done(False, "", "ModuleNotFoundError")
    if not done.well:
        if "ModuleNotFoundError" not in done.said:  # else the environment is to blame
            committed = run("git", "diff", "--quiet", "HEAD", "--", "params.yaml").well
            yield Finding(True, done.said, "${EDITOR:-vi} params.yaml" if committed else PUT_BACK)
        return
    path = done.out.strip()
    if not Path(path).exists():
        what = f"data.path is {path!r}, which does not exist"
        yield Finding(True, what, f"{PUT_BACK} data/raw")


def queue() -> Iterator[Finding]:
    """Tasks that nobody works on."""
    if not (RUNS / "celery").is_dir() or shutil.which("dvc") is None:
        return
    workers = [_process(path) for path in (RUNS / "celery").glob("dvc-exp-worker-*.json")]
    working = any(_alive(pid) for pid, _ in workers)
    names: dict[str, list[str]] = {"Running": [], "Queued": [], "Failed": []}
    for line in run("dvc", "queue", "status").out.splitlines():
        row = re.fullmatch(r"([0-9a-f]{7})  +(\S+) .* (Running|Queued|Failed)", line.strip())
        if row and not (row[3] == "Running" and _at_work(row[1], working)):
            names[row[3]].append(row[2])
    if names["Running"]:
        listed = " ".join(names["Running"])
        what = f"listed as running, but killed: {listed}. Free it, then queue it again"
        yield Finding(True, what, f"dvc queue kill {listed}")
    if names["Queued"] and not working:
        killed = any(ended is None for _, ended in workers)
        why = "the worker was killed" if killed else "no worker has been started"
        what = f"{len(names['Queued'])} experiments wait, and {why}"
        yield Finding(killed, what, "dvc queue start --jobs 1")
    if names["Failed"]:
        what = f"failed: {_some(names['Failed'])}. Why: dvc queue logs {names['Failed'][0]}"
        yield Finding(False, what, "dvc queue remove --failed")


def locks() -> Iterator[Finding]:
    """What a killed process left: locks, and the copies in which experiments ran."""
    for path in (Path(".dvc/tmp/rwlock"), RUNS / "rwlock"):
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
            writes, reads = held.get("write", {}).values(), held.get("read", {}).values()
            holders = {
                (holder["pid"], holder["cmd"])
                for holder in (*writes, *(holder for holders in reads for holder in holders))
            }
        except FileNotFoundError:
            continue
        except (ValueError, AttributeError, KeyError, TypeError):
            yield Finding(True, f"{path} was cut short when DVC was killed", f"rm {path}")
            continue
        for pid, command in sorted(holders):
            if not _alive(pid):
                what = f"{path} names process {pid} ({command}), which is gone; DVC passes over it"
                yield Finding(False, what, f"rm {path}")
            elif not _alive(pid, "dvc"):
                what = f"{path} names process {pid}, which is another by now, so that DVC waits"
                yield Finding(True, what, f"rm {path}")
    homes = [home for home in map(_home, Path("/proc").glob("[0-9]*")) if home]
    for folder in sorted((*RUNS.glob("tmp*"), *RUNS.glob("standalone/tmp*"))):
        used = any(folder.resolve() in (home, *home.parents) for home in homes)
        if homes and not used and _old(folder):
            yield Finding(False, f"{folder} is left of a killed experiment", f"rm -rf {folder}")


def run_cache(folder: Path = Path(".dvc/cache/runs")) -> Iterator[Finding]:
    """What a killed DVC left empty in its memory of runs, over which the next one stumbles."""
    empty = [path for path in folder.glob("*/*") if path.is_dir() and not any(path.iterdir())]
    if empty:
        what = (
            f"{empty[0]} is empty, left of a killed DVC: the next run fails with `join() argument "
            "must be str`"
        )
        yield Finding(True, what, f"find {folder} -mindepth 1 -type d -empty -delete")


def leftovers() -> Iterator[Finding]:
    """Half copies of outputs that a killed DVC left among those that git sees."""
    for path in sorted((*Path("metrics").rglob(".*.tmp"), *Path("plots").rglob(".*.tmp"))):
        if re.fullmatch(r"\.[\w-]{22}\.tmp", path.name) and _old(path):
            yield Finding(False, f"{path} is left of a killed DVC", f"rm {shlex.quote(str(path))}")


def remote() -> Iterator[Finding]:
    """Whether results can be shared."""
    done = run("dvc", "remote", "list")
    if done.well and not done.out.strip():
        what = "no remote: data and models lie on this machine alone"
        yield Finding(False, what, "dvc remote add --default --local store ../store")


def disk(least: float = LEAST_GB, tight: float = TIGHT_GB) -> Iterator[Finding]:
    """Whether there is space for more experiments; `least` and `tight` are in GB."""
    free = shutil.disk_usage(".").free / 1e9
    if free < tight:
        yield Finding(
            free < least,
            f"{free:.1f} GB are free; remove experiments (dvc exp remove NAME), then what only "
            "they had",
            "dvc gc --all-commits --all-experiments",
        )


CHECKS = (
    environment, repository, git_lock, sources, changes, settings, queue, locks, run_cache,
    leftovers, remote, disk,
)  # fmt: skip


def main() -> int:
    """Print what was found; 1 where something is broken."""
    if sys.version_info < OLDEST_PYTHON:
        old = Finding(True, f"{sys.executable} is too old", "make doctor PYTHON=python3.11")
        found = [old]
    else:
        found = [finding for check in CHECKS for finding in check()]
    for finding in sorted(found, key=lambda finding: not finding.broken):
        print(f"{'broken' if finding.broken else 'hint'}: {finding.what}\n  mend: {finding.mend}")
    broken = sum(finding.broken for finding in found)
    print(f"broken: {broken}, hints: {len(found) - broken}" if found else "all is well")
    return int(broken > 0)


def _has_commit() -> bool:
    return run("git", "rev-parse", "--verify", "--quiet", "HEAD").well


def _process(path: Path) -> tuple[int, int | None]:
    """Number and exit status of a process of DVC's; None while it runs, or if it was killed."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return content["pid"], content["returncode"]


def _at_work(task: str, working: bool) -> bool:
    """Whether somebody works on a task; `working` says whether there are workers at all."""
    for path in (RUNS / "run").glob(f"{task}*/*.json"):
        pid, ended = _process(path)
        return working if ended is not None else _alive(pid)
    return working


def _alive(pid: int, word: str = "") -> bool:
    """Whether a process lives, is no zombie, and has `word` in its command."""
    if Path("/proc/self/stat").exists():
        try:
            state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
            command = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False
        shown = f"{state.rpartition(')')[2].strip()} {command}"
    else:
        shown = run("ps", "-o", "stat=,command=", "-p", str(pid)).out.strip()
    return bool(shown) and not shown.startswith("Z") and word in shown


def _old(path: Path) -> bool:
    """Whether a minute has passed since it was written: a younger one may be on its way."""
    try:
        return time.time() - path.stat().st_mtime > 60
    except FileNotFoundError:  # it was
        return False


def _home(process: Path) -> Path | None:
    """The folder in which a process of /proc works, if it may be known."""
    try:
        return (process / "cwd").readlink()
    except OSError:
        return None


def _required() -> list[str]:
    """Names of the packages that the project needs itself."""
    import tomllib

    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [_plain(re.split(r"[^\w.-]", entry, maxsplit=1)[0]) for entry in project["dependencies"]]


def _pinned() -> dict[str, str]:
    """Versions by name in constraints.txt."""
    lines = Path("constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if "==" in line and not line.startswith("#")]
    return {_plain(name): version.strip() for name, version in pairs}


def _plain(name: str) -> str:
    """A package's name as all of its spellings have it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _some(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


if __name__ == "__main__":
    sys.exit(main())
