"""What commonly breaks experiments, and the command that mends each: `make doctor`.

Needs the standard library, git and, if it is there, dvc: it has to work where nothing else does.
Everything is looked at from outside, as DVC sees it: `python` and `dvc` are those on PATH.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from genre_embeddings.errors import messages

OLDEST_PYTHON = (3, 11)
SOURCE = ("src", "stages", "dvc.yaml", "params.yaml", ".dvc/config", ".dvc/html", ".dvc/plots")
"""What a run reads; a queued experiment has only those files that git tracks."""
ACTIVATE = "source .venv/bin/activate"
PUT_BACK = "git checkout HEAD -- params.yaml"

# Prints the packages of pyproject.toml that are missing, then checks params.yaml.
_CHECK = """
import re, sys, tomllib
from importlib.metadata import PackageNotFoundError, version
needed = tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"]
for name in (re.split(r"[^\\w.-]", entry)[0] for entry in needed):
    try:
        version(name)
    except PackageNotFoundError:
        print(name)
sys.path.insert(0, "src")
from genre_embeddings.errors import InputError
from genre_embeddings.settings import load_settings
try:
    load_settings()
except InputError as error:
    sys.exit(str(error))
"""


class Finding(NamedTuple):
    """Something that breaks experiments (`broken`), or may surprise."""

    broken: bool
    what: str
    mend: str


def run(*command: str) -> tuple[bool, str, str]:
    """Run a command: whether it went well, its stdout, and all that it said."""
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    except OSError as error:  # not on PATH
        return False, "", str(error)
    return done.returncode == 0, done.stdout, (done.stdout + done.stderr).strip()


def environment() -> Iterator[Finding]:
    """Whether `python` and `dvc` run, with the project's packages, and params.yaml is valid."""
    if sys.version_info < OLDEST_PYTHON:
        yield Finding(True, f"{sys.executable} is too old", "make doctor PYTHON=python3.11")
        return
    activate = ACTIVATE if Path(".venv/bin").is_dir() else f"make install && {ACTIVATE}"
    for name, question in (("python", "--version"), ("dvc", "doctor")):
        if (program := shutil.which(name)) is None:
            yield Finding(True, f"there is no `{name}` on PATH, and stages need it", activate)
            continue
        well, _, said = run(program, question)
        if not well and "no commits" not in said:
            again = f"make clean install && {ACTIVATE}"
            yield Finding(True, f"`{program} {question}` fails: {said}", again)
    if shutil.which("python"):
        well, missing, said = run("python", "-c", _CHECK)
        if missing:
            again = f"rm -f .venv/.ready && make install && {ACTIVATE}"
            yield Finding(True, f"the environment lacks {', '.join(missing.split())}", again)
        elif not well:
            committed = run("git", "diff", "--quiet", "HEAD", "--", "params.yaml")[0]
            yield Finding(True, said, "${EDITOR:-vi} params.yaml" if committed else PUT_BACK)


def repository() -> Iterator[Finding]:
    """Whether experiments can start from a commit, with all the sources, and git is not locked."""
    commit = "git add --all && git commit --message 'Begin'"
    found, path, _ = run("git", "rev-parse", "--git-path", "index.lock")
    lock = Path(path.strip())
    if shutil.which("git") is None:
        yield Finding(True, "there is no `git` on PATH", "install git")
    elif not found:
        yield Finding(True, "this is no git repository", f"git init && {commit}")
    elif not run("git", "rev-parse", "--verify", "--quiet", "HEAD")[0]:
        yield Finding(True, "there is no commit yet, and experiments start from one", commit)
    elif lock.exists():
        held = f"{lock} is held by a git at work, or left by a killed one"
        yield Finding(True, held, f"rm {lock}")
    else:
        options = ("--porcelain", "-z", "--no-renames", "--ignored", "--untracked-files=all")
        _, status, _ = run("git", "status", *options, "--", *SOURCE)
        files: dict[str, list[str]] = {}
        for entry in filter(None, status.split("\0")):
            if not re.search(r"__pycache__|\.egg-info/|\.pyc$|~$|\.sw.$", entry):
                files.setdefault(entry[:2], []).append(entry[3:])
        for mark, kind, force in (("??", "not known to", ""), ("!!", "ignored by", "--force ")):
            if names := files.pop(mark, []):
                what = f"{kind} git, so that a queued experiment runs without: {', '.join(names)}"
                yield Finding(True, what, f"git add {force}-- {shlex.join(names)}")
        if changed := ", ".join(name for names in files.values() for name in names):
            what = f"changed and not committed, so that the next experiment has it: {changed}"
            yield Finding(False, what, "git commit --all --message 'Before the experiments'")


def queue() -> Iterator[Finding]:
    """Tasks that `dvc queue status` lists as running where no worker is."""
    if Path(".dvc/tmp/exps/celery").is_dir():
        _, said, _ = run("dvc", "queue", "status")
        killed = " ".join(re.findall(r"^[0-9a-f]{7}  +(\S+) .* Running\s*$", said, re.M))
        if killed and not re.search(r"[1-9]\d* (active|idle)", said):
            what = f"listed as running, but killed: {killed}. Free it, then queue it again"
            yield Finding(True, what, f"dvc queue kill {killed}")


def run_cache() -> Iterator[Finding]:
    """Folders that a killed DVC left empty in its run cache, on which the next run fails."""
    folder = Path(".dvc/cache/runs")
    if empty := [path for path in folder.glob("*/*") if path.is_dir() and not any(path.iterdir())]:
        what = (
            f"{empty[0]} is empty, left of a killed DVC: the next run fails with `join() argument "
            "must be str`"
        )
        yield Finding(True, what, f"find {folder} -mindepth 1 -type d -empty -delete")


CHECKS = (environment, repository, queue, run_cache)


def main() -> int:
    """Print what was found; 1 where something is broken."""
    found = [finding for check in CHECKS for finding in check()]
    for finding in sorted(found, key=lambda finding: not finding.broken):
        print(f"{'broken' if finding.broken else 'hint'}: {finding.what}\n  mend: {finding.mend}")
    broken = sum(finding.broken for finding in found)
    print(f"broken: {broken}, hints: {len(found) - broken}" if found else "all is well")
    return int(broken > 0)


if __name__ == "__main__":
    with messages():
        sys.exit(main())
