"""Model folders from strangers: each opens and predicts on the scale, or is refused in one line.

`MODELS=5000 python -m pytest tests/model/test_model_fuzz.py` tries that many.
"""

import json
import os
import random
import resource
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from genre_embeddings import storage
from genre_embeddings.errors import InputError
from genre_embeddings.inference.explain import explain
from genre_embeddings.inference.export import embed
from genre_embeddings.inference.neighbours import neighbours
from genre_embeddings.inference.predict import predict_pairs
from genre_embeddings.inference.trained import open_model
from genre_embeddings.model.serialization import save_model
from genre_embeddings.training.neighbourhood import fit_neighbourhood
from tests.conftest import small_settings
from tests.small import small_world, write_world

NAMES = ("model.safetensors", "tables.json")
VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"embedding": "point", "genres": False, "hidden": ()},
    {"time": "none", "history": 0, "squash": True, "cross": False},
)
HOSTILE = (
    -1, 0, 1, 2, 3, 64, 65, 4096, 10**6, 10**9, 2**31, 2**63, 10**40, 0.5, 1e308, float("nan"),
    float("inf"), None, True, "", "x", "\0\x1b[2J", "user.mean", "F64", "BF16", "I64", "U8", "C64",
    [], [[]], [1], [0, 10**9], [10**6, 10**6], {}, {"a": 1},
)  # fmt: skip
ODD: dict[str, tuple[str, tuple[float, ...]]] = {
    "F32": ("<f4", (-1, 0, 1e3, -1e3, 1e9, 3e38, -3e38, float("nan"), float("inf"))),
    "I64": ("<i8", (-1, 1, 7, 19, 20, 10**6, 2**40, 2**62, -(2**63))),
    "I32": ("<i4", (-1, 1, 7, 19, 20, 10**6, 2**31 - 1, -(2**31))),
    "I16": ("<i2", (-1, 1, 7, 19, 20, 2**15 - 1, -(2**15))),
}
"""Values that are wrong in some place: not finite, too large, indices of what is not there."""
MOST_MB, MOST_SECONDS = 300, 10


def write_models(folder: Path) -> list[list[bytes]]:
    """The two files of small models of several kinds."""
    world = small_world(small_settings(users=20, movies=15, genres=4, ratings=100))
    models = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_world(world)
        for variant in VARIANTS:
            network = world.network(**variant)
            fit_neighbourhood(network, world.ratings("train"))
            save_model(network, world.sides["train"])
            models.append([(storage.MODEL / name).read_bytes() for name in NAMES])
    return models


def damage(content: bytes, draw: random.Random) -> bytes:
    """Some bytes changed, put in or left out, the more often near the start."""
    start = int(len(content) * draw.random() ** draw.choice((1, 4)))
    end = start + draw.choice((0, 1, 20, len(content)))
    return content[:start] + draw.randbytes(draw.choice((0, 1, 20))) + content[end:]


def inner(content: Any) -> list[Any]:
    """Every object and list of JSON that is not empty."""
    below = content.values() if isinstance(content, dict) else content
    found = [one for part in below if isinstance(part, (dict, list)) for one in inner(part)]
    return [content, *found] if content else found


def alter(content: Any, draw: random.Random) -> None:
    """Replace one value of JSON, anywhere, leave it out, or exchange it with another."""
    part = draw.choice(inner(content))
    keys = list(part) if isinstance(part, dict) else range(len(part))
    key, other = draw.choice(keys), draw.choice(keys)
    match draw.randrange(4):
        case 0:
            part.pop(key)
        case 1:
            part[key], part[other] = part[other], part[key]
        case _:
            part[key] = draw.choice(HOSTILE)


def mutate(model: list[bytes], draw: random.Random) -> list[bytes]:
    """A model with something wrong in one of its files; every checksum may fit all the same."""
    weights, written = model
    if draw.random() < 0.2:
        return [damage(weights, draw), written]
    size = int.from_bytes(weights[:8], "little")
    header, body = json.loads(weights[8 : 8 + size]), bytearray(weights[8 + size :])
    about, tables = json.loads(header.pop("__metadata__")["model"]), json.loads(written)
    kind = draw.choice(("tables", "bytes", "about", "header", "tensor", "tensor"))
    if kind == "tensor":
        entry = header[draw.choice(list(header))]
        place, (dtype, odd) = slice(*entry["data_offsets"]), ODD[entry["dtype"]]
        values = np.frombuffer(body[place], dtype).copy()
        if values.size:
            values[... if draw.random() < 0.2 else draw.randrange(values.size)] = draw.choice(odd)
            body[place] = values.tobytes()
    elif kind == "bytes":
        written = damage(written, draw)
    else:
        alter({"tables": tables, "about": about, "header": header}[kind], draw)
    if kind == "tables":
        written = json.dumps(tables).encode()
    if kind in ("tables", "bytes") and draw.random() < 0.8:
        about["tables"] = sha256(written).hexdigest()
    start = json.dumps({"__metadata__": {"model": json.dumps(about)}, **header}).encode()
    return [len(start).to_bytes(8, "little") + start + body, written]


def works(folder: Path) -> bool:
    """Whether a model opens and answers; anything else but one clear refusal fails."""
    try:
        model = open_model(folder)
        users, movies = model.users["user_id"][[0, 5, -1]], model.movies["movie_id"][[0, 5, -1]]
        found = predict_pairs(model, users, movies, np.array([0, 10**9, 32_503_680_000]))
        strange = pl.Series([1 << 40] * 3) if users.dtype == pl.Int64 else pl.Series(["?"] * 3)
        found = pl.concat([found, predict_pairs(model, strange, movies)])
        assert found["prediction"].is_between(*model.network.limits).all(), found
        answers = [
            found["deviation"],
            explain(model, users[0], movies[0]).parts["stars"],
            neighbours(model, movies[0]).table["similarity"],
        ]
        if model.network.settings.genres:
            name = model.genres["name"][0]
            answers += [
                neighbours(model, name).table["similarity"],
                embed(model, [name])["deviation"],
            ]
        assert all(answer.is_finite().all() for answer in answers), answers
    except InputError as error:
        said = str(error)
        assert "\n" not in said
        assert len(said) < 1000
        return False
    return True


def memory() -> float:
    """The most megabytes that this process has used."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def test_whatever_is_opened_works_or_is_refused(tmp_path):
    models, good = write_models(tmp_path), 0
    count = int(os.environ.get("MODELS", 200))
    for number in range(-len(models), count):  # first the models as they are
        draw = random.Random(number)
        model = models[number] if number < 0 else mutate(draw.choice(models), draw)
        for name, content in zip(NAMES, model, strict=True):
            (tmp_path / name).write_bytes(content)
        start, used = time.monotonic(), memory()
        worked = works(tmp_path)
        assert worked or number >= 0
        assert number < 0 or memory() - used < MOST_MB, number
        assert time.monotonic() - start < MOST_SECONDS, number
        good += worked
    assert count / 100 < good < 0.7 * count  # a changed weight need not be a wrong one
