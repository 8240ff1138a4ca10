"""A model folder: what is saved comes back, and what is broken is refused."""

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
from genre_embeddings.model.serialization import load_model, save_model
from tests.conftest import ROOT
from tests.small import small_world, write_world


@pytest.fixture
def world(settings, in_tmp):
    world = small_world(settings)
    write_world(world)
    return world


@pytest.fixture
def saved(world):
    network = world.network()
    train = world.ratings("train")
    everything = torch.arange(train.count)
    network.remember(everything, train.rating, network(train.user, train.movie, train.time))
    save_model(network)
    return network


def ask(network, world, side="test", own=False):
    part = world.sides[side]
    return predict(network, part.user, part.movie, part.timestamp, own=own)


def test_what_is_saved_predicts_the_same(saved, world):
    loaded = load_model()
    for first, second in zip(ask(saved, world), ask(loaded, world), strict=True):
        assert np.array_equal(first, second)
    assert loaded.settings == saved.settings
    assert (loaded.users, loaded.unknown, loaded.limits) == (saved.users, saved.unknown, (0.5, 5.0))


def test_a_loaded_model_knows_its_training_ratings_again(saved, world):
    loaded = load_model()
    loaded.index_ratings(world.ratings("train"))
    first, second = ask(saved, world, "train", own=True), ask(loaded, world, "train", own=True)
    assert np.array_equal(first[0], second[0])


def test_the_same_model_is_the_same_bytes(saved):
    before = {path.name: path.read_bytes() for path in storage.MODEL.iterdir()}
    save_model(load_model())
    assert before == {path.name: path.read_bytes() for path in storage.MODEL.iterdir()}


def test_predictions_stay_on_the_scale_and_know_their_doubt(saved, world):
    mean, deviation = ask(saved, world)
    assert mean.min() >= 0.5
    assert mean.max() <= 5.0
    assert (deviation > 0).all()


PATH = storage.MODEL / "model.safetensors"
TABLES = storage.MODEL / "tables.json"


def rewritten(change):
    state = load_file(PATH)
    with safe_open(PATH, framework="pt") as file:
        about = json.loads(file.metadata()["model"])
    change(state, about)
    save_file(state, PATH, {"model": json.dumps(about)})


def test_a_file_that_is_cut_short(saved):
    PATH.write_bytes(PATH.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"not a whole model file"):
        load_model()


def test_a_file_of_another_format(saved):
    rewritten(lambda _, about: about.update(format=99))
    with pytest.raises(InputError, match="has format 99; this version reads format 5"):
        load_model()


def test_weights_that_are_larger_than_memory(saved):
    with PATH.open("r+b") as opened:
        opened.truncate(1 << 42)  # 4 TiB, of which the disk holds nothing
    with pytest.raises(InputError, match=r"has 4,398\.0 GB, which do not fit into the memory"):
        load_model()


def test_a_process_that_may_not_take_the_memory(saved):
    """As in a container or under `ulimit -v`, torch, safetensors or the system refuse."""
    wide = torch.zeros(1 << 27)  # 512 MiB
    rewritten(lambda state, _: state.update({"user.mean": wide}))
    ask = "import resource, torch; from genre_embeddings.model.serialization import load_model; "
    ask += "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize(); "
    ask += "resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 28),) * 2); load_model()"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", ask], capture_output=True, text=True, check=False, env=environment
    )
    assert "InputError: models/model.safetensors has 0.5 GB, which do not fit" in done.stderr


def test_weights_of_another_program(saved):
    save_file({"weight": torch.zeros(3)}, PATH)
    TABLES.unlink()
    with pytest.raises(InputError, match="has format unknown; this version reads format 5"):
        load_model()


def test_a_file_that_lacks_a_tensor(saved):
    rewritten(lambda state, _: state.pop("user_counts"))
    with pytest.raises(InputError, match=r"does not fit its own settings .'user_counts'."):
        load_model()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("dim", 4096, r"user\.mean is \(80, 2, 5\), not \(80, 2, 4097\)"),
        ("hidden", [10**6, 10**6], r"dense\.weights\.0 is"),
        ("hidden", [8] * 10_000, r"dense\.weights\.1 is"),
        ("history", 10**40, r"does not fit its own settings"),
        ("dim", 10**9, r"settings\.dim: Input should be less than or equal to 4096"),
        ("strange", 1, r"settings\.strange: Extra inputs are not permitted"),
    ],
)
def test_settings_that_promise_what_is_not_there(saved, key, value, message):
    rewritten(lambda _, about: about["settings"].update({key: value}))
    with pytest.raises(InputError, match=message):
        load_model()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("replicas", 10**9, "replicas: Input should be less than or equal to 64"),
        ("replicas", 64, r"is \(80, 2, 5\), not \(80, 64, 5\)"),
        ("replicas", True, "replicas: Input should be a valid integer"),
        ("limits", [5, 0.5], "the first must be below the second"),
        ("limits", [0.5, float("nan")], "not a whole model file|finite number"),
        ("limits", [0.5, 1e300], "limits.1: Input should be less than"),
    ],
)
def test_metadata_that_cannot_be(saved, key, value, message):
    rewritten(lambda _, about: about.update({key: value}))
    with pytest.raises(InputError, match=message):
        load_model()


