"""What a program writes to a terminal, as a process of its own."""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

SAYS = """
import sys
from genre_embeddings.errors import InputError, messages
with messages():
    print("\\u2713 \\u2717 ? Amélie \\xb1 \\u6642 \\x1b]0;owned\\x07 \\x9b2J \\u202eevil a\\rb")
    sys.stderr.write("\\r50 %")
    raise InputError("'\\x1b[2J\\u2028' is no id")
"""
CLICK = """
import click
from genre_embeddings.errors import messages
with messages():
    click.echo("\\u6642 \\x07")
"""


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-8", "✓ ✗ ? Amélie ± 時"),
        ("cp1252", "+ x ? Amélie ± ?"),
        ("ascii", "+ x ? Am?lie ? ?"),
    ],
)
def test_no_text_controls_the_terminal_or_ends_in_an_error_of_encoding(encoding, said):
    done = subprocess.run(
        [sys.executable, "-c", SAYS],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "PYTHONIOENCODING": encoding},
        capture_output=True,
    )
    assert done.returncode == 1
    plain = r"\x1b]0;owned\x07 \x9b2J \u202eevil a\rb"
    assert done.stdout.decode(encoding).replace("\r\n", "\n") == f"{said} {plain}\n"
    progress = done.stderr.decode(encoding)
    assert progress == "\r50 %error: '\\x1b[2J\\u2028' is no id\n"


def test_what_click_writes_is_as_plain():
    done = subprocess.run(
        [sys.executable, "-c", CLICK],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert done.stdout == b"? \\x07\n"
