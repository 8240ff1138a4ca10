"""Pictures of genres whose names are long, look like formulas or have letters of other scripts."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from genre_embeddings import figures
from genre_embeddings.figures import cut, draw_heatmaps, draw_histogram

CLOCK = "\N{WATCH}"  # in STIXGeneral, which comes with matplotlib, and not in DejaVu Sans


def heatmap(*labels: str, path: str = "heat.png") -> bytes:
    some = np.eye(len(labels))
    order = list(range(len(labels)))
    sure = {"learnt": some > 0}
    draw_heatmaps({"learnt": some, "likelihood": some}, [*labels], order, sure, Path(path))
    return Path(path).read_bytes()


def test_a_long_name_is_cut_in_its_middle():
    assert cut("Drama (4,361)") == "Drama (4,361)"
    short = cut(f"Tales of {'old ' * 30}kings (1,204)")
    assert len(short) == 28
    assert short.startswith("Tales of old")
    assert short.endswith("kings (1,204)")
    assert "…" in short


def test_a_name_is_no_formula(in_tmp, monkeypatch):
    texts = []
    save = Figure.savefig

    def keep(figure, *args, **kwargs):
        texts.extend(figure.axes[0].get_yticklabels())
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    names = ["$", "$$", "$x_{", "$x^2$", "a\\frac"]
    heatmap(*names)
    assert [text.get_text() for text in texts] == names
    assert not any(text.get_parse_math() for text in texts)


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
    sure = {"learnt": np.ones((3, 3), bool)}
    draw_heatmaps(matrices, ["A", "B", "C"], [2, 0, 1], sure, Path("heat.png"))
    rows = [
        {"rating": n, "count": n, "kind": kind} for n in (1, 2) for kind in ("actual", "predicted")
    ]
    draw_histogram(rows, Path("histogram.png"))
    for path in in_tmp.iterdir():
        assert path.read_bytes().startswith(b"\x89PNG")
