"""Each layout, on small files in exactly the released format, with the traps of real ones."""

from pathlib import Path

import polars as pl
import pytest

from genre_embeddings.data.sources.archive import File
from genre_embeddings.data.sources.base import NO_TIME
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


def test_csv(tmp_path: Path) -> None:
    tables = read(tmp_path, CSV, CSV_RATINGS, CSV_MOVIES)
    assert tables.ratings.collect().schema == {
        "user_id": pl.Int64,
        "movie_id": pl.Int64,
        "rating": pl.Float32,
        "timestamp": pl.Int64,
    }
    assert rows(tables) == [(1, 2, 4.0, 964982703), (1, 7, 0.5, 964981247)]
    assert tables.movies.schema == {
        "movie_id": pl.Int64,
        "title": pl.String,
        "genres": pl.List(pl.String),
    }
    assert tables.movies.rows() == [
        (2, "Jumanji (1995)", ["Adventure", "Children"]),
        (7, "Sabrina (1995)", []),
    ]
    assert tables.has_time


def test_dat(tmp_path: Path) -> None:
    tables = read(tmp_path, DAT, DAT_RATINGS, DAT_MOVIES)
    assert rows(tables) == [(1, 1193, 5.0, 978300760), (2, 661, 3.0, 978302109)]
    assert tables.movies.rows() == [
        (1193, "One Flew Over the Cuckoo's Nest (1975)", ["Drama"]),
        (661, "James (1996)", ["Animation"]),
    ]


def test_item(tmp_path: Path) -> None:
    tables = read(tmp_path, ITEM, ITEM_RATINGS, ITEM_MOVIES, ITEM_GENRES)
    assert rows(tables) == [(196, 242, 3.0, 881250949), (186, 302, 1.0, 891717742)]
    assert tables.movies.rows() == [
        (242, "Kolya (1996)", ["Comedy"]),
        (302, "L.A. (1997)", ["Crime", "War"]),
    ]


def test_csv_titles_hold_commas_quotes_colons_and_accents(tmp_path: Path) -> None:
    movies = (
        "movieId,title,genres\n"
        '11,"American President, The (1995)",Comedy|Drama\n'
        '12,"""Great ""Performances"" Cats (1998)",Musical\n'
        "13,Star Wars: Episode IV (1977),Sci-Fi\n"
        "14,Misérables :: Léon 東京 (1995),Drama\n"
        '15,Great "Performances" Cats (1998),Musical\n'
    )
    tables = read(tmp_path, CSV, CSV_RATINGS, movies)
    assert tables.movies["title"].to_list() == [
        "American President, The (1995)",
        '"Great "Performances" Cats (1998)',
        "Star Wars: Episode IV (1977)",
        "Misérables :: Léon 東京 (1995)",
        'Great "Performances" Cats (1998)',
    ]


def test_dat_titles_hold_colons_commas_quotes_and_accents(tmp_path: Path) -> None:
    movies = (
        "1193:::Star Wars: Episode IV: A, New : Hope (1977)::Action|Sci-Fi\n"
        '661::Misérables, "Les"\x85: (1995):::Drama\n'
    )
    expected = [
        (1193, ":Star Wars: Episode IV: A, New : Hope (1977)", ["Action", "Sci-Fi"]),
        (661, 'Misérables, "Les"\x85: (1995):', ["Drama"]),
    ]
    assert read(tmp_path, DAT, DAT_RATINGS, movies.encode("latin-1")).movies.rows() == expected
    assert read(tmp_path, DAT, DAT_RATINGS, movies.encode()).movies.rows() == expected


def test_item_titles_hold_commas_quotes_and_accents(tmp_path: Path) -> None:
    movies = item("242", 'Café, "Léon", Le: (1994)', "Drama") + item("302", "unknown", "unknown")
    tables = read(tmp_path, ITEM, ITEM_RATINGS, movies.encode("latin-1"), ITEM_GENRES)
    assert tables.movies.rows() == [
        (242, 'Café, "Léon", Le: (1994)', ["Drama"]),
        (302, "unknown", []),
    ]


def test_what_prepare_decides_passes_through(tmp_path: Path) -> None:
    """A movie never rated, a rated one without an entry, a user who rates a movie twice."""
    ratings = "1::1193::5::978300760\n1::1193::2::978300999\n1::9::4::978300760\n"
    tables = read(tmp_path, DAT, ratings, DAT_MOVIES)
    assert rows(tables) == [
        (1, 1193, 5.0, 978300760),
        (1, 1193, 2.0, 978300999),
        (1, 9, 4.0, 978300760),
    ]
    assert tables.movies["movie_id"].to_list() == [1193, 661]


