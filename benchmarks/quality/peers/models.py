"""Which models are compared, with which settings.

The first entry of a grid is what a run uses: the best on the validation ratings of
ml-latest-small, split seed 0, as chosen by

    python -m benchmarks.quality.peers --tune --seeds 0 --only bias surprise-svd surprise-knn \\
        lenskit myfm myfm-implicit myfm-day lightgbm deepfm
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Settings = dict[str, Any]


@dataclass(frozen=True)
class Model:
    """A model that is compared.

    Attributes:
        title: what the table calls it.
        fit: the function of `worker.py` that fits it; empty for a model of this project.
        grid: settings for that function, or changes of `params.yaml`, the chosen ones first.
    """

    title: str
    fit: str
    grid: tuple[Settings, ...] = ({},)


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


def _myfm(implicit: bool, day: bool, *best: int) -> tuple[Settings, ...]:
    sizes = sorted([(32, 256), (16, 256), (16, 512), (8, 256)], key=lambda size: size != best)
    return tuple(
        {"rank": rank, "samples": samples, "implicit": implicit, "day": day}
        for rank, samples in sizes
    )


def _lightgbm(shrinkage: float, leaves: int, rate: float, columns: float) -> Settings:
    return {
        "shrinkage": shrinkage, "num_leaves": leaves, "learning_rate": rate,
        "colsample_bytree": columns, "min_child_samples": 50, "verbose": -1,
    }  # fmt: skip


def _deepfm(size: int, decay: float, dropout: float) -> Settings:
    return {
        "dim": size, "lr": 0.003, "l2_reg_embedding": decay, "l2_reg_linear": 0.02,
        "dnn_hidden_units": [64, 32], "dnn_dropout": dropout,
    }  # fmt: skip


NOTEBOOK: Settings = {
    "model.cross": False,
    "model.hidden": [],
    "model.embedding": "point",
    "model.history": 0,
    "model.time": "none",
    "model.squash": True,
    "train.replicas": 1,
    "train.movie_dropout": 0.0,
}
MODELS = {
    "global-mean": Model("global mean", "global-mean"),
    "bias": Model(
        "user + movie bias", "surprise", tuple(_bias(u, m) for u in (3, 5) for m in (2, 3))
    ),
    "surprise-svd": Model(
        "Surprise SVD",
        "surprise",
        tuple(_svd(n, decay) for n in (400, 200) for decay in (0.1, 0.12)),
    ),
    "surprise-knn": Model(
        "Surprise KNNBaseline", "surprise", tuple(_knn(k, s) for k in (80, 40) for s in (100, 50))
    ),
    "lenskit": Model(
        "LensKit biased MF",
        "lenskit",
        tuple(_lenskit(size, decay) for size in (100, 50) for decay in (0.15, 0.1)),
    ),
    "myfm": Model("myFM, genres", "myfm", _myfm(False, False, 16, 256)),
    "myfm-implicit": Model("myFM, genres, implicit", "myfm", _myfm(True, False, 32, 256)),
    "myfm-day": Model("myFM, genres, implicit, day", "myfm", _myfm(True, True, 32, 256)),
    "lightgbm": Model(
        "LightGBM, target encodings",
        "lightgbm",
        tuple(
            _lightgbm(*choice)
            for choice in (
                (10, 31, 0.1, 1),
                (20, 31, 0.1, 1),
                (5, 15, 0.1, 1),
                (3, 15, 0.1, 1),
                (10, 31, 0.05, 0.5),
                (20, 31, 0.05, 0.5),
                (10, 63, 0.05, 0.5),
            )
        ),
    ),
    "deepfm": Model(
        "DeepFM, genres",
        "deepfm",
        tuple(_deepfm(16, d, p) for d, p in ((0.05, 0.5), (0.05, 0.2), (0.01, 0.2), (0.2, 0.2))),
    ),
    "linear": Model("the notebook's linear model", "", (NOTEBOOK,)),
    "ours": Model("ours", ""),
}
