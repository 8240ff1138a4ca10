"""Damaged files for every source: `python -m benchmarks.robustness.fuzz --help`.

Files in exactly the released formats are damaged in many ways and go through what stage prepare
does. A plain reader, which shares no code with the library, says what is in them. An input passes
if the tables hold just the rows of the file, those left out being counted by reason, or if one
`InputError` names a file and a row that the plain reader cannot use either. All else is a
failure: another exception, a warning, rows that vanish, sound rows refused, a hang.
"""

from __future__ import annotations

import argparse
import csv
import faulthandler
import io
import multiprocessing
import os
import random
import re
import sys
import tempfile
import unicodedata
import warnings
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

os.environ.setdefault("POLARS_MAX_THREADS", "1")  # small files: more threads only wait
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

import numpy as np
from tqdm import tqdm

from benchmarks.measuring import ROOT, replace_generated
from genre_embeddings.data.sources import open_source
from genre_embeddings.data.sources.genome import genome_content, tag_similarity
from genre_embeddings.data.tables import Tables, build_tables
from genre_embeddings.errors import InputError
from genre_embeddings.settings import DataSettings, load_settings

PAGE = ROOT / "docs/results/robustness.md"
LIMIT = 20.0
"""Seconds after which an input counts as hanging."""
SCALE = {"ml-100k": (1.0, 5.0), "ml-1m": (1.0, 5.0), "folder": (1.0, 10.0)}
LATEST = 32_503_680_000  # seconds: the year 3000

NO_GENRE = {"", "(nogenreslisted)", "\\n", "nan", "none", "null", "n/a", "<na>"}

Contents: TypeAlias = dict[str, bytes]
Draw: TypeAlias = random.Random


class WrongOutcomeError(AssertionError):
    """What an input showed that must not be."""


def _genre(name: str) -> str:
    """Equal for genres that differ in case or blanks only, or by a "<" that was replaced."""
    plain = unicodedata.normalize("NFKC", name.replace("\u2039", "<"))
    return "".join(plain.casefold().split())


# Sound files

TITLES = (
    "Toy Story (1995)", "American President, The (1995)", 'Great "Performances" Cats (1998)',
    "Star Wars: Episode IV (1977)", "Misérables, Les (1995)", "Heat", "3 Ninjas: Kick Back (1994)",
)  # fmt: skip
GENRES = ("Action", "Children's", "Comedy", "Drama", "Film-Noir", "Sci-Fi")


@dataclass(frozen=True)
class Layout:
    """A kind of source.

    Attributes:
        source: `data.source`.
        names: its files, that of the ratings first and that of the movies second.
        mark: what parts two fields, for each file.
        encoding: of the text.
        text_ids: whether users and movies have names instead of numbers.
        header: whether the files begin with a header.
    """

    source: str
    names: tuple[str, ...]
    mark: tuple[str, ...]
    encoding: str = "utf-8"
    text_ids: bool = False

    @property
    def scale(self) -> tuple[float, float]:
        """Lowest and highest rating."""
        return SCALE.get(self.source, (0.5, 5.0))

    @property
    def release(self) -> bool:
        """Whether it is a published release."""
        return self.source != "folder"


_CSV, _DAT, _ITEM = (
    ("ratings.csv", "movies.csv"), ("ratings.dat", "movies.dat"), ("u.data", "u.item", "u.genre"),
)  # fmt: skip
LAYOUTS = {
    "csv": Layout("ml-latest-small", _CSV, (",", ",")),
    "ml-1m": Layout("ml-1m", _DAT, ("::", "::"), encoding="latin-1"),
    "ml-10m": Layout("ml-10m", _DAT, ("::", "::")),
    "ml-100k": Layout("ml-100k", _ITEM, ("\t", "|", "|"), encoding="latin-1"),
    "csv + genome": Layout("ml-25m", (*_CSV, "genome-scores.csv"), (",", ",", ",")),
    "own csv": Layout("folder", _CSV, (",", ","), text_ids=True),
    "own csv + genome": Layout(
        "folder", (*_CSV, "genome-scores.csv"), (",", ",", ","), text_ids=True
    ),
    "own ::": Layout("folder", _DAT, ("::", "::"), text_ids=True),
    "own u.data": Layout("folder", _ITEM, ("\t", "|", "|"), text_ids=True),
}


