"""Three verdicts on the genre embeddings: structure, stability, value. Never one number.

Each line passes, fails or stays inconclusive, with the reason. A line fails only where the evidence
could have shown otherwise; where it could not, the line is inconclusive. The sentence that answers
each question follows from the outcome alone: it stands in pages/words.jinja.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from genre_embeddings.evaluation.metrics import Interval
from genre_embeddings.inspection.agreement import Agreement, holm
from genre_embeddings.inspection.references import Evidence
from genre_embeddings.inspection.similarity import Stability

Line = Literal["structure", "stability", "value"]
Outcome = Literal["pass", "fail", "inconclusive"]

LINES: tuple[Line, ...] = ("structure", "stability", "value")
GOOD_MODEL = 0.8
"""Share of the noise ceiling that a good model reaches; decides whether evidence has power."""
INDEPENDENT = ("likelihood", "truth")
"""References that can judge. The others are only shown: moments are too noisy, the model sees the
catalogue, and tags tell content, which taste need not follow."""
NAMES = {
    "likelihood": "the evidence in held-out ratings",
    "truth": "the planted truth",
    "untrained": "the untrained model",
    "models with shuffled genres, 95 %": "95 % of the models trained on shuffled genres",
    "warm_movies": "movies with training ratings",
    "cold_movies": "movies without training ratings",
}
"""What sentences call independent references, models that know nothing, and groups of movies."""
TRY_STABILITY = (
    "More ratings make the similarities more certain; merge genres that have few ratings, or drop "
    "them (data.min_genre_movies, data.top_genres)."
)
TRY_VALUE = (
    "Genres help most where movies have few training ratings (split.strategy: cold_movies measures "
    "it). If they help nowhere, leave them out (model.genres: false)."
)


@dataclass(frozen=True)
class Verdict:
    """One line of the answer.

    Attributes:
        line: which question is answered.
        outcome: pass, fail or inconclusive.
        reason: why, in a few sentences with the deciding numbers.
        advice: what to try; empty after a pass.
    """

    line: Line
    outcome: Outcome
    reason: str
    advice: str = ""


@dataclass(frozen=True)
class Reference:
    """A learnt similarity compared with a reference.

    Attributes:
        name: the reference, as in `likelihood`.
        agreement: of the genre embeddings alone with it.
        nulls: rho that models which learnt nothing reach against the same reference, such as the
            untrained one or the 95 % point of the retrained ones; rho has to exceed them all.
        evidence: the reference itself, where it was measured in ratings; None if it has no noise.
        whole: rho of the model as a whole, by its predictions for known movies.
        rival: rho of a mixed model fitted to the training ratings.
        gap: rho of the genre embeddings less that of the mixed model, with an interval.
    """

    name: str
    agreement: Agreement
    nulls: Mapping[str, float]
    evidence: Evidence | None = None
    whole: float | None = None
    rival: float | None = None
    gap: Interval | None = None

    @property
    def rho(self) -> float:
        """Of the genre embeddings; 0 where it could not be measured."""
        return self.agreement.spearman or 0.0

    @property
    def ceiling(self) -> float | None:
        """The rho that the best of models could reach, 0 to 1; None where it was not measured."""
        return self.evidence.ceiling if self.evidence else 1.0

    @property
    def metrics(self) -> dict[str, Any]:
        """The numbers, for stage inspect's metrics."""
        row = {
            "spearman": self.agreement.spearman,
            "p_value": self.agreement.p_value,
            "null_95": self.agreement.null_95,
            "whole_model": self.whole,
            "rival": self.rival,
            **{name.replace(" ", "_"): rho for name, rho in self.nulls.items()},
        }
        if self.evidence and self.evidence.replicated is not None:
            row |= {"ceiling": self.ceiling, "movie_halves": self.evidence.movie_halves}
        if self.gap is not None:
            row |= {"above_rival": self.gap.estimate, "above_rival_low": self.gap.low}
            row["above_rival_high"] = self.gap.high
        return row


