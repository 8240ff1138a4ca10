"""Quality against a setting, and the chart of it."""

import pytest
from click.testing import CliRunner
from matplotlib import image

from genre_embeddings.cli import genres
from genre_embeddings.errors import InputError
from genre_embeddings.experiments import sweep
from genre_embeddings.experiments.revisions import Run
from genre_embeddings.experiments.sweep import collect, draw

SETTINGS = {
    "seed": 0, "data.source": "planted", "data.path": "data/raw", "planted.ratings": 1000,
    "split.strategy": "random", "model.dim": 16, "model.hidden": [8], "train.lr": 0.01,
    "train.threads": 1, "inspect.min_pair_users": 5, "inspect.bootstrap": 1000,
}  # fmt: skip


@pytest.fixture
def experiment(monkeypatch):
    """Adds an experiment to the workspace and main, which hold a run of the default settings."""
    runs = []
    monkeypatch.setattr(sweep, "read_runs", lambda: runs)

    def make(name, rmse, truth, **changes):
        changes = {key.replace("__", "."): value for key, value in changes.items()}
        metrics = {"test.rmse": rmse, "test.rmse_low": rmse - 0.01, "test.rmse_high": rmse + 0.01}
        metrics |= {"validation.rmse": rmse - 0.1, "agreement.truth": truth}
        runs.append(Run(name, SETTINGS | changes, metrics))

    make("workspace", 0.8, 0.9)
    make("main", 0.8, 0.9)
    return make


def cells(found, number=0):
    """A table's rows, by their first cell."""
    table = found.tables()[number][1]
    return {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.iter_rows()}


def test_a_line_in_ascending_order(experiment):
    experiment("d-8", 0.801, 0.89, model__dim=8)
    experiment("d-2", 0.9, 0.5, model__dim=2, train__threads=2, inspect__bootstrap=100)
    found = collect()
    (line,) = found.lines
    assert list(line.runs) == [2, 8, 16]
    assert [run.name for run in line.runs[16]] == ["workspace"]  # main is the same run
    assert (found.others, found.notes) == ([], [])
    assert found.measures == ["test RMSE (stars)", "agreement with truth"]
    assert list(cells(found)) == ["2", "8", "16"]
    assert cells(found)["8"] == {
        "model.dim": "8",
        "runs": "1",
        "validation RMSE": "0.7010",
        "test RMSE (stars)": "0.8010",
        "95 % interval": "0.7910 to 0.8110",
        "agreement with truth": "0.890",
    }
    assert found.answer() == (
        "Lowest validation RMSE: 0.7000, at model.dim=16. "
        "The smallest within 0.003 of it, which may be chance: 8."
    )


def test_means_are_over_the_seeds_that_all_values_have(experiment):
    for dim, seed, rmse in ((16, 1, 0.9), (8, 0, 0.82), (8, 1, 0.92), (8, 2, 0.4)):
        experiment(f"d-{dim}-{seed}", rmse, 0.9, model__dim=dim, seed=seed)
    found = collect()
    (line,) = found.lines
    assert line.means("test RMSE (stars)") == pytest.approx({8: 0.87, 16: 0.85})
    assert cells(found)["8"]["test RMSE (stars)"] == "0.8700 (0.8200 to 0.9200)"
    assert "d-8-2" in {run.name for run in line.every[8]} - {run.name for run in line.runs[8]}
    assert found.notes == ["Means are over seed 0, 1, which all values have; dots are all runs."]


def test_seeds_that_no_two_values_share(experiment):
    experiment("d-8", 0.82, 0.9, model__dim=8, seed=1)
    found = collect()
    assert list(found.lines[0].runs) == [8, 16]
    (note,) = found.notes
    assert note == "No seed is shared by all values, so their errors are on different ratings."
    by_seed = collect("seed")
    assert [run.name for run in by_seed.others] == ["workspace", "d-8"]
    (note,) = by_seed.notes
    assert note == "No two runs differ in nothing but seed and the seed: there is no line."


