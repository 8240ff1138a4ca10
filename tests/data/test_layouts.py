"""Each layout, on small files in exactly the released format, with the traps of real ones."""

from collections.abc import Callable
from pathlib import Path

import pytest

from genre_embeddings.data.sources.archive import File
from genre_embeddings.data.sources.layouts import CSV, DAT, ITEM, Tables, read_tables
from genre_embeddings.errors import InputError
from genre_embeddings.settings import load_settings
from tests.conftest import ROOT

CSV_RATINGS = "userId,movieId,rating,timestamp\r\n1,2,4.0,964982703\r\n1,7,0.5,964981247\r\n"
CSV_MOVIES = "movieId,title,genres\r\n2,Jumanji (1995),Adventure|Children\r\n7,Sabrina (1995),\r\n"
DAT_RATINGS = "1::1193::5::978300760\n2::661::3::978302109\n"
DAT_MOVIES = "1193::One Flew Over the Cuckoo's Nest (1975)::Drama\n661::James (1996)::Animation\n"
GENRES = ["unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime"]
GENRES += ["Documentary", "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery"]
GENRES += ["Romance", "Sci-Fi", "Thriller", "War", "Western"]
ITEM_GENRES = "".join(f"{name}|{number}\n" for number, name in enumerate(GENRES)) + "\n"
ITEM_RATINGS = "196\t242\t3\t881250949\n186\t302\t1\t891717742\n"


def item(movie_id: str, title: str, *genres: str) -> str:
    """A row of u.item."""
    flags = "|".join("1" if name in genres else "0" for name in GENRES)
    address = "http://us.imdb.com/M/title-exact?Toy%20Story%20(1995)"
    return f"{movie_id}|{title}|01-Jan-1995||{address}|{flags}\n"


ITEM_MOVIES = item("242", "Kolya (1996)", "Comedy") + item("302", "L.A. (1997)", "Crime", "War")
OTHERS = {CSV: (CSV_MOVIES,), DAT: (DAT_MOVIES,), ITEM: (ITEM_MOVIES, ITEM_GENRES)}
"""The files of a layout without the ratings."""
SAMPLES = {CSV: CSV_RATINGS, DAT: DAT_RATINGS, ITEM: ITEM_RATINGS}
every_layout = pytest.mark.parametrize("layout", [CSV, DAT, ITEM], ids=["csv", "dat", "item"])


def read(
    folder: Path,
    layout: tuple[str, ...],
    *contents: str | bytes,
    release: bool = True,
    scale: tuple[float, float] = (0.5, 5.0),
) -> Tables:
    files = {}
    for name, content in zip(layout, contents, strict=True):
        files[name] = File(folder / name, name)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    own = None if release else load_settings(ROOT / "params.yaml").data
    return read_tables(layout, files, scale, own)


def rows(tables: Tables) -> list[tuple[object, ...]]:
    return tables.ratings.collect().rows()


@pytest.mark.parametrize(
    ("layout", "ratings", "movies"),
    [
        (
            CSV,
            [(1, 2, 4.0, 964982703), (1, 7, 0.5, 964981247)],
            [(2, "Jumanji (1995)", ["Adventure", "Children"]), (7, "Sabrina (1995)", [])],
        ),
        (
            DAT,
            [(1, 1193, 5.0, 978300760), (2, 661, 3.0, 978302109)],
            [
                (1193, "One Flew Over the Cuckoo's Nest (1975)", ["Drama"]),
                (661, "James (1996)", ["Animation"]),
            ],
        ),
        (
            ITEM,
            [(196, 242, 3.0, 881250949), (186, 302, 1.0, 891717742)],
            [(242, "Kolya (1996)", ["Comedy"]), (302, "L.A. (1997)", ["Crime", "War"])],
        ),
    ],
)
def test_each_layout(
    tmp_path: Path, layout: tuple[str, ...], ratings: list[object], movies: list[object]
) -> None:
    tables = read(tmp_path, layout, SAMPLES[layout], *OTHERS[layout])
    assert rows(tables) == ratings
    assert tables.movies.rows() == movies
    assert tables.has_time


