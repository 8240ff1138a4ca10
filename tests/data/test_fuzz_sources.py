"""Damaged and unusual files: every row is read, or one clear error names the fault.

Damage and judgement are those of benchmarks/robustness/fuzz.py, whose long run fills
docs/results/robustness.md; this is a short run, the same each time.
"""

import random

import pytest

from benchmarks.robustness import fuzz
from benchmarks.robustness.fuzz import DAMAGE, LAYOUTS, WrongOutcomeError, attack, judge, sound


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_survives_every_kind_of_damage(name):
    outcomes = [attack(name, kind, -1 - n) for kind in DAMAGE for n in range(4)]
    assert [outcome for outcome in outcomes if outcome not in ("parsed", "error")] == []
    assert outcomes.count("error") > len(outcomes) / 4


def test_the_judge_notices_a_lost_row(tmp_path, monkeypatch):
    contents, read = sound(LAYOUTS["csv"], random.Random(1)), fuzz.prepared
    monkeypatch.setattr(
        fuzz, "prepared", lambda data: (rows := read(data)) | {"ratings": rows["ratings"][:-1]}
    )
    with pytest.raises(WrongOutcomeError, match="other rows"):
        judge(LAYOUTS["csv"], contents, contents, contents, tmp_path)
