"""Files of the user's own, in any of the three layouts."""

import shlex
import zipfile
from pathlib import Path

import polars as pl
import pytest

from genre_embeddings.data.sources import open_source
from genre_embeddings.data.sources.base import NO_TIME, Source
from genre_embeddings.data.tables import build_tables
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


def opened(path: Path | str, **data: str) -> tuple[Source, pl.DataFrame]:
    scale = {"min_rating": 1.0, "max_rating": 10.0}
    own = {"source": "folder", "path": str(path)} | scale | data
    settings = changed(load_settings(ROOT / "params.yaml"), data=own)
    with open_source(settings.data, settings.planted) as source:
        ratings = source.ratings.collect()
        read = build_tables(source, settings.data).counts["rows_read"]
        assert read == ratings.height + sum(source.dropped.values())
        return source, ratings


def write_ratings(folder: Path, header: str, *rows: str) -> None:
    """A folder in which user n gave row n, a rating of movie 7."""
    lines = [f"userId,movieId,{header}", *(f"{user},7,{row}" for user, row in enumerate(rows, 1))]
    movies = {"movies.csv": "movieId,title,genres\n7,Help!,Rock\n"}
    write(folder, {"ratings.csv": "\n".join(lines) + "\n", **movies})


@pytest.mark.parametrize("missing", ["", '""', " NA ", "nan", "NULL", r"\N", "None"])
def test_rows_without_a_rating_are_named_or_dropped(tmp_path: Path, missing: str) -> None:
    write_ratings(tmp_path, "rating", "5", missing, "-1", missing, "10")
    with pytest.raises(InputError, match=r"row 3: rating is .*set data.off_scale to drop"):
        opened(tmp_path)
    source, ratings = opened(tmp_path, off_scale="drop")
    assert ratings["rating"].to_list() == [5, 10]
    assert source.dropped == {"without_rating": 2, "off_scale": 1}
    write_ratings(tmp_path, "rating", "5", "much")
    with pytest.raises(InputError, match=r"row 3: rating is 'much'; allowed: a n"):
        opened(tmp_path, off_scale="drop")


@pytest.mark.parametrize("missing", ["", " ", "nan", r"\N", "NULL"])
@pytest.mark.parametrize("known", ["3", "ann"])
def test_rows_without_an_id_are_named_or_dropped(tmp_path: Path, missing: str, known: str) -> None:
    ratings = f"userId,movieId,rating\n{known},7,5\n{missing},7,\n{known},{missing},9\n"
    write(tmp_path, {"ratings.csv": ratings, "movies.csv": "movieId,title,genres\n7,Up,\n"})
    with pytest.raises(InputError, match=r"row 3: user_id is .*set data.off_scale to drop"):
        opened(tmp_path)
    with (tmp_path / "movies.csv").open("a") as movies:
        movies.write(f"{missing},Up,\n")
    with pytest.raises(InputError, match=r"movies.csv, row 3: movie_id .*set data.off_scale to"):
        opened(tmp_path)
    source, rows = opened(tmp_path, off_scale="drop")
    assert rows.rows() == [(int(known) if known.isdigit() else known, 7, 5, 0)]
    assert source.dropped == {"without_id": 2}


def test_dates_are_timestamps(tmp_path: Path) -> None:
    dates = {
        "1425211200": 0,
        "1425211200.0": 0,
        "2015-03-01 12:00:00": 0,
        "2015-03-01 12:00": 0,
        "2015-03-01": -12 * 3600,
        "2015-03-01T12:00:00Z": 0,
        "2015-03-01T12:00:00.123+02:00": -2 * 3600,
        "2015-03-01T12:00:00-0530": 5.5 * 3600,
    }
    write_ratings(tmp_path, "rating,timestamp", *(f"5,{date}" for date in dates))
    source, ratings = opened(tmp_path)
    assert source.has_time
    assert (ratings["timestamp"] - 1_425_211_200).to_list() == [*dates.values()]


@pytest.mark.parametrize("date", ["", "01/03/2015", "2015-02-30", "1425211200123", "1.4e9"])
def test_other_timestamps_are_named_or_ignored(tmp_path: Path, date: str) -> None:
    write_ratings(tmp_path, "rating,timestamp", "5,1", f"6,{date}")
    with pytest.raises(InputError, match=r"row 3: timestamp is .*data.timestamps to ignore"):
        opened(tmp_path)
    source, ratings = opened(tmp_path, timestamps="ignore")
    assert not source.has_time
    assert ratings["timestamp"].to_list() == [NO_TIME, NO_TIME]


def test_text_ids_without_timestamps(tmp_path: Path) -> None:
    source, ratings = opened(write(tmp_path, BOOKS))
    assert source.name == "folder"
    assert source.scale == (1.0, 10.0)
    assert not source.has_time
    assert ratings.rows() == [
        ("ann", "014044792X", 10.0, NO_TIME),
        ("bo", "0140447938", 7.0, NO_TIME),
    ]
    assert source.movies.rows() == [
        ("014044792X", "The Idiot", ["Novel"]),
        ("0140447938", "Resurrection", []),
    ]


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
    assert source.has_time
    assert source.dropped == {}
    assert source.movies["movie_id"].to_list() == [7]


def test_columns_are_found_by_name_and_others_left_alone(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "ratings.csv": "line,rating,movieId,timestamp,userId,line,\n"
            '"a, b",9,7,5,1,,\n,8,7,6,2,,\n',
            "movies.csv": "genres,row,movieId,title,cut,fields\nRock,1965,7,Help!,,\n",
        },
    )
    source, ratings = opened(tmp_path)
    assert ratings.rows() == [(1, 7, 9.0, 5), (2, 7, 8.0, 6)]
    assert source.movies.rows() == [(7, "Help!", ["Rock"])]


def test_two_sets_of_ratings(tmp_path: Path) -> None:
    write(tmp_path / "songs", SONGS)
    write(tmp_path / "films", FILMS)
    with pytest.raises(InputError, match=r"more than one set .* in films; .* in songs\)"):
        opened(tmp_path)
    (tmp_path / "songs/ratings.dat").rename(tmp_path / "ratings.dat")
    (tmp_path / "songs/movies.dat").rename(tmp_path / "movies.dat")
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


@pytest.mark.parametrize("inside", ["", "my songs"])
def test_a_copy_of_the_project_refuses_what_neither_git_nor_dvc_tracks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: str
) -> None:
    main, copy = tmp_path / "main", tmp_path / "copy"
    write(main / "data/raw" / inside, SONGS)
    write(copy / "data/raw", {"README.md": "drop it here"})
    monkeypatch.chdir(copy)
    monkeypatch.setenv("DVC_ROOT", str(main))
    with pytest.raises(InputError, match="is missing in this experiment's copy") as error:
        opened("data/raw")
    command = str(error.value).split("`")[1]
    files = shlex.split(command)
    assert files[:2] == ["dvc", "add"]
    assert {(main / file).name for file in files[2:]} == set(SONGS)
    assert all((main / file).is_file() for file in files[2:])
    write(copy / "data/raw" / inside, SONGS)
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
