"""Which models are compared, with which settings.

The first entry of a grid is what a run uses: the best on the validation ratings of
ml-latest-small, split seed 0, as chosen by

    python -m benchmarks.quality.peers --tune --seeds 0 --only bias surprise-svd surprise-knn \\
        lenskit myfm myfm-implicit myfm-day lightgbm deepfm
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product, starmap
from typing import Any, NamedTuple

Settings = dict[str, Any]


class Model(NamedTuple):
    """A model that is compared."""

    title: str
    fit: str
    """The function of `worker.py` that fits it; empty for a model of this project."""
    grid: tuple[Settings, ...] = ({},)
    """Settings for that function, or changes of `params.yaml`, the chosen ones first."""


def _bias(users: float, movies: float) -> Settings:
    return {
        "algorithm": "BaselineOnly",
        "bsl_options": {"method": "als", "reg_u": users, "reg_i": movies, "n_epochs": 20},
    }


def _svd(factors: int, decay: float) -> Settings:
    return {
        "algorithm": "SVD", "n_factors": factors, "n_epochs": 60, "lr_all": 0.01, "reg_all": decay
    }  # fmt: skip


def _knn(neighbours: int, shrinkage: int) -> Settings:
    similarity = {"name": "pearson_baseline", "user_based": False, "shrinkage": shrinkage}
    return _bias(5, 3) | {"algorithm": "KNNBaseline", "k": neighbours, "sim_options": similarity}


def _lenskit(size: int, decay: float) -> Settings:
    return {"embedding_size": size, "regularization": decay, "epochs": 20}


def _myfm(implicit: bool, day: bool, *sizes: tuple[int, int]) -> tuple[Settings, ...]:
    return tuple(
        {"rank": rank, "samples": samples, "implicit": implicit, "day": day}
        for rank, samples in sizes
    )


def _lightgbm(shrinkage: float, leaves: int, rate: float, columns: float) -> Settings:
    return {
        "shrinkage": shrinkage, "num_leaves": leaves, "learning_rate": rate,
        "colsample_bytree": columns, "min_child_samples": 50, "verbose": -1,
    }  # fmt: skip


def _deepfm(decay: float, dropout: float) -> Settings:
    return {
        "dim": 16, "lr": 0.003, "l2_reg_embedding": decay, "l2_reg_linear": 0.02,
        "dnn_hidden_units": [64, 32], "dnn_dropout": dropout,
    }  # fmt: skip


NOTEBOOK: Settings = {
    "model.cross": False,
    "model.hidden": [],
    "model.embedding": "point",
    "model.history": 0,
    "model.similar_movies": 0,
    "model.time": "none",
    "model.squash": True,
    "train.replicas": 1,
    "train.movie_dropout": 0.0,
}
WIDE = ((32, 256), (16, 256), (16, 512), (8, 256))
NARROW = ((16, 256), (32, 256), (16, 512), (8, 256))
TREES = (
    (10, 31, 0.1, 1), (20, 31, 0.1, 1), (5, 15, 0.1, 1), (3, 15, 0.1, 1),
    (10, 31, 0.05, 0.5), (20, 31, 0.05, 0.5), (10, 63, 0.05, 0.5),
)  # fmt: skip
DEEP = ((0.05, 0.5), (0.05, 0.2), (0.01, 0.2), (0.2, 0.2))


def _grid(make: Callable[..., Settings], *values: tuple[float, ...]) -> tuple[Settings, ...]:
    return tuple(starmap(make, product(*values)))


MODELS = {
    "bias": Model("bias", "surprise", _grid(_bias, (3, 5), (2, 3))),
    "surprise-svd": Model("Surprise SVD", "surprise", _grid(_svd, (400, 200), (0.1, 0.12))),
    "surprise-knn": Model("Surprise KNNBaseline", "surprise", _grid(_knn, (80, 40), (100, 50))),
    "lenskit": Model("LensKit", "lenskit", _grid(_lenskit, (100, 50), (0.15, 0.1))),
    "myfm": Model("myFM, genres", "myfm", _myfm(False, False, *NARROW)),
    "myfm-implicit": Model("myFM, genres, implicit", "myfm", _myfm(True, False, *WIDE)),
    "myfm-day": Model("myFM, genres, implicit, day", "myfm", _myfm(True, True, *WIDE)),
    "lightgbm": Model("LightGBM", "lightgbm", tuple(starmap(_lightgbm, TREES))),
    "deepfm": Model("DeepFM", "deepfm", tuple(starmap(_deepfm, DEEP))),
    "linear": Model("linear", "", (NOTEBOOK,)),
    "ours": Model("ours", ""),
}