def test_other_settings_make_lines_of_their_own(experiment):
    for dim in (4, 8):
        for lr in (0.01, 0.1):
            experiment(f"d-{dim}-{lr}", 0.8 + lr / dim, 0.9, model__dim=dim, train__lr=lr)
    experiment("alone", 0.5, 0.9, model__dim=32, train__lr=0.5)
    found = collect()
    assert [line.label for line in found.lines] == ["train.lr=0.01", "train.lr=0.1"]
    assert [list(line.runs) for line in found.lines] == [[4, 8, 16], [4, 8]]
    assert [run.name for run in found.others] == ["alone"]
    assert [title for title, _ in found.tables()] == [
        "train.lr=0.01", "train.lr=0.1", "Other settings",
    ]  # fmt: skip
    assert "at model.dim=16 with train.lr=0.01." in found.answer()
    assert found.answer().endswith(
        "Of the other runs alone (model.dim=32) has the lowest validation RMSE, 0.4000."
    )
    only = collect(where=["train.lr=0.1"])
    assert [line.label for line in only.lines] == [""]
    assert [list(line.runs) for line in only.lines] == [[4, 8]]
    by_lr = collect("train.lr")
    assert {line.label for line in by_lr.lines} == {"model.dim=4", "model.dim=8"}


def test_runs_of_other_data_are_not_shown(experiment):
    for dim in (4, 8):
        experiment(f"d-{dim}", 0.9, 0.9, model__dim=dim)
    for dim in (4, 8):
        experiment(f"big-{dim}", 0.1, 0.9, model__dim=dim, planted__ratings=5000)
    found = collect()
    assert list(found.lines[0].runs) == [4, 8, 16]
    assert found.notes == ["Not shown, of other data: --where planted.ratings=5000 shows them."]
    assert list(collect(where=["planted.ratings=5000"]).lines[0].runs) == [4, 8]
    # The planted world means nothing to ratings that were not planted, nor does their place.
    experiment("a", 0.9, 0.9, data__source="ml-1m", data__path="/a", model__dim=4)
    experiment(
        "b", 0.9, 0.9, data__source="ml-1m", data__path="/b", planted__ratings=7, model__dim=8
    )
    assert list(collect(where=["data.source=ml-1m"]).lines[0].runs) == [4, 8]


def test_of_the_same_settings_the_run_with_most_numbers_counts(experiment):
    experiment("evaluated", 0.82, None, model__dim=8)
    experiment("inspected", 0.83, 0.95, model__dim=8)
    experiment("evaluated-again", 0.84, None, model__dim=8)
    assert collect().lines[0].means("test RMSE (stars)") == {8: 0.83, 16: 0.8}


def test_agreements_measured_otherwise_are_on_another_line(experiment):
    experiment("d-8", 0.82, 0.99, model__dim=8)
    experiment("d-4", 0.83, 0.5, model__dim=4, inspect__min_pair_users=50)
    found = collect()
    assert found.lines[0].means("agreement with truth") == {8: 0.99, 16: 0.9}
    assert [run.name for run in found.others] == ["d-4"]


def test_values_that_are_no_numbers(experiment, tmp_path):
    experiment("wide", 0.82, 0.9, model__hidden=[64, 32])
    found = collect("model.hidden")
    assert list(found.lines[0].runs) == ["[64, 32]", "[8]"]
    assert found.answer() == "Lowest validation RMSE: 0.7000, at model.hidden=[8]."
    draw(found, tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").stat().st_size > 0


def test_what_cannot_be_charted(experiment):
    for arguments, message in (
        ((), r"one value of model\.dim \(16\).*needs two.*exp run"),
        (("model.dimm",), r"'model\.dimm' is not a setting.*did you mean model\.d"),
        (("model.dim", ["train.lr"]), r"'train\.lr' is no condition; allowed: section"),
        (("model.dim", ["train.lr=3"]), r"Runs where train\.lr=3 have.*\(none\)"),
    ):
        with pytest.raises(InputError, match=message):
            collect(*arguments)


def test_the_picture(experiment, tmp_path):
    for dim in (1, 2, 4, 8):
        experiment(f"d-{dim}", 0.8 + 1 / dim, 1 - 1 / dim, model__dim=dim)
    experiment("alone", 0.5, 0.9, model__dim=32, train__lr=0.5)
    path = tmp_path / "sweep.png"
    result = CliRunner().invoke(genres, ["sweep", "--out", str(path)], catch_exceptions=False)
    assert result.exit_code == 0
    assert result.stdout.startswith("Means by model.dim\n")
    assert result.stdout.endswith(f"-> {path}\n")
    first = path.read_bytes()
    draw(collect(), path)
    assert path.read_bytes() == first
    pixels = (image.imread(path)[:, :, :3] * 255).round().astype(int).reshape(-1, 3)
    assert (0, 114, 178) in set(map(tuple, pixels.tolist()))  # the line's blue
