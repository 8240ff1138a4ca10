"""Revisions of the project (experiments, branches, commits, the workspace), read through DVC.

Metrics, plots and settings lie in git, experiments included, so that neither data nor a model nor
the cache of DVC is needed. A run's settings are those in dvc.lock, which says what really ran.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from dvc.api import DVCFileSystem
from dvc.exceptions import NotDvcRepoError
from dvc.repo import Repo
from dvc.scm import SCMError
from scmrepo.exceptions import SCMError as GitError

from genre_embeddings import storage
from genre_embeddings.errors import InputError, plain
from genre_embeddings.pages import setting_text
from genre_embeddings.publish.summary import EVALUATION, INSPECTION, SUMMARY
from genre_embeddings.settings import load_yaml

WORKSPACE = "workspace"
VERDICTS = ("structure", "stability", "value")
PREDICTION, VALIDATION = "test RMSE (stars)", "validation RMSE"
STABILITY = "agreement with other users"
AGREEMENTS = {
    "agreement with truth": "agreement.truth",
    "agreement with likelihood": "agreement.likelihood",
    STABILITY: "stability.spearman",
}
SCORES = {PREDICTION: "test.rmse", VALIDATION: "validation.rmse", **AGREEMENTS}
"""Metrics that runs are compared by: what they are called, and their key."""


@dataclass(frozen=True)
class Run:
    """What was set and measured in a revision.

    Attributes:
        name: how the revision is called.
        settings: settings with which its stages ran, as `section.key`.
        metrics: headline metrics of its model, such as `test.rmse`.
        hashes: DVC's hashes of its data: `data` as prepared, and their `split`.
    """

    name: str
    settings: dict[str, Any]
    metrics: dict[str, Any] = field(default_factory=dict)
    hashes: dict[str, str | None] = field(default_factory=dict)

    @property
    def scores(self) -> dict[str, float]:
        """Those of `SCORES` that the run has."""
        found = {name: self.metrics.get(key) for name, key in SCORES.items()}
        return {name: float(v) for name, v in found.items() if isinstance(v, int | float)}


def warnings(first: Run, others: Sequence[Run]) -> list[str]:
    """Sentences on the runs whose data, split or seed differ from those of the first."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for run in others:
        one, other = (r.hashes | {"seed": r.settings.get("seed")} for r in (first, run))
        known = [key for key in one if None not in (one[key], other.get(key))]
        if differing := tuple(key for key in known if one[key] != other[key]):
            groups.setdefault(differing, []).append(run.name)
    sentences = []
    for differing, names in groups.items():
        verb = "differs" if len(names) == 1 else "differ"
        what = ", ".join(differing[:-1]) + " and " * (len(differing) > 1) + differing[-1]
        sentence = f"{', '.join(names)} {verb} from {first.name} in {what}."
        if differing != ("seed",):
            sentence += " Their test ratings differ, so their errors cannot be compared directly."
        sentences.append(sentence)
    return sentences


