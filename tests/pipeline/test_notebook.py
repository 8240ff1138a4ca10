"""The notebook of the guide, run cell by cell in a project with experiments."""

import json
import sys

import pytest

from tests.conftest import ROOT

NOTEBOOK = ROOT / "docs/guide/notebook.ipynb"
RUN = """
import json, sys
cells = json.load(open(sys.argv[1], encoding="utf-8"))["cells"]
space = {}
for cell in cells:
    if cell["cell_type"] == "code":
        exec("".join(cell["source"]), space)
assert space["suggested"].height == space["recommended"].height == 5
assert {"wide", "shrunk"} <= set(space["scores"]["run"])
print(space["comparison"].scores())
"""


def cells():
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def test_no_outputs_are_committed():
    assert all(not cell.get("outputs") and not cell.get("execution_count") for cell in cells())


@pytest.mark.pipeline
def test_the_notebook_runs(compared, tmp_path):
    """In one namespace, which needs no Jupyter; it starts in a folder below the top one."""
    project = compared.copy(tmp_path / "project")
    guide = project.folder / "docs/guide"
    guide.mkdir(parents=True, exist_ok=True)
    start = f"import os; os.environ['MPLBACKEND'] = 'Agg'; os.chdir({str(guide)!r})"
    said = project.run(sys.executable, "-c", start + RUN, str(NOTEBOOK))
    assert "test RMSE (stars)" in said
