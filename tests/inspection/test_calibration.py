"""The light parts of benchmarks/calibration: worlds as they are asked for, counts, the page."""

import numpy as np
import pytest

from benchmarks.statistics import calibration
from benchmarks.statistics.calibration import (
    NULL,
    POWER,
    Kind,
    false_rate,
    passed,
    plant,
    settings_of,
)


def row(kind: Kind, seed: int, outcome: str) -> dict:
    """A world's numbers, all lines alike."""
    numbers = {
        "structure": {"likelihood.spearman": 0.5, "likelihood.ceiling": 0.8},
        "stability": {"spearman": None},
        "value": {},
    }
    lines = dict.fromkeys((*calibration.LINES, "structure, truth known"), outcome)
    return {"kind": kind.name, "seed": seed, "truth": 0.4, "numbers": numbers, **lines}


def test_thresholds_are_those_of_the_pipeline(settings):
    small = settings_of(NULL[0], 3)
    kept = ("alpha", "min_ceiling_share", "min_stability", "min_gain", "min_pair_users")
    assert [getattr(small.inspect, name) for name in kept] == [
        getattr(settings.inspect, name) for name in kept
    ]
    assert small.planted.genre_effect == 0
    assert small.seed == small.planted.seed == 3


def test_users_and_movies_grow_with_the_root_of_the_ratings():
    large = settings_of(Kind("large", 1.0, 20_000), 0)
    assert (large.planted.users, large.planted.movies) == (300, 200)
    assert large.train.batch_size == 256


def test_shuffling_keeps_ratings_and_genre_counts_and_moves_the_sets():
    kind = Kind("planted", 2.0, 500, movies=150)
    shuffled = Kind("shuffled", 2.0, 500, movies=150, shuffled=True)
    settings = settings_of(kind, 0)
    (before, sides, truth), (after, moved, _) = plant(kind, settings), plant(shuffled, settings)
    for name, side in sides.items():
        assert all(np.array_equal(a, b) for a, b in zip(side, moved[name], strict=True))
    assert before.ratings.equals(after.ratings)
    assert before.movies["genres"].to_list() != after.movies["genres"].to_list()
    assert len(truth["similarity"]) == 10


def test_rates_have_exact_intervals():
    # Clopper and Pearson: of none in n, the upper end is 1 - 0.025^(1/n).
    assert false_rate(0, 100) == f"0 of 100 (0.0% to {1 - 0.025**0.01:.1%})"


def test_counts():
    kinds = (*NULL, *POWER)
    found = {kind.name: [row(kind, 0, "pass"), row(kind, 1, "fail")] for kind in kinds}
    assert [passed(world) for world in found[NULL[0].name]] == [True, False]
    rows = [[*row.values()] for row in calibration.null_rows(found)]
    assert rows[0] == [NULL[0].name, *["1/1/0"] * 4, 1]
    assert rows[-2][:2] == ["all", f"{len(NULL)}/{len(NULL)}/0"]
    assert f"{len(NULL)} of {2 * len(NULL)} (" in rows[-1][-1]
    power = [[*row.values()] for row in calibration.power_rows(found)]
    assert len(power) == len(POWER)
    assert power[0][3:] == [*["50%"] * 5, "0.40", "0.50", "0.80", "-"]


@pytest.mark.parametrize("kind", [Kind("tiny", 0.0, 500), Kind("tiny", 1.0, 500, shuffled=True)])
def test_a_world_is_judged(kind):
    found = calibration.inspect_world(kind, 0)
    assert {found[line] for line in calibration.LINES} <= set(calibration.OUTCOMES)
    assert set(found["numbers"]) == set(calibration.LINES)
    assert found["truth"] is None or -1 <= found["truth"] <= 1
