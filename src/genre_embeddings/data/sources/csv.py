"""Read large text tables, check every line, and name the first bad one.

Polars reads the lines, cuts them at the mark, and checks what the fields hold, all in one pass. A
row is one line of UTF-8 text without control characters. Blank lines, a byte order mark, Windows
line ends, and blanks around ids and numbers are allowed.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl

from genre_embeddings.data.sources.archive import File
from genre_embeddings.data.sources.base import shown
from genre_embeddings.errors import InputError

CONTROL = r"[\x00-\x08\x0a-\x1f\x7f]"
"""Characters that text does not hold, damage does, and a terminal obeys; a tab is none of them."""

# Text that Int64 holds without loss: "007" and "7" may be two different books.
WHOLE = r"^ *(0|[1-9][0-9]{0,17}) *$"
_NEGATIVE = r"^ *-[0-9]+ *$"
_QUOTED_FIELD = r"""("(?:[^"]|"")*"|[^",]*)"""
_QUOTED_ROW = f"^{_QUOTED_FIELD}(,{_QUOTED_FIELD})*$"
_CUT = "\x1f"
"""Takes the place of the commas between fields that may be quoted: no field holds it."""


@dataclass(frozen=True)
class Rule:
    """What a field may hold, for Polars and in words.

    Attributes:
        dtype: the type of the field's value.
        usable: whether a value is allowed.
        meaning: what is allowed.
    """

    dtype: pl.DataType
    usable: Callable[[pl.Expr], pl.Expr]
    meaning: str

    def value(self, field: pl.Expr, blanks: bool = True) -> pl.Expr:
        """The value of a field of text; null where a number, in `blanks` or not, cannot be read."""
        if self.dtype == pl.String():
            return field
        return (field.str.strip_chars(" ") if blanks else field).cast(self.dtype, strict=False)

    def allows(self, text: str) -> bool:
        """Whether one field of text is allowed."""
        return pl.select(self.usable(self.value(pl.lit(text)))).item() is True


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
        mark: what separates two fields.
        columns: name of each field; "" for one that is not used.
        rules: what the fields may hold, by name.
        header: whether the first row is a header.
    """

    file: File
    holds: str
    mark: str
    columns: tuple[str, ...]
    rules: Mapping[str, Rule]
    header: bool = False

    @cached_property
    def _rare(self) -> set[bytes]:
        """Which of the characters stand in the file that cost time and that few files hold."""
        with self.file.path.open("rb") as content:
            blocks = iter(lambda: content.read(2**20), b"")
            return {rare for block in blocks for rare in (b'"', b" ") if rare in block}

    @property
    def _quoted(self) -> bool:
        """Whether fields may stand in quotation marks."""
        return self.mark == "," and b'"' in self._rare

    def _rows(self) -> pl.LazyFrame:
        """Lines that are not blank: row (from 1), line, fields (how many), and each field."""
        line, names = pl.col("line"), [name or f"field {n}" for n, name in enumerate(self.columns)]
        lines = pl.scan_lines(self.file.path, row_index_name="row", row_index_offset=1, glob=False)
        if self.header:
            lines = lines.filter(pl.col("row") > 1)
        else:
            bare = pl.when(pl.col("row") == 1).then(line.str.strip_prefix("\ufeff")).otherwise(line)
            lines = lines.with_columns(line=bare)
        mark, cut = self.mark, line
        if self._quoted:
            mark, cut = _CUT, (line + ",").str.replace_all(f"{_QUOTED_FIELD},", f"${{1}}{_CUT}")
            cut = cut.str.strip_suffix(_CUT)
        lines = lines.filter(line.str.len_bytes() > 0).with_columns(cut=cut).with_columns(
            fields=pl.col("cut").str.count_matches(mark, literal=True) + 1,
            cut=pl.col("cut").str.split_exact(mark, len(names) - 1).struct.rename_fields(names),
        )  # fmt: skip
        lines = lines.unnest("cut")
        if self._quoted:
            bare = pl.col(names).str.replace('^"((?s:.)*)"$', "${1}").str.replace_all('""', '"')
            lines = lines.with_columns(
                pl.when(pl.col(names).str.starts_with('"')).then(bare).otherwise(pl.col(names))
            )
        return lines

    def check(self, *also: pl.Expr) -> tuple[Any, ...]:
        """Make sure that every line that is not blank can be used.

        Args:
            also: further aggregates over the columns' values, to be had from the same pass.

        Returns:
            How many rows there are, and the values of `also`.

        Raises:
            InputError: there are no rows, or one cannot be used; it is named.
        """
        line = pl.col("line")
        usable = (pl.col("fields") == len(self.columns)) & ~line.str.contains(CONTROL)
        if self._quoted:
            usable &= line.str.contains(_QUOTED_ROW)
        for name, rule in self.rules.items():
            usable &= rule.usable(pl.col(name)).fill_null(value=False)
        counts = self._values().select(
            pl.len().alias("rows"),
            pl.col("row").filter(~usable).min().alias("first bad row"),
            *(value.alias(f"value {n}") for n, value in enumerate(also)),
        )
        try:
            rows, bad, *values = counts.collect(engine="streaming").row(0)
        except pl.exceptions.PolarsError:
            for _ in read_rows(self.file, old=False):
                pass  # it names the first line that is no text
            raise
        if not rows:
            raise InputError(f"{self.file.label} holds no {self.holds}.")
        if bad is not None:
            raise self._error(bad)
        return rows, *values

    def read(self, whole: Set[str]) -> pl.LazyFrame:
        """The rows of a table that was checked: row (from 1), and the columns that have a rule.

        Args:
            whole: names of the columns of ids that are whole numbers in all rows; the others are
                text, without blanks around it.
        """
        ids = [name for name, rule in self.rules.items() if rule.dtype == pl.String()]
        blanks = b" " in self._rare or not whole >= set(ids)
        bare = {name: pl.col(name).str.strip_chars() if blanks else pl.col(name) for name in ids}
        cast = [value.cast(pl.Int64) if n in whole else value for n, value in bare.items()]
        return self._values().with_columns(cast).select("row", *self.rules)

    def off(self, name: str, low: float, high: float) -> int:
        """How many rows have a number outside of two bounds, whatever else is wrong with them."""
        rows = self._values().select((~pl.col(name).is_between(low, high)).sum())
        return int(rows.collect(engine="streaming").item())

    def _values(self) -> pl.LazyFrame:
        """The rows with values in place of the texts of fields that have a rule."""
        values = (rule.value(pl.col(n), b" " in self._rare) for n, rule in self.rules.items())
        return self._rows().with_columns(values)

    def _error(self, row: int) -> InputError:
        """What is wrong with a row."""
        found = self._rows().filter(pl.col("row") == row).collect().row(0, named=True)
        line, place = found["line"], f"{self.file.label}, row {row}"
        text_of(line.encode(), place)
        if self._quoted and not re.match(_QUOTED_ROW, line):
            raise InputError(
                f"{place}: {shown(line)} cannot be read. A quotation mark that opens a field "
                'closes it in the same row, and those inside are doubled: "".'
            )
        check_count(found["fields"], len(self.columns), line, self.mark, place)
        for name in self.columns:
            if name in self.rules and not self.rules[name].allows(found[name]):
                break
        return InputError(
            f"{place}: {name} is {shown(found[name])}; allowed: {self.rules[name].meaning}. "
            "Correct the row or delete it."
        )


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


def check_count(fields: int, allowed: int, text: str, mark: str, place: str) -> None:
    """Make sure that a row has as many fields as are allowed."""
    if fields != allowed:
        raise InputError(
            f"{place}: {shown(text)} has {fields} fields separated by {mark!r}; "
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
