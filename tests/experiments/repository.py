"""A DVC project in git with the results of runs that were never run."""

import json
import subprocess
from pathlib import Path

from genre_embeddings import storage


def git(*arguments):
    done = subprocess.run(
        ["git", "-c", "user.name=A", "-c", "user.email=a@example.org", *arguments],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout.strip()


def init():
    """What `dvc init` makes."""
    git("init", "--quiet", "--initial-branch", "main")
    Path(".dvc").mkdir()
    Path(".dvc/config").write_text("")
    Path(".dvc/.gitignore").write_text("/tmp\n/cache\n")


def commit(message="a commit"):
    git("add", "--all")
    git("commit", "--quiet", "--message", message)
    return git("rev-parse", "HEAD")


def as_experiment(name, base):
    """What DVC does with an experiment: a commit of its own that only a ref of its kind names."""
    made = commit(name)
    git("update-ref", f"refs/exps/{base[:2]}/{base[2:]}/{name}", made)
    git("reset", "--quiet", "--hard", base)
    return made


def write_run(params, evaluation, inspection, *, data="1", split="1", inspected="1"):
    """What stages leave in the working directory.

    Args:
        params: settings by stage, as in dvc.lock.
        evaluation: metrics/evaluate.json.
        inspection: metrics/inspect.json.
        data: hash of the prepared data.
        split: hash of their split.
        inspected: hash of the model that was inspected; that of the trained one is 1.
    """
    model = [{"path": "models", "md5": "1"}]
    stages = {stage: {"params": {"params.yaml": params.get(stage, {})}} for stage in params}
    outs = {
        "prepare": [{"path": "data/prepared", "md5": data}],
        "split": [{"path": f"data/split/{side}", "md5": split} for side in storage.SIDES],
        "train": model,
    }
    for stage, made in outs.items():
        stages.setdefault(stage, {})["outs"] = made
    stages.setdefault("evaluate", {})["deps"] = model
    stages.setdefault("inspect", {})["deps"] = [{"path": "models", "md5": inspected}]
    contents = {
        "dvc.lock": {"schema": "2.0", "stages": stages},
        "metrics/evaluate.json": evaluation,
        "metrics/inspect.json": inspection,
    }
    for name, content in contents.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(json.dumps(content))