class Revision:
    """The files of a revision.

    Raises:
        InputError: it is not known, or this is not a DVC project.
    """

    def __init__(self, name: str, commit: str | None = None) -> None:
        self.name = name
        try:
            self._files = DVCFileSystem(rev=None if name == WORKSPACE else commit or name)
            _ = self._files.repo  # opened here, where its errors are caught
        except (SCMError, GitError):
            known = sorted(set(names().values()))
            close = get_close_matches(name, known, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise InputError(
                f"revision {name!r} is not known{hint}, or several experiments have that name. "
                f"Experiments and branches here: {', '.join(known) or 'none'}. Tags, commits and "
                f"{WORKSPACE} can be named, too; `dvc exp pull` brings experiments of others."
            ) from None

    def read(self, path: Path, parse: Callable[[str], Any] = json.loads) -> Any:
        """A file's content, JSON if nothing else is said, or None where there is no such file.

        Raises:
            InputError: the file is damaged.
        """
        try:
            return _plain(parse(self._files.read_text(path.as_posix(), encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (InputError, ValueError, RecursionError) as error:
            raise InputError(
                f"{self.name}: {path} cannot be read ({error}): restore it with git."
            ) from None

    def read_run(self) -> Run:
        """Settings and metrics; no metrics where stage publish has not summarized the last run.

        Raises:
            InputError: a file is damaged.
        """
        try:
            stages = (self.read(Path("dvc.lock"), load_yaml) or {}).get("stages", {})
            settings: dict[str, Any] = {}
            for stage in ("prepare", "split", "inspect", "train"):  # train's own before inspect's
                params = stages.get(stage, {}).get("params", {}).get("params.yaml") or {}
                settings |= storage.flatten(params)
            outs = [entry for stage in stages.values() for entry in stage.get("outs", [])]
            made = {entry["path"]: entry.get("md5") for entry in outs}
            deps = stages.get("publish", {}).get("deps", [])
            summarized = {entry["path"]: entry.get("md5") for entry in deps}
            wanted = list(map(str, (storage.MODEL, EVALUATION, INSPECTION)))
            metrics: dict[str, Any] = {}
            if all(made.get(p) and made[p] == summarized.get(p) for p in wanted):
                metrics = storage.flatten(self.read(SUMMARY) or {})
        except (AttributeError, KeyError, TypeError) as error:
            raise InputError(
                f"{self.name}: dvc.lock or {SUMMARY} is not as DVC and stage publish write it "
                f"({error!r}): restore it with git."
            ) from None
        parts = [made.get(str(storage.SPLIT / part)) for part in storage.SIDES]
        split = " ".join(map(str, parts)) if any(parts) else None
        hashes = {"data": made.get(str(storage.PREPARED)), "split": split}
        return Run(self.name, settings, metrics, hashes)


def read_runs() -> list[Run]:
    """Runs that have scores: the workspace's, then experiments and branches, the newest first.

    Raises:
        InputError: a file of a run cannot be read, or this is not a DVC project.
    """
    runs = [Revision(WORKSPACE).read_run()]
    runs += [Revision(name, commit).read_run() for commit, name in names().items()]
    return [run for run in runs if run.scores]


def names() -> dict[str, str]:
    """Names of experiments and branches by commit, the newest first.

    The commit that is checked out goes by its own branch, if other branches are at it, too.

    Raises:
        InputError: this is not a DVC project in git.
    """
    with _repo() as repo:
        listed = repo.experiments.ls(all_commits=True).values()
        found = {commit: name for entries in listed for name, commit in entries}
        here = None
        with suppress(GitError):  # no branch is checked out
            here = repo.scm.active_branch()
        for branch in sorted(repo.scm.list_branches(), key=lambda branch: branch != here):
            found.setdefault(repo.scm.get_ref(f"refs/heads/{branch}"), branch)
        times = {commit: repo.scm.resolve_commit(commit).commit_time for commit in found}
    return {commit: found[commit] for commit in sorted(found, key=times.__getitem__, reverse=True)}


def current() -> str | None:
    """The name, as in `names`, of the commit that is checked out."""
    with _repo() as repo:
        return names().get(repo.scm.get_ref("HEAD"))


def text(value: Any) -> str:
    """A setting as it is written in params.yaml; 1 and 1.0 are the same."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return setting_text(value)


def _repo() -> Repo:
    try:
        repo = Repo()
        repo.scm.get_ref("HEAD")  # an error in a project without git
        return repo
    except (NotDvcRepoError, SCMError, GitError):
        raise InputError(
            f"{Path.cwd()} is not a DVC project in git: run the command in the project's folder."
        ) from None


def _plain(content: Any) -> Any:
    """The content with plain names: a pulled experiment may hold any text.

    DVC has colorama between us and the terminal, which stumbles over some control characters.
    """
    if isinstance(content, list):
        return [_plain(item) for item in content]
    if isinstance(content, dict):
        return {_plain(key): _plain(value) for key, value in content.items()}
    return plain(content) if isinstance(content, str) else content
