"""The commands of README.md and of pages of docs/guide, in a clone without outputs and DVC cache.

Blocks marked `sh` are run here. Blocks marked `console` show the answers too, and are run by
tests/data/test_own_data.py and test_remotes.py.
"""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.project import ROOT, Project, stages_run

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs/guide").glob("*.md"))]
NOT_FOLLOWED = ("scaling.md", "sweeps.md")
"""They need other machines, or hours; test_experiments.py runs a queue."""
NOT_RUN = (
    "git clone", "make repro", "make test", "source .venv",  # the set-up of an environment
    "pip install", "audit/bin", "data.source=ml-latest-small",  # need the network
    "torchrun", "dvc remote add", "dvc exp push",  # need other machines
    "mlflow",  # tests/publish/test_mlflow.py logs to a server of its own
    ".github/report.sh",  # tests/pipeline/test_workflow.py
)  # fmt: skip
SMALLER = (
    (r"#.*", ""),
    (r"([\w.]='?[\d.]+)(,[\d.]+)+", r"\1"),  # the first value of each list
    ("--open", ""),
    # DVC can lose a task that is queued while a worker ends: the next page starts the queue.
    ("&& dvc queue start --jobs 1", ""),
    ("/home/me/books", "BOOKS"),
    ("Horror", "Comedy"),  # a genre of the small world
    ("Drama", "Action"),
)


def scripts(page: Path) -> list[str]:
    """Its blocks of commands, shortened, without the commands that cannot be run here."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    found = []
    for block in blocks:
        lines = [line for line in block.splitlines() if not any(name in line for name in NOT_RUN)]
        text = "\n".join(lines)
        for pattern, replacement in SMALLER:
            text = re.sub(pattern, replacement, text)
        found += [text] if text.strip() else []
    return found


def commands(script: str) -> Iterator[str]:
    """The commands of a block, one at a time; some take several lines."""
    text = ""
    for line in script.splitlines():
        text += f"{line}\n"
        if subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True).returncode:
            continue
        if text.strip():
            yield text.strip()
        text = ""
    assert not text.strip(), text


@pytest.mark.pipeline
def test_every_command_in_a_clone_that_has_nothing(base: Project, tmp_path: Path) -> None:
    project = base.clone(tmp_path / "clone")
    # Now dvc.lock names outputs that nobody has.
    project.change({"planted": {"ratings": 1400}})
    project.commit()
    for permutations, stages in ((199, 8), (299, 4)):
        said = project.dvc("exp", "run", "--temp", "-S", f"inspect.permutations={permutations}")
        assert len(stages_run(said)) == stages, said
    books = tmp_path / "books"
    project.run("python", "docs/guide/books.py", "100", str(books))
    (project.folder / "pairs.csv").write_text("userId,movieId,genres\n1,1,\n1,999,Comedy\n")
    (project.folder / "mine.csv").write_text("movieId,rating\n1,5\n2,1\n")
    for page in PAGES:
        for script in scripts(page) if page.name not in NOT_FOLLOWED else ():
            for command in commands(script.replace("BOOKS", str(books))):
                project.run("bash", "-c", command)
                if "data.path" in command:  # the next commands are about the planted world
                    project.git("restore", "params.yaml")
    project.run("bash", "-c", "git restore params.yaml && dvc repro")


def test_blocks_of_commands_are_marked() -> None:
    for page in PAGES:
        for block in re.findall(r"^```\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
            assert not re.match(r"(dvc|\./genres|make|git|python|pip) ", block), block