def structure_verdict(
    references: Sequence[Reference], alpha: float, min_ceiling_share: float
) -> Verdict:
    """Does the learnt genre similarity match the evidence?

    A reference can judge if

    - two measurements of it, and its halves of movies, agree better than chance: then it measures
      genres and not only noise or these movies;
    - a good model, at 0.8 of the noise ceiling, would agree better than chance. This does not
      depend on `min_ceiling_share`: a more lenient threshold does not make evidence weaker;
    - its p-value could fall to alpha.

    Of those that can judge,

    - pass: every one agrees: Holm's p <= alpha, above all nulls, and rho at least
      `min_ceiling_share` of the ceiling;
    - fail: none is significantly better than chance and than all nulls;
    - inconclusive: none can judge, they disagree, or the agreement is real but falls short.

    Args:
        references: what was compared; those outside `INDEPENDENT` do not count.
        alpha: chance of passing although nothing was learnt.
        min_ceiling_share: share of the ceiling that counts as learnt.
    """
    independent = [reference for reference in references if reference.name in INDEPENDENT]
    able, cannot = [], []
    for reference in independent:
        if obstacle := _obstacle(reference, alpha / len(independent)):
            cannot.append(f"{NAMES[reference.name].capitalize()} cannot judge: {obstacle}.")
        else:
            able.append(reference)
    if not able:
        reason = " ".join(cannot) or "There is no independent evidence to compare with."
        return Verdict("structure", "inconclusive", reason, _more_ratings(independent))

    least = _percent(min_ceiling_share)
    sentences, real, good = [], [], []
    adjusted = holm([reference.agreement.p_value or 1.0 for reference in able])
    for reference, p_value in zip(able, adjusted, strict=True):
        rho, ceiling = reference.rho, reference.ceiling or 0.0
        null, reached = max(reference.nulls.items(), key=lambda item: item[1])
        real.append(p_value <= alpha and rho > reached)
        good.append(real[-1] and rho >= min_ceiling_share * ceiling)
        sentences.append(
            f"Compared with {NAMES[reference.name]}, rho is {rho:.2f} (p = {p_value:.4f}), "
            f"{_percent(rho / ceiling)} of the noise ceiling {ceiling:.2f} and "
            f"{'above' if rho > reached else 'not above'} the {reached:.2f} of {NAMES[null]}."
        )
    if all(good):
        return Verdict("structure", "pass", " ".join([*sentences, *cannot]))
    outcome: Outcome = "fail"
    if any(real):
        outcome, opening = "inconclusive", "The pieces of evidence disagree."
        if all(real):
            opening = f"It matches in part: better than chance, below {least} of the noise ceiling."
        sentences.insert(0, opening)
    advice = _structure_advice(able, min_ceiling_share)
    return Verdict("structure", outcome, " ".join([*sentences, *cannot]), advice)


def _obstacle(reference: Reference, alpha: float) -> str:
    """Why a reference cannot judge at the level alpha; empty if it can."""
    found, ceiling = reference.agreement, reference.ceiling
    if found.null_95 is None:
        return found.reason
    if ceiling is None:
        return "its noise ceiling could not be measured"
    if ceiling <= 0:
        return "its noise ceiling is 0: two measurements of it have nothing in common"
    if found.smallest_p > alpha:
        return f"with {found.genres} genres p cannot fall below {found.smallest_p:.3f}"
    chance, good = f"and chance reaches {found.null_95:.2f}", GOOD_MODEL * ceiling
    if reference.evidence:
        rho, halves = reference.evidence.replicated, reference.evidence.movie_halves
        if rho is not None and rho <= found.null_95:
            why = "too few ratings, or ratings that do not depend on genres"
            return f"two measurements of it agree at rho = {rho:.2f}, {chance}: {why}"
        if halves is not None and halves <= found.null_95:
            why = "it may say more about these movies than about genres"
            return f"two halves of its movies agree at rho = {halves:.2f}, {chance}: {why}"
    if good <= found.null_95:
        return f"with its noise, a good model would reach rho = {good:.2f}, {chance}"
    return ""


def _more_ratings(references: Sequence[Reference]) -> str:
    """What twice as many ratings would do to the ceiling, by Spearman-Brown."""
    ceilings = [one.ceiling for one in references if one.evidence and one.ceiling is not None]
    if not ceilings:
        return "Only more users who rated movies of several genres can give such evidence."
    now = ceilings[0]
    after = (2 * now**2 / (1 + now**2)) ** 0.5
    return (
        f"The noise ceiling is {now:.2f}; with twice as many ratings it would be about {after:.2f}."
    )