ODD_TENSORS = {
    "user.mean": torch.full((80, 2, 5), torch.nan),
    "genre.log_std": torch.full((6, 2, 5), torch.inf),
    "dense.biases.0": torch.zeros(2, 1, 8, dtype=torch.float64),
    "user_counts": torch.full((80,), 1e18),  # as many times, said to be there
    "genre_share": torch.zeros(0, 10**9),
    "genres_seen": torch.zeros(80, 0, 10**9),
    "session.times": torch.zeros(7, dtype=torch.int64),
    "user_history.entries": torch.full((1200,), 10**9),  # read from anywhere in memory
    "user_history.starts": torch.arange(81) * 10**9,
    "movie_history.starts": torch.zeros(62, dtype=torch.int64),
    "residual": torch.zeros(1),
}


@pytest.mark.parametrize("name", ODD_TENSORS)
def test_a_tensor_that_cannot_be(saved, name):
    rewritten(lambda state, _: state.update({name: ODD_TENSORS[name]}))
    with pytest.raises(InputError, match="does not fit its own settings") as raised:
        load_model()
    assert "\n" not in str(raised.value)


def test_times_out_of_order(saved):
    rewritten(lambda state, _: state.update({"session.times": state["session.times"].flip(0)}))
    with pytest.raises(InputError, match="times of ratings are not in order"):
        load_model()


@pytest.mark.parametrize(
    "header",
    [
        b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}',
        b'{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"__metadata__":{"model":"' + b"[" * 100_000 + b'"}}',
        b"{}",
    ],
)
def test_a_header_that_promises_too_much(saved, header):
    PATH.write_bytes(len(header).to_bytes(8, "little") + header + bytes(100))
    with pytest.raises(InputError, match="not a whole model file"):
        load_model()
    PATH.write_bytes((1 << 40).to_bytes(8, "little") + header)
    with pytest.raises(InputError, match="its header has 1,099,511,627,776 bytes, above 262,144"):
        load_model()


def resigned(tables: bytes):
    """Tables by somebody who sees to it that the checksum fits."""
    TABLES.write_bytes(tables)
    rewritten(lambda _, about: about.update(tables=sha256(tables).hexdigest()))


def test_tables_of_another_model(saved):
    TABLES.write_bytes(TABLES.read_bytes().replace(b"Drama", b"Anime", 1))
    with pytest.raises(InputError, match=r"tables\.json and .* are of different models"):
        load_model()
    TABLES.unlink()
    with pytest.raises(InputError, match=r"tables\.json is not here"):
        load_model()
    TABLES.mkdir()
    with pytest.raises(InputError, match=r"tables\.json is not a file"):
        load_model()


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("user_id", list(range(10**4)), "user_id has 10000 entries, the weights 80 users"),
        ("user_id", [True] * 10**4, "valid integer"),
        ("user_id", [1] * 80, "user_id has an entry twice"),
        ("user_id", [1, "ann"] * 40, "valid"),
        ("user_id", [10**30] * 80, "less than"),
        ("title", [None] * 60, "title.0: Input should be a valid string"),
        ("genres", [[10**6]] * 60, "out of bounds"),
        ("genres", [[0]] * 60, "movies have other genres"),
        ("genres", [[-1]] * 60, "greater than or equal to 0"),
        ("ratings", [2**40] * 6, "less than"),
    ],
)
def test_tables_that_do_not_fit(saved, name, values, message):
    resigned(json.dumps(json.loads(TABLES.read_bytes()) | {name: values}).encode())
    with pytest.raises(InputError, match=rf"tables\.json does not fit .*{message}"):
        load_model()


@pytest.mark.parametrize(
    "content",
    [b"", b"[" * 100_000, b'{"user_id":' + b"[" * 100_000, b"\xff\xfe{}", b'{"name":["\\ud800"]}'],
)
def test_tables_that_are_no_json(saved, content):
    resigned(content)
    with pytest.raises(InputError, match=r"tables\.json does not fit"):
        load_model()


def test_tables_that_are_too_long(saved):
    resigned(TABLES.read_bytes() + b" " * 10_000_000)
    with pytest.raises(InputError, match=r"tables\.json is far too long for 146 rows"):
        load_model()


def test_no_model_yet(in_tmp):
    with pytest.raises(InputError, match="run `dvc repro train` first"):
        load_model()
