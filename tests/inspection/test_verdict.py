"""Outcomes and texts of the verdicts for given numbers."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from genre_embeddings.evaluation.metrics import Interval
from genre_embeddings.inspection.agreement import Agreement
from genre_embeddings.inspection.references import Evidence
from genre_embeddings.inspection.similarity import Stability
from genre_embeddings.inspection.verdict import (
    TRY_STABILITY,
    TRY_VALUE,
    Reference,
    stability_verdict,
    structure_verdict,
    value_verdict,
)


def reference(name, rho, p=0.0001, untrained=0.0, smallest=0.0001, chance=0.15, **more):
    agreement = Agreement(18, smallest, rho, p, chance)
    return Reference(name, agreement, {"untrained": untrained}, **more)


def seen(rho, p=0.0001, replicated=0.81, movie_halves=None, **more):
    nothing = np.eye(3), np.eye(3), np.zeros((1, 3, 3))
    evidence = Evidence(*nothing, replicated, movie_halves)
    return reference("likelihood", rho, p, evidence=evidence, **more)


def truth(rho, p=0.0001, **more):
    return reference("truth", rho, p, **more)


CATALOGUE = reference("catalogue", 0.9)


@pytest.mark.parametrize(
    ("references", "outcome", "says"),
    [
        (
            [seen(0.8)],
            "pass",
            "Compared with the evidence in held-out ratings, rho is 0.80 (p = 0.0001), 89 % of the "
            "noise ceiling 0.90 and above the 0.00 of the untrained model.",
        ),
        ([seen(0.4)], "inconclusive", "It matches in part: better than chance, below 80 % of the "),
        ([seen(0.1, 0.2)], "fail", "rho is 0.10 (p = 0.2000), 11 % of the noise ceiling"),
        ([seen(0.8, untrained=0.85)], "fail", "and not above the 0.85 of the untrained model."),
        # P-values are adjusted for several references.
        ([seen(0.8, 0.04), truth(0.9, 0.04)], "fail", "planted truth, rho is 0.90 (p = 0.0800)"),
        ([seen(0.8), truth(0.1, 0.3)], "inconclusive", "The pieces of evidence disagree. Compared"),
        # A reference that cannot judge is named, and leaves the others to judge.
        ([seen(0.1, replicated=None), truth(0.9)], "pass", "its noise ceiling could not be measur"),
        # What the model sees is shown, and does not count.
        ([seen(0.1, 0.3), CATALOGUE], "fail", "rho is 0.10 (p = 0.3000)"),
        ([CATALOGUE], "inconclusive", "There is no independent evidence to compare with."),
    ],
)
def test_structure(references, outcome, says):
    found = structure_verdict(references, 0.05, 0.8)
    assert (found.line, found.outcome) == ("structure", outcome)
    assert says in found.reason
    assert bool(found.advice) == (outcome != "pass")


@pytest.mark.parametrize(
    ("reference", "obstacle"),
    [
        (
            seen(0.8, replicated=0.15),
            "two measurements of it agree at rho = 0.15, and chance reaches 0.15: too few "
            "ratings, or ratings that do not depend on genres",
        ),
        (
            seen(0.8, movie_halves=0.15),
            "two halves of its movies agree at rho = 0.15, and chance reaches 0.15: it may "
            "say more about these movies than about genres",
        ),
        (
            seen(0.8, chance=0.75),
            "with its noise, a good model would reach rho = 0.72, and chance reaches 0.75",
        ),
        (
            seen(0.8, replicated=-0.2, chance=-0.1),
            "its noise ceiling is 0: two measurements of it have nothing in common",
        ),
        (seen(0.8, smallest=0.06), "with 18 genres p cannot fall below 0.060"),
        (Reference("likelihood", Agreement(3, 0.2, reason="no pairs"), {}), "no pairs"),
    ],
)
def test_evidence_that_cannot_judge_says_why(reference, obstacle):
    found = structure_verdict([reference], 0.05, 0.8)
    assert found.outcome == "inconclusive"
    assert f"The evidence in held-out ratings cannot judge: {obstacle}." in found.reason
    assert found.advice


def test_the_best_of_the_models_that_know_nothing_has_to_be_beaten():
    nulls = {"untrained": 0.1, "models with shuffled genres, 95 %": 0.3}
    found = structure_verdict([replace(seen(0.8), nulls=nulls)], 0.05, 0.8)
    assert "above the 0.30 of 95 % of the models trained on shuffled genres." in found.reason


@pytest.mark.parametrize(
    ("alpha", "share", "outcome"),
    [(0.05, 0.8, "pass"), (0.04, 0.8, "inconclusive"), (0.05, 0.81, "inconclusive")],
)
def test_structure_passes_on_the_very_thresholds(alpha, share, outcome):
    edge = seen(0.4, 0.05, replicated=0.25, smallest=0.05)
    assert structure_verdict([edge], alpha, share).outcome == outcome


@given(
    rho=st.floats(-1, 1),
    p=st.floats(0.0001, 1),
    replicated=st.floats(-1, 1) | st.none(),
    shares=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
@example(rho=-1.0, p=1.0, replicated=1.0, shares=(0.0, 0.0))
def test_a_more_lenient_threshold_never_loses_a_pass(rho, p, replicated, shares):
    lenient, strict = sorted(shares)
    if structure_verdict([seen(rho, p, replicated)], 0.05, strict).outcome == "pass":
        assert structure_verdict([seen(rho, p, replicated)], 0.05, lenient).outcome == "pass"


@pytest.mark.parametrize(
    ("reference", "advice"),
    [
        (seen(0.4, replicated=0.5), "with twice as many ratings it would be about 0.82"),
        (seen(0.4, whole=0.8), "The model knows more about genres (0.80) than its genre embedd"),
        (seen(0.4, whole=0.42, rival=0.8), "The training ratings hold more about genres (0.80, "),
        (seen(0.4, replicated=None), "Only more users who rated movies of several genres"),
        (truth(0.4), "This evidence has no noise"),
    ],
)
def test_advice_follows_from_the_reason(reference, advice):
    assert advice in structure_verdict([reference], 0.05, 0.8).advice


@pytest.mark.parametrize(("rho", "outcome"), [(0.9, "pass"), (0.6, "pass"), (0.59, "fail")])
def test_stability(rho, outcome):
    stable = np.array([True, False, True])
    found = stability_verdict(Stability(np.ones(3), stable, rho, 0.7, 0.2, 0.98), 0.6)
    assert (found.line, found.outcome) == ("stability", outcome)
    assert found.advice == ("" if outcome == "pass" else TRY_STABILITY)
    assert found.reason == (
        "Two models trained on as many ratings of other users are expected to agree on the genre "
        f"similarities at rho = {rho:.2f}; at least 0.60 is needed. They would have 70 % of the "
        "nearest genres in common, by chance 20 %; the nearest genres of 2 of 3 genres are "
        "repeatable. Another seed alone changes less: replicas agree at 0.98."
    )


def test_stability_of_two_genres_is_not_known():
    found = stability_verdict(None, 0.8)
    assert (found.outcome, found.advice) == ("inconclusive", TRY_STABILITY)
    assert "fewer than three genres" in found.reason


HELP = (0.1, 0.05, 0.15)


@pytest.mark.parametrize(
    ("warm", "cold", "outcome"),
    [
        ((0.003, 0.001, 0.005), None, "pass"),  # as much as is asked for
        ((0.003, 0.0, 0.006), None, "inconclusive"),  # an interval that touches 0
        ((0.002, 0.001, 0.005), None, "inconclusive"),  # too small, but it may be more
        ((0.001, -0.001, 0.003), None, "inconclusive"),  # it touches what is asked for
        ((0.002, 0.001, 0.0029), None, "fail"),
        ((0.010, -0.004, 0.024), None, "inconclusive"),
        ((-0.003, -0.005, -0.001), None, "fail"),
        ((-0.004, -0.01, 0.0), None, "fail"),  # worth nothing, though not harm
        ((-0.004, -0.02, 0.01), None, "inconclusive"),  # harm that may be luck
        ((-0.003, -0.008, 0.0), HELP, "pass"),  # what is no harm leaves the help of others
        ((-0.003, -0.004, -0.001), HELP, "inconclusive"),  # it harms some and helps others
    ],
)
def test_value(warm, cold, outcome):
    gains = {"warm_movies": warm, "cold_movies": cold}
    found = value_verdict({name: gain and Interval(*gain) for name, gain in gains.items()}, 0.003)
    assert (found.line, found.outcome) == ("value", outcome)
    assert found.advice == ("" if outcome == "pass" else TRY_VALUE)


FEW = "Too few users rated movies {} training ratings in test to measure their error."
LIMIT = "A change below 0.003 stars proves nothing: another seed could cause it."


@pytest.mark.parametrize(
    ("gains", "reason"),
    [
        (
            {"warm_movies": Interval(0.010, 0.004, 0.016), "cold_movies": None},
            "With genres, the RMSE on movies with training ratings falls by 0.0100 stars (95 % "
            f"interval 0.0040 to 0.0160). {FEW.format('without')} {LIMIT}",
        ),
        (
            {"cold_movies": Interval(-0.010, -0.014, -0.004)},
            "With genres, the RMSE on movies without training ratings "
            f"rises by 0.0100 stars (95 % interval 0.0040 to 0.0140). {LIMIT}",
        ),
        ({"warm_movies": None}, FEW.format("with")),
        ({}, "No model without genres was trained (train.without_genres: false)."),
    ],
)
def test_value_says(gains, reason):
    assert value_verdict(gains, 0.003).reason == reason
