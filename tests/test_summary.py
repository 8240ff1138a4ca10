"""The headline numbers, and the table of them on the comparison page."""

import json

import pytest

from genre_embeddings.errors import InputError
from genre_embeddings.summary import headlines, require_one_run, table
from tests.conftest import changed
from tests.project import Project

EVALUATED = {
    "model": "4fdec0",
    "test": {
        "rmse": 0.81234,
        "rmse_low": 0.8,
        "rmse_high": 0.83,
        "baselines": {
            "user_movie_bias": {"rmse": 0.9, "skill": 0.185, "skill_low": 0.15, "skill_high": 0.21}
        },
        "cold_movies": {"ratings": 0},
    },
    "validation": {"rmse": 0.8},
}
AGREED = {"spearman": 0.5, "ceiling": 0.7, "null_95": 0.2, "rival": 0.6}
INSPECTED = {
    "verdict": {"structure": "pass", "stability": "fail", "value": "inconclusive"},
    "agreement": {"likelihood": AGREED, "moments": AGREED},
    "stability": {"spearman": 0.9},
    "value": {"warm_movies_estimate": 0.01},
}
UNANSWERED = {"verdict": dict.fromkeys(("structure", "stability", "value"), "inconclusive")}


def shown(settings, evaluated=EVALUATED, inspected=INSPECTED):
    rows = table(settings, 2000, 200, evaluated, inspected, {"data": "0a", "split": "1b"})
    return {(row["section"], row["name"]): row["value"] for row in rows}


def test_headlines_repeat_details_under_short_names():
    found = headlines(EVALUATED, INSPECTED)
    assert found["test"] | {"baseline_rmse": 0.9, "skill_low": 0.15} == found["test"]
    assert found["agreement"] == {"likelihood": 0.5, "ceiling": 0.7, "mixed_model": 0.6}
    assert found["verdict"] == INSPECTED["verdict"]
    assert headlines(EVALUATED, None).keys() == {"test", "validation"}
    assert headlines({"test": {"rmse": None}}) == {}


@pytest.mark.parametrize(
    ("stage", "change"),
    [
        ("prepare", {"ratings": 9}),
        ("evaluate", {"test": {"ratings": 3}}),
        ("inspect", {"model": "b"}),
    ],
)
def test_metrics_of_different_runs_are_named(stage, change):
    parts = {"train": 5, "validation": 3, "test": 2}
    metrics = {
        "prepare": {"ratings": 10},
        "split": {"parts": {side: {"ratings": count} for side, count in parts.items()}},
        "evaluate": {"model": "a", "test": {"ratings": 2}},
        "inspect": {"model": "a"},
    }
    require_one_run(*metrics.values())
    metrics[stage] |= change
    with pytest.raises(InputError, match=rf"metrics/.*{stage}\.json.* are from different runs"):
        require_one_run(*metrics.values())


def test_table_is_text(settings):
    found = shown(settings)
    expected = {
        ("verdicts", "stability"): "✗ fail",
        ("prediction", "test RMSE (stars)"): "0.8123",
        ("prediction", "95 % interval"): "0.800 to 0.830",
        ("prediction", "squared error saved"): "18% (15 to 21)",
        ("prediction", "RMSE saved by genres"): "0.0100",
        ("agreement", "noise ceiling"): "0.70",
        ("changes", "model.hidden"): "[64, 32]",
        ("data", "ratings"): "2,000",
        ("data", "model"): "4fdec0",
        ("fingerprints", "split"): "1b",
    }
    assert found | expected == found
    absent = {("changes", name) for name in ("data.path", "seed", "train.threads")}
    assert not (absent | {("agreement", "with the planted truth")}) & set(found)


def test_table_of_what_was_not_measured(settings):
    one_user = json.loads(json.dumps(EVALUATED))
    for name in ("rmse_low", "rmse_high"):
        del one_user["test"][name]
    for name in ("skill_low", "skill_high"):
        del one_user["test"]["baselines"]["user_movie_bias"][name]
    own = changed(settings, data={"source": "folder", "path": "/home/me/books"})
    found = shown(own, one_user, UNANSWERED)
    assert found["prediction", "95 % interval"] == "-"
    assert found["prediction", "squared error saved"] == "18%"
    assert found["agreement", "with held-out ratings"] == "-"
    assert found["verdicts", "value"] == "? inconclusive"
    assert found["data", "source"] == "books (folder)"  # own files are named without their place
    assert not any("/home" in value for value in found.values())


@pytest.mark.pipeline
def test_summary_of_a_run(base: Project) -> None:
    details = (
        json.loads((base.folder / f"metrics/{stage}.json").read_text())
        for stage in ("evaluate", "inspect")
    )
    assert json.loads((base.folder / "metrics/summary.json").read_text()) == headlines(*details)