@pytest.mark.parametrize(
    ("layout", "contents"),
    [
        (CSV, (CSV_RATINGS.replace("\r\n", "\n"), CSV_MOVIES.replace("\r\n", "\n"))),
        (DAT, (DAT_RATINGS, DAT_MOVIES)),
        (ITEM, (ITEM_RATINGS, ITEM_MOVIES, ITEM_GENRES)),
    ],
)
@pytest.mark.parametrize(
    "written",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: "\ufeff" + text.replace("\n", "\r\n"),
        lambda text: text.removesuffix("\n"),
        lambda text: text + "\n\n",
        lambda text: text.replace("\n", "\n\n").replace("\n\n", "\n", 2),
        lambda text: text if text[:1].isalpha() and "Id" in text else f"\n\r\n{text}",
        lambda text: "\ufeff" + (text if "Id" in text else f"\n\n{text}"),
    ],
    ids=[
        "windows",
        "bom",
        "both",
        "no last line end",
        "blank lines",
        "blank between",
        "blank before",
        "bom and blank before",
    ],
)
def test_the_way_it_was_saved_does_not_matter(
    tmp_path: Path, layout: tuple[str, ...], contents: tuple[str, ...], written: object
) -> None:
    assert callable(written)
    plain = read(tmp_path, layout, *contents)
    expected = (rows(plain), plain.movies.rows())
    saved = read(tmp_path, layout, *(written(text) for text in contents))
    assert (rows(saved), saved.movies.rows()) == expected
    assert len(expected[0]) == 2


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


@pytest.mark.parametrize("layout", [CSV, DAT, ITEM], ids=["csv", "dat", "item"])
@pytest.mark.parametrize(("bad", "message"), BAD_FIELDS)
def test_a_bad_field_is_named(
    tmp_path: Path, layout: tuple[str, ...], bad: str, message: str
) -> None:
    mark = {CSV: ",", DAT: "::", ITEM: "\t"}[layout]
    header = "userId,movieId,rating,timestamp\n" if layout == CSV else ""
    lines = ["5\t6\t3.5\t100", "", bad, "5\t6\t-1\t100"]
    ratings = header + "".join(line.replace("\t", mark) + "\n" for line in lines)
    others = {CSV: (CSV_MOVIES,), DAT: (DAT_MOVIES,), ITEM: (ITEM_MOVIES, ITEM_GENRES)}[layout]
    row = 4 if layout == CSV else 3
    with pytest.raises(InputError) as error:
        read(tmp_path, layout, ratings, *others)
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
    others = {CSV: (CSV_MOVIES,), DAT: (DAT_MOVIES,), ITEM: (ITEM_MOVIES, ITEM_GENRES)}[layout]
    with pytest.raises(InputError, match=rf"^{layout[0]}, row {row}: '.*' has {fields} fields"):
        read(tmp_path, layout, "\n".join(lines), *others)


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


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_other_encodings(tmp_path: Path, encoding: str) -> None:
    for layout, *contents in (
        (CSV, CSV_RATINGS, CSV_MOVIES),
        (DAT, DAT_RATINGS, DAT_MOVIES),
        (ITEM, ITEM_RATINGS, ITEM_MOVIES, ITEM_GENRES),
    ):
        for place, name in enumerate(layout):
            files = [text.encode() for text in contents]
            files[place] = contents[place].encode(encoding)
            with pytest.raises(InputError, match=rf"^{name}, row 1: .*UTF-"):
                read(tmp_path, layout, *files)


def test_an_old_file_that_mixes_encodings(tmp_path: Path) -> None:
    """Row by row, so that one row in Latin-1 does not garble all others."""
    movies = "\ufeff1::Léon::Drama\n".encode() + "2::Misérables::Drama\n".encode("latin-1")
    tables = read(tmp_path, DAT, DAT_RATINGS, movies)
    assert tables.movies["title"].to_list() == ["Léon", "Misérables"]


@pytest.mark.parametrize("content", [CSV_RATINGS, CSV_MOVIES])
def test_line_ends_of_an_old_mac(tmp_path: Path, content: str) -> None:
    contents = [
        text.replace("\r\n", "\r") if text == content else text
        for text in (CSV_RATINGS, CSV_MOVIES)
    ]
    name = CSV[(CSV_RATINGS, CSV_MOVIES).index(content)]
    with pytest.raises(InputError, match=rf"^{name}, row 1: .* old Mac"):
        read(tmp_path, CSV, *contents)


def test_a_byte_that_is_no_text_far_down_is_found(tmp_path: Path) -> None:
    ratings = b"1::2::4::5\n" * 400_000 + b"1::2\xe9::4::5\n"
    with pytest.raises(InputError, match=r"row 400001: .* byte 0xe9 is not UTF-8 text"):
        read(tmp_path, DAT, ratings, DAT_MOVIES)


