"""The comparison page: `dvc plots` with our templates in a small project, seen by a browser."""

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

from tests.browser import Page, open_page
from tests.project import ROOT, Project

PAGE = ROOT / ".dvc/html/page.html"
LICENSES = ROOT / ".dvc/html/LICENSES.md"
BLUE, VERMILION, GREEN = "#0072b2", "#d55e00", "#009e73"
GENRES = ["War", "Drama", "Comedy", "Action"]  # neither in alphabetical order nor in its reverse
REVISIONS = ["old", "dim-8", "best", "a", "c", "b"]  # the same
LAPTOP = 1280  # pixels across
DIFFERENT = "Their test ratings differ, so their errors cannot be compared directly."
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)
PLOTS = """
similarity heatmap a b Similarity
map map x y Map
histogram histogram rating count Ratings
reliability reliability predicted actual Reliability
genres genres genre rmse Genres
support support ratings rmse Support
pairs scatter evidence learnt Pairs
evidence evidence a b Evidence
loss curves epoch loss Loss
summary summary name value Summary
nulls nulls value count Nulls
calibration calibration level coverage Calibration
"""
"""File, template, x, y and title of each plot; the first revision alone has `nulls`, which was
retired, and lacks `calibration`."""


def pipeline(earlier: bool) -> str:
    """A dvc.yaml with these plots."""
    entries: dict[str, dict[str, Any]] = {"plots/picture.png": {"cache": False}}
    for file, *shown in map(str.split, PLOTS.strip().splitlines()):
        if file != ("calibration" if earlier else "nulls"):
            options = dict(zip(("template", "x", "y", "title"), shown, strict=True))
            entries[f"plots/{file}.json"] = options | {"cache": False}
    stage = {"cmd": "python -c pass", "plots": [{path: entries[path]} for path in entries]}
    return yaml.safe_dump({"stages": {"inspect": stage}})


# Chart, in the order of the page: kind of mark, number of them for one revision
MARKS = {
    "Summary": ("text", 5),
    "Similarity": ("rect", 16),
    "Evidence": ("rect", 32),
    "Loss": ("line", 2),
    "Map": ("symbol", 4),
    "Pairs": ("symbol", 2),
    "Ratings": ("rect", 4),
    "Reliability": ("symbol", 2),
    "Calibration": ("line", 1),
    "Support": ("line", 2),
    "Genres": ("symbol", 16),
}
SHOWN = {
    "learnt": "learnt",
    "likelihood": "held-out ratings",
    "rival": "mixed model",
    "truth": "planted truth",
    "genome": "tags of movies",
}
"""References on the page, in this order, and how they are called there."""


def rows_of(revision: int) -> dict[str, list[dict[str, Any]]]:
    """Rows of every plot, in which later revisions list the genres in another order."""
    order = GENRES[revision % 4 :] + GENRES[: revision % 4]
    shift = 0.1 * revision
    return {
        "loss": [
            {"epoch": epoch, "loss": loss + extra, "side": side}
            for side, loss in (("train", 0.8), ("validation", 0.9))
            for epoch, extra in ((1, 0.2), (2, 0.0), (3, 0.01 * revision))
            if epoch < 3 or revision != 2
        ],
        "similarity": [
            {"a": a, "b": b, "similarity": None if {a, b} == {"War", "Comedy"} else 0.5 + shift}
            | {"low": -0.1 if a == "Drama" else 0.3, "high": 0.7, "ratings": 1200}
            for b in order
            for a in order
        ],
        "map": [
            {"genre": genre, "x": i - 1.5 + shift, "y": shift * i, "ratings": 10 * (i + 1)}
            for i, genre in enumerate(order)
        ],
        "histogram": [
            {"rating": rating, "count": 10 + revision * (kind == "predicted"), "kind": kind}
            for kind in ("actual", "predicted")
            for rating in (3.0, 4.0)
        ],
        "reliability": [
            {"predicted": 3.0, "actual": 3.2 + shift, "count": 10},
            {"predicted": 4.0, "actual": 3.9 + shift, "count": 20},
        ],
        "genres": [
            {"genre": genre, "ratings": 40 - i, "rmse": 0.9 + shift, "bias": -0.01, "skill": 0.2}
            for i, genre in enumerate(order)
        ],
        "support": [
            {"ratings": label, "rmse": 1 - shift, "low": 0.9 - shift, "high": 1.1, "kind": kind}
            for kind in ("movie", "user")
            for label in ("1-2", "501-1000")
        ],
        "calibration": [
            {"level": 0.5, "coverage": 0.5 + shift},
            {"level": 0.9, "coverage": 0.8},
        ],
        "evidence": [
            {"a": a, "b": b, "similarity": 0.5, "ratings": 10, "reference": reference}
            for reference in ("learnt", "likelihood")
            for b in order
            for a in order
        ],
        "pairs": [
            {"a": "War", "b": "Drama", "learnt": 0.5, "evidence": 0.1, "reference": reference}
            for reference in ("likelihood", "truth", "catalogue")
        ],
        "nulls": [{"value": 0.1, "count": 5, "observed": 0.6, "reference": "likelihood"}],
        "summary": [
            {"section": section, "name": name, "value": value}
            for section, name, value in (
                ("changes", "model.dim", str(2**revision)),
                ("changes", "train.lr", "0.01"),
                ("data", "ratings", "100,000"),
                ("verdicts", "structure", "✓ pass"),
                ("prediction", "test RMSE (stars)", f"{0.9 + shift:.4f}"),
                ("agreement", "with held-out ratings", f"{0.5 + shift:.2f}"),
                ("fingerprints", "data", "the same"),
            )
        ],
    }


