"""How a file writes the genres of a movie: separators, lists, words for none, spellings.

A field is understood as `Action|Comedy`, `Action, Comedy`, `Action; Comedy`, `['Action', 'Comedy']`
(of Python, NumPy or JSON; also as a tuple or a set), `{Action,Comedy}` (of PostgreSQL) or
`[{"id": 28, "name": "Action"}]`. What was decided is printed on stderr.
"""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from ast import literal_eval
from collections import Counter
from collections.abc import Mapping

from genre_embeddings.data.sources.base import shown
from genre_embeddings.errors import InputError

AUTO = "auto"
MARKS = ("|", ";", ",", "\t", "｜", "；", "，", "、")  # noqa: RUF001
"""What may separate two names, the first of two that are equally frequent first."""
NONE = (
    "", "(no genres listed)", "\\n", "nan", "none", "null", "n/a", "#n/a", "<na>", "-", "?",
    "unknown",
)  # fmt: skip
"""Words for no genre, in lower case."""
LONGEST = 200
"""Characters of a name, which pictures, pages and metrics repeat."""
MOST_NAMES = 100_000
"""Different names above which the column cannot hold genres; memory is bounded by it."""

ANGLE = "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}"
"""Stands for a "<" that could begin a tag of HTML."""

# Signs that look like nothing or like others; joiners are parts of words in some scripts.
_INVISIBLE = r"[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]"
_SIGNS = str.maketrans(
    "\u2010\u2011\u2012\u2013\u2014\u2212\u2018\u2019\u02bc\u00b4`",
    "-" * 6 + "'" * 5,
    "\u200c\u200d",
)

_LIST = r"\s*(?:\[.*\]|\{.*\}|\(\s*['\"].*\))\s*$"
_QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_NAMED = rf"""['"]name['"]\s*:\s*({_QUOTED})"""


def read_genres(
    fields: Mapping[str, tuple[int, int]], separator: str, label: str
) -> dict[str, tuple[str, ...]]:
    """The genre names of each text of a genre column, without repeats.

    Names that differ in case, blanks, or the form of dashes and apostrophes only are one genre,
    spelt as most movies spell it.

    Args:
        fields: for each text the first row that has it, and how many movies have it.
        separator: what separates two names, or `auto`.
        label: the file, for messages.

    Raises:
        InputError: a text is no list of names, a name cannot be used, or there are too many.
    """
    auto, mark = separator == AUTO, separator
    if auto:
        plain = {text: fields[text][1] for text in fields if not re.match(_LIST, text)}
        joined = {m: sum(plain[text] for text in plain if m in text) for m in MARKS}
        mark = max(MARKS, key=joined.__getitem__)
        if joined[mark]:
            _say(f"{label}: genres are separated by {mark!r} (data.genre_separator: auto)")
    split: dict[str, list[str]] = {}
    count: Counter[str] = Counter()
    for text, (row, movies) in fields.items():
        place = f"{label}, row {row}"
        split[text] = split_names(text, mark, place, lists=auto)
        count.update(dict.fromkeys(split[text], movies))
        if long := next((name for name in split[text] if len(name) > LONGEST), ""):
            raise InputError(
                f"{place}: the genre {shown(long)} has {len(long):,} characters; allowed: "
                f"{LONGEST}. Correct the row, or name the text between genres in "
                "data.genre_separator."
            )
        if len(count) > MOST_NAMES:
            raise InputError(
                f"{place}: the column genres has more than {MOST_NAMES:,} different names so far: "
                "it holds something else. Put the genres there, or leave the column empty."
            )
    alike = _spellings(count, label)
    for other in (*MARKS, "/") if auto else ():
        if odd := [names[0] for names in alike if other in names[0]]:
            _say(
                f"{label}: genres with {other!r} in their name: {len(odd):,}, such as "
                f"{shown(min(odd))}; if it separates genres, set data.genre_separator to it"
            )
            break
    # DVC's page holds the names in a script, and does not escape them.
    spelt = {
        name: re.sub(r"<(?=[/!?a-zA-Z])", ANGLE, names[0]) for names in alike for name in names
    }
    return {
        text: tuple(dict.fromkeys(spelt[name] for name in names if name in spelt))
        for text, names in split.items()
    }


def _spellings(count: Counter[str], label: str) -> list[list[str]]:
    """For each genre its spellings, that of most movies first; words for no genre are left out.

    Args:
        count: how many movies have each name.
        label: the file, for messages.
    """
    none = sorted(name for name in count if name.casefold() in NONE)
    for name in [name for name in none if name.casefold() not in NONE[:2]][:3]:
        _say(f"{label}: {count[name]:,} movies have the genre {shown(name)}, read as no genre")
    alike: dict[str, list[str]] = {}
    for name in sorted(count.keys() - none, key=lambda name: (-count[name], name)):
        alike.setdefault(same(name), []).append(name)
    for first, *others in [names for names in alike.values() if len(names) > 1][:5]:
        listed = ", ".join(f"{shown(name)} ({count[name]:,})" for name in others[:5])
        _say(
            f"{label}: {listed} and {shown(first)} ({count[first]:,} movies) differ in case, "
            "blanks, dashes or apostrophes only: read as one genre"
        )
    return list(alike.values())


def split_names(text: str, mark: str, place: str, *, lists: bool = True) -> list[str]:
    """The names of one text, in order; `lists` reads a text in brackets as a list.

    Raises:
        InputError: the text is no list of names, or a name cannot be used.
    """
    if lists and re.fullmatch(r'\s*"\s*[\[{].*[\]}]\s*"\s*', text):  # quoted twice
        text = text.strip()[1:-1].replace('""', '"').replace('\\"', '"')
    if lists and re.match(_LIST, text):
        names = _list(text, place)
    else:
        names = [text] if text.strip().casefold() in NONE else text.split(mark)
    return [_clean(name, place) for name in names]


def same(name: str) -> str:
    """Equal for names that differ in case, blanks, or the form of dashes and apostrophes only."""
    plain = unicodedata.normalize("NFKC", name.translate(_SIGNS))
    return "".join(plain.casefold().split()) or name


def _list(text: str, place: str) -> list[str]:
    """The names of a list as Python, NumPy or JSON write it."""
    inner = text.strip()[1:-1]
    quoted, named = re.findall(_QUOTED, inner), re.findall(_NAMED, inner)
    if named and len(named) == inner.count("{"):
        quoted = named
    elif re.search(r"[^\s,]", re.sub(_QUOTED, "", inner)):
        if quoted or inner.lstrip()[:1] in ("'", '"', "{"):
            raise InputError(
                f"{place}: genres is {shown(text)}; allowed: names with one mark between them, or "
                "a list such as ['Drama', 'War']. Correct the row, or name the mark in "
                "data.genre_separator."
            )
        return inner.split(",")
    return [_unquoted(name) for name in quoted]


def _unquoted(text: str) -> str:
    """A string as JSON or Python write it; as it stands if it is neither."""
    for read in (json.loads, literal_eval):
        try:
            return str(read(text))
        except (ValueError, SyntaxError):
            continue
    return text[1:-1]


def _clean(name: str, place: str) -> str:
    """A name with single blanks, and without control characters or invisible ones."""
    name = " ".join(re.sub(_INVISIBLE, "", name).split())
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
        raise InputError(
            f"{place}: the genre {shown(name)} holds a control character; allowed: text. "
            "Correct the row."
        )
    return name


def _say(message: str) -> None:
    print(message, file=sys.stderr)
