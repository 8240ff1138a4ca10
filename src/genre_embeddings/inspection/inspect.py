"""Are the genre embeddings appropriate? The model is asked, and compared with evidence.

`responses` asks the model, `slopes` and `references` measure the same from ratings on which it did
not train, `agreement` compares the two, and `verdict` says what follows.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import polars as pl

from genre_embeddings.inspection.agreement import agreement, correlation, difference
from genre_embeddings.inspection.question import Question
from genre_embeddings.inspection.references import (
    Evidence,
    Residuals,
    catalogue_similarity,
    dominant_user,
    measure_evidence,
    size_slope,
    usable_genres,
)
from genre_embeddings.inspection.responses import ask, project, spaced_users
from genre_embeddings.inspection.similarity import (
    Similarity,
    Stability,
    centred_cosine,
    cluster_order,
    genre_labels,
    genre_map,
    nearest_genres,
    replica_similarities,
    replica_stability,
    response_similarity,
    similarity_interval,
)
from genre_embeddings.inspection.slopes import movie_design, size_factor
from genre_embeddings.inspection.value import value
from genre_embeddings.inspection.verdict import (
    Reference,
    Verdict,
    stability_verdict,
    structure_verdict,
    unanswerable,
    value_verdict,
)

Rows = list[dict[str, Any]]
Z = 1.96
"""Beyond so many standard errors, the 95 % interval of a similarity by evidence excludes zero."""
EVIDENCE = ("likelihood", "truth", "genome")
"""References that the comparison page shows: others are noisier, or known to the model."""


@dataclass(frozen=True)
class Answer:
    """What the inspection found: nested metrics, rows of each plot, and the verdicts.

    `matrices` are what is drawn as heatmaps, by name, (G, G) with NaN where unknown;
    `clear` says of those with intervals which cells have one without zero, (G, G) bool.
    """

    verdicts: list[Verdict]
    metrics: dict[str, Any]
    labels: list[str] = field(default_factory=list)
    order: list[int] = field(default_factory=list)
    matrices: dict[str, np.ndarray] = field(default_factory=dict)
    clear: dict[str, np.ndarray] = field(default_factory=dict)
    similarity: Rows = field(default_factory=list)
    evidence: Rows = field(default_factory=list)
    scatter: Rows = field(default_factory=list)
    map: Rows = field(default_factory=list)
    neighbours: Rows = field(default_factory=list)
    costs: Rows = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def inspect(question: Question) -> Answer:
    """Question the model about its genres and judge the answers."""
    q = question
    names = q.genres["name"].to_list()
    if not q.network.settings.genres:
        why = "model.genres: false" if names else "the data have none"
        return _unanswered(f"The model was trained without genres ({why}).")
    table = q.network.genre_share[:-1].numpy() > 0  # (M, G)
    usable = usable_genres(table, names, q.settings.min_movies)
    if usable.mask.sum() < 3:
        reason = (
            f"Only {int(usable.mask.sum())} genres can be compared; structure needs three. "
            + "; ".join(usable.reasons)
        )
        return _unanswered(reason)

    rng = np.random.default_rng([q.seed, 3])
    users = spaced_users(q.network)
    factor = size_factor(q.network.communality.numpy())
    responses = ask(q.network, users)  # (R, N, G)
    learnt = response_similarity(responses).scaled(factor).restrict(usable.mask)
    whole = response_similarity(project(q.network, users)).scaled(factor).restrict(usable.mask)
    low, high = similarity_interval(learnt, q.network.similarity_error.double().numpy())
    replicas = [s.restrict(usable.mask) for s in replica_similarities(responses)]
    embeddings = q.network.genre_posterior()[0].permute(1, 0, 2).numpy()  # (R, G, D)
    stability = replica_stability(
        replicas, embeddings, q.settings.neighbours, q.settings.min_overlap
    )
    measured = _measure(q, table, usable.mask, rng)
    references, matrices = _compare(q, learnt, whole, measured, table, users, usable.mask, rng)
    matrices = {"learnt": learnt, **matrices}
    matrices["cosine"] = centred_cosine(embeddings.transpose(1, 0, 2).reshape(len(names), -1))
    _tell("what genres are worth on test ratings")
    gains, shuffled, costs = value(q, table, names, rng)
    verdicts = [
        structure_verdict(references, q.settings.alpha, q.settings.min_ceiling_share),
        stability_verdict(stability, q.settings.min_stability),
        value_verdict(gains, q.settings.min_gain),
    ]
    order = cluster_order(learnt).tolist()
    labels = genre_labels(names, q.genres["ratings"].to_list())
    clear = learnt.known & ((low > 0) | (high < 0))
    places = genre_map(learnt)
    slope = size_slope(learnt, measured["moments"])
    return Answer(
        verdicts=verdicts,
        metrics=_metrics(verdicts, references, stability, shuffled, clear, usable.mask, slope),
        labels=labels,
        order=order,
        matrices={
            name: np.where(matrix.known, matrix.values, np.nan) for name, matrix in matrices.items()
        },
        clear={
            "learnt": clear,
            **{name: abs(one.similarity.values) > Z * one.error for name, one in measured.items()},
        },
        similarity=[
            {
                **cell,
                "low": float(low[a, b]) if learnt.known[a, b] else None,
                "high": float(high[a, b]) if learnt.known[a, b] else None,
            }
            for cell, (b, a) in zip(
                _cells(learnt, q.genres, order), product(order, order), strict=True
            )
        ],
        evidence=[
            {**cell, "reference": name}
            for name in ("learnt", "rival", *EVIDENCE)
            if name in matrices
            for cell in _cells(matrices[name], q.genres, order)
        ],
        scatter=_scatter(matrices, names),
        map=[
            {"genre": names[k], "x": x, "y": y, "ratings": q.genres["ratings"][k]}
            for k, (x, y) in enumerate(places.positions.tolist())
            if places.placed[k]
        ],
        neighbours=_neighbours(learnt, stability, names, q.settings.neighbours),
        costs=costs,
        remarks=[
            *usable.reasons,
            *filter(None, [dominant_user(q.held_out.user)]),
            *(one.remark for one in measured.values() if one.remark),
        ],
    )


def _tell(what: str) -> None:
    print(f"inspect: measuring {what}", file=sys.stderr, flush=True)


def _unanswered(reason: str) -> Answer:
    verdicts = unanswerable(reason)
    return Answer(verdicts, {"verdict": {v.line: v.outcome for v in verdicts}}, remarks=[reason])


def _measure(
    q: Question, table: np.ndarray, usable: np.ndarray, rng: np.random.Generator
) -> dict[str, Evidence]:
    """Evidence and rival by both estimators; genres that are not usable are unknown."""
    design = movie_design(table[:, usable].astype(np.float64))
    held_out, train = (
        Residuals(side.user, side.movie, side.rating - q.baseline.predict(side.user, side.movie))
        for side in (q.held_out, q.train)
    )
    found = {}
    for name in ("likelihood", "moments"):
        _tell(f"genre similarity in held-out ratings by {name}")
        found[name] = measure_evidence(
            name, held_out, train, design, q.random_split, q.settings.min_pair_users, rng
        ).widened(usable)
    return found


def _compare(
    q: Question,
    learnt: Similarity,
    whole: Similarity,
    measured: dict[str, Evidence],
    table: np.ndarray,
    users: np.ndarray,
    usable: np.ndarray,
    rng: np.random.Generator,
) -> tuple[list[Reference], dict[str, Similarity]]:
    """The similarity by genre embeddings and by the whole model, compared with each reference."""
    rival = measured["likelihood"].rival
    found = {name: one.similarity for name, one in measured.items()}
    found["catalogue"] = catalogue_similarity(table).restrict(usable)
    if q.truth is not None:
        planted = np.asarray(q.truth["similarity"])
        found["truth"] = Similarity(planted, np.ones(planted.shape, dtype=bool)).restrict(usable)
    if q.genome is not None:
        tagged = np.array(q.genome["similarity"], dtype=np.float64)  # null becomes NaN
        seen = np.isfinite(tagged)
        found["genome"] = Similarity(np.where(seen, tagged, 0), seen).restrict(usable)
    untrained = response_similarity(ask(q.untrained, users)).restrict(usable)
    shuffled = [
        response_similarity(ask(network, users)).restrict(usable) for network in q.shuffled_genres
    ]

    references = []
    for name, similarity in found.items():
        agreed = agreement(learnt, similarity, q.settings.permutations, rng)
        chance = {"untrained": correlation(untrained, similarity) or 0.0}
        if shuffled:
            rhos = np.array([correlation(s, similarity) or 0.0 for s in shuffled])
            chance["models with shuffled genres, 95 %"] = float(np.quantile(rhos, 0.95))
        one = measured.get(name)
        other = rival if one is None else one.rival
        gap = None
        if one is not None:
            draws = q.settings.bootstrap
            gap = difference(learnt, other, similarity, one.influence, draws, rng)
        references.append(
            Reference(
                name,
                agreed,
                ceiling=one.ceiling if one else 1.0,
                replicated=one.replicated if one else None,
                movie_halves=one.movie_halves if one else None,
                # Moments are too noisy to judge by; the model sees the catalogue; tags tell
                # content, and how far taste follows it is not known. These are only shown.
                independent=name in ("likelihood", "truth"),
                nulls=chance,
                whole=correlation(whole, similarity),
                rival=None if name == "catalogue" else correlation(other, similarity),
                gap=gap,
            )
        )
    return references, {**found, "rival": rival, "model": whole}


def _metrics(
    verdicts: list[Verdict],
    references: list[Reference],
    stability: Stability,
    shuffled: dict[str, float],
    clear: np.ndarray,
    usable: np.ndarray,
    slope: float | None,
) -> dict[str, Any]:
    content: dict[str, Any] = {"verdict": {v.line: v.outcome for v in verdicts}}
    content["genres_compared"] = int(usable.sum())
    off = ~np.eye(len(clear), dtype=bool)
    pairs = int((off & usable[:, None] & usable).sum())
    content["share_of_pairs_not_zero"] = float(clear[off].sum() / pairs) if pairs else 0.0
    content["size_slope"] = slope
    content["agreement"] = {}
    for reference in references:
        agreed, gap = reference.agreement, reference.gap
        row = {
            "spearman": agreed.spearman,
            "p_value": agreed.p_value,
            "null_95": agreed.null_95,
            "whole_model": reference.whole,
            "rival": reference.rival,
            **{key.replace(" ", "_"): value for key, value in reference.nulls.items()},
        }
        if reference.replicated is not None:
            row |= {"ceiling": reference.ceiling, "movie_halves": reference.movie_halves}
        if gap is not None:
            row |= {"above_rival": gap.estimate, "above_rival_low": gap.low}
            row |= {"above_rival_high": gap.high}
        content["agreement"][reference.name] = row
    content["stability"] = {
        "spearman": stability.spearman,
        "cka": stability.cka,
        "neighbour_overlap": stability.overlap,
        "neighbour_overlap_by_chance": stability.chance,
    }
    gains = {
        key.replace(" ", "_").replace(".", "_"): value
        for key, value in verdicts[2].numbers.items()
        if value is not None and key != "min_gain"
    }
    content["value"] = {**gains, **shuffled}
    return content


def _cells(similarity: Similarity, genres: pl.DataFrame, order: list[int]) -> Rows:
    """All cells of a heatmap, row by row in cluster order; an unknown similarity is null."""
    names, counts = genres["name"].to_list(), genres["ratings"].to_list()
    return [
        {
            "a": names[a],
            "b": names[b],
            "similarity": float(similarity.values[a, b]) if similarity.known[a, b] else None,
            "ratings": counts[a],
        }
        for b in order
        for a in order
    ]


def _scatter(matrices: dict[str, Similarity], names: list[str]) -> Rows:
    """Each pair of genres: learnt against each reference."""
    learnt = matrices["learnt"]
    rows = []
    for name in EVIDENCE:
        if name not in matrices:
            continue
        reference = matrices[name]
        for a, b in zip(*np.triu_indices(len(names), 1), strict=True):
            if learnt.known[a, b] and reference.known[a, b]:
                rows.append(
                    {
                        "a": names[a],
                        "b": names[b],
                        "learnt": float(learnt.values[a, b]),
                        "evidence": float(reference.values[a, b]),
                        "reference": name,
                    }
                )
    return rows


def _neighbours(learnt: Similarity, stability: Stability, names: list[str], most: int) -> Rows:
    """The nearest genres of each; none for a genre that another seed would place elsewhere."""
    stable = stability.stable if stability.spearman is not None else None
    nearest = nearest_genres(learnt, most, stable)
    return [
        {
            "genre": names[k],
            "overlap": float(stability.by_genre[k]) if stable is not None else None,
            "nearest": ", ".join(f"{names[j]} ({learnt.values[k, j]:.2f})" for j in nearest[k]),
        }
        for k in range(len(names))
        if learnt.genres[k]
    ]