# Revisions of different data: their genres, references and numbers of ratings
MIXED = {
    "bare": ([], [], ["1-2"]),  # its model compared no genres
    "planted": (GENRES, ["learnt", "truth", "likelihood", "moments"], ["1-2", "501-1000"]),
    "films": (["IMAX", "Drama", "War", "Children"], ["learnt", "genome"], ["0", "1-2", "1001+"]),
    "odd": (GENRES[::-1], ["rival", "truth", "taste", "learnt"], ["3-5"]),
}


# Their summaries: "odd" lacks rows that the others have, and "bare" is from before there was one
SUMMARIES: dict[str, dict[str, list[str]]] = {
    "planted": {
        "changes": ["model.dim", "planted.users"],
        "verdicts": ["structure", "value"],
        "agreement": [
            "with held-out ratings",
            "with the planted truth",
            "with other users",
        ],
    },
    "films": {
        "changes": ["model.dim"],
        "verdicts": ["structure", "value"],
        "prediction": ["test RMSE (stars)", "new movies: RMSE"],
        "agreement": ["with held-out ratings", "with other users"],
    },
    "odd": {
        "data": ["source"],
        "verdicts": ["value"],
        "agreement": ["with other users"],
    },
    "bare": {},
}


def summary_of(name: str) -> dict[tuple[str, str], str]:
    """The text of each cell of a revision's summary, which no other cell has."""
    rows = [(section, row) for section, rows in SUMMARIES[name].items() for row in rows]
    return {row: f"{name} {number}" for number, row in enumerate(rows)}


