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
        ([seen(0.8)], "pass", "89 % of the noise ceiling 0.90"),
        ([seen(0.73)], "pass", "81 % of the noise ceiling"),
        ([seen(0.4)], "inconclusive", "matches in part"),
        ([seen(0.1, p_value=0.2)], "fail", "11 % of the noise ceiling"),
        ([seen(0.8, nulls={"untrained": 0.1})], "pass", "above the 0.10 of the untrained"),
        ([seen(0.8, nulls={"untrained": 0.1, "shuffled": 0.85})], "fail", "not above the 0.85"),
        ([seen(0.1, p_value=0.2, ceiling=0.18)], "inconclusive", "chance reaches 0.15"),
        (
            [seen(0.3, ceiling=0.4, replicated=0.1)],
            "inconclusive",
            "two measurements of it agree at",
        ),
        ([seen(0.8, replicated=0.6)], "pass", "89 % of the noise ceiling"),
        (
            [seen(0.8, replicated=0.6, movie_halves=0.1)],
            "inconclusive",
            "halves of its movies agree",
        ),
        ([seen(0.8, replicated=0.6, movie_halves=0.4)], "pass", "89 % of the noise ceiling"),
        ([seen(0.8, p_value=None)], "inconclusive", "cannot judge"),
        ([seen(0.8, ceiling=None)], "inconclusive", "ceiling could not be measured"),
        ([], "inconclusive", "no independent evidence"),
        ([seen(0.8, independent=False)], "inconclusive", "no independent evidence"),
        (
            [seen(0.8), Reference("truth", agreed(0.9))],
            "pass",
            "Compared with the planted truth, rho is 0.90",
        ),
        ([seen(0.8), Reference("truth", agreed(0.1, 0.3))], "inconclusive", "disagree"),
        ([seen(0.8), Reference("truth", agreed(0.5))], "inconclusive", "matches in part"),
        ([seen(0.05, 0.4), Reference("truth", agreed(0.1, 0.3))], "fail", "rho is 0.05 (p ="),
        # A reference that cannot judge is told, and leaves the others to judge.
        (
            [seen(0.1, 0.4, 0.1), Reference("truth", agreed(0.9))],
            "pass",
            "The evidence in held-out ratings cannot judge",
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
    assert "nearest genres of 2 of 3 genres are repeatable: two replicas have 70 %" in found.reason
    assert found.numbers["stable_genres"] == 2


@pytest.mark.parametrize(
    ("gains", "outcome", "says"),
    [
        (
            {"warm": gain(0.010, 0.004, 0.016)},
            "pass",
            "falls by 0.0100 stars (95 % interval 0.0040",
        ),
        ({"warm": gain(0.002, 0.001, 0.0029)}, "fail", "falls by 0.0020"),
        ({"warm": gain(0.0, -0.001, 0.001)}, "fail", "falls by 0.0000"),
        ({"warm": gain(0.002, 0.001, 0.005)}, "inconclusive", "proves nothing"),
        ({"warm": gain(0.010, -0.004, 0.024)}, "inconclusive", "proves nothing"),
        ({"warm": gain(-0.010, -0.014, -0.004)}, "fail", "worse"),
        (
            {"warm": gain(0.0, -0.001, 0.001), "cold": gain(0.1, 0.05, 0.15)},
            "pass",
            "RMSE on cold falls",
        ),
        (
            {"warm": gain(-0.02, -0.03, -0.01), "cold": gain(0.1, 0.05, 0.15)},
            "inconclusive",
            "help for some movies and harm for others",
        ),
        (
            {"warm": gain(0.0, -0.001, 0.001), "cold": None},
            "fail",
            "Too few users rated cold in test",
        ),
        ({"warm": None, "cold": None}, "inconclusive", "Too few users rated warm"),
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
        value_verdict({"warm movies": None}),
    )
)
CANNOT = "The evidence in held-out ratings cannot judge: "
HELD_OUT = "Compared with the evidence in held-out ratings, rho is"
TRUTH = "Compared with the planted truth, rho is"
LIMIT = "A change below 0.003 stars proves nothing: another seed could cause it."


@pytest.mark.parametrize(
    ("references", "reason"),
    [
        (
            [
                seen(0.8, nulls={"untrained": 0.1, "shuffled": 0.2}),
                Reference("truth", agreed(1)),
            ],
            f"{HELD_OUT} 0.80 (p = 0.0002), 89 % of the noise ceiling 0.90 and above the 0.20 of "
            f"shuffled. {TRUTH} 1.00 (p = 0.0002), 100 % of the noise ceiling 1.00.",
        ),
        (
            [seen(0.1, 0.2), Reference("truth", agreed(0.8), None)],
            f"{HELD_OUT} 0.10 (p = 0.2000), 11 % of the noise ceiling 0.90. The planted truth "
            "cannot judge: its noise ceiling could not be measured.",
        ),
        (
            [seen(0.3)],
            "It matches in part: better than chance, below 80 % of the noise ceiling. "
            f"{HELD_OUT} 0.30 (p = 0.0001), 33 % of the noise ceiling 0.90.",
        ),
        (
            [seen(0.8, nulls={"untrained": 0.8}), Reference("truth", agreed(0.9))],
            f"The pieces of evidence disagree. {HELD_OUT} 0.80 (p = 0.0002), 89 % of the noise "
            f"ceiling 0.90 and not above the 0.80 of the untrained model. {TRUTH} 0.90 "
            "(p = 0.0002), 90 % of the noise ceiling 1.00.",
        ),
        ([], "There is no independent evidence to compare with."),
        (
            [seen(0.1, ceiling=None), Reference("truth", agreed(0.9, smallest=0.03))],
            f"{CANNOT}its noise ceiling could not be measured. "
            "The planted truth cannot judge: with 18 genres p cannot fall below 0.030.",
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
            "few ratings, or ratings that do not depend on genres.",
        ),
        (
            [seen(0.8, movie_halves=0.15)],
            f"{CANNOT}two halves of its movies agree at rho = 0.15, and chance reaches 0.15: it "
            "may say more about these movies than about genres.",
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
        (
            seen(0.4, whole=0.42, rival=0.8),
            "The training ratings hold more about genres (0.80, the",
        ),
        (seen(0.4), "Only more users"),
        (Reference("truth", agreed(0.4)), "only more training ratings can help the model"),
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
        "The model as a whole reaches 0.82, the rival reaches 0.90 "
        "(difference -0.10, 95 % interval -0.20 to +0.05)."
    ) in found.reason
    assert found.numbers["likelihood.above_rival.low"] == -0.2


def test_structure_passes_on_the_very_thresholds():
    edge = Reference("likelihood", agreed(0.4, p_value=0.05, smallest=0.05), 0.5)
    assert structure_verdict([edge]).outcome == "pass"
    stricter = structure_verdict([edge], alpha=0.04)
    assert stricter.reason.endswith("with 18 genres p cannot fall below 0.050.")
    assert structure_verdict([edge], min_ceiling_share=0.81).outcome == "inconclusive"
    assert structure_verdict([seen(0.8, ceiling=0.15)], min_ceiling_share=1.0).reason == (
        f"{CANNOT}with its noise, a good model would reach rho = 0.12, and chance reaches 0.15."
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


def test_a_ceiling_of_zero_cannot_judge():
    below_chance = replace(agreed(0.8), null_95=-0.1)
    found = structure_verdict([Reference("likelihood", below_chance, 0.0)])
    assert found.outcome == "inconclusive"
    assert "its noise ceiling is 0" in found.reason


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
        "The genre similarities of 4 replicas agree at rho = 0.50; at least 0.60 is needed. The "
        "nearest genres of 2 of 3 genres are repeatable: two replicas have 70 % of them in common, "
        "by chance it would be 20 %."
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
    assert one.reason == "Stability cannot be measured (1 replica: agreement needs at least 2)."
    assert one.advice == STABILITY_ADVICE != ""


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ((0.010, 0.004, 0.016), "{} falls by 0.0100 stars (95 % interval 0.0040 to 0.0160)."),
        (
            (-0.010, -0.014, -0.004),
            "They make predictions worse. {} rises by 0.0100 stars (95 % interval 0.0040 to "
            "0.0140).",
        ),
        ((0.001, 0.0005, 0.002), "{} falls by 0.0010 stars (95 % interval 0.0005 to 0.0020)."),
        ((0.010, -0.004, 0.024), "{} falls by 0.0100 stars (95 % interval -0.0040 to 0.0240)."),
    ],
)
def test_value_says(found, says):
    told = value_verdict({"warm movies": gain(*found), "cold movies": None, "old movies": None})
    assert told.reason == (
        says.format("With genres, the RMSE on movies with training ratings")
        + " Too few users rated movies without training ratings in test to judge these. "
        f"Too few users rated old movies in test to judge these. {LIMIT}"
    )
    assert told.advice == ("" if told.outcome == "pass" else VALUE_ADVICE)
    assert told.numbers == {
        "min_gain": 0.003,
        **dict(zip((f"warm movies.{part}" for part in PARTS), found, strict=True)),
        **dict.fromkeys(f"{g} movies.{p}" for g in ("cold", "old") for p in PARTS),
    }


PARTS = ("estimate", "low", "high")


def test_a_model_that_was_not_trained_is_the_user_s_choice():
    told = value_verdict({})
    assert told.reason == "No model without genres was trained (train.without_genres: false)."
    assert told.advice == "Set train.without_genres: true."
    few = value_verdict({"warm movies": None})
    assert few.reason == "Too few users rated movies with training ratings in test to judge these."
    assert few.advice == VALUE_ADVICE


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
