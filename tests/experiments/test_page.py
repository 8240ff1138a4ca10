"""The comparison page of `dvc plots`, with our templates, in a browser."""

import base64
import hashlib
import json
import re
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import pytest
import yaml
from dvc_render.vega import VegaRenderer

from tests.browser import Page, charts, open_page
from tests.project import ROOT, Project

PAGE = (ROOT / ".dvc/html/page.html").read_text(encoding="utf-8")
VERMILION, GREEN = "#d55e00", "#009e73"
GENRES = ["War", "Drama", "Comedy", "Action"]  # neither in alphabetical order nor in its reverse
REVISIONS = ["old", "dim-8", "best", "a", "c", "b"]  # the same
LAPTOP = 1280  # pixels across
DIFFERENT = "Their test ratings differ, so their errors cannot be compared directly."
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)
# File, template, x, y and title of each plot; kind and number of its marks for one revision. They
# stand in the order of the page.
PLOTS = """
summary summary name value Summary text 5
similarity heatmap a b Similarity rect 16
evidence evidence a b Evidence rect 32
loss curves epoch loss Loss line 2
map map x y Map symbol 4
pairs scatter evidence learnt Pairs symbol 1
histogram histogram rating count Ratings rect 4
reliability reliability predicted actual Reliability symbol 2
calibration calibration level coverage Calibration line 1
support support ratings rmse Support line 2
genres genres genre rmse Genres symbol 16
nulls nulls value count Nulls hidden 0
"""
LINES = [line.split() for line in PLOTS.strip().splitlines()]
LACKS = {"old": "calibration"}
"""What the first revision lacks; the others lack `nulls`, which was retired."""
SHOWN = {
    "learnt": "learnt",
    "likelihood": "held-out ratings",
    "rival": "mixed model",
    "truth": "planted truth",
    "genome": "tags of movies",
}
"""References on the page, in this order, and how they are called there."""
SUMMARY = [
    ("changes", "model.dim"), ("changes", "train.lr"), ("data", "ratings"),
    ("verdicts", "structure"), ("prediction", "test RMSE (stars)"),
    ("agreement", "with held-out ratings"), ("fingerprints", "data"),
]  # fmt: skip
# Revisions of different data: genres, references and rows of the summary
MIXED: dict[str, tuple[list[str], list[str], list[int]]] = {
    "bare": ([], [], []),  # its model compared no genres
    "films": (["IMAX", "Drama", "War"], ["learnt", "genome"], [0, 3, 4, 5]),
    "odd": (GENRES[::-1], ["rival", "truth", "unheard-of", "likelihood", "learnt"], [0, 2, 3]),
}


def plots_of(name: str) -> list[list[str]]:
    """The lines of PLOTS that a revision has."""
    return [line for line in LINES if line[0] != LACKS.get(name, "nulls")]


def pipeline(name: str) -> str:
    """A dvc.yaml with these plots, in another order than that of the page."""
    plots: list[dict[str, Any]] = [{"plots/picture.png": {"cache": False}}]
    for file, *shown in plots_of(name)[::-1]:
        options = dict(zip(("template", "x", "y", "title"), shown, strict=False))
        plots.append({f"plots/{file}.json": options | {"cache": False}})
    return yaml.safe_dump({"stages": {"inspect": {"cmd": "python -c pass", "plots": plots}}})


