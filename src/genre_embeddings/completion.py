"""Completion of genres and movie titles in bash and zsh.

click completes commands, options and files, and writes the shell functions. Titles are read from
the model's JSON file: opening the model would take seconds at every tab.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import BashComplete, CompletionItem, ZshComplete, add_completion_class

from genre_embeddings.inference.titles import fold


@add_completion_class
class Bash(BashComplete):
    """Quotes what bash inserts, unless it stands in quotation marks already."""

    def format_completion(self, item: CompletionItem[Any]) -> str:
        """One line of the answer to the shell function."""
        words = os.environ["COMP_WORDS"].split("\n")
        typed = words[min(int(os.environ["COMP_CWORD"]), len(words) - 1)]
        if item.type != "plain" or typed.startswith(('"', "'")):
            return super().format_completion(item)
        # The shell function's `read` takes one of the two backslashes.
        quoted = re.sub(r"([^\w./-])", r"\\\\\1", item.value)
        return f"{item.type},{quoted}"


@add_completion_class
class Zsh(ZshComplete):
    """Completes `./genres` too: click's function calls the command only if it is on PATH."""

    source_template = ZshComplete.source_template.replace(
        "(( ! $+commands[%(prog_name)s] )) && return 1", ""
    ).replace("zsh_complete %(prog_name)s)", "zsh_complete ${words[1]})")


def complete(*columns: str) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """A completion by columns of the model's tables, all but the first once something is typed."""

    def completed(context: click.Context, _: click.Parameter, typed: str) -> list[str]:
        model = context.find_root().params.get("model") or Path("models")
        try:
            tables = json.loads((model / "tables.json").read_bytes())
            shown = [tables[column] for column in (columns if typed else columns[:1])]
            return [name for names in shown for name in _fitting(names, typed)]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return []  # there is no model, and a shell shows no errors

    return completed


def _fitting(names: list[str], typed: str) -> list[str]:
    """The names that start with what is typed, or else those that contain it."""
    typed = fold(typed) + " " * typed.endswith(" ")
    folded = {name: f"{fold(name)} " for name in names if name.isprintable()}
    starting = [name for name in folded if folded[name].startswith(typed)]
    return starting or [name for name in folded if typed in folded[name]]
