"""Damaged files for every source: `python -m benchmarks.robustness.fuzz [--inputs 500]`.

One of several valid files is damaged, and all are read as stage prepare reads them. The library
passes if it reads exactly the rows that a plain reader without any of its code finds, or if one
readable `InputError` names the damaged file and a row that the damage changed.
"""

from __future__ import annotations

import argparse
import csv
import faulthandler
import io
import itertools
import os
import re
import sys
import tempfile
import unicodedata
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

os.environ.setdefault("POLARS_MAX_THREADS", "1")  # small files: more threads only wait

import numpy as np

from benchmarks.measuring import ROOT
from genre_embeddings.data.sources import open_source
from genre_embeddings.data.sources.genome import genome_content
from genre_embeddings.data.tables import build_tables
from genre_embeddings.errors import InputError
from genre_embeddings.settings import DataSettings, load_settings

LIMIT = 20.0  # seconds after which a read counts as hung
LATEST = 32_503_680_000  # seconds since 1970: the year 3000
SETTINGS = load_settings(ROOT / "params.yaml")
Contents = dict[str, bytes]
Rows = dict[str, list[Any]]


class WrongOutcomeError(AssertionError):
    """An input had an outcome that it must not have."""


class Layout(NamedTuple):
    """A kind of source: `data.source`, its files with their separators, and the rating scale."""

    source: str
    files: dict[str, str]
    low: float = 0.5
    high: float = 5.0
    zipped: bool = False  # the archive is damaged, not a file in it


_CSV, _DAT = {"ratings.csv": ",", "movies.csv": ","}, {"ratings.dat": "::", "movies.dat": "::"}
_ITEM, _GENOME = {"u.data": "\t", "u.item": "|", "u.genre": "|"}, {"genome-scores.csv": ","}
LAYOUTS = {
    "csv": Layout("ml-latest-small", _CSV),
    "ml-1m": Layout("ml-1m", _DAT, 1),
    "ml-10m": Layout("ml-10m", _DAT),
    "ml-100k": Layout("ml-100k", _ITEM, 1),
    "csv + genome": Layout("ml-25m", _CSV | _GENOME),
    "own csv": Layout("folder", _CSV, 1, 10),
    "own csv + genome": Layout("folder", _CSV | _GENOME, 1, 10),
    "own ::": Layout("folder", _DAT, 1, 10),
    "own u.data": Layout("folder", _ITEM, 1, 10),
    "csv.zip": Layout("ml-latest-small", _CSV, zipped=True),
    "ml-1m.zip": Layout("ml-1m", _DAT, 1, zipped=True),
}
TITLES = ('Great "Performances", The (1998)', "Star Wars: Episode IV", "Misérables, Les (1995)")
OWN_TITLES = (*TITLES, " 東京\t", "", "{{x}} $1 '")
GENRES = ("unknown", "Action", "Children's", "Comedy", "Drama", "Film-Noir", "Sci-Fi")
NO_GENRE = {"", "(nogenreslisted)", "\\n", "nan", "none", "null", "n/a", "#n/a", "<na>", "-", "?",
            "unknown"}  # fmt: skip
RATINGS, MOVIES, SCORES = "ratings", "movies", "scores"
COLUMNS = {
    RATINGS: ["userId", "movieId", "rating", "timestamp"],
    MOVIES: ["movieId", "title", "genres"],
    SCORES: ["movieId", "tagId", "relevance"],
}
KIND = {
    "ratings.csv": RATINGS, "ratings.dat": RATINGS, "u.data": RATINGS, "movies.csv": MOVIES,
    "movies.dat": MOVIES, "u.item": MOVIES, "genome-scores.csv": SCORES,
}  # fmt: skip
OLD = ("movies.dat", "u.item", "u.genre")
"""Files that may be Latin-1."""


