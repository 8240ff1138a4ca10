"""Start-up and DVC: `python -m benchmarks.pipeline_times [--doc]`.

Start-up: seconds that each stage spends on imports (`-X importtime`), and whether torch is among
them. DVC: `dvc repro` and a cached `dvc exp run` in a clone of the last commit.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measuring import ROOT, Row, report
from benchmarks.scaling import STAGES, write_params

SMALLEST = 10_000


def imports_of(stage: str, folder: Path) -> Row:
    """Import seconds of a stage that runs in `folder`."""
    start = time.perf_counter()
    found = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", f"stages.{stage}"],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    wall = time.perf_counter() - start
    if found.returncode:
        sys.exit(f"error: stage {stage} failed:\n{found.stderr[-2000:]}")
    lines = re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)", found.stderr)
    seconds = sum(int(own) for own, _ in lines) / 1e6
    torch = "yes" if any(name == "torch" for _, name in lines) else "no"
    return {"what": f"stage {stage}", "clock s": wall, "of it imports": seconds, "torch": torch}


def timed_dvc(clone: Path, *arguments: str) -> Row:
    """Seconds of a DVC command in a clone."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=clone, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"PATH": path},
    )  # fmt: skip
    return {"what": f"dvc {' '.join(arguments)}", "clock s": time.perf_counter() - start}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--doc", action="store_true", help="write docs/speed.md")
    parser.add_argument("--imports-alone", action="store_true", help="leave DVC out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="genre-embeddings-") as name:
        folder = Path(name)
        write_params(folder, SMALLEST)
        (folder / "data/raw").mkdir(parents=True)
        rows = [imports_of(stage, folder) for stage in STAGES]
        if not options.imports_alone:
            clone = folder / "clone"
            subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
            rows.append(timed_dvc(clone, "repro") | {"what": "dvc repro, all stages"})
            rows.append(timed_dvc(clone, "repro") | {"what": "dvc repro, nothing changed"})
            subprocess.run([sys.executable, "-m", "dvc", "exp", "run"], cwd=clone, check=False)
            rows.append(timed_dvc(clone, "exp", "run") | {"what": "dvc exp run, all cached"})
    notes = "`python -m benchmarks.pipeline_times`; stages on a world of 10,000 ratings."
    report("speed-startup", "Start-up and DVC", notes, rows, options.doc)


if __name__ == "__main__":
    main()