def sound(layout: Layout, rng: Draw, ratings: int = 14) -> Contents:
    """Files that nothing is wrong with."""
    movies = [str(n) for n in rng.sample(range(1, 4000), rng.randint(4, 9))]
    users = [str(n) for n in rng.sample(range(1, 900), rng.randint(2, 5))]
    if layout.text_ids:
        movies = [f"b{n}" if rng.random() < 0.7 else n for n in movies]
        users = [f"ann {n}" if rng.random() < 0.7 else n for n in users]
    low, high = layout.scale
    steps = [low + n / 2 for n in range(int((high - low) * 2) + 1)]
    if layout.source in ("ml-1m", "ml-100k"):
        steps = [n for n in steps if n == int(n)]
    decimals = layout.names[0] == "ratings.csv"
    rows = [
        (
            rng.choice(users),
            rng.choice(movies),
            (str if decimals else "{:g}".format)(rng.choice(steps)),
            str(rng.randint(820_000_000, 1_700_000_000)),
        )
        for _ in range(ratings)
    ]
    entries = [
        (movie, rng.choice(TITLES), sorted(rng.sample(GENRES, rng.randint(0, 3))))
        for movie in movies
    ]
    if layout.names[0] == "ratings.csv":
        return _sound_csv(layout, rng, rows, entries)
    contents = {layout.names[0]: "".join(layout.mark[0].join(row) + "\n" for row in rows)}
    if layout.names[0] == "ratings.dat":
        contents["movies.dat"] = "".join(
            f"{movie}::{title}::{'|'.join(genres) or '(no genres listed)'}\n"
            for movie, title, genres in entries
        )
    else:
        names = ("unknown", *GENRES)
        contents["u.genre"] = "".join(f"{name}|{n}\n" for n, name in enumerate(names)) + "\n"
        address = "http://us.imdb.com/M/title-exact?Heat"
        contents["u.item"] = "".join(
            f"{movie}|{title}|01-Jan-1995||{address}|"
            + "|".join(str(int(name in genres)) for name in names)
            + "\n"
            for movie, title, genres in entries
        )
    return {name: contents[name].encode(layout.encoding) for name in layout.names}


def _sound_csv(layout: Layout, rng: Draw, rows: list[Any], entries: list[Any]) -> Contents:
    tables: dict[str, list[Any]] = {
        "ratings.csv": [("userId", "movieId", "rating", "timestamp"), *rows],
        "movies.csv": [
            ("movieId", "title", "genres"),
            *((m, t, "|".join(g) or "(no genres listed)") for m, t, g in entries),
        ],
        "genome-scores.csv": [
            ("movieId", "tagId", "relevance"),
            *((m, tag, f"{rng.random():.5f}") for m, *_ in entries for tag in (1, 2, 3)),
        ],
    }
    if layout.text_ids and rng.random() < 0.5:  # files of one's own may do without times
        tables["ratings.csv"] = [row[:3] for row in tables["ratings.csv"]]
    if layout.text_ids and rng.random() < 0.5:  # and may hold other columns
        notes = ["note", *(rng.choice(("", "a, b", 'say "hi"', "plain")) for _ in rows)]
        tables["ratings.csv"] = [
            (note, *row) for note, row in zip(notes, tables["ratings.csv"], strict=True)
        ]
    contents = {}
    for name in layout.names:
        text = io.StringIO()
        end = rng.choice(("\n", "\r\n"))
        csv.writer(text, lineterminator=end).writerows(tables[name])
        contents[name] = text.getvalue().encode(layout.encoding)
    return contents


# Damage


@dataclass
class Target:
    """A file about to be damaged: its bytes, what parts its fields, and the draw."""

    data: bytes
    mark: bytes
    header: bool
    rng: Draw
    column: int | None = None
    """The column of the timestamps, where the file has one."""

    def position(self) -> int:
        """Any place between two bytes."""
        return self.rng.randint(0, len(self.data))

    def lines(self) -> list[bytes]:
        """All lines with their ends."""
        return self.data.splitlines(keepends=True) or [b""]

    def with_field(self, change: Callable[[bytes], bytes], column: int | None = None) -> bytes:
        """The file with one field of one row changed."""
        lines = self.lines()
        at = self.rng.randrange(min(self.header, len(lines) - 1), len(lines))
        body = lines[at].rstrip(b"\r\n")
        fields = body.split(self.mark)
        place = self.rng.randrange(len(fields)) if column is None else column % len(fields)
        fields[place] = change(fields[place])
        lines[at] = self.mark.join(fields) + lines[at][len(body) :]
        return b"".join(lines)

    def with_lines(self, change: Callable[[list[bytes]], list[bytes]]) -> bytes:
        """The file with the fields of every line changed."""
        bodies = [(line.rstrip(b"\r\n"), line) for line in self.lines()]
        return b"".join(
            self.mark.join(change(body.split(self.mark))) + line[len(body) :]
            for body, line in bodies
        )

    def inserted(self, piece: bytes) -> bytes:
        """The file with a piece put in somewhere."""
        at = self.position()
        return self.data[:at] + piece + self.data[at:]


def _flipped(t: Target) -> bytes:
    data = bytearray(t.data)
    for _ in range(t.rng.randint(1, 4)):
        at = t.rng.randrange(len(data))
        data[at] = t.rng.choice((data[at] ^ 1 << t.rng.randrange(8), t.rng.randrange(256)))
    return bytes(data)


def _span_lost(t: Target) -> bytes:
    at = t.position()
    return t.data[:at] + t.data[at + t.rng.randint(1, 40) :]


