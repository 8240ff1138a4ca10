"""params.yaml: every key described as in the code, every bad value named with what is allowed."""

import json
import re
from contextlib import suppress
from difflib import ndiff

import pytest
from dvc.utils.hydra import apply_overrides
from dvc.utils.serialize import loads_yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import BaseModel

from genre_embeddings.errors import InputError
from genre_embeddings.settings import DEFAULTS, Settings, load_settings, load_yaml, parse_settings
from tests.conftest import ROOT, changed

TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")


def replaced(key: str, value: str) -> str:
    line = rf"^(  )?{key}:(?: [^#\n]*(#.*)|(?:\n  - .*)+)"  # a value, or the entries of a list
    text, count = re.subn(line, rf"\g<1>{key}: {value} \g<2>", TEXT, flags=re.M)
    assert count >= 1
    return text


def described() -> list[str]:
    """Lines that params.yaml must hold in this order, as the classes describe them."""
    lines = []
    for name, field in Settings.model_fields.items():
        section, fields, indent = field.annotation, {name: field}, ""
        if isinstance(section, type) and issubclass(section, BaseModel):
            lines += [f"# {section.__doc__.removesuffix('.')}", f"{name}:"]
            fields, indent = section.model_fields, "  "
        for key, one in fields.items():
            assert one.description, key
            lines.append(f"{indent}{key}: VALUE # {' '.join(one.description.split())}")
    return lines


def test_file_and_classes_hold_the_same_keys_and_descriptions_in_the_same_order():
    # The comment of a list stands above it: DVC would write `[]` into that line as broken YAML.
    lists = re.sub(r"^  # (.*)\n(  \w+):(\n  - .*)+", r"\2: [] # \1", TEXT, flags=re.M)
    found = re.sub(r"^( *\w+):.*? # (.*)", r"\1: VALUE # \2", lists, flags=re.M)
    _, *found = re.split(r"\n\n", found)  # without the introduction
    assert [line for block in found for line in block.splitlines()] == described()
    assert load_yaml(TEXT) == DEFAULTS


@pytest.mark.parametrize(
    ("override", "before", "after"),
    [
        ("model.dim=4", ["dim: 16"], ["dim: 4"]),
        ("model.hidden=[]", ["hidden:", "- 64", "- 32"], ["hidden: []"]),
        ("model.hidden=[8]", ["- 64", "- 32"], ["- 8"]),
    ],
)
def test_dvc_changes_no_other_line(tmp_path, override, before, after):
    """A changed setting is the whole diff of params.yaml, as `dvc exp run -S` writes it."""
    path = tmp_path / "params.yaml"
    path.write_text(TEXT, encoding="utf-8")
    apply_overrides(path, [override])
    now = path.read_text(encoding="utf-8")
    key, value = override.split("=")
    assert load_yaml(now)["model"][key.removeprefix("model.")] == load_yaml(value)
    differing = [line for line in ndiff(TEXT.splitlines(), now.splitlines()) if line[0] in "-+"]
    for sign, wanted in (("-", before), ("+", after)):
        assert [
            line[2:].split(" # ")[0].strip() for line in differing if line.startswith(sign)
        ] == wanted


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("dim", "0", "model.dim is 0; allowed: greater than or equal to 1"),
        ("dim", "8.5", "model.dim is 8.5; allowed: a valid integer"),
        ("hidden", "[64, 0]", "model.hidden.1 is 0; allowed: greater"),
        ("hidden", "64", "model.hidden is 64; allowed: a list"),
        ("source", "ml-2m", "data.source is 'ml-2m'; allowed: 'planted', 'folder'"),
        ("lr", ".nan", "train.lr is nan; allowed: a finite number, or auto"),
        ("lr", "-1e-3", "train.lr is -0.001; allowed: greater than 0"),
        ("movie_dropout", "1.0", "train.movie_dropout is 1.0; allowed: less than 1"),
        ("train", "0.8", "split: train 0.8 + validation 0.2 + test 0.1 = 1.1"),
        ("validation", "0.2\n  qwxz: 0.1", "split.qwxz is not a setting; allowed here: strategy"),
        ("max_rating", "0.5", "data: min_rating 0.5 and max_rating 0.5"),
        ("epochs", "3", "train: min_epochs 5 and epochs 3"),
        ("epochs", "0", "train.epochs is 0; allowed: greater than or equal to 1, or auto"),
        ("cross", "yes", "model.cross is 'yes'; allowed: true or false"),
        ("ratings", "10000000", "planted: ratings 10000000: at most half"),
        ("mlflow_uri", "host:5000", "tracking.mlflow_uri: 'host:5000' is not the address"),
        ("mlflow_uri", "https://ann:secret@host/", "MLFLOW_TRACKING_PASSWORD"),
        (
            "mlflow_experiment",
            '""',
            "tracking.mlflow_experiment is ''; allowed: at least 1 character",
        ),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(key, value, message):
    with pytest.raises(InputError, match=re.escape(message)):
        parse_settings(replaced(key, value))


