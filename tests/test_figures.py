"""Pictures of genres whose names are long, look like formulas or have letters of other scripts."""

import warnings
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

from genre_embeddings import figures
from genre_embeddings.experiments import sweep
from genre_embeddings.experiments.revisions import Run
from genre_embeddings.figures import cut, draw_heatmaps, draw_histogram

CLOCK = "\N{WATCH}"  # in STIXGeneral, which comes with matplotlib, and not in DejaVu Sans


def heatmap(*labels: str, path: str = "heat.png") -> bytes:
    some = np.eye(len(labels))
    order = list(range(len(labels)))
    unsure = {"learnt": some == 0}
    draw_heatmaps({"learnt": some, "likelihood": some}, [*labels], order, unsure, Path(path))
    return Path(path).read_bytes()


def test_a_long_name_is_cut_in_its_middle():
    assert cut("Drama (4,361)") == "Drama (4,361)"
    assert cut(f"Tales of {'old ' * 30}kings (1,204)") == "Tales of old o…kings (1,204)"


def test_a_name_is_no_formula(in_tmp):
    heatmap("$", "$$", "$x_{$", "$x^2$", "a\\frac")  # as a formula, the third would be an error


def test_letters_of_other_scripts_are_drawn_by_a_font_that_has_them(in_tmp, monkeypatch, capsys):
    monkeypatch.setattr(figures, "FONTS", ("DejaVu Sans", "No Such Font"))
    boxes = heatmap(f"{CLOCK} (3)", "B")
    said = capsys.readouterr().err
    assert said.startswith(f"heat.png shows boxes in place of {CLOCK}: no font")
    assert said.count("\n") == 1
    plain = heatmap("A", "B")
    monkeypatch.setattr(figures, "FONTS", ("DejaVu Sans", "STIXGeneral"))
    assert heatmap(f"{CLOCK} (3)", "B") != boxes
    assert heatmap("A", "B") == plain  # a further font changes nothing where it is not needed
    assert not capsys.readouterr().err
    assert mpl.rcParams["font.family"] == ["sans-serif"]


@pytest.mark.parametrize("matrices", [{}, {"learnt": np.full((3, 3), np.nan)}])
def test_nothing_to_compare_is_a_picture_too(in_tmp, matrices):
    unsure = {"learnt": np.zeros((3, 3), bool)}
    draw_heatmaps(matrices, ["A", "B", "C"], [2, 0, 1], unsure, Path("heat.png"))
    rows = [
        {"rating": n, "count": n, "kind": kind} for n in (1, 2) for kind in ("actual", "predicted")
    ]
    draw_histogram(rows, Path("histogram.png"))
    for path in in_tmp.iterdir():
        assert path.read_bytes().startswith(b"\x89PNG")


def test_a_sweep_of_odd_names(in_tmp, capsys, monkeypatch):
    runs = [
        Run(f"run ${n}", {"model.dim": n, "x.path": path}, {"test.rmse": 0.9})
        for n in (1, 2)
        for path in ("$x_{" * 40, "$")
    ]
    monkeypatch.setattr(sweep, "read_runs", lambda: runs)
    found = sweep.collect("model.dim")
    assert len(found.tables()) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sweep.draw(found, Path("sweep.png"))
    assert capsys.readouterr().err == ""
