"""Model folders from strangers: each opens and predicts on the scale, or is refused in one line.

`PYTHONPATH=src python -m tests.model.test_model_fuzz 20000` tries that many and prints a summary.
"""

import json
import os
import random
import re
import resource
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from genre_embeddings import storage
from genre_embeddings.errors import InputError
from genre_embeddings.inference.embed import embed
from genre_embeddings.inference.explain import explain
from genre_embeddings.inference.neighbours import neighbours
from genre_embeddings.inference.predict import predict_pairs
from genre_embeddings.inference.trained import open_model
from genre_embeddings.model.serialization import save_model
from tests.conftest import small_settings
from tests.small import small_world, write_world

VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"embedding": "point", "genres": False, "hidden": ()},
    {"time": False, "history": 0, "squash": True, "cross": False},
)
HOSTILE = (
    -1, 0, 1, 2, 3, 64, 65, 4096, 10**6, 10**9, 2**31, 2**63, 10**40, 0.5, 1e308, float("nan"),
    float("inf"), None, True, "", "x", "\0\x1b[2J", [], [[]], [10**9], [10**6, 10**6], {}, {"a": 1},
)  # fmt: skip
DTYPES = ("F32", "F64", "F16", "BF16", "I64", "I32", "U8", "BOOL", "F8_E4M3", "U64", "C64", "X")
MOST_MB, MOST_SECONDS = 300, 10


def write_models(folder: Path) -> list[dict[str, bytes]]:
    """Small models of several kinds, as their files."""
    world = small_world(small_settings(users=20, movies=15, genres=4, ratings=100))
    models = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_world(world)
        for variant in VARIANTS:
            network, train = world.network(**variant), world.ratings("train")
            with torch.no_grad():
                rated = network(train.user, train.movie, train.time)
            network.remember(torch.arange(train.count), train.rating, rated)
            save_model(network)
            models.append({path.name: path.read_bytes() for path in storage.MODEL.iterdir()})
    return models


class Weights:
    """A safetensors file taken apart, so that it can be put together wrongly."""

    def __init__(self, content: bytes) -> None:
        size = int.from_bytes(content[:8], "little")
        self.header, self.body = json.loads(content[8 : 8 + size]), bytearray(content[8 + size :])
        self.about = json.loads(self.header.pop("__metadata__")["model"])

    def content(self) -> bytes:
        """The file."""
        whole = self.header
        if isinstance(whole, dict):
            whole = {"__metadata__": {"model": json.dumps(self.about)}, **whole}
        header = json.dumps(whole).encode()
        return struct.pack("<Q", len(header)) + header + self.body


def byte_by_byte(content: bytes, draw: random.Random) -> bytes:
    """A few bytes changed, moved, put in or left out, the more often near the start."""
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        at = int(len(changed) * draw.random() ** draw.choice((1, 4)))
        match draw.randrange(6):
            case 0:
                del changed[at:]
            case 1:
                changed[at : at + 1] = bytes(
                    [draw.choice((0, 1, 127, 128, 255, draw.randrange(256)))]
                )
            case 2:
                changed[at : at + 1] = bytes(
                    b ^ 1 << draw.randrange(8) for b in changed[at : at + 1]
                )
            case 3:
                changed[at:at] = draw.randbytes(draw.randrange(1, 20))
            case 4:
                del changed[at : at + draw.randrange(1, 20)]
            case 5:
                changed[at:at] = changed[at : at + draw.randrange(1, 100)]
    return bytes(changed)


def somewhere(content: Any, draw: random.Random) -> Any:
    """JSON with one of its values, anywhere, replaced, left out or doubled."""
    if not isinstance(content, (dict, list)) or not content or draw.random() < 0.1:
        return draw.choice(HOSTILE)
    keys = list(content) if isinstance(content, dict) else range(len(content))
    key, changed = draw.choice(list(keys)), content.copy()
    match draw.randrange(8):
        case 0:
            changed.pop(key)
        case 1 if isinstance(changed, dict):
            changed[str(draw.choice(HOSTILE))] = changed[key]
        case 2 if isinstance(changed, list):
            changed.append(changed[key])
        case _:
            changed[key] = somewhere(changed[key], draw)
    return changed


def in_about(weights: Weights, draw: random.Random) -> None:
    weights.about = somewhere(weights.about, draw)


def in_header(weights: Weights, draw: random.Random) -> None:
    weights.header = somewhere(weights.header, draw)


def in_shapes(weights: Weights, draw: random.Random) -> None:
    """Settings and tensors that go together differently, of sizes that the file may hold."""
    entry = weights.header[draw.choice(list(weights.header))]
    match draw.randrange(5):
        case 0:
            entry["dtype"] = draw.choice(DTYPES)
        case 1:
            draw.shuffle(entry["shape"])
        case 2:
            entry["shape"] = [int(np.prod(entry["shape"])), *draw.choice(([], [1], [1, 1]))]
        case 3:
            entry["shape"] = [draw.choice((0, 1, 10**6, 2**40)), *entry["shape"]]
        case 4:
            other = weights.header[draw.choice(list(weights.header))]
            for key in ("shape", "dtype", "data_offsets"):
                entry[key], other[key] = other[key], entry[key]


