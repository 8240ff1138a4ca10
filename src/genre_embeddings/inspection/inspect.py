"""Are the genre embeddings appropriate? The model is asked, and held against evidence.

`similarity` reads what the model has learnt from its predictions, `references` measures the same
from ratings on which it did not train, and `verdict` judges how well the two agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import polars as pl
import torch

from genre_embeddings.evaluation import metrics
from genre_embeddings.evaluation.bias import BiasModel
from genre_embeddings.inspection.references import (
    Agreement,
    agreement,
    catalogue_similarity,
    movie_halves,
    noise_ceiling,
    taste_moments,
    taste_similarity,
    usable_genres,
)
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
    response_uncertainty,
)
from genre_embeddings.inspection.verdict import (
    Reference,
    Verdict,
    stability_verdict,
    structure_verdict,
    unanswerable,
    value_verdict,
)
from genre_embeddings.model.network import Network
from genre_embeddings.model.predict import predict
from genre_embeddings.settings import InspectSettings
from genre_embeddings.storage import Side

Rows = list[dict[str, Any]]
ASKED_AT_ONCE = 8192
FEWEST_USERS = 20
"""Users below which a bootstrap over users is too sure of itself: of one, it has no width."""


@dataclass(frozen=True)
class Question:
    """What the inspection is given.

    Attributes:
        network: the trained model.
        untrained: a model with the same settings before training.
        without_genres: a model trained without genres, if there is one.
        shuffled_genres: models trained with the genre sets of other movies.
        movies, genres: canonical tables.
        train: training ratings.
        held_out: ratings on which no model trained, the evidence of taste.
        test: ratings that chose nothing either, on which errors are measured.
        baseline: user + movie bias fitted on train.
        truth: what is planted, where the world is planted.
        settings: section `inspect`.
        seed: draws users, permutations and bootstraps.
        genome: similarity by the tag genome, where the data have one.
    """

    network: Network
    untrained: Network
    without_genres: Network | None
    shuffled_genres: list[Network]
    movies: pl.DataFrame
    genres: pl.DataFrame
    train: Side
    held_out: Side
    test: Side
    baseline: BiasModel
    truth: dict[str, Any] | None
    settings: InspectSettings
    seed: int
    genome: dict[str, Any] | None = None


@dataclass(frozen=True)
class Answer:
    """What the inspection found: nested metrics, rows of each plot, and the verdicts.

    `matrices` are what is drawn as heatmaps, by name, (G, G) with NaN where unknown.
    """

    verdicts: list[Verdict]
    metrics: dict[str, Any]
    labels: list[str] = field(default_factory=list)
    order: list[int] = field(default_factory=list)
    matrices: dict[str, np.ndarray] = field(default_factory=dict)
    told: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), dtype=bool))
    similarity: Rows = field(default_factory=list)
    evidence: Rows = field(default_factory=list)
    scatter: Rows = field(default_factory=list)
    nulls: Rows = field(default_factory=list)
    map: Rows = field(default_factory=list)
    neighbours: Rows = field(default_factory=list)
    costs: Rows = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def inspect(question: Question) -> Answer:
    """Question the model about its genres and judge the answers."""
    q = question
    names = q.genres["name"].to_list()
    if not q.network.settings.genres:
        reason = "The model was trained without genres (model.genres, or data without any)."
        return _unanswered(reason)
    table = q.network.genre_share[:-1].numpy() > 0  # (M, G)
    usable = usable_genres(table, names, q.settings.min_movies)
    if usable.mask.sum() < 3:
        reason = (
            f"Only {int(usable.mask.sum())} genres can be compared; structure needs three. "
            + "; ".join(usable.reasons)
        )
        return _unanswered(reason)

    rng = np.random.default_rng([q.seed, 3])
    users = _sample_users(q.train, q.network.users, q.settings.users, rng)
    responses = ask(q.network, users)  # (R, N, G)
    learnt = response_similarity(responses).restrict(usable.mask)
    draws = _posterior_responses(q.network, users, q.settings.draws, q.seed)
    uncertainty = response_uncertainty(responses, draws)
    replicas = [s.restrict(usable.mask) for s in replica_similarities(responses)]
    embeddings = q.network.genre_posterior()[0].permute(1, 0, 2).numpy()  # (R, G, D)
    stability = replica_stability(
        replicas, embeddings, q.settings.neighbours, q.settings.min_overlap
    )
    references, matrices, nulls = _compare(q, learnt, table, users, usable.mask, rng)
    matrices = {"learnt": learnt, **matrices}
    matrices["cosine"] = centred_cosine(embeddings.transpose(1, 0, 2).reshape(len(names), -1))
    gains, shuffled, costs = _value(q, table, names, rng)
    verdicts = [
        structure_verdict(references, q.settings.alpha, q.settings.min_ceiling_share),
        stability_verdict(stability, q.settings.min_stability),
        value_verdict(gains, q.settings.min_gain),
    ]
    order = cluster_order(learnt).tolist()
    labels = genre_labels(names, q.genres["ratings"].to_list())
    told = uncertainty.told & learnt.known
    places = genre_map(learnt)
    return Answer(
        verdicts=verdicts,
        metrics=_metrics(verdicts, references, stability, shuffled, told, usable.mask),
        labels=labels,
        order=order,
        matrices={
            name: np.where(matrix.known, matrix.values, np.nan) for name, matrix in matrices.items()
        },
        told=told,
        similarity=[
            {
                **cell,
                "low": float(uncertainty.low[a, b]) if learnt.known[a, b] else None,
                "high": float(uncertainty.high[a, b]) if learnt.known[a, b] else None,
                "told": bool(told[a, b]) or a == b,
            }
            for cell, (b, a) in zip(
                _cells(learnt, q.genres, order), product(order, order), strict=True
            )
        ],
        evidence=[
            {**cell, "reference": name}
            for name, matrix in matrices.items()
            for cell in _cells(matrix, q.genres, order)
        ],
        scatter=_scatter(matrices, names),
        nulls=nulls,
        map=[
            {"genre": names[k], "x": x, "y": y, "ratings": q.genres["ratings"][k]}
            for k, (x, y) in enumerate(places.positions.tolist())
            if places.placed[k]
        ],
        neighbours=_neighbours(learnt, stability, names, q.settings.neighbours),
        costs=costs,
        remarks=list(usable.reasons),
    )


def _unanswered(reason: str) -> Answer:
    verdicts = unanswerable(reason)
    return Answer(verdicts, {"verdict": {v.line: v.outcome for v in verdicts}}, remarks=[reason])


def _sample_users(train: Side, users: int, most: int, rng: np.random.Generator) -> np.ndarray:
    """Users with training ratings, at most `most` of them, (N,) int64."""
    known = np.flatnonzero(np.bincount(train.user, minlength=users))
    return np.sort(rng.choice(known, min(most, known.size), replace=False))


@torch.no_grad()
def ask(network: Network, users: np.ndarray) -> np.ndarray:
    """Responses to each genre, (R, N, G) float64.

    What the model predicts for the unknown movie of genre k, less what it predicts for the unknown
    movie of no genre, for each of N users and each replica.
    """
    genres = network.genre_share.shape[1]
    cards = torch.cat([torch.zeros(1, genres), torch.eye(genres)])  # (G+1, G)
    asked = torch.from_numpy(users).repeat_interleave(genres + 1)  # (N*(G+1),)
    rated = []
    for part in torch.arange(len(asked)).split(ASKED_AT_ONCE):
        movies = torch.full((len(part),), network.unknown)
        shown = cards[part % (genres + 1)]
        rated.append(network(asked[part], movies, genres=shown).timeless)
    answers = torch.cat(rated, 1).view(network.replicas, len(users), genres + 1).double()
    return (answers[..., 1:] - answers[..., :1]).numpy()


@contextmanager
def _genre_draw(network: Network, noise: torch.Tensor) -> Iterator[None]:
    """The network with its genre embeddings moved `noise` standard deviations from their means."""
    kept = network.genre.mean.detach().clone()
    try:
        network.genre.mean.data += noise * network.genre.log_std.detach().exp()
        yield
    finally:
        network.genre.mean.data = kept


def _posterior_responses(
    network: Network, users: np.ndarray, draws: int, seed: int
) -> np.ndarray | None:
    """Responses under draws of the genre embeddings, (R, S, N, G); None for point embeddings."""
    if draws == 0 or not network.genre.variational:
        return None
    generator = torch.Generator().manual_seed(seed)
    sampled = []
    for _ in range(draws):
        noise = torch.randn(network.genre.mean.shape, generator=generator)
        with _genre_draw(network, noise):
            sampled.append(ask(network, users))
    return np.stack(sampled, 1)


def _compare(
    q: Question,
    learnt: Similarity,
    table: np.ndarray,
    users: np.ndarray,
    usable: np.ndarray,
    rng: np.random.Generator,
) -> tuple[list[Reference], dict[str, Similarity], Rows]:
    """The learnt similarity against each reference, with its nulls."""
    residual = q.held_out.rating - q.baseline.predict(q.held_out.user, q.held_out.movie)
    heard = (q.held_out.user, q.held_out.movie, residual, table, q.settings.shrinkage)
    moments = taste_moments(*heard, rng)
    ceiling = noise_ceiling(moments, q.settings.min_pair_users, q.settings.splits, rng)
    over_movies = movie_halves(
        *heard, q.settings.min_pair_users, np.random.default_rng([q.seed, 4])
    )
    # Where either halves cannot be compared, nobody knows what could be reached.
    reached = ceiling.ceiling if over_movies is not None else None
    found = {
        "taste": taste_similarity(moments, q.settings.min_pair_users).restrict(usable),
        "catalogue": catalogue_similarity(table).restrict(usable),
    }
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
    references, nulls = [], []
    for name, similarity in found.items():
        agreed = agreement(learnt, similarity, q.settings.permutations, rng)
        rivals = {"untrained": agreement(untrained, similarity, 1, rng).spearman or 0.0}
        nulls += _null_rows(name, "labels permuted", agreed.null, agreed)
        if shuffled:
            rhos = np.array([agreement(s, similarity, 1, rng).spearman or 0.0 for s in shuffled])
            rivals["models with shuffled genres, 95 %"] = float(np.quantile(rhos, 0.95))
            nulls += _null_rows(name, "trained on shuffled genres", rhos, agreed)
        references.append(
            Reference(
                name,
                agreed,
                ceiling=reached if name == "taste" else 1.0,
                halves=ceiling.halves if name == "taste" else None,
                movie_halves=over_movies if name == "taste" else None,
                # The model sees the catalogue; tags tell content, and how far taste follows it is
                # not known. Both are shown and not judged.
                independent=name not in ("catalogue", "genome"),
                rivals=rivals,
            )
        )
    return references, found, nulls


def _null_rows(reference: str, null: str, rhos: np.ndarray, agreed: Agreement) -> Rows:
    """A histogram of what chance reaches, with what was observed."""
    if agreed.spearman is None or rhos.size == 0:
        return []
    counts, edges = np.histogram(rhos, np.linspace(-1, 1, 41))
    return [
        {
            "value": round(float(centre), 3),
            "count": int(count),
            "observed": agreed.spearman,
            "null": null,
            "reference": reference,
        }
        for centre, count in zip((edges[:-1] + edges[1:]) / 2, counts, strict=True)
    ]


def _value(
    q: Question, table: np.ndarray, names: list[str], rng: np.random.Generator
) -> tuple[dict[str, metrics.Interval | None], dict[str, float], Rows]:
    """What the genres are worth on test: against a model without them, shuffled, one by one."""
    test = q.test
    count = np.bincount(q.train.movie, minlength=q.network.unknown)[test.movie]
    groups = {"warm movies": count > 0, "cold movies": count == 0}
    sets = torch.from_numpy(table.astype(np.float32))

    def errors(network: Network, membership: torch.Tensor | None, rows: np.ndarray) -> np.ndarray:
        mean, _ = predict(
            network,
            test.user[rows],
            test.movie[rows],
            test.timestamp[rows],
            membership=membership,
        )
        return mean - test.rating[rows]

    everything = np.arange(test.user.size)
    full = errors(q.network, None, everything)
    gains: dict[str, metrics.Interval | None] = {}
    if q.without_genres is not None:
        bare = errors(q.without_genres, None, everything)
        for name, chosen in groups.items():
            enough = np.unique(test.user[chosen]).size >= FEWEST_USERS
            gains[name] = (
                _gain(test.user[chosen], bare[chosen], full[chosen], q, rng) if enough else None
            )
    shuffled = errors(q.network, sets[torch.from_numpy(rng.permutation(len(table)))], everything)
    worth = {
        f"{name.split()[0]}_rmse_rise_if_shuffled": float(
            np.sqrt(np.mean(shuffled[chosen] ** 2)) - np.sqrt(np.mean(full[chosen] ** 2))
        )
        for name, chosen in groups.items()
        if chosen.any()
    }
    costs = []
    for genre, name in enumerate(names):
        rows = np.flatnonzero(table[test.movie, genre])
        if rows.size == 0:
            continue
        without = sets.clone()
        without[:, genre] = 0
        gain = _gain(test.user[rows], errors(q.network, without, rows), full[rows], q, rng)
        if gain is not None:
            costs.append(
                {
                    "genre": name,
                    "ratings": rows.size,
                    "rmse_rise": gain.estimate,
                    "low": gain.low,
                    "high": gain.high,
                }
            )
    return gains, worth, costs


def _gain(
    user: np.ndarray, without: np.ndarray, full: np.ndarray, q: Question, rng: np.random.Generator
) -> metrics.Interval | None:
    """By how much the RMSE is larger without; None where there is no rating to judge."""
    if user.size == 0:
        return None
    users = q.network.users
    return metrics.paired_difference(
        metrics.user_sums(user, without, users),
        metrics.user_sums(user, full, users),
        q.settings.bootstrap,
        rng,
        error="rmse",
    )


def _metrics(
    verdicts: list[Verdict],
    references: list[Reference],
    stability: Stability,
    shuffled: dict[str, float],
    told: np.ndarray,
    usable: np.ndarray,
) -> dict[str, Any]:
    content: dict[str, Any] = {"verdict": {v.line: v.outcome for v in verdicts}}
    content["genres_compared"] = int(usable.sum())
    off = ~np.eye(len(told), dtype=bool)
    pairs = int((off & usable[:, None] & usable).sum())
    content["share_of_pairs_told_from_zero"] = float(told[off].sum() / pairs) if pairs else 0.0
    content["agreement"] = {}
    for reference in references:
        agreed = reference.agreement
        content["agreement"][reference.name] = {
            "spearman": agreed.spearman,
            "p_value": agreed.p_value,
            "null_95": agreed.null_95,
            **(
                {"ceiling": reference.ceiling, "movie_halves": reference.movie_halves}
                if reference.halves is not None
                else {}
            ),
            **{key.replace(" ", "_"): value for key, value in reference.rivals.items()},
        }
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
    for name, reference in matrices.items():
        if name in ("learnt", "cosine"):
            continue
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