def mixed_rows(name: str) -> dict[str, list[dict[str, Any]]]:
    """Rows of a revision of `MIXED`; each cell has a number of ratings of its own."""
    number = list(MIXED).index(name)
    genres, references, groups = MIXED[name]
    cells = [(reference, a, b) for reference in references for b in genres for a in genres]
    evidence = [
        {"a": a, "b": b, "reference": reference, "ratings": 1000 * number + 100 + at}
        | {"similarity": None if a == "War" else 1.0 if a == b else round(0.01 * at - 0.2, 2)}
        for at, (reference, a, b) in enumerate(cells)
    ]
    return rows_of(number) | {
        "evidence": evidence,
        "similarity": [
            {k: v for k, v in row.items() if k != "reference"} | {"low": 0.1, "high": 1.0}
            for row in evidence
            if row["reference"] == "learnt"
        ],
        "pairs": [
            {"a": "War", "b": "Drama", "learnt": 0.5, "evidence": 0.1 * number, "reference": name}
            for name in references[1:]
        ],
        "summary": [
            {"section": section, "name": row, "value": value}
            for (section, row), value in summary_of(name).items()
        ],
        "histogram": [
            {"rating": 1.0 + 5 * (number > 0), "count": count, "kind": kind}
            for kind, count in (("actual", 3), ("predicted", number))
        ],
        "support": [
            {"ratings": label, "rmse": 0.9, "low": 0.8, "high": 1.0, "kind": "movie"}
            for label in groups
        ],
    }


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Repository with a tag a revision; the first lacks `calibration` and has a retired chart."""
    folder = tmp_path_factory.mktemp("project")
    project = Project(folder)
    for name in (".dvc/plots", ".dvc/html"):
        shutil.copytree(ROOT / name, folder / name)
    for name in (".dvc/config", ".dvc/.gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "plots").mkdir()
    project.git("init", "--quiet")
    for revision, name in enumerate([*REVISIONS, *MIXED]):
        (folder / "dvc.yaml").write_text(pipeline(revision == 0))
        (folder / "plots/picture.png").write_bytes(base64.b64decode(PIXEL))
        made = mixed_rows(name) if name in MIXED else rows_of(revision)
        for plot, rows in made.items():
            if plot != ("calibration" if revision == 0 else "nulls"):
                (folder / f"plots/{plot}.json").write_text(json.dumps(rows))
        project.commit()
        project.git("tag", name)
    return project


def plots(project: Project, *revisions: str) -> Path:
    """The page that `dvc plots diff` makes of revisions."""
    out = f"page-{revisions[0]}"
    project.dvc("plots", "diff", *revisions, "--out", out)
    return project.folder / out / "index.html"


@pytest.fixture(scope="module")
def written(project: Project) -> Path:
    return plots(project, *REVISIONS)


@pytest.fixture(scope="module")
def six(written: Path) -> Page:
    return open_page(written, written.with_name("profile"))


def charts(page: Page) -> dict[str, Element]:
    boxes = [*page.root.findall("body/main/div"), *page.root.findall("body/main/details/div")]
    return {heading: box for box in boxes if (heading := box.findtext(".//h2"))}


def classed(element: Element, *words: str) -> list[Element]:
    """Groups of an SVG that bear all of these words in their class, in the order of drawing."""
    return [g for g in element.iter("g") if set(words) <= set(g.get("class", "").split())]


def text(element: Element) -> list[str]:
    return [t.text or "" for t in element.iter("text")]


def marks(chart: Element, kind: str) -> list[Element]:
    return [m for g in classed(chart, f"mark-{kind}", "role-mark") for m in g]


def panels(chart: Element) -> list[tuple[float, float]]:
    """Places (x, y) of a chart's facets in pixels."""
    (group,) = classed(chart, "role-scope", "cell")
    return [place(cell) for cell in group]


def headed(chart: Element) -> list[tuple[str, str, Element]]:
    """The panels of a chart with rows and columns: the headers beside and above each."""
    heads = []
    for kind, axis in (("row_header", 1), ("column_header", 0)):
        groups = [cell for group in classed(chart, kind) for cell in group]
        heads.append({place(c)[axis]: text(classed(c, "role-title-text")[0])[0] for c in groups})
    rows, columns = heads
    (cells,) = classed(chart, "role-scope", "cell")
    return [(rows[place(cell)[1]], columns[place(cell)[0]], cell) for cell in cells]


def place(element: Element) -> tuple[float, float]:
    """Where an element stands (x, y) in its parent, in pixels."""
    x, y = re.findall(r"-?[\d.]+", element.get("transform", ""))
    return float(x), float(y)


def facts(mark: Element) -> dict[str, str]:
    """What the chart says of a mark, by name."""
    said = mark.get("aria-label", "").replace("\N{MINUS SIGN}", "-").split("; ")
    return {name: value for name, _, value in (entry.partition(": ") for entry in said)}


def test_project_uses_every_template() -> None:
    used = {line.split()[1] for line in PLOTS.strip().splitlines()}
    assert used == {path.stem for path in (ROOT / ".dvc/plots").glob("*.json")}


def test_every_chart_is_drawn(six: Page) -> None:
    found = charts(six)
    assert list(found) == [*MARKS, "plots/picture.png"]
    for title, (kind, number) in MARKS.items():
        assert found[title].get("data-drawn") == "yes", title
        assert len(marks(found[title], kind)) == number * (6 - (title == "Calibration")), title
        assert found[title].findtext("p[@class='note']"), title
    assert len(list(found["plots/picture.png"].iter("img"))) == 6


def test_heatmaps_stand_side_by_side_in_one_order(six: Page) -> None:
    chart = charts(six)["Similarity"]
    assert panels(chart)[0][0] < panels(chart)[1][0]
    header = [label for g in classed(chart, "role-title-text") for label in text(g)]
    assert header == REVISIONS
    # The first revision's order, in every heatmap
    assert [g for g in map(text, classed(chart, "role-axis-label")) if g] == [GENRES] * 12