def sound(layout: Layout, rng: Random) -> Contents:
    """Valid files."""
    own = layout.source == "folder"  # ids may be text, times may lack, columns may be added

    def ids(name: str, count: int) -> list[str]:
        numbers = rng.sample(range(1, 4000), count)
        return [f"{name}{n}" if own and rng.random() < 0.7 else str(n) for n in numbers]

    def rating() -> list[str]:
        return [rng.choice(users), rng.choice(movies), f"{layout.low + rng.randrange(5):g}"]

    users, movies = ids("ann ", 4), ids("b", 7)
    ratings = [[*rating(), str(10**9 + n)] for n in range(14)]
    titles = OWN_TITLES if own and "u.item" not in layout.files else TITLES
    entries = [(m, rng.choice(titles), rng.sample(GENRES[1:], rng.randint(0, 3))) for m in movies]
    tables: dict[str, list[Any]] = {
        RATINGS: ratings,
        MOVIES: [(m, title, "|".join(of) or "(no genres listed)") for m, title, of in entries],
        SCORES: [(m, tag, f"{rng.random():.5f}") for m in movies for tag in (1, 2, 3)],
        "u.item": [
            (m, title, "01-Jan-1995", "", "http://x", *(str(int(g in of)) for g in GENRES))
            for m, title, of in entries
        ],
        "u.genre": [(name, str(n)) for n, name in enumerate(GENRES)],
    }
    headers = COLUMNS | {"ratings.csv": ["note", *COLUMNS[RATINGS][:3]]}
    if own and rng.random() < 0.5:
        notes = ("", "a, b", 'say "hi"')
        tables["ratings.csv"] = [[rng.choice(notes), *row[:3]] for row in ratings]
    contents, end = {}, rng.choice(("\n", "\r\n"))
    for name, mark in layout.files.items():
        text, key = io.StringIO(), name if name in tables else KIND[name]
        if mark == ",":
            dialect = rng.choice((csv.excel, csv.unix_dialect))  # the second quotes all fields
            writer = csv.writer(text, dialect, lineterminator=end)
            writer.writerows([headers[key], *tables[key]])
        else:
            text.writelines(mark.join(row) + "\n" for row in tables[key])
        old = layout.source in ("ml-1m", "ml-100k")
        contents[name] = text.getvalue().encode("latin-1" if old else "utf-8")
    return contents


PIECES = (
    b"9223372036854775808", b"1e308", b"-1e999", b"1" + b"0" * 100_000, b"32503680001", b"nan",
    b"-inf", b"1e0", b"+4", b"4,5", b".5", b"-0", b" 4", b"4 ", b"0x4", b"1_0", b"4.0.0", b"", b" ",
    b"null", b"007", b"-7", b"1994-01-01", b'"', b'""', b'"4"', b'b"', b",", b":", b"::", b"|",
    b"\t", b"\r", b"\n", b"\n  \n", b"\0" * 700, b"\x1b[2J", b"\x7f", b"\x1c", b"\xff\xfe", b"\xe9",
    *map(str.encode, ("\ufeff", "\u2028", "\u0085", "\u202e", "\uff14", "\u0663", "\u00a04", "é")),
)  # fmt: skip


def _bytes(data: bytes, _mark: bytes, rng: Random) -> bytes:
    """Some bytes flipped, lost (perhaps all up to the end), repeated, set to zero or inserted."""
    at, length = rng.randint(0, len(data)), rng.choice((*range(1, 40), len(data)))
    old = data[at : at + length]
    flipped = bytes(byte ^ (1 << rng.randrange(8) if rng.random() < 0.1 else 0) for byte in old)
    new = rng.choice((b"", old * 2, bytes(len(old)), flipped, rng.choice(PIECES) + old))
    return data[:at] + new + data[at + length :]


