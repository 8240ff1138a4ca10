"""The headline numbers of a run: few enough for `dvc metrics show` and for one look at a page.

The stages write all that they measure into metrics/*.json, which DVC caches and does not list.
metrics/summary.json, in git, repeats what decides whether a run is better than another;
plots/summary.json holds the same as text, with the data and the settings, for the table on top of
the comparison page.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from genre_embeddings import storage
from genre_embeddings.settings import Settings, effective

SUMMARY = storage.METRICS / "summary.json"
TABLE = storage.PLOTS / "summary.json"
EVALUATION = storage.METRICS / "evaluate.json"
INSPECTION = storage.METRICS / "inspect.json"

HEADLINES = {
    "verdict.structure": "verdict.structure",
    "verdict.stability": "verdict.stability",
    "verdict.value": "verdict.value",
    "test.rmse": "test.rmse",
    "test.rmse_low": "test.rmse_low",
    "test.rmse_high": "test.rmse_high",
    "test.baseline_rmse": "test.baselines.user_movie_bias.rmse",
    "test.skill": "test.baselines.user_movie_bias.skill",
    "test.skill_low": "test.baselines.user_movie_bias.skill_low",
    "test.skill_high": "test.baselines.user_movie_bias.skill_high",
    "test.cold_movies_rmse": "test.cold_movies.rmse",
    "validation.rmse": "validation.rmse",
    "agreement.likelihood": "agreement.likelihood.spearman",
    "agreement.ceiling": "agreement.likelihood.ceiling",
    "agreement.mixed_model": "agreement.likelihood.rival",
    "agreement.truth": "agreement.truth.spearman",
    "stability.spearman": "stability.spearman",
    "value.warm_movies_gain": "value.warm_movies_estimate",
    "value.cold_movies_gain": "value.cold_movies_estimate",
}
"""Each headline, and the number of metrics/evaluate.json or metrics/inspect.json that it repeats.

