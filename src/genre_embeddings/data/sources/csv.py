"""Read text tables, check every line, and name the first bad one.

Polars reads the lines, cuts them at the mark, and checks what the fields hold, all in one pass. A
row is one line of text without control characters. Blank lines, a byte order mark, Windows line
ends, and blanks around ids and numbers are allowed.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import polars as pl

from genre_embeddings.data.sources.archive import File
from genre_embeddings.data.sources.base import shown
from genre_embeddings.errors import InputError

IDS = ("user_id", "movie_id")
LATEST = 32_503_680_000
"""Seconds from 1970 to the year 3000; larger numbers are milliseconds."""

# Characters that text does not hold, damage does, and a terminal obeys; a tab is none of them.
_CONTROL = r"[\x00-\x08\x0a-\x1f\x7f]"
# Text that Int64 holds without loss: "007" and "7" may be two different books.
WHOLE = r"^ *(0|[1-9][0-9]{0,17}) *$"
MISSING = r"^\s*(?i:nan|<na>|null|\\N)?\s*$"
"""Text of an id that is missing, as other programs write it."""
# A negative number; a byte order mark within text is invisible, and would make two ids of one.
NO_ID = r"^ *-[0-9]+ *$|\ufeff"
_QUOTED_FIELD = r"""("(?:[^"]|"")*"|[^",][^,]*|)"""
_QUOTED_ROW = f"^{_QUOTED_FIELD}(,{_QUOTED_FIELD})*$"
_CUT = "\x1f"
"""Separates fields in place of the mark, where fields may hold the mark. No field has it."""
LONGEST_HEADER = 100_000
"""Bytes of a csv file's header; each column costs memory before a row is read."""
RARE = frozenset((b'"', b" ", b"-"))
"""Characters that few files hold. Fields are searched for them only if the file has them: for 4
million ratings this takes 2.2 s of CPU time instead of 6.1."""

_MOMENT = r"^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.\d+)?"
_NAMES = {"user_id": "userId", "movie_id": "movieId", "tag_id": "tagId"}
"""Our names of columns, and those of MovieLens; a header may have either."""


class Rule(NamedTuple):
    """What a field may hold.

    Attributes:
        value: makes a value of the field's text, given which characters of `RARE` the file holds;
            null where the text is not allowed.
        meaning: what is allowed, in words.
        remedy: what to do about another text, as a sentence.
    """

    value: Callable[[pl.Expr, Set[bytes]], pl.Expr]
    meaning: str
    remedy: str = "Correct the row or delete it."


def text(pattern: str, meaning: str) -> Rule:
    """Text in which a regular expression matches."""
    return Rule(lambda field, _: pl.when(field.str.contains(pattern)).then(field), meaning)


def text_without(pattern: str, meaning: str) -> Rule:
    """Text in which a regular expression does not match."""
    return Rule(lambda field, _: pl.when(~field.str.contains(pattern)).then(field), meaning)


ANY = Rule(lambda field, _: field, "text")
WHOLE_ID = text(WHOLE, "a whole number of 0 or more")
ANY_ID = text_without(f"{MISSING}|{NO_ID}", f"{WHOLE_ID.meaning}, or text that is not empty")


def number(low: float, high: float, words: Sequence[str] = ()) -> Rule:
    """A number within two bounds; or one of the words, in lower case, which are read as NaN."""

    def value(field: pl.Expr, rare: Set[bytes]) -> pl.Expr:
        bare = _without_blanks(field, rare)
        if words:
            bare = bare.str.to_lowercase().replace(words, "nan")
        found = bare.cast(pl.Float64, strict=False)
        allowed = found.is_between(low, high)
        return pl.when(allowed | found.is_nan() if words else allowed).then(found)

    return Rule(value, f"a number from {low:g} to {high:g}")


def whole_number(high: int, unit: str = "", *, dates: bool = False) -> Rule:
    """A whole number from 0; seconds may be written as a date, too."""

    def value(field: pl.Expr, rare: Set[bytes]) -> pl.Expr:
        bare = _without_blanks(field, rare)
        found = seconds(bare, dates=b"-" in rare) if dates else bare.cast(pl.Int64, strict=False)
        return pl.when(found.is_between(0, high)).then(found)

    return Rule(value, f"a whole number from 0 to {high}{unit}")


def _without_blanks(field: pl.Expr, rare: Set[bytes]) -> pl.Expr:
    return field.str.strip_chars(" ") if b" " in rare else field