def in_names(weights: Weights, draw: random.Random) -> None:
    name = draw.choice(list(weights.header))
    entry = weights.header.pop(name)
    if draw.random() < 0.5:  # renamed; else its bytes go with it
        weights.header[draw.choice(("other", "user.mean", name + "x", "dense.weights.9"))] = entry
        return
    start, end = entry["data_offsets"]
    del weights.body[start:end]
    for other in weights.header.values():
        other["data_offsets"] = [at - (end - start) * (at >= end) for at in other["data_offsets"]]


def in_values(weights: Weights, draw: random.Random) -> None:
    """Numbers that are not, huge ones, indices of what is not there."""
    entry = weights.header[draw.choice(list(weights.header))]
    start, end = entry["data_offsets"]
    dtype = {"F32": "<f4", "I64": "<i8", "I32": "<i4"}[entry["dtype"]]
    values = np.frombuffer(bytes(weights.body[start:end]), dtype).copy()
    if not values.size:
        return
    odd: tuple[Any, ...] = (-1, 1, 7, 19, 20, 10**6, 2**40, 2**62, -(2**63))
    if entry["dtype"] == "F32":
        odd = (-1, 0, 1e3, -1e3, 1e9, 1e30, 3e38, -3e38, float("nan"), float("inf"), -float("inf"))
    where = slice(None) if draw.random() < 0.2 else draw.randrange(values.size)
    values[where] = np.array(draw.choice(odd)).astype(dtype)  # cut to 32 bits where it must be
    weights.body[start:end] = values.tobytes()


IN_WEIGHTS: tuple[Callable[[Weights, random.Random], None], ...] = (
    in_about, in_header, in_shapes, in_names, in_values, in_values
)  # fmt: skip


def mutate(model: dict[str, bytes], draw: random.Random) -> dict[str, bytes]:
    """A model's files with something wrong in one of them."""
    weights, tables = model["model.safetensors"], model["tables.json"]
    match draw.randrange(6):
        case 0:
            weights = byte_by_byte(weights, draw)
        case 1:
            tables = byte_by_byte(tables, draw)
        case 2 | 3:  # with a checksum that fits: by somebody who means it
            if draw.random() < 0.5:
                tables = byte_by_byte(tables, draw)
            else:
                tables = json.dumps(somewhere(json.loads(tables), draw)).encode()
            taken = Weights(weights)
            taken.about["tables"] = sha256(tables).hexdigest()
            weights = taken.content()
        case _:
            taken = Weights(weights)
            draw.choice(IN_WEIGHTS)(taken, draw)
            weights = taken.content()
    return {"model.safetensors": weights, "tables.json": tables}


def outcome(folder: Path) -> str:
    """`works`, or the reason why not; anything but one clear refusal fails.

    Raises:
        AssertionError: an answer is no rating, or the refusal is not a line.
    """
    try:
        model = open_model(folder)
        ids = [
            table[f"{kind}_id"] for kind, table in (("user", model.users), ("movie", model.movies))
        ]
        users, movies = (one[[0, 5, -1]] for one in ids)
        found = predict_pairs(model, users, movies, np.array([0, 10**9, 32_503_680_000]))
        strange = pl.Series([1 << 40] * 3) if users.dtype == pl.Int64 else pl.Series(["?"] * 3)
        found = pl.concat([found, predict_pairs(model, strange, movies)])
        low, high = model.network.limits
        assert found["prediction"].is_between(low, high).all(), found
        assert found["deviation"].is_finite().all(), found
        explained = explain(model, users[0], movies[0])
        assert explained.parts["stars"].is_finite().all(), explained
        assert neighbours(model, movies[0]).table["similarity"].is_finite().all()
        if model.network.settings.genres:
            name = model.genres["name"][0]
            assert neighbours(model, name).table["similarity"].is_finite().all()
            assert embed(model, [name])["deviation"].is_finite().all()
    except InputError as error:
        said = str(error)
        assert "\n" not in said
        assert len(said) < 1000
        return re.split(r" \(|(?<= format) |;|:", said.replace(f"{folder}/", ""))[0]
    return "works"


def try_all(count: int, folder: Path, seed: int = 0) -> tuple[Counter[str], float, float]:
    """Outcomes of so many mutations, megabytes that memory grew by, and the longest seconds."""
    models = write_models(folder)
    target = folder / "strange"
    target.mkdir()
    outcomes: Counter[str] = Counter()
    longest, before = 0.0, 0
    for number in range(-len(models), count):
        draw = random.Random(f"{seed} {number}")
        model = models[number] if number < 0 else mutate(draw.choice(models), draw)
        for name, content in model.items():
            (target / name).write_bytes(content)
        start = time.monotonic()
        try:
            said = outcome(target)
        except BaseException:
            print(f"seed {seed}, mutation {number}, in {target}", file=sys.stderr)
            raise
        if number < 0:
            assert said == "works"
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            continue
        longest = max(longest, time.monotonic() - start)
        outcomes[said] += 1
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return outcomes, grown / 1024, longest


def test_whatever_is_opened_works_or_is_refused(tmp_path):
    outcomes, grown, longest = try_all(1000, tmp_path)
    assert outcomes.pop("works") > 10  # a changed weight need not be a wrong one
    assert outcomes.total() > 300
    assert grown < MOST_MB
    assert longest < MOST_SECONDS


if __name__ == "__main__":
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as made:
        counted, memory, slowest = try_all(int(sys.argv[1]), Path(made), int(*sys.argv[2:]))
    for reason, times in counted.most_common():
        print(f"{times:7,}  {reason}")
    print(f"{counted.total():7,}  in all; memory grew by {memory:.0f} MB, slowest {slowest:.1f} s")
