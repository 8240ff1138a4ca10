"""The pages of the Python API, as `make docs` writes them from the docstrings."""

import ast
import json
import os
import subprocess
from pathlib import Path

from tests.conftest import ROOT


def imported() -> dict[str, list[str]]:
    """What the notebook imports from this project: names by module."""
    notebook = json.loads((ROOT / "docs/guide/notebook.ipynb").read_text(encoding="utf-8"))
    found: dict[str, list[str]] = {}
    for cell in notebook["cells"]:
        code = "".join(cell["source"]) if cell["cell_type"] == "code" else ""
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.module != "genre_embeddings":
                found.setdefault(str(node.module), []).extend(alias.name for alias in node.names)
    return {name: names for name, names in found.items() if name.startswith("genre_embeddings")}


def test_make_docs_writes_a_page_for_what_the_notebook_uses(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        ["make", "--old-file=.venv/.ready-test", "docs", f"API={tmp_path}"],
        cwd=ROOT,
        env=kept,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Warn" not in done.stderr
    start = (tmp_path / "genre_embeddings.html").read_text(encoding="utf-8")
    assert "genre_embeddings.html" in (tmp_path / "index.html").read_text(encoding="utf-8")
    used = imported()
    used["genre_embeddings.inference.trained"].append("Trained")
    assert len(used) > 6
    for module, names in used.items():
        path = f"{module.replace('.', '/')}.html"
        page = (tmp_path / path).read_text(encoding="utf-8")
        assert all(f'id="{name}"' in page for name in names), (module, names)
        assert f'href="{path.removesuffix(".html")}' in start, module
    person = (tmp_path / "genre_embeddings/inference/newcomer.html").read_text(encoding="utf-8")
    assert "The id that the new user has in it." in person
    assert "Alias for field" not in person
