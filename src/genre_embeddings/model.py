"""A trained model as a folder: weights, settings and id maps; building, saving, loading, asking.

models/model.safetensors  weights and what was learnt of the training ratings; its one metadata
                          entry is a JSON string with the settings
models/users.parquet, movies.parquet, genres.parquet   id maps and genre sets, as prepared

Nothing in the folder is executed when it is loaded: no pickle.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from genre_embeddings import files
from genre_embeddings.batches import Ratings, Slices, seed_of
from genre_embeddings.errors import InputError
from genre_embeddings.network import Network
from genre_embeddings.settings import ModelSettings, Settings

FORMAT = 1
TABLES = ("users", "movies", "genres")
PREDICTION_BATCH = 16_384
POSTERIOR_DRAWS = 8
"""Draws of the embeddings behind a prediction's standard deviation."""


def use_threads(threads: int) -> None:
    """Compute on this many CPU threads; 0 leaves torch's own choice, one a core."""
    if threads:
        torch.set_num_threads(threads)
        # Without it, Lightning divides the cores among the processes that it starts.
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))


def genre_sets(movies: pl.DataFrame, genres: int) -> torch.Tensor:
    """Which genres each movie has, (M, G) float32 of 0 and 1."""
    membership = np.zeros((movies.height, genres), dtype=np.float32)
    pairs = movies.select("movie", "genres").explode("genres", empty_as_null=False).drop_nulls()
    membership[pairs["movie"].to_numpy(), pairs["genres"].to_numpy()] = 1
    return torch.from_numpy(membership)


def build_network(
    settings: Settings, train: Ratings, membership: torch.Tensor, users: int, meta: files.Meta
) -> Network:
    """An untrained network for these training ratings, its weights drawn from the seed.

    `model.time` takes effect only where the data hold times and the split does not cut by time:
    ratings that are all newer than the training ratings have no neighbours in time among them.
    """
    time = settings.model.time and meta.has_time and settings.split.strategy != "temporal"
    genres = settings.model.genres and membership.shape[1] > 0
    return Network(
        settings.model.model_copy(update={"time": time, "genres": genres}),
        settings.train.replicas,
        train,
        membership,
        users,
        (meta.min_rating, meta.max_rating),
        torch.Generator().manual_seed(seed_of(settings.seed, 0)),
    )


def save_model(network: Network) -> None:
    """Write the folder models/ with the tables of data/prepared/ beside the weights."""
    about = {
        "format": FORMAT,
        "settings": network.settings.model_dump(),
        "replicas": network.replicas,
        "limits": network.limits,
    }
    # Sorted names and a single metadata entry: safetensors keeps neither in order by itself.
    state = {name: value.cpu().contiguous() for name, value in sorted(network.state_dict().items())}
    with files.replacing_folder(files.MODEL) as folder:
        weights = folder / "model.safetensors"
        save_file(state, weights, {"model": json.dumps(about)})
        weights.chmod(0o644)  # safetensors makes it readable for its owner alone
        for name in TABLES:
            files.write_table(
                folder / f"{name}.parquet", files.read_table(files.PREPARED / f"{name}.parquet")
            )


def load_model(folder: Path = files.MODEL) -> Network:
    """The network of a model folder, ready to predict.

    Raises:
        InputError: the file is missing, cut short, from another version or inconsistent.
    """
    path = files.require(folder / "model.safetensors")
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["model"])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise InputError(
            f"{path} is not a whole model file ({error}); run `dvc checkout` or `dvc repro train`."
        ) from None
    if about.get("format") != FORMAT:
        raise InputError(
            f"{path} has format {about.get('format')!r}; this version reads format {FORMAT}. "
            "Train it anew with `dvc repro train`."
        )
    try:
        settings = ModelSettings.model_validate(about["settings"])
        network = Network.from_state(settings, about["replicas"], tuple(about["limits"]), state)
    except (ValidationError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} does not fit its own settings ({error}); train it anew with `dvc repro train`."
        ) from None
    return network.eval()


def predict(
    network: Network,
    user: np.ndarray,
    movie: np.ndarray,
    time: np.ndarray | None = None,
    seed: int = 0,
    own: bool = False,
    membership: torch.Tensor | None = None,
    draws: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Predicted ratings and their standard deviations, (n,) float32 each.

    Args:
        network: a trained network.
        user: dense user indices, (n,).
        movie: dense movie indices, (n,); `network.unknown` stands for a movie that is not known.
        time: seconds since 1970, (n,), or None where the time is not known.
        seed: draws from the posterior.
        own: these are the very training ratings, in order: none may see itself.
        membership: (M, G) genre sets to use in place of the movies' own.
        draws: posterior draws behind the standard deviation; 0 leaves the posterior's spread out.
    """
    device = next(network.parameters()).device
    generator = torch.Generator(device).manual_seed(seed_of(seed, 2))
    means, deviations = [], []
    for rows in Slices(len(user), PREDICTION_BATCH):
        users, movies = (
            torch.from_numpy(column[rows].astype(np.int64)).to(device) for column in (user, movie)
        )
        times = None if time is None else torch.from_numpy(time[rows].astype(np.int64)).to(device)
        positions = torch.arange(rows.start, rows.stop, device=device) if own else None
        mean, deviation = network.predict(
            users,
            movies,
            times,
            genres=None if membership is None else membership[movies],
            own=positions,
            samples=draws,
            generator=generator,
        )
        means.append(mean.cpu().numpy())
        deviations.append(deviation.cpu().numpy())
    return np.concatenate(means), np.concatenate(deviations)
