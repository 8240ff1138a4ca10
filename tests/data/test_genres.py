"""Genres in the notations of real files: understood, or the problem is named."""

import pytest

from genre_embeddings.data.sources.genres import ANGLE, read_genres
from genre_embeddings.data.tables import build_tables
from genre_embeddings.errors import InputError
from genre_embeddings.settings import load_settings
from tests.conftest import ROOT, source_of

DATA = load_settings(ROOT / "params.yaml").data


def read(*texts, separator="auto"):
    """The names of each text; the texts stand in rows 2, 3, ..."""
    fields = {text: (2 + texts.index(text), texts.count(text)) for text in texts}
    names = read_genres(fields, separator, "movies.csv")
    return [list(names[text]) for text in texts]


@pytest.mark.parametrize(
    "text",
    [
        "Action|Sci-Fi", "Action | Sci-Fi|", "Action, Sci-Fi", "Action;Sci-Fi", "Action\tSci-Fi",
        "['Action', 'Sci-Fi']", '["Action","Sci-Fi"]', "['Action' 'Sci-Fi']", "[Action, Sci-Fi]",
        "[{'id': 28, 'name': 'Action'}, {'id': 878, 'name': 'Sci-Fi'}]",
        '[{"name": "Action", "id": 28}, {"name": "Sci-Fi", "id": 878}]',
        "{Action,Sci-Fi}", "{'Action', 'Sci-Fi'}", "('Action', 'Sci-Fi')", "Action、Sci-Fi",
        '"[""Action"", ""Sci-Fi""]"', '"[\\"Action\\", \\"Sci-Fi\\"]"',
        '["Action", "Sci\\u002dFi"]', "\ufeffAction|Sci\u2011Fi\u200b",
    ],
)  # fmt: skip
def test_notations(text):
    names, *rest = read(text, "Drama", "Action|Sci-Fi" if "|" in text else text, "['']", "[ ]")
    assert rest == [["Drama"], ["Action", "Sci-Fi"] if "|" in text else names, [], []]
    assert names == ["Action", "Sci-Fi"]


def by(mark):
    return f"genres are separated by {mark!r} (data.genre_separator: auto)"


def odd(mark, example):
    return (
        f"genres with {mark!r} in their name: 1, such as {example!r}; if it separates "
        "genres, set data.genre_separator to it"
    )


SPELT = ["Sci-Fi|Film Noir", "sci-fi|FILM  NOIR", "Sci-Fi|film noir", " SCI-FI |Film\u00a0Noir"]
CRIME = ["Crime, Mystery|War", "War|Drama", "Drama|Crime, Mystery", "Drama"]
SAID = [  # texts, names where they are not the texts, what is said, separator
    (["A, B", "C", "A, C"], [["A", "B"], ["C"], ["A", "C"]], [by(",")]),
    (["A, B", "C"], None, [], "|"),
    (["['A', 'B']"], [["A", "B"]], []),
    (["A - B", "['A', 'B']"], [["A", "B"], ["['A', 'B']"]], [], " - "),
    # The most frequent mark wins, and others are named
    (CRIME, [text.split("|") for text in CRIME], [by("|"), odd(",", "Crime, Mystery")]),
    (["Action/Comedy", "War"], None, [odd("/", "Action/Comedy")]),
    (["Martial Arts", "Arts"], None, []),
    # Words for no genre
    *(([word, "A", word, "", "(No Genres Listed)"], [[], ["A"], [], [], []],
       [f"2 movies have the genre {word!r}, read as no genre"])
      for word in ("\\N", "nan", "None", "null", "N/A", "Unknown", "?")),
    # Spellings
    (SPELT, [["Sci-Fi", "Film Noir"]] * 4, [by("|"), *(
        f"{others} and {name!r} (2 movies) differ in case, blanks, dashes or apostrophes only: "
        "read as one genre" for others, name in (
            ("'FILM NOIR' (1), 'film noir' (1)", "Film Noir"),
            ("'SCI-FI' (1), 'sci-fi' (1)", "Sci-Fi")))]),
    # What a browser would take for a tag
    (["<b>|a < b|<!--"], [[f"{ANGLE}b>", "a < b", f"{ANGLE}!--"]], [by("|")]),
]  # fmt: skip


@pytest.mark.parametrize("case", SAID, ids=range(len(SAID)))
def test_what_is_decided_is_said(capsys, case):
    texts, names, said, *separator = case
    assert read(*texts, separator=(*separator, "auto")[0]) == (names or [[text] for text in texts])
    assert sorted(capsys.readouterr().err.splitlines()) == sorted(f"movies.csv: {s}" for s in said)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("['Action', 5]", r"row 3: genres is .*; allowed: names with one mark between"),
        ("['Action]", r"row 3: genres is"),
        ("x" * 201, r"row 3: the genre 'x+\.\.\.' has 201 characters; allowed: 200"),
        ('[{"id": 5}]', r"row 3: genres is"),
        ('["\\u001b[2J"]', r"row 3: the genre '\\x1b\[2J' holds a control character"),
        ('["\\ud800"]', r"row 3: the genre '\\ud800' holds a control character"),
        ("|".join(map(str, range(100_001))), "row 3: .* more than 100,000 different names so far"),
    ],
    ids=range(7),
)
def test_what_cannot_be_used_is_named_with_its_row(text, message):
    with pytest.raises(InputError, match=f"^movies.csv, {message}") as error:
        read("Drama", text)
    assert str(error.value).isprintable()


def test_more_than_sixty_genres_are_a_choice(capsys):
    movies = [(n, f"Title {n}", [f"G{n % 69:03}", "Drama"]) for n in range(1, 207)]
    source = source_of([(1, n, 3.0 + n % 2, 0) for n in range(1, 207)], movies)

    def build(**choice):
        return build_tables(source, DATA.model_copy(update=choice))

    with pytest.raises(InputError, match=r"have 70 genres, such as .*allowed without a choice: 60"):
        build()
    assert build(top_genres=200).genres.height == 70
    assert capsys.readouterr().err == ""
    frequent = build(top_genres=2)
    assert frequent.genres["name"].to_list() == ["Drama", "G001"]
    assert "kept 2 of 70 genres" in capsys.readouterr().err
    assert frequent.movies["genres"].to_list()[:2] == [[0, 1], [0]]
    assert build(min_genre_movies=4).genres["name"].to_list() == ["Drama"]
