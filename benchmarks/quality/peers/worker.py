"""One peer on one split, in a process of its own: fit on train, predict validation and test.

Runs in the peers' environment, which knows nothing of this project:

    python worker.py JOB.json

The job names the peer, its settings, a seed and the folders `data/split` and `data/prepared`;
the answer is two arrays of predictions (`validation.npy`, `test.npy`) in the job's folder `out`,
in the row order of the split files, and `result.json` with the seconds of the fit, by the clock and
of the CPU, and the test errors on the way, of a peer that has some.
"""

# The peers are not installed where types are checked.
# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy import sparse

Settings = dict[str, Any]


@dataclass(frozen=True)
class Ratings:
    """Ratings of one side of a split; every array has length N."""

    user: np.ndarray
    movie: np.ndarray
    rating: np.ndarray
    day: np.ndarray

    def __len__(self) -> int:
        return len(self.rating)


@dataclass(frozen=True)
class Data:
    """A split with what is known of its movies.

    Attributes:
        sides: train, validation and test.
        users: U.
        genres: (M, G), a row per movie with a one at each of its genres.
        scale: lowest and highest rating.
    """

    sides: dict[str, Ratings]
    users: int
    genres: sparse.csr_matrix
    scale: tuple[float, float]

    @property
    def train(self) -> Ratings:
        """What may be fitted."""
        return self.sides["train"]


Predict = Callable[[Ratings], np.ndarray]


class Stopwatch:
    """Seconds of a fit, without those of predictions on the way.

    Attributes:
        points: seconds by the clock, seconds of the CPU and test error after some steps of the fit.
    """

    def __init__(self) -> None:
        self.begin = self.now()
        self.points: list[tuple[float, float, float]] = []

    @staticmethod
    def now() -> np.ndarray:
        """Both clocks."""
        return np.array([time.perf_counter(), time.process_time()])

    def read(self) -> tuple[float, float]:
        """Seconds by the clock and of the CPU."""
        clock, cpu = self.now() - self.begin
        return float(clock), float(cpu)

    @contextmanager
    def paused(self) -> Iterator[tuple[float, float]]:
        """Do not count what happens within; gives the reading."""
        stopped = self.now()
        yield self.read()
        self.begin += self.now() - stopped


WATCH = Stopwatch()


def load(split: Path, prepared: Path) -> Data:
    """The split files and the tables that they index."""
    sides = {}
    for side in ("train", "validation", "test"):
        columns = {
            name: np.load(split / side / f"{name}.npy")
            for name in ("user", "movie", "rating", "timestamp")
        }
        sides[side] = Ratings(
            columns["user"].astype(np.int64),
            columns["movie"].astype(np.int64),
            columns["rating"].astype(np.float64),
            columns["timestamp"] // 86_400,
        )
    meta = json.loads((prepared / "meta.json").read_text(encoding="utf-8"))
    movies = pl.read_parquet(prepared / "movies.parquet").sort("movie")
    sizes = movies["genres"].list.len().fill_null(0).to_numpy().astype(np.int64)
    genres = sparse.csr_matrix(
        (
            np.ones(sizes.sum()),
            movies["genres"].list.explode(empty_as_null=False).to_numpy().astype(np.int64),
            np.concatenate([[0], sizes.cumsum()]),
        ),
        shape=(len(movies), len(pl.read_parquet(prepared / "genres.parquet"))),
    )
    users = len(pl.read_parquet(prepared / "users.parquet"))
    return Data(sides, users, genres, (meta["min_rating"], meta["max_rating"]))


def fit_global_mean(data: Data, _settings: Settings, _seed: int) -> Predict:
    """The mean of the training ratings for everybody."""
    mean = data.train.rating.mean()
    return lambda asked: np.full(len(asked), mean)


def fit_surprise(data: Data, settings: Settings, seed: int) -> Predict:
    """An algorithm of Surprise: `BaselineOnly` (biases), `SVD` or `KNNBaseline`."""
    import pandas as pd
    import surprise

    options = dict(settings)
    algorithm = getattr(surprise, options.pop("algorithm"))
    if algorithm is surprise.SVD:
        options["random_state"] = seed
    train = data.train
    frame = pd.DataFrame({"user": train.user, "movie": train.movie, "rating": train.rating})
    reader = surprise.Reader(rating_scale=data.scale)
    trainset = surprise.Dataset.load_from_df(frame, reader).build_full_trainset()
    model = algorithm(verbose=False, **options).fit(trainset)

    def predict(asked: Ratings) -> np.ndarray:
        pairs = zip(asked.user.tolist(), asked.movie.tolist(), strict=True)
        return np.array([model.predict(user, movie).est for user, movie in pairs])

    return predict


