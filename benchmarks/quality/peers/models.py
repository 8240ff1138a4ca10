"""Which models are compared, with which settings.

The first entry of a grid is what a run uses: the best on the validation ratings of
ml-latest-small, split seed 0, as chosen by

    python -m benchmarks.quality.peers --tune --seeds 0 --only bias surprise-svd surprise-knn \\
        lenskit myfm myfm-implicit myfm-day lightgbm deepfm
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Any, NamedTuple

Settings = dict[str, Any]


class Model(NamedTuple):
    """A model that is compared."""

    title: str
    fit: str
    """The function of `worker.py` that fits it; empty for a model of this project."""
    grid: tuple[Settings, ...] = ({},)
    """Settings for that function, or changes of `params.yaml`, the chosen ones first."""


def _grid(names: str, rows: Iterable[tuple[float, ...]], **fixed: Any) -> tuple[Settings, ...]:
    """The fixed settings with the named ones of each row."""
    return tuple(fixed | dict(zip(names.split(), row, strict=True)) for row in rows)


def _als(users: int, movies: int) -> Settings:
    """Surprise's biases with these penalties, by alternating least squares."""
    return {"bsl_options": {"method": "als", "reg_u": users, "reg_i": movies, "n_epochs": 20}}


BIAS = tuple(
    {"algorithm": "BaselineOnly", **_als(users, movies)}
    for users, movies in product((3, 5), (2, 3))
)
KNN = tuple(
    {
        "algorithm": "KNNBaseline", "k": k, **_als(5, 3),
        "sim_options": {"name": "pearson_baseline", "user_based": False, "shrinkage": shrinkage},
    }
    for k, shrinkage in product((80, 40), (100, 50))
)  # fmt: skip
SVD = _grid(
    "n_factors reg_all", product((400, 200), (0.1, 0.12)),
    algorithm="SVD", n_epochs=60, lr_all=0.01,
)  # fmt: skip
LENSKIT = _grid("embedding_size regularization", product((100, 50), (0.15, 0.1)), epochs=20)
MYFM = _grid("rank samples", [(16, 256), (32, 256), (16, 512), (8, 256)], implicit=False, day=False)
IMPLICIT, DAY = (
    _grid("rank samples", [(32, 256), (16, 256), (16, 512), (8, 256)], implicit=True, day=day)
    for day in (False, True)
)
LIGHTGBM = _grid(
    "shrinkage num_leaves learning_rate colsample_bytree",
    [
        (10, 31, 0.1, 1), (20, 31, 0.1, 1), (5, 15, 0.1, 1), (3, 15, 0.1, 1),
        (10, 31, 0.05, 0.5), (20, 31, 0.05, 0.5), (10, 63, 0.05, 0.5),
    ],
    min_child_samples=50, verbose=-1,
)  # fmt: skip
DEEPFM = _grid(
    "l2_reg_embedding dnn_dropout", [(0.05, 0.5), (0.05, 0.2), (0.01, 0.2), (0.2, 0.2)],
    dim=16, lr=0.003, l2_reg_linear=0.02, dnn_hidden_units=[64, 32],
)  # fmt: skip
NOTEBOOK: Settings = {
    "model.cross": False, "model.hidden": [], "model.embedding": "point", "model.history": 0,
    "model.similar_movies": 0, "model.time": "none", "model.squash": True,
    "train.replicas": 1, "train.movie_dropout": 0.0,
}  # fmt: skip
MODELS = {
    "bias": Model("bias", "surprise", BIAS),
    "surprise-svd": Model("Surprise SVD", "surprise", SVD),
    "surprise-knn": Model("Surprise KNNBaseline", "surprise", KNN),
    "lenskit": Model("LensKit", "lenskit", LENSKIT),
    "myfm": Model("myFM, genres", "myfm", MYFM),
    "myfm-implicit": Model("myFM, genres, implicit", "myfm", IMPLICIT),
    "myfm-day": Model("myFM, genres, implicit, day", "myfm", DAY),
    "lightgbm": Model("LightGBM", "lightgbm", LIGHTGBM),
    "deepfm": Model("DeepFM", "deepfm", DEEPFM),
    "linear": Model("linear", "", (NOTEBOOK,)),
    "ours": Model("ours", ""),
}
