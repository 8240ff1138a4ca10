"""The report identifies its run, begins with the answer and shows every name as text."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genre_embeddings import storage
from genre_embeddings.figures import draw_histogram
from genre_embeddings.inspection.inspect import Answer
from genre_embeddings.inspection.report import write_report
from genre_embeddings.inspection.verdict import LINES, Verdict
from genre_embeddings.settings import DEFAULTS
from tests.browser import open_page
from tests.conftest import changed
from tests.small import small_world, write_world

BIAS = {"rmse": 0.8, "skill": 0.25, "skill_low": 0.2, "skill_high": 0.3}
TEST: dict[str, Any] = {
    "ratings": 200, "mse": 0.49, "rmse": 0.7, "rmse_low": 0.65, "rmse_high": 0.75,
    "baselines": {"user_movie_bias": BIAS, "global_mean": {"mse": 1.0, "rmse": 1.0}},
}  # fmt: skip
MEASURE = """<script>
document.documentElement.style.width = "390px";
const ends = [...document.querySelectorAll("body *")]
  .filter(one => !one.parentElement.closest(".scroll"))
  .map(one => one.getBoundingClientRect().right);
document.body.dataset.end = Math.max(...ends);
</script>"""


def answer_of(names: list[str], *outcomes: str) -> Answer:
    similarity = np.eye(len(names))
    similarity[0, 1] = similarity[1, 0] = 0.25
    similarity[0, 2] = similarity[2, 0] = np.nan
    agreed = {"spearman": 0.9, "whole_model": 0.8, "rival": None, "null_95": 0.1, "ceiling": 0.95}
    return Answer(
        [
            Verdict(line, outcome, f"The reason of {line}.")
            for line, outcome in zip(LINES, outcomes or ("pass",) * 3, strict=True)
        ],
        {"agreement": {"likelihood": agreed}, "stability": {"neighbour_overlap": 0.5}},
        genres=dict.fromkeys(names, 9),
        order=list(range(len(names))),
        matrices={"learnt": similarity, "likelihood": similarity, "cosine": similarity},
        unsure={"learnt": np.abs(similarity) < 0.5},
        neighbours=[{"genre": names[0], "nearest": f"{names[1]} (0.25)", "overlap": 1.0}],
        costs=[{"genre": names[0], "ratings": 9, "rmse_rise": 0.1, "low": None, "high": None}],
        remarks=[f"{names[2]} is left out."],
    )


@pytest.fixture
def world(settings, in_tmp):
    """Settings and genre names of a run whose stages before inspect have written their files."""
    settings = changed(settings, model={"time": DEFAULTS["model"]["time"]})
    made = small_world(settings)
    write_world(made)
    storage.MODEL.mkdir()
    (storage.MODEL / "model.safetensors").write_bytes(b"weights")
    write_test(TEST)
    losses = [{"epoch": 1, "loss": 0.5, "side": side} for side in ("train", "validation")]
    storage.write_rows(storage.PLOTS / "train/loss.json", losses)
    counts = [{"rating": r, "count": 9, "kind": k} for k in ("actual", "predicted") for r in (1, 2)]
    draw_histogram(counts, storage.PLOTS / "evaluate/histogram.png")
    return settings, made.tables.genres["name"].to_list()


def write_test(test: dict[str, Any]) -> None:
    measured = {"model": storage.model_fingerprint(), "test": test}
    storage.write_json(storage.METRICS / "evaluate.json", measured)


def written(answer: Answer, settings) -> str:
    """The page, whatever its line breaks."""
    write_report(answer, settings)
    return " ".join(storage.REPORT.read_text(encoding="utf-8").split())


def test_two_open_reports_can_be_told_apart(world):
    settings, names = world
    page = written(answer_of(names), settings)
    many = "a planted world, planted.users 80, planted.movies 60, planted.genres 6, 1 more"
    assert f"<title>{many}: genre embeddings</title>" in page
    assert "2,000 ratings by 80 users of 60 movies in 6 genres, from 0.5 to 5 stars" in page
    assert f"<th>model</th><td><code>{storage.model_fingerprint()}</code>" in page
    other = changed(settings, planted=DEFAULTS["planted"], model={"hidden": (8,)})
    page = written(answer_of(names), other.model_copy(update={"seed": 7}))
    assert "<title>a planted world, seed 7, model.hidden [8]: genre embeddings</title>" in page
    assert "seed <b>7</b> (default 0), model.hidden <b>[8]</b> (default [64, 32])" in page
    # A place on this machine and settings that are not used are not shown.
    meta = storage.read_meta()._replace(source="ml-1m")._asdict()
    storage.write_json(storage.PREPARED / "meta.json", meta)
    page = written(answer_of(names), changed(settings, data={"path": "/home/ann/films"}))
    assert "<title>MovieLens 1M: genre embeddings</title>" in page
    assert "all have their defaults" in page
    assert "/home/ann" not in page


@pytest.mark.parametrize(
    ("outcomes", "says"),
    [
        (("pass", "pass", "pass"), "Yes: all three tests passed."),
        (("inconclusive", "fail", "pass"), "No: stability failed, structure stayed inconclusive."),
        (
            ("inconclusive", "pass", "pass"),
            "Not known: structure stayed inconclusive, stability and value passed.",
        ),
        (
            ("inconclusive",) * 3,
            "Not known: structure, stability and value stayed inconclusive.",
        ),
    ],
)
def test_the_answer_comes_first(world, outcomes, says):
    settings, names = world
    page = written(answer_of(names, *outcomes), settings)
    assert f'<p class="answer"> {says} </p>' in page
    assert page.count("<section") == 3
    assert "The reason of value." in page
    assert 'likelihood, rival</td><td class="number">not known</td>' in page
    assert 'neighbour overlap</td><td class="number">0.5</td>' in page


def test_a_model_without_genres_still_has_its_predictions(world):
    reason = "The model was trained without genres (model.genres: false)."
    answer = Answer([Verdict(line, "inconclusive", reason) for line in LINES], {}, remarks=[reason])
    page = written(answer, changed(world[0], model={"genres": False}))
    assert page.count(reason) == 1
    assert "Similarity of genres" not in page
    assert page.count("root mean squared error") == 1


@pytest.mark.parametrize(
    ("skill", "ends", "says"),
    [
        (25, (20, 30), "The model predicts better"),
        (25, (-10, 30), "It is not known whether"),
        (-10, (-20, -5), "The model predicts worse"),
        (25, None, "Too few users are in the test ratings"),
    ],
)
def test_predictions_are_compared_with_the_baseline(world, skill, ends, says):
    settings, names = world
    bias, test, interval = {"rmse": 0.8, "skill": skill / 100}, dict(TEST), ""
    if ends:
        bias |= {"skill_low": ends[0] / 100, "skill_high": ends[1] / 100}
        interval = f" (95 % interval {ends[0]} % to {ends[1]} %)"
    else:
        del test["rmse_low"]
    write_test(test | {"baselines": TEST["baselines"] | {"user_movie_bias": bias}})
    page = written(answer_of(names), settings)
    assert says in page
    assert f"saves {skill} % of the squared error of the baseline{interval}." in page
    assert ("is 0.700 stars (95 % interval 0.650 to 0.750), that" in page) == bool(ends)


def test_names_are_text_and_the_page_needs_nothing_and_fits_a_phone(world, tmp_path: Path):
    settings, names = world
    odd = ["<script>alert(1)</script>", "$x$", '{{ x }} & "y"', "n" * 60, *names[4:]]
    strange = changed(settings, data={"genre_separator": f"</title><script>{odd[3]}"})
    answer = answer_of(odd)
    answer = replace(answer, verdicts=[replace(one, advice=odd[3]) for one in answer.verdicts])
    write_report(answer, strange)
    text = storage.REPORT.read_text(encoding="utf-8")
    assert "<script" not in text
    storage.REPORT.write_text(text + MEASURE, encoding="utf-8")
    page = open_page(storage.REPORT.resolve(), tmp_path / "profile")
    assert page.requests == []
    labels = {one.text for one in page.root.iter("span")}
    assert {odd[0], odd[1], odd[2]} <= labels
    cells = [one.get("title") for one in page.root.iter("td")]
    assert f"{odd[0]}, {odd[1]}: 0.25 (the interval includes zero)" in cells
    assert f"{odd[0]}, {odd[2]}: not known" in cells
    body = page.root.find("body")
    assert body is not None
    assert float(body.attrib["data-end"]) <= 390
