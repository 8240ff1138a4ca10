"""Movies and genres by name: a whole title, or a part of one."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from difflib import get_close_matches
from functools import lru_cache

_ARTICLE = re.compile(
    r"^(.*?), (the|an?|le|la|les|il|el|los|las|un|une|der|die|das)(?= \(|$)", re.IGNORECASE
)
_APOSTROPHES = str.maketrans("", "", "'\N{RIGHT SINGLE QUOTATION MARK}")
WHOLE, WORD = 2, 3
"""Steps of `matches`: up to whole names, and up to beginnings of words."""


@lru_cache(maxsize=1 << 18)
def fold(title: str) -> str:
    """A title as titles are compared: without case, accents, punctuation and moved articles.

    "Misérables, Les (1995)" becomes "les miserables 1995".
    """
    if ", " in title:
        title = _ARTICLE.sub(r"\2 \1", title)
    letters = title.casefold()
    if not letters.isascii():
        letters = unicodedata.normalize("NFKD", letters)
        letters = "".join(c for c in letters if not unicodedata.combining(c))
    return " ".join(re.findall(r"\w+", letters.translate(_APOSTROPHES)))


def matches(names: Sequence[str], text: str, steps: int | None = None) -> list[int]:
    """Positions of the names that `text` may mean, by the first of these steps that finds any.

    1) The names equal to it; 2) those equal up to a bracket, such as the year; 3) those in which it
    begins a word; 4) those that contain it; 5) those that contain all its words.
    """
    wanted = fold(text)
    if not wanted:
        return [n for n, name in enumerate(names) if name.casefold() == text.strip().casefold()]
    folded = [fold(name) for name in names]
    short = [fold(name.partition(" (")[0]) for name in names]
    tests = [
        lambda n: folded[n] == wanted,
        lambda n: short[n] == wanted,
        lambda n: f" {wanted}" in f" {folded[n]}",
        lambda n: wanted in folded[n],
        lambda n: all(word in folded[n] for word in wanted.split()),
    ]
    for fits in tests[:steps]:
        if found := [n for n in range(len(names)) if fits(n)]:
            return found
    return []


def suggestion(names: Sequence[str], text: str, most: int = 3) -> str:
    """The names spelt most like `text`, as a question in brackets; empty if none is near."""
    short: dict[str, str] = {}
    for name in names:
        short.setdefault(fold(name.partition(" (")[0]), name)
    close = [repr(short[found]) for found in get_close_matches(fold(text), short, n=most)]
    return f" (did you mean {' or '.join(close)}?)" if close else ""
