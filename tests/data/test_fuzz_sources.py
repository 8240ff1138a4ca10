"""Damaged files and strange ones: every row is accounted for, or one clear error says why not.

The judge and its plain reader are those of benchmarks/robustness/fuzz.py, whose long run fills
docs/results/robustness.md; here is a short one, the same each time.
"""

import csv
import io
import random
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.robustness import fuzz
from benchmarks.robustness.fuzz import (
    ARCHIVES,
    LAYOUTS,
    PlainReader,
    WrongOutcomeError,
    attack,
    judge,
    sound,
)
from genre_embeddings.data.sources.archive import open_files
from genre_embeddings.data.sources.folder import open_folder
from genre_embeddings.data.sources.layouts import LAYOUTS as FILES
from genre_embeddings.errors import InputError
from genre_embeddings.settings import load_settings
from tests.conftest import ROOT

DATA = load_settings(ROOT / "params.yaml").data
steady = settings(derandomize=True, deadline=None, database=None, max_examples=60)


@pytest.mark.parametrize("name", [*LAYOUTS, *ARCHIVES])
def test_every_layout_survives_every_kind_of_damage(name: str) -> None:
    outcomes = [attack(name, kind, -1 - n) for kind in fuzz.kinds_of(name) for n in range(5)]
    assert [outcome for outcome in outcomes if outcome not in ("parsed", "error")] == []
    assert outcomes.count("error") > len(outcomes) / 4


def test_large_files_survive_too() -> None:
    """Polars cuts them into pieces, and a row's number must count through all of them."""
    for name in ("own csv", "ml-1m"):
        for kind in ("nothing", "bytes flipped", "line ends"):
            assert attack(name, kind, 0, ratings=20_000) in ("parsed", "error")


@steady
@given(
    name=st.sampled_from([*LAYOUTS]),
    seed=st.integers(0, 2**32),
    file=st.integers(0, 2),
    edits=st.lists(
        st.tuples(st.integers(0, 1500), st.integers(0, 30), st.binary(max_size=6)), max_size=5
    ),
)
def test_any_edits(name: str, seed: int, file: int, edits: list[tuple[int, int, bytes]]) -> None:
    contents = sound(LAYOUTS[name], random.Random(seed))
    chosen = list(contents)[file % len(contents)]
    for place, length, piece in edits:
        old = contents[chosen]
        place %= len(old) + 1
        contents[chosen] = old[:place] + piece + old[place + length :]
    with tempfile.TemporaryDirectory() as folder:
        judge(LAYOUTS[name], contents, Path(folder))


@steady
@given(
    name=st.sampled_from([*LAYOUTS]),
    file=st.integers(0, 2),
    content=st.one_of(
        st.binary(max_size=80), st.text(alphabet='1,:\t|"\r\n\0.-e userIdmov\ufeffé', max_size=80)
    ),
)
def test_any_content(name: str, file: int, content: bytes | str) -> None:
    contents = sound(LAYOUTS[name], random.Random(0))
    chosen = list(contents)[file % len(contents)]
    contents[chosen] = content if isinstance(content, bytes) else content.encode()
    with tempfile.TemporaryDirectory() as folder:
        judge(LAYOUTS[name], contents, Path(folder))


texts = st.text(st.characters(exclude_categories=["Cc", "Cs"], include_characters="\t"), max_size=9)
names = texts.map(str.strip).filter(lambda text: text and "\ufeff" not in text)
identities = st.one_of(names.filter(lambda text: not text.startswith("-")), st.just("007"))
numbers = st.integers(0, 10**17).map(str)
genres = st.sampled_from(
    ["A", "b", "Film Noir", "'", '"x"', "a,b", "東京", "$", "[a]", "{{x}}", "e;f"]
)