def widths(found: dict[str, Element]) -> list[float]:
    pictures = [picture for box in found.values() for picture in box.iter("svg")]
    return [float(p.get("width", "0")) for p in pictures if p.get("class") == "marks"]


def test_panels_stack_on_a_small_screen(written: Path, six: Page) -> None:
    found = charts(open_page(written, written.with_name("profile"), width=500))
    for title in ("Map", "Support"):
        assert len({x for x, _ in panels(charts(six)[title])}) > 1, title
        assert len({x for x, _ in panels(found[title])}) == 1, title
        assert max(widths({title: found[title]})) < 500


def test_six_revisions_fit_on_a_laptop_and_have_a_colour_each(six: Page) -> None:
    found = charts(six)
    assert max(widths(found)) <= LAPTOP - 98  # beside it is room for the button of the menu
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


HOVER = """
<img src="http://example.org/picture.png">
<script>
const waiting = setInterval(() => {
  if (!document.body.dataset.ready) return;
  clearInterval(waiting);
  const head = [...document.querySelectorAll("h2")].find(head => head.textContent === "Loss");
  const svg = head.parentNode.querySelector("svg.marks");
  svg.scrollIntoView({block: "center"});
  const plot = svg.getBoundingClientRect();
  const at = {clientX: plot.left + plot.width * 0.7, clientY: plot.top + plot.height / 2};
  const hit = document.elementFromPoint(at.clientX, at.clientY);
  for (const event of ["pointerover", "mouseover", "pointermove", "mousemove"])
    hit.dispatchEvent(new MouseEvent(event, {...at, bubbles: true, view: window}));
}, 50);
</script>
"""


def test_one_tooltip_has_the_values_of_all_curves_at_an_epoch(written: Path, six: Page) -> None:
    assert text(classed(charts(six)["Loss"], "role-axis-label")[0]) == ["1", "2", "3"]
    hovered = written.with_name("hovered.html")
    page = written.read_text(encoding="utf-8")
    page = re.sub('<meta http-equiv="Content-Security-Policy".*?>', "", page, flags=re.S)
    head, end, tail = page.rpartition("</body>")
    hovered.write_text(f"{head}{HOVER}{end}{tail}", encoding="utf-8")
    found = open_page(hovered, written.with_name("profile"))
    (tooltip,) = (d for d in found.root.iter("div") if d.get("id") == "vg-tooltip-element")
    said = {row.findtext("td[1]"): row.findtext("td[2]") for row in tooltip.iter("tr")}
    assert said.pop("epoch") == "3"
    assert {name: float(value) for name, value in said.items()} == {
        f"{name}, {side}": pytest.approx(loss + 0.01 * number)
        for number, name in enumerate(REVISIONS)
        for side, loss in (("train", 0.8), ("validation", 0.9))
        if number != 2  # it ended after two epochs
    }
    # The page itself fetches nothing; a request would be seen.
    assert six.requests == []
    assert any("example.org" in request for request in found.requests)


def test_pictures_are_folded_up_at_the_end(six: Page) -> None:
    (folded,) = six.root.findall("body/main/details")
    assert folded.get("open") is None
    assert list(six.root.findall("body/main/*"))[-1] is folded
    links = [link for link in folded.iter("a") if link.find("img") is not None]
    assert [link.get("href", "").rpartition("/")[2] for link in links] == [
        f"{revision}_plots_picture.png" for revision in REVISIONS
    ]
    assert "#pictures" in [link.get("href") for link in six.root.iter("a")]


def test_heatmap_tells_what_it_does_not_know(six: Page) -> None:
    chart = charts(six)["Similarity"]
    first = classed(chart, "role-scope", "cell")[0][0]
    cells = [m.text for g in classed(first, "mark-text", "role-mark") for m in g]
    # War, Drama, Comedy, Action: a dot where the interval includes zero, nothing where War and
    # Comedy could not be compared.
    assert cells == [
        *(".5", "·", None, ".5"),
        *(".5", "·", ".5", ".5"),
        *(None, "·", ".5", ".5"),
        *(".5", "·", ".5", ".5"),
    ]


