"""Movies and genres found by a title or a part of one."""

from dataclasses import replace

import polars as pl
import pytest

from genre_embeddings.errors import InputError
from genre_embeddings.inference.explain import explain
from genre_embeddings.inference.neighbours import neighbours
from genre_embeddings.inference.titles import matches

TITLES = [
    "Toy Story (1995)",
    "Toy Story 2 (1999)",
    "Matrix, The (1999)",
    "Misérables, Les (1995)",
    "It (1990)",
    "It (2017)",
    "Italian Job, The (1969)",
    "WALL·E (2008)",
    "Schindler's List (1993)",
    "Lord of the Rings: The Two Towers, The (2002)",
    "300 (2007)",
    "5",
    "!",
    "Drama",
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("toy story", ["Toy Story (1995)"]),  # a whole title, but for the year
        ("TOY", ["Toy Story (1995)", "Toy Story 2 (1999)"]),
        ("story 2", ["Toy Story 2 (1999)"]),
        ("the matrix", ["Matrix, The (1999)"]),
        ("les miserables", ["Misérables, Les (1995)"]),
        ("it", ["It (1990)", "It (2017)"]),
        ("ita", ["Italian Job, The (1969)"]),  # no word of another title begins so
        ("atri", ["Matrix, The (1999)"]),
        ("wall-e", ["WALL·E (2008)"]),
        ("schindlers list", ["Schindler's List (1993)"]),
        ("lord rings towers", [TITLES[9]]),
        ("!", ["!"]),
        ("?", []),
        ("xyz", []),
    ],
)
def test_what_a_text_may_mean(text, expected):
    assert [TITLES[n] for n in matches(TITLES, text)] == expected


@pytest.fixture
def model(model):
    """A model whose first movies have the titles above; their ids are 1, 2, ..."""
    titles = [*TITLES, *model.movies["title"][len(TITLES) :]]
    ids = range(1, len(titles) + 1)
    movies = model.movies.with_columns(title=pl.Series(titles), movie_id=pl.Series(ids))
    return replace(model, movies=movies)


def test_an_id_counts_more_than_a_title(model):
    assert model.find_movie(5) == model.find_movie("5") == 4
    assert model.find_movie("300") == TITLES.index("300 (2007)")
    assert model.find_movie("2007") == -1  # it could be an id: parts of titles are not compared
    assert model.find_movie("the matrix") == 2
    assert neighbours(model, "drama").table.columns[0] == "genre"
    assert neighbours(model, "THE MATRIX", top=1).name == "Matrix, The (1999)"
    assert explain(model, 1, "matrix").title == "Matrix, The (1999)"


def test_the_beginning_of_a_genre_counts_more_than_a_part_of_a_title(model):
    genre = model.genre_names[0]
    titles = [f"{genre}tic, the sequel", genre[:3], *model.movies["title"][2:]]
    changed = replace(model, movies=model.movies.with_columns(title=pl.Series(titles)))
    assert neighbours(changed, genre[:4].lower()).name == genre
    assert neighbours(changed, genre[:3].lower()).name == genre[:3]  # a whole title
    same = [name for name in model.genre_names if name.startswith(genre[0])]
    assert len(same) > 1
    with pytest.raises(InputError, match=f"fits several: {', '.join(same)}; name one of them"):
        neighbours(changed, genre[0])


def test_several_movies_are_listed(model):
    many = replace(model, movies=model.movies.with_columns(title=pl.lit("The \x1b same")))
    with pytest.raises(InputError, match=r"^'same' fits 60 movies: give more of the ti") as found:
        many.find_movie("same")
    lines = str(found.value).splitlines()
    assert len(lines) == 20
    assert lines[-1] == "  and 42 more with fewer ratings"
    listed = [float(many.network.movie_counts[int(line.split()[0]) - 1]) for line in lines[1:-1]]
    assert listed == sorted(many.network.movie_counts.tolist(), reverse=True)[:18]
    assert "\x1b" not in lines[1]


def test_text_that_fits_nothing_gets_the_nearest_titles(model):
    with pytest.raises(InputError, match=r"the id or title 'matirx' .did you mean 'Matrix, The"):
        explain(model, 1, "matirx")
    with pytest.raises(InputError, match=r'neither a genre nor .*did you mean "Schindler'):
        neighbours(model, "shindlers list")
    with pytest.raises(InputError, match=r"'\?' is neither a genre nor the id or title of a known"):
        neighbours(model, "?")
