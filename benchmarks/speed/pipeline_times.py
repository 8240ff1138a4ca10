"""Start-up and DVC: `python -m benchmarks.speed.pipeline_times [--doc]`.

Start-up: seconds that each stage spends on imports (`-X importtime`), and whether torch is among
them. DVC, in a clone of the last commit: its own start, `dvc repro` stage by stage, and a cached
`dvc exp run`.
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

from benchmarks.measuring import ROOT, Row, checkout, report
from benchmarks.speed.scaling import STAGES, world

SMALLEST = 10_000
ALL_STAGES = ("check", *STAGES, "summarize", "publish")


def imports_of(stage: str, folder: Path) -> Row:
    """Import seconds of a stage that runs in `folder`."""
    start = time.perf_counter()
    found = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", f"stages.{stage}"],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    wall = time.perf_counter() - start
    if found.returncode:
        sys.exit(f"error: stage {stage} failed:\n{found.stderr[-2000:]}")
    lines = re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)", found.stderr)
    seconds = sum(int(own) for own, _ in lines) / 1e6
    torch = "yes" if any(name == "torch" for _, name in lines) else "no"
    return {"what": f"stage {stage}", "clock s": wall, "of it imports": seconds, "torch": torch}


def timed_dvc(clone: Path, *arguments: str) -> tuple[float, dict[str, float]]:
    """Seconds of a DVC command in a clone, and of each stage that it runs or passes over."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    seconds: dict[str, float] = {}
    stage, begun = "", time.perf_counter()
    start = begun
    with subprocess.Popen(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=clone, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | {"PATH": path, "PYTHONUNBUFFERED": "1"},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.match(r"(?:Running stage|Stage) '(\w+)'", line):
                now = time.perf_counter()
                seconds[stage] = now - begun
                stage, begun = found[1], now
    if process.returncode:
        sys.exit(f"error: dvc {' '.join(arguments)} ended with {process.returncode}.")
    end = time.perf_counter()
    return end - start, seconds | {stage: end - begun}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--doc", action="store_true", help="write docs/results/speed.md")
    parser.add_argument("--imports-alone", action="store_true", help="leave DVC out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="genre-embeddings-") as name:
        folder = checkout(Path(name) / "copy", world(SMALLEST))
        rows = [imports_of(stage, folder) for stage in ALL_STAGES]
        if not options.imports_alone:
            clone = folder / "clone"
            subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
            rows.append({"what": "dvc --version", "clock s": timed_dvc(clone, "--version")[0]})
            # As a new clone: the results are in git, and the models in nobody's cache.
            whole, stages = timed_dvc(clone, "repro")
            rows.append({"what": "dvc repro, all stages", "clock s": whole})
            rows += [
                {"what": f"of it {stage or 'before the first'}", "clock s": seconds}
                for stage, seconds in stages.items()
            ]
            for what, arguments in (
                ("dvc repro, nothing changed", ("repro",)),
                ("dvc exp run, nothing changed", ("exp", "run")),
                ("dvc exp run, another seed", ("exp", "run", "-S", "seed=1")),
                ("dvc exp run, another seed, all cached", ("exp", "run", "-S", "seed=1")),
            ):
                rows.append({"what": what, "clock s": timed_dvc(clone, *arguments)[0]})
                subprocess.run(["git", "checkout", "--quiet", "."], cwd=clone, check=True)
    notes = "`python -m benchmarks.speed.pipeline_times`; stages on a world of 10,000 ratings."
    report("startup", notes, rows, options.doc)


if __name__ == "__main__":
    main()