def test_labels_of_the_map_keep_apart(six: Page) -> None:
    for panel in classed(charts(six)["Map"], "role-scope", "cell")[0]:
        for side in classed(panel, "mark-text", "role-mark"):
            heights = sorted(place(label)[1] for label in side)
            assert all(low + 10 < high for low, high in pairwise(heights))


@pytest.fixture(scope="module")
def mixed(project: Project) -> Page:
    """Revisions of different data; the first compared no genres."""
    page = plots(project, *MIXED)
    return open_page(page, page.with_name("profile"))


def test_each_panel_draws_its_own_numbers(mixed: Page) -> None:
    found = charts(mixed)
    drawn, colours = {}, {}
    for revision, title, panel in headed(found["Evidence"]):
        (reference,) = (name for name, shown in SHOWN.items() if shown == title)
        if not (rects := marks(panel, "rect")):
            assert reference not in MIXED[revision][1]
            continue
        across, down = (text(axis) for axis in classed(panel, "role-axis-label"))
        assert set(across) == set(down) == set(MIXED[revision][0])
        for rect in rects:
            x, y, width = map(
                float, re.match(r"M([\d.]+),([\d.]+)h([\d.]+)", rect.get("d")).groups()
            )
            said = facts(rect)
            assert (said["revision"], said["reference"]) == (revision, reference)
            colours.setdefault(said.get("similarity"), set()).add(rect.get("fill"))
            cell = revision, reference, across[round(x / width)], down[round(y / width)]
            drawn[cell] = int(said["ratings of the genre"].replace(",", ""))
    wanted = {
        (name, row["reference"], row["a"], row["b"]): row["ratings"]
        for name in MIXED
        for row in mixed_rows(name)["evidence"]
        if row["reference"] in SHOWN
    }
    assert drawn == wanted
    assert {len(fills) for fills in colours.values()} == {1}
    assert len(colours) > 10
    points = []
    for title, revision, panel in headed(found["Pairs"]):
        for said in map(facts, marks(panel, "symbol")):
            assert (said["revision"], SHOWN[said["reference"]]) == (revision, title)
            points.append((revision, said["reference"]))
    evidence = {"likelihood", "truth", "genome"}
    every = [(name, ref) for name in MIXED for ref in MIXED[name][1] if ref in evidence]
    assert sorted(points) == sorted(every)


def test_each_cell_of_the_summary_stands_in_its_row_and_column(mixed: Page) -> None:
    found = charts(mixed)["Summary"]
    (header,) = classed(found, "column_header")
    columns = {place(label)[0]: label.text for label in header.iter("text")}
    assert list(columns.values()) == [name for name in MIXED if SUMMARIES[name]]
    drawn = {}
    for panel in classed(found, "role-scope", "cell")[0]:
        (labels,) = classed(panel, "role-axis-label")
        rows = {place(label)[1]: label.text for label in labels.iter("text")}
        for mark in marks(panel, "text"):
            x, y = place(mark)
            (name,) = (name for at, name in columns.items() if abs(at - x) < 2)
            (row,) = (row for at, row in rows.items() if abs(at - y) < 5)
            drawn[name, row] = mark.text
    wanted = {
        (name, row): value
        for name in MIXED
        for (section, row), value in summary_of(name).items()
        if section != "changes" or row == "model.dim"
    }
    assert drawn == wanted


def test_heatmaps_of_different_genres_have_no_empty_stripes(mixed: Page) -> None:
    found = charts(mixed)
    panels = [
        panel for group in classed(found["Similarity"], "role-scope", "cell") for panel in group
    ]
    shown = [name for name in MIXED if MIXED[name][0]]
    for name, panel in zip(shown, panels, strict=True):
        across, down = (text(axis) for axis in classed(panel, "role-axis-label"))
        assert across == down
        assert sorted(across) == sorted(MIXED[name][0])
        assert len(marks(panel, "rect")) == len(across) ** 2
        assert {facts(mark)["revision"] for mark in marks(panel, "rect")} == {name}
        diagonal = [m for m in marks(panel, "rect") if facts(m)["genre"] == facts(m)["with"]]
        assert {facts(m).get("similarity") for m in diagonal} <= {"1", "null"}


def test_groups_of_support_stand_in_ascending_order(mixed: Page) -> None:
    found = charts(mixed)
    axes = classed(found["Support"], "role-axis-label")
    labels = [[label for label in text(axis) if label] for axis in axes]
    present = {label for name in MIXED for label in MIXED[name][2]}
    assert [n for n in ("0", "1-2", "3-5", "501-1000", "1001+") if n in present] in labels


