"""Three verdicts on the genre embeddings: structure, stability, value. Never one number.

Each line passes, fails or stays inconclusive, with its numbers and the reason. A line fails only
where the evidence could have shown otherwise; where it could not, the line is inconclusive. The
sentence that answers each question follows from the outcome alone: it stands in pages/words.jinja.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from genre_embeddings.evaluation.metrics import Interval
from genre_embeddings.inspection.agreement import Agreement, holm
from genre_embeddings.inspection.similarity import Stability

Line = Literal["structure", "stability", "value"]
Outcome = Literal["pass", "fail", "inconclusive"]

GOOD_MODEL = 0.8
"""Share of the noise ceiling that a good model reaches; decides whether evidence has power."""

_EVIDENCE = {"likelihood": "the evidence in held-out ratings", "truth": "the planted truth"}
"""What the references that can judge are called in sentences."""
_NULLS = {
    "untrained": "the untrained model",
    "models with shuffled genres, 95 %": "95 % of the models trained on shuffled genres",
}
_GROUPS = {
    "warm movies": "movies with training ratings",
    "cold movies": "movies without training ratings",
}
_ADVICE: dict[Line, str] = {
    "stability": "Try more train.replicas or more ratings; genres with few ratings stay unstable.",
    "value": "Genres help most where movies have few training ratings (split.strategy: "
    "cold_movies measures it). If they help nowhere, leave them out (model.genres: false).",
}


@dataclass(frozen=True)
class Verdict:
    """One line of the answer.

    Attributes:
        line: which question is answered.
        outcome: pass, fail or inconclusive.
        reason: why, in a few sentences with the deciding numbers.
        numbers: everything behind it, finite or None.
        advice: what to try; empty after a pass.
    """

    line: Line
    outcome: Outcome
    reason: str
    numbers: dict[str, float | None] = field(default_factory=dict)
    advice: str = ""


@dataclass(frozen=True)
class Reference:
    """A learnt similarity compared with a reference.

    Attributes:
        name: the reference, as in `likelihood`.
        agreement: of the genre embeddings alone with it.
        ceiling: the rho that the best of models could reach, 0 to 1; 1 for a reference without
            noise, None where it could not be measured.
        replicated: rho between two measurements of it from different ratings, on which the
            ceiling rests; None for a reference without noise.
        movie_halves: the same between two halves of the movies.
        independent: whether it can judge; others are only shown.
        nulls: rho that models which learnt nothing reach against the same reference, such as the
            untrained one or the 95 % point of the retrained ones; rho has to exceed them all.
        whole: rho of the model as a whole, by its predictions for known movies.
        rival: rho of a mixed model fitted to the training ratings.
        gap: rho of the genre embeddings less that of the mixed model, with an interval.
    """

    name: str
    agreement: Agreement
    ceiling: float | None = 1.0
    replicated: float | None = None
    movie_halves: float | None = None
    independent: bool = True
    nulls: Mapping[str, float] = field(default_factory=dict)
    whole: float | None = None
    rival: float | None = None
    gap: Interval | None = None


def unanswerable(reason: str) -> list[Verdict]:
    """All three lines inconclusive, as for a model without genres or with fewer than three."""
    lines: tuple[Line, ...] = ("structure", "stability", "value")
    return [Verdict(line, "inconclusive", reason) for line in lines]


def structure_verdict(
    references: Sequence[Reference], alpha: float = 0.05, min_ceiling_share: float = 0.8
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
        references: what was compared; those that are not independent are only shown.
        alpha: chance of passing although nothing was learnt.
        min_ceiling_share: share of the ceiling that counts as learnt.
    """
    numbers: dict[str, float | None] = {"alpha": alpha, "min_ceiling_share": min_ceiling_share}
    for reference in references:
        numbers.update(_reference_numbers(reference))
    independent = [reference for reference in references if reference.independent]
    obstacles = {
        reference.name: _obstacle(reference, alpha, len(independent)) for reference in independent
    }
    able = [reference for reference in independent if not obstacles[reference.name]]
    unable = [
        f"{_upper(_EVIDENCE.get(name, name))} cannot judge: {why}."
        for name, why in obstacles.items()
        if why
    ]
    if not able:
        reason = " ".join(unable) or "There is no independent evidence to compare with."
        advice = _more_ratings(independent)
        return Verdict("structure", "inconclusive", reason, numbers, advice)

    p_values = [reference.agreement.p_value for reference in able]
    adjusted = holm([1.0 if p is None else p for p in p_values])
    sentences, real, good = [], [], []
    for reference, p_value in zip(able, adjusted, strict=True):
        numbers[f"{reference.name}.p_holm"] = p_value
        rho, ceiling = float(reference.agreement.spearman or 0), float(reference.ceiling or 0)
        null = max(reference.nulls, key=lambda name: reference.nulls[name], default=None)
        above = null is None or rho > reference.nulls[null]
        real.append(p_value <= alpha and above)
        good.append(real[-1] and rho >= min_ceiling_share * ceiling)
        sentence = (
            f"Compared with {_EVIDENCE.get(reference.name, reference.name)}, rho is {rho:.2f} "
            f"(p = {p_value:.4f}), {_percent(rho / ceiling)} of the noise ceiling {ceiling:.2f}"
        )
        if null is not None:
            verb = "above" if above else "not above"
            sentence += f" and {verb} the {reference.nulls[null]:.2f} of {_NULLS.get(null, null)}"
        sentences.append(sentence + "." + _others(reference))

    outcome: Outcome
    if all(good):
        outcome = "pass"
    elif not any(real):
        outcome = "fail"
    else:
        outcome = "inconclusive"
        opening = "The pieces of evidence disagree."
        if all(real):
            least = _percent(min_ceiling_share)
            opening = f"It matches in part: better than chance, below {least} of the noise ceiling."
        sentences.insert(0, opening)
    reason = " ".join([*sentences, *unable])
    advice = "" if outcome == "pass" else _structure_advice(able, min_ceiling_share)
    return Verdict("structure", outcome, reason, numbers, advice)


