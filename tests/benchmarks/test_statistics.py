"""The light parts of benchmarks/statistics: worlds as they are asked for, and counts."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.measuring import write_params
from benchmarks.statistics import calibration, simulation
from benchmarks.statistics.calibration import NULL, POWER, Kind, changes_of, false_rate, plant
from genre_embeddings import storage
from genre_embeddings.settings import Settings, load_settings


def row(outcome: str) -> dict:
    """A world's verdicts, all lines alike."""
    verdicts = dict.fromkeys((*calibration.LINES, calibration.KNOWN), outcome)
    return verdicts | {calibration.RHO: 0.4 if outcome == "pass" else None}


def settings_of(kind: Kind, seed: int) -> Settings:
    write_params(Path(), changes_of(kind, seed))
    return load_settings()


@pytest.mark.usefixtures("in_tmp")
def test_thresholds_are_those_of_the_pipeline(settings):
    small = settings_of(NULL[0], 3)
    kept = ("alpha", "min_ceiling_share", "min_stability", "min_gain", "min_pair_users")
    assert [getattr(small.inspect, name) for name in kept] == [
        getattr(settings.inspect, name) for name in kept
    ]
    assert small.planted.genre_effect == 0
    assert small.seed == small.planted.seed == 3
    large = settings_of(Kind("large", 1.0, 20_000), 0)  # users and movies grow with the root
    assert (large.planted.users, large.planted.movies, large.train.batch_size) == (300, 200, 256)


@pytest.mark.usefixtures("in_tmp")
def test_shuffling_keeps_ratings_and_genre_sets_and_moves_the_sets():
    movies, sides = [], []
    for shuffled in (False, True):
        plant(Kind("world", 2.0, 500, movies=150, shuffled=shuffled), 0)
        movies.append(storage.read_table(storage.PREPARED / "movies.parquet")["genres"].to_list())
        sides.append(storage.fingerprint_of(*(storage.SPLIT / side for side in storage.SIDES)))
    assert sides[0] == sides[1]
    assert movies[0] != movies[1]
    assert sorted(movies[0]) == sorted(movies[1])
    assert len(storage.read_json(storage.TRUTH)["similarity"]) == 10


def test_counts():
    # Clopper and Pearson: of none in n, the upper end is 1 - 0.025^(1/n).
    assert false_rate(0, 100) == f"0 of 100 (0.0% to {1 - 0.025**0.01:.1%})"
    found = {kind.name: [row("pass"), row("fail")] for kind in (*NULL, *POWER)}
    rows = [[*row.values()] for row in calibration.null_rows(found)]
    assert rows[0] == [NULL[0].name, *["1/1/0"] * 4]
    assert f"{len(NULL)} of {2 * len(NULL)} (" in rows[-1][-1]
    power = [[*row.values()] for row in calibration.power_rows(found)]
    assert len(power) == len(POWER)
    assert power[0][2:] == [*["50%"] * 3, "0.40"]


@pytest.mark.parametrize("kind", [Kind("tiny", 0.0, 500), Kind("tiny", 1.0, 500, shuffled=True)])
def test_a_world_is_judged(kind):
    found = calibration.inspect_world(kind, 0)
    assert {found[line] for line in calibration.LINES} <= set(calibration.OUTCOMES)
    assert found["rho with truth"] is None or -1 <= found["rho with truth"] <= 1


def test_simulated_users_err_as_is_expected_of_them():
    user, first, second = simulation.errors(100_000, np.random.default_rng(23))
    truth = simulation.expected_mse()
    assert np.mean(first**2) == pytest.approx(truth, rel=0.03)
    assert np.mean(second**2) == pytest.approx(truth * simulation.BETTER**2, rel=0.03)
    assert user[-1] == 99_999


def test_the_simulation_counts_what_it_says():
    assert simulation.luck(0.95, 1000) == "93.6% to 96.4%"
    few = next(simulation.error_rows(5))
    assert few["users"] == 20
    assert set(few) >= {"RMSE", "difference of MSE", "difference of RMSE"}
    assert len(list(simulation.null_rows(2))) == len(simulation.NULLS)
    assert next(simulation.ceiling_rows(1))["users"] == 100
