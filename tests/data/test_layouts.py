"""Contents of files: every row is read, or one line names the file, the row and the value.

The files are small. They have exactly the released formats, or are a user's own.
"""

from pathlib import Path

import pytest

from genre_embeddings.data.sources.archive import File
from genre_embeddings.data.sources.base import NO_TIME, Source
from genre_embeddings.data.sources.layouts import CSV, DAT, ITEM, LAYOUTS, read_source
from genre_embeddings.errors import InputError
from genre_embeddings.settings import load_settings
from tests.conftest import ROOT

SETTINGS = load_settings(ROOT / "params.yaml").data
HEADER = "userId,movieId,rating,timestamp\n"
MOVIES = "movieId,title,genres\n"
GENRES = ["unknown", "Action", "Comedy", "Crime", "War"]


def item(movie_id: str, title: str, *genres: str) -> str:
    """A row of u.item."""
    flags = "|".join("1" if name in genres else "0" for name in GENRES)
    return f"{movie_id}|{title}|01-Jan-1995||http://us.imdb.com/M/title-exact?Toy%20Story|{flags}\n"


SAMPLES = {
    "ratings.csv": f"{HEADER}1,2,4.0,964982703\n1,7,0.5,964981247\n",
    "movies.csv": f"{MOVIES}2,Jumanji (1995),Adventure|Children\n7,Sabrina (1995),\n",
    "ratings.dat": "1::1193::5::978300760\n2::661::3::978302109\n",
    "movies.dat": "1193::One Flew Over the Cuckoo's Nest (1975)::Drama\n661::James::Animation\n",
    "u.data": "196\t242\t3\t881250949\n186\t302\t1\t891717742\n",
    "u.item": item("242", "Kolya (1996)", "Comedy") + item("302", "L.A. (1997)", "Crime", "War"),
    "u.genre": "".join(f"{name}|{number}\n" for number, name in enumerate(GENRES)) + "\n",
}
READ = {
    CSV: (
        [(1, 2, 4.0, 964982703), (1, 7, 0.5, 964981247)],
        [(2, "Jumanji (1995)", ["Adventure", "Children"]), (7, "Sabrina (1995)", [])],
    ),
    DAT: (
        [(1, 1193, 5.0, 978300760), (2, 661, 3.0, 978302109)],
        [
            (1193, "One Flew Over the Cuckoo's Nest (1975)", ["Drama"]),
            (661, "James", ["Animation"]),
        ],
    ),
    ITEM: (
        [(196, 242, 3.0, 881250949), (186, 302, 1.0, 891717742)],
        [(242, "Kolya (1996)", ["Comedy"]), (302, "L.A. (1997)", ["Crime", "War"])],
    ),
}


def read(
    folder: Path, changed: dict[str, str | bytes], own: dict[str, str] | None = None
) -> Source:
    """The tables of a layout's sample with other content for some of its files.

    `own` are settings for files of the user's own, which are rated from 1 to 10.
    """
    layout = next(names for names in LAYOUTS if changed.keys() <= set(names))
    for name in layout:
        content = changed.get(name, SAMPLES[name])
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    files = {name: File(folder / name, name) for name in layout}
    data = None if own is None else SETTINGS.model_copy(update=own)
    return read_source("test", layout, files, (0.5, 5) if own is None else (1, 10), data)


def refuse(
    folder: Path, name: str, content: str | bytes, message: str, own: dict[str, str] | None = None
) -> None:
    with pytest.raises(InputError, match=rf"^{name},? {message}") as error:
        read(folder, {name: content}, own)
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("before", "end", "after"),
    [
        ("", "\n", ""), ("", "\r\n", ""), ("\ufeff", "\r\n", ""), ("", "\n", "\n\n"),
        ("", "\n\n", ""), ("\n\r\n", "\n", ""), ("\ufeff\n\n", "\n", ""),
    ],
)  # fmt: skip
@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_saved_in_any_way(tmp_path, layout, before, end, after):
    saved = {}
    for name in layout:
        mark = before.strip() if name.endswith(".csv") else before  # the header is in row 1
        lines = SAMPLES[name].removesuffix("\n").replace("\n", end)
        saved[name] = f"{mark}{lines}{after}"
    tables = read(tmp_path, saved)
    assert (tables.ratings.collect().rows(), tables.movies.rows()) == READ[layout]
    assert tables.has_time


