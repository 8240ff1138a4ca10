"""The one exception that a user is meant to read, and how a program writes to the terminal."""

import io
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Control characters, which can hide or forge text on a terminal, and those that reverse its order.
# A progress bar begins with a carriage return.
OBEYED = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]|(?!\A)\r")

MARKS = str.maketrans({"✓": "+", "✗": "x", "…": "..."})
"""What to write in place of a sign that the encoding lacks; a question mark is a verdict, too."""


class InputError(Exception):
    """Input that cannot be used: settings, files or rows.

    The message names the place (file, row or `section.key`), the value found, what is allowed
    and what to do about it. Stages print it without a traceback and exit with status 1.
    """


class Terminal(io.TextIOWrapper):
    """A stream whose text cannot control the terminal, and can always be encoded.

    Names and values come from files of others. Characters that a terminal obeys are written as
    escapes, those that the encoding lacks as question marks.
    """

    def __init__(self, stream: io.TextIOWrapper) -> None:
        self.wanted = stream.encoding
        # click writes UTF-8 to the bytes of a stream that calls itself ASCII.
        is_ascii = "é".encode(self.wanted, "replace") == b"?"
        super().__init__(
            stream.buffer,
            encoding="utf-8" if is_ascii else self.wanted,
            errors="replace",
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )

    def write(self, text: str) -> int:
        """Write the text as this terminal can show it."""
        # colorama ends the colours of a terminal when a program ends.
        shown = text if text == "\x1b[0m" else _escaped(text)
        if (known := shown.encode(self.wanted, "replace").decode(self.wanted)) != shown:
            known = shown.translate(MARKS).encode(self.wanted, "replace").decode(self.wanted)
        return super().write(known)


@contextmanager
def messages() -> Iterator[None]:
    """End the program with one message and status 1 where the user can correct the cause."""
    for name in ("stdout", "stderr"):
        if type(stream := getattr(sys, name)) is io.TextIOWrapper:  # not a test's own
            setattr(sys, name, Terminal(stream))
    try:
        yield
    except InputError as error:
        sys.exit(_error(str(error)))
    except UnicodeEncodeError as error:  # Python has signs for an argument's bytes that are no text
        sys.exit(_error(f"{error.object!r} is not UTF-8 text: give ids, names and paths in UTF-8."))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:  # such as `| head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what Python still has in its buffer
        sys.exit(1)
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        where = error.filename or "the output"
        sys.exit(_error(f"{where}: {error.strerror}. Nothing was replaced; mend it and run again."))


def _error(text: str) -> str:
    """An error message; the lines after the first are indented, so that no name can forge one."""
    return "error: " + re.sub(r"\n(?! )", "\n  ", _escaped(text))


def plain(text: str) -> str:
    """A name as a part of one line, without characters that a terminal obeys."""
    return _escaped(" ".join(text.split()))


def _escaped(text: str) -> str:
    """The text, with escapes in place of characters that a terminal obeys."""
    return OBEYED.sub(lambda found: repr(found[0])[1:-1], text)
