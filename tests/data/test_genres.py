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
    ],
)  # fmt: skip
def test_notations(text):
    assert read(text, "Drama", text) == [["Action", "Sci-Fi"], ["Drama"], ["Action", "Sci-Fi"]]


def test_escapes_in_lists():
    texts = ['["Com\\u00e9die", "Rock \\"n\\" Roll"]', "['Children\\'s']", '["Children\'s"]']
    assert read(*texts) == [["Comédie", 'Rock "n" Roll'], ["Children's"], ["Children's"]]
    assert read("[]", "[ ]", "['']") == [[], [], []]


def test_the_decision_is_said_in_a_line(capsys):
    assert read("A, B", "C", "A, C") == [["A", "B"], ["C"], ["A", "C"]]
    said = "movies.csv: genres are separated by ',' (data.genre_separator: auto)\n"
    assert capsys.readouterr().err == said
    assert read("A, B", "C", separator="|") == [["A, B"], ["C"]]
    assert read("A", "B") == [["A"], ["B"]]
    assert read("['A', 'B']") == [["A", "B"]]
    assert read("A - B", "['A', 'B']", separator=" - ") == [["A", "B"], ["['A', 'B']"]]
    assert capsys.readouterr().err == ""


def test_the_most_frequent_mark_wins_and_others_are_named(capsys):
    texts = ["Crime, Mystery|War", "War|Drama", "Drama|Crime, Mystery", "Drama"]
    assert read(*texts)[0] == ["Crime, Mystery", "War"]
    separated, other = capsys.readouterr().err.splitlines()
    assert "separated by '|'" in separated
    assert other == (
        "movies.csv: 1 genres have ',' in their name, such as 'Crime, Mystery'; if it separates "
        "genres, set data.genre_separator to it"
    )
    assert read("Action/Comedy", "War") == [["Action/Comedy"], ["War"]]
    assert "1 genres have '/'" in capsys.readouterr().err
    for mark in ("::", " & ", "\\n"):
        read(f"Action{mark}War", f"War{mark}Drama")
        assert f"2 genres have {mark!r}" in capsys.readouterr().err
    read("Action & Adventure", "War & Politics")
    assert capsys.readouterr().err == ""
    read("(a|b)", "c")
    assert "1 genres look like a part of a list, such as '(a'" in capsys.readouterr().err


def test_blanks_separate_genres_where_that_is_certain(capsys):
    joined = ["Action War", "War Drama", "Drama  Action War", "War Action"]
    assert read(*joined, "Drama", "War", "Action", "(no genres listed)") == [
        ["Action", "War"], ["War", "Drama"], ["Drama", "Action", "War"], ["War", "Action"],
        ["Drama"], ["War"], ["Action"], [],
    ]  # fmt: skip
    said = "movies.csv: genres are separated by ' ' (data.genre_separator: auto)\n"
    assert capsys.readouterr().err == said
    assert read(*joined[:2]) == [["Action War"], ["War Drama"]]
    assert capsys.readouterr().err == (
        "movies.csv: 2 genres have ' ' in their name, such as 'Action War'; if it separates "
        "genres, set data.genre_separator to it\n"
    )
    assert read(*joined[:2], separator=" ") == [["Action", "War"], ["War", "Drama"]]
    texts = ["Science Fiction", "Science", "Fiction", "Historical Fiction", "Historical"]
    assert read(*texts) == [[text] for text in texts]
    assert "2 genres have ' ' in their name" in capsys.readouterr().err
    assert read("Martial Arts|Drama", "Arts") == [["Martial Arts", "Drama"], ["Arts"]]
    assert "' '" not in capsys.readouterr().err


@pytest.mark.parametrize("word", ["\\N", "nan", "NaN", "None", "null", "N/A", "Unknown", "?"])
def test_words_for_no_genre_are_said(capsys, word):
    assert read(word, "A", word, "", "(No Genres Listed)") == [[], ["A"], [], [], []]
    said = f"movies.csv: 2 movies have the genre {word!r}, read as no genre\n"
    assert capsys.readouterr().err == said


def test_case_and_blanks_make_no_other_genre(capsys):
    texts = ["Sci-Fi|Film Noir", "sci-fi|FILM  NOIR", "Sci-Fi|film noir", " SCI-FI |Film\u00a0Noir"]
    assert read(*texts) == [["Sci-Fi", "Film Noir"]] * 4
    _, noir, fiction = capsys.readouterr().err.splitlines()
    assert noir == (
        "movies.csv: 'FILM NOIR' (1), 'film noir' (1) differ from 'Film Noir' (2 movies) in case, "
        "blanks, dashes or apostrophes only: read as one genre"
    )
    assert "'SCI-FI' (1), 'sci-fi' (1) differ from 'Sci-Fi' (2 movies)" in fiction


def test_signs_that_look_alike_make_no_other_genre():
    other = "Children\u2019s|Sci\u2011Fi", "\ufeffChildren's|Sci\u2013Fi\u200b"
    assert read("Children's|Sci-Fi", *other) == [["Children's", "Sci-Fi"]] * 3
    assert read("Come\u0301die", "Com\xe9die", "Com\xe9die")[0] == ["Com\xe9die"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("['Action', 5]", r"row 3: genres is .*; allowed: names with one mark between"),
        ("['Action]", r"row 3: genres is"),
        ("x" * 201, r"row 3: the genre 'x+\.\.\.' has 201 characters; allowed: 200"),
        ('[{"id": 5}]', r"row 3: genres is"),
        ('["\\u001b[2J"]', r"row 3: the genre '\\x1b\[2J' holds a control character"),
        ('["\\ud800"]', r"row 3: the genre '\\ud800' holds a control character"),
        ("A\x9b2J", r"row 3: the genre 'A\\x9b2J' holds a control character"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_row(text, message):
    with pytest.raises(InputError, match=f"^movies.csv, {message}") as error:
        read("Drama", text)
    assert str(error.value).isprintable()


def test_a_name_that_a_browser_would_take_for_a_tag(capsys):
    assert read("</script><script>alert(1)</script>|a < b|<!--") == [
        [f"{ANGLE}/script>{ANGLE}script>alert(1){ANGLE}/script>", "a < b", f"{ANGLE}!--"]
    ]
    assert capsys.readouterr().err.count("looks like HTML") == 2


def test_a_column_that_holds_no_genres():
    with pytest.raises(InputError, match="more than 100,000 different names so far"):
        read("|".join(map(str, range(100_001))))


def many(genres):
    movies = [(n, f"Title {n}", [f"G{n % genres:03}", "Drama"]) for n in range(1, 3 * genres)]
    return source_of([(1, n, 3.0 + n % 2, 0) for n in range(1, 3 * genres)], movies)


def test_more_than_sixty_genres_are_a_choice(capsys):
    assert build_tables(many(59), DATA).genres.height == 60
    with pytest.raises(InputError, match=r"have 70 genres, such as .*allowed without a choice: 60"):
        build_tables(many(69), DATA)
    source = many(69)
    all_of_them = DATA.model_copy(update={"top_genres": 200})
    assert build_tables(source, all_of_them).genres.height == 70
    assert capsys.readouterr().err == ""
    frequent = build_tables(source, DATA.model_copy(update={"top_genres": 2}))
    assert frequent.genres["name"].to_list() == ["Drama", "G001"]
    assert "kept 2 of 70 genres" in capsys.readouterr().err
    assert frequent.movies["genres"].to_list()[:2] == [[0, 1], [0]]
    rare = build_tables(many(60), DATA.model_copy(update={"min_genre_movies": 3}))
    assert rare.genres.height == 60  # G000 has two movies
