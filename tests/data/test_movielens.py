"""Releases of MovieLens: where they are looked for, and what is in them."""

import hashlib
import shutil
import socket
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from genre_embeddings.data.sources.movielens import RELEASES, open_release
from genre_embeddings.errors import InputError
from genre_embeddings.settings import DataSettings, load_settings
from tests.conftest import ROOT

CSV = {
    "ratings.csv": "userId,movieId,rating,timestamp\n1,1,4.0,964982703\n2,3,0.5,964981247\n",
    "movies.csv": "movieId,title,genres\n1,Toy Story (1995),Adventure|Comedy\n3,Old Men,Romance\n",
    "links.csv": "movieId,imdbId,tmdbId\n1,0114709,862\n",
}
DAT = {
    "ratings.dat": "1::1::5::978300760\n6040::3::1::956704887\n",
    "movies.dat": "1::Toy Story (1995)::Adventure|Comedy\n3::Misérables, Les (1995)::Romance\n",
    "users.dat": "1::F::1::10::48067\n",
}
ITEM = {
    "u.data": "0\t50\t5\t881250949\n0\t172\t5\t881250949\n196\t242\t3\t881250949\n",
    "u.item": "242|Kolya (1996)|24-Jan-1997||http://us.imdb.com/M/title-exact?Kolya|0|1|0\n"
    "267|unknown||||1|0|0\n",
    "u.genre": "unknown|0\nComedy|1\nDrama|2\n\n",
}
CONTENTS = {"ml-100k": ITEM, "ml-1m": DAT, "ml-10m": DAT}
CLOSED = "http://127.0.0.1:9/"


def settings(source: str, path: Path | str) -> DataSettings:
    data = load_settings(ROOT / "params.yaml").data
    return data.model_copy(update={"source": source, "path": str(path)})


