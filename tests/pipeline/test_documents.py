"""README.md, docs/ and the notebook: their links, settings and commands exist and work.

Blocks marked `sh` are run here. Blocks marked `console`
show the answers too, and are run by tests/data/test_own_data.py and test_remotes.py.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from genre_embeddings.cli import genres
from tests.project import ROOT, STAGES, Project, finish_queue, listed, read_yaml, stages_run
from tests.tutorial import run_command

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in DOCUMENTS if page.parent in (ROOT, ROOT / "docs/guide")]
TARGETS = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
ELSEWHERE = "scaling.md"
"""Needs several machines; test_distributed.py runs its processes on one, the next guide a queue."""
MANY = "sweeps.md"
"""The guide that waits for its queue."""
NOT_RUN = (
    "git clone", "make repro", "make test", "source .venv",  # the set-up of an environment
    "pip install", "audit/bin", "data.source=ml-latest-small",  # need the network
    "data.source=folder",  # tests/data/test_own_data.py
    "torchrun", "dvc remote add", "dvc exp push",  # need other machines
    "mlflow",  # tests/publish/test_mlflow.py logs to a server of its own
    ".github/report.sh",  # tests/pipeline/test_workflow.py
    "sweep train.lr",  # needs two learning rates
)  # fmt: skip
SMALLER = (
    (r"#.*", ""),
    (r"(for \w+ in \S+)[^;]*;", r"\1;"),  # the first value of a loop
    (r"sh search\.sh", "sed -i 1q search.sh && sh search.sh"),  # and the first random draw
    ("--open", ""),
    # DVC can lose a task that is queued while a worker ends: only the guides of many experiments
    # start the queue, and wait for it.
    ("&& dvc queue start --jobs 1", ""),
    (r"(exp run .*-n random[^\n']*)", r"\1 split"),  # after the check of the settings
    ("-n small -S model.dim=4", "-n small -S model.dim=8"),  # cached
    ("Horror", "Comedy"),  # a genre of the small world
    ("Drama", "Action"),
)  # fmt: skip


def shorter(grid: re.Match[str]) -> str:
    """The first value of a list; two of a grid with a name, as a single run gets no number."""
    kept = 2 if grid[1] else 1
    return (grid[1] or "") + ",".join(grid[2].split(",")[:kept])


def commands(page: Path) -> Iterator[str]:
    """Its commands, shortened, without those that cannot be run here; some take several lines."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    for block in blocks:
        lines = [line for line in block.splitlines() if not any(name in line for name in NOT_RUN)]
        text = re.sub(r"(-n \w+ -S )?([\w.]+='?[\d.]+(?:,[\d.]+)+)", shorter, "\n".join(lines))
        for pattern, replacement in SMALLER:
            text = re.sub(pattern, replacement, text)
        command = ""
        for line in text.splitlines():
            command += f"{line}\n"
            if not subprocess.run(
                ["bash", "-n"], input=command.encode(), stderr=subprocess.DEVNULL
            ).returncode:
                if command.strip():
                    yield command.strip()
                command = ""
        assert not command.strip(), command


@pytest.mark.pipeline
def test_an_experiment_in_a_copy_of_a_clone_that_has_nothing(base: Project, tmp_path: Path) -> None:
    project = base.clone(tmp_path / "clone")
    # Now dvc.lock names outputs that nobody has.
    project.change({"planted": {"ratings": 1400}})
    project.commit()
    said = project.dvc("exp", "run", "--temp", "-S", "inspect.alpha=0.1")
    assert stages_run(said) == list(STAGES)


@pytest.mark.pipeline
def test_every_command(compared: Project, tmp_path: Path) -> None:
    """In a project whose run cache has the experiments of the pages, which thus take seconds."""
    project = compared.copy(tmp_path / "project")
    (project.folder / "pairs.csv").write_text("userId,movieId,genres\n1,1,\n1,999,Comedy\n")
    (project.folder / "mine.csv").write_text("movieId,rating\n1,5\n2,1\n")
    for page in PAGES:
        for command in commands(page) if page.name not in (MANY, ELSEWHERE) else ():
            run_command(project, command)


