"""Tables and charts of quality against a setting."""

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
MEANS = "Means by model.dim"
HIDDEN = "Not shown, with other data or settings: {}; select runs with --where."


@pytest.fixture
def experiment(monkeypatch):
    """Adds an experiment to the workspace and main, which hold a run of the default settings."""
    runs = []
    monkeypatch.setattr(sweep, "read_runs", lambda: runs)

    def make(name, rmse, truth=0.9, **changes):
        changes = {key.replace("__", "."): value for key, value in changes.items()}
        metrics = {"test.rmse": rmse, "test.rmse_low": rmse - 0.01, "test.rmse_high": rmse + 0.01}
        metrics |= {"validation.rmse": rmse - 0.1, "agreement.truth": truth}
        runs.append(Run(name, SETTINGS | changes, metrics))

    make("workspace", 0.8)
    make("main", 0.8)
    return make


def tables(*arguments):
    """By title, the values of the first column of each table."""
    return {title: table[:, 0].to_list() for title, table in collect(*arguments).tables().items()}


def test_a_line_in_ascending_order(experiment):
    experiment("d-8", 0.801, 0.89, model__dim=8)
    experiment("d-8-older", 0.7, 0.7, model__dim=8)
    experiment("d-2", 0.9, 0.5, model__dim=2, train__threads=2, inspect__bootstrap=100)
    found = collect()
    assert tables() == {MEANS: ["2", "8", "16"]}
    assert found.runs["run"].to_list() == ["d-2", "d-8", "workspace"]  # main is the same run
    assert found.notes == []
    assert found.tables()[MEANS].row(1, named=True) == {
        "model.dim": "8",
        "runs": 1,
        "validation RMSE": "0.7010",
        "test RMSE (stars)": "0.8010",
        "95 % interval": "0.7910 to 0.8110",
        "agreement with truth": "0.890",
    }
    assert found.answer() == (
        "Lowest validation RMSE: 0.7000, at model.dim=16. "
        "Smallest value with an error within 0.003 (may be chance): 8."
    )


def test_means_are_over_the_seeds_that_all_values_have(experiment):
    for dim, seed, rmse in ((16, 1, 0.9), (8, 0, 0.82), (8, 1, 0.92), (8, 2, 0.4)):
        experiment(f"d-{dim}-{seed}", rmse, model__dim=dim, seed=seed)
    found = collect()
    assert found.tables()[MEANS]["test RMSE (stars)"].to_list() == ["0.8700", "0.8500"]
    assert "d-8-2" in found.runs["run"]
    assert found.notes == ["Means are over seed 0, 1, which all values have."]
    experiment("d-4", 0.82, model__dim=4, seed=7)
    assert collect().notes == [
        "No seed is shared by all values, so their errors are on different ratings."
    ]


def test_other_settings_make_lines_of_their_own(experiment):
    for dim in (4, 8):
        for lr in (0.01, 0.1):
            experiment(f"d-{dim}-{lr}", 0.8 + lr / dim, model__dim=dim, train__lr=lr)
    experiment("alone", 0.5, model__dim=32, train__lr=0.5)
    # An agreement that is measured in another way is on another line, too.
    experiment("pairs", 0.9, model__dim=4, inspect__min_pair_users=50)
    assert tables() == {"train.lr=0.01": ["4", "8", "16"], "train.lr=0.1": ["4", "8"]}
    assert collect().notes == [HIDDEN.format(2)]
    assert collect().answer() == (
        "Lowest validation RMSE: 0.7000, at model.dim=16 with train.lr=0.01. Smallest value "
        "with an error within 0.003 (may be chance): 4."
    )
    assert tables("model.dim", ["train.lr=0.1"]) == {MEANS: ["4", "8"]}
    assert tables("train.lr") == {
        "model.dim=4": ["0.01", "0.1"], "model.dim=8": ["0.01", "0.1"],
    }  # fmt: skip


def test_runs_of_other_data_are_not_shown(experiment):
    for dim in (4, 8):
        experiment(f"d-{dim}", 0.9, model__dim=dim)
        experiment(f"big-{dim}", 0.1, model__dim=dim, planted__ratings=5000)
    assert tables() == {MEANS: ["4", "8", "16"]}
    assert collect().notes == [HIDDEN.format(2)]
    assert tables("model.dim", ["planted.ratings=5000"]) == {MEANS: ["4", "8"]}
    # The planted world means nothing to ratings that were not planted, nor does their place.
    real = {"data__source": "ml-1m"}
    experiment("a", 0.9, data__path="/a", model__dim=4, **real)
    experiment("b", 0.9, data__path="/b", planted__ratings=7, model__dim=8, **real)
    assert tables("model.dim", ["data.source=ml-1m"]) == {MEANS: ["4", "8"]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), r"No two runs differ in model\.dim and the seed alone.*\(values .*: 16\).*exp run"),
        (("model.dimm",), r"'model\.dimm' is not a setting.*did you mean model\.d"),
        (("model.dim", ["train.lr"]), r"'train\.lr' is no condition; allowed: section"),
        (("model.dim", ["train.lr=3"]), r"No two runs where train\.lr=3 differ.*none\)"),
    ],
)
def test_what_cannot_be_charted(experiment, arguments, message):
    with pytest.raises(InputError, match=message):
        collect(*arguments)


def test_the_picture(experiment, tmp_path):
    for dim in (1, 2, 4, 8):
        experiment(f"d-{dim}", 0.8 + 1 / dim, 1 - 1 / dim, model__dim=dim)
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
    # Values that are no numbers
    experiment("wide", 0.82, model__hidden=[64, 32])
    found = collect("model.hidden")
    assert tables("model.hidden") == {"Means by model.hidden": ["[64, 32]", "[8]"]}
    assert found.answer() == "Lowest validation RMSE: 0.7000, at model.hidden=[8]."
    draw(found, path)
