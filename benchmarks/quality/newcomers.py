"""New people against trained users: `python -m benchmarks.quality.newcomers FOLDER`.

FOLDER is a checkout whose stage train has run. A second model is trained without the ratings of
15 % of the users. These users then join it as new people, with all or a few of their training
ratings, and it predicts their test ratings. For comparison it predicts them for an unknown user,
and the first model, which was trained with these users, predicts them too. No prediction uses the
times of ratings.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks.measuring import Row, report
from genre_embeddings import storage
from genre_embeddings.inference.posterior import with_user
from genre_embeddings.inference.predict import AnyUser
from genre_embeddings.model.network import Network
from genre_embeddings.model.predict import predict
from genre_embeddings.model.serialization import Tables, configure_torch, load_whole
from genre_embeddings.settings import load_settings
from genre_embeddings.training.model import Data, train_model

SHARE = 0.15
GIVEN = {
    "new, 1 rating": 1, "new, 5 ratings": 5, "new, 20 ratings": 20, "new, all ratings": 10**9
}  # fmt: skip
"""How many training ratings a new person gives, at most."""


def ratings_of(side: str, users: np.ndarray, others: bool = False) -> storage.Side:
    """The ratings of a side by these users, or by all others."""
    ratings = storage.read_side(side)
    chosen = np.isin(ratings.user, users, invert=others)
    return ratings.part(chosen)


def train_without(users: np.ndarray, tables: Tables) -> Network:
    """A model of the settings in params.yaml that has not seen these users."""
    settings = load_settings()
    configure_torch(settings.train.threads)
    train, validation = (ratings_of(side, users, others=True) for side in ("train", "validation"))
    data = Data(train, validation, tables, storage.read_meta())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "model"
        train_model(settings, data, folder, record=False, name="without")
        return load_whole(folder)[0]


def rows(users: np.ndarray, train: storage.Side, test: storage.Side) -> Iterator[Row]:
    """Errors of the predictions of the test ratings, which are all by these users."""
    user, movie = test.user.astype(np.int64), test.movie.astype(np.int64)
    trained, tables = load_whole()
    network = train_without(users, tables)
    anybody = AnyUser(network).predict(movie)
    known = np.stack(predict(trained, user, movie))

    def rmse(found: np.ndarray) -> float:
        return float(np.sqrt(np.mean((found[0] - test.rating) ** 2)))

    def row(name: str, found: np.ndarray, seconds: str = "") -> Row:
        gain = (rmse(anybody) - rmse(found)) / (rmse(anybody) - rmse(known))
        ratio = np.mean(((found[0] - test.rating) / found[1]) ** 2)
        return {
            "user": name, "RMSE": f"{rmse(found):.4f}", "share of the gain": f"{gain:.0%}",
            "squared error / squared deviation": f"{ratio:.2f}", "seconds": seconds,
        }  # fmt: skip

    yield row("unknown", anybody)
    for name, most in GIVEN.items():
        found, spent = anybody.copy(), []
        for one in users:
            start, end = np.searchsorted(train.user, [one, one + 1])
            some = np.sort(np.random.default_rng(one).permutation(np.arange(start, end))[:most])
            if not len(some):
                continue
            began = time.perf_counter()
            rated = torch.from_numpy(train.movie[some].astype(np.int64))
            new = with_user(network, rated, torch.from_numpy(train.rating[some]))
            spent.append(time.perf_counter() - began)
            mine = user == one
            found[:, mine] = predict(new, np.full(mine.sum(), new.users - 1), movie[mine])
        yield row(name, found, f"{np.median(spent):.2f}")
    yield row("trained", known)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    os.chdir(parser.parse_args().folder)
    every = np.unique(storage.read_side("test").user)
    users = np.random.default_rng(0).permutation(every)[: int(len(every) * SHARE)]
    test = ratings_of("test", users)
    notes = f"{len(users)} users, {len(test.rating):,} test ratings"
    report(None, "", rows(users, storage.read_side("train"), test), notes)


if __name__ == "__main__":
    main()