def seconds(field: pl.Expr, *, dates: bool = True) -> pl.Expr:
    """Seconds since 1970 of text without blanks around it; null where it cannot be read.

    Allowed are whole seconds, and with `dates` also 2015-03-01, 2015-03-01 12:00:00 and
    2015-03-01T12:00:00.5+02:00; without an offset, a date is in UTC.
    """
    whole = field.str.replace(r"\.0+$", "").cast(pl.Int64, strict=False)
    if not dates:  # 4 million ratings take 1.5 s of CPU time less
        return whole
    date = (
        field.str.replace(r"^(\d{4}-\d\d-\d\d)$", "${1} 00:00")
        .str.replace(r"^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)$", "${1} ${2}:00")
        .str.replace(rf"{_MOMENT}(?: ?(?:Z|UTC))?$", "${1} ${2}+00:00")
        .str.replace(rf"{_MOMENT}([+-]\d\d):?(\d\d)$", "${1} ${2}${3}:${4}")
        .str.to_datetime("%Y-%m-%d %H:%M:%S%z", strict=False, time_zone="UTC")
    )
    return whole.fill_null(date.dt.epoch("s"))


@dataclass(frozen=True)
class Table:
    """A file of rows, and how it is cut into fields.

    Attributes:
        file: the file.
        mark: what separates two fields; a comma makes a csv file, with a header and quotations.
        columns: name of each field; one without a rule is not used. Of three fields separated by
            `::`, the second may begin and end with a part of the mark, as titles do with a colon.
        rules: what the fields may hold, by name.
        latin: whether a line that is not UTF-8 is Latin-1, as in old releases; the file is small.
    """

    file: File
    mark: str
    columns: Sequence[str]
    rules: Mapping[str, Rule]
    latin: bool = False

    @cached_property
    def _rare(self) -> set[bytes]:
        """Which of the characters `RARE` stand in the file."""
        with self.file.path.open("rb") as content:
            blocks = iter(lambda: content.read(2**20), b"")
            return {rare for block in blocks for rare in RARE if rare in block}

    @property
    def _quoted(self) -> bool:
        """Whether fields may stand in quotation marks."""
        return self.mark == "," and b'"' in self._rare

    def _rows(self) -> pl.LazyFrame:
        """Lines that are not blank: row (from 1), line, fields (how many), and each field."""
        line, mark, first = pl.col("line"), self.mark, pl.col("row") == 1
        if self.latin:  # line by line, so that one in Latin-1 does not garble the others
            texts = map(_old_text, self.file.path.read_bytes().split(b"\n"))
            rows = pl.LazyFrame({"line": texts}).with_row_index("row", offset=1)
        else:
            path = self.file.path
            rows = pl.scan_lines(path, row_index_name="row", row_index_offset=1, glob=False)
        if mark == ",":
            rows = rows.filter(~first)
        else:
            bare = pl.when(first).then(line.str.strip_prefix("\ufeff")).otherwise(line)
            rows = rows.with_columns(line=bare)
        cut = line
        if mark == "::" and len(self.columns) == 3:
            cut = line.str.replace("^(.*?)::(.*)::", f"${{1}}{_CUT}${{2}}{_CUT}")
            mark = _CUT
        if self._quoted:
            cut = (line + ",").str.replace_all(f"{_QUOTED_FIELD},", f"${{1}}{_CUT}")
            mark, cut = _CUT, cut.str.strip_suffix(_CUT)
        # Columns that are not ours may have any name, such as "row", or one name several times.
        names = [n if n in self.rules else f"field {at}" for at, n in enumerate(self.columns)]
        rows = rows.filter(line.str.len_bytes() > 0).with_columns(cut=cut).with_columns(
            fields=pl.col("cut").str.count_matches(mark, literal=True) + 1,
            cut=pl.col("cut").str.split_exact(mark, len(names) - 1).struct.rename_fields(names),
        ).unnest("cut")  # fmt: skip
        if self._quoted:
            bare = pl.col(names).str.replace('^"((?s:.)*)"$', "${1}").str.replace_all('""', '"')
            quoted = pl.col(names).str.starts_with('"')
            rows = rows.with_columns(pl.when(quoted).then(bare).otherwise(pl.col(names)))
        return rows

    def _values(self) -> dict[str, pl.Expr]:
        return {name: rule.value(pl.col(name), self._rare) for name, rule in self.rules.items()}

    def check(self, *also: pl.Expr) -> tuple[Any, ...]:
        """Make sure that every line that is not blank can be used.

        Args:
            also: further aggregates over the columns' values, to be had from the same pass.

        Returns:
            How many rows there are, and the values of `also`.

        Raises:
            InputError: there are no rows, or one cannot be used; it is named.
        """
        usable = (pl.col("fields") == len(self.columns)) & ~pl.col("line").str.contains(_CONTROL)
        if self._quoted:
            usable &= pl.col("line").str.contains(_QUOTED_ROW)
        usable &= pl.all_horizontal(pl.col(*self.rules).is_not_null())
        counts = self._rows().with_columns(**self._values()).select(
            pl.len().alias("rows"),
            pl.col("row").filter(~usable).min().alias("first bad row"),
            *(value.alias(f"value {n}") for n, value in enumerate(also)),
        )  # fmt: skip
        try:
            rows, bad, *values = counts.collect(engine="streaming").row(0)
        except pl.exceptions.PolarsError:  # a line is not UTF-8
            with self.file.path.open("rb") as lines:
                for row, content in enumerate(lines, start=1):
                    _text_of(content, f"{self.file.label}, row {row}")
            raise
        if not rows:
            raise InputError(f"{self.file.label} holds no rows.")
        if bad is not None:
            raise self._error(bad)
        return rows, *values

    def read(self, whole: Set[str] = frozenset()) -> pl.LazyFrame:
        """The rows of a table that was checked: row (from 1), and the columns that have a rule.

        Args:
            whole: names of the columns of ids that are whole numbers in all rows; the others are
                text, without blanks around it.
        """
        values = self._values()
        for name in set(IDS) & self.rules.keys():
            text = pl.col(name)
            # What is no number is missing: the check lets nothing else pass.
            values[name] = (
                _without_blanks(text, self._rare).cast(pl.Int64, strict=False)
                if name in whole
                else text.str.strip_chars()
            )
        return self._rows().select("row", **values)

    def _error(self, row: int) -> InputError:
        """What is wrong with a row."""
        bad = self._rows().filter(pl.col("row") == row).collect()
        found, place = bad.row(0, named=True), f"{self.file.label}, row {row}"
        line, columns = _text_of(f"{found['line']}\r\n".encode(), place), len(self.columns)
        if self._quoted and not re.match(_QUOTED_ROW, line):
            return InputError(
                f"{place}: {shown(line)} cannot be read. A quotation mark that opens a field "
                'closes it in the same row, and those inside are doubled: "".'
            )
        if found["fields"] != columns:
            fields = found["fields"] if self._quoted else line.count(self.mark) + 1
            hint = "A field with a comma needs quotation marks. " if self.mark == "," else ""
            return InputError(
                f"{place}: {shown(line)} has {fields} fields separated by {self.mark!r}; "
                f"allowed: {columns}. {hint}Correct the row or delete it."
            )
        values = bad.select(**self._values()).row(0, named=True)
        name = next(name for name, value in values.items() if value is None)
        rule = self.rules[name]
        return InputError(
            f"{place}: {name} is {shown(found[name])}; allowed: {rule.meaning}. {rule.remedy}"
        )


