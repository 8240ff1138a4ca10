"""The one exception that a user is meant to read, and how a program ends with its message."""

import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class InputError(Exception):
    """Input that cannot be used: settings, files or rows.

    The message names the place (file, row or `section.key`), the value found, what is allowed
    and what to do about it. Stages print it without a traceback and exit with status 1.
    """


@contextmanager
def messages() -> Iterator[None]:
    """End the program with one message and status 1 where the user can correct the cause."""
    try:
        yield
    except InputError as error:
        # Names and values come from files of others, and a terminal obeys control characters.
        sys.exit("error: " + re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", _escaped, str(error)))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        where = error.filename or "a file"
        sys.exit(f"error: {where}: {error.strerror}. Nothing was replaced; mend it and run again.")


def _escaped(found: re.Match[str]) -> str:
    return repr(found[0])[1:-1]
