"""Each layout, on small files in exactly the released format, with the traps of real ones."""

from collections.abc import Callable
from pathlib import Path

import pytest

from genre_embeddings.data.sources.archive import File
from genre_embeddings.data.sources.base import Source
from genre_embeddings.data.sources.layouts import CSV, DAT, ITEM, LAYOUTS, read_source
from genre_embeddings.errors import InputError
from genre_embeddings.settings import load_settings
from tests.conftest import ROOT

HEADER = "userId,movieId,rating,timestamp\n"
MOVIES = "movieId,title,genres\n"
GENRES = ["unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime"]
GENRES += ["Documentary", "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery"]
GENRES += ["Romance", "Sci-Fi", "Thriller", "War", "Western"]


def item(movie_id: str, title: str, *genres: str) -> str:
    """A row of u.item."""
    flags = "|".join("1" if name in genres else "0" for name in GENRES)
    address = "http://us.imdb.com/M/title-exact?Toy%20Story%20(1995)"
    return f"{movie_id}|{title}|01-Jan-1995||{address}|{flags}\n"


SAMPLES = {
    "ratings.csv": f"{HEADER}1,2,4.0,964982703\n1,7,0.5,964981247\n",
    "movies.csv": f"{MOVIES}2,Jumanji (1995),Adventure|Children\n7,Sabrina (1995),\n",
    "ratings.dat": "1::1193::5::978300760\n2::661::3::978302109\n",
    "movies.dat": "1193::One Flew Over the Cuckoo's Nest (1975)::Drama\n661::James::Animation\n",
    "u.data": "196\t242\t3\t881250949\n186\t302\t1\t891717742\n",
    "u.item": item("242", "Kolya (1996)", "Comedy") + item("302", "L.A. (1997)", "Crime", "War"),
    "u.genre": "".join(f"{name}|{number}\n" for number, name in enumerate(GENRES)) + "\n",
}


def read(folder: Path, *, own: bool = False, **changed: str | bytes) -> Source:
    """The tables of a layout's sample, or of other content for files, as in `movies_csv=...`."""
    contents = {name.replace("_", "."): content for name, content in changed.items()}
    layout = next(names for names in LAYOUTS if contents.keys() <= set(names))
    files = {}
    for name in layout:
        content = contents.get(name, SAMPLES[name])
        files[name] = File(folder / name, name)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    data = load_settings(ROOT / "params.yaml").data if own else None
    return read_source("test", layout, files, (1, 10) if own else (0.5, 5), data)


def rows(tables: Source) -> list[tuple[object, ...]]:
    return tables.ratings.collect().rows()


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


@pytest.mark.parametrize(
    "written",
    [
        lambda text: text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text.replace("\n", "\r\n"),
        lambda text: text.removesuffix("\n"),
        lambda text: text + "\n\n",
        lambda text: text.replace("\n", "\n\n").replace("\n\n", "\n", 2),
        lambda text: text if "Id" in text else f"\n\r\n{text}",
        lambda text: "\ufeff" + (text if "Id" in text else f"\n\n{text}"),
    ],
    ids=[
        "as released", "windows", "bom", "no last line end", "blank lines", "blank between",
        "blank before", "bom and blank before",
    ],
)  # fmt: skip
def test_each_layout_saved_in_any_way(tmp_path: Path, written: Callable[[str], str]) -> None:
    for layout, expected in READ.items():
        saved = {name.replace(".", "_"): written(SAMPLES[name]) for name in layout}
        tables = read(tmp_path, **saved)
        assert (rows(tables), tables.movies.rows()) == expected
        assert tables.has_time