def rows_of(name: str) -> dict[str, list[dict[str, Any]]]:
    """Rows of every plot of a revision; later ones list the genres in another order."""
    if name in MIXED:
        number, (genres, references, summary) = [*MIXED].index(name), MIXED[name]
        histogram = 1.0 + 5 * (number > 0)
    else:
        number, histogram = REVISIONS.index(name), 3.0
        genres = GENRES[number % 4 :] + GENRES[: number % 4]
        references, summary = ["learnt", "likelihood"], [*range(len(SUMMARY))]
    shift = 0.1 * number
    cells = [(reference, a, b) for reference in references for b in genres for a in genres]
    return {
        "loss": [
            {"epoch": epoch, "loss": 1 / epoch + shift, "side": side}
            for side in ("train", "validation")
            for epoch in (1, 2)
        ],
        "similarity": [
            {"a": a, "b": b, "similarity": None if {a, b} == {"War", "Comedy"} else 0.5}
            | {"low": -0.1 if a == "Drama" else 0.3, "high": 0.7, "ratings": 1200}
            for b in genres
            for a in genres
        ],
        "map": [
            {"genre": genre, "x": i - 1.5 + shift, "y": shift * i, "ratings": 10 * (i + 1)}
            for i, genre in enumerate(genres)
        ],
        "histogram": [
            {"rating": histogram + more, "count": 10 + number * (kind == "predicted"), "kind": kind}
            for kind in ("actual", "predicted")
            for more in (0, 1)
        ],
        "reliability": [
            {"predicted": 3.0 + more, "actual": 3.2 + more + shift, "count": 10} for more in (0, 1)
        ],
        "genres": [
            {"genre": genre, "ratings": 40 - i, "rmse": 0.9 + shift, "bias": -0.01, "skill": 0.2}
            for i, genre in enumerate(genres)
        ],
        "support": [
            {"ratings": label, "rmse": 1 - shift, "low": 0.9 - shift, "high": 1.1, "kind": kind}
            for kind in ("movie", "user")
            for label in ("1-2", "501-1000")
        ],
        "calibration": [{"level": 0.5, "coverage": 0.5 + shift}, {"level": 0.9, "coverage": 0.8}],
        "evidence": [  # each cell has a number of ratings of its own
            {"a": a, "b": b, "reference": reference, "ratings": 1000 * number + 100 + at}
            | {"similarity": None if a == "War" else round(0.01 * at - 0.2, 2)}
            for at, (reference, a, b) in enumerate(cells)
        ],
        "pairs": [
            {"a": "War", "b": "Drama", "learnt": 0.5, "evidence": shift, "reference": reference}
            for reference in references
            if reference != "learnt"
        ],
        "nulls": [{"value": 0.1, "count": 5, "observed": 0.6, "reference": "likelihood"}],
        "summary": [
            {"section": section, "name": row, "value": value_of(name, section, row)}
            for section, row in (SUMMARY[number] for number in summary)
        ],
    }  # fmt: skip


