"""Releases of MovieLens, and archives that cannot be used."""

import io
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from genre_embeddings.data.sources import movielens
from genre_embeddings.data.sources.movielens import RELEASES, open_release
from genre_embeddings.errors import InputError
from genre_embeddings.settings import load_settings
from tests.conftest import ROOT

HEADER = "userId,movieId,rating,timestamp\n"
CSV = {
    "ratings.csv": f"{HEADER}1,1,4.0,964982703\n2,3,0.5,964981247\n",
    "movies.csv": "movieId,title,genres\n1,Toy Story (1995),Adventure|Comedy\n3,Old Men,Romance\n",
    "links.csv": "movieId,imdbId,tmdbId\n1,0114709,862\n",
}
DAT = {
    "ratings.dat": "1::1::5::978300760\n6040::3::1::956704887\n",
    "movies.dat": "1::Toy Story (1995)::Adventure|Comedy\n3::Misérables, Les (1995)::Romance\n",
    "users.dat": "1::F::1::10::48067\n",
}
ITEM = {
    "u.data": "196\t242\t3\t881250949\n186\t302\t3\t891717742\n",
    "u.item": "242|Kolya (1996)|24-Jan-1997||http://us.imdb.com/M/title-exact?Kolya|0|1|0\n"
    "267|unknown||||1|0|0\n",
    "u.genre": "unknown|0\nComedy|1\nDrama|2\n\n",
}
CONTENTS = {"ml-100k": ITEM, "ml-1m": DAT, "ml-10m": DAT}