Errors and gains are in stars. `skill` is the share of the baseline's squared error that the model
saves. Agreements are Spearman's rho, the one with held-out ratings by likelihood.
"""
MARKS = {"pass": "✓", "fail": "✗", "inconclusive": "?"}
NOT_CHANGES = ("data.source", "data.path", "seed", "split.strategy")
"""Settings that have rows of their own, or say where a person keeps files."""


class Details(NamedTuple):
    """What the stages have measured: metrics/NAME.json of four stages."""

    prepared: dict[str, Any]
    split: dict[str, Any]
    evaluated: dict[str, Any]
    inspected: dict[str, Any]


def read_details() -> Details:
    """The metrics of the earlier stages.

    Raises:
        InputError: a file is missing, damaged, or from another run than the others or the model.
    """
    prepared, split = (
        storage.read_json(storage.METRICS / f"{stage}.json") for stage in ("prepare", "split")
    )
    evaluated, inspected = (storage.read_measured(stage) for stage in ("evaluate", "inspect"))
    require_one_run(prepared, split, evaluated, inspected)
    return Details(prepared, split, evaluated, inspected)


def write_summary(settings: Settings, details: Details) -> None:
    """Write metrics/summary.json and plots/summary.json."""
    prepared, split, evaluated, inspected = details
    storage.write_metrics(SUMMARY, headlines(evaluated, inspected))
    fingerprints = {
        "data": storage.fingerprint_of(storage.PREPARED),
        "split": storage.fingerprint_of(*(storage.SPLIT / side for side in storage.SIDES)),
    }
    counts = prepared["ratings"], split["parts"]["test"]["ratings"]
    storage.write_rows(TABLE, table(settings, *counts, evaluated, inspected, fingerprints))


def require_one_run(
    prepared: Mapping[str, Any],
    split: Mapping[str, Any],
    evaluated: Mapping[str, Any],
    inspected: Mapping[str, Any],
) -> None:
    """Check that the metrics of four stages can be of one run.

    Raises:
        InputError: they are of different models, or count different ratings.
    """
    parts = {side: counts["ratings"] for side, counts in split["parts"].items()}
    for one, other, same, what in (
        ("prepare", "split", prepared["ratings"] == sum(parts.values()), "ratings"),
        ("split", "evaluate", parts["test"] == evaluated["test"]["ratings"], "test ratings"),
        ("evaluate", "inspect", evaluated["model"] == inspected["model"], "a model"),
    ):
        if not same:
            first, second = (storage.METRICS / f"{stage}.json" for stage in (one, other))
            raise storage.different_runs(first, second, f"each is about {what} of its own")


def headlines(*details: Mapping[str, Any] | None) -> dict[str, Any]:
    """Nested headline metrics, of what the details of evaluation and inspection hold."""
    content: dict[str, Any] = {}
    for name, source in HEADLINES.items():
        group, _, key = name.partition(".")
        for value in (storage.value_at(detail, source) for detail in details):
            if isinstance(value, int | float | str):
                content.setdefault(group, {})[key] = value
    return content


def table(
    settings: Settings,
    ratings: int,
    test_ratings: int,
    evaluated: Mapping[str, Any],
    inspected: Mapping[str, Any],
    fingerprints: Mapping[str, str],
) -> list[dict[str, str]]:
    """Rows of section, name and value as text, for the table on top of the comparison page.

    Section `changes` holds all settings; the page shows those in which revisions differ. Instead of
    section `fingerprints`, of `data` and `split`, it shows in words which of them differ.
    """
    flat = effective(storage.flatten(settings.model_dump(mode="json")))
    source: str = settings.data.source
    if source == "folder":
        source = f"{Path(settings.data.path).name} (folder)"
    sections = {
        "changes": {
            key: value if isinstance(value, str) else json.dumps(value)
            for key, value in flat.items()
            if key not in NOT_CHANGES
        },
        "data": {
            "source": source,
            "ratings": f"{ratings:,}",
            "test ratings": f"{test_ratings:,}",
            "split": settings.split.strategy,
            "seed": str(settings.seed),
            "model": evaluated["model"],
        },
        "verdicts": {
            line: f"{MARKS[outcome]} {outcome}" for line, outcome in inspected["verdict"].items()
        },
        "prediction": _prediction(evaluated["test"], inspected.get("value", {})),
        "agreement": _agreement(inspected),
        "fingerprints": fingerprints,
    }
    return [
        {"section": section, "name": name, "value": value}
        for section, rows in sections.items()
        for name, value in rows.items()
    ]


def _prediction(test: Mapping[str, Any], gains: Mapping[str, Any]) -> dict[str, str]:
    bias = test["baselines"]["user_movie_bias"]
    interval, skill = "-", f"{bias['skill']:.0%}"
    if "rmse_low" in test:
        interval = f"{test['rmse_low']:.3f} to {test['rmse_high']:.3f}"
        skill += f" ({100 * bias['skill_low']:.0f} to {100 * bias['skill_high']:.0f})"
    numbers = {
        "new movies: RMSE": test["cold_movies"].get("rmse"),
        "RMSE saved by genres": gains.get("warm_movies_estimate"),
        "new movies: by genres": gains.get("cold_movies_estimate"),
    }
    return {
        "test RMSE (stars)": f"{test['rmse']:.4f}",
        "95 % interval": interval,
        "user + movie bias": f"{bias['rmse']:.4f}",
        "squared error saved": skill,
        **{label: f"{number:.4f}" for label, number in numbers.items() if number is not None},
    }


def _agreement(inspected: Mapping[str, Any]) -> dict[str, str]:
    numbers = {
        "with held-out ratings": "agreement.likelihood.spearman",
        "noise ceiling": "agreement.likelihood.ceiling",
        "chance stays below": "agreement.likelihood.null_95",
        "mixed model": "agreement.likelihood.rival",
        "with the planted truth": "agreement.truth.spearman",
        "with other users": "stability.spearman",
    }
    if "truth" not in inspected.get("agreement", {}):
        del numbers["with the planted truth"]
    found = {label: storage.value_at(inspected, name) for label, name in numbers.items()}
    return {label: "-" if rho is None else f"{rho:.2f}" for label, rho in found.items()}