def test_titles_hold_commas_quotes_colons_and_accents(tmp_path: Path) -> None:
    movies = (
        "movieId,title,genres\n"
        '11,"American President, The (1995)",Comedy|Drama\n'
        '12,"""Great ""Performances"" Cats (1998)",Musical\n'
        "14,Misérables :: Léon 東京 (1995),Drama\n"
        '15,Great "Performances" Cats (1998),Musical\n'
    )
    assert read(tmp_path, CSV, CSV_RATINGS, movies).movies["title"].to_list() == [
        "American President, The (1995)",
        '"Great "Performances" Cats (1998)',
        "Misérables :: Léon 東京 (1995)",
        'Great "Performances" Cats (1998)',
    ]
    movies = (
        "1193:::Star Wars: Episode IV: A, New : Hope (1977)::Action|Sci-Fi\n"
        '661::Misérables, "Les"\x85: (1995):::Drama\n'
    )
    expected = [
        (1193, ":Star Wars: Episode IV: A, New : Hope (1977)", ["Action", "Sci-Fi"]),
        (661, 'Misérables, "Les"\x85: (1995):', ["Drama"]),
    ]
    for encoding in ("latin-1", "utf-8"):
        content = movies.encode(encoding)
        assert read(tmp_path, DAT, DAT_RATINGS, content).movies.rows() == expected
    movies = item("242", 'Café, "Léon", Le: (1994)', "Drama") + item("302", "unknown", "unknown")
    tables = read(tmp_path, ITEM, ITEM_RATINGS, movies.encode("latin-1"), ITEM_GENRES)
    assert tables.movies.rows() == [
        (242, 'Café, "Léon", Le: (1994)', ["Drama"]),
        (302, "unknown", []),
    ]


@every_layout
@pytest.mark.parametrize(
    "written",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text.replace("\n", "\r\n"),
        lambda text: text.removesuffix("\n"),
        lambda text: text + "\n\n",
        lambda text: text.replace("\n", "\n\n").replace("\n\n", "\n", 2),
        lambda text: text if "Id" in text else f"\n\r\n{text}",
        lambda text: "\ufeff" + (text if "Id" in text else f"\n\n{text}"),
    ],
    ids=[
        "windows", "bom", "no last line end", "blank lines", "blank between", "blank before",
        "bom and blank before",
    ],
)  # fmt: skip
def test_the_way_it_was_saved_does_not_matter(
    tmp_path: Path, layout: tuple[str, ...], written: Callable[[str], str]
) -> None:
    contents = [text.replace("\r\n", "\n") for text in (SAMPLES[layout], *OTHERS[layout])]
    plain = read(tmp_path, layout, *contents)
    expected = (rows(plain), plain.movies.rows())
    saved = read(tmp_path, layout, *(written(text) for text in contents))
    assert (rows(saved), saved.movies.rows()) == expected
    assert len(expected[0]) == 2


def test_blanks_around_numbers_do_not_count(tmp_path: Path) -> None:
    ratings = "userId,movieId,rating,timestamp\n 1, 2 , 4.0, 5 \n"
    assert rows(read(tmp_path, CSV, ratings, CSV_MOVIES)) == [(1, 2, 4.0, 5)]