def pack(path: Path, folder: str, contents: dict[str, str], encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in contents.items():
            archive.writestr(f"{folder}/{name}" if folder else name, text.encode(encoding))
    return path


def unpack(path: Path, contents: dict[str, str]) -> Path:
    path.mkdir(parents=True)
    for name, text in contents.items():
        (path / name).write_text(text, encoding="utf-8")
    return path


def publish(monkeypatch: pytest.MonkeyPatch, name: str, archive: Path) -> None:
    """Make the checksum of an archive the published one."""
    checksum = f"md5:{hashlib.md5(archive.read_bytes()).hexdigest()}"
    monkeypatch.setitem(RELEASES, name, replace(RELEASES[name], checksum=checksum, ratings=2))


def opened(source: str, path: Path | str, base_url: str = CLOSED) -> tuple[Any, ...]:
    with open_release(settings(source, path), base_url) as found:
        ratings = found.ratings.collect().rows()
        return found, ratings, found.movies.rows()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GENRE_EMBEDDINGS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data/raw in an empty project, in which the test runs."""
    project = tmp_path / "project"
    (project / "data" / "raw").mkdir(parents=True)
    monkeypatch.chdir(project)
    return project / "data" / "raw"


@pytest.mark.parametrize("name", RELEASES)
def test_every_release(name: str, tmp_path: Path) -> None:
    release, contents = RELEASES[name], CONTENTS.get(name, CSV)
    encoding = "latin-1" if name == "ml-1m" else "utf-8"
    pack(tmp_path / f"{name}.zip", release.folder, contents, encoding)
    source, ratings, movies = opened(name, tmp_path)
    assert source.name == name
    assert source.scale == ((1, 5) if name in ("ml-100k", "ml-1m") else (0.5, 5))
    assert source.has_time
    assert source.truth is None
    assert source.ratings.collect_schema() == {
        "user_id": pl.Int64,
        "movie_id": pl.Int64,
        "rating": pl.Float32,
        "timestamp": pl.Int64,
    }
    if name == "ml-100k":
        assert source.dropped == {"user_0": 2}
        assert ratings == [(196, 242, 3.0, 881250949)]
        assert movies == [(242, "Kolya (1996)", ["Comedy"]), (267, "unknown", [])]
    elif contents is DAT:
        assert source.dropped == {}
        assert ratings == [(1, 1, 5.0, 978300760), (6040, 3, 1.0, 956704887)]
        assert movies[1] == (3, "Misérables, Les (1995)", ["Romance"])
    else:
        assert source.dropped == {}
        assert ratings == [(1, 1, 4.0, 964982703), (2, 3, 0.5, 964981247)]
        assert movies[0] == (1, "Toy Story (1995)", ["Adventure", "Comedy"])


@pytest.mark.parametrize(
    ("name", "contents", "ratings", "message"),
    [
        ("ml-1m", DAT, "1::1::0.5::978300760\n", r"1: rating is '0\.5'; allowed: a number from 1"),
        ("ml-20m", CSV, "userId,movieId,rating\n1,1,4\n", "1: .*timestamp"),
    ],
    ids=["half stars", "no timestamps"],
)
def test_what_a_release_cannot_hold(
    tmp_path: Path, name: str, contents: dict[str, str], ratings: str, message: str
) -> None:
    file = next(iter(contents))
    pack(tmp_path / f"{name}.zip", name, contents | {file: ratings})
    with pytest.raises(InputError, match=rf"{name}\.zip: {name}/{file}, row {message}"):
        opened(name, tmp_path)


def test_unpacked_files_live_as_long_as_the_context(tmp_path: Path) -> None:
    pack(tmp_path / "ml-20m.zip", "ml-20m", CSV)
    with open_release(settings("ml-20m", tmp_path), CLOSED) as source:
        assert source.ratings.select(pl.len()).collect().item() == 2
        ratings = source.ratings
    with pytest.raises(FileNotFoundError):
        ratings.collect()


def test_a_release_that_was_cut_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows cut off at the end of one cannot be told from its rows alone."""
    archive = pack(tmp_path / "ml-100k.zip", "ml-100k", ITEM)
    opened("ml-100k", archive)
    said = f"{archive} holds 1 ratings, and ml-100k as published 100,000: it was cut or changed\n"
    assert capsys.readouterr().err == said
    whole = replace(RELEASES["ml-100k"], ratings=1)
    monkeypatch.setitem(RELEASES, "ml-100k", whole)
    opened("ml-100k", archive)
    assert capsys.readouterr().err == ""


# Where it is looked for


@pytest.mark.parametrize("inside", ["ml-10M100K", ""])
def test_an_archive_named_by_data_path(tmp_path: Path, inside: str) -> None:
    archive = pack(tmp_path / "mine.zip", inside, DAT)
    assert len(opened("ml-10m", archive)[1]) == 2


@pytest.mark.parametrize("folder", ["ml-10m", "ml-10M100K", "ml-10m/ml-10M100K"])
def test_an_unpacked_folder_named_by_data_path_or_in_it(tmp_path: Path, folder: str) -> None:
    unpacked = unpack(tmp_path / folder, DAT)
    for path in (tmp_path, unpacked):
        assert len(opened("ml-10m", path)[1]) == 2


def test_an_archive_goes_before_a_folder_and_both_before_the_cache(
    raw: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = "userId,movieId,rating,timestamp\n"
    one = CSV | {"ratings.csv": f"{header}1,1,1,5\n"}
    publish(monkeypatch, "ml-latest-small", pack(cache / "ml-latest-small.zip", "", one))
    assert opened("ml-latest-small", "data/raw")[1] == [(1, 1, 1.0, 5)]
    unpack(raw / "ml-latest-small", CSV | {"ratings.csv": f"{header}1,1,2,5\n"})
    assert opened("ml-latest-small", "data/raw")[1] == [(1, 1, 2.0, 5)]
    pack(raw / "ml-latest-small.zip", "", CSV | {"ratings.csv": f"{header}1,1,3,5\n"})
    assert opened("ml-latest-small", "data/raw")[1] == [(1, 1, 3.0, 5)]


def test_a_copy_of_the_project_refuses_what_neither_git_nor_dvc_tracks(
    raw: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Except for an archive with the published checksum, which says all of its content."""
    published = pack(cache / "ml-20m.zip", "ml-20m", CSV)
    publish(monkeypatch, "ml-20m", published)
    copy = tmp_path / "copy"
    (copy / "data" / "raw").mkdir(parents=True)
    monkeypatch.chdir(copy)
    monkeypatch.setenv("DVC_ROOT", str(raw.parent.parent))
    assert len(opened("ml-20m", "data/raw")[1]) == 2  # from the cache
    shutil.move(published, raw)
    assert len(opened("ml-20m", "data/raw")[1]) == 2
    changed = CSV | {"ratings.csv": CSV["ratings.csv"].replace("4.0", "3.0")}
    archive = pack(raw / "ml-20m.zip", "ml-20m", changed)
    files = "data/raw/ml-20m.zip"
    for _ in range(2):
        for path in ("data/raw", f"data/raw/{'ml-20m.zip' if archive.exists() else 'ml-20m'}"):
            with pytest.raises(InputError, match=f"run `dvc add {files}` and start") as error:
                opened("ml-20m", path)
            assert str(error.value).startswith(files.replace(" ", ", ") + " is missing in this")
        archive.unlink(missing_ok=True)
        unpack(raw / "ml-20m", changed) if not (raw / "ml-20m").exists() else None
        files = "data/raw/ml-20m/movies.csv data/raw/ml-20m/ratings.csv"
    shutil.copytree(raw, copy / "data" / "raw", dirs_exist_ok=True)
    assert opened("ml-20m", "data/raw")[1][0][2] == 3.0


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of a server, and the folder that it serves."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_args: object) -> None:
            pass

    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/", folder
        server.shutdown()
        thread.join()


def test_a_download_is_shared_through_the_cache(
    raw: Path, cache: Path, served: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, folder = served
    archive = pack(folder / "ml-latest-small.zip", "ml-latest-small", CSV)
    publish(monkeypatch, "ml-latest-small", archive)
    assert len(opened("ml-latest-small", "data/raw", url)[1]) == 2
    assert (cache / "ml-latest-small.zip").is_file()
    assert list(raw.iterdir()) == []
    assert len(opened("ml-latest-small", "data/raw", CLOSED)[1]) == 2


@pytest.mark.usefixtures("raw")
def test_the_published_checksum_holds_for_downloads_alone(
    cache: Path, served: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, folder = served
    archive = pack(folder / "ml-1m.zip", "ml-1m", DAT)
    with pytest.raises(InputError, match="does not have the checksum md5:c4d9eecf"):
        opened("ml-1m", "data/raw", url)
    assert not (cache / "ml-1m.zip").exists()
    assert len(opened("ml-1m", archive)[1]) == 2
    publish(monkeypatch, "ml-1m", archive)
    assert len(opened("ml-1m", "data/raw", url)[1]) == 2


@pytest.mark.usefixtures("raw")
def test_with_neither_network_nor_archive_there_are_three_ways_out() -> None:
    with socket.socket() as taken:  # bound, but not listening
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        with pytest.raises(InputError) as error:
            opened("ml-25m", "data/raw", url)
    message = str(error.value)
    assert message.startswith(f"{url}ml-25m.zip cannot be downloaded to ")
    assert "no connection to the server" in message
    assert "\n" not in message
    for way in ("data/raw/", "data.path", "data.source to planted"):
        assert way in message


@pytest.mark.usefixtures("raw")
def test_an_archive_that_is_not_there_is_not_downloaded_instead() -> None:
    with pytest.raises(InputError, match=r"data\.path is 'data/raw/typo\.zip', and no file is th"):
        opened("ml-25m", "data/raw/typo.zip")


@pytest.mark.parametrize("path", ["data/raw/ml-10m.zip", "data/raw/ml-10M100K", "ml-10m"])
@pytest.mark.usefixtures("raw")
def test_the_path_of_another_release(path: str) -> None:
    with pytest.raises(InputError, match=r"data\.path is .*ml-10.*, but data\.source is ml-1m"):
        opened("ml-1m", path)


def test_files_of_ones_own_are_not_taken_for_a_release(
    raw: Path, cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in CSV.items():
        (raw / name).write_text(text.replace("4.0", "1.0"), encoding="utf-8")
    archive = pack(cache / "ml-latest-small.zip", "ml-latest-small", CSV)
    publish(monkeypatch, "ml-latest-small", archive)
    assert opened("ml-latest-small", "data/raw")[1][0][2] == 4.0
    assert "holds ratings.csv and movies.csv, which are left alone" in capsys.readouterr().err


# Archives that cannot be used


def test_what_is_not_a_zip_archive(tmp_path: Path) -> None:
    for content in (b"", b"<html>404</html>", b"PK\x03\x04"):
        (tmp_path / "ml-1m.zip").write_bytes(content)
        with pytest.raises(InputError, match=r"ml-1m\.zip is not a zip archive that can be read"):
            opened("ml-1m", tmp_path)


def test_damaged_archives(tmp_path: Path) -> None:
    """Whatever byte is wrong: the right rows or a clear error, never less."""
    archive = pack(tmp_path / "ml-1m.zip", "ml-1m", DAT)
    whole = archive.read_bytes()
    right = opened("ml-1m", archive)[1:]
    errors = 0
    for position in range(0, len(whole), 7):
        archive.write_bytes(
            whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :]
        )
        try:
            assert opened("ml-1m", archive)[1:] == right
        except InputError:
            errors += 1
    assert errors > len(whole) / 28
    archive.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="is not a zip archive that can be read"):
        opened("ml-1m", archive)


def test_a_missing_member(tmp_path: Path) -> None:
    pack(tmp_path / "ml-1m.zip", "ml-1m", {"ratings.dat": DAT["ratings.dat"]})
    with pytest.raises(
        InputError, match=r"needed: ratings\.dat \+ movies\.dat, .*Found .*: ratings\.dat\."
    ):
        opened("ml-1m", tmp_path)


@pytest.fixture
def unpacking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder for unpacked files; whatever the test does, nothing stays in it or beside it."""
    folder = tmp_path / "outer" / "inner" / "temporary"
    folder.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    before = set(tmp_path.rglob("*")) - {tmp_path / "ml-1m.zip"}
    yield folder
    assert set(tmp_path.rglob("*")) - {tmp_path / "ml-1m.zip"} == before


@pytest.mark.parametrize(
    "twin", ["ml-1m\\ratings.dat", "ml-1m/./ratings.dat", "./ml-1m//ratings.dat"]
)
@pytest.mark.usefixtures("unpacking")
def test_one_name_spelt_in_two_ways(tmp_path: Path, twin: str) -> None:
    archive = pack(tmp_path / "ml-1m.zip", "ml-1m", DAT)
    with zipfile.ZipFile(archive, "a") as made:
        made.writestr(twin, "")
    with pytest.raises(InputError, match=r"stands twice in the archive"):
        opened("ml-1m", archive)


@pytest.mark.usefixtures("unpacking")
def test_a_name_that_a_terminal_would_obey(tmp_path: Path) -> None:
    archive = tmp_path / "ml-1m.zip"
    with zipfile.ZipFile(archive, "w") as made:
        for name, text in DAT.items():
            made.writestr(f"\x1b[2J{'x' * 500}/{name}", text.replace("::5::", "::50::"))
    with pytest.raises(InputError, match="row 1: rating is '50'") as error:
        opened("ml-1m", archive)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("name", ["ml-1m.zip", "all/ml-1m.zip"])
@pytest.mark.usefixtures("unpacking")
def test_an_archive_within_an_archive(tmp_path: Path, name: str) -> None:
    inner = pack(tmp_path / "ml-1m.zip", "ml-1m", DAT).read_bytes()
    with zipfile.ZipFile(tmp_path / "ml-1m.zip", "w") as made:
        made.writestr(name, inner)
    with pytest.raises(InputError, match="an archive inside an archive is not opened"):
        opened("ml-1m", tmp_path / "ml-1m.zip")


@pytest.mark.parametrize(
    ("offsets", "value", "message"),
    [
        ((6, 8), b"\x01\x00", "is encrypted, password required"),
        ((8, 10), b"\x09\x00", "compression method is not supported"),
    ],
)
@pytest.mark.usefixtures("unpacking")
def test_a_member_that_cannot_be_unpacked(
    tmp_path: Path, offsets: tuple[int, int], value: bytes, message: str
) -> None:
    """A field of ratings.dat's two headers is overwritten."""
    archive = pack(tmp_path / "ml-1m.zip", "ml-1m", DAT)
    content = bytearray(archive.read_bytes())
    for mark, offset in zip((b"PK\x03\x04", b"PK\x01\x02"), offsets, strict=True):
        start = content.index(mark) + offset
        content[start : start + len(value)] = value
    archive.write_bytes(content)
    with pytest.raises(InputError, match=message):
        opened("ml-1m", archive)


@pytest.mark.usefixtures("unpacking")
def test_a_bomb(tmp_path: Path) -> None:
    """A real one: 30 million bytes of nothing in 30 thousand."""
    archive = pack(tmp_path / "ml-1m.zip", "ml-1m", {"movies.dat": DAT["movies.dat"]})
    with (
        zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as made,
        made.open("ml-1m/ratings.dat", "w") as member,
    ):
        for _ in range(30):
            member.write(bytes(10**6))
    with pytest.raises(InputError, match=r"claims to grow from [0-9,]+ to 30,000,000 bytes"):
        opened("ml-1m", archive)
    # It claims to be hardly packed at all, which its own size belies.
    content = archive.read_bytes()
    place = content.rindex(b"PK\x01\x02") + 20
    archive.write_bytes(content[:place] + (2**31).to_bytes(4, "little") + content[place + 4 :])
    with pytest.raises(InputError, match=r"claims to grow from [0-9,]+ to 30,000,000 bytes"):
        opened("ml-1m", archive)


@pytest.mark.usefixtures("unpacking")
def test_two_members_in_the_same_bytes(tmp_path: Path) -> None:
    """So that an archive of little shows much: both members of its index lead to one place."""
    archive = pack(tmp_path / "ml-1m.zip", "ml-1m", DAT)
    content = archive.read_bytes()
    first = content.index(b"PK\x01\x02")
    second = content.index(b"PK\x01\x02", first + 1)
    place = second + 42  # where the index says that the member begins
    archive.write_bytes(content[:place] + bytes(4) + content[place + 4 :])
    with pytest.raises(InputError, match="is not a zip archive that can be read"):
        opened("ml-1m", archive)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.usefixtures("unpacking")
def test_other_ways_of_packing(tmp_path: Path, method: int) -> None:
    archive = tmp_path / "ml-1m.zip"
    with zipfile.ZipFile(archive, "w", method) as made:
        for name, text in DAT.items():
            made.writestr(f"ml-1m/{name}", text)
    assert len(opened("ml-1m", archive)[1]) == 2
    content = bytearray(archive.read_bytes())
    place = content.index(b"ml-1m/ratings.dat") + 17 + 12
    content[place : place + 4] = b"\xff\0\xff\0"
    archive.write_bytes(content)
    with pytest.raises(InputError, match="is not a zip archive that can be read"):
        opened("ml-1m", archive)


def test_names_written_with_backslashes(tmp_path: Path) -> None:
    archive = tmp_path / "ml-1m.zip"
    with zipfile.ZipFile(archive, "w") as made:
        for name, text in DAT.items():
            made.writestr(f"ml-1m\\{name}", text)
        made.writestr("__MACOSX/ml-1m/ratings.dat", "not this one: it lies two folders deep")
    assert len(opened("ml-1m", archive)[1]) == 2
