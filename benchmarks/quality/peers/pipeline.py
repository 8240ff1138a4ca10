"""The project's own stages, run in a copy of their own so that no result in place is touched."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from genre_embeddings import storage
from genre_embeddings.errors import InputError
from genre_embeddings.settings import load_yaml, parse_settings

ROOT = Path(__file__).resolve().parents[3]
MEASURED = Path(__file__).with_name("measured.py")


@dataclass(frozen=True)
class Cost:
    """What a process took: seconds on the clock and largest resident memory in bytes."""

    seconds: float
    peak_bytes: int


def parameters(overrides: Mapping[str, Any]) -> str:
    """The text of `params.yaml` with some `section.key` replaced.

    Raises:
        InputError: a key does not exist, or a value is not allowed.
    """
    content = load_yaml((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for name, value in overrides.items():
        *section, key = name.split(".")
        place = content
        for part in section:
            place = place.get(part) if isinstance(place, dict) else None
        if not isinstance(place, dict) or key not in place:
            raise InputError(f"{name} is not a setting: params.yaml lists them all.")
        place[key] = value
    text = yaml.safe_dump(content, sort_keys=False)
    parse_settings(text, "params.yaml")
    return text


def checkout(folder: Path, params: str, data: Path | None = None) -> Path:
    """A runnable copy of the pipeline with these settings.

    Args:
        folder: where it is made; it must not exist.
        params: text of its `params.yaml`.
        data: another checkout, whose prepared and split files are used instead of made anew.
    """
    folder.mkdir(parents=True)
    for name in ("stages", "src"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "params.yaml").write_text(params, encoding="utf-8")
    (folder / "data").mkdir()
    if data:
        for made in (storage.PREPARED, storage.TRUTH, storage.SPLIT):
            (folder / made).symlink_to(data / made)
    return folder


def run_stage(folder: Path, stage: str) -> Cost:
    """Run one stage in a checkout.

    Raises:
        InputError: the stage failed; the message ends with what it said.
    """
    return measured(sys.executable, ["-m", f"stages.{stage}"], folder, f"stage {stage}")


def measured(python: Path | str, command: Sequence[str], folder: Path, name: str) -> Cost:
    """Run a script or module in a process of its own, in `folder`, and tell what it took.

    Raises:
        InputError: it failed; the message ends with what it said.
    """
    result = folder / "measured.json"
    result.unlink(missing_ok=True)
    done = subprocess.run(
        [str(python), str(MEASURED), str(result), *command],
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if done.returncode or not result.exists():
        said = done.stdout.strip()[-2000:].replace(f"{folder}/", "")
        raise InputError(f"{name} failed (exit status {done.returncode}):\n{said}")
    return Cost(**json.loads(result.read_text(encoding="utf-8")))