def _others(reference: Reference) -> str:
    """What the model as a whole and the rival know, in a sentence."""
    said = []
    if reference.whole is not None:
        said.append(f"the model as a whole reaches {reference.whole:.2f}")
    if reference.rival is not None:
        rival = f"the rival reaches {reference.rival:.2f}"
        if reference.gap is not None:
            gap = reference.gap
            rival += (
                f" (difference {gap.estimate:+.2f}, {_percent(gap.level)} interval {gap.low:+.2f} "
                f"to {gap.high:+.2f})"
            )
        said.append(rival)
    return f" {_upper(', '.join(said))}." if said else ""


def _more_ratings(references: Sequence[Reference]) -> str:
    """What twice as many ratings would do to the ceiling, by Spearman-Brown."""
    for reference in references:
        rho = reference.replicated
        if rho is not None:
            after = 2 * rho / (1 + rho) if rho > 0 else 0.0
            return (
                f"The noise ceiling is {max(rho, 0.0) ** 0.5:.2f}; with twice as many ratings it "
                f"would be about {after**0.5:.2f}."
            )
    return "Only more users who rated movies of several genres can give such evidence."


def _structure_advice(able: Sequence[Reference], min_ceiling_share: float) -> str:
    """The reason why the genre embeddings fall short, where the numbers show one."""
    for reference in able:
        rho, ceiling = float(reference.agreement.spearman or 0), float(reference.ceiling or 0)
        enough = min_ceiling_share * ceiling
        if rho >= enough:
            continue
        if reference.whole is not None and reference.whole >= max(enough, rho + 0.05):
            return (
                f"The model knows more about genres ({reference.whole:.2f}) than its genre "
                f"embeddings hold ({rho:.2f}): the vectors of the movies hold the rest."
            )
        if reference.rival is not None and reference.rival >= max(enough, rho + 0.05):
            return (
                f"The training ratings hold more about genres ({reference.rival:.2f}, the rival) "
                f"than the model learnt ({rho:.2f}): users' tastes for genres differ in more ways "
                "than its embeddings can express. Where the order of similarities matters, use the "
                "rival's (plots/inspect/evidence.json)."
            )
    if all(reference.ceiling == 1 and reference.replicated is None for reference in able):
        return "This evidence has no noise: only more training ratings can help the model."
    return _more_ratings(able)


def stability_verdict(stability: Stability, min_stability: float = 0.8) -> Verdict:
    """Would another seed have learnt the same?

    Args:
        stability: from `similarity.replica_stability`.
        min_stability: mean Spearman's rho between replicas that counts as repeatable.
    """
    numbers: dict[str, float | None] = {
        "replicas": stability.replicas,
        "spearman": stability.spearman,
        "min_stability": min_stability,
        "cka": stability.cka,
        "cka_chance": stability.cka_chance,
        "neighbour_overlap": stability.overlap,
        "neighbour_overlap_chance": stability.chance,
        "stable_genres": int(stability.stable.sum()),
    }
    rho = stability.spearman
    if rho is None:
        reason = f"Stability cannot be measured ({stability.reason})."
        return Verdict("stability", "inconclusive", reason, numbers, _ADVICE["stability"])
    outcome: Outcome = "pass" if rho >= min_stability else "fail"
    reason = (
        f"The genre similarities of {stability.replicas} replicas agree at rho = {rho:.2f}; at "
        f"least {min_stability:.2f} is needed. The nearest genres of {int(stability.stable.sum())} "
        f"of {len(stability.stable)} genres are repeatable"
    )
    if stability.overlap is not None and stability.chance is not None:
        reason += (
            f": two replicas have {_percent(stability.overlap)} of them in common, by chance it "
            f"would be {_percent(stability.chance)}"
        )
    return Verdict("stability", outcome, reason + ".", numbers, _advice("stability", outcome))