def test_every_axis_stands_under_a_panel(mixed: Page) -> None:
    for title in ("Similarity", "Ratings", "Map"):
        chart = charts(mixed)[title]
        for footer in classed(chart, "column_footer"):
            lowest = {x: max(b for a, b in panels(chart) if a == x) for x, _ in panels(chart)}
            assert len(set(lowest.values())) == 1 or not text(footer), title


def warning(page: Page) -> str:
    (place,) = page.root.findall("body/p[@id='warning']")
    return "".join(place.itertext()).strip()


def test_page_says_whose_data_differ(six: Page, mixed: Page) -> None:
    assert warning(six) == ""
    # Revisions from before there were fingerprints: bare alone has ratings of 1 star.
    assert warning(mixed) == f"planted, films, odd differ from bare in data or split. {DIFFERENT}"


def chart_of(number: int = 0, **spec: Any) -> str:
    whole = {"data": {"values": [{"rev": "a"}]}, "mark": "point", "encoding": {}} | spec
    return VegaRenderer.DIV.format(id=f"c{number}", partial=json.dumps(whole))


@pytest.mark.parametrize(("dark", "ink", "count"), [(False, "#222", 8), (True, "#ddd", 9)])
def test_page_of_anything(dark: bool, ink: str, count: int, tmp_path: Path) -> None:
    """Strange names, a chart that fails, requests, fingerprints, many colours; light and dark."""
    evil = "document.title = 'owned'"
    name = f'</script><script>{evil}</script><img src=x onerror="{evil}"><script>{evil}//'
    prints = {"a": "000", "seed": "001", "split": "010", "both": "110", "all": "111"}
    prints |= {f"same {number}": "000" for number in range(len(prints), count)}
    rows = [
        {"rev": revision, "section": section, "name": key, "value": f"{key} {value}"}
        for revision, values in prints.items()
        for section, key, value in zip(
            ("fingerprints", "fingerprints", "data"), ("data", "split", "seed"), values, strict=True
        )
    ]
    axis = {"x": {"field": "rev", "type": "nominal", "title": "Name"}}
    specs = (
        {"title": "Whole", "data": {"values": rows}, "encoding": axis},
        {"title": name},
        {"title": "Swallowed by the script that a picture's name begins"},
        {"title": "Broken", "mark": "no such mark"},
        {"title": "Whole again"},
    )
    divs = [chart_of(number, **spec) for number, spec in enumerate(specs)]
    divs.insert(2, f'<div><p>{name}</p><img src="data:image/png;base64,{PIXEL}"></div>')
    divs.append('<img src="http://example.org/picture.png">')
    template = PAGE.read_text(encoding="utf-8").replace("{plot_divs}", "\n".join(divs))
    (tmp_path / "page.html").write_text(template, encoding="utf-8")
    page = open_page(tmp_path / "page.html", tmp_path / "profile", dark=dark)

    assert page.requests == []
    assert page.root.findtext(".//title") == "Genre embeddings compared"
    found = charts(page)
    assert [title for title, box in found.items() if box.get("data-drawn") == "yes"] == [
        "Whole", "Whole again",
    ]  # fmt: skip
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


def test_policy_names_the_scripts_of_the_page_by_their_hashes() -> None:
    page = PAGE.read_text(encoding="utf-8")
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", page, flags=re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(code.encode()).digest()) for code in scripts]
    wanted = " ".join(f"'sha256-{digest.decode()}'" for digest in digests)
    policy = re.findall(r"script-src ([^;\"]*)", page)
    assert policy == [wanted], "after a change of a script, put its new hash into the policy"


def test_bundles_are_the_published_ones_with_their_licences() -> None:
    page = PAGE.read_text(encoding="utf-8")
    licences = LICENSES.read_text(encoding="utf-8")
    bundles = re.findall(r'<script id="([\w-]+)">(.*?)</script>', page, flags=re.DOTALL)
    assert [name for name, _ in bundles] == ["vega", "vega-lite", "vega-embed"]
    for name, code in bundles:
        digest = hashlib.sha256(code.encode()).hexdigest()
        assert re.search(rf"^{name} \d\S+ \S+ +{digest}$", licences, flags=re.MULTILINE)
    assert licences in page