def value_of(name: str, section: str, row: str) -> str:
    """The value of a row of the summary; settings and data other than model.dim are the same."""
    same = section == "fingerprints" or row == "train.lr"
    return "the same" if same else f"{name} {row[:8]}"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A repository with a tag for each revision."""
    folder = tmp_path_factory.mktemp("project")
    project = Project(folder)
    for name in (".dvc/plots", ".dvc/html"):
        shutil.copytree(ROOT / name, folder / name)
    for name in (".dvc/config", ".dvc/.gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "plots").mkdir()
    project.git("init", "--quiet")
    (folder / "plots/picture.png").write_bytes(base64.b64decode(PIXEL))
    for name in (*REVISIONS, *MIXED):
        (folder / "dvc.yaml").write_text(pipeline(name))
        rows = rows_of(name)
        for file, *_ in plots_of(name):
            (folder / f"plots/{file}.json").write_text(json.dumps(rows[file]))
        project.commit()
        project.git("tag", name)
    return project


@pytest.fixture(scope="module")
def six(project: Project) -> Page:
    """Six revisions."""
    project.dvc("plots", "diff", *REVISIONS, "--out", "six")
    return open_page(project.folder / "six/index.html", project.folder / "six/profile")


@pytest.fixture(scope="module")
def mixed(project: Project) -> Page:
    """Revisions of different data; the first compared no genres."""
    project.dvc("plots", "diff", *MIXED, "--out", "mixed")
    return open_page(project.folder / "mixed/index.html", project.folder / "mixed/profile")


def classed(element: Element, *words: str) -> list[Element]:
    """Groups of an SVG whose class has all of these words, in the order of drawing."""
    return [g for g in element.iter("g") if set(words) <= set(g.get("class", "").split())]


def text(element: Element) -> list[str]:
    return [t.text or "" for t in element.iter("text")]


def marks(chart: Element, kind: str) -> list[Element]:
    return [m for g in classed(chart, f"mark-{kind}", "role-mark") for m in g]


def panels(chart: Element) -> list[Element]:
    return [panel for group in classed(chart, "role-scope", "cell") for panel in group]


def headed(chart: Element) -> list[tuple[str, str, Element]]:
    """The panels of a chart with rows and columns: the headers beside and above each."""
    heads = []
    for kind, axis in (("row_header", 1), ("column_header", 0)):
        groups = [cell for group in classed(chart, kind) for cell in group]
        heads.append({place(c)[axis]: text(classed(c, "role-title-text")[0])[0] for c in groups})
    rows, columns = heads
    return [(rows[place(p)[1]], columns[place(p)[0]], p) for p in panels(chart)]


def place(element: Element) -> tuple[float, float]:
    """Position (x, y) of an element in its parent, in pixels."""
    x, y = re.findall(r"-?[\d.]+", element.get("transform", ""))
    return float(x), float(y)


def facts(mark: Element) -> dict[str, str]:
    """The description of a mark in the chart: values by name."""
    said = mark.get("aria-label", "").replace("\N{MINUS SIGN}", "-").split("; ")
    return {name: value for name, _, value in (entry.partition(": ") for entry in said)}


def widths(boxes: list[Element]) -> list[float]:
    pictures = [picture for box in boxes for picture in box.iter("svg")]
    return [float(p.get("width", "0")) for p in pictures if p.get("class") == "marks"]


def warning(page: Page) -> str:
    (place,) = page.root.findall("body/p[@id='warning']")
    return "".join(place.itertext()).strip()


def test_every_chart_is_drawn(six: Page) -> None:
    assert {line[1] for line in LINES} == {p.stem for p in (ROOT / ".dvc/plots").glob("*.json")}
    found, shown = charts(six), [line for line in LINES if line[0] != "nulls"]
    assert list(found) == [*(line[4] for line in shown), "plots/picture.png"]
    for file, *_, title, kind, number in shown:
        revisions = sum(file in [line[0] for line in plots_of(name)] for name in REVISIONS)
        assert found[title].get("data-drawn") == "yes", title
        assert len(marks(found[title], kind)) == int(number) * revisions, title
        assert found[title].findtext("p[@class='note']"), title
    # Pictures are folded up at the end.
    (folded,) = six.root.findall("body/main/details")
    assert folded.get("open") is None
    assert list(six.root.findall("body/main/*"))[-1] is folded
    links = [link for link in folded.iter("a") if link.find("img") is not None]
    assert [link.get("href", "").rpartition("/")[2] for link in links] == [
        f"{revision}_plots_picture.png" for revision in REVISIONS
    ]
    assert "#pictures" in [link.get("href") for link in six.root.iter("a")]


def test_heatmaps_stand_side_by_side_in_one_order(six: Page) -> None:
    chart = charts(six)["Similarity"]
    header = [label for g in classed(chart, "role-title-text") for label in text(g)]
    assert header == REVISIONS
    # The first revision's order, in every heatmap
    assert [g for g in map(text, classed(chart, "role-axis-label")) if g] == [GENRES] * 12
    first, second, *_ = panels(chart)
    assert place(first)[0] < place(second)[0]
    # War, Drama, Comedy, Action: a dot where the interval includes zero, nothing where War and
    # Comedy could not be compared.
    assert [mark.text for mark in marks(first, "text")] == [
        *(".5", "·", None, ".5"),
        *(".5", "·", ".5", ".5"),
        *(None, "·", ".5", ".5"),
        *(".5", "·", ".5", ".5"),
    ]


def test_six_revisions_fit_on_a_screen_and_have_a_colour_each(project: Project, six: Page) -> None:
    found = charts(six)
    assert max(widths([*found.values()])) <= LAPTOP - 98  # beside is room for the menu's button
    folder = project.folder / "six"
    small = charts(open_page(folder / "index.html", folder / "profile", width=500))
    for title in ("Map", "Support"):
        assert len({place(panel)[0] for panel in panels(found[title])}) > 1, title
        assert len({place(panel)[0] for panel in panels(small[title])}) == 1, title
        assert max(widths([small[title]])) < 500
    colours = [m.get("stroke") for m in marks(found["Loss"], "line")]
    assert len(set(colours)) == 6
    assert set(colours) == {m.get("stroke") for m in marks(found["Support"], "line")}
    # Side by side at each count of ratings, so that no interval hides another
    assert len({round(place(m)[0], 3) for m in marks(found["Support"], "symbol")}) == 6 * 2
    # A revision keeps its colour where another lacks the plot.
    calibration = found["Calibration"]
    assert [m.get("stroke") for m in marks(calibration, "line")][:2] == [VERMILION, GREEN]
    assert "Not in old." in [p.text for p in calibration.iter("p")]
    assert not found["Loss"].findall("p[@class='note missing']")
    for panel in panels(found["Map"]):
        for labels in classed(panel, "mark-text", "role-mark"):
            heights = sorted(place(label)[1] for label in labels)
            assert all(low + 10 < high for low, high in pairwise(heights))


def test_each_panel_draws_its_own_numbers(mixed: Page) -> None:
    found = charts(mixed)
    drawn, colours = {}, {}
    for revision, title, panel in headed(found["Evidence"]):
        (reference,) = (name for name, shown in SHOWN.items() if shown == title)
        if not (rects := marks(panel, "rect")):
            assert reference not in MIXED[revision][1]
            continue
        across, down = (text(axis) for axis in classed(panel, "role-axis-label"))
        assert set(across) == set(down) == set(MIXED[revision][0])  # no empty stripes
        for rect in rects:
            path = re.match(r"M([\d.]+),([\d.]+)h([\d.]+)", rect.get("d"))
            x, y, width = map(float, path.groups())
            said = facts(rect)
            assert (said["revision"], said["reference"]) == (revision, reference)
            colours.setdefault(said.get("similarity"), set()).add(rect.get("fill"))
            cell = revision, reference, across[round(x / width)], down[round(y / width)]
            drawn[cell] = int(said["ratings of the genre"].replace(",", ""))
    assert drawn == {
        (name, row["reference"], row["a"], row["b"]): row["ratings"]
        for name in MIXED
        for row in rows_of(name)["evidence"]
        if row["reference"] in SHOWN
    }
    assert {len(fills) for fills in colours.values()} == {1}
    assert len(colours) > 10


def test_each_cell_of_the_summary_stands_in_its_row_and_column(mixed: Page) -> None:
    found = charts(mixed)["Summary"]
    (header,) = classed(found, "column_header")
    columns = {place(label)[0]: label.text for label in header.iter("text")}
    drawn = {}
    for panel in panels(found):
        (labels,) = classed(panel, "role-axis-label")
        rows = {place(label)[1]: label.text for label in labels.iter("text")}
        for mark in marks(panel, "text"):
            x, y = place(mark)
            (name,) = (name for at, name in columns.items() if abs(at - x) < 2)
            (row,) = (row for at, row in rows.items() if abs(at - y) < 5)
            drawn[name, row] = mark.text
    assert drawn == {
        (name, row["name"]): row["value"] for name in MIXED for row in rows_of(name)["summary"]
    }
    assert [*columns.values()] == ["films", "odd"]


def test_page_says_whose_data_differ(six: Page, mixed: Page) -> None:
    assert warning(six) == ""
    # Revisions from before there were fingerprints: bare alone has ratings of 1 star.
    assert warning(mixed) == f"films, odd differ from bare in data or split. {DIFFERENT}"


@pytest.mark.parametrize(("dark", "ink", "count"), [(False, "#222", 8), (True, "#ddd", 9)])
def test_page_of_anything(dark: bool, ink: str, count: int, tmp_path: Path) -> None:
    """Strange names, a chart that fails, requests, fingerprints, many colours; light and dark."""
    evil = "document.title = 'owned'"
    name = f'</script><script>{evil}</script><img src=x onerror="{evil}"><script>{evil}//'
    prints = {"a": "000", "seed": "001", "split": "010", "both": "110", "all": "111"}
    prints |= {f"same {number}": "000" for number in range(len(prints), count)}
    keys = ("fingerprints", "data"), ("fingerprints", "split"), ("data", "seed")
    rows = [
        {"rev": revision, "section": section, "name": key, "value": f"{key} {value}"}
        for revision, values in prints.items()
        for (section, key), value in zip(keys, values, strict=True)
    ]
    axis = {"x": {"field": "rev", "type": "nominal", "title": "Name"}}
    whole = {"data": {"values": [{"rev": "a"}]}, "mark": "point", "encoding": {}}
    specs: tuple[dict[str, Any], ...] = (
        {"title": "Whole", "data": {"values": rows}, "encoding": axis},
        {"title": name},
        {"title": "Swallowed by the script that a picture's name begins"},
        {"title": "Broken", "mark": "no such mark"},
        {"title": "Whole again"},
    )
    divs = [
        VegaRenderer.DIV.format(id=f"c{number}", partial=json.dumps(whole | spec))
        for number, spec in enumerate(specs)
    ]
    divs.insert(2, f'<div><p>{name}</p><img src="data:image/png;base64,{PIXEL}"></div>')
    divs.append('<img src="http://example.org/picture.png">')
    (tmp_path / "page.html").write_text(
        PAGE.replace("{plot_divs}", "\n".join(divs)), encoding="utf-8"
    )
    page = open_page(tmp_path / "page.html", tmp_path / "profile", dark=dark)

    assert page.requests == []
    if dark:  # without its policy, a request would be seen
        policy = re.compile('<meta http-equiv="Content-Security-Policy".*?>', re.DOTALL)
        text = (tmp_path / "page.html").read_text(encoding="utf-8")
        (tmp_path / "open.html").write_text(policy.sub("", text), encoding="utf-8")
        assert "example.org" in str(open_page(tmp_path / "open.html", tmp_path / "p").requests)
    assert page.root.findtext(".//title") == "Genre embeddings compared"
    found = charts(page)
    drawn = [title for title, box in found.items() if box.get("data-drawn") == "yes"]
    assert drawn == ["Whole", "Whole again"]
    assert "cannot be drawn" in found["Broken"].findtext("p[@class='note error']", "")
    labels = [label for label in found["Whole"].iter("text") if label.text in ("a", "Name")]
    assert [label.get("fill") for label in labels] == [ink, ink]
    (bar,) = page.root.findall("body/div[@id='revisions']")
    assert len(bar.findall("b")) == count
    assert (bar.find("span") is not None) == (count > 8)  # it says that colours repeat
    assert warning(page) == (
        "seed differs from a in seed. "
        f"split differs from a in split. {DIFFERENT} "
        f"both differs from a in data and split. {DIFFERENT} "
        f"all differs from a in data, split and seed. {DIFFERENT}"
    )


def test_scripts_are_named_by_the_policy_and_published_with_their_licences() -> None:
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", PAGE, flags=re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(code.encode()).digest()) for code in scripts]
    wanted = [f"'sha256-{digest.decode()}'" for digest in digests]
    policy = re.findall(r"script-src ([^;\"]*)", PAGE)
    assert policy == [" ".join(wanted)], "after a change of a script, put its hash into the policy"
    licences = (ROOT / ".dvc/html/LICENSES.md").read_text(encoding="utf-8")
    bundles = re.findall(r'<script id="([\w-]+)">(.*?)</script>', PAGE, flags=re.DOTALL)
    assert [name for name, _ in bundles] == ["vega", "vega-lite", "vega-embed"]
    for name, code in bundles:
        digest = hashlib.sha256(code.encode()).hexdigest()
        assert re.search(rf"^{name} \d\S+ \S+ +{digest}$", licences, flags=re.MULTILINE)
    assert licences in PAGE
