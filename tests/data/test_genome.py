"""The tag genome: read from a release, and turned into a similarity of genres."""

import zipfile

import numpy as np
import pytest

from genre_embeddings.data.sources import open_source
from genre_embeddings.data.sources.genome import genome_content, tag_similarity
from genre_embeddings.data.tables import build_tables
from genre_embeddings.errors import InputError

# Action and Crime share tag 1, Drama has tag 2; movie 16 has no genre, movie 99 no entry.
GENRES = {**dict.fromkeys(range(1, 6), "Action"), **dict.fromkeys(range(6, 11), "Crime")}
GENRES |= {**dict.fromkeys(range(11, 16), "Drama"), 16: "(no genres listed)"}
TAGS = {"Action": (0.9, 0.1, 0.3), "Crime": (0.8, 0.2, 0.5), "Drama": (0.1, 0.9, 0.4)}


def release(**changed):
    """Files in the format of ml-25m, some of them replaced, or left out by None."""
    movies = "".join(f'{m},"Movie, {m} (1999)",{genre}\n' for m, genre in GENRES.items())
    ratings = "".join(f"{1 + m % 3},{m},{1 + m % 4}.5,{10**9 + m}\n" for m in GENRES)
    scores = "".join(
        f"{movie},{tag},{relevance}\n"
        for movie, genre in [*GENRES.items(), (99, "Drama")]
        for tag, relevance in enumerate(TAGS.get(genre, (1.0, 1.0, 1.0)), start=1)
    )
    contents = {
        "ratings.csv": f"userId,movieId,rating,timestamp\n{ratings}",
        "movies.csv": f"movieId,title,genres\n{movies}",
        "genome-scores.csv": f"movieId,tagId,relevance\n{scores}",
        "genome-tags.csv": "tagId,tag\n1,chase\n2,family\n3,music\n",
    }
    contents |= {f"{name.replace('_', '-')}.csv": text for name, text in changed.items()}
    return {name: text for name, text in contents.items() if text is not None}


def pack(folder, **changed):
    with zipfile.ZipFile(folder / "ml-25m.zip", "w") as archive:
        for name, text in release(**changed).items():
            archive.writestr(f"ml-25m/{name}", text)


@pytest.fixture
def prepared(settings, tmp_path):
    """A function that makes the similarity of genres from the release in `tmp_path`."""

    def prepare():
        data = settings.data.model_copy(update={"source": "ml-25m", "path": str(tmp_path)})
        with open_source(data, settings.planted) as opened:
            tables = build_tables(opened, data)
            return genome_content(opened.genome, tables.movies, tables.genres)

    return prepare


def test_a_release_in_its_archive(prepared, tmp_path):
    pack(tmp_path)
    content = prepared()
    assert content["genres"] == ["Action", "Crime", "Drama"]
    mean = np.mean(list(TAGS.values()), axis=0)  # five movies each
    expected = np.corrcoef([np.array(tags) - mean for tags in TAGS.values()])
    assert np.array(content["similarity"]) == pytest.approx(expected, abs=1e-5)
    assert content["similarity"][0][1] > 0.5
    assert content["similarity"][0][2] < -0.5


def test_a_release_needs_no_genome_but_ratings(prepared, tmp_path):
    pack(tmp_path, genome_scores=None)
    assert prepared() is None
    pack(tmp_path, ratings=None)
    with pytest.raises(InputError, match=r"Found of these: movies\.csv\."):
        prepared()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("movieId,tagId\n1,1\n", r"genome-scores\.csv, row 1: 'movieId,tagId' must be the header"),
        ("", r"genome-scores\.csv, row 1: '' must be the header"),
        ("movieId,tagId,relevance\n1,1,1,1\n", r"row 2: '1,1,1,1' has 4 fields .* can be done wi"),
        ("movieId,tagId,relevance\n1,1,0.5\n2,1,1.5\n", r"row 3: relevance is '1\.5'; allowed"),
        ("movieId,tagId,relevance\n1,,0.5\n", r"row 2: tag_id is ''"),
        ("movieId,tagId,relevance\n,1,0.5\n", r"row 2: movie_id is ''; allowed: a whole number"),
        ("movieId,tagId,relevance\n99,1,7\n", r"row 2: relevance is '7'"),
        ("movieId,tagId,relevance\n", r"genome-scores\.csv holds no rows"),
        ("movieId,tagId,relevance\n2,3,1\n\n2,3,0\n", r"rows 2 and 4: movie 2 has tag 3 twice"),
    ],
)
def test_a_genome_that_cannot_be_used(prepared, tmp_path, text, message):
    pack(tmp_path, genome_scores=text)
    with pytest.raises(InputError, match=message):
        prepared()


def test_a_genome_of_other_movies_says_nothing(prepared, tmp_path):
    pack(tmp_path, genome_scores="movieId,tagId,relevance\n99,1,0.5\n")
    assert prepared()["similarity"] == [[None] * 3] * 3


def test_shared_movies_alone_make_no_similarity():
    """Tags are independent of genres: sharing most movies does not make two genres similar."""
    relevance = np.random.default_rng(0).random((1000, 400), dtype=np.float32)
    table = np.zeros((1000, 10), dtype=bool)
    table[np.arange(1000), np.arange(1000) // 100] = True
    table[20:180, :2] = True  # 160 movies of both, 20 of either
    values, known = tag_similarity(relevance, table)
    assert known.all()
    assert abs(values[0, 1]) < 0.2


def test_the_commonest_genre_is_not_the_measure():
    """Each genre has independent tags: its number of movies does not change its similarity."""
    rng = np.random.default_rng(0)
    sizes = [800, *[40] * 9]
    relevance = np.repeat(rng.random((10, 2000)), sizes, axis=0).astype(np.float32)
    table = np.repeat(np.eye(10, dtype=bool), sizes, axis=0)
    values, _ = tag_similarity(relevance, table)
    off = values[~np.eye(10, dtype=bool)]
    assert off == pytest.approx(np.full(90, -1 / 9), abs=0.1)


def test_a_movie_of_n_genres_counts_once():
    relevance = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]] * 5, dtype=np.float32)
    table = np.array([[1, 0, 0], [1, 0, 1], [0, 1, 0]] * 5, dtype=bool)
    values, known = tag_similarity(relevance, table)
    # Of genre 0, the second kind of movie counts half.
    profiles = np.array([[2 / 3, 1 / 3, 0], [0, 0, 1], [0, 1, 0]])
    profiles -= profiles.mean(0)
    assert values[0, 1] == pytest.approx(np.corrcoef(profiles)[0, 1])
    assert values[1, 2] == pytest.approx(np.corrcoef(profiles)[1, 2])
    assert not known[0, 2]  # no movie is of genre 2 and not of genre 0
    assert values[0, 2] == 0