def test_a_bad_row_far_down_is_found(tmp_path: Path) -> None:
    ratings = "1::2::4::5\n" * 200_000 + "1::2::44::5\n" + "1::2::4::5\n" * 100_000
    with pytest.raises(InputError, match=r"row 200001: rating is '44'"):
        read(tmp_path, DAT, ratings, DAT_MOVIES)


@pytest.mark.parametrize("content", ["", "\n", "\r\n\r\n", "\ufeff"])
def test_empty_files(tmp_path: Path, content: str) -> None:
    with pytest.raises(InputError, match=r"^ratings\.csv (is empty|starts with an empty row)"):
        read(tmp_path, CSV, content, CSV_MOVIES)
    with pytest.raises(InputError, match=r"^movies\.csv (is empty|starts with an empty row)"):
        read(tmp_path, CSV, CSV_RATINGS, content)
    with pytest.raises(InputError, match=r"^movies\.dat holds no movies"):
        read(tmp_path, DAT, DAT_RATINGS, content)
    with pytest.raises(InputError, match=r"^u\.genre holds no genres"):
        read(tmp_path, ITEM, ITEM_RATINGS, ITEM_MOVIES, content)
    with pytest.raises(InputError, match=r"^ratings\.dat"):
        read(tmp_path, DAT, content, DAT_MOVIES)


def test_a_header_alone_is_no_data(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^ratings\.csv holds no ratings"):
        read(tmp_path, CSV, "userId,movieId,rating,timestamp\n", CSV_MOVIES)
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


@pytest.mark.parametrize(
    "row",
    ['1,"2,3.5,4\n1,2,3,"4', '"1"x,2,3.5,4', '1,2,3.5,"', "1,2,3.5,4\n1,\udce9,3,4"],
)
def test_rows_never_vanish_in_a_quotation(tmp_path: Path, row: str) -> None:
    ratings = f"userId,movieId,rating,timestamp\n1,2,3.5,4\n{row}\n1,2,3.5,4\n"
    with pytest.raises(InputError, match=r"^ratings\.csv, row [34]: .* cannot be read"):
        read(tmp_path, CSV, ratings.encode(errors="surrogateescape"), CSV_MOVIES)


def test_rows_never_vanish_in_a_quotation_that_begins_in_the_header(tmp_path: Path) -> None:
    movies = 'movieId,title,genres,"note\n1,Heat,Drama,\n2,Babe",Drama,"\n3,Cats,Drama,x\n'
    with pytest.raises(InputError, match=r"^movies\.csv, row 1: '.*' must be the header"):
        read(tmp_path, CSV, CSV_RATINGS, movies)
    ratings = 'userId,movieId,rating,timestamp,"note\n1,2,3.5,4,x\n1,2,3.5,4,"\n'
    with pytest.raises(InputError, match=r"^ratings\.csv, row 1: '.*' must be the header"):
        read(tmp_path, CSV, ratings, CSV_MOVIES)


def test_quoted_rows_have_all_their_fields(tmp_path: Path) -> None:
    ratings = 'userId,movieId,rating,timestamp,note\n1,2,3.5,4,"a, b"\n1,2,3.5,4\n'
    with pytest.raises(InputError, match=r"^ratings\.csv, row 3: '1,2,3.5,4' has 4 fields"):
        read(tmp_path, CSV, ratings, CSV_MOVIES)


def test_a_long_note_is_not_to_blame(tmp_path: Path) -> None:
    note = f'"{"x" * 200_000}"'
    ratings = f"userId,movieId,rating,timestamp,note\n1,2,3.5,4,{note}\n"
    assert rows(read(tmp_path, CSV, ratings, CSV_MOVIES)) == [(1, 2, 3.5, 4)]
    with pytest.raises(InputError, match=r"^ratings\.csv, row 3: rating is '9'"):
        read(tmp_path, CSV, f"{ratings}1,2,9,4,{note}\n", CSV_MOVIES)


def test_quoted_fields_of_ratings(tmp_path: Path) -> None:
    tables = read(
        tmp_path,
        CSV,
        '"userId","movieId","note","rating","timestamp"\n"1","2","well, ""good""","3.5","4"\n',
        CSV_MOVIES,
    )
    assert rows(tables) == [(1, 2, 3.5, 4)]


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


def test_ids_of_ones_own_may_be_text(tmp_path: Path) -> None:
    tables = read(
        tmp_path,
        CSV,
        "user_id,movie_id,rating\nann, 014044792X ,10\n Bo,0140447938,1\n",
        "movie_id,title,genres\n014044792X,The Idiot,Novel\n0140447938,War and Peace,Novel|War\n",
        release=False,
        scale=(1, 10),
    )
    assert rows(tables) == [
        ("ann", "014044792X", 10.0, NO_TIME),
        ("Bo", "0140447938", 1.0, NO_TIME),
    ]
    assert tables.movies["movie_id"].to_list() == ["014044792X", "0140447938"]
    assert not tables.has_time


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
