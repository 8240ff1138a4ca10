"""Pictures of genres whose names are long, or in letters of another script."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib import pyplot as plt

from genre_embeddings import figures
from genre_embeddings.figures import draw_heatmaps

STIX = f"{mpl.get_data_path()}/fonts/ttf/STIXGeneral.ttf"
CLOCK = "\N{WATCH}"  # in STIX, not in matplotlib's own font


@pytest.fixture
def drawn(monkeypatch, in_tmp):
    """The labels that a picture of two panels shows for some labels."""
    shown: list[str] = []
    save = figures._save

    def keep(figure, path):
        shown.extend(text.get_text() for text in figure.axes[0].get_yticklabels())
        save(figure, path)
        assert not plt.get_fignums()

    monkeypatch.setattr(figures, "_save", keep)

    def draw(labels: list[str]) -> list[str]:
        shown.clear()
        some = np.eye(len(labels))
        order = list(range(len(labels)))
        draw_heatmaps({"learnt": some, "taste": some}, labels, order, some > 0, Path("heat.png"))
        return list(shown)

    return draw


def with_fonts(monkeypatch, *paths: str) -> None:
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: list(paths))


def test_a_long_name_is_cut_in_its_middle(drawn):
    long = f"Tales of {'old ' * 30}kings (1,204)"
    plain, cut = drawn(["Drama (4,361)", long])
    assert plain == "Drama (4,361)"
    assert len(cut) == 28
    assert cut.startswith("Tales of old")
    assert cut.endswith("kings (1,204)")
    assert "…" in cut


def test_letters_of_other_scripts_are_drawn_by_a_font_that_has_them(drawn, monkeypatch, capsys):
    with_fonts(monkeypatch)
    drawn([f"{CLOCK} (3)", "B"])
    said = capsys.readouterr().err
    assert said.startswith(f"heat.png shows boxes in place of {CLOCK}: no font")
    assert said.count("\n") == 1
    boxes = Path("heat.png").read_bytes()

    Path("broken.ttf").write_bytes(b"no font")
    with_fonts(monkeypatch, "broken.ttf", STIX)
    drawn([f"{CLOCK} (3)", "B"])
    assert not capsys.readouterr().err
    assert Path("heat.png").read_bytes() != boxes
    drawn(["A", "B"])
    assert mpl.rcParams["font.family"] == ["sans-serif"]
