"""Run a script or a module as `python` does, and note its seconds and its peak memory.

    python measured.py RESULT.json worker.py JOB.json
    python measured.py RESULT.json -m stages.train

Uses the standard library alone, because it runs in both environments.
"""

import json
import runpy
import sys
import time
from pathlib import Path


def peak_bytes() -> int:
    """Largest resident memory of this process so far.

    Linux carries `ru_maxrss` over from the process that started this one; `VmHWM` is its own.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main() -> None:
    """Run what the command line names."""
    result, target, *arguments = sys.argv[1:]
    begin = time.perf_counter()
    if target == "-m":
        sys.path[0] = str(Path.cwd())
        module, *arguments = arguments
        sys.argv = [module, *arguments]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        del sys.path[0]
        sys.argv = [target, *arguments]
        runpy.run_path(target, run_name="__main__")
    measured = {"seconds": time.perf_counter() - begin, "peak_bytes": peak_bytes()}
    Path(result).write_text(json.dumps(measured), encoding="utf-8")


if __name__ == "__main__":
    main()
