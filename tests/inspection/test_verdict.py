import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genre_embeddings.evaluation.metrics import Interval
from genre_embeddings.inspection.agreement import Agreement, agreement
from genre_embeddings.inspection.similarity import Similarity, Stability, replica_stability
from genre_embeddings.inspection.verdict import (
    Reference,
    stability_verdict,
    structure_verdict,
    unanswerable,
    value_verdict,
)


def agreed(rho, p_value=0.0001, smallest=0.0001, genres=18) -> Agreement:
    return Agreement(rho, p_value, smallest, 0.15, genres, genres * (genres - 1) // 2, np.empty(0))


def seen(rho, p_value=0.0001, ceiling=0.9, **more) -> Reference:
    return Reference("likelihood", agreed(rho, p_value), ceiling, **more)


def gain(estimate, low, high) -> Interval:
    return Interval(estimate, low, high, 0.95)


def finite(verdict) -> bool:
    return all(value is None or math.isfinite(value) for value in verdict.numbers.values())


@pytest.mark.parametrize(
    ("references", "outcome", "says"),
    [
        ([seen(0.8)], "pass", "89% of its ceiling 0.90"),
        ([seen(0.73)], "pass", "81% of its ceiling"),
        ([seen(0.4)], "inconclusive", "in part"),
        ([seen(0.1, p_value=0.2)], "fail", "does not match"),
        ([seen(0.8, nulls={"untrained": 0.1})], "pass", "above the 0.10 of untrained"),
        ([seen(0.8, nulls={"untrained": 0.1, "shuffled": 0.85})], "fail", "not above the 0.85"),
        ([seen(0.1, p_value=0.2, ceiling=0.18)], "inconclusive", "chance reaches 0.15"),
        (
            [seen(0.3, ceiling=0.4, replicated=0.1)],
            "inconclusive",
            "two measurements of it agree at",
        ),
        ([seen(0.8, replicated=0.6)], "pass", "89% of its ceiling"),
        (
            [seen(0.8, replicated=0.6, movie_halves=0.1)],
            "inconclusive",
            "halves of its movies agree",
        ),
        ([seen(0.8, replicated=0.6, movie_halves=0.4)], "pass", "89% of its ceiling"),
        ([seen(0.8, ceiling=0.0)], "inconclusive", "cannot judge"),
        ([seen(0.8, ceiling=None)], "inconclusive", "ceiling could not be measured"),
        ([], "inconclusive", "no independent evidence"),
        ([seen(0.8, independent=False)], "inconclusive", "no independent evidence"),
        ([seen(0.8), Reference("truth", agreed(0.9))], "pass", "Against truth, rho is 0.90"),
        ([seen(0.8), Reference("truth", agreed(0.1, 0.3))], "inconclusive", "disagree"),
        ([seen(0.8), Reference("truth", agreed(0.5))], "inconclusive", "in part"),
        ([seen(0.05, 0.4), Reference("truth", agreed(0.1, 0.3))], "fail", "does not match"),
        # A reference that cannot judge is told, and leaves the others to judge.
        (
            [seen(0.1, 0.4, 0.1), Reference("truth", agreed(0.9))],
            "pass",
            "likelihood cannot judge",
        ),
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
    pair = [seen(0.8, 0.04), Reference("truth", agreed(0.9, 0.04))]
    assert structure_verdict(pair[:1]).outcome == "pass"
    found = structure_verdict(pair)
    assert found.outcome == "fail"
    assert found.numbers["likelihood.p_holm"] == pytest.approx(0.08)


def test_what_the_model_saw_is_shown_but_does_not_count():
    found = structure_verdict(
        [seen(0.1, 0.3), Reference("catalogue", agreed(0.9), None, independent=False)]
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


STRUCTURE_ADVICE, STABILITY_ADVICE, VALUE_ADVICE = (
    verdict.advice
    for verdict in (
        structure_verdict([]),
        stability_verdict(replica_stability([Similarity(np.eye(5), np.ones((5, 5), dtype=bool))])),
        value_verdict({}),
    )
)
CANNOT = "likelihood cannot judge: "
LIMIT = "Less than 0.003 proves nothing: another seed does as much."


@pytest.mark.parametrize(
    ("references", "reason"),
    [
        (
            [
                seen(0.8, nulls={"untrained": 0.1, "shuffled": 0.2}),
                Reference("truth", agreed(1)),
            ],
            "The learnt genre similarity matches the evidence. "
            "Against likelihood, rho is 0.80 (p = 0.0002 after "
            "Holm), 89% of its ceiling 0.90 and above the 0.20 of shuffled. Against truth, rho is "
            "1.00 (p = 0.0002 after Holm), 100% of its ceiling 1.00.",
        ),
        (
            [seen(0.1, 0.2), Reference("truth", agreed(0.8), None)],
            "The learnt genre similarity does not match the evidence. "
            "Against likelihood, rho is 0.10 (p = 0.2000 "
            "after Holm), 11% of its ceiling 0.90. truth cannot judge: its noise ceiling could "
            "not be measured.",
        ),
        (
            [seen(0.3)],
            "The learnt genre similarity matches the evidence in part, below 80% of the ceiling. "
            "Against likelihood, rho is 0.30 "
            "(p = 0.0001 after Holm), 33% of its ceiling 0.90.",
        ),
        (
            [seen(0.8, nulls={"untrained": 0.8}), Reference("truth", agreed(0.9))],
            "The pieces of evidence disagree. Against likelihood, rho is 0.80 (p = 0.0002 after "
            "Holm), 89% of its ceiling 0.90 and not above the 0.80 of untrained. Against truth, "
            "rho is 0.90 (p = 0.0002 after Holm), 90% of its ceiling 1.00.",
        ),
        ([], "There is no independent evidence to compare with."),
        (
            [seen(0.1, ceiling=None), Reference("truth", agreed(0.9, smallest=0.03))],
            f"{CANNOT}its noise ceiling could not be measured. "
            "truth cannot judge: with 18 genres p cannot fall below 0.030.",
        ),
        (
            [Reference("likelihood", replace(agreed(0.8), null_95=None))],
            f"{CANNOT}no shuffled orders were drawn.",
        ),
        (
            [
                Reference(
                    "likelihood", replace(agreed(0.8), spearman=None, reason="nothing differs")
                )
            ],
            f"{CANNOT}nothing differs.",
        ),
        (
            [seen(0.8, replicated=0.15)],
            f"{CANNOT}two measurements of it agree at rho = 0.15, and chance reaches 0.15: too "
            "few ratings, or nothing in them.",
        ),
        (
            [seen(0.8, movie_halves=0.15)],
            f"{CANNOT}two halves of its movies agree at rho = 0.15, and chance reaches 0.15: what "
            "it shows may be these movies' and not the genres'.",
        ),
    ],
)
def test_structure_says(references, reason):
    found = structure_verdict(references)
    assert found.reason == reason
    assert bool(found.advice) == (found.outcome != "pass")


@pytest.mark.parametrize(
    ("reference", "advice"),
    [
        (seen(0.4, replicated=0.5), "with twice as many ratings it would be about 0.82"),
        (seen(0.4, whole=0.8), "The model knows more about genres (0.80) than its genre embedd"),
        (seen(0.4, whole=0.42, rival=0.8), "The training ratings hold more about genres (0.80)"),
        (seen(0.4), "Only more users"),
    ],
)
def test_advice_follows_from_the_reason(reference, advice):
    found = structure_verdict([reference])
    assert found.outcome == "inconclusive"
    assert advice in found.advice


def test_the_whole_model_and_the_rival_are_named():
    gap = Interval(-0.1, -0.2, 0.05, 0.95)
    found = structure_verdict([seen(0.8, whole=0.82, rival=0.9, gap=gap)])
    assert (
        "The model as a whole reaches 0.82, a mixed model fitted to the training ratings 0.90 "
        "(difference -0.10, 95% interval -0.20 to +0.05)."
    ) in found.reason
    assert found.numbers["likelihood.above_rival.low"] == -0.2


def test_structure_passes_on_the_very_thresholds():
    edge = Reference("likelihood", agreed(0.4, p_value=0.05, smallest=0.05), 0.5)
    assert structure_verdict([edge]).outcome == "pass"
    stricter = structure_verdict([edge], alpha=0.04)
    assert stricter.reason.endswith("with 18 genres p cannot fall below 0.050.")
    assert structure_verdict([edge], min_ceiling_share=0.81).outcome == "inconclusive"
    assert structure_verdict([seen(0.8, ceiling=0.15)], min_ceiling_share=1.0).reason == (
        f"{CANNOT}a good model would reach rho = 0.12 under the noise, and chance reaches 0.15."
    )


@given(
    rho=st.floats(-1, 1),
    p_value=st.floats(0, 1) | st.none(),
    ceiling=st.floats(0, 1) | st.none(),
    shares=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_a_more_lenient_threshold_never_loses_a_pass(rho, p_value, ceiling, shares):
    lenient, strict = sorted(shares)
    reference = seen(rho, p_value=p_value, ceiling=ceiling)
    if structure_verdict([reference], min_ceiling_share=strict).outcome == "pass":
        assert structure_verdict([reference], min_ceiling_share=lenient).outcome == "pass"


def test_a_threshold_of_zero_still_lets_evidence_judge():
    assert structure_verdict([seen(0.4)], min_ceiling_share=0.0).outcome == "pass"


def test_a_ceiling_of_zero_cannot_judge():
    below_chance = replace(agreed(0.8), null_95=-0.1)
    found = structure_verdict([Reference("likelihood", below_chance, 0.0)])
    assert found.outcome == "inconclusive"
    assert "its noise ceiling is 0" in found.reason


def test_a_missing_p_value_is_not_significant():
    found = structure_verdict([seen(0.8, p_value=None)])
    assert found.outcome == "inconclusive"
    assert "cannot judge" in found.reason


def test_numbers_behind_structure():
    numbers = structure_verdict(
        [
            seen(0.8, replicated=0.7, movie_halves=0.6, nulls={"untrained": 0.1}),
            Reference("catalogue", agreed(0.5), None, independent=False),
        ],
        alpha=0.01,
        min_ceiling_share=0.7,
    ).numbers
    assert numbers == {
        "alpha": 0.01,
        "min_ceiling_share": 0.7,
        "likelihood.spearman": 0.8,
        "likelihood.p_value": 0.0001,
        "likelihood.null_95": 0.15,
        "likelihood.pairs": 153,
        "likelihood.ceiling": 0.9,
        "likelihood.replicated": 0.7,
        "likelihood.movie_halves": 0.6,
        "likelihood.untrained": 0.1,
        "likelihood.p_holm": 0.0001,
        "catalogue.spearman": 0.5,
        "catalogue.p_value": 0.0001,
        "catalogue.null_95": 0.15,
        "catalogue.pairs": 153,
    }


def test_stability_says():
    told = Stability(4, 0.5, 0.8, 0.4, 0.7, 0.2, 3, np.ones(3), np.array([True, False, True]))
    found = stability_verdict(told, min_stability=0.6)
    assert found.reason == (
        "Between 4 replicas, the genre similarities agree at rho = 0.50; 0.60 is asked for. "
        "2 of 3 genres have stable neighbours (overlap 70%, by chance 20%)."
    )
    assert found.advice == STABILITY_ADVICE
    assert found.numbers == {
        "replicas": 4,
        "spearman": 0.5,
        "min_stability": 0.6,
        "cka": 0.8,
        "cka_chance": 0.4,
        "neighbour_overlap": 0.7,
        "neighbour_overlap_chance": 0.2,
        "stable_genres": 2,
    }
    assert stability_verdict(told, min_stability=0.5).advice == ""
    one = stability_verdict(replica_stability([Similarity(np.eye(5), np.eye(5) == 1)]))
    assert one.line == "stability"
    assert one.reason == "Stability cannot be measured: 1 replica: agreement needs at least 2."
    assert one.advice == STABILITY_ADVICE != ""


FOR_WARM = "For warm, they lower the RMSE by {:.4f} (95% interval {:.4f} to {:.4f})."


@pytest.mark.parametrize(
    ("found", "opening"),
    [
        ((0.010, 0.004, 0.016), "Genres make predictions better."),
        ((-0.010, -0.014, -0.004), "Genres make predictions worse."),
        ((0.001, 0.0005, 0.002), "Genres are worth nothing here."),
        ((0.010, -0.004, 0.024), "Genres may or may not be worth something."),
    ],
)
def test_value_says(found, opening):
    told = value_verdict({"warm": gain(*found), "cold": None, "ancient": None})
    assert told.reason == (
        f"{opening} {FOR_WARM.format(*found)} For ancient, too few users rated them in test to "
        f"judge. For cold, too few users rated them in test to judge. {LIMIT}"
    )
    assert told.advice == ("" if told.outcome == "pass" else VALUE_ADVICE)
    assert told.numbers == {
        "min_gain": 0.003,
        "warm.estimate": found[0],
        "warm.low": found[1],
        "warm.high": found[2],
        **dict.fromkeys(f"{g}.{p}" for g in ("cold", "ancient") for p in PARTS),
    }


PARTS = ("estimate", "low", "high")


def test_value_of_some_movies_against_others():
    harm, help_ = gain(-0.02, -0.03, -0.01), gain(0.1, 0.05, 0.15)
    told = value_verdict({"warm": harm, "cold": help_})
    assert told.reason.startswith("Genres help some movies and harm others. For warm, they lower ")
    assert value_verdict({}).reason == (
        "No model without genres was compared on the test ratings of enough users."
    )


@pytest.mark.parametrize(
    ("found", "outcome"),
    [
        ((0.003, 0.001, 0.005), "pass"),  # as much as is asked for
        ((0.003, 0.0, 0.006), "inconclusive"),  # an interval that touches 0
        ((0.001, -0.001, 0.003), "inconclusive"),  # an interval that touches what is asked for
        ((-0.003, -0.005, -0.001), "fail"),
        ((-0.004, -0.01, 0.0), "fail"),  # worth nothing, though not harm
        ((-0.004, -0.02, 0.01), "inconclusive"),  # harm that may be luck
    ],
)
def test_value_on_the_very_thresholds(found, outcome):
    assert value_verdict({"warm": gain(*found)}).outcome == outcome


@pytest.mark.parametrize(
    "found", [(-0.001, -0.002, -0.0005), (-0.003, -0.008, 0.0), (0.001, 0.0005, 0.002)]
)
def test_what_is_no_harm_leaves_the_help_of_others(found):
    told = value_verdict({"warm": gain(*found), "cold": gain(0.1, 0.05, 0.15)})
    assert told.outcome == "pass"


def test_harm_of_just_the_threshold_counts():
    found = value_verdict({"warm": gain(-0.003, -0.004, -0.001), "cold": gain(0.1, 0.05, 0.15)})
    assert found.outcome == "inconclusive"