BAD_FIELDS = [
    ("1\t2\tfour\t5", "rating is 'four'; allowed: a number from 0.5 to 5"),
    ("1\t2\tNaN\t5", "rating is 'NaN'; allowed: a number from 0.5 to 5"),
    ("1\t2\tinf\t5", "rating is 'inf'"),
    ("1\t2\t\t5", "rating is ''"),
    ("1\t2\t5.5\t5", "rating is '5.5'; allowed: a number from 0.5 to 5"),
    ("1\t2\t0\t5", "rating is '0'"),
    ("-1\t2\t4\t5", "user_id is '-1'; allowed: a whole number of 0 or more"),
    ("1\t2.0\t4\t5", "movie_id is '2.0'; allowed: a whole number of 0 or more"),
    ("1\tTitanic\t4\t5", "movie_id is 'Titanic'"),
    ("\t2\t4\t5", "user_id is ''"),
    ("\t\t\t", "user_id is ''"),
    ("\ufeff1\t2\t4\t5", "user_id is '\\ufeff1'"),
    ("99999999999999999999\t2\t4\t5", "user_id is '99999999999999999999'"),
    ("1\t2\t4\t5.5", "timestamp is '5.5'; allowed: a whole number from 0"),
    ("1\t2\t4\t-5", "timestamp is '-5'"),
    ("1\t2\t4\t978300760000", "timestamp is '978300760000'"),
    ("1\t2\t4\t", "timestamp is ''"),
    ("1\t2\t4\t" + "9" * 5000, f"timestamp is '{'9' * 100}...'; allowed: a whole number"),
    ("1\t2\t" + "9" * 200_000 + "x\t5", f"rating is '{'9' * 100}...'; allowed: a number"),
    ("1\t2\t\u00a04\t5", "rating is '\\xa04'"),
    ("1\t2\t4\t\u00a05", "timestamp is '\\xa05'"),
    ("1\t2\t4\t\r5", "'{}' holds the control character '\\r'"),
    ("1\t2\0\t4\t5", "'{}' holds the control character '\\x00'"),
]


@every_layout
@pytest.mark.parametrize(("bad", "message"), BAD_FIELDS)
def test_a_bad_field_is_named(
    tmp_path: Path, layout: tuple[str, ...], bad: str, message: str
) -> None:
    mark = {CSV: ",", DAT: "::", ITEM: "\t"}[layout]
    header = "userId,movieId,rating,timestamp\n" if layout == CSV else ""
    lines = ["5\t6\t3.5\t100", "", bad, "5\t6\t-1\t100"]
    ratings = header + "".join(line.replace("\t", mark) + "\n" for line in lines)
    row = 4 if layout == CSV else 3
    with pytest.raises(InputError) as error:
        read(tmp_path, layout, ratings, *OTHERS[layout])
    shown = repr(bad.replace("\t", mark))[1:-1]
    assert str(error.value).startswith(f"{layout[0]}, row {row}: {message.replace('{}', shown)}")


@pytest.mark.parametrize("position", ["first", "later"])
@pytest.mark.parametrize(
    ("layout", "bad", "fields"),
    [
        (CSV, "1,2,4", 3),
        (CSV, "1,2,4,5,6", 5),
        (CSV, "1,2,4,5,", 5),
        (CSV, "   ", 1),
        (DAT, "1::2::4", 3),
        (DAT, "1::2::4::5::6", 5),
        (DAT, "1:x:2::4::5", 3),
        (DAT, "1:2:4:5", 1),
        (DAT, "1::2::4::57::8::9::3", 7),
        (ITEM, "1\t2\t4", 3),
        (ITEM, "1 2 4 5", 1),
    ],
)
def test_a_row_with_too_many_or_too_few_fields(
    tmp_path: Path, layout: tuple[str, ...], bad: str, fields: int, position: str
) -> None:
    good = {CSV: "1,2,3,4", DAT: "1::2::3::4", ITEM: "1\t2\t3\t4"}[layout]
    lines = [bad, good] if position == "first" else [good, good, bad]
    if layout == CSV:
        lines.insert(0, "userId,movieId,rating,timestamp")
    row = lines.index(bad) + 1
    with pytest.raises(InputError, match=rf"^{layout[0]}, row {row}: '.*' has {fields} fields"):
        read(tmp_path, layout, "\n".join(lines), *OTHERS[layout])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1::2::4::57:8", "timestamp is '57:8'"),
        ("1::2:::4::5", "rating is ':4'"),
        ("1::a:b::4::5", "movie_id is 'a:b'"),
    ],
)
def test_a_colon_by_itself_is_no_mark(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"^ratings\.dat, row 2: {message}; allowed"):
        read(tmp_path, DAT, f"1::2::4::5\n{row}\n", DAT_MOVIES)


