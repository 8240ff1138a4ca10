"""The inspection finds the planted structure and is inconclusive where it cannot be measured."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from genre_embeddings import storage
from genre_embeddings.data.sources.planted import planted_world
from genre_embeddings.data.tables import truth_content
from genre_embeddings.evaluation.metrics import FEWEST_USERS
from genre_embeddings.inspection import value
from genre_embeddings.inspection.inspect import inspect
from genre_embeddings.inspection.question import gather
from genre_embeddings.inspection.responses import ask, project
from genre_embeddings.inspection.similarity import centred_cosine
from genre_embeddings.model.serialization import save_model
from genre_embeddings.training.ablations import train_ablations
from genre_embeddings.training.model import train_model
from tests.conftest import changed
from tests.small import small_world, write_world

QUICK = {"permutations": 199, "bootstrap": 100}


def answered(settings, planted=None, model=None, truth=True, **train):
    """Train in the working directory and inspect."""
    settings = changed(settings, planted=planted or {}, inspect=QUICK)
    world = small_world(settings, **{"epochs": 1, "patience": 10} | train)
    write_world(world)
    if truth:
        found = planted_world(settings.planted).truth
        storage.write_json(storage.TRUTH, truth_content(world.tables.genres, found))
    settings = changed(world.settings, model=model or {})
    train_model(settings, world.data, record=False)
    train_ablations(settings, world.data)
    answer = inspect(gather(settings))
    json.dumps([answer.metrics, answer.plots], allow_nan=False)
    return answer


def test_what_is_planted_is_found(settings, in_tmp):
    strong = {"users": 150, "movies": 60, "ratings": 4_500, "genre_effect": 2.0}
    answer = answered(settings, planted=strong, epochs=10, shuffled_genres=1)
    outcomes = {verdict.line: verdict.outcome for verdict in answer.verdicts}
    assert outcomes["value"] == "pass"
    truth = answer.metrics["agreement"]["truth"]
    assert truth["spearman"] > 0.7
    assert truth["spearman"] > truth["untrained"]
    assert truth["spearman"] > truth["models_with_shuffled_genres,_95_%"]
    assert answer.metrics["stability"]["spearman"] > 0.5
    assert any(row["nearest"] for row in answer.neighbours)
    assert len(answer.plots["similarity"]) == 36
    assert {row["genre"] for row in answer.costs} == {row["genre"] for row in answer.plots["map"]}
    assert answer.unsure.keys() == {"learnt", "likelihood", "moments"}
    assert all(unsure.any() and not unsure.all() for unsure in answer.unsure.values())


@pytest.mark.parametrize(
    ("planted", "model", "why"),
    [
        ({}, {"genres": False}, "The model was trained without genres (model.genres: false)."),
        ({"genres": 2}, {}, "Only 2 genres can be compared; structure needs three."),
    ],
)
def test_what_cannot_be_asked_is_inconclusive(settings, in_tmp, planted, model, why):
    answer = answered(settings, planted, model)
    assert {(one.outcome, one.reason) for one in answer.verdicts} == {("inconclusive", why)}
    assert set(answer.plots) == {"similarity", "evidence", "scatter", "map"}


def test_point_embeddings_without_truth_and_without_the_second_model(settings, in_tmp, monkeypatch):
    monkeypatch.setattr(value, "MOST_RATINGS", 10)
    answer = answered(settings, None, {"embedding": "point"}, truth=False, without_genres=False)
    assert answer.verdicts[2].outcome == "inconclusive"
    assert "truth" not in answer.metrics["agreement"]
    assert 0 < max(cost["ratings"] for cost in answer.costs) <= 10


def test_a_handful_of_users_is_no_evidence_of_value(settings, in_tmp):
    """A bootstrap over one user has no width: any luck on one cold rating would be a pass."""
    answer = answered(settings, planted={"movies": 200})
    train, test = storage.read_side("train"), storage.read_side("test")
    cold = ~np.isin(test.movie, train.movie)
    assert 0 < np.unique(test.user[cold]).size < FEWEST_USERS
    assert "cold_movies_estimate" not in answer.metrics["value"]
    assert "Too few users rated movies without" in answer.verdicts[2].reason


def test_the_tag_genome_is_shown_and_does_not_judge_and_rare_genres_are_left_out(settings, in_tmp):
    quick = {"permutations": 99, "bootstrap": 100, "evidence": "test", "min_pair_users": 3}
    world = small_world(changed(settings, inspect=quick))
    write_world(world)
    names = world.tables.genres["name"].to_list()
    tagged = np.corrcoef(np.random.default_rng(0).normal(size=(len(names), 9))).tolist()
    tagged[0][1] = tagged[1][0] = None
    storage.write_json(storage.GENOME, {"genres": names, "similarity": tagged})
    save_model(world.network(), world.sides["train"])
    storage.write_json(storage.ABLATIONS / "ablations.json", [])
    asked = gather(world.settings)
    assert asked.held_out.rating.size == asked.test.rating.size
    answer = inspect(asked)
    shown = [cell for cell in answer.plots["evidence"] if cell["reference"] == "genome"]
    blank = [{cell["a"], cell["b"]} for cell in shown if cell["similarity"] is None]
    assert blank == [set(names[:2])] * 2
    assert answer.metrics["agreement"]["genome"]["spearman"] is not None
    assert not any("genome" in verdict.reason for verdict in answer.verdicts)
    # Nothing was held out for value, and no draws were asked for: said, not guessed.
    assert answer.verdicts[2].outcome == "inconclusive"
    assert not any(row["nearest"] for row in answer.neighbours)  # none is repeatable
    # A genre with too few movies is left out everywhere.
    movies = world.tables.genres["movies"]
    stricter = asked.settings.model_copy(update={"min_movies": movies.min() + 1})
    answer = inspect(replace(asked, genome=None, settings=stricter))
    kept = [name for name, count in zip(names, movies, strict=True) if count > movies.min()]
    assert list(answer.genres) == kept != names
    assert {cell["a"] for rows in answer.plots.values() for cell in rows if "a" in cell} == {*kept}
    assert "genome" not in answer.matrices


def test_responses_are_differences_of_predictions(settings):
    network = small_world(settings).network()
    responses = ask(network, np.array([3, 5]))
    genres = network.genre_share.shape[1]
    assert responses.shape == (2, 2, genres)
    unknown = torch.tensor([network.unknown])
    card = torch.zeros(1, genres)
    bare = network(torch.tensor([5]), unknown, genres=card).rating
    card[0, 4] = 1
    with_genre = network(torch.tensor([5]), unknown, genres=card, typical=True).rating
    expected = (with_genre - bare).flatten().tolist()
    assert responses[:, 1, 4].tolist() == pytest.approx(expected, abs=1e-5)


def test_a_change_of_basis_that_keeps_predictions_keeps_both_answers_and_moves_cosines(settings):
    """With a linear readout, (u, v, W) and (u A^-T, v A, A^-1 W) are one and the same function."""
    network = small_world(settings).network(hidden=(), history=0)
    users = np.arange(30)
    cosine = centred_cosine(network.genre.mean[:, 0, :-1].detach().numpy() + 1)
    change = torch.randn(4, 4, generator=torch.Generator().manual_seed(1))
    back = torch.linalg.inv(change)
    with torch.no_grad():
        weights = network.dense.weights[0]  # of u, v and u * v; the products have no say here
        weights[:, 8:12] = 0
        before = ask(network, users), project(network, users)
        for table in (network.movie, network.genre):
            table.mean[..., :4] = table.mean[..., :4] @ change
        for table in (network.user, network.genre_seen):
            table.mean[..., :4] = table.mean[..., :4] @ back.T
        weights[:, 0:4] = change.T @ weights[:, 0:4]
        weights[:, 4:8] = back @ weights[:, 4:8]
    after = ask(network, users), project(network, users)
    assert before[0].std() > 1e-3
    for one, other in zip(before, after, strict=True):
        assert np.allclose(one, other, atol=1e-4)
    turned = centred_cosine(network.genre.mean[:, 0, :-1].detach().numpy() + 1)
    assert not np.allclose(cosine, turned, atol=0.1)
