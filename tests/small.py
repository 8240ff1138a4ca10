"""A planted world small enough to train in a second."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from genre_embeddings import storage
from genre_embeddings.data.sources.planted import planted_world
from genre_embeddings.data.split import assign_sides, parts_of
from genre_embeddings.data.tables import Tables, build_tables, write_tables
from genre_embeddings.model import serialization
from genre_embeddings.model.build import build_network, genre_sets
from genre_embeddings.model.network import Network
from genre_embeddings.model.ratings import Ratings
from genre_embeddings.settings import DataSettings, PlantedSettings, Settings, SplitSettings
from genre_embeddings.training.lightning import fit
from genre_embeddings.training.model import Data
from tests.conftest import changed


@dataclass(frozen=True)
class World:
    """A prepared and split world."""

    tables: Tables
    sides: dict[str, storage.Side]
    settings: Settings

    @property
    def data(self) -> Data:
        """The data that training may see."""
        kinds = serialization.Tables
        tables = kinds(*(getattr(self.tables, name) for name in kinds._fields))
        return Data(self.sides["train"], self.sides["validation"], tables, self.tables.meta)

    def ratings(self, side: str) -> Ratings:
        return Ratings.of(self.sides[side])

    @property
    def membership(self) -> torch.Tensor:
        return genre_sets(self.tables.movies, self.tables.genres.height)

    def network(self, **model) -> Network:
        """An untrained network, some of its settings changed."""
        return build_network(
            changed(self.settings, model=model),
            self.ratings("train"),
            self.membership,
            self.tables.users.height,
            self.tables.meta,
        )

    def fit(self, record: bool = False, name: str = "", scratch=None, **model):
        """A trained network, the errors of its epochs, and the best epoch."""
        network, train = self.network(**model), self.ratings("train")
        more = self.settings.train, self.settings.seed, record, scratch, name
        return network, *fit(network, train, self.ratings("validation"), *more)


@cache
def prepared(planted: PlantedSettings, data: DataSettings, split: SplitSettings, seed: int):
    """Tables and sides of a planted world, made once a test run."""
    tables = build_tables(planted_world(planted), data)
    assigned = assign_sides(tables.ratings, tables.users, tables.movies, tables.meta, split, seed)
    sides = {name: storage.Side.of(part) for name, part in parts_of(tables.ratings, assigned)}
    return tables, sides


def small_world(settings: Settings, **train) -> World:
    """Prepare and split the world of the settings in memory."""
    quick = {"replicas": 2, "epochs": 2, "min_epochs": 1, "batch_size": 256}
    settings = changed(settings, train=quick | train, model={"dim": 4, "hidden": (8,)})
    made = prepared(settings.planted, settings.data, settings.split, settings.seed)
    return World(*made, settings)


def write_world(world: World) -> None:
    """Write what stages prepare and split write in the working directory, but for the metrics."""
    write_tables(world.tables)
    storage.write_json(storage.TRUTH, None)
    storage.write_json(storage.GENOME, None)
    with storage.replacing_sides() as folders:
        for name, side in world.sides.items():
            for column, values in zip(storage.RATINGS_SCHEMA, side, strict=True):
                storage.write_column(folders[name] / f"{column}.npy", np.asarray(values))