@every_layout
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le"])
def test_other_encodings(tmp_path: Path, layout: tuple[str, ...], encoding: str) -> None:
    contents = [SAMPLES[layout], *OTHERS[layout]]
    for place, name in enumerate(layout):
        files = [
            text.encode(encoding if at == place else "utf-8") for at, text in enumerate(contents)
        ]
        with pytest.raises(InputError, match=rf"^{name}, row 1: .*UTF-"):
            read(tmp_path, layout, *files)


def test_an_old_file_that_mixes_encodings(tmp_path: Path) -> None:
    """Row by row, so that one row in Latin-1 does not garble all others."""
    movies = "\ufeff1::Léon::Drama\n".encode() + "2::Misérables::Drama\n".encode("latin-1")
    tables = read(tmp_path, DAT, DAT_RATINGS, movies)
    assert tables.movies["title"].to_list() == ["Léon", "Misérables"]


def test_line_ends_of_an_old_mac(tmp_path: Path) -> None:
    for name, *contents in (
        ("ratings.csv", CSV_RATINGS.replace("\r\n", "\r"), CSV_MOVIES),
        ("movies.csv", CSV_RATINGS, CSV_MOVIES.replace("\r\n", "\r")),
    ):
        with pytest.raises(InputError, match=rf"^{name}, row 1: .* old Mac"):
            read(tmp_path, CSV, *contents)


@pytest.mark.parametrize(
    ("row", "message"),
    [(b"1::2\xe9::4::5", "byte 0xe9 is not UTF-8 text"), (b"1::2::44::5", "rating is '44'")],
)
def test_a_bad_row_far_down_is_found(tmp_path: Path, row: bytes, message: str) -> None:
    ratings = b"1::2::4::5\n" * 400_000 + row + b"\n" + b"1::2::4::5\n" * 1000
    with pytest.raises(InputError, match=rf"row 400001: .*{message}"):
        read(tmp_path, DAT, ratings, DAT_MOVIES)


@pytest.mark.parametrize("content", ["", "\r\n\r\n"])
def test_empty_files(tmp_path: Path, content: str) -> None:
    with pytest.raises(InputError, match=r"^ratings\.csv (is empty|starts with an empty row)"):
        read(tmp_path, CSV, content, CSV_MOVIES)
    with pytest.raises(InputError, match=r"^movies\.csv (is empty|starts with an empty row)"):
        read(tmp_path, CSV, CSV_RATINGS, content)
    with pytest.raises(InputError, match=r"^movies\.dat holds no movies"):
        read(tmp_path, DAT, DAT_RATINGS, content)
    with pytest.raises(InputError, match=r"^u\.genre holds no genres"):
        read(tmp_path, ITEM, ITEM_RATINGS, ITEM_MOVIES, content)
    with pytest.raises(InputError, match=r"^ratings\.dat holds no ratings"):
        read(tmp_path, DAT, content, DAT_MOVIES)
    # A header alone is no data either
    with pytest.raises(InputError, match=r"^ratings\.csv holds no ratings"):
        read(tmp_path, CSV, "userId,movieId,rating,timestamp\n" + content, CSV_MOVIES)
    with pytest.raises(InputError, match=r"^movies\.csv holds no movies"):
        read(tmp_path, CSV, CSV_RATINGS, "movieId,title,genres\n")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "userId;movieId;rating;timestamp\n",
        "userId,movieId,stars,timestamp\n",
        "userId,movieId,rating\n",
        "userId,movieId,rating,rating,timestamp\n",
    ],
)
def test_a_missing_header_or_column(tmp_path: Path, header: str) -> None:
    with pytest.raises(InputError, match=r"^ratings\.csv, row 1: .*userId,movieId,rating,times"):
        read(tmp_path, CSV, header + "1,296,5.0,1147880044\n", CSV_MOVIES)
    with pytest.raises(InputError, match=r"^movies\.csv, row 1: .*movieId,title,genres"):
        read(tmp_path, CSV, CSV_RATINGS, "1,Toy Story (1995),Comedy\n")


