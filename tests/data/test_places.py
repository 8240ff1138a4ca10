"""Where the files of a source are searched, and the errors if they are missing."""

import hashlib
from pathlib import Path

import pytest

from genre_embeddings.data.sources import movielens, open_source
from genre_embeddings.errors import InputError
from genre_embeddings.settings import load_settings
from stages import check
from tests.conftest import ROOT, changed
from tests.data.test_movielens import packed

SONGS = {"ratings.dat": "0::7::2::5\n", "movies.dat": "7::Help!::Pop|Rock\n"}
FILMS = {"u.data": "0\t7\t3\t5\n", "u.item": "7|Heat||||0|1\n", "u.genre": "unknown|0\nCrime|1\n"}
ONE, TWO, THREE = (
    {
        "ratings.csv": f"userId,movieId,rating,timestamp\n1,7,{stars},5\n",
        "movies.csv": "movieId,title,genres\n7,Help!,Rock\n",
    }
    for stars in (1, 2, 3)
)
PUBLISHED = packed("", ONE)


def build(root: Path, tree: dict[str, dict[str, str]]) -> None:
    """Folders, and archives where a name ends in .zip, with the contents of their files."""
    for name, contents in tree.items():
        folder = root / name
        (folder.parent if name.endswith(".zip") else folder).mkdir(parents=True, exist_ok=True)
        if name.endswith(".zip"):
            folder.write_bytes(packed("", contents))
            continue
        for file, text in contents.items():
            (folder / file).write_text(text, encoding="utf-8")


def opened(source: str, path: str | Path) -> tuple[object, ...]:
    """The one rating of a source in the working directory."""
    own = {"source": source, "path": str(path), "min_rating": 1.0, "max_rating": 10.0}
    settings = changed(load_settings(ROOT / "params.yaml"), data=own)
    with open_source(settings.data, settings.planted) as found:
        return found.ratings.collect().row(0)


RAW, ARCHIVE, SMALL = "here/data/raw", "here/data/raw/ml-latest-small.zip", "ml-latest-small"
CACHE, MAIN = "cache/ml-latest-small.zip", "main/data/raw"
IN_FOLDER = {f"mine/{name}": text for name, text in SONGS.items()}
ADD = f"run `dvc add data/raw/{SMALL}` and start"
FOUND = [  # source, data.path, what there is, stars of the rating
    ("folder", "data/raw", {RAW: SONGS}, 2),
    ("folder", "data/raw", {RAW: FILMS}, 3),
    ("folder", "data/raw", {f"{RAW}/my songs": SONGS}, 2),
    ("folder", "mine.zip", {"here/mine.zip": FILMS}, 3),
    ("folder", "mine.zip", {"here/mine.zip": IN_FOLDER}, 2),
    # `b[1]` is no pattern that would also mean the folder b1
    *(("folder", name, {f"here/{name}": SONGS, "here/b1": FILMS}, 2)
      for name in ("b[1]", "b*", "b?", "{b}", "a b", "b%20", "é")),
    ("ml-10m", "data/raw", {f"{RAW}/ml-10m": SONGS}, 2),
    ("ml-10m", "data/raw", {f"{RAW}/ml-10M100K": SONGS}, 2),
    ("ml-10m", "ml-10M100K", {"here/ml-10M100K": SONGS}, 2),
    ("ml-10m", "ml-10m", {"here/ml-10m/ml-10M100K": SONGS}, 2),
    ("ml-10m", "mine.zip", {"here/mine.zip": SONGS}, 2),
    # An archive goes before a folder, and both before the cache
    (SMALL, "data/raw", {CACHE: ONE}, 1),
    (SMALL, "data/raw", {CACHE: ONE, f"{RAW}/{SMALL}": TWO}, 2),
    (SMALL, "data/raw", {ARCHIVE: THREE, f"{RAW}/{SMALL}": TWO}, 3),
    # A copy of the project, in which an experiment runs
    (SMALL, "data/raw", {MAIN: {}, CACHE: ONE}, 1),
    (SMALL, "data/raw", {f"{MAIN}/{SMALL}.zip": ONE}, 1),
    (SMALL, "data/raw", {f"{MAIN}/{SMALL}": THREE, f"{RAW}/{SMALL}": THREE}, 3),
    ("folder", "data/raw", {f"{MAIN}/my songs": SONGS, f"{RAW}/my songs": SONGS}, 2),
]  # fmt: skip
REFUSED = [
    ("folder", "data/raw", {f"{RAW}/a": SONGS, f"{RAW}/b": FILMS}, "more than one .* a; .* in b"),
    ("folder", "data/raw", {RAW: SONGS, f"{RAW}/b": FILMS}, "more .* in the place itself; .* in b"),
    ("folder", "nowhere", {}, r"data\.path is 'nowhere', and nothing is there; allowed"),
    ("folder", "data/raw/u.data", {RAW: FILMS}, "is not a zip archive .*: a folder or a zip"),
    ("folder", "data/raw", {RAW: {"u.item": ""}, f"{RAW}/books.zip": {}},
     r"ratings\.csv \+ movies\.csv, or ratings\.dat \+ movies\.dat, or u\.data \+ u\.item \+ "
     r"u\.genre, .*Found of these: u\.item\. data\.path may name an archive itself: books\.zip"),
    ("ml-25m", "data/raw/typo.zip", {}, r"data\.path is 'data/raw/typo\.zip', and not"),
    *(("ml-1m", path, {}, "but data.source is ml-1m: .* data.source to ml-10m")
      for path in ("data/raw/ml-10m.zip", "ml-10M100K")),
    # A copy refuses what neither git nor DVC tracks, except for an archive as published
    *((SMALL, path, {f"{MAIN}/{SMALL}.zip": THREE}, r"^data/raw/ml-.*\.zip is missing in this")
      for path in ("data/raw", f"data/raw/{SMALL}.zip")),
    *((SMALL, path, {f"{MAIN}/{SMALL}": THREE}, ADD)
      for path in ("data/raw", f"data/raw/{SMALL}")),
    ("folder", "data/raw", {MAIN: SONGS},
     "run `dvc add data/raw/movies.dat data/raw/ratings.dat` and start"),
    ("folder", "data/raw", {f"{MAIN}/my songs": SONGS},
     "run `dvc add 'data/raw/my songs/movies.dat' 'data/raw/my songs/ratings.dat'` and start"),
]  # fmt: skip


