"""DVC in a clone of the last commit: `python -m benchmarks.speed.pipeline_times [--doc]`."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measuring import ROOT, Row, command_line, machine, report

# A new clone has the results that are in git, and the models in nobody's cache.
COMMANDS = {
    "dvc --version": "--version",
    "dvc repro, all stages": "repro",
    "dvc repro, nothing changed": "repro",
    "dvc exp run, nothing changed": "exp run",
    "dvc exp run, another seed": "exp run -S seed=1",
    "dvc exp run, another seed, all cached": "exp run -S seed=1",
}


def main() -> None:
    options = command_line(__doc__, "docs/results/speed.md").parse_args()
    notes = f"`python -m benchmarks.speed.pipeline_times`. {machine()}."
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="genre-embeddings-") as clone:
        subprocess.run(["git", "clone", "--quiet", str(ROOT), clone], check=True)
        for what, arguments in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "dvc", *arguments.split()],
                cwd=clone, env=os.environ | {"PATH": path}, stdout=sys.stderr, check=True,
            )  # fmt: skip
            rows.append({"what": what, "clock s": time.perf_counter() - start})
            if "exp" in arguments:
                subprocess.run(["git", "checkout", "--quiet", "."], cwd=clone, check=True)
    report(options.doc, "startup", rows, notes)


if __name__ == "__main__":
    main()