@steady
@given(
    movies=st.dictionaries(
        st.one_of(identities, numbers),
        st.tuples(texts, st.lists(genres, max_size=3)),
        min_size=1,
        max_size=5,
    ),
    rows=st.lists(
        st.tuples(
            st.one_of(identities, numbers),
            st.integers(0, 4),
            st.integers(1, 10).map(lambda half: half / 2),
            st.integers(0, 32_503_680_000),
        ),
        min_size=1,
        max_size=8,
    ),
    ways=st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans()),
)
def test_what_was_written_is_read(
    movies: dict[str, tuple[str, list[str]]],
    rows: list[tuple[str, int, float, int]],
    ways: tuple[bool, bool, bool, bool],
) -> None:
    """Any ids, titles and genres, in a csv file saved in any way."""
    windows, mark, quotes, blanks = ways
    ids = list(movies)
    ratings = [(user, ids[at % len(ids)], rating, time) for user, at, rating, time in rows]
    tables = {
        "ratings.csv": [("userId", "movieId", "rating", "timestamp"), *ratings],
        "movies.csv": [
            ("movieId", "title", "genres"),
            *((movie, title, "|".join(genres)) for movie, (title, genres) in movies.items()),
        ],
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, table in tables.items():
            text = io.StringIO()
            end = ("\r\n" if windows else "\n") * (2 if blanks else 1)
            quoting = csv.QUOTE_ALL if quotes else csv.QUOTE_MINIMAL
            csv.writer(text, lineterminator=end, quoting=quoting).writerows(table)
            content = "\ufeff" * mark + text.getvalue()
            Path(folder, name).write_bytes(content.encode())
        own = {"source": "folder", "path": folder, "genre_separator": "|"}
        data = DATA.model_copy(update=own)
        with open_folder(data) as source:
            read = [(str(u), str(m), r, t) for u, m, r, t in source.ratings.collect().rows()]
            entries = source.movies.rows()
    assert read == ratings
    assert [(str(movie), title, genres) for movie, title, genres in entries] == [
        (movie, title, list(dict.fromkeys(genres))) for movie, (title, genres) in movies.items()
    ]


parts = st.sampled_from(
    ["..", ".", "", "/", "\\", "C:", "ml-1m", "ratings.dat", "movies.dat", "\x1b[2J", "é", "x" * 90]
)


@steady
@given(st.lists(st.lists(parts, min_size=1, max_size=5), min_size=1, max_size=6))
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_any_names_in_an_archive(members: list[list[str]]) -> None:
    """What they are called decides nothing about where they are written."""
    with tempfile.TemporaryDirectory() as outer:
        place, inner = Path(outer, "a.zip"), Path(outer, "deep", "inner")
        inner.mkdir(parents=True)
        with zipfile.ZipFile(place, "w") as archive:
            for member in members:
                archive.writestr("/".join(member) or "x", "1::1::1::1\n")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tempfile, "tempdir", str(inner))
            before = set(Path(outer).rglob("*"))
            said = ""
            try:
                with open_files(place, FILES) as (layout, files):
                    new = set(Path(outer).rglob("*")) - before
                    assert {path.name for path in new if path.is_file()} == set(layout)
                    assert all(inner in path.parents for path in new)
                    said = "".join(file.label for file in files.values())
            except InputError as error:
                said = str(error)
            assert said.isprintable()
            assert set(Path(outer).rglob("*")) == before


# The judge itself


def test_the_judge_notices_a_row_too_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = LAYOUTS["csv"]
    contents = sound(layout, random.Random(1))
    assert judge(layout, contents, tmp_path)
    lines = contents["ratings.csv"].splitlines(keepends=True)
    read = fuzz.prepared

    def one_row_less(data: object) -> object:
        path = tmp_path / layout.source / "ratings.csv"
        path.write_bytes(b"".join(lines[:-1]))
        return read(data)  # type: ignore[arg-type]

    monkeypatch.setattr(fuzz, "prepared", one_row_less)
    with pytest.raises(WrongOutcomeError, match=r"other ratings|rows read: 13, in the file 14"):
        judge(layout, contents, tmp_path)


@pytest.mark.parametrize(
    ("outcome", "message"),
    [
        (ValueError("oh"), "ValueError: oh"),
        (InputError("it is bad"), "refused, although nothing is wrong"),
        (InputError("ratings.csv, row 3: \x1b"), "not fit for a terminal"),
        (InputError("x" * 5000), "5000 characters long"),
    ],
)
def test_the_judge_notices_other_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome: Exception, message: str
) -> None:
    def fail(_data: object) -> None:
        raise outcome

    monkeypatch.setattr(fuzz, "prepared", fail)
    with pytest.raises(WrongOutcomeError, match=message):
        judge(LAYOUTS["csv"], sound(LAYOUTS["csv"], random.Random(1)), tmp_path)


@pytest.mark.parametrize("row", [2, 4])
def test_the_judge_wants_the_row_that_is_at_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: int
) -> None:
    contents = sound(LAYOUTS["ml-1m"], random.Random(1))
    lines = contents["ratings.dat"].split(b"\n")
    lines[3] += b"::"
    contents["ratings.dat"] = b"\n".join(lines)
    assert PlainReader(LAYOUTS["ml-1m"], contents).found.faults == {"ratings.dat": {4}}

    def fail(_data: object) -> None:
        raise InputError(f"/x/ratings.dat, row {row}: it is bad")

    monkeypatch.setattr(fuzz, "prepared", fail)
    if row == 4:
        assert not judge(LAYOUTS["ml-1m"], contents, tmp_path)
    else:
        with pytest.raises(WrongOutcomeError, match="names no row at fault"):
            judge(LAYOUTS["ml-1m"], contents, tmp_path)
