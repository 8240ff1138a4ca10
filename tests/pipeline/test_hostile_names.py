"""Hostile names stay text in every output.

They are genres, titles, ids of movies and users, a branch, and settings of that branch. The outputs
are lines of stages and commands, JSON, Markdown, YAML, HTML, TSV and CSV.
"""

import csv
import io
import json
import random
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt

from genre_embeddings.cli import main
from tests.browser import Page, charts, open_page
from tests.project import Project, make_project, read_yaml, shared

pytestmark = pytest.mark.pipeline
SCRIPT = "</script><script>document.title='owned'</script>"
NAMES = (
    SCRIPT, "<img src=x onerror=\"document.title='owned'\">", "<!--", "]]>", "' onload='x",
    "&lt;b&gt;", "{{ 7 * 7 }}", "{% raw %}", "${7*7}", "%s%n", "datum.rev", "[a](http://example.org)",
    "![a](http://example.org/a.png)", "`a` *b* ~~c~~", "# heading", "- item", "a: [b",
    "$", "$$", "$\\frac{", "=HYPERLINK(\"http://example.org\")", "@SUM(1)", "+1", "時代劇",
    "long " * 16 + "name",
)  # fmt: skip
OBEYED = "\x9b2J\u202eevil"
"""Control Sequence Introducer as one character, and an override of the direction of text."""
BRANCH = "a" + SCRIPT.replace(" ", "")
FORGED = "\x1b]0;owned\x07x\nerror: forged"