def _span_doubled(t: Target) -> bytes:
    at = t.position()
    return t.data[:at] + t.data[max(at - t.rng.randint(1, 60), 0) :]


def _swapped(t: Target) -> bytes:
    a, b = t.rng.randrange(4), t.rng.randrange(4)

    def swap(fields: list[bytes]) -> list[bytes]:
        if max(a, b) < len(fields):
            fields[a], fields[b] = fields[b], fields[a]
        return fields

    if t.rng.random() < 0.5:
        return t.with_lines(swap)
    lines = t.lines()
    at = t.rng.randrange(len(lines))
    body = lines[at].rstrip(b"\r\n")
    lines[at] = t.mark.join(swap(body.split(t.mark))) + lines[at][len(body) :]
    return b"".join(lines)


def _fields_lost_or_added(t: Target) -> bytes:
    more = t.rng.choice((t.mark, t.mark + b"x", b"", t.mark[:1]))
    if more:
        return t.with_field(lambda old: old + more)
    return t.data.replace(t.mark, b"", 1) if t.rng.random() < 0.5 else _span_lost(t)


def _mixed_encodings(t: Target) -> bytes:
    kind = t.rng.randrange(5)
    if kind == 0:
        text = t.data.decode("latin-1")
        return text.encode(t.rng.choice(("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8")))
    if kind == 1:
        at = t.position()
        return t.data[:at] + t.data[at:].decode("latin-1").encode("utf-16-le")
    pieces = ("é", "Ł", "東京", "\u2019", "\u00a0", "\u2028", "\u0085", "😀", "\u202e")
    codes = ("utf-8", "cp1252", "utf-16-le", "shift_jis", "cp1250")
    piece = t.rng.choice(pieces).encode(t.rng.choice(codes), errors="replace")
    return t.inserted(piece + (t.rng.choice(pieces).encode() if kind == 2 else b""))


def _control_bytes(t: Target) -> bytes:
    piece = t.rng.choice((b"\0", b"\0\0\0\0", b"\0" * 700, b"\x1b[2J", b"\x07", b"\x7f", b"\x1c"))
    if t.rng.random() < 0.2:  # what a crash leaves where blocks were never written
        at = t.position()
        return t.data[:at] + b"\0" * (len(t.data) - at)
    return t.inserted(piece) if t.rng.random() < 0.5 else t.with_field(lambda old: old + piece)


HUGE = (
    b"9223372036854775807", b"9223372036854775808", b"18446744073709551616", b"1e308", b"1e999",
    b"-1e999", b"9" * 40, b"9" * 5000, b"0." + b"1" * 400, b"1" + b"0" * 200_000, b"1e-999",
    b"999999999999999999", b"32503680000", b"32503680001",
)  # fmt: skip
ODD = (
    b"nan", b"NaN", b"inf", b"-inf", b"infinity", b"1e0", b"+4", b"4,5", b"4.", b".5", b"-0",
    b"0", b"0.0", b" 4", b"4 ", b"\t4", b"0x4", b"1_0", b"4e", b"4e0", b"4.0.0", b"--4", b"",
    b" ", b"null", b"None", b"true", b"007", "\uff14".encode(), "\u0663".encode(),
    "\ufeff4".encode(), "\u00a04".encode(), b"3.9999999999", b"1994-01-01", b'"4"', b'""', b"'4'",
)  # fmt: skip


def _one_of(values: tuple[bytes, ...]) -> Callable[[Target], bytes]:
    def change(t: Target) -> bytes:
        value = t.rng.choice(values)
        return t.with_field(lambda _: value)

    return change


def _negative(t: Target) -> bytes:
    column = t.rng.choice((0, 1, None))
    return t.with_field(lambda old: b"-" + old, column)


def _repeated(t: Target) -> bytes:
    lines = t.lines()
    first = min(t.header, len(lines) - 1)
    a, b = (t.rng.randrange(first, len(lines)) for _ in range(2))
    kind = t.rng.randrange(3)
    if kind == 0:
        lines.insert(b, lines[a])
    elif kind == 1:
        lines += lines[first:]
    else:  # another row's id
        donor = lines[a].split(t.mark)[0]
        lines[b] = t.mark.join([donor, *lines[b].split(t.mark)[1:]])
    return b"".join(lines)


def _milliseconds(t: Target) -> bytes:
    zeros, column = t.rng.choice((b"000", b"000000", b"000000000")), t.column
    if column is None:  # a file without times
        return t.data
    if t.rng.random() < 0.5:
        return t.with_field(lambda old: old + zeros, column)
    head, rest = (t.lines()[:1], t.lines()[1:]) if t.header else ([], t.lines())
    body = Target(b"".join(rest), t.mark, False, t.rng)
    return b"".join(head) + body.with_lines(
        lambda fields: [f + zeros * (n == column) for n, f in enumerate(fields)]
    )


