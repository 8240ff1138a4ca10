"""What DVC's extension for VS Code reads, without the editor: section Trouble of README.md."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from dvc_render.vega import VegaRenderer

from tests.browser import charts, open_page
from tests.project import MOST_SECONDS, ROOT, Project

pytestmark = pytest.mark.pipeline
PICTURES = ".dvc/tmp/plots"
SIGNAL = ".dvc/tmp/exps/run/DVCLIVE_STEP_COMPLETED"
TRAINING = ("-S", "train.epochs=30", "-S", "train.without_genres=false", "train")


def plots_of(project: Project, *revisions: str) -> dict[str, Any]:
    """The answer that the extension gets when these revisions are chosen for plotting."""
    return project.dvc_json("plots", "diff", *revisions, "--split", "--out", PICTURES)


def filled(plot: dict[str, Any], anchors: dict[str, Any]) -> dict[str, Any]:
    """The chart as the extension makes it: whole strings that are anchors are replaced."""
    text = json.dumps(plot["content"])
    for anchor, value in anchors.items():
        text = text.replace(json.dumps(anchor), json.dumps(value))
    return json.loads(text)


def test_every_plot_comes_in_parts_of_which_one_can_be_drawn(
    compared: Project, tmp_path: Path
) -> None:
    plots = plots_of(compared, "main", "wide")
    assert set(plots) == {"data"}  # and no errors
    assert set(plots["data"]) == compared.declared("plots")
    colour = {"field": "rev", "scale": {"domain": ["wide"], "range": ["#f14c4c"]}}
    divs, titles = [], set()
    for path, found in plots["data"].items():
        if path.endswith(".png"):
            assert [image["revisions"] for image in found] == [["main"], ["wide"]]
            assert all(Path(image["url"]).stat().st_size > 1000 for image in found)
            continue
        (plot,) = found
        anchors = plot["anchor_definitions"]
        rows = anchors["<DVC_METRIC_DATA>"]
        assert plot["revisions"] == ["main", "wide"]
        assert {row["rev"] for row in rows} == {"main", "wide"}
        rows = [row for row in rows if row["rev"] == "wide"]
        chosen = {"<DVC_METRIC_DATA>": rows, "<DVC_METRIC_COLOR>": colour}
        chart = json.dumps(filled(plot, anchors | chosen))
        assert "<DVC_" not in chart
        divs.append(VegaRenderer.DIV.format(id=f"chart{len(divs)}", partial=chart))
        titles.add(anchors["<DVC_METRIC_TITLE>"])
    page = (ROOT / ".dvc/html/page.html").read_text(encoding="utf-8")
    page = page.replace("{plot_divs}", "\n".join(divs)).replace("{refresh_tag}", "")
    (tmp_path / "index.html").write_text(page, encoding="utf-8")
    drawn = charts(open_page(tmp_path / "index.html", tmp_path / "profile"))
    assert set(drawn) == titles
    assert {chart.get("data-drawn") for chart in drawn.values()} == {"yes"}


def test_table_and_tree_of_the_extension(base: Project, compared: Project) -> None:
    workspace, main = compared.dvc_json("exp", "show", "-n", "1")
    assert {"rev", "name", "data", "experiments"} <= set(workspace)
    assert (workspace["name"], main["name"]) == (None, "main")
    changed = {}
    for experiment in main["experiments"]:
        params = experiment["revs"][0]["data"]["params"]["params.yaml"]["data"]
        changed[experiment["name"]] = params["model"]["dim"], params["inspect"]["permutations"]
    assert changed == {"wide": (8, 99), "shrunk": (2, 199)}
    for row in (workspace, main, *(e["revs"][0] for e in main["experiments"])):
        data = row["data"]
        assert set(data["metrics"]) == compared.declared("metrics")
        assert all(file["data"] for file in data["metrics"].values())
        assert data["params"]["params.yaml"]["data"]["seed"] == 0
        assert compared.declared("outs") <= set(data["outs"])
        assert all(dep["hash"] for dep in data["deps"].values())
    status = base.dvc_json("data", "status", "--granular", "--unchanged")
    assert "models/model.safetensors" in status["unchanged"]
    assert not {"committed", "uncommitted", "not_in_cache"} & set(status)


def test_training_is_seen_while_it_runs(base: Project, tmp_path: Path) -> None:
    project = base.copy(tmp_path / "project")
    file = project.folder / SIGNAL
    running = project.start_dvc("exp", "run", "--name", "live", *TRAINING)
    trainer = 0
    try:
        trainer, step = halted(file, running)
        (state,) = states_of(project.dvc_json("exp", "show"))
        assert (state["state"], state["name"]) == ("running", "workspace")
        (curve,) = plots_of(project)["data"]["plots/train/rmse.json"]
        # The signal stands between the metrics and the curves of an epoch.
        drawn = [row["epoch"] for row in curve["anchor_definitions"]["<DVC_METRIC_DATA>"]]
        assert max(drawn) in (step - 1, step)
        os.kill(trainer, signal.SIGCONT)
        assert "Ran experiment(s): live" in running.communicate(timeout=MOST_SECONDS)[0]
    finally:
        running.kill()
        if trainer and running.returncode != 0:
            os.kill(trainer, signal.SIGKILL)
    assert not file.exists()
    assert states_of(project.dvc_json("exp", "show")) == []


def halted(file: Path, running: subprocess.Popen) -> tuple[int, int]:
    """Halt the process that signals its epochs, after the second or later: its id, the epoch."""
    end = time.monotonic() + MOST_SECONDS
    while time.monotonic() < end and running.poll() is None:
        signalled = signalled_in(file)
        if signalled and signalled["step"] > 1:
            os.kill(signalled["pid"], signal.SIGSTOP)
            if latest := signalled_in(file):
                return latest["pid"], latest["step"]
            os.kill(signalled["pid"], signal.SIGCONT)
        time.sleep(0.005)
    pytest.fail(f"no epoch was signalled in {file}")


def signalled_in(file: Path) -> dict[str, int] | None:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):  # not there yet, or being written
        return None


def states_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Executors in the rows of `dvc exp show`."""
    found = [*rows, *(e for row in rows for e in row["experiments"] or [])]
    return [row["executor"] for row in found if row.get("executor")]
