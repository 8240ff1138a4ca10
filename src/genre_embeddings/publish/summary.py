"""The headline numbers of a run: few enough for `dvc metrics show` and for one look at a page.

The stages write all that they measure into metrics/*.json, which DVC caches and does not list.
metrics/summary.json, in git, repeats what decides whether a run is better than another;
plots/summary.json holds the same as text, with the data and the settings, for the table on top of
the comparison page.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from genre_embeddings import storage
from genre_embeddings.pages import MARKS, cell, setting_text
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
NOT_CHANGES = ("data.source", "data.path", "seed", "split.strategy")
"""Settings that have rows of their own, or say where a person keeps files."""


class Details(NamedTuple):
    """What the stages have measured: metrics/NAME.json of four stages."""

    prepared: dict[str, Any]
    split: dict[str, Any]
    evaluated: dict[str, Any]
    inspected: dict[str, Any]

    def measured(self) -> dict[str, Any]:
        """What was measured of the model, under flat names such as test.rmse."""
        return storage.flatten(self.evaluated) | storage.flatten(self.inspected)


def read_details() -> Details:
    """The metrics of the earlier stages.

    Raises:
        InputError: a file is missing, damaged, or about another model than the one in models/.
    """
    counted = (storage.read_json(storage.METRICS / f"{s}.json") for s in ("prepare", "split"))
    return Details(*counted, *map(storage.read_measured, ("evaluate", "inspect")))


def write_summary(settings: Settings, details: Details) -> None:
    """Write metrics/summary.json and plots/summary.json."""
    storage.write_metrics(SUMMARY, headlines(details))
    fingerprints = {
        "data": storage.fingerprint_of(storage.PREPARED),
        "split": storage.fingerprint_of(*(storage.SPLIT / side for side in storage.SIDES)),
    }
    storage.write_rows(TABLE, table(settings, details, fingerprints))


def headlines(details: Details) -> dict[str, Any]:
    """Nested headline metrics, of what the details of evaluation and inspection hold."""
    content: dict[str, Any] = {}
    known = details.measured()
    for name, source in HEADLINES.items():
        group, _, key = name.partition(".")
        if known.get(source) is not None:
            content.setdefault(group, {})[key] = known[source]
    return content


def table(
    settings: Settings, details: Details, fingerprints: Mapping[str, str]
) -> list[dict[str, str]]:
    """Rows of section, name and value as text, for the table on top of the comparison page.

    Section `changes` holds all settings; the page shows those in which revisions differ. Instead of
    section `fingerprints`, of `data` and `split`, it shows in words which of them differ.
    """
    found, bias = details.measured(), "test.baselines.user_movie_bias"
    flat = effective(storage.flatten(settings.model_dump(mode="json")))
    folder = f"{Path(settings.data.path).name} (folder)"
    interval, skill = "-", f"{found[f'{bias}.skill']:.0%}"
    if "test.rmse_low" in found:
        interval = f"{found['test.rmse_low']:.3f} to {found['test.rmse_high']:.3f}"
        low, high = (100 * found[f"{bias}.skill_{end}"] for end in ("low", "high"))
        skill += f" ({low:.0f} to {high:.0f})"
    errors = {
        "new movies: RMSE": "test.cold_movies.rmse",
        "RMSE saved by genres": "value.warm_movies_estimate",
        "new movies: by genres": "value.cold_movies_estimate",
    }
    rhos = {
        "with held-out ratings": "agreement.likelihood.spearman",
        "noise ceiling": "agreement.likelihood.ceiling",
        "chance stays below": "agreement.likelihood.null_95",
        "mixed model": "agreement.likelihood.rival",
        "with the planted truth": "agreement.truth.spearman",
        "with other users": "stability.spearman",
    }
    if rhos["with the planted truth"] not in found:
        del rhos["with the planted truth"]

    sections = {
        "changes": {
            key: setting_text(value) for key, value in flat.items() if key not in NOT_CHANGES
        },
        "data": {
            "source": folder if settings.data.source == "folder" else settings.data.source,
            "ratings": f"{details.prepared['ratings']:,}",
            "test ratings": f"{details.split['parts']['test']['ratings']:,}",
            "split": settings.split.strategy,
            "seed": str(settings.seed),
            "model": details.evaluated["model"],
        },
        "verdicts": {
            line: f"{MARKS[outcome]} {outcome}"
            for line, outcome in details.inspected["verdict"].items()
        },
        "prediction": {
            "test RMSE (stars)": cell(found["test.rmse"], ".4f"),
            "95 % interval": interval,
            "user + movie bias": cell(found[f"{bias}.rmse"], ".4f"),
            "squared error saved": skill,
            **{name: cell(found[key], ".4f") for name, key in errors.items() if key in found},
        },
        "agreement": {name: cell(found.get(key), ".2f") for name, key in rhos.items()},
        "fingerprints": fingerprints,
    }
    return [
        {"section": section, "name": name, "value": value}
        for section, rows in sections.items()
        for name, value in rows.items()
    ]
