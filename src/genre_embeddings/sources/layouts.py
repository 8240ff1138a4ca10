"""Parsers of the three layouts in which MovieLens has been published.

- *csv* (since 2015): `ratings.csv` and `movies.csv` with a header, UTF-8.
- *dat* (ml-1m, ml-10m): `ratings.dat` and `movies.dat`, fields parted by `::`.
- *item* (ml-100k): `u.data` parted by tabs, `u.item` by pipes with a 0/1 flag per genre of
  `u.genre`.

Ratings may be many, so Polars scans them: one streaming pass counts the rows that are right in
every field, and where that is not every line, a second look line by line names the first that is
wrong. Movies are few and are read into memory.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import polars as pl

from genre_embeddings.errors import InputError
from genre_embeddings.sources.archive import File
from genre_embeddings.sources.base import NO_TIME

CSV = ("ratings.csv", "movies.csv")
DAT = ("ratings.dat", "movies.dat")
ITEM = ("u.data", "u.item", "u.genre")
LAYOUTS = (CSV, DAT, ITEM)

_NO_GENRES = "(no genres listed)"
_LATEST = 32_503_680_000  # seconds: the year 3000; above it lie milliseconds
# Text that Int64 holds without loss: "007" and "7" may be two different books.
_WHOLE = r"^ *(0|[1-9][0-9]{0,17})$"
_NEGATIVE = r"^ *-[0-9]+ *$"
_NUMBER = r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_HEADERS = {
    "userId": "user_id",
    "user_id": "user_id",
    "movieId": "movie_id",
    "movie_id": "movie_id",
    "rating": "rating",
    "timestamp": "timestamp",
    "title": "title",
    "genres": "genres",
}


@dataclass(frozen=True)
class Tables:
    """Ratings and movies as `base.Source` hands them on."""

    ratings: pl.LazyFrame
    movies: pl.DataFrame
    has_time: bool


def read_tables(
    layout: tuple[str, ...], files: Mapping[str, File], scale: tuple[float, float], release: bool
) -> Tables:
    """Read and check the files of one layout.

    Args:
        layout: one of `LAYOUTS`.
        files: the layout's files by name.
        scale: lowest and highest rating allowed.
        release: whether this is a published release, whose ids are whole numbers and whose
            ratings all bear a timestamp. A user's own ids may be text, and a csv file of theirs
            may do without timestamps.

    Raises:
        InputError: a file is empty, lacks its header or a column, or a row holds something that
            cannot be used; the message names the file and the row, counted from 1.
    """
    if layout == CSV:
        table = _csv_table(files["ratings.csv"], timestamp=release)
        movies = list(_csv_movies(files["movies.csv"]))
    elif layout == DAT:
        table = _Table(
            files["ratings.dat"],
            ":",
            "::",
            ("user_id", "", "movie_id", "", "rating", "", "timestamp"),
        )
        movies = list(_dat_movies(files["movies.dat"]))
    else:
        table = _Table(files["u.data"], "\t", "\t", ("user_id", "movie_id", "rating", "timestamp"))
        movies = list(_item_movies(files["u.item"], files["u.genre"]))
    movies_file = files[layout[1]]
    _check_movies(movies, movies_file, release)
    whole_users, whole_movies, blank = _check_ratings(table, scale, release)
    whole_movies = whole_movies and all(_is_whole(movie.movie_id) for movie in movies)
    return Tables(
        ratings=_ratings_frame(table, whole_users, whole_movies, blank),
        movies=_movies_frame(movies, whole_movies),
        has_time="timestamp" in table.columns,
    )


# Ratings


@dataclass(frozen=True)
class _Table:
    """How a file of ratings is cut into fields.

    Attributes:
        file: the file.
        separator: the one character at which Polars cuts.
        mark: what parts two fields for a reader of the file.
        columns: name of each field as Polars cuts it; "" for one that is not used.
        header: whether the first row is a header.
        quoted: whether fields may stand in quotation marks.
    """

    file: File
    separator: str
    mark: str
    columns: tuple[str, ...]
    header: bool = False
    quoted: bool = False

    @property
    def fields(self) -> list[str]:
        """Columns as a reader of the file sees them."""
        return [name for name in self.columns if name or len(self.mark) == 1]

    @property
    def names(self) -> list[str]:
        """Columns as Polars cuts them, each with a name."""
        return [name or f"field {n}" for n, name in enumerate(self.columns)]

    def scan(self, dtypes: Mapping[str, pl.DataType | type[pl.DataType]]) -> pl.LazyFrame:
        """All fields, as text where `dtypes` does not say otherwise."""
        return pl.scan_csv(
            self.file.path,
            separator=self.separator,
            has_header=False,
            skip_lines=int(self.header),
            quote_char='"' if self.quoted else None,
            schema={name: dtypes.get(name, pl.String()) for name in self.names},
        )


_NUMBERS = {"rating": pl.Float64(), "timestamp": pl.Int64()}


def _csv_table(file: File, timestamp: bool) -> _Table:
    """The columns of a ratings.csv, found by its header."""
    with file.path.open("rb") as lines:
        first = lines.readline()
    needed = ["user_id", "movie_id", "rating", *(["timestamp"] if timestamp else [])]
    example = "userId,movieId,rating,timestamp"
    columns = _csv_header(first, file, needed, example)
    ours = (*needed, "timestamp")
    return _Table(
        file,
        ",",
        ",",
        tuple(name if name in ours else "" for name in columns),
        header=True,
        quoted=_holds_quotes(file),
    )


def _holds_quotes(file: File) -> bool:
    with file.path.open("rb") as content:
        return any(b'"' in block for block in iter(lambda: content.read(2**20), b""))


def _csv_header(first: bytes, file: File, needed: Iterable[str], example: str) -> list[str]:
    """Our name of each column of a csv file, "" for one that is not ours."""
    text = first.decode("utf-8-sig", errors="replace").rstrip("\r\n")
    if not text.strip():
        raise InputError(
            f"{file.label} {'starts with an empty row' if first else 'is empty'}: "
            f"row 1 must be the header {example}."
        )
    names = [_HEADERS.get(name.strip(), "") for name in next(csv.reader([text]))]
    missing = [name for name in needed if names.count(name) != 1]
    if missing or names.count("timestamp") > 1:
        raise InputError(
            f"{file.label}, row 1: {text[:100]!r} must be the header, with the columns "
            f"{example} parted by commas, each once. Put that line on top of the file, "
            "or rename the columns."
        )
    return names


def _check_ratings(
    table: _Table, scale: tuple[float, float], release: bool
) -> tuple[bool, bool, bool]:
    """Make sure that every line that is not blank is a rating that can be used.

    Returns:
        Whether all users' ids are whole numbers, whether all movies' are, and whether there are
        blank lines.
    """
    try:
        filled, misshapen = _count_lines(table)
        lines = filled - int(table.header)
        if lines <= 0:
            raise InputError(f"{table.file.label} holds no ratings.")
        if misshapen is not None:
            raise _first_bad_row(table, scale, release, misshapen)
        counts = table.scan(_NUMBERS).select(
            pl.col("rating").is_null().any().alias("blank"),
            _usable(table, scale, release).sum().alias("usable"),
            pl.col("user_id").str.contains(_WHOLE).all().alias("whole users"),
            pl.col("movie_id").str.contains(_WHOLE).all().alias("whole movies"),
        )
        blank, usable, whole_users, whole_movies = counts.collect(engine="streaming").row(0)
    except pl.exceptions.PolarsError:
        raise _first_bad_row(table, scale, release, _suspect(table, scale, release)) from None
    if usable != lines:
        raise _first_bad_row(table, scale, release, _suspect(table, scale, release))
    return whole_users, whole_movies, blank


def _count_lines(table: _Table) -> tuple[int, int | None]:
    """Lines that are not blank, and the first of them out of shape, counted from 0."""
    line = pl.col("line")
    if table.quoted:  # an open quotation mark would swallow the rows up to the next
        misshapen = line.str.count_matches('"', literal=True) % 2 == 1
    else:  # Polars takes a field that is missing for an empty one
        misshapen = line.str.count_matches(table.mark, literal=True) != len(table.fields) - 1
    filled = line.str.len_bytes() > 0
    counts = (
        pl.scan_lines(table.file.path)
        .with_row_index("number")
        .select(filled.sum(), pl.col("number").filter(filled & misshapen).min())
    )
    return counts.collect(engine="streaming").row(0)


def _suspect(table: _Table, scale: tuple[float, float], release: bool) -> int:
    """A line at or before the first bad row, counted from 0: what Polars alone can tell."""
    numbers = [
        pl.col(name).cast(dtype, strict=False)
        for name, dtype in _NUMBERS.items()
        if name in table.columns
    ]
    suspects = (
        table.scan({})
        .with_row_index("number", offset=int(table.header))
        .with_columns(numbers)
        .select(pl.col("number").filter(~_usable(table, scale, release)).min())
    )
    try:
        return suspects.collect(engine="streaming").item() or 0
    except pl.exceptions.PolarsError:
        return 0


def _usable(table: _Table, scale: tuple[float, float], release: bool) -> pl.Expr:
    """Whether all fields of a row hold what is allowed."""
    usable = pl.col("rating").is_between(*scale)
    for name in ("user_id", "movie_id"):
        usable &= pl.col(name).str.contains(_WHOLE if release else r"\S")
        usable &= ~pl.col(name).str.contains(_NEGATIVE)
    if "timestamp" in table.columns:
        usable &= pl.col("timestamp").is_between(0, _LATEST)
    return usable.fill_null(value=False)


def _first_bad_row(
    table: _Table, scale: tuple[float, float], release: bool, start: int
) -> InputError:
    """What is wrong with the first row that cannot be used, read line by line without Polars.

    The search begins at line `start`, counted from 0.
    """
    rules = _rules(scale, release)
    first = 1 + int(table.header)
    with table.file.path.open("rb") as lines:
        for row, line in enumerate(islice(lines, start, None), start=start + 1):
            if row < first or (row > first and not line.strip(b"\r\n")):
                continue
            if row == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            place = f"{table.file.label}, row {row}"
            for name, value in zip(table.fields, _cut(line, table, place), strict=False):
                if name in rules and not rules[name].allows(value):
                    return InputError(
                        f"{place}: {name} is {value!r}; allowed: {rules[name].meaning}. "
                        "Correct the row or delete it."
                    )
    return InputError(f"{table.file.label} cannot be read as a table of ratings.")


def _cut(line: bytes, table: _Table, place: str) -> list[str]:
    """The fields of a line, as many as there are columns."""
    shown = repr(line.rstrip(b"\r\n").decode("utf-8", errors="replace")[:100])
    try:
        text = line.decode().rstrip("\r\n")
        if table.quoted and '"' in text:
            fields = next(csv.reader([text], strict=True))
        else:
            fields = text.split(table.mark)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{place}: {shown} cannot be read ({error}). A row is one line of UTF-8 text, and a "
            "quotation mark that opens in it closes in it."
        ) from None
    if len(fields) != len(table.fields):
        raise InputError(
            f"{place}: {shown} has {len(fields)} fields parted by {table.mark!r}; "
            f"allowed: {len(table.fields)}. Correct the row or delete it."
        )
    return fields


@dataclass(frozen=True)
class _Rule:
    """What a field may hold, for the program and in words."""

    allows: Callable[[str], bool]
    meaning: str


def _rules(scale: tuple[float, float], release: bool) -> dict[str, _Rule]:
    low, high = scale
    return {
        "user_id": _id_rule(release),
        "movie_id": _id_rule(release),
        "rating": _Rule(
            lambda text: re.match(_NUMBER, text) is not None and low <= float(text) <= high,
            f"a number from {low:g} to {high:g}"
            + ("" if release else " (data.min_rating to data.max_rating)"),
        ),
        "timestamp": _Rule(
            lambda text: re.match(r"\s*[0-9]+$", text) is not None and int(text) <= _LATEST,
            f"whole seconds since 1970, 0 to {_LATEST}",
        ),
    }


def _id_rule(release: bool) -> _Rule:
    if release:
        return _Rule(_is_whole, "a whole number of 0 or more")
    return _Rule(
        lambda text: bool(text.strip()) and not re.match(_NEGATIVE, text),
        "a whole number of 0 or more, or text that is not empty",
    )


def _is_whole(text: str) -> bool:
    return re.match(_WHOLE, text) is not None


def _ratings_frame(
    table: _Table, whole_users: bool, whole_movies: bool, blank_lines: bool
) -> pl.LazyFrame:
    whole = {"user_id": whole_users, "movie_id": whole_movies}
    frame = table.scan(_NUMBERS | {name: pl.Int64() for name in whole if whole[name]})
    if blank_lines:
        frame = frame.filter(pl.col("rating").is_not_null())
    has_time = "timestamp" in table.columns
    return frame.select(
        *(name if whole[name] else pl.col(name).str.strip_chars() for name in whole),
        pl.col("rating").cast(pl.Float32),
        "timestamp" if has_time else pl.lit(NO_TIME, pl.Int64).alias("timestamp"),
    )


# Movies


@dataclass(frozen=True)
class _Movie:
    row: int
    movie_id: str
    title: str
    genres: list[str]


def _csv_movies(file: File) -> Iterator[_Movie]:
    """Rows of a movies.csv; titles with commas stand in quotation marks."""
    text = _text(file, old=False)
    example = "movieId,title,genres"
    first, _, _ = text.partition("\n")
    names = _csv_header(first.encode(), file, ("movie_id", "title", "genres"), example)
    movie_id, title, genres = (names.index(name) for name in ("movie_id", "title", "genres"))
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    row = 1
    try:
        for fields in rows:
            if row > 1 and fields:
                _check_fields(fields, len(names), ",", file, row)
                yield _Movie(row, fields[movie_id].strip(), fields[title], _genres(fields[genres]))
            row = rows.line_num + 1  # a title may hold a line break
    except csv.Error as error:
        raise InputError(
            f"{file.label}, row {row}: not a row of a csv file ({error}). A title with a comma "
            'or a quotation mark stands in quotation marks, and its own are doubled: "".'
        ) from None


def _dat_movies(file: File) -> Iterator[_Movie]:
    """Rows of a movies.dat; a title may hold colons and even `::`."""
    for row, line in _rows(_text(file, old=True)):
        movie_id, mark, rest = line.partition("::")
        title, last_mark, genres = rest.rpartition("::")
        if not mark or not last_mark:
            _check_fields(line.split("::"), 3, "::", file, row)
        yield _Movie(row, movie_id.strip(), title, _genres(genres))


def _item_movies(file: File, genre_file: File) -> Iterator[_Movie]:
    """Rows of a u.item: id, title, two dates, address, a 0/1 flag for each genre of u.genre."""
    names = _item_genres(genre_file)
    for row, line in _rows(_text(file, old=True)):
        fields = line.split("|")
        # Counted from the right, as a title may hold the mark.
        if len(fields) < 5 + len(names):
            _check_fields(fields, 5 + len(names), "|", file, row)
        flags = fields[-len(names) :]
        for name, flag in zip(names, flags, strict=True):
            if flag.strip() not in ("0", "1"):
                raise InputError(
                    f"{file.label}, row {row}: the flag of genre {name} is {flag!r}; allowed: 0 "
                    f"or 1, for each of the {len(names)} genres of {genre_file.label}."
                )
        title = "|".join(fields[1 : -len(names) - 3])
        genres = [
            name
            for name, flag in zip(names, flags, strict=True)
            if flag.strip() == "1" and name != "unknown"  # the release's word for no genre
        ]
        yield _Movie(row, fields[0].strip(), title, genres)


def _item_genres(file: File) -> list[str]:
    """Genre names of a u.genre, in the order of the flags."""
    names: list[str] = []
    for row, line in _rows(_text(file, old=True)):
        name, _, number = line.rpartition("|")
        if not name.strip() or name.strip() in names or number.strip() != str(len(names)):
            raise InputError(
                f"{file.label}, row {row}: {line!r} must be a new genre's name and its number "
                f"in order, here NAME|{len(names)}."
            )
        names.append(name.strip())
    if not names:
        raise InputError(f"{file.label} holds no genres; a row is NAME|NUMBER, from 0.")
    return names


def _text(file: File, old: bool) -> str:
    """A whole file of movies: UTF-8, or Latin-1 where an old release may still use that."""
    content = file.path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if old:
            return content.decode("latin-1")
        row = content[: error.start].count(b"\n") + 1
        raise InputError(
            f"{file.label}, row {row}: byte {content[error.start]:#x} is not UTF-8 text. "
            "Save the file as UTF-8."
        ) from None


def _rows(text: str) -> Iterator[tuple[int, str]]:
    """Rows that are not blank, counted from 1; `splitlines` would also cut at rarer marks."""
    for row, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield row, line.rstrip("\r")


def _genres(text: str) -> list[str]:
    """Names parted by pipes, without repeats."""
    names = (name.strip() for name in text.split("|"))
    return list(dict.fromkeys(name for name in names if name and name != _NO_GENRES))


def _check_fields(fields: list[str], allowed: int, mark: str, file: File, row: int) -> None:
    if len(fields) != allowed:
        raise InputError(
            f"{file.label}, row {row}: {mark.join(fields)[:100]!r} has {len(fields)} fields "
            f"parted by {mark!r}; allowed: {allowed}. Correct the row."
        )


def _check_movies(movies: list[_Movie], file: File, release: bool) -> None:
    """Every movie has an id of its own."""
    if not movies:
        raise InputError(f"{file.label} holds no movies.")
    rule = _id_rule(release)
    rows: dict[str, int] = {}
    for movie in movies:
        if not rule.allows(movie.movie_id):
            raise InputError(
                f"{file.label}, row {movie.row}: movie_id is {movie.movie_id!r}; "
                f"allowed: {rule.meaning}. Correct the row or delete it."
            )
        if movie.movie_id in rows:
            raise InputError(
                f"{file.label}, rows {rows[movie.movie_id]} and {movie.row}: movie_id "
                f"{movie.movie_id!r} stands twice; allowed: once. Delete one of the rows."
            )
        rows[movie.movie_id] = movie.row


def _movies_frame(movies: list[_Movie], whole: bool) -> pl.DataFrame:
    ids = [int(movie.movie_id) if whole else movie.movie_id for movie in movies]
    return pl.DataFrame(
        {
            "movie_id": pl.Series(ids, dtype=pl.Int64 if whole else pl.String),
            "title": pl.Series([movie.title for movie in movies], dtype=pl.String),
            "genres": pl.Series([movie.genres for movie in movies], dtype=pl.List(pl.String)),
        }
    )