def packed(
    folder: str,
    contents: dict[str, str],
    encoding: str = "utf-8",
    method: int = zipfile.ZIP_DEFLATED,
) -> bytes:
    """A zip archive of files in a folder; the same bytes for the same content."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, text in contents.items():
            member = zipfile.ZipInfo(f"{folder}/{name}" if folder else name)
            archive.writestr(member, text.encode(encoding), method)
    return made.getvalue()


def pack(path: Path, folder: str, contents: dict[str, str], encoding: str = "utf-8") -> Path:
    path.write_bytes(packed(folder, contents, encoding))
    return path


def opened(source: str, path: Path | str) -> tuple[Any, ...]:
    data = load_settings(ROOT / "params.yaml").data
    with open_release(data.model_copy(update={"source": source, "path": str(path)})) as found:
        return found, found.ratings.collect().rows(), found.movies.rows()


@pytest.mark.parametrize("name", RELEASES)
def test_every_release_is_read_and_that_it_was_cut_is_noticed(name, tmp_path, capsys):
    contents, release, archive = CONTENTS.get(name, CSV), RELEASES[name], tmp_path / f"{name}.zip"
    encoding = "latin-1" if name == "ml-1m" else "utf-8"
    pack(archive, release.folder or name, contents, encoding)
    source, ratings, movies = opened(name, tmp_path)
    assert (source.name, source.has_time) == (name, True)
    assert source.scale == ((1, 5) if name in ("ml-100k", "ml-1m") else (0.5, 5))
    types = [pl.Int64, pl.Int64, pl.Float32, pl.Int64]
    assert source.ratings.collect_schema().dtypes() == types
    assert (len(ratings), len(movies)) == (2, 2)
    assert capsys.readouterr().err == (
        f"{archive} holds 2 ratings, and {name} as published {release.ratings:,}: "
        "it was cut or changed\n"
    )


def test_a_release_that_is_not_there_is_downloaded(tmp_path, monkeypatch):
    archive, asked = pack(tmp_path / "made.zip", "ml-1m", DAT), []
    monkeypatch.setattr(movielens, "fetch", lambda *what: asked.append(what) or archive)
    assert len(opened("ml-1m", tmp_path)[1]) == 2
    assert asked == [(f"{movielens.BASE_URL}ml-1m.zip", RELEASES["ml-1m"].checksum)]


# Archives that cannot be used


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """A ml-1m.zip; after the test, nothing may be left in the folder for unpacked files."""
    folder = tmp_path / "outer" / "inner" / "temporary"
    folder.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    path = pack(tmp_path / "ml-1m.zip", "ml-1m", DAT)
    before = set(tmp_path.rglob("*"))
    yield path
    assert set(tmp_path.rglob("*")) == before


def refuse(archive: Path, message: str) -> None:
    """Make sure that the archive is refused with one readable message."""
    with pytest.raises(InputError, match=message) as error:
        opened("ml-1m", archive)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 600


def put(content: bytes, mark: bytes, offset: int, value: bytes) -> bytes:
    """Overwrite a field of the last header that begins with `mark`."""
    start = content.rindex(mark) + offset
    return content[:start] + value + content[start + len(value) :]


LOCAL, CENTRAL = b"PK\x03\x04", b"PK\x01\x02"  # what headers of members begin with


RATINGS, TITLES = ({name: DAT[name]} for name in ("ratings.dat", "movies.dat"))
WHOLE = packed("ml-1m", RATINGS | TITLES)
# A real one: 30 million bytes of nothing in 30 thousand
BOMB = packed("ml-1m", TITLES | {"ratings.dat": "\0" * 30_000_000})
GROWS = r"claims to grow from [0-9,]+ to 30,000,000 bytes"
UNREADABLE = r"ml-1m\.zip is not a zip archive that can be read"
NOTHING = r"needed: ratings\.dat \+ movies\.dat, .*Found .*: "
BAD_ARCHIVES = {
    "empty": (b"", UNREADABLE),
    "a page": (b"<html>404</html>", UNREADABLE),
    "half": (WHOLE[: len(WHOLE) // 2], UNREADABLE),
    # Both members of the index lead to one place, so that an archive of little shows much
    "two in one place": (put(WHOLE, CENTRAL, 42, bytes(4)), UNREADABLE),
    "a file lacks": (packed("ml-1m", RATINGS), rf"{NOTHING}ratings\.dat\."),
    "an archive within": (packed("", {"ml-1m.zip": "PK"}), r"an archive is not opened\. .*none"),
    "encrypted": (
        put(put(WHOLE, LOCAL, 6, b"\1\0"), CENTRAL, 8, b"\1\0"), "is encrypted, password required",
    ),
    "unknown compression": (
        put(put(WHOLE, LOCAL, 8, b"\x09\0"), CENTRAL, 10, b"\x09\0"), "method is not supported",
    ),
    "damaged bzip2": (
        put(packed("ml-1m", RATINGS | TITLES, method=zipfile.ZIP_BZIP2), b"BZh9", 4, b"\xff" * 6),
        UNREADABLE,  # it names no errno
    ),
    "a bomb": (BOMB, GROWS),
    # It claims to be hardly packed at all, which its own size belies
    "a bomb that lies": (put(BOMB, CENTRAL, 20, (2**31).to_bytes(4, "little")), GROWS),
}  # fmt: skip


@pytest.mark.parametrize("fault", BAD_ARCHIVES)
def test_an_archive_that_cannot_be_used(archive, fault):
    content, message = BAD_ARCHIVES[fault]
    archive.write_bytes(content)
    refuse(archive, message)


@pytest.mark.parametrize(
    "folder", [f"\x1b[2J{'x' * 500}", "..", "", "C:", "/", "../..", "\\..\\..", "a/b"]
)
def test_names_in_an_archive_decide_nothing(archive, folder):
    """They decide neither where files are written (see the fixture) nor what a terminal does."""
    pack(archive, folder, DAT | {"ratings.dat": "1::1::50::978300760\n"})
    refuse(archive, "row 1: rating is '50'|does not hold the files needed")


def test_names_with_backslashes_and_one_name_spelt_in_two_ways(archive):
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_BZIP2) as made:
        for name, text in DAT.items():
            made.writestr(f"ml-1m\\{name}", text)  # as some Windows programs do
        made.writestr("__MACOSX/ml-1m/ratings.dat", "not this one: it lies two folders deep")
    assert len(opened("ml-1m", archive)[1]) == 2
    with zipfile.ZipFile(archive, "a") as made:
        made.writestr("./ml-1m//ratings.dat", "")
    refuse(archive, r"stands twice in the archive")
