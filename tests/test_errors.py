"""Output to a terminal, by a process of its own."""

import io
import os
import subprocess
import sys

import pytest

from genre_embeddings.errors import Terminal
from tests.conftest import ROOT

SAYS = """
import sys
import click
from genre_embeddings.errors import InputError, messages
with messages():
    print("\\u2713 \\u2717 ? Amélie \\xb1 \\u6642 \\x1b]0;owned\\x07 \\x9b2J \\u202eevil a\\rb")
    click.echo("\\u6642 \\x07")
    sys.stderr.write("\\r50 %")
    raise InputError("'\\x1b[2J\\u2028' is no id\\nerror: forged")
"""


@pytest.mark.parametrize(
    ("encoding", "said", "letter"),
    [
        ("utf-8", "✓ ✗ ? Amélie ± 時", "時"),
        ("cp1252", "+ x ? Amélie ± ?", "?"),
        ("ascii", "+ x ? Am?lie ? ?", "?"),
    ],
)
def test_no_text_controls_the_terminal_or_ends_in_an_error_of_encoding(encoding, said, letter):
    done = subprocess.run(
        [sys.executable, "-c", SAYS],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "PYTHONIOENCODING": encoding},
        capture_output=True,
    )
    assert done.returncode == 1
    printed = rf"{said} \x1b]0;owned\x07 \x9b2J \u202eevil a\rb"
    assert done.stdout.decode(encoding).splitlines() == [printed, rf"{letter} \x07"]
    progress = done.stderr.decode(encoding)
    assert progress == "\r50 %error: '\\x1b[2J\\u2028' is no id\n  error: forged\n"


def test_only_the_end_of_colours_reaches_the_terminal():
    stream = io.TextIOWrapper(raw := io.BytesIO(), encoding="utf-8")
    terminal = Terminal(stream)
    for text in ("a \x1b[0m title", "\x1b[0m"):
        terminal.write(text)
    terminal.flush()
    assert raw.getvalue() == b"a \\x1b[0m title\x1b[0m"