def csv_table(file: File, rules: Mapping[str, Rule], optional: str = "") -> Table:
    """A csv file whose header names the columns; those without a rule are not used.

    Raises:
        InputError: the first row is no header, or lacks a column that is not `optional`.
    """
    place, example = f"{file.label}, row 1", ",".join(_NAMES.get(name, name) for name in rules)
    with file.path.open("rb") as lines:
        first = lines.readline(LONGEST_HEADER + 1)
    header = _text_of(first.removeprefix(codecs.BOM_UTF8), place)
    ours = {name: our for our, name in _NAMES.items()}
    try:
        (row,) = csv.reader([header] if len(first) <= LONGEST_HEADER else [], strict=True)
        columns = [ours.get(name.strip(), name.strip()) for name in row]
    except (csv.Error, ValueError):
        columns = []
    if any(columns.count(n) > 1 or (n not in columns and n != optional) for n in rules):
        raise InputError(
            f"{place}: {shown(header)} must be the header, with the columns {example} separated "
            f"by commas, each once, in at most {LONGEST_HEADER:,} bytes. Put that line on top of "
            "the file, or rename the columns."
        )
    return Table(file, ",", columns, {n: rule for n, rule in rules.items() if n in columns})


def _text_of(line: bytes, place: str) -> str:
    """The text of a line without its end.

    Raises:
        InputError: it is not UTF-8, or holds control characters.
    """
    line = line.removesuffix(b"\n").removesuffix(b"\r")
    try:
        decoded = line.decode()
    except UnicodeDecodeError as error:
        raise InputError(
            f"{place}: {shown(line.decode(errors='replace'))} cannot be read: byte "
            f"{line[error.start]:#04x} is not UTF-8 text. Save the file as UTF-8."
        ) from None
    if found := re.search(_CONTROL, decoded):
        raise InputError(
            f"{place}: {shown(decoded)} holds the control character {found[0]!r}; allowed: text. "
            "The file is damaged, or saved as UTF-16 or with the line ends of an old Mac: "
            "get it again, or save it as UTF-8."
        )
    return decoded


def _old_text(line: bytes) -> str:
    """The text of a line, without its end, that is UTF-8 or else Latin-1."""
    line = line.removesuffix(b"\r")
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("latin-1")