def test_float16_trains_in_one_process():
    text = replaced("devices", "2").replace("precision: 32-true", "precision: 16-mixed")
    with pytest.raises(InputError, match="precision 16-mixed, devices 2 and num_nodes 1: 16-mixed"):
        parse_settings(text)


def test_each_process_has_a_replica():
    text = replaced("devices", "3")
    assert parse_settings(text).train.for_ratings(70_000).replicas == 3
    message = "devices 3, num_nodes 1 and replicas 2: .* set replicas to 3 or auto"
    with pytest.raises(InputError, match=message):
        parse_settings(text.replace("replicas: auto", "replicas: 2"))


def test_all_findings_come_in_one_message():
    text = TEXT.replace("  dim:", "  dims:").replace("seed: 0 # Seed", "seed: -1 # Seed")
    text = text.replace("  test: 0.1", "  test: 0.0")
    with pytest.raises(InputError) as caught:
        parse_settings(text)
    for finding in (
        "model.dims is not a setting; did you mean model.dim?",
        "model.dim is missing",
        "split.test is 0.0; allowed: greater than 0",
        "seed is -1; allowed: greater than or equal to 0",
    ):
        assert finding in str(caught.value)


WORDS = """
1e-3 -1E5 +.5 1. 1_000 -7 1:30 0.1.2 .inf -.Inf .5e+3 e5 . + 1e 0o9
on off yes no y true False TRUE tRue ~ null Null '' 'a' planted 32-true [1,2e1]
"""


def test_values_are_read_as_dvc_reads_them():
    merged = "x: &x {k: 1}\na: {b: &b {<<: *x, k: 2}}\nc: {<<: *b, k: 3}\nd: {<<: *b}\n"
    for text in [merged, *(f"key: {word}" for word in WORDS.split())]:
        assert repr(load_yaml(text)) == repr(loads_yaml(text)), text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: [", "not valid YAML"),
        ("seed: 1\nseed: 2\n", "not valid YAML: the key 'seed' stands twice\n.*line 2"),
        ("seed: !!python/name:os.system", "not valid YAML"),
        (f"seed: {'9' * 5000}", "not valid YAML"),
        ("[" * 1000, "not valid YAML"),
        ("", "must hold the sections"),
        ("- 1\n", "must hold the sections"),
    ],
)
def test_what_is_not_a_settings_file_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        parse_settings(text)


def test_a_file_that_is_missing_or_no_text(in_tmp):
    with pytest.raises(InputError, match="top folder"):
        load_settings()
    (in_tmp / "params.yaml").write_bytes("seed: 0 # für\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"params\.yaml is not valid YAML"):
        load_settings()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)


@hypothesis_settings(derandomize=True, deadline=None, database=None, max_examples=60)
@given(st.data())
def test_an_odd_key_or_value_is_read_or_refused_in_readable_lines(made):
    content = load_yaml(TEXT)
    section = made.draw(st.sampled_from([*content][1:]))
    key = made.draw(st.sampled_from([*content[section]]) | st.text(min_size=1, max_size=9))
    content[section][key] = made.draw(VALUES)
    with suppress(InputError):
        parse_settings(json.dumps(content))
        return
    with pytest.raises(InputError, match=section) as raised:
        parse_settings(json.dumps(content))
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", str(raised.value))


def test_data_and_split_decide_which_inputs_the_network_has(settings):
    asked = changed(settings, model={"time": "auto", "genres": True})
    for strategy, has_time, sessions, genres, time in (
        ("random", True, True, 1, "near"),
        ("random", True, False, 1, "none"),
        ("per_user", True, False, 1, "latest"),
        ("random", False, False, 0, "none"),
    ):
        found = changed(asked, split={"strategy": strategy}).in_effect(has_time, sessions, genres)
        assert found == asked.model.model_copy(update={"time": time, "genres": genres > 0})
    off = changed(asked, model={"time": "none", "genres": False})
    assert off.in_effect(True, True, 1) == off.model


AUTO = ("replicas", "epochs", "batch_size", "lr", "network_lr")


@pytest.mark.parametrize(
    ("ratings", "expected"),
    [
        (0, (2, 20, 32, 0.01, 0.001)),
        (1, (2, 20, 32, 0.01, 0.001)),
        (3_500, (2, 20, 64, 0.01, 0.001)),
        (70_000, (2, 20, 1024, 0.01, 0.001)),
        (700_000, (4, 12, 4096, 0.02, 0.002)),
        (17_500_000, (2, 8, 16_384, 0.04, 0.004)),
    ],
)
def test_auto_follows_from_the_number_of_ratings(ratings, expected):
    train = parse_settings(TEXT).train
    assert tuple(getattr(train, name) for name in AUTO) == ("auto",) * len(AUTO)
    found = train.for_ratings(ratings)
    assert tuple(getattr(found, name) for name in AUTO) == expected


def test_a_number_takes_the_place_of_auto(settings):
    named = changed(settings, train={"batch_size": 4096, "epochs": 3}).train.for_ratings(70_000)
    assert (named.batch_size, named.epochs, named.min_epochs) == (4096, 3, 3)
    assert (named.lr, named.network_lr, named.replicas) == (0.02, 0.002, 2)
