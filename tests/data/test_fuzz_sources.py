"""Damaged and unusual files: every row is read, or one clear error names the fault.

Damage and judgement are those of benchmarks/robustness/fuzz.py, whose long run fills
docs/results/robustness.md; this is a short run, the same each time.
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
from benchmarks.robustness.fuzz import DAMAGE, LAYOUTS, WrongOutcomeError, attack, judge, sound
from genre_embeddings.data.sources import open_source
from genre_embeddings.data.sources.archive import open_files
from genre_embeddings.data.sources.layouts import LAYOUTS as FILES
from genre_embeddings.errors import InputError
from genre_embeddings.settings import load_settings
from tests.conftest import ROOT

SETTINGS = load_settings(ROOT / "params.yaml")
steady = settings(derandomize=True, deadline=None, database=None, max_examples=40)


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_survives_every_kind_of_damage(name: str) -> None:
    outcomes = [attack(name, kind, -1 - n) for kind in DAMAGE for n in range(3)]
    assert [outcome for outcome in outcomes if outcome not in ("parsed", "error")] == []
    assert outcomes.count("error") > len(outcomes) / 4


def test_the_judge_notices_a_lost_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents, read = sound(LAYOUTS["csv"], random.Random(1)), fuzz.prepared
    monkeypatch.setattr(
        fuzz, "prepared", lambda data: (rows := read(data)) | {"ratings": rows["ratings"][:-1]}
    )
    with pytest.raises(WrongOutcomeError, match="other rows"):
        judge(LAYOUTS["csv"], contents, contents, tmp_path)


texts = st.text(st.characters(exclude_categories=["Cc", "Cs"], include_characters="\t"), max_size=9)
names = texts.map(str.strip).filter(lambda text: text and "\ufeff" not in text)
identities = st.one_of(
    names.filter(lambda text: not text.startswith("-")),
    st.just("007"),
    st.integers(0, 10**17).map(str),
)
genres = st.sampled_from(
    ["A", "b", "Film Noir", "'", '"x"', "a,b", "東京", "$", "[a]", "{{x}}", "e;f"]
)


@steady
@given(
    movies=st.dictionaries(
        identities, st.tuples(texts, st.lists(genres, max_size=3)), min_size=1, max_size=5
    ),
    rows=st.lists(
        st.tuples(
            identities,
            st.integers(0, 4),
            st.integers(1, 10).map(lambda half: half / 2),
            st.integers(0, 32_503_680_000),
        ),
        min_size=1,
        max_size=8,
    ),
    windows=st.booleans(),
    mark=st.booleans(),
    quotes=st.booleans(),
    blanks=st.booleans(),
)
def test_what_was_written_is_read(
    movies: dict[str, tuple[str, list[str]]],
    rows: list[tuple[str, int, float, int]],
    windows: bool,
    mark: bool,
    quotes: bool,
    blanks: bool,
) -> None:
    """Any ids, titles and genres, in a csv file saved in any way."""
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
        with open_source(SETTINGS.data.model_copy(update=own), SETTINGS.planted) as source:
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
