"""Prediction: `python -m benchmarks.speed.inference [--threads 2] [--doc]`.

Ratings a second of `model.predict`, and the ten best movies for all users, by untrained networks
(a trained one computes the same) of ML-latest-small's shape.
"""

import os

import numpy as np
import torch

from benchmarks.measuring import (
    GENRES,
    ROOT,
    Row,
    clock,
    command_line,
    machine,
    made_up,
    report,
    untrained,
)
from genre_embeddings.model.network import Network
from genre_embeddings.model.predict import predict
from genre_embeddings.model.ratings import Ratings
from genre_embeddings.settings import load_settings
from genre_embeddings.training.neighbourhood import fit_neighbourhood

USERS, MOVIES, RATINGS = 610, 9742, 100_836
ROUNDS, SOME = 3, 50
LIGHT = {"hidden": (), "history": 0, "similar_movies": 0, "time": "none"}


def row(name: str, network: Network, train: Ratings) -> Row:
    """Throughput and top-10 of a network."""
    user, movie, moments = train.user.numpy(), train.movie.numpy(), train.time.numpy()
    seconds = []
    for _ in range(ROUNDS):
        start = clock()
        predict(network, user, movie, moments)
        seconds.append(clock() - start)
    start = clock()
    for person in range(SOME):
        mean, _ = predict(network, np.full(MOVIES, person), np.arange(MOVIES))
        np.argpartition(-mean, 10)[:10]
    return {
        "model": name, "million ratings a s": RATINGS / min(seconds) / 1e6,
        "top 10 of all users, s": (clock() - start) * USERS / SOME,
    }  # fmt: skip


def main() -> None:
    parser = command_line(__doc__, "docs/results/speed.md")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    notes = (
        f"`python -m benchmarks.speed.inference --threads {options.threads}`: {USERS:,} users, "
        f"{MOVIES:,} movies; the fastest of {ROUNDS} rounds, top 10 extrapolated from {SOME} "
        f"users; CPU seconds where threads is 1. {machine()}."
    )
    train = made_up(USERS, MOVIES, RATINGS)
    default = load_settings(ROOT / "params.yaml").in_effect(
        has_time=True, sessions=True, genres=GENRES
    )
    ways = {
        "default, 4 replicas": (default, 4),
        "default, 2 replicas": (default, 2),
        "no similar movies, 2 replicas": (default.model_copy(update={"similar_movies": 0}), 2),
        "no hidden layer, history, similar movies or time, 1 replica": (
            default.model_copy(update=LIGHT), 1,
        ),
    }  # fmt: skip
    rows = []
    for name, (settings, replicas) in ways.items():
        network = untrained(settings, replicas, train, USERS, MOVIES)
        fit_neighbourhood(network, train)
        rows.append(row(name, network, train))
    report(options.doc, "inference", rows, notes)


if __name__ == "__main__":
    main()
