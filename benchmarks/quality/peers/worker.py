"""Fit one model of another library: `PYTHON worker.py JOB.json`, in a copy of the pipeline.

Runs in the peers' environment and imports nothing of this project. The job names the fit, its
settings, the seed and the folders `data/split` and `data/prepared`. The answer is two arrays of
predictions (`validation.npy`, `test.npy`), in the row order of the split files, and `result.json`
with `points` (seconds by the clock, seconds of the CPU, test MSE) and the last of them, `end`. Only
myFM has points before the end.
"""

# The peers are not installed where types are checked.
# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from scipy import sparse

Settings = dict[str, Any]


class Ratings(NamedTuple):
    """Ratings of one side of a split; every array has length N."""

    user: np.ndarray
    movie: np.ndarray
    rating: np.ndarray
    day: np.ndarray

    def part(self, rows: np.ndarray) -> Ratings:
        """Some of the ratings."""
        return Ratings(*(column[rows] for column in self))


class Data(NamedTuple):
    """A split, and the genres of its movies."""

    train: Ratings
    validation: Ratings
    test: Ratings
    users: int
    genres: sparse.csr_matrix
    """(M, G), 1 where a movie has a genre."""
    scale: tuple[float, float]
    """Lowest and highest rating."""


Predict = Callable[[Ratings], np.ndarray]