def fit_lenskit(data: Data, settings: Settings, seed: int) -> Predict:
    """Biased matrix factorisation of LensKit (alternating least squares)."""
    import pandas as pd
    from lenskit.als import BiasedMFScorer
    from lenskit.data import ItemList, from_interactions_df
    from lenskit.training import TrainingOptions

    train = data.train
    frame = pd.DataFrame({"user_id": train.user, "item_id": train.movie, "rating": train.rating})
    model = BiasedMFScorer(**settings)
    model.train(from_interactions_df(frame), TrainingOptions(rng=seed))

    def predict(asked: Ratings) -> np.ndarray:
        found = np.empty(len(asked))
        order = np.argsort(asked.user, kind="stable")
        starts = np.flatnonzero(np.diff(asked.user[order], prepend=-1))
        for rows in np.split(order, starts[1:]):
            items = ItemList(item_ids=asked.movie[rows])
            user = int(asked.user[rows[0]])
            scores = model(user, items).scores()
            # A movie or user without ratings has no factors: what is left is the bias.
            bias, _ = model.bias.compute_for_items(items, user)
            found[rows] = np.where(np.isfinite(scores), scores, bias)
        return found

    return predict


def fit_myfm(data: Data, settings: Settings, seed: int) -> Predict:
    """Bayesian factorisation machine of myFM: users, movies and genres, by Gibbs sampling.

    `implicit` adds the movies that a user rated and the users that rated a movie (weights 1/√n,
    training ratings only), `day` the day of the rating, each a group of features of its own, as
    in myFM's MovieLens examples. Users, movies and days are relation blocks: the sampler works
    on U + M + days rows instead of on every rating's.
    """
    from myfm import MyFMRegressor, RelationBlock

    train = data.train
    movies = data.genres.shape[0]
    one_of = (np.ones(len(train)), (train.user, train.movie))
    rated = sparse.csr_matrix(one_of, shape=(data.users, movies))
    days = np.unique(train.day)

    # Without training ratings there is no column: it could only add noise from the prior.
    user_parts = [sparse.identity(data.users, format="csc")[:, np.unique(train.user)]]
    movie_parts = [sparse.identity(movies, format="csc")[:, np.unique(train.movie)], data.genres]
    if settings["implicit"]:
        user_parts.append(_unit_rows(rated))
        movie_parts.append(_unit_rows(rated.T.tocsr()))
    parts = user_parts + movie_parts
    user_table, movie_table = (
        sparse.csr_matrix(sparse.hstack(some)) for some in (user_parts, movie_parts)
    )
    day_table = sparse.identity(len(days), format="csr")
    if settings["day"]:
        # The last row, all zeros, stands for a day without training ratings.
        day_table = sparse.vstack([day_table, sparse.csr_matrix((1, len(days)))], format="csr")
        parts.append(day_table)

    def blocks(asked: Ratings) -> list[Any]:
        found = [RelationBlock(asked.user, user_table), RelationBlock(asked.movie, movie_table)]
        if settings["day"]:
            at = np.searchsorted(days, asked.day).clip(max=len(days) - 1)
            found.append(RelationBlock(np.where(days[at] == asked.day, at, len(days)), day_table))
        return found

    # Keeping every sample would need gigabytes: predictions are summed while sampling instead.
    asked = [data.sides["validation"], data.sides["test"]]
    asked_blocks = [blocks(side) for side in asked]
    empty = [sparse.csr_matrix((len(side), 0)) for side in asked]
    sums = [np.zeros(len(side)) for side in asked]
    burn_in = settings["samples"] // 20

    def add(step: int, machine: Any, _hyper: Any, _history: Any) -> tuple[bool, None]:
        with WATCH.paused() as seconds:
            if step >= burn_in:
                for total, rows, some in zip(sums, empty, asked_blocks, strict=True):
                    total += machine.predict_score(rows, some)
            so_far = step + 1 - burn_in
            if so_far > 0 and so_far & (so_far - 1) == 0:  # after 1, 2, 4, 8, ... samples
                error = (sums[1] / so_far).clip(*data.scale) - data.sides["test"].rating
                WATCH.points.append((*seconds, float(np.mean(error**2))))
        return False, None

    model = MyFMRegressor(rank=settings["rank"], random_seed=seed)
    model.fit(
        None,
        train.rating,
        X_rel=blocks(train),
        group_shapes=[part.shape[1] for part in parts],
        n_iter=settings["samples"],
        n_kept_samples=1,
        callback=add,
    )
    kept = settings["samples"] - burn_in
    means = {id(side): total / kept for side, total in zip(asked, sums, strict=True)}
    return lambda side: means[id(side)]