def test_titles_hold_commas_quotes_colons_and_accents(tmp_path: Path) -> None:
    movies = (
        MOVIES + '11,"American President, The (1995)",Comedy|Drama\n'
        '12,"""Great ""Performances"" Cats (1998)",Musical\n'
        "14,Misérables :: Léon 東京 (1995),Drama\n"
        '15,Great "Performances" Cats (1998),Musical\n'
    )
    assert read(tmp_path, movies_csv=movies).movies["title"].to_list() == [
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
        assert read(tmp_path, movies_dat=movies.encode(encoding)).movies.rows() == expected
    movies = item("242", 'Café, "Léon", Le: (1994)', "Drama") + item("302", "unknown", "unknown")
    assert read(tmp_path, u_item=movies.encode("latin-1")).movies.rows() == [
        (242, 'Café, "Léon", Le: (1994)', ["Drama"]),
        (302, "unknown", []),
    ]
    # Row by row, so that one row in Latin-1 does not garble all others
    movies = "\ufeff1::Léon::Drama\n".encode() + "2::Misérables::Drama\n".encode("latin-1")
    titles = read(tmp_path, movies_dat=movies).movies["title"].to_list()
    assert titles == ["Léon", "Misérables"]


def test_a_header_of_too_many_columns(tmp_path: Path) -> None:
    wide = "userId,movieId,rating," + "a," * 50_000 + "\n1,2,3\n"
    with pytest.raises(InputError, match=r"row 1: the header has more than 100,000 bytes"):
        read(tmp_path, own=True, ratings_csv=wide)


def test_blanks_and_quotation_marks_around_ratings(tmp_path: Path) -> None:
    found = read(tmp_path, ratings_csv=f"{HEADER} 1, 2 , 4.0, 5 \n")
    assert rows(found) == [(1, 2, 4.0, 5)]
    header = '"userId","movieId","note","rating","timestamp"\n'
    ratings = f'{header}"a, ""b""","2","well, ""good""","3.5","4"\nc,2,{LONG},3.5,4\n'
    assert rows(read(tmp_path, own=True, ratings_csv=ratings)) == [
        ('a, "b"', 2, 3.5, 4),
        ("c", 2, 3.5, 4),
    ]
    ratings = '"ann"::7::5::0\n"bo::7::4::0\ncy::7::3::0\n'  # outside csv they mean nothing
    assert [user for user, *_ in rows(read(tmp_path, own=True, ratings_dat=ratings))] == [
        '"ann"', '"bo', "cy",
    ]  # fmt: skip


@pytest.mark.parametrize("odd", ["007", "x7", "7.0"])
def test_ids_stay_text_where_a_number_would_lose_something(tmp_path: Path, odd: str) -> None:
    """Both tables get the same type of id, whichever of them holds the odd one."""
    movies = f"{MOVIES}2,Jumanji,Adventure\n{odd},Sabrina,Comedy\n"
    ratings = f"{HEADER}1,2,4,5\n"
    tables = read(tmp_path, own=True, ratings_csv=ratings, movies_csv=movies)
    assert rows(tables) == [(1, "2", 4.0, 5)]
    assert tables.movies["movie_id"].to_list() == ["2", odd]
    ratings += f"1,{odd},4,5\n"
    tables = read(tmp_path, own=True, ratings_csv=ratings, movies_csv=f"{MOVIES}2,Jumanji,\n")
    assert [movie for _, movie, *_ in rows(tables)] == ["2", odd]
    assert tables.movies["movie_id"].to_list() == ["2"]


BAD_FIELDS = [
    ("1\t2\tfour\t5", "rating is 'four'; allowed: a number from 0.5 to 5"),
    ("1\t2\tNaN\t5", "rating is 'NaN'"),
    ("1\t2\tinf\t5", "rating is 'inf'"),
    ("1\t2\t\t5", "rating is ''"),
    ("1\t2\t5.5\t5", "rating is '5.5'"),
    ("1\t2\t0\t5", "rating is '0'"),
    ("-1\t2\t4\t5", "user_id is '-1'; allowed: a whole number of 0 or more"),
    ("1\t2.0\t4\t5", "movie_id is '2.0'"),
    ("1\tTitanic\t4\t5", "movie_id is 'Titanic'"),
    ("\t2\t4\t5", "user_id is ''"),
    ("\ufeff1\t2\t4\t5", "user_id is '\\ufeff1'"),
    ("99999999999999999999\t2\t4\t5", "user_id is '99999999999999999999'"),
    ("1\t2\t4\t5.5", "timestamp is '5.5'; allowed: a whole number from 0"),
    ("1\t2\t4\t-5", "timestamp is '-5'"),
    ("1\t2\t4\t978300760000", "timestamp is '978300760000'"),
    ("1\t2\t4\t", "timestamp is ''"),
    ("1\t2\t" + "9" * 200_000 + "x\t5", f"rating is '{'9' * 100}...'; allowed: a number"),
    ("1\t2\t\u00a04\t5", "rating is '\\xa04'"),
    ("1\t2\t4\t\r5", "'{}' holds the control character '\\r'"),
    ("1\t2\0\t4\t5", "'{}' holds the control character '\\x00'"),
    ("1\t2\t4", "'{}' has 3 fields"),
    ("1\t2\t4\t5\t6", "'{}' has 5 fields"),
    ("1\t2\t4\t57\t8\t9\t3", "'{}' has 7 fields"),
    ("1 2 4 5", "'{}' has 1 fields"),
]


@pytest.mark.parametrize(("bad", "message"), BAD_FIELDS)
def test_a_bad_rating_is_named(tmp_path: Path, bad: str, message: str) -> None:
    for name, mark, header in (
        ("ratings.csv", ",", HEADER),
        ("ratings.dat", "::", ""),
        ("u.data", "\t", ""),
    ):
        lines = ["5\t6\t3.5\t100", "", bad, "5\t6\t-1\t100"]
        ratings = header + "".join(line.replace("\t", mark) + "\n" for line in lines)
        with pytest.raises(InputError) as error:
            read(tmp_path, **{name.replace(".", "_"): ratings})
        row, shown = 4 if header else 3, repr(bad.replace("\t", mark))[1:-1]
        assert str(error.value).startswith(f"{name}, row {row}: {message.replace('{}', shown)}")


NOTED = f"{HEADER[:-1]},note\n1,2,3.5,4,x\n"
LONG = f'"{"x" * 200_000}"'
ITEMS = SAMPLES["u.item"]
BAD_FILES = [
    ("ratings.dat", "1::2::4::5\n1::2::4::57:8", "row 2: timestamp is '57:8'; allowed"),
    ("ratings.dat", "1::2::4::5\n1::2:::4::5", "row 2: rating is ':4'; allowed"),
    # A quotation never takes in rows
    ("ratings.csv", f'{NOTED}1,"2,3.5,4,x\n1,2,3,"4,x\n', "row 3: .* cannot be read"),
    ("ratings.csv", f'{NOTED}"1"x,2,3.5,4,x\n1,2,3,4,x', "row 3: .* cannot be read"),
    ("ratings.csv", f'{NOTED}1,2,3.5,4,"\n1,2,3,4,x', "row 3: .* cannot be read"),
    ("ratings.csv", f'{NOTED}1,2,3.5,4,"a, b"\n1,2,3.5,4', "row 4: '1,2,3.5,4' has 4 fields"),
    ("ratings.csv", f"{NOTED}1,2,3.5,4,{LONG}\n1,2,9,4,{LONG}", "row 4: rating is '9'"),
    ("ratings.csv", f'{HEADER[:-1]},"note\n1,2,3.5,4,"\n', "row 1: '.*' must be the header"),
    ("movies.csv", f'{MOVIES}2,"Heat\n4,Babe",Drama\n', "row 2: '2,\"Heat' cannot be read"),
    ("movies.csv", f'{MOVIES[:-1]},"note\n2,Babe",Drama,"\n', "row 1: '.*' must be the header"),
    # Headers and empty files
    ("ratings.csv", "", "is empty"),
    ("ratings.csv", "\r\n\r\n", "starts with an empty row"),
    ("ratings.csv", HEADER, "holds no ratings"),
    ("ratings.dat", "\r\n", "holds no ratings"),
    ("movies.csv", f"{MOVIES}\n", "holds no movies"),
    ("movies.dat", "", "holds no movies"),
    ("u.genre", "", "holds no genres"),
    ("ratings.csv", "1,2,5.0,1147880044\n", "row 1: .*userId,movieId,rating,times"),
    ("ratings.csv", HEADER.replace(",", ";"), "row 1: .*userId,movieId,rating,times"),
    ("ratings.csv", HEADER.replace("rating", "stars"), "row 1: .*userId,movieId,rating,times"),
    ("ratings.csv", "userId,movieId,rating\n", "row 1: .*userId,movieId,rating,times"),
    ("ratings.csv", f"rating,{HEADER}", "row 1: .*userId,movieId,rating,times"),
    ("movies.csv", "1,Toy Story (1995),Comedy\n", "row 1: .*movieId,title,genres"),
    # Encodings and line ends
    *((name, text.encode("utf-16"), "row 1: .*UTF-") for name, text in SAMPLES.items()),
    *((name, text.encode("utf-16-le"), "row 1: .*UTF-") for name, text in SAMPLES.items()),
    ("ratings.csv", SAMPLES["ratings.csv"].replace("\n", "\r"), "row 1: .* old Mac"),
    ("movies.csv", f"{MOVIES}3,Hé,Action".encode("latin-1"), "row 2: .* byte 0xe9 is not UTF-8"),
    ("movies.csv", f"{MOVIES}3,Heat,A\r4,Babe,B", "row 2: .* holds the control character '.r'"),
    # Movies
    ("movies.csv", f"{MOVIES}3,Heat, The,Action", "row 2: '3,Heat, The,Action' has 4 fields"),
    ("movies.csv", f"{MOVIES}x,Heat,Action", "row 2: movie_id is 'x'; allowed: a whole number"),
    ("movies.csv", f"{MOVIES},Heat,Action", "row 2: movie_id is ''"),
    ("movies.csv", f"{MOVIES}2,Heat,A\n2,Babe,B\n", "rows 2 and 3: movie_id '2' stands twice"),
    ("movies.dat", "3::Heat", "row 1: '3::Heat' has 2 fields separated by '::'; allowed: 3"),
    ("movies.dat", "Heat", "row 1: 'Heat' has 1 fields"),
    ("movies.dat", "-3::Heat::Action", "row 1: movie_id is '-3'"),
    ("movies.dat", "3::Heat::Action4::Babe::Drama", "row 1: title is 'Heat::Action4::Babe'"),
    ("movies.dat", "3::He\0at::Action", "row 1: .* holds the control character '.x00'"),
    ("u.item", "3|Heat|||", r"row 1: '3\|Heat\|\|\|' has 5 fields separated by '\|'; allowed: 24"),
    ("u.item", item("3", "Heat")[:-2] + "2\n", r"row 1: the flag of genre 18 \('Western'\) is '2'"),
    ("u.item", ITEMS[:-1] + item("4", "Babe"), "row 2: .* has 47 fields"),
    ("u.item", ITEMS + item("302", "Heat"), "rows 2 and 3: movie_id '302' stands twice"),
    ("u.genre", "unknown|0\nAction\n", "row 2: 'Action' has 1 fields"),
    ("u.genre", "unknown|0\n|1\n", "row 2: name is ''"),
    ("u.genre", "unknown|0\nAction|2\n", r"row 2: 'Action\|2' must be .* here NAME\|1"),
    ("u.genre", "unknown|0\nunknown|1\n", r"row 2: 'unknown\|1' must be .* here NAME\|1"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES)
def test_a_bad_file_is_named_with_its_row(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    with pytest.raises(InputError, match=rf"^{name},? {message}"):
        read(tmp_path, **{name.replace(".", "_"): content})


@pytest.mark.parametrize(
    ("row", "message"),
    [(b"1::2\xe9::4::5", "byte 0xe9 is not UTF-8 text"), (b"1::2::44::5", "rating is '44'")],
)
def test_a_bad_row_far_down_is_found(tmp_path: Path, row: bytes, message: str) -> None:
    ratings = b"1::2::4::5\n" * 400_000 + row + b"\n" + b"1::2::4::5\n" * 1000
    with pytest.raises(InputError, match=rf"row 400001: .*{message}"):
        read(tmp_path, ratings_dat=ratings)


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
def test_a_bad_rating_of_ones_own(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"^ratings\.csv, row 3: {message}"):
        read(tmp_path, own=True, ratings_csv=f"userId,movieId,rating\nbo,2,4\n{row}\n")