def _quotes(t: Target) -> bytes:
    kind = t.rng.randrange(5)
    if kind == 0 and b'"' in t.data:
        at = t.rng.choice([m.start() for m in re.finditer(b'"', t.data)])
        return t.data[:at] + t.data[at + 1 :]
    if kind == 1:
        return t.with_field(lambda old: b'"' + old)
    if kind == 2:
        return t.with_field(lambda old: old + b'"')
    if kind == 3:
        return t.with_field(lambda old: b'"' + old + b'"')
    data = t.data
    for _ in range(t.rng.randint(1, 3)):
        data = Target(data, t.mark, t.header, t.rng).inserted(b'"')
    return data


def _bom(t: Target) -> bytes:
    mark = "\ufeff".encode()
    kind = t.rng.randrange(4)
    if kind == 0:
        return mark + t.data
    if kind == 1:
        return mark + mark + t.data
    if kind == 2:
        return t.rng.choice((b"\xff\xfe", b"\xfe\xff", b"\xff\xfe\0\0", mark[:2])) + t.data
    lines = t.lines()
    at = t.rng.randrange(len(lines))
    return b"".join([*lines[:at], mark, *lines[at:]])


def _line_ends(t: Target) -> bytes:
    plain = t.data.replace(b"\r\n", b"\n")
    kind = t.rng.randrange(7)
    if kind < 3:
        return plain.replace(b"\n", (b"\r\n", b"\r", b"\r\r\n")[kind])
    if kind == 3:
        ends = (b"\n", b"\r\n", b"\n\n", b"\r\n\r\n")
        return b"".join(line + t.rng.choice(ends) for line in plain.split(b"\n"))
    if kind == 4:
        return plain.removesuffix(b"\n")
    if kind == 5:
        piece = t.rng.choice((b"\r", b"\n", b"\x0b", b"\x0c", b"\n   \n", b"\n\t\n", b" "))
        return t.inserted(piece)
    return t.rng.choice((b"\n", b"\r\n", b"\n\n\n")) + plain


def _empty(t: Target) -> bytes:
    first = t.lines()[0]
    return t.rng.choice((b"", b"\n", b"\r\n\r\n", b" ", b"\xef\xbb\xbf", b"\0", first, first * 2))


def _other_file(t: Target) -> bytes:
    kind = t.rng.randrange(3)
    if kind == 0:
        return t.rng.randbytes(t.rng.randint(1, 300))
    layout = t.rng.choice(list(LAYOUTS.values()))
    other = t.rng.choice(list(sound(layout, t.rng).values()))
    if kind == 1:
        return other
    return t.data[: t.position()] + other[t.rng.randint(0, len(other)) :]


DAMAGE: dict[str, Callable[[Target], bytes]] = {
    "nothing": lambda t: t.data,
    "bytes flipped": _flipped,
    "cut off": lambda t: t.data[: t.position()],
    "bytes lost": _span_lost,
    "bytes doubled": _span_doubled,
    "columns swapped": _swapped,
    "fields lost or added": _fields_lost_or_added,
    "encodings mixed": _mixed_encodings,
    "NUL, control bytes": _control_bytes,
    "huge numbers": _one_of(HUGE),
    "odd numbers": _one_of(ODD),
    "negative ids": _negative,
    "rows or ids repeated": _repeated,
    "milliseconds": _milliseconds,
    "quotes unbalanced": _quotes,
    "byte order marks": _bom,
    "line ends": _line_ends,
    "empty": _empty,
    "another file": _other_file,
}


def damaged(layout: Layout, kind: str, rng: Draw, ratings: int = 14) -> Contents:
    """Files of which one is damaged."""
    contents = sound(layout, rng, ratings)
    name = layout.names[0] if kind == "milliseconds" else rng.choice(layout.names)
    mark = layout.mark[layout.names.index(name)].encode()
    kinds = [kind]
    if kind == "three at once":
        kinds = rng.choices([*DAMAGE][1:], k=3)
    for chosen in kinds:
        target = Target(contents[name] or b"\n", mark, name.endswith(".csv"), rng)
        if name == layout.names[0]:
            head = target.lines()[0].rstrip(b"\r\n").split(mark)
            times = [n for n, field in enumerate(head) if field == b"timestamp"]
            target.column = times[0] if times else None if target.header else 3
        contents[name] = DAMAGE[chosen](target)
    return contents


# The plain reader

