"""The model card of a real run, and its sentences for other data, settings and results."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genre_embeddings.errors import InputError
from genre_embeddings.publish.card import CARD, write_card
from genre_embeddings.publish.summary import read_details
from genre_embeddings.settings import load_settings, load_yaml
from tests.conftest import changed
from tests.project import Project

pytestmark = pytest.mark.pipeline
META, EVALUATED = "data/prepared/meta.json", "metrics/evaluate.json"
SPLIT, INSPECTED = "metrics/split.json", "metrics/inspect.json"


def edit(path: str, change: Callable[[Any], object]) -> None:
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    change(content)
    Path(path).write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture
def project(base: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A folder with the files that the card needs, as the working directory."""
    for name in ("data/prepared", "metrics", "models", "plots"):
        shutil.copytree(base.folder / name, tmp_path / name)
    shutil.copy(base.folder / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return base


def written(**sections: dict[str, Any]) -> str:
    """The card's words with some settings changed, whatever the line breaks."""
    write_card(changed(load_settings(), **sections), read_details())
    return " ".join(CARD.read_text(encoding="utf-8").split())


def front() -> Any:
    """The YAML on top."""
    return load_yaml(CARD.read_text(encoding="utf-8").split("---\n")[1])


def test_the_run_s_card_holds_its_numbers_and_no_place_on_this_machine(project: Project) -> None:
    text = CARD.read_text(encoding="utf-8")
    test = json.loads(Path(EVALUATED).read_text())["test"]
    assert front()["license"] == "mit"
    (result,) = front()["model-index"][0]["results"]
    values = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert values == {name: test[name] for name in ("rmse", "mae", "mse")}
    assert result["dataset"] == {"type": "planted", "name": "a planted world", "split": "test"}
    ends = f" ({test['rmse_low']:.3f} to {test['rmse_high']:.3f})" if "rmse_low" in test else ""
    assert f"**{test['rmse']:.3f}**{ends} |" in text
    for baseline in test["baselines"].values():
        assert f"| {baseline['rmse']:.3f} | {baseline['mae']:.3f} | {baseline['mse']:.3f} |" in text
    for line, outcome in json.loads(Path(INSPECTED).read_text())["verdict"].items():
        assert f"**{line.capitalize()}: {outcome}.**" in text
    assert "Anything about real movies or people" in text
    written()
    assert CARD.read_bytes() == (project.folder / CARD).read_bytes()  # the same run
    assert "/home/ann" not in written(data={"path": "/home/ann/books"})
    kept = load_yaml(text.split("```")[1].removeprefix("yaml"))
    assert kept["model.hidden"] == [8]
    assert not [key for key in kept if key.startswith("tracking")]


def few_users(content: Any) -> None:
    content["test"]["cold_movies"] = {"ratings": 1460, "mse": 0.81, "rmse": 0.9, "mae": 0.7}
    content["test"]["warm_movies"] = {"ratings": 0}
    content["test"].pop("rmse_low", None)


def no_genres(content: Any) -> None:
    for key in set(content) - {"model"}:
        del content[key]
    content["verdict"] = dict.fromkeys(("structure", "stability", "value"), "inconclusive")


def poor(content: Any) -> None:
    content["verdict"] = {"structure": "inconclusive", "stability": "fail", "value": "pass"}
    content["agreement"]["likelihood"] |= {"spearman": 0.4, "null_95": 0.15, "ceiling": None}


CASES: list[tuple[dict[str, Any], str, Callable[[Any], object], list[str]]] = [
    (
        {"data": {"source": "ml-25m"}}, META, lambda meta: meta.update(source="ml-25m"),
        ["^--- license: other license_name: grouplens license_link: https://grouplens.org/",
         "# Genre embeddings of MovieLens 25M A model", r"\*\*`models/` holds a part of them\*\*",
         "https://doi.org/10.1145/2827872", "Give it only to those who may see the ratings",
         r"genres, of \d{4} to \d{4}: \d"],
    ),
    (
        {}, META, lambda meta: meta.update(source="folder", has_time=False),
        ["^--- license: other license_name: that-of-the-ratings", "Their owner decides who may see",
         "^(?!.*(GroupLens|and the time of the rating))",
         "holds the ids of all users, what they rated and how far from the predictions. Give"],
    ),
    *(
        ({"split": {"strategy": strategy}}, SPLIT, lambda _: None, said)
        for strategy, *said in (
            ("random", "Ratings were drawn at random", r"not measured \(`split.strategy: per_"),
            ("temporal", "The newest are the test", "newer than all training ratings; errors"),
            ("per_user", "Of each user, the newest", "training ratings of the same user; errors"),
            ("cold_movies", "Whole movies were drawn", "lie among the training ratings in time"),
        )
    ),
    (
        {}, EVALUATED, few_users,
        ["On the 1,460 test ratings of movies without training ratings, the RMSE is 0.900.",
         r"\*\*this model\*\* \| \*\*\d\.\d{3}\*\* \|"],
    ),
    (
        {}, SPLIT, lambda content: content["parts"]["test"].update(cold_users=7),
        ["7 of the users in test have no ratings in train."],
    ),
    (
        {"model": {"genres": False}}, INSPECTED, no_genres,
        ["relies on its user's ratings of other movies",
         r"^(?!.*(GENRE|has a vector for each|Vectors are private))"],
    ),
    (
        {}, INSPECTED, poor,
        [r"evidence in held-out ratings is 0\.40; chance stays below 0\.15\.",
         "A model trained on other users would have learnt something else."],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("sections", "path", "change", "wanted"), CASES)
def test_the_run_decides_what_is_said(
    project: Project,
    sections: dict[str, Any],
    path: str,
    change: Callable[[Any], object],
    wanted: list[str],
) -> None:
    edit(path, change)
    text = written(**sections)
    assert [said for said in wanted if not re.search(said, text)] == []


def test_metrics_of_another_model_are_named(project: Project) -> None:
    edit(INSPECTED, lambda content: content.update(model=content["model"][::-1]))
    with pytest.raises(InputError, match=r"inspect\.json and models are from diff.*`dvc repro`"):
        read_details()