NOTED = "userId,movieId,rating,timestamp,note\n"
LONG = f'"{"x" * 200_000}"'


@pytest.mark.parametrize(
    ("ratings", "message"),
    [
        ('1,2,3.5,4,x\n1,"2,3.5,4,x\n1,2,3,"4,x', r"row 3: .* cannot be read"),
        ('1,2,3.5,4,x\n"1"x,2,3.5,4,x', r"row 3: .* cannot be read"),
        ('1,2,3.5,4,"', r"row 2: .* cannot be read"),
        ('1,2,3.5,4,"a, b"\n1,2,3.5,4', r"row 3: '1,2,3.5,4' has 4 fields"),
        (f"1,2,3.5,4,{LONG}\n1,2,9,4,{LONG}", r"row 3: rating is '9'"),
        (f'1,2,3.5,4,{LONG}\n"1","-2","4","5",""', r"row 3: movie_id is '-2'"),
    ],
)
def test_rows_never_vanish_in_a_quotation(tmp_path: Path, ratings: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"^ratings\.csv, {message}"):
        read(tmp_path, CSV, f"{NOTED}{ratings}\n1,2,3.5,4,x\n", CSV_MOVIES)


def test_rows_never_vanish_in_a_quotation_that_begins_in_the_header(tmp_path: Path) -> None:
    movies = 'movieId,title,genres,"note\n1,Heat,Drama,\n2,Babe",Drama,"\n3,Cats,Drama,x\n'
    with pytest.raises(InputError, match=r"^movies\.csv, row 1: '.*' must be the header"):
        read(tmp_path, CSV, CSV_RATINGS, movies)
    ratings = 'userId,movieId,rating,timestamp,"note\n1,2,3.5,4,x\n1,2,3.5,4,"\n'
    with pytest.raises(InputError, match=r"^ratings\.csv, row 1: '.*' must be the header"):
        read(tmp_path, CSV, ratings, CSV_MOVIES)