def own_data(folder: Path) -> None:
    """Ratings by 60 users of 75 movies; each has two of the names as genres, and one as title."""
    folder.mkdir()
    draw = random.Random(0)
    ids = [f"{NAMES[k % len(NAMES)]} {k}" for k in range(75)]
    with (folder / "movies.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["movieId", "title", "genres"])
        for k, name in enumerate(ids):
            genres = NAMES[k % len(NAMES)], NAMES[(3 * k + 1) % len(NAMES)]
            rows.writerow([name, NAMES[k % len(NAMES)] + OBEYED, "|".join(genres)])
    with (folder / "ratings.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["userId", "movieId", "rating"])
        for user in range(60):
            for movie in draw.sample(ids, 30):
                rows.writerow([f"{NAMES[user % len(NAMES)]} {user}", movie, draw.randint(1, 5)])


def harmless(said: str) -> str:
    """The output of a program, which must be ASCII text without lines that a name forged."""
    assert "Traceback" not in said
    assert not re.search(r"[^\n\t\x20-\x7e]", said), said
    assert not re.search(r"^error: forged", said, re.MULTILINE), said
    return said


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The pipeline run on such data, in a terminal of ASCII, and a hostile branch."""

    def make(folder: Path) -> None:
        project = make_project(folder)
        own_data(folder / "own")
        scale = {"min_rating": 1, "max_rating": 5}
        source = {"source": "folder", "path": "own", "genre_separator": "|", **scale}
        project.change({"data": source, "inspect": {"min_movies": 1}})
        repro = project.start_dvc("repro", PYTHONIOENCODING="ascii")
        said, _ = repro.communicate(timeout=600)
        assert repro.returncode == 0, said
        harmless(said)
        project.commit()
        project.git("checkout", "--quiet", "-b", BRANCH)
        lock = folder / "dvc.lock"
        text = lock.read_text(encoding="utf-8")
        forged = text.replace("path: own\n", f"path: {json.dumps(FORGED)}\n")
        forged = forged.replace("genre_separator: '|'", f"genre_separator: {json.dumps(SCRIPT)}")
        assert forged != text
        lock.write_text(forged, encoding="utf-8")
        project.commit()
        project.git("checkout", "--quiet", "main")

    return shared(tmp_path_factory, "hostile", make)


def genres(project: Project, *arguments: str, status: int = 0) -> None:
    """Run a command in this process, on a terminal of ASCII; a new process imports torch first."""
    with pytest.MonkeyPatch.context() as patch, io.TextIOWrapper(io.BytesIO(), "ascii") as stream:
        patch.chdir(project.folder)
        patch.setattr(sys, "argv", ["genres", *arguments])
        patch.setattr(sys, "stdout", stream)
        patch.setattr(sys, "stderr", stream)
        with pytest.raises(SystemExit) as ended:
            main()
        if isinstance(ended.value.code, str):
            print(ended.value.code, file=sys.stderr)
        sys.stderr.flush()
        sys.stdout.flush()
        said = stream.buffer.getvalue().decode("ascii")  # type: ignore[attr-defined]
    assert harmless(said)
    assert bool(ended.value.code) == bool(status), said


def seen(page: Path, profile: Path, title: str) -> Page:
    """A page in a browser, where no name became an element, an attribute or a script."""
    found = open_page(page, profile)
    assert (found.root.findtext(".//title") or "").endswith(title)
    assert not found.requests
    for element in found.root.iter():
        assert not [name for name in element.attrib if name.startswith("on")], element.attrib
        assert "example.org" not in (element.get("href") or element.get("src") or "")
        assert element.get("src") != "x"
    return found


def test_lines_of_every_command(project: Project) -> None:
    name = f"{NAMES[0]} 0"  # of a user and of a movie
    for command in (
        ("recommend", name), ("explain", name, name), ("neighbours", name), ("neighbours", "$"),
        ("embed", "$$,$"), ("runs",), ("compare", "main", BRANCH),
    ):  # fmt: skip
        genres(project, *command)
    genres(project, "neighbours", FORGED, status=1)
    genres(project, "sweep", status=1)  # both runs have one value of model.dim


def test_tables(project: Project, tmp_path: Path) -> None:
    pairs = [("userId", "movieId"), *((f"{name} {k}",) * 2 for k, name in enumerate(NAMES))]
    with (tmp_path / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(pairs)
    genres(project, "predict", str(tmp_path / "pairs.csv"), "--out", str(tmp_path / "rated.csv"))
    with (tmp_path / "rated.csv").open(newline="", encoding="utf-8") as file:
        rated = list(csv.reader(file))
    assert [tuple(row[:2]) for row in rated] == pairs  # the ids as they were given
    genres(project, "export", "--out", str(tmp_path / "exports"))
    text = (tmp_path / "exports/metadata.tsv").read_text(encoding="utf-8")
    lines = text.removesuffix("\n").split("\n")
    vectors = (tmp_path / "exports/vectors.tsv").read_text(encoding="utf-8").count("\n")
    assert len(lines) == vectors + 1
    for line in lines:
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]", line)
        cells = line.split("\t")
        assert len(cells) == 5
        assert not [cell for cell in cells if cell.lstrip()[:1] in set("=+-@")]


def test_files_of_the_stages(project: Project, tmp_path: Path) -> None:
    for folder in ("metrics", "plots"):
        for path in (project.folder / folder).rglob("*.json"):
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"<[/!?a-zA-Z]", text), path
            json.loads(text)
    card = (project.folder / "metrics/card.md").read_text(encoding="utf-8")
    _, head, body = card.split("---\n", 2)
    assert yaml.safe_load(head)["library_name"] == "pytorch"
    settings = re.search(r"```yaml\n(.*?)```", body, re.DOTALL)
    assert settings
    assert yaml.safe_load(settings[1])["data.genre_separator"] == "|"
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(body)
    (tmp_path / "card.html").write_text(f"<title>card</title>{html}", encoding="utf-8")
    page = seen(tmp_path / "card.html", tmp_path / "profile", "card")
    tags = {element.tag for element in page.root.iter()}
    assert not tags & {"script", "img", "del"}


def test_pages(project: Project, tmp_path: Path) -> None:
    title = ": genre embeddings"
    shutil.copy(project.folder / "plots/report.html", tmp_path)
    page = seen(tmp_path / "report.html", tmp_path / "profile", title)
    assert "時代劇" in "".join(page.root.itertext())
    assert not list(page.root.iter("script"))


def test_the_page_of_dvc(project: Project, tmp_path: Path) -> None:
    project.dvc("plots", "diff", "main", BRANCH, "--out", str(tmp_path / "plots"))
    page = open_page(tmp_path / "plots/index.html", tmp_path / "profile")
    assert page.root.findtext(".//title") == "Genre embeddings compared"
    assert not page.requests
    said = project.dvc("plots", "show", "--out", str(tmp_path / "own"))
    assert not re.search("warning|failed to load", said, re.IGNORECASE), said
    page = seen(tmp_path / "own/index.html", tmp_path / "profile", "Genre embeddings compared")
    found = charts(page)
    stages = read_yaml(project.folder / "dvc.yaml")["stages"].values()
    plots = [plot for stage in stages for plot in stage.get("plots", [])]
    entries = {path: options for plot in plots for path, options in plot.items()}
    assert set(found) == {options.get("title", path) for path, options in entries.items()}
    drawn = [title for title, box in found.items() if box.get("data-drawn") == "yes"]
    assert len(drawn) == sum(path.endswith(".json") for path in entries)
