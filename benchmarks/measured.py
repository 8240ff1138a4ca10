"""Run a command and write what it took: `python measured.py RESULT.json COMMAND ...`.

A small process of its own, because Linux counts the memory of the process that starts a command
into the command's peak.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    result, *command = sys.argv[1:]
    start = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    cost = {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        # Linux counts kilobytes, macOS bytes.
        "peak_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    }
    Path(result).write_text(json.dumps(cost), encoding="utf-8")
    sys.exit(os.waitstatus_to_exitcode(status))