def _fields(data: bytes, mark: bytes, rng: Random) -> bytes:
    """A field replaced, extended or quoted, in one row or in all."""
    lines = data.splitlines(keepends=True) or [b""]
    chosen = rng.choice((range(len(lines)), [rng.randrange(len(lines))]))
    column, new, how = rng.randrange(4), rng.choice(PIECES), rng.randrange(4)
    for row in chosen:
        body = lines[row].rstrip(b"\r\n")
        fields = body.split(mark)
        old = fields[column % len(fields)]
        fields[column % len(fields)] = (new, old + new, new + old, b'"' + old + b'"')[how]
        lines[row] = mark.join(fields) + lines[row][len(body) :]
    return b"".join(lines)


def _rows(data: bytes, mark: bytes, rng: Random) -> bytes:
    """A row repeated or moved, all rows repeated, or an id taken from another row."""
    lines = data.splitlines(keepends=True) or [b""]
    a, b = rng.randrange(len(lines)), rng.randrange(len(lines))
    other = mark.join([lines[a].split(mark)[0], *lines[b].split(mark)[1:]])
    put, left = rng.choice(((lines[a], b), (other, b + 1), (lines[a], len(lines))))
    return b"".join(rng.choice(([*lines[:b], put, *lines[left:]], lines + lines[1:])))


def _whole(data: bytes, _mark: bytes, rng: Random) -> bytes:
    """The file with other line ends, in another encoding, empty, or another layout's."""
    end = rng.choice((b"\r\n", b"\r", b"\r\r\n", b"\n\n", b"\n\r\n", b" \n"))
    ends = data.replace(b"\r\n", b"\n").replace(b"\n", end)
    code = rng.choice(("utf-16", "utf-16-le", "utf-8"))
    other = rng.choice([*sound(rng.choice([*LAYOUTS.values()]), rng).values()])
    more = (b"", b" ", b"\n" + data, data[: data.find(b"\n") + 1], other, data + other)
    return rng.choice((ends, data.decode("latin-1").encode(code), rng.choice(more)))


DAMAGE: dict[str, tuple[Callable[[bytes, bytes, Random], bytes], ...]] = {
    "nothing": (),
    "bytes": (_bytes,),
    "fields": (_fields,),
    "rows": (_rows,),
    "whole file": (_whole,),
    "three at once": (_fields, _bytes, _rows),
}


def lines_of(content: bytes) -> list[tuple[int, bytes]]:
    """Lines that are not blank, with their numbers from 1."""
    lines = enumerate(content.split(b"\n"), 1)
    return [(row, text) for row, line in lines if (text := line.removesuffix(b"\r"))]


def read_plainly(layout: Layout, contents: Contents) -> Rows:
    """The rows of each kind; a ValueError or KeyError where one is invalid."""
    found: Rows = {}
    for name, mark in layout.files.items():
        if name in KIND:
            columns, rows = COLUMNS[KIND[name]], [*fields_of(name, mark, contents)]
            if mark == ",":
                alias = {"user_id": "userId", "movie_id": "movieId"}
                columns = [alias.get(field.strip(), field.strip()) for field in rows.pop(0)]
            found[KIND[name]] = [
                row_of(KIND[name], dict(zip(columns, row, strict=True)), layout) for row in rows
            ]
    return found


def fields_of(name: str, mark: str, contents: Contents) -> Iterator[list[Any]]:
    """The fields of each line; in u.item, the third is the list of genres."""
    genres: list[str] = []
    if name == "u.item":
        genres = [row[0].strip() for row in fields_of("u.genre", "|", contents)]
    for _, line in lines_of(contents[name].removeprefix(b"\xef\xbb\xbf")):
        try:
            text = line.decode()
        except UnicodeDecodeError:
            text = line.decode("latin-1" if name in OLD else "ascii")
        if re.search(r"[\x00-\x08\x0a-\x1f\x7f]", text):
            raise ValueError(f"{name} has a control character")
        fields: list[Any] = next(csv.reader([text])) if mark == "," else text.split(mark)
        if name == "movies.dat":  # a colon may end a title
            movie, _, rest = text.partition(mark)
            fields = [movie, *rest.rpartition(mark)[::2]]
        if name == "u.item":
            flags = zip(genres, fields[5:], strict=True)
            fields[2:] = [[g for g, flag in flags if flag.strip() == "1" and g != "unknown"]]
        yield fields