@pytest.fixture
def place(tmp_path, monkeypatch, request):
    """The files, with the working directory in `here`, which is a copy of `main` if that exists."""
    tree = request.node.callspec.params["tree"]
    build(tmp_path, {RAW: {}, **tree})
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("GENRE_EMBEDDINGS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(movielens, "BASE_URL", "http://127.0.0.1:9/")  # nothing answers there
    checksum = f"md5:{hashlib.md5(PUBLISHED).hexdigest()}"
    release = movielens.RELEASES[SMALL]._replace(checksum=checksum, ratings=1)
    monkeypatch.setitem(movielens.RELEASES, SMALL, release)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    if any(name.startswith("main/") for name in tree):
        monkeypatch.setenv("DVC_ROOT", str(tmp_path / "main"))


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(("source", "path", "tree", "stars"), FOUND)
def test_found(source, path, tree, stars):
    assert opened(source, path)[1:] == (7, stars, 5)


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(("source", "path", "tree", "message"), REFUSED)
def test_refused(source, path, tree, message):
    with pytest.raises(InputError, match=message):
        opened(source, path)


def test_a_genome_in_a_folder_is_not_read(tmp_path, capsys):
    """An experiment's copy may lack it, and would take the result of an earlier run without it."""
    build(tmp_path, {"songs": SONGS | {"genome-scores.csv": "no header"}})
    opened("folder", tmp_path / "songs")
    said = "songs/genome-scores.csv is not read: pack the files in a zip archive\n"
    assert said in capsys.readouterr().err


def test_what_dvc_does_not_see_is_refused(tmp_path):
    mine, songs = tmp_path / "raw/mine", tmp_path / "songs"
    build(tmp_path, {"raw": {}, "songs": SONGS})
    mine.symlink_to(songs)
    with pytest.raises(InputError, match="raw/mine is a link to a folder, so that DVC does not"):
        opened("folder", mine.parent)
    opened("folder", mine)  # DVC follows the link that data.path names
    (songs / ".dvc").mkdir()
    mine.unlink()
    songs.rename(mine)
    with pytest.raises(InputError, match="raw/mine is another DVC project, so that"):
        opened("folder", mine.parent)


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
def test_the_check_of_the_path(tmp_path, monkeypatch, path, message):
    build(tmp_path, {"main/books": SONGS, "copy/data": {"x": ""}})
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    text = text.replace("source: planted", "source: folder").replace("data/raw #", f"{path} #")
    (tmp_path / "copy/params.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "main"))
    with pytest.raises(InputError, match=message):
        check.main()
    if path == "books":
        build(tmp_path, {"copy/books": SONGS})
        check.main()
