"""Movies and genres by name: a whole title, or a part of one.

Only the standard library is imported here, because shells ask for completions at every tab.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from difflib import get_close_matches
from functools import lru_cache
from typing import TYPE_CHECKING

from genre_embeddings.errors import InputError, plain

if TYPE_CHECKING:
    from genre_embeddings.inference.trained import Trained

LISTED = 18
"""Movies that an error lists at most; with its first and last line, it has 20 lines."""

_ARTICLE = re.compile(
    r"^(.*?), (the|an?|le|la|les|il|el|los|las|un|une|der|die|das)(?= \(|$)", re.IGNORECASE
)
_WORD = re.compile(r"\w+")
_APOSTROPHES = str.maketrans("", "", "'\N{RIGHT SINGLE QUOTATION MARK}")


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
    return " ".join(_WORD.findall(letters.translate(_APOSTROPHES)))


def matches(names: Sequence[str], text: str, parts: bool = True) -> list[int]:
    """Positions of the names that `text` may mean.

    These are the names equal to it; if there are none, those equal up to a bracket, such as the
    year; then those in which it begins a word; then those that contain it; then those that contain
    all its words. `parts` set to False stops after the second step.
    """
    wanted = fold(text)
    if not wanted:
        return [n for n, name in enumerate(names) if name.casefold() == text.strip().casefold()]
    folded = [fold(name) for name in names]
    short = [fold(name.partition(" (")[0]) for name in names]
    steps = [
        lambda n: folded[n] == wanted,
        lambda n: short[n] == wanted,
        lambda n: f" {wanted}" in f" {folded[n]}",
        lambda n: wanted in folded[n],
        lambda n: all(word in folded[n] for word in wanted.split()),
    ]
    for step in steps if parts else steps[:2]:
        if found := [n for n in range(len(names)) if step(n)]:
            return found
    return []


def begins_word(names: Sequence[str], text: str) -> bool:
    """Whether a word of one of the names begins with the text."""
    wanted = fold(text)
    return bool(wanted) and any(f" {wanted}" in f" {fold(name)}" for name in names)


def suggestion(names: Sequence[str], text: str, most: int = 3) -> str:
    """The names spelt most like `text`, as a question in brackets; empty if none is near."""
    short: dict[str, str] = {}
    for name in names:
        short.setdefault(fold(name.partition(" (")[0]), name)
    close = [repr(short[found]) for found in get_close_matches(fold(text), short, n=most)]
    return f" (did you mean {' or '.join(close)}?)" if close else ""


def find_movie(model: Trained, text: int | str, parts: bool = True) -> int:
    """The dense index of a movie by its id or its title; an id counts more than a title.

    Text that could be an id in data with whole-number ids is compared with whole titles only, and
    so is any text if `parts` is not set.

    Returns:
        The index, or -1 if the model knows no such movie.

    Raises:
        InputError: the text fits several movies.
    """
    text = str(text)
    could_be_id = model.could_be_id("movie", text)
    if could_be_id and (movie := model.find_one("movie", text)) >= 0:
        return movie
    parts &= not could_be_id or not model.movies["movie_id"].dtype.is_integer()
    return find_title(model, text, parts)


def find_title(model: Trained, text: str, parts: bool = True) -> int:
    """The dense index of a movie by its title, or by a part of it if `parts` is set.

    Returns:
        The index, or -1 if no title fits.

    Raises:
        InputError: the text fits several movies.
    """
    found = matches(model.movies["title"].to_list(), text, parts)
    if len(found) > 1:
        raise InputError(_several(model, text, found))
    return found[0] if found else -1


def unknown_movie(model: Trained, text: str) -> str:
    """The error for text that is neither an id nor a title."""
    close = suggestion(model.movies["title"].to_list(), text)
    return f"no rated movie has the id or title {text!r}{close}; {model.allowed('movie')}."


def _several(model: Trained, text: str, found: list[int]) -> str:
    """An error that lists the movies found, those with most ratings first."""
    counts = model.network.movie_counts
    found = sorted(found, key=lambda movie: -float(counts[movie]))
    rows = model.movies[found[:LISTED]].select("movie_id", "title").rows()
    width = max(len(str(movie)) for movie, _ in rows)
    lines = [
        f"{text!r} fits {len(found)} movies: give more of the title, such as the year, or the id.",
        *(f"  {plain(str(movie)):>{width}}  {plain(title)}" for movie, title in rows),
    ]
    if len(found) > LISTED:
        lines.append(f"  and {len(found) - LISTED} more with fewer ratings")
    return "\n".join(lines)