def row_of(kind: str, row: dict[str, Any], layout: Layout) -> tuple[Any, ...]:
    """A rating, a movie or a score."""

    def number(name: str, least: float, most: float, read: type = int) -> Any:
        if not least <= (value := read(row.get(name, 0))) <= most:
            raise ValueError(f"{name} is {value}")
        return float(np.float32(value)) if read is float else value

    ids = [row[name].strip() for name in ("userId", "movieId") if name in row]
    if len(ids) != 1 + (kind == RATINGS) or any(re.fullmatch("-[0-9]+|", one) for one in ids):
        raise ValueError(f"the ids are {ids}")
    if kind == SCORES:
        return *ids, number("tagId", 0, 10**9), number("relevance", 0, 1, float)
    if kind == RATINGS:
        rating = number("rating", layout.low, layout.high, float)
        return *ids, rating, number("timestamp", 0, LATEST)
    genres = row["genres"]
    return *ids, row["title"], folded(genres.split("|") if isinstance(genres, str) else genres)


def folded(genres: list[str]) -> list[str]:
    """Genres in lower case and without blanks, each once, and without words for no genre.

    The library also unifies dashes and apostrophes and drops all invisible characters; the damage
    here inserts two of the invisible ones and no other such sign. It writes U+2039 for some "<".
    """
    plain = (
        unicodedata.normalize("NFKC", genre.translate({0x2039: "<", 0xFEFF: "", 0x202E: ""}))
        for genre in genres
    )
    return sorted({"".join(genre.casefold().split()) for genre in plain} - NO_GENRE)


def prepared(data: DataSettings) -> Rows:
    """The rows that stage prepare reads; any warning is an error."""
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        warnings.simplefilter("error")
        with open_source(data, SETTINGS.planted) as source:
            tables = build_tables(source, data)
            genome_content(source.genome, tables.movies, tables.genres)
            counts = tables.counts
            if counts["rows_read"] != counts["ratings"] + sum(counts["dropped"].values()):
                raise WrongOutcomeError(f"ratings lost without a count: {counts}")
            ratings, movies = source.ratings.collect().rows(), source.movies.rows()
            found: Rows = {
                RATINGS: [(str(user), str(movie), *rest) for user, movie, *rest in ratings],
                MOVIES: [(str(movie), title, folded(genres)) for movie, title, genres in movies],
            }
            if source.genome is not None:
                scores = source.genome.drop("row").collect().rows()
                found[SCORES] = [(str(movie), *rest) for movie, *rest in scores]
            return found


