"""The inspection on one page: verdicts, the numbers behind them, what they mean, what to try."""

from __future__ import annotations

import base64
import html
from pathlib import Path
from typing import Any

from genre_embeddings.inspection.inspect import Answer
from genre_embeddings.inspection.verdict import Verdict
from genre_embeddings.storage import replacing

QUESTIONS = {
    "structure": "Does the learnt genre similarity match independent evidence?",
    "stability": "Would another seed have learnt the same?",
    "value": "Do the genres make better predictions?",
}
MARKS = {"pass": "✓", "fail": "✗", "inconclusive": "?"}
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
  color: #222; }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
section { border-left: .5rem solid #999; padding: .1rem 1rem; margin: 1rem 0; background: #f7f7f7 }
.pass { border-color: #0072b2 } .fail { border-color: #d55e00 }
.inconclusive { border-color: #999 } section h2 { margin: .4rem 0 }
table { border-collapse: collapse; font-size: .9rem } td, th { padding: .15rem .8rem .15rem 0;
  text-align: left; vertical-align: top } td.number { text-align: right }
img { max-width: 100% } details { margin: .5rem 0 } .note { color: #555 }
"""

PANELS = {
    "learnt": "by the model's answers; a dot marks a cell whose interval includes zero.",
    "model": "by the whole model's predictions for known movies.",
    "likelihood": "by users' genre slopes in held-out ratings, on which the model did not train.",
    "moments": "the same by another estimator, unbiased and noisier.",
    "rival": "by a mixed model fitted to the training ratings, without a network.",
    "catalogue": "by shared movies, which the model sees, so it proves nothing.",
    "genome": "by the tags of movies that have one of the two genres.",
    "truth": "as planted.",
    "cosine": "of the embeddings themselves, shown because people expect it; it changes with the "
    "basis while the predictions stay the same.",
}
"""What each picture of similarities shows, by its title."""


def write_report(answer: Answer, pictures: list[Path], path: Path) -> None:
    """Write the page as a single HTML file that needs nothing from outside.

    Args:
        answer: what the inspection found.
        pictures: PNGs to show, in order.
        path: the page.
    """
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        "<title>Are the genre embeddings appropriate?</title>",
        f"<style>{STYLE}</style><h1>Are the genre embeddings appropriate?</h1>",
        "<p>Three questions, each answered pass, fail or inconclusive. A line fails only where the "
        "evidence could have shown otherwise.</p>",
        *(_verdict(verdict) for verdict in answer.verdicts),
    ]
    if answer.remarks:
        remarks = "".join(f"<li>{html.escape(remark)}</li>" for remark in answer.remarks)
        parts.append(f"<h2>Left out</h2><ul>{remarks}</ul>")
    for picture in pictures:
        data = base64.b64encode(picture.read_bytes()).decode()
        parts.append(f"<p><img alt='{picture.stem}' src='data:image/png;base64,{data}'></p>")
    if answer.matrices:
        shown = " ".join(
            f"<b>{name}</b>: {text}" for name, text in PANELS.items() if name in answer.matrices
        )
        parts.append(
            "<p class='note'>Similarity of two genres: how far users who like one more than usual "
            f"like the other more, too. {shown}</p>"
        )
    if answer.neighbours:
        parts.append(_neighbours(answer))
    if answer.costs:
        parts.append(_costs(answer))
    with replacing(path) as temporary:
        temporary.write_text("\n".join(parts) + "\n", encoding="utf-8")


def _verdict(verdict: Verdict) -> str:
    numbers = "".join(
        f"<tr><td>{html.escape(name)}</td><td class='number'>"
        f"{'not known' if value is None else f'{value:.4g}'}</td></tr>"
        for name, value in verdict.numbers.items()
    )
    advice = f"<p><b>What to try.</b> {html.escape(verdict.advice)}</p>" if verdict.advice else ""
    details = (
        f"<details><summary>the numbers</summary><table>{numbers}</table></details>"
        if numbers
        else ""
    )
    return (
        f"<section class='{verdict.outcome}'><h2>{MARKS[verdict.outcome]} "
        f"{verdict.line.capitalize()}: {verdict.outcome}</h2>"
        f"<p><i>{QUESTIONS[verdict.line]}</i></p><p>{html.escape(verdict.reason)}</p>"
        f"{advice}{details}</section>"
    )


def _neighbours(answer: Answer) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(row['genre'])}</td><td>"
        f"{html.escape(row['nearest']) or '<span class=note>not repeatable</span>'}</td>"
        f"<td class='number'>{'' if row['overlap'] is None else format(row['overlap'], '.0%')}"
        "</td></tr>"
        for row in answer.neighbours
    )
    return (
        "<h2>Nearest genres</h2><table><tr><th>genre</th><th>nearest, by learnt similarity</th>"
        f"<th>shared between replicas</th></tr>{rows}</table>"
    )


def _interval(row: dict[str, Any]) -> str:
    """The interval in a cell; empty where too few users stand behind it."""
    return "" if row["low"] is None else f"{row['low']:+.4f} to {row['high']:+.4f}"


def _costs(answer: Answer) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(row['genre'])}</td><td class='number'>{row['ratings']:,}</td>"
        f"<td class='number'>{row['rmse_rise']:+.4f}</td>"
        f"<td class='number'>{_interval(row)}</td></tr>"
        for row in answer.costs
    )
    return (
        "<h2>What leaving out one genre costs</h2><p class='note'>Rise of the test RMSE, in stars, "
        "on the genre's movies when this model does not see the genre.</p><table><tr><th>genre</th>"
        f"<th>test ratings</th><th>RMSE rise</th><th>95 % interval</th></tr>{rows}</table>"
    )
