"""Who is compared, with which settings.

The first entry of a grid is what a run uses: of the entries listed, the best on the validation
ratings of ml-latest-small, split seed 0.

    python -m benchmarks.quality.peers --tune --seeds 0 --only bias surprise-svd surprise-knn \\
        lenskit myfm myfm-implicit myfm-day

With `--tune` any run chooses anew from the grid, on the validation ratings of its own splits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Settings = dict[str, Any]


@dataclass(frozen=True)
class Peer:
    """A model of another library.

    Attributes:
        name: what `--only` calls it.
        title: what the table calls it.
        fit: the function of `worker.py` that fits it.
        grid: settings for that function, the recorded choice first.
        needs_time: whether it is left out where the ratings hold no times.
    """

    name: str
    title: str
    fit: str
    grid: tuple[Settings, ...] = ({},)
    needs_time: bool = False


@dataclass(frozen=True)
class Own:
    """A model of this project, trained and evaluated by its own stages.

    Attributes:
        name: what `--only` calls it.
        title: what the table calls it.
        overrides: what differs from `params.yaml`, as `section.key` to value.
    """

    name: str
    title: str
    overrides: Settings = field(default_factory=dict)


def _bias(users: float, movies: float) -> Settings:
    return {
        "algorithm": "BaselineOnly",
        "bsl_options": {"method": "als", "reg_u": users, "reg_i": movies, "n_epochs": 20},
    }


def _svd(factors: int, decay: float) -> Settings:
    return {
        "algorithm": "SVD",
        "n_factors": factors,
        "n_epochs": 60,
        "lr_all": 0.01,
        "reg_all": decay,
    }


def _knn(neighbours: int, shrinkage: int) -> Settings:
    return {
        "algorithm": "KNNBaseline",
        "k": neighbours,
        "sim_options": {
            "name": "pearson_baseline",
            "user_based": False,
            "shrinkage": shrinkage,
        },
        "bsl_options": {"method": "als", "reg_u": 5, "reg_i": 3, "n_epochs": 20},
    }


def _lenskit(size: int, decay: float) -> Settings:
    return {"embedding_size": size, "regularization": decay, "epochs": 20}


def _myfm(implicit: bool, day: bool, *best: int) -> tuple[Settings, ...]:
    sizes = sorted([(32, 256), (16, 256), (16, 512), (8, 256)], key=lambda size: size != best)
    return tuple(
        {"rank": rank, "samples": samples, "implicit": implicit, "day": day}
        for rank, samples in sizes
    )


PEERS = (
    Peer("global-mean", "global mean", "global-mean"),
    Peer(
        "bias",
        "user + movie bias",
        "surprise",
        tuple(_bias(users, movies) for users in (3, 5) for movies in (2, 3)),
    ),
    Peer(
        "surprise-svd",
        "Surprise SVD",
        "surprise",
        tuple(_svd(factors, decay) for factors in (400, 200) for decay in (0.1, 0.12)),
    ),
    Peer(
        "surprise-knn",
        "Surprise KNNBaseline",
        "surprise",
        tuple(_knn(k, shrinkage) for k in (80, 40) for shrinkage in (100, 50)),
    ),
    Peer(
        "lenskit",
        "LensKit biased MF",
        "lenskit",
        tuple(_lenskit(size, decay) for size in (100, 50) for decay in (0.15, 0.1)),
    ),
    Peer("myfm", "myFM, genres", "myfm", _myfm(False, False, 16, 256)),
    Peer("myfm-implicit", "myFM, genres, implicit", "myfm", _myfm(True, False, 32, 256)),
    Peer(
        "myfm-day",
        "myFM, genres, implicit, day",
        "myfm",
        _myfm(True, True, 32, 256),
        needs_time=True,
    ),
)

LINEAR = Own(
    "linear",
    "the notebook's linear model",
    {
        "model.cross": False,
        "model.hidden": [],
        "model.embedding": "point",
        "model.history": 0,
        "model.time": False,
        "model.squash": True,
        "train.replicas": 1,
        "train.movie_dropout": 0.0,
    },
)
OURS = Own("ours", "ours")
