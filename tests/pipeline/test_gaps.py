"""Corners that no other test comes by: each of them is reached by somebody's data or settings."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from click.testing import CliRunner

from genre_embeddings import storage
from genre_embeddings.cli import genres as command
from genre_embeddings.data.sources.planted import planted_world
from genre_embeddings.data.tables import build_tables
from genre_embeddings.errors import InputError
from genre_embeddings.inference.explain import explain
from genre_embeddings.inference.export import movie_vectors
from genre_embeddings.inference.trained import open_model
from genre_embeddings.inspection.inspect import inspect
from genre_embeddings.inspection.question import gather
from genre_embeddings.model.serialization import configure_torch, load_model, save_model
from genre_embeddings.settings import load_settings
from tests.conftest import ROOT, changed, source_of
from tests.small import rows_of, small_world, write_world
from tests.trained import train_project


def test_nothing_left_to_recommend(tmp_path, monkeypatch):
    monkeypatch.chdir(train_project(tmp_path))
    movies = np.arange(60, dtype=np.uint32)
    everything = storage.Side(
        np.zeros_like(movies), movies, np.full(60, 4, np.float32), np.zeros(60, np.int64)
    )
    with storage.replacing_folder(storage.SPLIT) as folder:
        for column, values in zip(storage.RATINGS_SCHEMA, everything, strict=True):
            storage.write_column(folder / "train" / f"{column}.npy", values)
    first = str(open_model().users["user_id"][0])
    said = CliRunner().invoke(command, ["recommend", first], catch_exceptions=False)
    assert said.stdout == "There are no movies to recommend.\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("  train: 0.7 #|  train: 0.9 #", r"split: .*the three fractions must add up to 1"),
        ("  test: 0.1 #|  test: 0.0 #", r"must add up to 1"),
        ("  train: 0.7 #|  qwxz: 0.7 #", r"split\.qwxz .*; allowed here: strategy, train, "),
    ],
)
def test_settings_that_cannot_be(tmp_path, text, says):
    old, new = text.split("|")
    whole = (ROOT / "params.yaml").read_text(encoding="utf-8")
    assert whole.count(old) == 1
    (tmp_path / "params.yaml").write_text(whole.replace(old, new), encoding="utf-8")
    with pytest.raises(InputError, match=says):
        load_settings(tmp_path / "params.yaml")


def test_settings_that_are_no_text(tmp_path):
    (tmp_path / "params.yaml").write_bytes("seed: 0 # für\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"params\.yaml is not UTF-8 text"):
        load_settings(tmp_path / "params.yaml")


def test_a_file_is_not_replaced_by_a_folder(tmp_path):
    (tmp_path / "models").write_text("a note")
    with (
        pytest.raises(InputError, match="models is a file, and a folder is to be written"),
        storage.replacing_folder(tmp_path / "models"),
    ):
        pass
    assert (tmp_path / "models").read_text() == "a note"


def test_every_side_needs_a_share(settings):
    with pytest.raises(ValueError, match="every side needs a share above 0"):
        type(settings.split)(strategy="random", train=0.8, validation=0.2, test=0.0)


def test_more_genres_than_movielens_has_names_for(settings):
    planted = settings.planted.model_copy(update={"genres": 21})
    world = planted_world(planted)
    assert {"Genre 19", "Genre 20", "Genre 21"} <= set(world.truth.names)
    assert world.truth.similarity.shape == (21, 21)
    assert np.allclose(np.diagonal(world.truth.similarity), 1)


def test_ids_far_apart_find_their_place(settings):
    far = 10**15
    source = source_of(
        [(1, 5, 3.0, 0), (far, 5, 4.0, 1), (far, far, 5.0, 2)],
        [(5, "Near", ["Drama"]), (far, "Far", ["Drama"])],
    )
    tables = build_tables(source, settings.data)
    found = tables.ratings.sort("timestamp").select("user", "movie").rows()
    assert found == [(0, 0), (1, 0), (1, 1)]


def test_the_tag_genome_is_shown_and_does_not_judge(settings, in_tmp):
    quick = {"draws": 0, "permutations": 99, "bootstrap": 100, "splits": 2, "users": 40}
    quick |= {"evidence": "test", "min_pair_users": 3}
    world = small_world(changed(settings, inspect=quick))
    write_world(world)
    names = world.tables.genres["name"].to_list()
    tagged = np.corrcoef(np.random.default_rng(0).normal(size=(len(names), 9))).tolist()
    tagged[0][1] = tagged[1][0] = None
    storage.write_json(storage.TRUTH, None)
    storage.write_json(storage.GENOME, {"genres": names, "similarity": tagged})
    save_model(world.network())
    storage.write_json(storage.ABLATIONS / "ablations.json", [])
    asked = gather(world.settings)
    assert asked.held_out.rating.size == asked.test.rating.size
    answer = inspect(asked)
    shown = [cell for cell in answer.evidence if cell["reference"] == "genome"]
    blank = [cell for cell in shown if cell["similarity"] is None]
    assert {(cell["a"], cell["b"]) for cell in blank} == {
        (names[0], names[1]),
        (names[1], names[0]),
    }
    assert answer.metrics["agreement"]["genome"]["spearman"] is not None
    assert not any("genome" in verdict.reason for verdict in answer.verdicts)
    # Nothing was held out for value, and no draws were asked for: said, not guessed.
    assert answer.verdicts[2].outcome == "inconclusive"
    assert "genome" not in inspect(replace(asked, genome=None)).matrices


def test_a_model_without_history_and_time_is_kept_and_exported(settings, in_tmp):
    world = small_world(settings)
    write_world(world)
    network = world.network(history=0, time=False, embedding="point").eval()
    save_model(network)
    again = load_model()
    some = rows_of(world.ratings("test"), 20)
    with torch.no_grad():
        before, after = (model(some.user, some.movie, some.time) for model in (network, again))
    assert torch.equal(before.timeless, after.timeless)
    again.index_ratings(world.ratings("train"))  # there is no history to index
    assert movie_vectors(again).shape == (60, 2, 4)


def test_no_number_of_threads_leaves_torchs_own():
    before = torch.get_num_threads()
    try:
        configure_torch(0)
        assert torch.get_num_threads() == before
    finally:
        torch.use_deterministic_algorithms(False)


def test_explanation_says_what_the_scale_cuts_off(tmp_path, monkeypatch):
    monkeypatch.chdir(train_project(tmp_path))
    model = open_model()
    model.network.centre.data.fill_(9.0)
    found = explain(model, "1", "5")
    parts = dict(found.parts.rows())
    assert parts["scale"] < 0
    assert found.prediction == pytest.approx(5.0)
    assert sum(parts.values()) == pytest.approx(found.prediction, abs=1e-3)
    assert found.parts.schema == {"part": pl.String, "stars": pl.Float64}