def _structure_advice(able: Sequence[Reference], min_ceiling_share: float) -> str:
    """The reason why the genre embeddings fall short, where the numbers show one."""
    for one in able:
        rho, enough = one.rho, min_ceiling_share * (one.ceiling or 0.0)
        if rho >= enough:
            continue
        better = max(enough, rho + 0.05)
        if one.whole is not None and one.whole >= better:
            return (
                f"The model knows more about genres ({one.whole:.2f}) than its genre embeddings "
                f"hold ({rho:.2f}): the vectors of the movies hold the rest."
            )
        if one.rival is not None and one.rival >= better:
            return (
                f"The training ratings hold more about genres ({one.rival:.2f}, the rival) than "
                f"the model learnt ({rho:.2f}): users' tastes for genres differ in more ways than "
                "its embeddings can express. Where the order of similarities matters, use the "
                "rival's (plots/inspect/evidence.json)."
            )
    if all(one.evidence is None for one in able):
        return "This evidence has no noise: only more training ratings can help the model."
    return _more_ratings(able)


def stability_verdict(stability: Stability | None, min_stability: float) -> Verdict:
    """Would a model that is trained on other users have learnt the same?

    Args:
        stability: from `similarity.measure_stability`; None if it cannot be measured.
        min_stability: expected Spearman's rho between two such models that counts as repeatable.
    """
    if stability is None:
        reason = "Stability cannot be measured: the model responds to fewer than three genres."
        return Verdict("stability", "inconclusive", reason, TRY_STABILITY)
    reason = (
        f"Two models trained on as many ratings of other users are expected to agree on the genre "
        f"similarities at rho = {stability.spearman:.2f}; at least {min_stability:.2f} is needed. "
        f"They would have {_percent(stability.overlap)} of the nearest genres in common, by chance "
        f"{_percent(stability.chance)}; the nearest genres of {int(stability.stable.sum())} of "
        f"{len(stability.stable)} genres are repeatable."
    )
    if stability.replicas is not None:
        reason += f" Another seed alone changes less: replicas agree at {stability.replicas:.2f}."
    if stability.spearman >= min_stability:
        return Verdict("stability", "pass", reason)
    return Verdict("stability", "fail", reason, TRY_STABILITY)


def value_verdict(gains: Mapping[str, Interval | None], min_gain: float) -> Verdict:
    """Do the genres make better predictions?

    - pass: for some group of movies the error falls by at least `min_gain` and the interval lies
      above 0, and for no group it rises by as much;
    - fail: for every group that was measured, the whole interval lies below `min_gain`, or for
      some group the error rises by `min_gain` with the interval below 0;
    - inconclusive: nothing was measured, or the intervals are too wide to say.

    Args:
        gains: by group of movies, `warm_movies` and `cold_movies`, the RMSE of a model retrained
            without genres minus that of the full model, in rating units, with an interval by
            bootstrap over users; None where too few users rated them. Only the lower ends decide
            on a pass: two groups at 95 % pass by chance at 5 % together.
        min_gain: RMSE difference that another seed would not produce by itself.
    """
    if not gains:
        reason = "No model without genres was trained (train.without_genres: false)."
        return Verdict("value", "inconclusive", reason, "Set train.without_genres: true.")
    measured = {name: gain for name, gain in gains.items() if gain is not None}
    missing = [
        f"Too few users rated {NAMES[name]} in test to measure their error."
        for name in gains
        if name not in measured
    ]
    if not measured:
        return Verdict("value", "inconclusive", " ".join(missing), TRY_VALUE)

    helped = any(gain.low > 0 and gain.estimate >= min_gain for gain in measured.values())
    harmed = any(gain.high < 0 and gain.estimate <= -min_gain for gain in measured.values())
    useless = all(gain.high < min_gain for gain in measured.values())
    outcome: Outcome = "inconclusive"
    if helped != harmed:
        outcome = "pass" if helped else "fail"
    elif useless:
        outcome = "fail"
    sentences = [
        f"With genres, the RMSE on {NAMES[name]} {_change(gain)}."
        for name, gain in measured.items()
    ]
    limit = f"A change below {min_gain:g} stars proves nothing: another seed could cause it."
    reason = " ".join([*sentences, *missing, limit])
    return Verdict("value", outcome, reason, "" if outcome == "pass" else TRY_VALUE)


def _change(gain: Interval) -> str:
    """By how much an error falls or rises, with the interval in that direction."""
    verb, ends = "falls", (gain.low, gain.high)
    if gain.estimate < 0:
        verb, ends = "rises", (-gain.high, -gain.low)
    size = abs(gain.estimate)
    return f"{verb} by {size:.4f} stars (95 % interval {ends[0]:.4f} to {ends[1]:.4f})"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
