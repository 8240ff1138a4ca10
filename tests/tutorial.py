"""Pages whose commands are run, and whose outputs must be what the commands say."""

import html
import math
import re
import shlex
from contextlib import chdir
from pathlib import Path

from click.testing import CliRunner

from genre_embeddings.cli import genres
from tests.project import Project

NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?")
BLOCK = re.compile(r"^```console\n(.*?)^```|((?:^> [^\n]*\n)+)", re.M | re.S)


Step = tuple[str, list[str]]


def steps(text: str) -> list[Step]:
    """Commands with the lines shown below them; a quotation of the report has no command."""
    found: list[Step] = []
    for console, quoted in BLOCK.findall(text):
        if quoted:
            found.append(("", [" ".join(re.sub("^> ", "", quoted, flags=re.M).split())]))
        for line in console.splitlines():
            if line.startswith("$ "):
                found.append((line.removeprefix("$ "), []))
            else:
                found[-1][1].append(line)
    return found


def section(page: Path, heading: str) -> str:
    """The text below a heading of the second level."""
    return page.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]


def alike(shown: str, said: str) -> bool:
    """The same words, and numbers that differ by no more than another processor's rounding."""
    if NUMBER.sub("#", shown).split() != NUMBER.sub("#", said).split():
        return False
    pairs = zip(NUMBER.findall(shown), NUMBER.findall(said), strict=True)
    numbers = [[float(text.replace(",", "")) for text in pair] for pair in pairs]
    return all(math.isclose(a, b, rel_tol=0.02, abs_tol=0.02) for a, b in numbers)


def run_command(project: Project, command: str) -> str:
    """Run a line of a shell in the project; what it said.

    `./genres` runs in this process: a new one takes seconds to import torch.
    """
    if not command.startswith("./genres "):
        return project.run("bash", "-c", command)
    runner = CliRunner(env={"COLUMNS": None})  # pytest's workers have a width, a file has none
    with chdir(project.folder):
        result = runner.invoke(genres, shlex.split(command)[1:], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def follow(project: Project, wanted: list[Step]) -> None:
    """Run commands in order; each line that is shown must be said, in that order."""
    for command, shown in wanted:
        if command:
            said = run_command(project, command)
        else:
            page = (project.folder / "plots/report.html").read_text(encoding="utf-8")
            said = html.unescape(re.sub(r"<[^>]*>", "\n", page))
        lines = iter(said.splitlines())
        for line in filter(None, shown):
            assert any(alike(line, other) for other in lines), f"{command}\n{line}\nnot in\n{said}"
