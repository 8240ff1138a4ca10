"""Where files of the user's own are looked for, and what is said where they are not there."""

import shlex
import shutil
import zipfile
from pathlib import Path

import polars as pl
import pytest

from genre_embeddings.data.sources import open_source
from genre_embeddings.data.sources.base import Source
from genre_embeddings.errors import InputError
from genre_embeddings.settings import load_settings
from stages import check
from tests.conftest import ROOT, changed

BOOKS = {
    "ratings.csv": "user_id,movie_id,rating\nann, 014044792X ,10\n bo,0140447938,7\n",
    "movies.csv": "movie_id,title,genres\n014044792X,The Idiot,Novel\n0140447938,Resurrection,\n",
}
SONGS = {"ratings.dat": "0::7::2::5\n", "movies.dat": "7::Help!::Pop|Rock\n"}
FILMS = {"u.data": "0\t7\t2\t5\n", "u.item": "7|Heat||||0|1\n", "u.genre": "unknown|0\nCrime|1\n"}


def write(folder: Path, contents: dict[str, str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in contents.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def opened(path: Path | str) -> tuple[Source, pl.DataFrame]:
    own = {"source": "folder", "path": str(path), "min_rating": 1.0, "max_rating": 10.0}
    settings = changed(load_settings(ROOT / "params.yaml"), data=own)
    with open_source(settings.data, settings.planted) as source:
        return source, source.ratings.collect()


@pytest.mark.parametrize("contents", [SONGS, FILMS], ids=["dat", "item"])
@pytest.mark.parametrize("inside", ["", "mine"])
@pytest.mark.parametrize("packed", [False, True])
def test_layouts_are_recognised(
    tmp_path: Path, contents: dict[str, str], inside: str, packed: bool
) -> None:
    """In a folder or zip, in it or one folder down; a user 0 is a user here."""
    place = tmp_path / "place"
    write(place / inside, contents)
    if packed:
        with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
            for path in place.rglob("*.*"):
                archive.write(path, path.relative_to(place))
        place = tmp_path / "mine.zip"
    source, ratings = opened(place)
    assert ratings.rows() == [(0, 7, 2.0, 5)]
    assert (source.name, source.scale, source.dropped) == ("folder", (1, 10), {})
    assert source.movies["movie_id"].to_list() == [7]


def test_two_sets_of_ratings(tmp_path: Path) -> None:
    write(tmp_path / "songs", SONGS)
    write(tmp_path / "films", FILMS)
    with pytest.raises(InputError, match=r"more than one set .* in films; .* in songs\)"):
        opened(tmp_path)
    write(tmp_path, SONGS)
    shutil.rmtree(tmp_path / "songs")
    with pytest.raises(InputError, match=r"more than one set .* in the place itself; .* in films"):
        opened(tmp_path)


def test_nothing_usable_says_what_is_looked_for(tmp_path: Path) -> None:
    write(tmp_path, {"ratings.csv": BOOKS["ratings.csv"], "books.zip": ""})
    with pytest.raises(InputError) as error:
        opened(tmp_path)
    for part in (
        "ratings.csv + movies.csv, or ratings.dat + movies.dat, or u.data + u.item + u.genre",
        "Found of these: ratings.csv.",
        "It holds books.zip",
    ):
        assert part in str(error.value)
    with pytest.raises(InputError, match=r"data\.path is '.*nowhere', and nothing is there; all"):
        opened(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"is not a zip archive .*: a folder or a zip") as error:
        opened(tmp_path / "ratings.csv")
    assert "delete" not in str(error.value)


def test_what_dvc_does_not_see_is_refused(tmp_path: Path) -> None:
    mine, songs = tmp_path / "raw/mine", write(tmp_path / "songs", SONGS)
    mine.parent.mkdir()
    mine.symlink_to(songs)
    with pytest.raises(InputError, match="raw/mine is a link to a folder, so that DVC does not"):
        opened(mine.parent)
    assert opened(mine)[1].height == 1  # DVC follows the link that data.path names
    (songs / ".dvc").mkdir()
    mine.unlink()
    songs.rename(mine)
    with pytest.raises(InputError, match="raw/mine is another DVC project, so that"):
        opened(mine.parent)


def test_a_copy_of_the_project_refuses_what_neither_git_nor_dvc_tracks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    songs = write(tmp_path / "main/data/raw/my songs", SONGS)
    (tmp_path / "copy/data/raw").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "main"))
    with pytest.raises(InputError, match="is missing in this experiment's copy") as error:
        opened("data/raw")
    *command, one, two = shlex.split(str(error.value).split("`")[1])
    assert command == ["dvc", "add"]
    assert {(tmp_path / "main" / file) for file in (one, two)} == set(songs.iterdir())
    write(Path("data/raw/my songs"), SONGS)
    assert opened("data/raw")[1].height == 1


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "~/books",
            r"data.path is '~/books', and DVC does not replace '~' or '\$': write '/.*/books",
        ),
        ("$HOME/books", r"does not replace '~' or '\$': write '/.*/books'"),
        ("~no-such-user/books", r"data.path is '~no-such-user/books', .* write the whole path"),
        *(
            (path, rf"data.path: '{path}' overlaps with {written}, to which the pipeline writes")
            for path, written in (
                ("data", "data/ablations"),
                ("..", "data/ablations"),
                ("models/x", "models"),
            )
        ),
        ("books", r"because neither git nor DVC tracks it: run `dvc add books` and start"),
        ("nowhere", r"data.path is 'nowhere', which does not exist"),
    ],
)
def test_the_check_of_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, message: str
) -> None:
    write(tmp_path / "main/books", BOOKS)
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    write(tmp_path / "copy/data", {"x": ""})
    write(tmp_path / "copy", {"params.yaml": text.replace("path: data/raw", f"path: {path}")})
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "main"))
    with pytest.raises(InputError, match=message):
        check.main()
    write(tmp_path / "copy/books", BOOKS)
    if path == "books":
        check.main()


@pytest.mark.parametrize("name", ["b[1]", "b*", "b?", "{b}", "a b", "b%20", "é"])
def test_the_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    """`b[1]` is no pattern that would also mean the folder b1."""
    write(tmp_path / "b1", SONGS)
    assert opened(write(tmp_path / name, BOOKS))[1].height == 2