_WHOLE = re.compile(r" *(0|[1-9][0-9]{0,17})")
_NUMBER = re.compile(r"[ \t]*[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_INTEGER = re.compile(r"[ \t]*[+-]?[0-9]+")
_QUOTED = re.compile('("([^"]|"")*"|[^",]*)(,("([^"]|"")*"|[^",]*))*')
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass
class Found:
    """What the plain reader finds in the files of a source.

    Attributes:
        ratings: user, movie, rating, time, in the order of the file.
        movies: title and genres by id.
        scores: relevance by movie and tag.
        faults: for each file the rows that cannot be used; 0 stands for the file as a whole.
    """

    ratings: list[tuple[str, str, float, int]] = field(default_factory=list)
    movies: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    scores: dict[tuple[str, str], float] = field(default_factory=dict)
    faults: dict[str, set[int]] = field(default_factory=dict)


class _BadRowError(Exception):
    """This row cannot be used."""


def _rows(data: bytes, old: bool = False) -> Iterator[tuple[int, str | None]]:
    """Rows that are not blank, counted from 1; None for one that is no text."""
    for row, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        line = line.removesuffix(b"\r")
        if line:
            try:
                text = line.decode()
            except UnicodeDecodeError:
                text = line.decode("latin-1") if old else "\0"
            yield row, None if _CONTROL.search(text) else text


def _id(text: str, whole: bool) -> str:
    if whole:
        if not _WHOLE.fullmatch(text):
            raise _BadRowError
    elif not text.strip() or "\ufeff" in text or re.fullmatch(r" *-[0-9]+ *", text):
        raise _BadRowError
    return text.strip()


def _number(text: str, low: float, high: float) -> float:
    if not _NUMBER.fullmatch(text) or not low <= float(text) <= high:
        raise _BadRowError
    return float(text)


def _quoted(line: str) -> list[str]:
    """Fields that may stand in quotation marks; csv.reader refuses those over 131,072."""
    fields, inside, place = [""], False, 0
    while place < len(line):
        if inside and line[place : place + 2] == '""':
            fields[-1] += '"'
            place += 1
        elif line[place] == '"':
            inside = not inside
        elif line[place] == "," and not inside:
            fields.append("")
        else:
            fields[-1] += line[place]
        place += 1
    return fields


def _names(line: str) -> list[str]:
    try:
        names = [name.strip() for name in next(csv.reader([line], strict=True))]
    except csv.Error:
        return []
    return [{"user_id": "userId", "movie_id": "movieId"}.get(name, name) for name in names]


class PlainReader:
    """Reads a source line by line, in the plainest way that the formats allow."""

    def __init__(self, layout: Layout, contents: Contents) -> None:
        self.layout, self.contents, self.found = layout, contents, Found()
        self.ratings(layout.names[0])
        if layout.names[1] == "u.item":
            self.items()
        else:
            self.movies(layout.names[1])
        if "genome-scores.csv" in layout.names:
            self.scores("genome-scores.csv")

    def table(self, name: str, needed: list[str], old: bool = False) -> Iterator[dict[str, str]]:
        """Rows by column name; a `yield` that raises marks the row as one at fault."""
        mark = self.layout.mark[self.layout.names.index(name)]
        rows = list(_rows(self.contents[name], old))
        names = list(needed)
        if name.endswith(".csv"):
            first = rows.pop(0) if rows and rows[0][0] == 1 else (0, "")
            names = _names(first[1] or "")
            if rows and rows[0][1] and name != "movies.csv":
                rows[0] = rows[0][0], rows[0][1].removeprefix("\ufeff")
            extra = names.count("timestamp") > 1 or (name.startswith("genome") and names != needed)
            if extra or any(names.count(n) != 1 for n in needed):
                for row in [1, *(row for row, line in rows if line is None)]:
                    self.fault(name, row)
                return None
        for row, line in rows:
            self.row = row
            try:
                fields = self.fields(line, mark, len(names), name)
            except _BadRowError:
                self.fault(name, row)
                continue
            yield dict(zip(names, fields, strict=True))
        if not rows:
            self.fault(name, 0)
        return None

    def fields(self, line: str | None, mark: str, count: int, name: str) -> list[str]:
        """Fields of one line."""
        if line is None:
            raise _BadRowError
        if name == "movies.dat":  # a title may end with a colon
            first, last = line.find("::"), line.rfind("::")
            fields = [line[:first], line[first + 2 : last], line[last + 2 :]]
            if last < first + 2 or "::" in fields[1]:
                raise _BadRowError
            return fields
        if name == "movies.csv":  # a title may hold a quotation mark and stand in none
            try:
                fields = next(csv.reader([line], strict=True))
            except csv.Error:
                raise _BadRowError from None
        elif mark == "," and '"' in line:
            if not _QUOTED.fullmatch(line):
                raise _BadRowError
            fields = _quoted(line)
        else:
            fields = line.split(mark)
        if len(fields) != count or (mark == "::" and any(":" in field for field in fields)):
            raise _BadRowError
        return fields

    def fault(self, name: str, row: int) -> None:
        """Note that a row cannot be used."""
        self.found.faults.setdefault(name, set()).add(row)

    def ratings(self, name: str) -> None:
        """Ratings of any layout."""
        needed = ["userId", "movieId", "rating"]
        if self.layout.release or name != "ratings.csv":
            needed.append("timestamp")
        for fields in self.table(name, needed):
            try:
                moment = fields.get("timestamp", "0")
                if not _INTEGER.fullmatch(moment) or not 0 <= float(moment) <= LATEST:
                    raise _BadRowError
                row = (
                    _id(fields["userId"], self.layout.release),
                    _id(fields["movieId"], self.layout.release),
                    float(np.float32(_number(fields["rating"], *self.layout.scale))),
                    int(moment),
                )
                self.found.ratings.append(row)
            except _BadRowError:
                self.fault(name, self.row)

    def movie(self, name: str, movie: str, title: str, genres: list[str]) -> None:
        """Note a movie."""
        try:
            movie = _id(movie.strip(), self.layout.release)
            if movie in self.found.movies:
                raise _BadRowError
            if re.search(r"[\x80-\x9f]", "".join(genres)):
                raise _BadRowError
            names = {_genre(genre) for genre in genres} - NO_GENRE
            self.found.movies[movie] = title, tuple(sorted(names))
        except _BadRowError:
            self.fault(name, self.row)

    def movies(self, name: str) -> None:
        """Movies of a movies.csv or movies.dat."""
        for fields in self.table(name, ["movieId", "title", "genres"], old=name == "movies.dat"):
            self.movie(name, fields["movieId"], fields["title"], fields["genres"].split("|"))

    def items(self) -> None:
        """Movies of a u.item with the genres of its u.genre."""
        names: list[str] = []
        for row, line in _rows(self.contents["u.genre"], old=True):
            name, _, number = (line or "").rpartition("|")
            if not name.strip() or name.strip() in names or number.strip() != str(len(names)):
                return self.fault("u.genre", row)
            names.append(name.strip())
        if not names:
            return self.fault("u.genre", 0)
        columns = ["movieId", "title", "date", "video", "address", *(f"genre {n}" for n in names)]
        for fields in self.table("u.item", columns, old=True):
            flags = {name: fields[f"genre {name}"].strip() for name in names}
            if not set(flags.values()) <= {"0", "1"}:
                self.fault("u.item", self.row)
                continue
            genres = [name for name in names if flags[name] == "1" and name != "unknown"]
            self.movie("u.item", fields["movieId"], fields["title"], genres)
        return None

    def scores(self, name: str) -> None:
        """Rows of a tag genome."""
        whole = all(_WHOLE.fullmatch(movie) for movie in self.found.movies) and all(
            _WHOLE.fullmatch(row[1]) for row in self.found.ratings
        )
        for fields in self.table(name, ["movieId", "tagId", "relevance"]):
            try:
                if not _INTEGER.fullmatch(fields["tagId"]):
                    raise _BadRowError
                tag = _number(fields["tagId"], 0, 10**9)
                key = _id(fields["movieId"], whole), str(int(tag))
                if key in self.found.scores and key[0] in self.speaking():
                    raise _BadRowError
                self.found.scores[key] = _number(fields["relevance"], 0, 1)
            except _BadRowError:
                self.fault(name, self.row)

    def speaking(self) -> set[str]:
        """Rated movies with a genre; only they have a say in the tag genome."""
        rated = {movie for _, movie, *_ in self.found.ratings}
        return {movie for movie in rated & self.found.movies.keys() if self.found.movies[movie][1]}


# The judgement

_SETTINGS = load_settings(ROOT / "params.yaml")


def settings_of(layout: Layout, folder: Path, missing: str) -> DataSettings:
    """Settings that read a layout's files from a folder."""
    low, high = layout.scale
    changes = {
        "source": layout.source, "path": str(folder), "min_rating": low, "max_rating": high,
        "missing_movies": missing, "genre_separator": "|",
    }  # fmt: skip
    return _SETTINGS.data.model_copy(update=changes)


def prepared(data: DataSettings) -> tuple[Tables, dict[str, Any] | None]:
    """What stage prepare makes, any warning being an error."""
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        warnings.simplefilter("error")
        with open_source(data, _SETTINGS.planted) as source:
            tables = build_tables(source, data)
            return tables, genome_content(source.genome, tables.movies, tables.genres)


def judge(layout: Layout, contents: Contents, folder: Path, missing: str = "keep") -> bool:
    """Whether files are parsed (True) or refused with one clear error (False).

    Args:
        layout: how the files are meant.
        contents: the files.
        folder: an empty folder for them.
        missing: `data.missing_movies`.

    Raises:
        WrongOutcomeError: neither, or wrongly.
    """
    place = folder / layout.source if layout.release else folder
    place.mkdir(exist_ok=True)
    for name, content in contents.items():
        (place / name).write_bytes(content)
    found = PlainReader(layout, contents).found
    outcome = _attempt(settings_of(layout, folder, missing))
    if isinstance(outcome, InputError):
        _check_message(str(outcome), found, missing)
        return False
    if found.faults:
        raise WrongOutcomeError(f"let in: {found.faults}")
    _check_tables(layout, *outcome, found, missing)
    return True


def judge_archive(layout: Layout, kind: str, rng: Draw, folder: Path) -> bool:
    """As `judge`, of sound files in a zip archive whose bytes are damaged."""
    contents = sound(layout, rng)
    target = Target(archive_of(layout, contents, rng.choice(PACKED)), b"PK", False, rng)
    (folder / f"{layout.source}.zip").write_bytes(DAMAGE[kind](target))
    outcome = _attempt(settings_of(layout, folder, "keep"))
    if isinstance(outcome, InputError):
        _check_readable(str(outcome))
        if ".zip" not in str(outcome):
            raise WrongOutcomeError(f"names no archive: {outcome}")
        return False
    _check_tables(layout, *outcome, PlainReader(layout, contents).found, "keep")
    return True


def _attempt(data: DataSettings) -> tuple[Tables, dict[str, Any] | None] | InputError:
    """What stage prepare makes of the files, or the error that it gives."""
    faulthandler.dump_traceback_later(LIMIT, exit=True)
    try:
        return prepared(data)
    except InputError as error:
        return error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a panic of Polars is no Exception
        raise WrongOutcomeError(f"{type(error).__name__}: {str(error)[:300]}") from error
    finally:
        faulthandler.cancel_dump_traceback_later()


def _check_readable(message: str) -> None:
    if not message.replace("\n", "").isprintable():
        raise WrongOutcomeError(f"not fit for a terminal: {message!r}")
    if len(message) > 1000:
        raise WrongOutcomeError(f"{len(message)} characters long: {message[:300]!r}")


def _check_message(message: str, found: Found, missing: str) -> None:
    _check_readable(message)
    rated = {movie for _, movie, *_ in found.ratings}
    if not found.faults:
        if missing == "error" and rated - found.movies.keys() and "no entry" in message:
            return
        if "none is left" in message and (missing == "drop" or not found.ratings):
            return
        raise WrongOutcomeError(f"refused, although nothing is wrong: {message}")
    named = re.search(
        r"([\w.-]+)(?:, rows? (\d+)(?: and (\d+))?| holds no| is empty| starts with)", message
    )
    if not named or named[1] not in found.faults:
        raise WrongOutcomeError(f"names no file at fault ({found.faults}): {message}")
    rows = {int(row) for row in named.groups()[1:] if row} or {0, 1}
    if not rows & found.faults[named[1]]:
        raise WrongOutcomeError(f"names no row at fault ({found.faults}): {message}")


def _check_tables(layout: Layout, tables: Tables, genome: Any, found: Found, missing: str) -> None:
    rows = [r for r in found.ratings if not (layout.source == "ml-100k" and int(r[0]) == 0)]
    dropped = {"user_0": len(found.ratings) - len(rows)}
    if missing == "drop":
        kept = [row for row in rows if row[1] in found.movies]
        dropped["movie_without_entry"] = len(rows) - len(kept)
        rows = kept
    latest: dict[tuple[str, str], tuple[str, str, float, int]] = {}
    for row in sorted(rows, key=lambda row: row[3]):
        latest[row[:2]] = row
    dropped["rated_again"] = len(rows) - len(latest)
    users = [str(u) for u in tables.users["user_id"]]
    movies = [str(m) for m in tables.movies["movie_id"]]
    read = sorted((users[u], movies[m], r, t) for u, m, r, t in tables.ratings.rows())
    if read != sorted(latest.values()):
        raise WrongOutcomeError(f"other ratings: {read} instead of {sorted(latest.values())}")
    counts = tables.counts["dropped"]
    if any(counts.get(reason, 0) != count for reason, count in dropped.items()):
        raise WrongOutcomeError(f"counted as dropped: {counts} instead of {dropped}")
    if tables.counts["rows_read"] != len(found.ratings):
        raise WrongOutcomeError(
            f"rows read: {tables.counts['rows_read']}, in the file {len(found.ratings)}"
        )
    names = tables.genres["name"].to_list()
    entries = {
        str(movie): (title, tuple(sorted(_genre(names[g]) for g in genres)))
        for _, movie, title, genres in tables.movies.rows()
    }
    rated = {movie for _, movie, *_ in latest.values()}
    wanted = {movie: found.movies.get(movie, (movie, ())) for movie in rated}
    if entries != wanted:
        raise WrongOutcomeError(f"other movies: {entries} instead of {wanted}")
    never = len(found.movies.keys() - rated)
    if tables.counts["movies_never_rated"] != never:
        raise WrongOutcomeError(
            f"movies never rated: {tables.counts['movies_never_rated']}, in truth {never}"
        )
    if "genome-scores.csv" in layout.names:
        _check_genome(genome, found, wanted, [_genre(name) for name in names])


def _check_genome(
    genome: Any, found: Found, movies: dict[str, tuple[str, tuple[str, ...]]], names: list[str]
) -> None:
    rows = [movie for movie in movies if movies[movie][1]]
    rows = [movie for movie in rows if any(key[0] == movie for key in found.scores)]
    tags = sorted({tag for movie, tag in found.scores if movie in rows})
    relevance = np.array([[found.scores.get((m, t), 0.0) for t in tags] for m in rows])
    table = np.array([[name in movies[movie][1] for name in names] for movie in rows])
    shape = (len(rows), len(tags)), (len(rows), len(names))
    relevance = relevance.reshape(shape[0]).astype(np.float32)
    values, known = tag_similarity(relevance, table.reshape(shape[1]).astype(bool))
    expected = [
        [round(float(v), 6) if k else None for v, k in zip(*line, strict=True)]
        for line in zip(values, known, strict=True)
    ]
    flat = [v for line in expected for v in line]
    got = [v for line in genome["similarity"] for v in line]
    if [v is None for v in flat] != [v is None for v in got] or any(
        abs(a - b) > 1e-4 for a, b in zip(flat, got, strict=True) if a is not None
    ):
        raise WrongOutcomeError(f"another genome: {genome['similarity']} instead of {expected}")


PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


def archive_of(layout: Layout, contents: Contents, packed_as: int) -> bytes:
    """The files zipped, in a folder as they are published."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", packed_as) as archive:
        for name, content in contents.items():
            # Dated, so that the bytes are the same each time.
            archive.writestr(zipfile.ZipInfo(f"{layout.source}/{name}"), content, packed_as)
    return packed.getvalue()


ARCHIVES = {"csv.zip": LAYOUTS["csv"], "ml-1m.zip": LAYOUTS["ml-1m"]}
ARCHIVE_DAMAGE = ("bytes flipped", "cut off", "bytes lost", "bytes doubled", "NUL, control bytes")


def attack(name: str, kind: str, number: int, ratings: int = 14) -> str:
    """Outcome of one input: parsed, error, or what went wrong."""
    rng = random.Random(f"{name}, {kind}, {number}")
    with tempfile.TemporaryDirectory(prefix="genre-embeddings-") as temporary:
        folder = Path(temporary)
        try:
            if name in ARCHIVES:
                return "parsed" if judge_archive(ARCHIVES[name], kind, rng, folder) else "error"
            layout = LAYOUTS[name]
            contents = damaged(layout, kind, rng, ratings)
            missing = rng.choice(("error", "drop", "keep", "keep"))
            return "parsed" if judge(layout, contents, folder, missing) else "error"
        except WrongOutcomeError as failure:
            return f"{name}, {kind}, {number}: {failure}"


def kinds_of(name: str) -> list[str]:
    """The kinds of damage that a layout or an archive gets."""
    return [*ARCHIVE_DAMAGE] if name in ARCHIVES else [*DAMAGE, "three at once"]


Job: TypeAlias = tuple[str, str, int, int]


def series(job: Job) -> tuple[int, list[str]]:
    """Clean parses of one layout and kind of damage, and all that went wrong."""
    name, kind, inputs, ratings = job
    outcomes = [attack(name, kind, number, ratings) for number in range(inputs)]
    wrong = [outcome for outcome in outcomes if outcome not in ("parsed", "error")]
    return outcomes.count("parsed"), wrong


def page(results: dict[tuple[str, str], tuple[int, int, int]]) -> str:
    """Table of (parsed, errors, failures) by layout."""
    names = list(dict.fromkeys(name for name, _ in results))
    lines = ["| files | inputs | clean parses | clear errors | failures |", "|---|---|---|---|---|"]
    for name in names:
        lines.append(_sums(name, [cell for (n, _), cell in results.items() if n == name]))
    lines.append(_sums("all", list(results.values())))
    return "\n".join(lines)


def _sums(name: str, cells: list[tuple[int, int, int]]) -> str:
    parsed, errors, failures = (sum(column) for column in zip(*cells, strict=True))
    inputs = parsed + errors + failures
    return f"| {name} | {inputs:,} | {parsed:,} | {errors:,} | {failures:,} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--inputs", type=int, default=500, help="for each layout and damage")
    parser.add_argument("--ratings", type=int, default=14, help="rows of an undamaged file")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--layouts", nargs="+", default=[*LAYOUTS, *ARCHIVES])
    parser.add_argument("--doc", action="store_true", help="write docs/results/robustness.md")
    options = parser.parse_args()
    jobs: list[Job] = [
        (name, kind, options.inputs, options.ratings)
        for name in options.layouts
        for kind in kinds_of(name)
    ]
    results: dict[tuple[str, str], tuple[int, int, int]] = {}
    # Not forked: threads of Polars do not survive that.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, mp_context=context) as pool:
        for (name, kind, inputs, _), (parsed, wrong) in zip(
            jobs, tqdm(pool.map(series, jobs), total=len(jobs), unit="series"), strict=True
        ):
            results[name, kind] = parsed, inputs - parsed - len(wrong), len(wrong)
            for outcome in wrong[:5]:
                print(outcome, file=sys.stderr, flush=True)
    print(page(results))
    if options.doc:
        replace_generated(PAGE, "fuzz", page(results))
    if any(failures for *_, failures in results.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
