"""Read large text tables, check every line, and name the first bad one.

Polars scans the file twice. The first pass counts the lines and checks their shape, the second
checks what the fields hold and finds the first bad row. An error message then quotes that row from
the file itself. A row is one line of UTF-8 text without control characters. Blank lines, a byte
order mark and Windows line ends are allowed.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import polars as pl

from genre_embeddings.data.sources.archive import File
from genre_embeddings.data.sources.base import shown
from genre_embeddings.errors import InputError

CONTROL = r"[\x00-\x08\x0a-\x1f\x7f]"
"""Characters that text does not hold, damage does, and a terminal obeys; a tab is none of them."""

# Text that Int64 holds without loss: "007" and "7" may be two different books.
WHOLE = r"^ *(0|[1-9][0-9]{0,17})$"
_NEGATIVE = r"^ *-[0-9]+ *$"
_QUOTED = '"(?:[^"]|"")*"'
_QUOTED_FIELD = f'(?:^|,)({_QUOTED}|[^",]*)'
_QUOTED_ROW = f'^({_QUOTED}|[^",]*)(,({_QUOTED}|[^",]*))*$'


@dataclass(frozen=True)
class Rule:
    """What a field may hold, for Polars and in words.

    Attributes:
        dtype: the type as which Polars reads the field.
        usable: whether Polars's value is allowed; null where Polars could not read one.
        meaning: what is allowed.
    """

    dtype: pl.DataType
    usable: Callable[[pl.Expr], pl.Expr]
    meaning: str

    def allows(self, text: str) -> bool:
        """Whether one value is allowed; the csv reader reads it as it reads a whole column."""
        if not text:
            return False
        field = pl.read_csv(
            f"field\n{text}".encode(),
            separator="\x1f",  # a control character, which no field may hold
            quote_char=None,
            schema={"field": self.dtype},
            ignore_errors=True,
        )
        return field.select(self.usable(pl.col("field"))).item() is True


WHOLE_ID = Rule(pl.String(), lambda field: field.str.contains(WHOLE), "a whole number of 0 or more")
# A byte order mark within text is invisible, and would make two ids of one.
_NO_ID = f"{_NEGATIVE}|\ufeff"
ANY_ID = Rule(
    pl.String(),
    lambda field: field.str.contains(r"\S") & ~field.str.contains(_NO_ID),
    "a whole number of 0 or more, or text that is not empty",
)


def number(low: float, high: float, source: str = "") -> Rule:
    """A number within two bounds, which come from `source`."""
    meaning = f"a number from {low:g} to {high:g}{source}"
    return Rule(pl.Float64(), lambda field: field.is_between(low, high), meaning)


def whole_number(high: int, unit: str = "") -> Rule:
    """A whole number from 0."""
    meaning = f"a whole number from 0 to {high}{unit}"
    return Rule(pl.Int64(), lambda field: field.is_between(0, high), meaning)


@dataclass(frozen=True)
class Table:
    """A file of rows, and how it is cut into fields.

    Attributes:
        file: the file.
        holds: what its rows are.
        separator: the one character at which Polars cuts.
        mark: what parts two fields for a reader of the file.
        columns: name of each field as Polars cuts it; "" for one that is not used.
        rules: what the fields may hold, by name.
        header: whether the first row is a header.
    """

    file: File
    holds: str
    separator: str
    mark: str
    columns: tuple[str, ...]
    rules: Mapping[str, Rule]
    header: bool = False

    @cached_property
    def fields(self) -> list[str]:
        """Columns as a reader of the file sees them."""
        return [name for name in self.columns if name or len(self.mark) == 1]

    @cached_property
    def quoted(self) -> bool:
        """Whether fields may stand in quotation marks."""
        if self.mark != ",":
            return False
        with self.file.path.open("rb") as content:
            return any(b'"' in block for block in iter(lambda: content.read(2**20), b""))

    @cached_property
    def skipped(self) -> int:
        """Lines before the first row: the header and blank ones, at which Polars would stumble."""
        count = 0
        with self.file.path.open("rb") as lines:
            for number, line in enumerate(lines):
                if number or not self.header:
                    mark = b"" if number else codecs.BOM_UTF8
                    if line.removeprefix(mark).removesuffix(b"\n").removesuffix(b"\r"):
                        break
                count += 1
        return count

    def scan(self, dtypes: Mapping[str, pl.DataType], lenient: bool = False) -> pl.LazyFrame:
        """All fields, as text where `dtypes` does not say otherwise; a blank line is all null.

        If `lenient`, a value that is not of its type is null; otherwise it is an error.

        The column `row` counts the lines of the file from 1.
        """
        names = [name or f"field {n}" for n, name in enumerate(self.columns)]
        return pl.scan_csv(
            self.file.path,
            separator=self.separator,
            has_header=False,
            skip_lines=self.skipped,
            quote_char='"' if self.quoted else None,
            schema={name: dtypes.get(name, pl.String()) for name in names},
            row_index_name="row",
            row_index_offset=self.skipped + 1,
            ignore_errors=lenient,
            glob=False,
        )

    def check(self, *also: pl.Expr) -> tuple[Any, ...]:
        """Make sure that every line that is not blank can be used.

        Args:
            also: further aggregates over the rows, to be had from the same pass.

        Returns:
            The values of `also`.

        Raises:
            InputError: there are no rows, or one cannot be used; it is named.
        """
        dtypes = {name: rule.dtype for name, rule in self.rules.items()}
        usable = self._usable()
        is_blank = pl.all_horizontal(pl.all().exclude("row").is_null())
        try:
            filled, misshapen, empty = self._count_lines()
            if not filled:
                raise InputError(f"{self.file.label} holds no {self.holds}.")
            if misshapen is not None:
                raise self._first_bad_row(misshapen)
            counts = self.scan(dtypes, lenient=True).select(
                usable.sum().alias("usable"),
                pl.col("row").filter(~usable & ~is_blank).min().alias("first bad row"),
                *(value.alias(f"value {n}") for n, value in enumerate(also)),
            )
            count, row, *values = counts.collect(engine="streaming").row(0)
        except pl.exceptions.PolarsError:
            raise self._first_bad_row(self._not_text()) from None
        if count != filled:
            bad = [line for line in (empty, row and row - 1) if line is not None]
            raise self._first_bad_row(min(bad, default=0))
        return tuple(values)

    def _count_lines(self) -> tuple[int, int | None, int | None]:
        """How many lines are not blank, the first misshapen row and the first empty row.

        Lines are counted from 0. An empty row has separators, but nothing between them.
        """
        number, line = pl.col("number"), pl.col("line")
        # Polars passes over a byte order mark before the first row that it reads.
        bare = line.str.strip_prefix("\ufeff")
        line = pl.when(number == self.skipped).then(bare).otherwise(line)
        if self.quoted:
            outside = line.str.replace_all(_QUOTED, "")
            misshapen = ~line.str.contains(_QUOTED_ROW)
        else:
            outside, misshapen = line, pl.lit(value=False)
        # Polars takes a field that is missing for an empty one, and may leave out one too many.
        for mark, fields in {self.mark: self.fields, self.separator: self.columns}.items():
            misshapen |= outside.str.count_matches(mark, literal=True) != len(fields) - 1
        misshapen |= line.str.contains(CONTROL)
        filled = (line.str.len_bytes() > 0) & (number >= self.skipped)
        lines = pl.scan_lines(self.file.path, row_index_name="number", glob=False)
        # Polars reads a row of empty fields as it reads a blank line: all null.
        empty = line.str.strip_chars(f'{self.separator}"') == ""
        counts = lines.select(
            filled.sum(),
            number.filter(filled & misshapen).min().alias("misshapen"),
            number.filter(filled & empty).min().alias("empty"),
        )
        return counts.collect(engine="streaming").row(0)

    def _usable(self) -> pl.Expr:
        """Whether all fields of a row hold what is allowed."""
        each = [rule.usable(pl.col(name)) for name, rule in self.rules.items()]
        return pl.all_horizontal(each).fill_null(value=False)

    def _not_text(self) -> int:
        """The first line that is no UTF-8, counted from 0, or else 0."""
        with self.file.path.open("rb") as lines:
            for number, line in enumerate(lines):
                try:
                    line.decode()
                except UnicodeDecodeError:
                    return number
        return 0

    def _first_bad_row(self, start: int) -> InputError:
        """The error for the first row that cannot be used, at or after line `start` (from 0)."""
        start = max(start, self.skipped)
        with self.file.path.open("rb") as lines:
            for row, line in enumerate(islice(lines, start, None), start=start + 1):
                line = line.removesuffix(b"\n").removesuffix(b"\r")
                if row <= self.skipped + 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                if not line:
                    continue
                place = f"{self.file.label}, row {row}"
                fields = self._cut(line, place)
                for name, value in zip(self.fields, fields, strict=True):
                    if name in self.rules and not self.rules[name].allows(value):
                        return InputError(
                            f"{place}: {name} is {shown(value)}; allowed: "
                            f"{self.rules[name].meaning}. Correct the row or delete it."
                        )
        return InputError(f"{self.file.label} cannot be read as a table of {self.holds}.")

    def _cut(self, line: bytes, place: str) -> list[str]:
        """The fields of a line, as many as there are columns."""
        text = text_of(line, place)
        fields = text.split(self.mark)
        if self.quoted and '"' in text:
            if not re.match(_QUOTED_ROW, text):
                raise InputError(
                    f"{place}: {shown(text)} cannot be read. A quotation mark that opens a field "
                    'closes it in the same row, and those inside are doubled: "".'
                )
            # Not by the csv module, which refuses fields that Polars reads: those over 131,072.
            fields = [_unquoted(field) for field in re.findall(_QUOTED_FIELD, text)]
        check_count(fields, len(self.fields), text, self.mark, place)
        if self.mark != self.separator and any(self.separator in field for field in fields):
            raise InputError(
                f"{place}: {shown(text)} holds a {self.separator!r} by itself; allowed: "
                f"{self.mark!r} between the fields, and none inside. Correct the row or delete it."
            )
        return fields


def _unquoted(field: str) -> str:
    return field[1:-1].replace('""', '"') if field.startswith('"') else field


def read_rows(file: File, old: bool) -> Iterator[tuple[int, str]]:
    """Rows of a small file that are not blank, counted from 1.

    Args:
        file: the file.
        old: whether a row that is not UTF-8 may be Latin-1, as in old releases.

    Raises:
        InputError: a row is no text.
    """
    with file.path.open("rb") as lines:
        for row, line in enumerate(lines, start=1):
            line = line.removeprefix(codecs.BOM_UTF8) if row == 1 else line
            if line := line.removesuffix(b"\n").removesuffix(b"\r"):
                yield row, text_of(line, f"{file.label}, row {row}", old)


def read_header(file: File, example: str) -> list[str]:
    """Names of the columns of a csv file, none if its first row is no row of a csv file.

    Raises:
        InputError: the first row is empty or no text; it must be as `example`.
    """
    with file.path.open("rb") as lines:
        first = lines.readline()
    line = first.removeprefix(codecs.BOM_UTF8).removesuffix(b"\n").removesuffix(b"\r")
    if not line:
        raise InputError(
            f"{file.label} {'starts with an empty row' if first else 'is empty'}: "
            f"row 1 must be the header {example}."
        )
    try:
        fields = next(csv.reader([text_of(line, f"{file.label}, row 1")], strict=True))
    except csv.Error:
        return []
    return [name.strip() for name in fields]


def check_count(fields: list[str], allowed: int, text: str, mark: str, place: str) -> None:
    """Make sure that a row has as many fields as are allowed."""
    if len(fields) != allowed:
        raise InputError(
            f"{place}: {shown(text)} has {len(fields)} fields parted by {mark!r}; "
            f"allowed: {allowed}. Correct the row or delete it."
        )


def text_of(line: bytes, place: str, old: bool = False) -> str:
    """The text of a line.

    Raises:
        InputError: it is not UTF-8 (nor, if `old`, Latin-1), or holds control characters.
    """
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        if not old:
            raise InputError(
                f"{place}: {shown(line.decode(errors='replace'))} cannot be read: byte "
                f"{line[error.start]:#04x} is not UTF-8 text. Save the file as UTF-8."
            ) from None
        text = line.decode("latin-1")
    if found := re.search(CONTROL, text):
        raise InputError(
            f"{place}: {shown(text)} holds the control character {found[0]!r}; allowed: text. "
            "The file is damaged, or saved as UTF-16 or with the line ends of an old Mac: "
            "get it again, or save it as UTF-8."
        )
    return text