LONG = f'"{"x" * 200_000}"'
TITLES = {
    "movies.csv": (
        f'{MOVIES}11,"American President, The (1995)",A\n12,"""Great ""Performances"" Cats",A\n'
        '14,Misérables :: Léon 東京 (1995),A\n15,Great "Performances" Cats (1998),A\n',
        ["American President, The (1995)", '"Great "Performances" Cats',
         "Misérables :: Léon 東京 (1995)", 'Great "Performances" Cats (1998)'],
    ),
    "movies.dat": (
        # Row by row, so that one row in Latin-1 does not garble all others
        b"\xef\xbb\xbf1:::Star Wars: A, New : Hope (1977)::A\n"
        + '2::Misérables, "Les"\x85: (1995):::A\n'.encode("latin-1") + "3::Léon::A".encode(),
        [":Star Wars: A, New : Hope (1977)", 'Misérables, "Les"\x85: (1995):', "Léon"],
    ),
    "u.item": (
        (item("242", 'Café, "Léon", Le:') + item("302", "unknown", "unknown")).encode("latin-1"),
        ['Café, "Léon", Le:', "unknown"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TITLES)
def test_titles_hold_commas_quotes_colons_and_accents(tmp_path, name):
    content, titles = TITLES[name]
    assert read(tmp_path, {name: content}).movies["title"].to_list() == titles


QUOTED = '"userId","movieId","note","rating","timestamp"\n'
OWN_ROWS = [
    ("ratings.csv", f"{HEADER} 1, 2 , 4.0, 5 \n", [(1, 2, 4, 5)]),
    ("ratings.csv", f'{QUOTED}"a, ""b""","2","well, ""good""","3.5","4"\nc,2,{LONG},3.5,4\n',
     [('a, "b"', 2, 3.5, 4), ("c", 2, 3.5, 4)]),
    ("ratings.csv", 'line,rating,movieId,timestamp,userId,line,\n"a, b",9,7,5,1,,\n,8,7,6,2,,\n',
     [(1, 7, 9, 5), (2, 7, 8, 6)]),
    ("ratings.csv", "user_id,movie_id,rating\nann, 014 ,10\n bo,x,7\n",
     [("ann", "014", 10, NO_TIME), ("bo", "x", 7, NO_TIME)]),
    *(("ratings.csv", f"{HEADER}1,2,5,{date}\n", [(1, 2, 5, 1_425_211_200 + seconds)])
      for date, seconds in {
        "1425211200": 0, "1425211200.0": 0, "2015-03-01 12:00:00": 0, "2015-03-01 12:00": 0,
        "2015-03-01": -12 * 3600, "2015-03-01T12:00:00Z": 0,
        "2015-03-01T12:00:00.123+02:00": -2 * 3600, "2015-03-01T12:00:00-0530": 5.5 * 3600,
    }.items()),
    # Outside csv, quotation marks mean nothing
    ("ratings.dat", '"ann"::7::5::9\n"bo::7::4::9\n', [('"ann"', 7, 5, 9), ('"bo', 7, 4, 9)]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "rows"), OWN_ROWS)
def test_rows_of_ones_own(tmp_path, name, content, rows):
    source = read(tmp_path, {name: content}, own={})
    assert source.ratings.collect().rows() == rows
    assert source.has_time == (rows[0][3] != NO_TIME)


@pytest.mark.parametrize("odd", ["007", "x7", "7.0"])
def test_ids_stay_text_where_a_number_would_lose_something(tmp_path, odd):
    """Both tables get the same type of id, whichever of them holds the odd one."""
    for ids, listed in ((["2"], ["2", odd]), (["2", odd], ["2"])):
        ratings = HEADER + "".join(f"1,{movie},4,5\n" for movie in ids)
        movies = MOVIES + "".join(f"{movie},Babe,\n" for movie in listed)
        tables = read(tmp_path, {"ratings.csv": ratings, "movies.csv": movies}, own={})
        assert tables.ratings.collect().rows() == [(1, movie, 4.0, 5) for movie in ids]
        assert tables.movies["movie_id"].to_list() == listed


DROP = {"off_scale": "drop"}
SHORT = "userId,movieId,rating\n"


@pytest.mark.parametrize("word", ["", '""', " NA ", "nan", "NULL", r"\N", "None"])
def test_rows_without_a_rating_are_named_or_dropped(tmp_path, word):
    rows = "".join(f"1,{n},{stars}\n" for n, stars in enumerate(("5", word, "-1", word, "10")))
    refuse(tmp_path, "ratings.csv", SHORT + rows, "row 3: rating is .*data.off_scale to drop", {})
    source = read(tmp_path, {"ratings.csv": SHORT + rows}, DROP)
    assert source.ratings.collect()["rating"].to_list() == [5, 10]
    assert source.dropped == {"without_rating": 2, "off_scale": 1}
    message = "row 7: rating is 'much'; allowed: a n"
    refuse(tmp_path, "ratings.csv", f"{SHORT}{rows}1,2,much\n", message, DROP)


@pytest.mark.parametrize("word", ["", " ", "nan", r"\N", "NULL"])
@pytest.mark.parametrize("user", [3, "ann"])
def test_rows_without_an_id_are_named_or_dropped(tmp_path, word, user):
    contents = {
        "ratings.csv": f"{SHORT}{user},7,5\n{word},7,\n{user},{word},9\n",
        "movies.csv": f"{MOVIES}7,Up,\n{word},Up,\n",
    }
    for name, text in contents.items():
        refuse(tmp_path, name, text, r"row 3: (user|movie)_id is .*set data.off_scale to drop", {})
    source = read(tmp_path, contents, DROP)
    assert source.ratings.collect().rows() == [(user, 7, 5, 0)]
    assert source.dropped == {"without_id": 2}


@pytest.mark.parametrize("date", ["", "01/03/2015", "2015-02-30", "1425211200123", "1.4e9"])
def test_other_timestamps_are_named_or_ignored(tmp_path, date):
    ratings, message = f"{HEADER}1,7,5,1\n2,7,6,{date}\n", "row 3: timestamp is .*timestamps to ig"
    refuse(tmp_path, "ratings.csv", ratings, message, {})
    source = read(tmp_path, {"ratings.csv": ratings}, {"timestamps": "ignore"})
    assert not source.has_time
    assert source.ratings.collect()["timestamp"].to_list() == [NO_TIME, NO_TIME]


BAD_FIELDS = [
    ("1\t2\tfour\t5", "rating is 'four'; allowed: a number from 0.5 to 5"),
    ("1\t2\tNaN\t5", "rating is 'NaN'"),
    ("1\t2\t5.5\t5", "rating is '5.5'"),
    ("-1\t2\t4\t5", "user_id is '-1'; allowed: a whole number of 0 or more"),
    ("\t2\t4\t5", "user_id is ''"),
    ("\ufeff1\t2\t4\t5", "user_id is '\\ufeff1'"),
    ("99999999999999999999\t2\t4\t5", "user_id is '99999999999999999999'"),
    ("1\t2\t4\t5.5", "timestamp is '5.5'; allowed: a whole number from 0"),
    ("1\t2\t4\t978300760000", "timestamp is '978300760000'"),
    ("1\t2\t" + "9" * 200_000 + "x\t5", f"rating is '{'9' * 100}...'; allowed: a number"),
    ("1\t2\t\u00a04\t5", "rating is '\\xa04'"),
    ("1\t2\t4\t5\r", "'{}' holds the control character '\\r'"),
    ("1\t2\t4\t\r5", "'{}' holds the control character '\\r'"),
    ("1\t2\0\t4\t5", "'{}' holds the control character '\\x00'"),
    ("1\t2\t4", "'{}' has 3 fields"),
    ("1\t2\t4\t57\t8\t9\t3", "'{}' has 7 fields"),
]


@pytest.mark.parametrize(("bad", "message"), BAD_FIELDS)
@pytest.mark.parametrize(
    ("name", "mark", "header"),
    [("ratings.csv", ",", HEADER), ("ratings.dat", "::", ""), ("u.data", "\t", "")],
)
def test_a_bad_rating_is_named(tmp_path, name, mark, header, bad, message):
    lines = ["5\t6\t3.5\t100", "", bad, "5\t6\t-1\t100"]
    ratings = header + "".join(line.replace("\t", mark) + "\r\n" for line in lines)
    with pytest.raises(InputError) as error:
        read(tmp_path, {name: ratings})
    row, shown = 4 if header else 3, repr(bad.replace("\t", mark))[1:-1]
    assert str(error.value).startswith(f"{name}, row {row}: {message.replace('{}', shown)}")


NOTED = f"{HEADER[:-1]},note\n1,2,3.5,4,x\n"
MUST = "row 1: '.*' must be the header, with the columns "
BAD_FILES = [
    ("ratings.dat", "1::2::4::5\n1::2::4::57:8", "row 2: timestamp is '57:8'; allowed"),
    ("ratings.dat", "1::2::4::5\n1::2:::4::5", "row 2: rating is ':4'; allowed"),
    # A quotation never takes in rows
    ("ratings.csv", f'{NOTED}1,"2,3.5,4,x\n1,2,3,"4,x\n', "row 3: .* cannot be read"),
    ("ratings.csv", f'{NOTED}1,2,3.5,4,"a, b"\n1,2,3.5,4', "row 4: '1,2,3.5,4' has 4 fields"),
    ("ratings.csv", f"{NOTED}1,2,3.5,4,{LONG}\n1,2,9,4,{LONG}", "row 4: rating is '9'"),
    ("ratings.csv", f'{HEADER[:-1]},"note\n1,2,3.5,4,"\n', MUST),
    ("movies.csv", f'{MOVIES}2,"Heat\n4,Babe",Drama\n', "row 2: '2,\"Heat' cannot be read"),
    # Headers and empty files
    ("ratings.csv", "", MUST),
    ("ratings.csv", HEADER, "holds no rows"),
    ("u.genre", "", "holds no rows"),
    ("ratings.csv", "1,2,5.0,1147880044\n", f"{MUST}userId,movieId,rating,times"),
    ("ratings.csv", HEADER.replace(",", ";"), MUST),
    ("ratings.csv", f"rating,{HEADER}", MUST),
    ("ratings.csv", HEADER.replace("\n", ",a" * 50_000), f"{MUST}.* at most 100,000 bytes"),
    ("movies.csv", "1,Toy Story (1995),Comedy\n", f"{MUST}movieId,title,genres"),
    # Encodings and line ends
    *((name, text.encode("utf-16"), "row 1: .*UTF-") for name, text in SAMPLES.items()),
    *((name, text.encode("utf-16-le"), "row 1: .*UTF-") for name, text in SAMPLES.items()),
    ("ratings.csv", SAMPLES["ratings.csv"].replace("\n", "\r"), "row 1: .* old Mac"),
    ("movies.csv", f"{MOVIES}3,Hé,Action".encode("latin-1"), "row 2: .* byte 0xe9 is not UTF-8"),
    # Movies
    ("movies.csv", f"{MOVIES}3,Heat, The,Action", "row 2: '3,Heat, The,Action' has 4 fields"),
    ("movies.csv", f"{MOVIES}x,Heat,Action", "row 2: movie_id is 'x'; allowed: a whole number"),
    ("movies.csv", f"{MOVIES}2,Heat,A\n2,Babe,B\n", "rows 2 and 3: movie_id '2' stands twice"),
    ("movies.dat", "3::Heat", "row 1: '3::Heat' has 2 fields separated by '::'; allowed: 3"),
    ("movies.dat", "3::Heat::Action4::Babe::Drama", "row 1: title is 'Heat::Action4::Babe'"),
    ("u.item", "3|Heat|||", r"row 1: '3\|Heat\|\|\|' has 5 fields separated by '\|'; allowed: 10"),
    ("u.item", item("3", "Heat")[:-2] + "2\n", r"row 1: the flag of genre 4 \('War'\) is '2'"),
    ("u.genre", "unknown|0\n|1\n", "row 2: name is ''"),
    ("u.genre", "unknown|0\nAction|2\n", r"row 2: 'Action\|2' must be .* here NAME\|1"),
    ("u.genre", "unknown|0\nunknown|1\n", r"row 2: 'unknown\|1' must be .* here NAME\|1"),
    # Far down
    ("ratings.dat", b"1::2::4::5\n" * 400_000 + b"1::\xe9", "row 400001: .*byte 0xe9 is not UTF-8"),
    ("ratings.dat", "1::2::4::5\n" * 400_000 + "1::2::44::5", "row 400001: rating is '44'"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES, ids=range(len(BAD_FILES)))
def test_a_bad_file_is_named_with_its_row(tmp_path, name, content, message):
    refuse(tmp_path, name, content, message)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("ann,-2,4", "movie_id is '-2'; allowed: a whole number of 0 or more, or text"),
        ("\ufeffann,2,4", r"user_id is '\\ufeffann'; allowed: a whole number of 0 or more, or"),
        (" ,2,4", "user_id is ' '; allowed: a whole number of 0 or more, or text"),
        ("an\x1bn,2,4", r"'an\\x1bn,2,4' holds the control character '\\x1b'"),
        ("ann,2,11", r"rating is '11'; allowed: a number from 1 to 10 \(data.min_rating to"),
    ],
)
def test_a_bad_rating_of_ones_own(tmp_path, row, message):
    refuse(tmp_path, "ratings.csv", f"{SHORT}bo,2,4\n{row}\n", f"row 3: {message}", {})
