"""Model folders are loaded as they were saved; broken ones are refused in one line."""

import json
import os
import subprocess
import sys
from hashlib import sha256

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from genre_embeddings import storage
from genre_embeddings.errors import InputError
from genre_embeddings.model.predict import predict
from genre_embeddings.model.serialization import load_whole, save_model
from tests.conftest import ROOT

WEIGHTS = storage.MODEL / "model.safetensors"
TABLES = storage.MODEL / "tables.json"


@pytest.fixture
def saved(written):
    network, train = written.network(), written.ratings("train")
    everything = torch.arange(train.count)
    network.remember(everything, train.rating, network(train.user, train.movie, train.time))
    save_model(network, written.sides["train"])
    return network


def refused(message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        load_whole()
    assert "\n" not in str(raised.value)


def rewrite(change) -> None:
    """Change the tensors or the metadata of the saved weights."""
    state = load_file(WEIGHTS)
    with safe_open(WEIGHTS, framework="pt") as file:
        about = json.loads(file.metadata()["model"])
    change(state, about)
    save_file(state, WEIGHTS, {"model": json.dumps(about)})


def test_what_is_saved_comes_back(saved, world):
    before = {path.name: path.read_bytes() for path in storage.MODEL.iterdir()}
    loaded, _ = load_whole()
    loaded.index_ratings(world.ratings("train"))
    for side in ("train", "test"):
        part = world.sides[side]
        first, second = (
            predict(network, part.user, part.movie, part.timestamp, own=side == "train")
            for network in (saved, loaded)
        )
        assert np.array_equal(first, second)
    assert loaded.settings == saved.settings
    assert (loaded.users, loaded.unknown, loaded.limits) == (saved.users, saved.unknown, (0.5, 5.0))
    save_model(loaded, world.sides["train"])
    assert before == {path.name: path.read_bytes() for path in storage.MODEL.iterdir()}


def test_weights_that_are_not_whole(saved):
    whole = WEIGHTS.read_bytes()
    deep = b"[" * 100_000, b'{"__metadata__":{"model":"' + b"[" * 100_000 + b'"}}'
    for content, message in (
        *((whole[:size], "not a whole model file") for size in (0, 8, 100, len(whole) - 1)),
        *((len(h).to_bytes(8, "little") + h + bytes(100), "not a whole model file") for h in deep),
        ((1 << 40).to_bytes(8, "little") + whole[8:], "its header has 1,099,511,627,776 bytes"),
    ):
        WEIGHTS.write_bytes(content)
        refused(message)
    save_file({"weight": torch.zeros(3)}, WEIGHTS)
    refused("has format unknown; this version reads format 8")
    with WEIGHTS.open("r+b") as opened:
        opened.write(whole)
        opened.truncate(1 << 42)  # 4 TiB, of which the disk holds nothing
    refused(r"has 4,398\.0 GB, which do not fit into the memory")


def test_a_process_that_may_not_take_the_memory(saved):
    """As in a container or under `ulimit -v`, torch, safetensors or the system refuse."""
    wide = torch.zeros(1 << 27)  # 512 MiB
    rewrite(lambda state, _: state.update({"user.mean": wide}))
    ask = "import resource, torch; from genre_embeddings.model.serialization import load_whole; "
    ask += "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize(); "
    ask += "resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 28),) * 2); load_whole()"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", ask], capture_output=True, text=True, env=environment
    )
    assert "InputError: models/model.safetensors has 0.5 GB, which do not fit" in done.stderr


METADATA = [
    (None, "format", 99, "has format 99; this version reads format 8"),
    (None, "replicas", 10**9, "replicas: Input should be less than or equal to 64"),
    (None, "replicas", 64, "size mismatch for "),
    (None, "limits", [5, 0.5], "the first must be below the second"),
    (None, "limits", [0.5, 1e300], "limits.1: Input should be less than"),
    ("settings", "dim", 4096, "size mismatch for "),
    ("settings", "dim", 10**9, r"settings\.dim: Input should be less than or equal to 4096"),
    ("settings", "hidden", [10**9], r"size mismatch for dense\.weights\.0"),
    ("settings", "hidden", [8] * 10_000, r"dense\.weights\.10000 is missing"),
    ("settings", "strange", 1, r"settings\.strange: Extra inputs are not permitted"),
]
TENSORS = {
    "user.mean": torch.full((80, 2, 5), torch.nan),
    "dense.biases.0": torch.zeros(2, 1, 8, dtype=torch.float64),
    "user_counts": torch.full((80,), 1e18),  # as many times, said to be there
    "genre_share": torch.zeros(0, 10**9),
    "genres_seen": torch.zeros(80, 0, 10**9),
    "communality": -torch.ones(6),
    "session.times": torch.zeros(7, dtype=torch.int64),
    "user_history.entries": torch.full((1200,), 10**9),  # read from anywhere in memory
    "user_history.starts": torch.arange(81) * 10**9,
    "movie_history.starts": torch.zeros(62, dtype=torch.int64),
    "residual": torch.zeros(1),
}
COLUMNS = [
    ("user_id", list(range(10**4)), "user_id has 10000 entries, the weights 80"),
    ("user_id", [1] * 80, "user_id has an entry twice"),
    ("user_id", [True, False] * 40, "neither whole numbers nor text"),
    ("user_id", [1, "ann"] * 40, "unexpected value"),
    ("user_id", [10**30 + n for n in range(80)], "neither|large"),
    ("title", [None] * 60, "an entry is missing"),
    ("genres", [[10**6]] * 60, "out of bounds"),
    ("genres", [[0]] * 60, "movies have other genres"),
    ("ratings", [2**40] * 6, "unexpected value"),
]


def test_metadata_and_tensors_that_cannot_be(saved):
    whole = WEIGHTS.read_bytes()

    def refused_after(change, message="not a whole model file") -> None:
        WEIGHTS.write_bytes(whole)
        rewrite(change)
        refused(message)

    for section, key, value, message in METADATA:
        refused_after(
            lambda _, about: (about[section] if section else about).update({key: value}),  # noqa: B023
            message,
        )
    for name, tensor in TENSORS.items():
        refused_after(lambda state, _: state.update({name: tensor}))  # noqa: B023
    refused_after(lambda state, _: state.pop("user_counts"), r"not a whole .*'user_counts'")

    def disorder(state, _):
        state["session.times"] = state["session.times"].flip(0)

    refused_after(disorder, "times of ratings are not in order")


def test_tables_that_do_not_fit(saved):
    tables = TABLES.read_bytes()
    changed = [
        (json.dumps(json.loads(tables) | {name: values}).encode(), f"not a whole .*{message}")
        for name, values, message in COLUMNS
    ]
    broken = (b"", b"[" * 100_000, b"[]", b"\xff\xfe{}", b'{"name":["\\ud800"]}')
    changed += [(content, "not a whole model file") for content in broken]
    changed.append((tables + b" " * 10_000_000, "far too long for 146 rows"))
    for content, message in changed:
        TABLES.write_bytes(content)
        fits = {"tables": sha256(content).hexdigest()}  # as an attacker would make it
        rewrite(lambda _, about: about.update(fits))  # noqa: B023
        refused(rf"tables\.json is {message}")
    TABLES.write_bytes(tables.replace(b"Drama", b"Anime", 1))
    refused(r"tables\.json and .* are of different models")
    TABLES.unlink()
    refused(r"tables\.json is not here")
    TABLES.mkdir()
    refused(r"tables\.json is not a file")
