"""Prediction: `python -m benchmarks.speed.inference [--threads 2] [--doc]`.

Ratings a second of `model.predict`, and the ten best movies for all users, by untrained networks
(a trained one computes the same) of ML-latest-small's shape.
"""

from __future__ import annotations

import argparse
import os

import numpy as np
import torch

from benchmarks.measuring import ROOT, Row, clock, made_up, report, untrained
from genre_embeddings.model.network import Network
from genre_embeddings.model.predict import predict
from genre_embeddings.model.ratings import Ratings
from genre_embeddings.settings import load_settings

USERS, MOVIES, RATINGS = 610, 9742, 100_836
ROUNDS = 3
LIGHT = {"hidden": (), "history": 0, "time": "none"}


def row(name: str, network: Network, train: Ratings) -> Row:
    """Throughput and top-10 of a network."""
    user, movie, moments = train.user.numpy(), train.movie.numpy(), train.time.numpy()
    seconds = []
    for _ in range(ROUNDS):
        start = clock()
        predict(network, user, movie, moments)
        seconds.append(clock() - start)
    rate = user.size / min(seconds)
    start, some = clock(), 50
    for person in range(some):
        mean, _ = predict(network, np.full(MOVIES, person), np.arange(MOVIES))
        np.argpartition(-mean, 10)[:10]
    all_users = (clock() - start) * USERS / some
    return {
        "model": name, "million ratings a s": rate / 1e6, "top 10 of all users, s": all_users,
        "of it million scores a s": USERS * MOVIES / all_users / 1e6,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads")
    parser.add_argument("--doc", action="store_true", help="write docs/results/speed.md")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    train = made_up(USERS, MOVIES, RATINGS)
    default = load_settings(ROOT / "params.yaml").model
    ways = {
        "default, 4 replicas": (default, 4),
        "default, 1 replica": (default, 1),
        "no hidden layer, history or time, 1 replica": (default.model_copy(update=LIGHT), 1),
    }
    rows = [
        row(name, untrained(settings, replicas, train, USERS, MOVIES), train)
        for name, (settings, replicas) in ways.items()
    ]
    notes = (
        f"`python -m benchmarks.speed.inference --threads {options.threads}`: {USERS:,} users, "
        f"{MOVIES:,} movies; ratings in the fastest of {ROUNDS} rounds, top 10 extrapolated from "
        "50 users; CPU seconds where threads is 1."
    )
    report("inference", notes, rows, options.doc)


if __name__ == "__main__":
    main()