class Stopwatch:
    """Seconds of a fit by the clock and of the CPU, without those of predictions on the way."""

    def __init__(self) -> None:
        self.begin = self.now()
        self.points: list[tuple[float, float, float]] = []
        """Seconds by both clocks, and test error."""

    @staticmethod
    def now() -> np.ndarray:
        """Both clocks."""
        return np.array([time.perf_counter(), time.process_time()])

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count what happens within."""
        stopped = self.now()
        yield
        self.begin += self.now() - stopped

    def note(self, error: np.ndarray) -> None:
        """Add a point: test errors, (N,), at this moment."""
        clock, cpu = self.now() - self.begin
        self.points.append((float(clock), float(cpu), float(np.mean(error**2))))


WATCH = Stopwatch()


def load(split: Path, prepared: Path) -> Data:
    """The split files and the tables that they index."""

    def side(name: str) -> Ratings:
        user, movie, rating, timestamp = (
            np.load(split / name / f"{column}.npy")
            for column in ("user", "movie", "rating", "timestamp")
        )
        ids = user.astype(np.int64), movie.astype(np.int64)
        return Ratings(*ids, rating.astype(np.float64), timestamp // 86_400)

    users, movies, genres = (
        pl.read_parquet(prepared / f"{name}.parquet") for name in ("users", "movies", "genres")
    )
    pairs = movies.select("movie", "genres").explode("genres", empty_as_null=False).drop_nulls()
    places = pairs["movie"].to_numpy(), pairs["genres"].to_numpy()
    sets = sparse.csr_matrix((np.ones(len(pairs)), places), (len(movies), len(genres)))
    meta = json.loads((prepared / "meta.json").read_text(encoding="utf-8"))
    scale = meta["min_rating"], meta["max_rating"]
    return Data(side("train"), side("validation"), side("test"), len(users), sets, scale)


def fit_surprise(data: Data, settings: Settings, seed: int) -> Predict:
    """An algorithm of Surprise: `BaselineOnly` (biases), `SVD` or `KNNBaseline`."""
    import pandas as pd
    import surprise

    options, train = dict(settings), data.train
    name = options.pop("algorithm")
    if name == "SVD":
        options["random_state"] = seed
    frame = pd.DataFrame({"user": train.user, "movie": train.movie, "rating": train.rating})
    reader = surprise.Reader(rating_scale=data.scale)
    trainset = surprise.Dataset.load_from_df(frame, reader).build_full_trainset()
    model = getattr(surprise, name)(verbose=False, **options).fit(trainset)

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
        found = np.empty(len(asked.rating))
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

    train, movies = data.train, data.genres.shape[0]
    rated = sparse.csr_matrix(
        (np.ones(len(train.rating)), (train.user, train.movie)), (data.users, movies)
    )
    days = np.unique(train.day)
    # Without training ratings there is no column: it could only add noise from the prior.
    user_parts = [sparse.identity(data.users, format="csc")[:, np.unique(train.user)]]
    movie_parts = [sparse.identity(movies, format="csc")[:, np.unique(train.movie)], data.genres]
    if settings["implicit"]:
        user_parts.append(_unit_rows(rated))
        movie_parts.append(_unit_rows(rated.T.tocsr()))
    groups = [user_parts, movie_parts]
    if settings["day"]:
        # The last row, all zeros, stands for a day without training ratings.
        groups.append([sparse.eye(len(days) + 1, len(days), format="csr")])
    tables = [sparse.csr_matrix(sparse.hstack(parts)) for parts in groups]

    def blocks(asked: Ratings) -> list[Any]:
        day = np.where(np.isin(asked.day, days), np.searchsorted(days, asked.day), len(days))
        rows = asked.user, asked.movie, day
        return [RelationBlock(row, table) for row, table in zip(rows, tables, strict=False)]

    # Keeping every sample would need gigabytes: predictions are summed while sampling instead.
    asked = data.validation, data.test
    inputs = [(sparse.csr_matrix((len(side.rating), 0)), blocks(side)) for side in asked]
    sums = [np.zeros(len(side.rating)) for side in asked]
    burn_in = settings["samples"] // 20

    def add(step: int, machine: Any, _hyper: Any, _history: Any) -> tuple[bool, None]:
        with WATCH.paused():
            if step >= burn_in:
                for total, some in zip(sums, inputs, strict=True):
                    total += machine.predict_score(*some)
            so_far = step + 1 - burn_in
            if so_far > 0 and so_far & (so_far - 1) == 0:  # after 1, 2, 4, 8, ... samples
                WATCH.note((sums[1] / so_far).clip(*data.scale) - data.test.rating)
        return False, None

    model = MyFMRegressor(rank=settings["rank"], random_seed=seed)
    model.fit(
        None,
        train.rating,
        X_rel=blocks(train),
        group_shapes=[part.shape[1] for parts in groups for part in parts],
        n_iter=settings["samples"],
        n_kept_samples=1,
        callback=add,
    )
    kept = settings["samples"] - burn_in
    return lambda side: sums[0 if side is data.validation else 1] / kept


def fit_lightgbm(data: Data, settings: Settings, seed: int) -> Predict:
    """Gradient-boosted trees of LightGBM on target encodings, genres and the day.

    The encodings are shrunk means of residuals: of the movie, of the user, and of the user's
    ratings in each genre. Those of a training rating come from nine tenths of the others.
    """
    import lightgbm

    train, options = data.train, dict(settings)
    shrinkage = options.pop("shrinkage")

    def columns(known: Ratings, asked: Ratings) -> np.ndarray:
        """Features of the asked ratings, by some of the training ratings."""
        user, movie, rating, _ = known
        rest, found = rating - rating.mean(), []
        for key, wanted, size in (
            (movie, asked.movie, data.genres.shape[0]), (user, asked.user, data.users)
        ):  # fmt: skip
            counts = np.bincount(key, minlength=size)
            effect = np.bincount(key, rest, size) / (counts + shrinkage)
            rest = rest - effect[key]
            found += [effect[wanted], counts[wanted]]
        rated = sparse.csr_matrix((rest, (user, movie)), (data.users, data.genres.shape[0]))
        taste = (rated @ data.genres).toarray()
        taste /= ((rated != 0).astype(float) @ data.genres).toarray() + shrinkage
        genres = data.genres[asked.movie].toarray()
        of_movie = (taste[asked.user] * genres).sum(1) / np.maximum(genres.sum(1), 1)
        return np.column_stack([*found, of_movie, taste[asked.user], genres, asked.day])

    fold = np.random.default_rng(seed).integers(10, size=len(train.rating))
    parts = [columns(train.part(fold != n), train.part(fold == n)) for n in range(10)]
    rows = np.argsort(fold, kind="stable")
    model = lightgbm.LGBMRegressor(n_estimators=5000, random_state=seed, n_jobs=1, **options)
    model.fit(
        np.concatenate(parts),
        train.rating[rows],
        eval_X=columns(train, data.validation),
        eval_y=data.validation.rating,
        callbacks=[lightgbm.early_stopping(50, verbose=False)],
    )
    return lambda asked: model.predict(columns(train, asked))


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

    stop = EarlyStopping("val_mse", mode="min", patience=3, restore_best_weights=True)
    model.fit(
        inputs(train), train.rating - mean, batch_size=1024, epochs=60, verbose=0,
        validation_data=(inputs(data.validation), data.validation.rating - mean), callbacks=[stop],
    )  # fmt: skip
    return lambda asked: mean + model.predict(inputs(asked), 16_384)[:, 0]


def _unit_rows(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """Rows of ones, each divided by the root of its count."""
    counts = np.maximum(np.diff(matrix.indptr), 1)
    return sparse.csr_matrix(sparse.diags(1 / np.sqrt(counts)) @ matrix)


FITS = {
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
    WATCH.begin = WATCH.now()
    predict = FITS[job["fit"]](data, job["settings"], job["seed"])
    with WATCH.paused():
        predicted = {side: predict(getattr(data, side)) for side in ("validation", "test")}
    for side, values in predicted.items():
        np.save(f"{side}.npy", values.clip(*data.scale))
    WATCH.note(predicted["test"].clip(*data.scale) - data.test.rating)
    result = {"points": WATCH.points, "end": WATCH.points[-1]}
    Path("result.json").write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