def pack(contents: Contents, folder: str = "", method: int = 0) -> bytes:
    """A zip archive."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        for name, content in contents.items():
            archive.writestr(zipfile.ZipInfo(f"{folder}{name}"), content)
    return packed.getvalue()


def judge(layout: Layout, before: Contents, after: Contents, files: Contents, folder: Path) -> str:
    """`parsed` or `error`, the two right outcomes.

    Args:
        layout: of all files.
        before: valid files, or the archive that holds them.
        after: the same, of which one is damaged.
        files: the files that a clean parse has read.
        folder: an empty one.
    """
    place = folder if layout.zipped else folder / layout.source
    if "genome-scores.csv" in after:  # which is read from archives only
        place = place.with_suffix(".zip")
        place.write_bytes(pack(after))
    else:
        place.mkdir(exist_ok=True)
        for name, content in after.items():
            (place / name).write_bytes(content)
    data = SETTINGS.data.model_copy(
        update={
            "source": layout.source, "path": str(place), "min_rating": layout.low,
            "max_rating": layout.high, "missing_movies": "keep", "genre_separator": "|",
        }
    )  # fmt: skip
    faulthandler.dump_traceback_later(LIMIT, exit=True)
    try:
        found = prepared(data)
        expected = read_plainly(layout, files)
    except InputError as error:
        message = str(error).replace(f"{place}/", "").replace(f"{place}: ", "")
        check_message(message, layout, before, after)
        return "error"
    except (KeyboardInterrupt, WrongOutcomeError):
        raise
    except BaseException as error:  # a panic of Polars is no Exception
        # A ValueError or KeyError of the plain reader means that an invalid row was read.
        raise WrongOutcomeError(f"{type(error).__name__}: {str(error)[:300]}") from error
    finally:
        faulthandler.cancel_dump_traceback_later()
    if found != expected:
        raise WrongOutcomeError(f"other rows: {found} instead of {expected}")
    return "parsed"


def check_message(message: str, layout: Layout, before: Contents, after: Contents) -> None:
    """One readable line that names the damaged file and a row that the damage changed."""

    def require(right: Any, what: str) -> None:
        if not right:
            raise WrongOutcomeError(f"{what}: {message[:2000]!r}")

    require(message.isprintable() and len(message) <= 1000, "not readable")
    different = [name for name in after if before[name] != after[name]]
    require(different, "refused, although nothing is wrong")
    (name,) = different
    if layout.zipped:
        require(".zip" in message, "names no archive")
        return
    if "none is left" in message and name == next(iter(layout.files)):
        return
    named = re.match(r"([\w-]+\.[a-z]+)(?:, rows? (\d+)(?: and (\d+))?)?", message)
    file, at = (named[1], {int(row) for row in named.groups()[1:] if row}) if named else ("", set())
    # u.item is read by the genre names of u.genre, and the genome by the type of the movies' ids.
    if (file, name) == ("u.item", "u.genre") or (file == "genome-scores.csv" and name != file):
        return
    require(file == name, f"names not the damaged file {name}")
    old, new = lines_of(before[name]), lines_of(after[name])
    counts, known = (Counter(line for _, line in lines) for lines in (new, old))
    rows = {row for row, line in new if counts[line] != known[line]}
    # A header or the order of the genres decides about all rows below it.
    leading = name == "u.genre" or (name.endswith(".csv") and new[:1] != old[:1])
    right = at & rows or leading or (not at and (rows or len(new) < 2))
    require(right, f"names none of the changed rows {sorted(rows)}")


def attack(name: str, kind: str, number: int) -> str:
    """Outcome of one input: parsed, error, or what went wrong."""
    layout, rng = LAYOUTS[name], Random(f"{name}, {kind}, {number}")
    before = files = sound(layout, rng)
    if layout.zipped:
        packed = pack(files, f"{layout.source}/", rng.choice((0, 8, 12, 14)))
        before = {f"{layout.source}.zip": packed}
    chosen = rng.choice([*before])
    content = before[chosen]
    for change in DAMAGE[kind]:
        content = change(content, layout.files.get(chosen, "PK").encode(), rng)
    after = before | {chosen: content}
    with tempfile.TemporaryDirectory(prefix="genre-embeddings-") as folder:
        try:
            return judge(layout, before, after, files if layout.zipped else after, Path(folder))
        except WrongOutcomeError as failure:
            return f"{name}, {kind}, {number}: {failure}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--inputs", type=int, default=500, help="for each layout and damage")
    inputs = range(parser.parse_args().inputs)
    total: Counter[str] = Counter()
    for name in LAYOUTS:
        found = Counter(itertools.starmap(attack, itertools.product([name], DAMAGE, inputs)))
        wrong = sorted(found.keys() - {"parsed", "error"})
        line = f"{name}: {found['parsed']} clean parses, {found['error']} clear errors"
        print(line, *wrong[:5], sep="\n", flush=True)
        total += found
    print(f"{total.total():,}: {total['parsed']:,} clean parses, {total['error']:,} clear errors")
    if total.keys() - {"parsed", "error"}:
        sys.exit("error: the inputs above fail")


if __name__ == "__main__":
    main()