def value_verdict(gains: Mapping[str, Interval | None], min_gain: float = 0.003) -> Verdict:
    """Do the genres make better predictions?

    - pass: for some group of movies the error falls by at least `min_gain` and the interval lies
      above 0, and for no group it rises by as much;
    - fail: for every group that was measured, the whole interval lies below `min_gain`, or for
      some group the error rises by `min_gain` with the interval below 0;
    - inconclusive: nothing was measured, or the intervals are too wide to say.

    Args:
        gains: by group of movies, as in `warm movies` and `cold movies`, the RMSE of a model
            retrained without genres minus that of the full model, in rating units, with an
            interval by bootstrap over users; None where too few users could be judged. Only the
            lower ends decide on a pass: two groups at 95 % pass by chance at 5 % together.
        min_gain: RMSE difference that another seed would not produce by itself.
    """
    numbers: dict[str, float | None] = {"min_gain": min_gain}
    measured: dict[str, Interval] = {}
    for name, gain in gains.items():
        for part in ("estimate", "low", "high"):
            numbers[f"{name}.{part}"] = None if gain is None else getattr(gain, part)
        if gain is not None:
            measured[name] = gain
    if not gains:
        reason = "No model without genres was trained (train.without_genres: false)."
        advice = "Set train.without_genres: true."
        return Verdict("value", "inconclusive", reason, numbers, advice)
    missing = [
        f"Too few users rated {_GROUPS.get(name, name)} in test to judge these."
        for name, gain in gains.items()
        if gain is None
    ]
    if not measured:
        reason = " ".join(missing)
        return Verdict("value", "inconclusive", reason, numbers, _ADVICE["value"])

    helped = any(gain.low > 0 and gain.estimate >= min_gain for gain in measured.values())
    harmed = any(gain.high < 0 and gain.estimate <= -min_gain for gain in measured.values())
    useless = all(gain.high < min_gain for gain in measured.values())
    outcome: Outcome = "inconclusive"
    opening = []
    if helped and harmed:
        opening = ["They help for some movies and harm for others."]
    elif helped:
        outcome = "pass"
    elif harmed:
        outcome, opening = "fail", ["They make predictions worse."]
    elif useless:
        outcome = "fail"
    sentences = [
        f"With genres, the RMSE on {_GROUPS.get(name, name)} {_fall(gain)}."
        for name, gain in measured.items()
    ]
    limit = f"A change below {min_gain:g} stars proves nothing: another seed could cause it."
    reason = " ".join([*opening, *sentences, *missing, limit])
    return Verdict("value", outcome, reason, numbers, _advice("value", outcome))


def _fall(gain: Interval) -> str:
    """By how much an error falls or rises, with the interval in that direction."""
    verb, low, high = "falls", gain.low, gain.high
    if gain.estimate < 0:
        verb, low, high = "rises", -gain.high, -gain.low
    return (
        f"{verb} by {abs(gain.estimate):.4f} stars "
        f"({_percent(gain.level)} interval {low:.4f} to {high:.4f})"
    )


def _obstacle(reference: Reference, alpha: float, independent: int) -> str:
    """Why a reference cannot judge; empty if it can."""
    result = reference.agreement
    if result.spearman is None or result.p_value is None or result.null_95 is None:
        return result.reason or "no shuffled orders were drawn"
    if reference.ceiling is None:
        return "its noise ceiling could not be measured"
    if reference.ceiling <= 0:
        return "its noise ceiling is 0: two measurements of it have nothing in common"
    if result.smallest_p * independent > alpha:
        return f"with {result.genres} genres p cannot fall below {result.smallest_p:.3f}"
    if reference.replicated is not None and reference.replicated <= result.null_95:
        return (
            f"two measurements of it agree at rho = {reference.replicated:.2f}, and chance reaches "
            f"{result.null_95:.2f}: too few ratings, or ratings that do not depend on genres"
        )
    if reference.movie_halves is not None and reference.movie_halves <= result.null_95:
        return (
            f"two halves of its movies agree at rho = {reference.movie_halves:.2f}, and chance "
            f"reaches {result.null_95:.2f}: it may say more about these movies than about genres"
        )
    good = GOOD_MODEL * reference.ceiling
    if good <= result.null_95:
        return (
            f"with its noise, a good model would reach rho = {good:.2f}, and chance reaches "
            f"{result.null_95:.2f}"
        )
    return ""


def _reference_numbers(reference: Reference) -> dict[str, float | None]:
    """The numbers of a reference under its name."""
    name, result = reference.name, reference.agreement
    numbers: dict[str, float | None] = {
        f"{name}.spearman": result.spearman,
        f"{name}.p_value": result.p_value,
        f"{name}.null_95": result.null_95,
        f"{name}.pairs": result.pairs,
    }
    if reference.independent:
        numbers[f"{name}.ceiling"] = reference.ceiling
    for key in ("replicated", "movie_halves", "whole", "rival"):
        if getattr(reference, key) is not None:
            numbers[f"{name}.{key}"] = getattr(reference, key)
    if reference.gap is not None:
        for key in ("estimate", "low", "high"):
            numbers[f"{name}.above_rival.{key}"] = getattr(reference.gap, key)
    for null, rho in reference.nulls.items():
        numbers[f"{name}.{null}"] = rho
    return numbers


def _advice(line: Line, outcome: Outcome) -> str:
    return "" if outcome == "pass" else _ADVICE[line]


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _upper(text: str) -> str:
    """The text as the beginning of a sentence."""
    return text[0].upper() + text[1:]
