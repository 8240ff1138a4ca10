"""Brings about the fault that the environment variable FAULT describes.

Every Python that finds this folder on PYTHONPATH imports this module at its start. The fault
strikes in the process that runs the module which it names. With `tell`, every process writes its
file operations, seconds and peak of memory when it ends.
"""

import atexit
import json
import os
import resource
import signal
import sys
import threading
import time
from typing import Any

FAULT = json.loads(os.environ["FAULT"])
MODULE = sys.orig_argv[2] if sys.orig_argv[1:2] == ["-m"] else ""
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink"}
PROJECT = os.getcwd() + os.sep  # noqa: PTH109 (every process would import pathlib)
STARTED = time.monotonic()
operations = 0


def strike() -> None:
    """Send the signal to this process, to DVC, or to the whole process group."""
    number = getattr(signal, FAULT["signal"])
    if FAULT["target"] == "both":
        os.killpg(0, number)
    else:
        os.kill(int(os.environ["FAULT_DVC"]) if FAULT["target"] == "DVC" else os.getpid(), number)


def count(event: str, arguments: tuple[Any, ...]) -> None:
    """Count the changes of files in the project, and strike at the one that the fault names."""
    global operations
    if event == "open":
        if not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
    elif event not in CHANGES:
        return
    if event != FAULT.get("event", event) or isinstance(arguments[0], int):
        return
    path = os.path.abspath(os.fsdecode(arguments[0]))  # noqa: PTH100
    if path.startswith(PROJECT) and path.endswith(FAULT.get("path", "")):
        operations += 1
        if operations == FAULT.get("operation"):
            strike()


def tell() -> None:
    """Write what this process needed."""
    with open("/proc/self/status") as file:  # noqa: PTH123
        peak = next(int(line.split()[1]) for line in file if line.startswith("VmPeak"))
    needs = {"operations": operations, "seconds": time.monotonic() - STARTED, "peak": peak * 1024}
    with open(f"{FAULT['tell']}-{MODULE}", "w") as file:  # noqa: PTH123
        json.dump(needs, file)


if MODULE == "dvc":
    os.environ["FAULT_DVC"] = str(os.getpid())
if "tell" in FAULT:
    atexit.register(tell)
if "tell" in FAULT or FAULT["module"] == MODULE:
    sys.addaudithook(count)
    if "limit" in FAULT:
        resource.setrlimit(resource.RLIMIT_AS, (FAULT["limit"], FAULT["limit"]))
    if "after" in FAULT:
        clock = threading.Timer(FAULT["after"], strike)
        clock.daemon = True
        clock.start()
