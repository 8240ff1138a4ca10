"""Are the genre embeddings appropriate? Asks the model, and compares its answers with evidence.

`responses` asks the model, `slopes` and `references` measure the same in ratings on which it did
not train, `agreement` compares the two, and `verdict` says what follows.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import Any

import numpy as np

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
    Stability,
    Z,
    centred_cosine,
    cluster_order,
    genre_map,
    known_genres,
    measure_stability,
    nearest_genres,
    response_similarity,
    similarity_interval,
)
from genre_embeddings.inspection.slopes import by_some_users, movie_design
from genre_embeddings.inspection.value import value
from genre_embeddings.inspection.verdict import (
    LINES,
    Reference,
    Verdict,
    stability_verdict,
    structure_verdict,
    value_verdict,
)
from genre_embeddings.seeds import seed_of

Rows = list[dict[str, Any]]
PLOTS = ("similarity", "evidence", "scatter", "map")
COMPARED = ("likelihood", "truth", "genome")
"""References that the comparison page shows: others are noisier, or known to the model."""


@dataclass(frozen=True)
class Answer:
    """What the inspection found.

    Attributes:
        verdicts: on structure, stability and value.
        metrics: nested numbers.
        genres: those compared, G of them, and their numbers of ratings.
        order: genre indices, similar genres side by side.
        matrices: what is drawn as heatmaps, by name, (G, G) with NaN where unknown.
        unsure: by name, where there are intervals, (G, G) whether that of a cell includes zero.
        plots: rows of each plot, by its name.
        neighbours: nearest genres of each genre.
        costs: what each genre adds to the predictions.
        remarks: sentences that a reader has to know.
    """

    verdicts: list[Verdict]
    metrics: dict[str, Any]
    genres: dict[str, int] = field(default_factory=dict)
    order: list[int] = field(default_factory=list)
    matrices: dict[str, np.ndarray] = field(default_factory=dict)
    unsure: dict[str, np.ndarray] = field(default_factory=dict)
    plots: dict[str, Rows] = field(default_factory=lambda: {name: [] for name in PLOTS})
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
    membership = q.network.genre_share[:-1].numpy() > 0  # (M, all genres)
    chosen, remarks = usable_genres(membership, names, q.settings.min_movies)
    if len(chosen) < 3:
        reason = f"Only {len(chosen)} genres can be compared; structure needs three."
        return _unanswered(" ".join([reason, *remarks]))

    # From here on, G are the chosen genres.
    genres = dict(q.genres[chosen].select("name", "ratings").iter_rows())
    cells = np.ix_(chosen, chosen)
    rng = np.random.default_rng(seed_of(q.seed, "inspection"))
    users = spaced_users(q.network)
    communality = q.network.communality.numpy()[chosen]
    responses = ask(q.network, users, chosen)  # (R, N, G)
    learnt = response_similarity(responses, communality)
    knowing_nothing = [
        response_similarity(ask(network, users, chosen), network.communality.numpy()[chosen])
        for network in (q.untrained, *q.shuffled_genres)
    ]
    error = q.network.similarity_error.double().numpy()[cells]
    low, high = similarity_interval(learnt, error)
    stability = measure_stability(
        learnt,
        [response_similarity(one, communality) for one in responses],
        error,
        q.settings.neighbours,
        q.settings.min_overlap,
    )
    measured = _measure(q, membership[:, chosen], rng)
    given = {"truth": q.truth, "genome": q.genome}
    embeddings = q.network.genre_posterior()[0][chosen]  # (G, R, D)
    matrices = {
        "learnt": learnt,
        **{name: one.similarity for name, one in measured.items()},
        "catalogue": catalogue_similarity(membership[:, chosen]),
        **{
            name: np.array(content["similarity"], dtype=np.float64)[cells]  # null becomes NaN
            for name, content in given.items()
            if content is not None
        },
        "rival": measured["likelihood"].rival,
        "model": response_similarity(project(q.network, users)[:, chosen], communality),
        "cosine": centred_cosine(embeddings.flatten(1).numpy()),
    }
    references = _compare(q, matrices, measured, knowing_nothing, rng)
    _tell("what genres are worth on test ratings")
    gains, shuffled, costs = value(q, membership, names, rng)
    verdicts = [
        structure_verdict(references, q.settings.alpha, q.settings.min_ceiling_share),
        stability_verdict(stability, q.settings.min_stability),
        value_verdict(gains, q.settings.min_gain),
    ]
    order = cluster_order(learnt).tolist()
    nonzero = (low > 0) | (high < 0)
    remarks += [dominant_user(q.held_out.user), *(one.remark for one in measured.values())]
    return Answer(
        verdicts=verdicts,
        metrics={
            "verdict": {verdict.line: verdict.outcome for verdict in verdicts},
            "genres_compared": len(genres),
            "share_of_pairs_not_zero": float(nonzero[np.triu_indices(len(genres), 1)].mean()),
            "size_slope": size_slope(learnt, measured["moments"]),
            "agreement": {reference.name: reference.metrics for reference in references},
            "stability": stability.metrics if stability else {},
            "value": {
                f"{name}_{end}": number
                for name, gain in gains.items()
                if gain is not None
                for end, number in asdict(gain).items()
            }
            | shuffled,
        },
        genres=genres,
        order=order,
        matrices=matrices,
        unsure={
            "learnt": (low <= 0) & (high >= 0),
            **{name: abs(one.similarity) <= Z * one.error for name, one in measured.items()},
        },
        plots=_plots(genres, order, matrices, low, high),
        neighbours=_neighbours(list(genres), learnt, stability, q.settings.neighbours),
        costs=costs,
        remarks=[remark for remark in remarks if remark],
    )


def _tell(what: str) -> None:
    print(f"inspect: measuring {what}", file=sys.stderr, flush=True)


def _unanswered(reason: str) -> Answer:
    """All three lines inconclusive, as for a model without genres or with fewer than three."""
    verdicts = [Verdict(line, "inconclusive", reason) for line in LINES]
    return Answer(verdicts, {"verdict": {v.line: v.outcome for v in verdicts}}, remarks=[reason])


def _measure(q: Question, membership: np.ndarray, rng: np.random.Generator) -> dict[str, Evidence]:
    """Evidence and rival by both estimators; `membership` (M, G) tells the genres of each movie."""
    design = movie_design(membership.astype(np.float64))
    sides = (side.part(by_some_users(side.user, q.network.users)) for side in (q.held_out, q.train))
    held_out, train = (
        Residuals(side.user, side.movie, side.rating - q.baseline.predict(side.user, side.movie))
        for side in sides
    )
    found = {}
    for name in ("likelihood", "moments"):
        _tell(f"genre similarity in held-out ratings by {name}")
        found[name] = measure_evidence(
            name, held_out, train, design, q.random_split, q.settings.min_pair_users, rng
        )
    return found


def _compare(
    q: Question,
    matrices: Mapping[str, np.ndarray],
    measured: Mapping[str, Evidence],
    knowing_nothing: Sequence[np.ndarray],
    rng: np.random.Generator,
) -> list[Reference]:
    """The similarity by genre embeddings and by the whole model, compared with each reference.

    `knowing_nothing` are similarities by the untrained model, then by those with shuffled genres.
    """
    learnt, references = matrices["learnt"], []
    untrained, *shuffled = knowing_nothing
    for name in ("likelihood", "moments", "catalogue", "truth", "genome"):
        if name not in matrices:
            continue
        similarity = matrices[name]
        agreed = agreement(learnt, similarity, q.settings.permutations, rng)
        nulls = {"untrained": correlation(untrained, similarity) or 0.0}
        if shuffled:
            rhos = np.array([correlation(other, similarity) or 0.0 for other in shuffled])
            nulls["models with shuffled genres, 95 %"] = float(np.quantile(rhos, 0.95))
        rival, gap = matrices["rival"], None
        if one := measured.get(name):
            rival, draws = one.rival, q.settings.bootstrap
            gap = difference(learnt, rival, similarity, one.influence, draws, rng)
        references.append(
            Reference(
                name,
                agreed,
                nulls,
                one,
                whole=correlation(matrices["model"], similarity),
                rival=None if name == "catalogue" else correlation(rival, similarity),
                gap=gap,
            )
        )
    return references


def _plots(
    genres: dict[str, int],
    order: list[int],
    matrices: Mapping[str, np.ndarray],
    low: np.ndarray,
    high: np.ndarray,
) -> dict[str, Rows]:
    """Rows of each of `PLOTS`; `low` and `high` are the ends of the learnt intervals."""
    names, learnt = list(genres), matrices["learnt"]
    compared = [name for name in COMPARED if name in matrices]
    return {
        "similarity": _cells(genres, order, learnt, low=low, high=high),
        "evidence": [
            {**cell, "reference": name}
            for name in ("learnt", "rival", *compared)
            for cell in _cells(genres, order, matrices[name])
        ],
        "scatter": [
            {
                "a": names[a],
                "b": names[b],
                "learnt": float(learnt[a, b]),
                "evidence": float(matrices[name][a, b]),
                "reference": name,
            }
            for name in compared
            for a, b in np.argwhere(np.triu(~np.isnan(learnt + matrices[name]), 1)).tolist()
        ],
        "map": [
            {"genre": names[k], "x": x, "y": y, "ratings": genres[names[k]]}
            for k, (x, y) in genre_map(learnt).items()
        ],
    }


def _neighbours(
    names: list[str], learnt: np.ndarray, stability: Stability | None, count: int
) -> Rows:
    """The nearest genres of each genre that the model responds to, where they are repeatable."""
    nearest = nearest_genres(learnt, count)
    return [
        {
            "genre": names[k],
            "overlap": float(stability.by_genre[k]) if stability else None,
            "nearest": ", ".join(
                f"{names[j]} ({learnt[k, j]:.2f})"
                for j in nearest[k]
                if stability is None or stability.stable[k]
            ),
        }
        for k in np.flatnonzero(known_genres(learnt))
    ]


def _cells(
    genres: dict[str, int], order: list[int], similarity: np.ndarray, **more: np.ndarray
) -> Rows:
    """All cells of a heatmap, row by row in cluster order; what is not known is null."""
    names = list(genres)

    def number(value: float) -> float | None:
        return None if np.isnan(value) else float(value)

    return [
        {
            "a": names[a],
            "b": names[b],
            "similarity": number(similarity[a, b]),
            "ratings": genres[names[a]],
            **{key: number(values[a, b]) for key, values in more.items()},
        }
        for b, a in product(order, order)
    ]
