import math

import numpy as np
import pytest

from genre_embeddings.evidence import Agreement, agreement
from genre_embeddings.metrics import Interval
from genre_embeddings.similarity import Similarity, Stability, replica_stability
from genre_embeddings.verdict import (
    Reference,
    stability_verdict,
    structure_verdict,
    unanswerable,
    value_verdict,
)


def agreed(rho, p_value=0.0001, smallest=0.0001, genres=18) -> Agreement:
    return Agreement(rho, p_value, smallest, 0.15, genres, genres * (genres - 1) // 2, np.empty(0))


def taste(rho, p_value=0.0001, ceiling=0.9, **more) -> Reference:
    return Reference("taste", agreed(rho, p_value), ceiling, **more)


def gain(estimate, low, high) -> Interval:
    return Interval(estimate, low, high, 0.95)


def finite(verdict) -> bool:
    return all(value is None or math.isfinite(value) for value in verdict.numbers.values())


@pytest.mark.parametrize(
    ("references", "outcome", "says"),
    [
        ([taste(0.8)], "pass", "89% of its ceiling 0.90"),
        ([taste(0.73)], "pass", "81% of its ceiling"),
        ([taste(0.4)], "inconclusive", "in part"),
        ([taste(0.1, p_value=0.2)], "fail", "do not lie"),
        ([taste(0.8, rivals={"untrained": 0.1})], "pass", "above the 0.10 of untrained"),
        ([taste(0.8, rivals={"untrained": 0.1, "shuffled": 0.85})], "fail", "not above the 0.85"),
        ([taste(0.1, p_value=0.2, ceiling=0.18)], "inconclusive", "chance reaches 0.15"),
        ([taste(0.3, ceiling=0.4, halves=0.1)], "inconclusive", "halves of its users agree at"),
        ([taste(0.8, halves=0.6)], "pass", "89% of its ceiling"),
        ([taste(0.8, halves=0.6, movie_halves=0.1)], "inconclusive", "halves of its movies agree"),
        ([taste(0.8, halves=0.6, movie_halves=0.4)], "pass", "89% of its ceiling"),
        ([taste(0.8, ceiling=0.0)], "inconclusive", "cannot judge"),
        ([taste(0.8, ceiling=None)], "inconclusive", "ceiling could not be measured"),
        ([], "inconclusive", "no independent evidence"),
        ([taste(0.8, independent=False)], "inconclusive", "no independent evidence"),
        ([taste(0.8), Reference("truth", agreed(0.9))], "pass", "Against truth, rho is 0.90"),
        ([taste(0.8), Reference("truth", agreed(0.1, 0.3))], "inconclusive", "disagree"),
        ([taste(0.8), Reference("truth", agreed(0.5))], "inconclusive", "in part"),
        ([taste(0.05, 0.4), Reference("truth", agreed(0.1, 0.3))], "fail", "do not lie"),
        # A reference that cannot judge is told, and leaves the others to judge.
        ([taste(0.1, 0.4, 0.1), Reference("truth", agreed(0.9))], "pass", "taste cannot judge"),
    ],
)
def test_structure(references, outcome, says):
    found = structure_verdict(references)
    assert found.line == "structure"
    assert found.outcome == outcome
    assert says in found.reason
    assert bool(found.advice) == (outcome != "pass")
    assert finite(found)


def test_holm_is_applied():
    pair = [taste(0.8, 0.04), Reference("truth", agreed(0.9, 0.04))]
    assert structure_verdict(pair[:1]).outcome == "pass"
    found = structure_verdict(pair)
    assert found.outcome == "fail"
    assert found.numbers["taste.p_holm"] == pytest.approx(0.08)


def test_what_the_model_saw_is_shown_but_does_not_count():
    found = structure_verdict(
        [taste(0.1, 0.3), Reference("catalogue", agreed(0.9), None, independent=False)]
    )
    assert found.outcome == "fail"
    assert found.numbers["catalogue.spearman"] == 0.9
    assert "catalogue.ceiling" not in found.numbers
    assert "catalogue" not in found.reason


@pytest.mark.parametrize("genres", [0, 2, 3])
def test_too_few_genres_are_inconclusive(genres):
    values = np.corrcoef(np.random.default_rng(0).normal(size=(genres, 5))) if genres else np.eye(0)
    learnt = Similarity(values, np.ones((genres, genres), dtype=bool))
    result = agreement(learnt, learnt, 9999, np.random.default_rng(0))
    found = structure_verdict([Reference("truth", result)])
    assert found.outcome == "inconclusive"
    assert f"{genres} genres" in found.reason
    assert finite(found)
    found = stability_verdict(replica_stability([learnt]))
    assert found.outcome == "inconclusive"
    assert finite(found)


def test_unanswerable_has_three_lines():
    found = unanswerable("The model has no genres (model.genres is false).")
    assert [verdict.line for verdict in found] == ["structure", "stability", "value"]
    assert {verdict.outcome for verdict in found} == {"inconclusive"}
    assert {verdict.reason for verdict in found} == {
        "The model has no genres (model.genres is false)."
    }


@pytest.mark.parametrize(("rho", "outcome"), [(0.9, "pass"), (0.8, "pass"), (0.79, "fail")])
def test_stability(rho, outcome):
    stable = np.array([True, False, True])
    found = stability_verdict(Stability(4, rho, 0.8, 0.4, 0.7, 0.2, 3, np.ones(3), stable))
    assert (found.line, found.outcome) == ("stability", outcome)
    assert "2 of 3 genres have stable neighbours (overlap 70%, by chance 20%)" in found.reason
    assert found.numbers["stable_genres"] == 2


def test_one_replica_is_inconclusive():
    learnt = Similarity(np.eye(5), np.ones((5, 5), dtype=bool))
    found = stability_verdict(replica_stability([learnt]))
    assert found.outcome == "inconclusive"
    assert "needs at least 2" in found.reason


@pytest.mark.parametrize(
    ("gains", "outcome", "says"),
    [
        ({"warm": gain(0.010, 0.004, 0.016)}, "pass", "RMSE by 0.0100 (95% interval 0.0040"),
        ({"warm": gain(0.002, 0.001, 0.0029)}, "fail", "worth nothing"),
        ({"warm": gain(0.0, -0.001, 0.001)}, "fail", "worth nothing"),
        ({"warm": gain(0.002, 0.001, 0.005)}, "inconclusive", "may or may not"),
        ({"warm": gain(0.010, -0.004, 0.024)}, "inconclusive", "may or may not"),
        ({"warm": gain(-0.010, -0.014, -0.004)}, "fail", "worse"),
        (
            {"warm": gain(0.0, -0.001, 0.001), "cold": gain(0.1, 0.05, 0.15)},
            "pass",
            "For cold",
        ),
        (
            {"warm": gain(-0.02, -0.03, -0.01), "cold": gain(0.1, 0.05, 0.15)},
            "inconclusive",
            "help some movies and harm others",
        ),
        (
            {"warm": gain(0.0, -0.001, 0.001), "cold": None},
            "fail",
            "For cold, too few users rated them",
        ),
        ({"warm": None, "cold": None}, "inconclusive", "No model without genres"),
        ({}, "inconclusive", "No model without genres"),
    ],
)
def test_value(gains, outcome, says):
    found = value_verdict(gains)
    assert (found.line, found.outcome) == ("value", outcome)
    assert says in found.reason
    assert bool(found.advice) == (outcome != "pass")
    assert finite(found)