@pytest.mark.pipeline
def test_the_guide_of_many_experiments(project: Project) -> None:
    """The queue runs the code that it recorded: in the workspace it is broken meanwhile."""
    project.change({"train": {"without_genres": False}})  # to save time
    project.commit()
    before, code = project.results(), project.folder / "src/genre_embeddings/__init__.py"
    whole, heard = code.read_text(encoding="utf-8"), {}
    for command in commands(ROOT / "docs/guide" / MANY):
        if "dvc queue start" in command:  # and wait until it is done
            code.write_text(f"{whole}\nraise SystemExit('the code of the workspace ran')\n")
            assert set(finish_queue(project).values()) == {"Success"}
            assert project.results() == before
            code.write_text(whole)
            continue
        heard[command.split()[0]] = run_command(project, command)
        if "search.sh" in command.splitlines()[-1]:
            project.git("restore", "params.yaml")
    # The queue's copy trained the same before.
    assert "Stage 'train' is cached - skipping run" in heard["for"]
    said = project.run("sh", "search.sh", status=255)
    assert "conflicts with existing experiment 'random-0'" in said
    said = project.dvc("exp", "list")
    assert all(f"[{name}]" in said for name in ("grid-1", "grid-2", "dim-4-lr-0.005", "random-0"))


NOTEBOOK = ROOT / "docs/guide/notebook.ipynb"
FOLLOW = """
import json, sys
space = {}
for cell in json.load(open(sys.argv[1], encoding="utf-8"))["cells"]:
    if cell["cell_type"] == "code":
        assert not cell["outputs"] and not cell["execution_count"]  # none are committed
        exec("".join(cell["source"]), space)
assert space["suggested"].height == space["recommended"].height == 5
assert {"wide", "shrunk"} <= set(space["scores"]["run"])
print(space["comparison"].scores())
"""


@pytest.mark.pipeline
def test_the_notebook_runs(compared: Project) -> None:
    """In one namespace, which needs no Jupyter; it starts in a folder below the top one."""
    guide = str(compared.folder / "docs/guide")
    start = f"import os; os.environ['MPLBACKEND'] = 'Agg'; os.chdir({guide!r})"
    said = compared.run(sys.executable, "-c", start + FOLLOW, str(NOTEBOOK))
    assert "test RMSE (stars)" in said


def test_the_tree_names_all_that_lies_at_the_top() -> None:
    top = {path.split("/")[0] for path in listed()}
    block = PAGES[0].read_text(encoding="utf-8").split("## What lies where")[1].split("```")[1]
    named = {line.split()[0].rstrip("/") for line in block.strip().splitlines()}
    quiet = {
        ".ci", ".devcontainer", ".dvc", ".dvcignore", ".gitignore", ".github", "CHANGELOG.md",
        "LICENSE", "Makefile", "README.md", "constraints.txt", "pyproject.toml",
    }  # fmt: skip
    assert named == top - quiet


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_links_settings_commands_and_targets_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"@[A-Z]+@", text)  # nothing is left to fill in
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("http") or (page.parent / target).exists(), target
    params = read_yaml(ROOT / "params.yaml")
    for section, key in re.findall(r"-S '?(\w+)\.(\w+)=", text):
        assert key in params[section], f"{section}.{key}"
    for module in re.findall(r"python -m (benchmarks[\w.]*|stages\.[a-z]+)", text):
        path = ROOT / module.rstrip(".").replace(".", "/")
        assert path.with_suffix(".py").exists() or path.is_dir(), module
    assert {*re.findall(r"(?:`|^)make ([a-z]+)", text, re.M)} <= {*TARGETS}
    assert {*re.findall(r"\./genres ([a-z]+)", text)} <= {*genres.commands}
    for block in re.findall(r"^```\n(.*?)^```", text, re.M | re.S) if page in PAGES else ():
        assert not re.match(r"(dvc|\./genres|make|git|python|pip) ", block), block  # not marked