def test_quoted_fields_of_ratings(tmp_path: Path) -> None:
    header = '"userId","movieId","note","rating","timestamp"\n'
    ratings = f'{header}"a, ""b""","2","well, ""good""","3.5","4"\n'
    found = read(tmp_path, CSV, f"{ratings}c,2,{LONG},3.5,4\n", CSV_MOVIES, release=False)
    assert rows(found) == [('a, "b"', 2, 3.5, 4), ("c", 2, 3.5, 4)]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("3,Heat, The (1995),Action", r"row 4: '3,Heat, The \(1995\),Action' has 4 fields"),
        ("3,Heat (1995)", r"row 4: '3,Heat \(1995\)' has 2 fields"),
        ('3,"Heat (1995),Action\n4,"Babe",Drama', r"row 4: '.*' is not a row of a csv file"),
        ('3,"Heat (1995),Action', r"row 4: '.*' is not a row of a csv file"),
        ("2,Heat (1995),Action", r"rows 2 and 4: movie_id '2' stands twice"),
        ("x,Heat (1995),Action", r"row 4: movie_id is 'x'; allowed: a whole number"),
        (",Heat (1995),Action", r"row 4: movie_id is ''"),
        ("3,\udce9,Action", r"row 4: .* byte 0xe9 is not UTF-8"),
        ('3,"Heat\n4,Babe",Drama', r"row 4: '3,\"Heat' is not a row of a csv file"),
        ("3,Heat,Action\r4,Babe,Drama", r"row 4: .* holds the control character '\\r'"),
    ],
)
def test_bad_rows_of_movies_csv(tmp_path: Path, row: str, message: str) -> None:
    movies = (CSV_MOVIES + row + "\n").encode(errors="surrogateescape")
    with pytest.raises(InputError, match=rf"^movies\.csv, {message}"):
        read(tmp_path, CSV, CSV_RATINGS, movies)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("3::Heat", r"row 3: '3::Heat' has 2 fields separated by '::'; allowed: 3"),
        ("Heat", r"row 3: 'Heat' has 1 fields"),
        ("661::Heat::Action", r"rows 2 and 3: movie_id '661' stands twice"),
        ("-3::Heat::Action", r"row 3: movie_id is '-3'"),
        ("3::Heat::Action4::Babe::Drama", r"row 3: .* has 5 fields"),
        ("3::He\0at::Action", r"row 3: .* holds the control character '\\x00'"),
    ],
)
def test_bad_rows_of_movies_dat(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"^movies\.dat, {message}"):
        read(tmp_path, DAT, DAT_RATINGS, DAT_MOVIES + row)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("3|Heat|||", r"row 3: '3\|Heat\|\|\|' has 5 fields separated by '\|'; allowed: 24"),
        (item("3", "Heat").replace("|0\n", "|2\n"), r"row 3: the flag of genre 'Western' is '2'"),
        (item("3", "Heat")[:-1] + item("4", "Babe"), r"row 3: .* has 47 fields"),
        (item("3", "Heat").replace("|0\n", "|0|0\n"), r"row 3: .* has 25 fields"),
        (item("302", "Heat"), r"rows 2 and 3: movie_id '302' stands twice"),
    ],
)
def test_bad_rows_of_u_item(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"^u\.item, {message}"):
        read(tmp_path, ITEM, ITEM_RATINGS, ITEM_MOVIES + row, ITEM_GENRES)


@pytest.mark.parametrize("row", ["Action", "Action|2", "unknown|1", "|1"])
def test_bad_rows_of_u_genre(tmp_path: Path, row: str) -> None:
    with pytest.raises(InputError, match=r"^u\.genre, row 2: .* here NAME\|1"):
        read(tmp_path, ITEM, ITEM_RATINGS, ITEM_MOVIES, f"unknown|0\n{row}\n")


@pytest.mark.parametrize("odd", ["007", "x7", "7.0"])
def test_ids_stay_text_where_a_number_would_lose_something(tmp_path: Path, odd: str) -> None:
    """Both tables get the same type of id, whichever of them holds the odd one."""
    movies = f"movieId,title,genres\n2,Jumanji,Adventure\n{odd},Sabrina,Comedy\n"
    tables = read(tmp_path, CSV, CSV_RATINGS, movies, release=False)
    assert rows(tables)[0] == (1, "2", 4.0, 964982703)
    assert tables.movies["movie_id"].to_list() == ["2", odd]


def test_ids_are_text_in_both_tables_where_a_rating_holds_the_odd_one(tmp_path: Path) -> None:
    tables = read(tmp_path, DAT, "1::7::5::0\n1::x8::5::0\n", "7::Heat::Crime\n", release=False)
    assert rows(tables) == [(1, "7", 5.0, 0), (1, "x8", 5.0, 0)]
    assert tables.movies["movie_id"].to_list() == ["7"]


def test_quotation_marks_mean_nothing_outside_csv(tmp_path: Path) -> None:
    ratings = '"ann"::7::5::0\n"bo::7::4::0\ncy::7::3::0\n'
    tables = read(tmp_path, DAT, ratings, "7::Heat::Crime\n", release=False)
    assert [user for user, *_ in rows(tables)] == ['"ann"', '"bo', "cy"]


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
def test_bad_fields_of_ones_own(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"^ratings\.csv, row 3: {message}"):
        read(
            tmp_path,
            CSV,
            f"userId,movieId,rating\nbo,2,4\n{row}\n",
            CSV_MOVIES,
            release=False,
            scale=(1, 10),
        )
