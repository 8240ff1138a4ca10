"""The headline numbers, and the table of them on the comparison page."""

import json

import pytest

from genre_embeddings.publish.summary import Details, headlines, table
from tests.conftest import changed

BIAS = {"rmse": 0.9, "skill": 0.185}
TEST = {"rmse": 0.81234, "cold_movies": {"ratings": 0}, "baselines": {"user_movie_bias": BIAS}}
INTERVALS = TEST | {
    "rmse_low": 0.8,
    "rmse_high": 0.83,
    "baselines": {"user_movie_bias": BIAS | {"skill_low": 0.15, "skill_high": 0.21}},
}
EVALUATED = {"model": "4fdec0", "test": INTERVALS, "validation": {"rmse": 0.8}}
INSPECTED = {
    "verdict": {"structure": "pass", "stability": "fail", "value": "inconclusive"},
    "agreement": {"likelihood": {"spearman": 0.5, "ceiling": 0.7, "null_95": 0.2, "rival": 0.6}},
    "stability": {"spearman": 0.9},
    "value": {"warm_movies_estimate": 0.01},
}
COUNTS = {"ratings": 2000}, {"parts": {"test": {"ratings": 200}}}


def test_headlines_repeat_details_under_short_names():
    found = headlines(Details(*COUNTS, EVALUATED, INSPECTED))
    assert found["test"] | {"baseline_rmse": 0.9, "skill_low": 0.15} == found["test"]
    assert found["agreement"] == {"likelihood": 0.5, "ceiling": 0.7, "mixed_model": 0.6}
    assert found["verdict"] == INSPECTED["verdict"]
    assert headlines(Details(*COUNTS, {"test": {"rmse": None}}, {})) == {}


@pytest.mark.parametrize("measured", [True, False])
def test_the_table_is_text(settings, measured):
    evaluated, inspected = EVALUATED, INSPECTED
    if not measured:  # few users, no genres, and own ratings, named without their place
        settings = changed(settings, data={"source": "folder", "path": "/home/me/books"})
        evaluated = EVALUATED | {"test": TEST}
        inspected = {"verdict": dict.fromkeys(INSPECTED["verdict"], "inconclusive")}
    details = Details(*COUNTS, evaluated, inspected)
    rows = table(settings, details, {"data": "0a", "split": "1b"})
    found = {(row["section"], row["name"]): row["value"] for row in rows}
    expected = {
        ("verdicts", "stability"): "✗ fail" if measured else "? inconclusive",
        ("prediction", "test RMSE (stars)"): "0.8123",
        ("prediction", "95 % interval"): "0.800 to 0.830" if measured else "-",
        ("prediction", "squared error saved"): "18% (15 to 21)" if measured else "18%",
        ("agreement", "noise ceiling"): "0.70" if measured else "-",
        ("changes", "model.hidden"): "[64, 32]",
        ("data", "source"): "planted" if measured else "books (folder)",
        ("data", "ratings"): "2,000",
        ("data", "model"): "4fdec0",
        ("fingerprints", "split"): "1b",
    }
    assert found | expected == found
    assert found.get(("prediction", "RMSE saved by genres")) == ("0.0100" if measured else None)
    absent = {("changes", name) for name in ("data.path", "seed", "train.threads")}
    assert not (absent | {("agreement", "with the planted truth")}) & set(found)
    assert "/home" not in json.dumps(rows)
