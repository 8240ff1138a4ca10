"""The model card of a real run: true to its numbers, usable, and honest in every other case."""

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

from genre_embeddings.cli import genres
from genre_embeddings.errors import InputError
from genre_embeddings.publish.card import CARD, write_card
from genre_embeddings.settings import Settings, load_settings, load_yaml
from tests.conftest import changed
from tests.project import Project

pytestmark = pytest.mark.pipeline


def edit(path: str, change: Callable[[Any], None]) -> None:
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    change(content)
    Path(path).write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture
def project(base: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the card is made of, as the working directory."""
    for name in ("data/prepared", "metrics", "models", "plots"):
        shutil.copytree(base.folder / name, tmp_path / name)
    shutil.copy(base.folder / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(settings: Settings) -> str:
    """The card's words, whatever the line breaks."""
    write_card(settings)
    return " ".join(CARD.read_text(encoding="utf-8").split())


def front(card: Path = CARD) -> Any:
    """The YAML on top."""
    return load_yaml(card.read_text(encoding="utf-8").split("---\n")[1])


def block(language: str = "") -> str:
    """The card's one block in a language."""
    text = CARD.read_text(encoding="utf-8")
    (found,) = re.findall(rf"^```{language}\n([^`]*)^```$", text, flags=re.M)
    return found


def test_the_run_s_card_holds_its_numbers(base: Project) -> None:
    text = (base.folder / CARD).read_text(encoding="utf-8")
    test = json.loads((base.folder / "metrics/evaluate.json").read_text())["test"]
    top = front(base.folder / CARD)
    assert top["license"] == "mit"
    (entry,) = top["model-index"]
    (result,) = entry["results"]
    values = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert values == {name: test[name] for name in ("rmse", "mae", "mse")}
    assert result["dataset"] == {"type": "planted", "name": "a planted world", "split": "test"}
    assert f"**{test['rmse']:.3f}**" in text
    if "rmse_low" in test:
        assert f"({test['rmse_low']:.3f} to {test['rmse_high']:.3f})" in text
    for baseline in test["baselines"].values():
        assert f"| {baseline['rmse']:.3f} | {baseline['mae']:.3f} | {baseline['mse']:.3f} |" in text
    verdict = json.loads((base.folder / "metrics/inspect.json").read_text())["verdict"]
    for line, outcome in verdict.items():
        assert f"**{line.capitalize()}: {outcome}.**" in text
    assert "Anything about real movies or people" in text
    sections = re.findall(r"^## (.*)$", text, flags=re.M)
    assert len(sections) == len(set(sections)) == 8


def test_the_card_names_its_settings_and_no_place_on_this_machine(project: Path) -> None:
    settings = load_settings()
    text = written(changed(settings, data={"path": "/home/ann/books"}))
    kept = load_yaml(block("yaml"))
    assert kept["model"] == settings.model.model_dump(mode="json")
    assert "tracking" not in kept
    assert "/home/ann" not in text


def test_the_same_run_writes_the_same_bytes(base: Project, project: Path) -> None:
    write_card(load_settings())
    assert CARD.read_bytes() == (base.folder / CARD).read_bytes()


def test_what_the_card_says_of_using_the_model_works(project: Path) -> None:
    Path("pairs.csv").write_text("userId,movieId\n1,1\nnobody,2\n".replace("nobody", "999999"))
    commands = block().splitlines()
    assert len(commands) == 5
    for line in commands:
        name, *arguments = shlex.split(line, comments=True)
        assert name == "./genres"
        done = CliRunner().invoke(genres, arguments, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        assert "not known" not in done.output
    assert pl.read_csv("rated.csv").height == 2
    exec(block("python"), {})


@pytest.mark.parametrize(
    ("source", "name"), [("ml-25m", "MovieLens 25M"), ("ml-latest-small", "MovieLens latest-small")]
)
def test_movielens_comes_with_its_terms(project: Project, source: str, name: str) -> None:
    edit("data/prepared/meta.json", lambda meta: meta.update(source=source))
    text = written(changed(load_settings(), data={"source": source}))
    assert front()["license"] == "other"
    assert front()["license_link"] == "https://grouplens.org/datasets/movielens/"
    assert f"# Genre embeddings of {name} A model" in text
    assert "**`models/` holds a part of them**" in text
    assert "https://doi.org/10.1145/2827872" in text
    assert "Give it only to those who may see the ratings" in text
    assert re.search(r"genres, of \d{4} to \d{4}: \d", text)
    assert "planted" not in text.replace("the planted truth", "")


def test_own_ratings_are_their_owner_s(project: Path) -> None:
    edit("data/prepared/meta.json", lambda meta: meta.update(source="folder", has_time=False))
    for name, column in (("users", "user_id"), ("movies", "movie_id")):
        path = f"data/prepared/{name}.parquet"
        table = pl.read_parquet(path)
        odd = pl.format("it's {}", pl.col(column)).alias(column)
        table.with_columns(odd).write_parquet(path)
    text = written(load_settings())
    assert front()["license_name"] == "that-of-the-ratings"
    assert "Their owner decides who may see and use them" in text
    assert "GroupLens" not in text
    assert "and the time of the rating" not in text
    assert re.search(r"holds the ids of all users, what they rated\. Give", text)
    user, movie = shlex.split(re.findall(r"explain (.*)", block())[0])
    assert user.startswith("it's ")
    assert movie.startswith("it's ")
    compile(block("python"), "card", "exec")


@pytest.mark.parametrize(
    ("strategy", "drawn", "limit"),
    [
        ("random", "Ratings were drawn at random", "and were not measured (`split.strategy: per_"),
        ("temporal", "The newest are the test", "newer than all training ratings; errors"),
        ("per_user", "Of each user, the newest", "training ratings of the same user; errors"),
        ("cold_movies", "Whole movies were drawn", "lie among the training ratings in time"),
    ],
)
def test_the_split_decides_what_was_measured(
    project: Project, strategy: str, drawn: str, limit: str
) -> None:
    text = written(changed(load_settings(), split={"strategy": strategy}))
    assert drawn in text
    assert limit in text


def test_cold_movies_and_users_are_counted(project: Path) -> None:
    def colder(content: Any) -> None:
        content["test"]["cold_movies"] = {"ratings": 1460, "mse": 0.81, "rmse": 0.9, "mae": 0.7}
        content["test"]["warm_movies"] = {"ratings": 0}
        content["test"].pop("rmse_low", None)
        content["test"].pop("rmse_high", None)

    edit("metrics/evaluate.json", colder)
    edit("metrics/split.json", lambda content: content["parts"]["test"].update(cold_users=7))
    text = written(load_settings())
    assert "On the 1,460 test ratings of movies without training ratings" in text
    assert "the RMSE is 0.900." in text
    assert "Of the users in test 7 were new." in text
    assert re.search(r"its RMSE is \*\*\d\.\d{3}\*\*, where", text)


def test_a_model_without_genres_has_no_word_on_them(project: Path) -> None:
    verdict = dict.fromkeys(("structure", "stability", "value"), "inconclusive")
    inspected = json.loads(Path("metrics/inspect.json").read_text())
    left = {"model": inspected["model"], "verdict": verdict}
    Path("metrics/inspect.json").write_text(json.dumps(left))
    text = written(changed(load_settings(), model={"genres": False}))
    assert "does not read genres" in text
    assert "predicted from their user's ratings of other movies" in text
    for absent in ("./genres embed", "--genre", "has a vector for each", "Vectors are private"):
        assert absent not in text


def test_open_questions_become_limits(project: Path) -> None:
    def poor(content: Any) -> None:
        content["verdict"] = {"structure": "inconclusive", "stability": "fail", "value": "pass"}
        halves = {"movie_halves": 0.1, "null_95": 0.15, "ceiling": None}
        content["agreement"]["likelihood"] |= halves
        content["stability"] |= {"spearman": 0.5, "neighbour_overlap": 0.25}

    edit("metrics/inspect.json", poor)
    text = written(load_settings())
    assert "agree about genres at rho = 0.10 only, and chance reaches 0.15" in text
    assert "**The genres.** Structure and stability did not pass" in text
    assert "A model trained on other users would have learnt something else." in text
    assert "at rho = 0.50, and 25 % of a genre's nearest to be the same" in " ".join(text.split())


def test_metrics_of_another_run_are_named(project: Path) -> None:
    edit("metrics/prepare.json", lambda content: content.update(ratings=7))
    with pytest.raises(InputError, match=r"prepare\.json and .*split\.json"):
        write_card(load_settings())
