"""The pipeline's stages: `python -m stages.NAME` in the project's top folder, or `dvc repro`.

The library is found in this very checkout, never in the environment: a queued experiment runs
in a copy of the project and must run the code that it recorded.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

# Threads change the last digits of sums. NumPy would take their number from OMP_NUM_THREADS or the
# cores, so it is fixed before NumPy is imported. `train.threads` is for torch.
os.environ |= {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "VECLIB_MAXIMUM_THREADS": "1"}
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

PATIENCE = 3.0
"""Seconds that a stage has to end by itself after its DVC was killed."""


def run(main: Callable[[], None]) -> None:
    """Run a stage; what a user can mend ends in one message and exit status 1, no traceback."""
    from genre_embeddings.errors import messages

    if {"DVC_ROOT", "LOCAL_RANK"} & os.environ.keys():
        threading.Thread(target=_end_with, args=[os.getppid()], daemon=True).start()
    # Ended from outside it fails, and takes its temporary files away on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with messages():
            main()
    except ModuleNotFoundError as error:
        sys.exit(
            f"error: {sys.executable} has no module {error.name!r}. DVC takes the python that is "
            "first on PATH: activate the environment with `source .venv/bin/activate`, or set it "
            "up with `make install`."
        )


def _end_with(parent: int) -> None:
    """End when DVC was killed: later, this stage would write over the outputs of the next run.

    One of several processes that train ends with the process that started it.

    DVC runs a stage's command by the shell that SHELL names. Some shells give their place to the
    command (bash), others wait for it and outlive DVC (dash, which is /bin/sh of Debian).
    """
    import psutil

    with suppress(psutil.NoSuchProcess):
        started, starter = psutil.Process(), psutil.Process(parent)
        if any(part.startswith("python -m stages.") for part in starter.cmdline()):  # a shell
            started = starter
        dvc = started.ppid()
        while started.ppid() == dvc:
            time.sleep(0.1)
    # The main thread ends as it does on SIGTERM, which takes its temporary files away.
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE)
    os._exit(1)  # it is stuck in a library: no output may be written from here on