def fit_lightgbm(data: Data, settings: Settings, seed: int) -> Predict:
    """Gradient-boosted trees of LightGBM on target encodings, genres and the day.

    The encodings are shrunk means of residuals: of the movie, of the user, and of the user's
    ratings in each genre. Those of a training rating come from nine tenths of the others.
    """
    import lightgbm

    train, options = data.train, dict(settings)
    shrinkage = options.pop("shrinkage")

    def columns(known: np.ndarray, asked: Ratings) -> np.ndarray:
        """Features of the asked ratings, by the training ratings in `known`."""
        user, movie, rest = train.user[known], train.movie[known], train.rating[known]
        mean = rest.mean()
        found = []
        for key, wanted, size in (
            (movie, asked.movie, data.genres.shape[0]), (user, asked.user, data.users)
        ):  # fmt: skip
            counts = np.bincount(key, minlength=size)
            effect = np.bincount(key, rest - mean, size) / (counts + shrinkage)
            mean, rest = 0.0, rest - mean - effect[key]
            found += [effect[wanted], counts[wanted]]
        rated = sparse.csr_matrix((rest, (user, movie)), (data.users, data.genres.shape[0]))
        taste = (rated @ data.genres).toarray()
        taste /= ((rated != 0).astype(float) @ data.genres).toarray() + shrinkage
        genres = data.genres[asked.movie].toarray()
        of_movie = (taste[asked.user] * genres).sum(1) / np.maximum(genres.sum(1), 1)
        return np.column_stack([*found, of_movie, taste[asked.user], genres, asked.day])

    fold = np.random.default_rng(seed).integers(10, size=len(train))
    rows = np.argsort(fold, kind="stable")
    parts = []
    for number in range(10):
        chosen = fold == number
        asked = Ratings(*(column[chosen] for column in vars(train).values()))
        parts.append(columns(~chosen, asked))
    every = np.ones(len(train), bool)
    validation = data.sides["validation"]
    model = lightgbm.LGBMRegressor(n_estimators=5000, random_state=seed, n_jobs=1, **options)
    model.fit(
        np.concatenate(parts),
        train.rating[rows],
        eval_X=columns(every, validation),
        eval_y=validation.rating,
        callbacks=[lightgbm.early_stopping(50, verbose=False)],
    )
    return lambda asked: model.predict(columns(every, asked))


def fit_deepfm(data: Data, settings: Settings, seed: int) -> Predict:
    """DeepFM of DeepCTR-Torch: users, movies, genres; validation chooses the epoch.

    A factorisation machine beside a deep network on the same embeddings.
    """
    import torch
    from deepctr_torch.callbacks import EarlyStopping
    from deepctr_torch.inputs import SparseFeat, VarLenSparseFeat
    from deepctr_torch.models import DeepFM

    torch.set_num_threads(1)
    options, train, movies = dict(settings), data.train, data.genres.shape[0]
    rate, size = options.pop("lr"), options.pop("dim")
    counts = np.diff(data.genres.indptr)
    lists = np.zeros((movies, counts.max()), np.int64)  # genre + 1, then zeros
    lists[np.arange(counts.max()) < counts[:, None]] = data.genres.indices + 1
    features = [
        SparseFeat("user", data.users, size),
        SparseFeat("movie", movies, size),
        VarLenSparseFeat(SparseFeat("genres", data.genres.shape[1] + 1, size), counts.max()),
    ]
    model = DeepFM(features, features, task="regression", seed=seed, init_std=0.01, **options)
    model.compile(torch.optim.Adam(model.parameters(), rate), "mse", metrics=["mse"])
    mean = train.rating.mean()

    def inputs(asked: Ratings) -> dict[str, np.ndarray]:
        return {"user": asked.user, "movie": asked.movie, "genres": lists[asked.movie]}

    validation = data.sides["validation"]
    stop = EarlyStopping("val_mse", mode="min", patience=3, restore_best_weights=True)
    model.fit(
        inputs(train), train.rating - mean, batch_size=1024, epochs=60, verbose=0,
        validation_data=(inputs(validation), validation.rating - mean), callbacks=[stop],
    )  # fmt: skip
    return lambda asked: mean + model.predict(inputs(asked), 16_384)[:, 0]


def _unit_rows(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """Rows of ones, each divided by the root of its count."""
    counts = np.maximum(np.diff(matrix.indptr), 1)
    return sparse.csr_matrix(sparse.diags(1 / np.sqrt(counts)) @ matrix)


FITS = {
    "global-mean": fit_global_mean,
    "surprise": fit_surprise,
    "lenskit": fit_lenskit,
    "myfm": fit_myfm,
    "lightgbm": fit_lightgbm,
    "deepfm": fit_deepfm,
}


def main() -> None:
    """Do the job that the file named on the command line describes."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    data = load(Path(job["split"]), Path(job["prepared"]))
    out = Path(job["out"])
    WATCH.begin = WATCH.now()
    predict = FITS[job["fit"]](data, job["settings"], job["seed"])
    clock, cpu = WATCH.read()
    for side in ("validation", "test"):
        predicted = predict(data.sides[side]).clip(*data.scale)
        np.save(out / f"{side}.npy", predicted)
    error = float(np.mean((predicted - data.sides["test"].rating) ** 2))
    WATCH.points.append((clock, cpu, error))
    (out / "result.json").write_text(
        json.dumps({"fit_seconds": clock, "cpu_seconds": cpu, "points": WATCH.points}),
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
