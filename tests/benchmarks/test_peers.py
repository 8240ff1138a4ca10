"""The light parts of benchmarks/peers: command line, official folds, the table's mathematics."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.quality.peers import __main__ as peers
from benchmarks.quality.peers import environment, folds, pipeline, report
from genre_embeddings.errors import InputError
from genre_embeddings.evaluation.metrics import UserSums, user_sums


def sums(user: list[int], error: list[float]) -> UserSums:
    return user_sums(np.array(user), np.array(error), users=3)


def test_errors_are_means_over_splits() -> None:
    # Split 0: squared errors 1, 1, 4 -> mse 2; split 1: 0, 4 -> mse 2, of other users.
    model = [sums([0, 0, 1], [1, -1, 2]), sums([1, 2], [0, 2])]
    # Split 0: 1, 1, 1 -> mse 1; split 1: 0, 0 -> mse 0.
    ours = [sums([0, 0, 1], [1, 1, 1]), sums([1, 2], [0, 0])]
    found = report.summarise({"peer": model, "ours": ours}, "ours", np.random.default_rng(0))
    peer = {name: value.estimate for name, value in found["peer"].items()}
    assert peer["mse"] == pytest.approx(2)
    assert peer["rmse"] == pytest.approx(2**0.5)
    assert peer["mae"] == pytest.approx((4 / 3 + 1) / 2)
    assert peer["difference"] == pytest.approx(0.5 - 2)
    assert peer["ratio"] == pytest.approx(0.25)
    assert found["ours"]["difference"].low == found["ours"]["difference"].high == 0
    assert found["ours"]["ratio"].estimate == 1


def test_difference_is_paired() -> None:
    # Users differ by far more than the models do: only a paired interval excludes 0.
    generator = np.random.default_rng(0)
    squared = generator.uniform(0, 10, 200)
    ones = np.ones(200)
    model = [UserSums(ones, squared + 0.1, squared)]
    ours = [UserSums(ones, squared, squared)]
    found = report.summarise({"peer": model, "ours": ours}, "ours", generator)
    difference, mse = found["peer"]["difference"], found["peer"]["mse"]
    assert difference.low == pytest.approx(-0.1)
    assert difference.high == pytest.approx(-0.1)
    assert mse.high - mse.low > 0.5


def test_without_reference_nothing_is_compared() -> None:
    found = report.summarise({"peer": [sums([0], [1])]}, "ours", np.random.default_rng(0))
    assert set(found["peer"]) == {"mse", "rmse", "mae"}


def test_table() -> None:
    found = report.summarise(
        {"peer": [sums([0], [2])], "ours": [sums([0], [1])]}, "ours", np.random.default_rng(0)
    )
    cost = {"fit_seconds": 1.25, "peak_mib": 1234.5}
    rows = [{"title": name, **found[name], **cost} for name in found]
    head, rule, peer, ours = report.markdown(rows, "ours").splitlines()
    assert head.count("|") == rule.count("|") == peer.count("|") == ours.count("|") == 9
    assert "| 4.0000 [4.0000, 4.0000] | 2.0000" in peer
    assert "| -3.0000 [-3.0000, -3.0000] | 0.2500 [0.2500, 0.2500] |" in peer
    assert "| 1.2 | 1,234 |" in peer


def ratings(mse: float) -> UserSums:
    return UserSums(np.ones(1), np.array([mse]), np.array([mse]))


def test_tuning_takes_the_best_on_validation() -> None:
    grid = peers.MODELS["surprise-svd"].grid
    # The second entry is best on validation and worst on test: it is the one that counts.
    runs = {
        "surprise-svd": [
            [peers.Run(ratings(test), validation, 1.0, 2**20)]
            for test, validation in zip((1, 9, 2, 3), (0.5, 0.1, 0.6, 0.7), strict=True)
        ]
    }
    (row,), reference = peers.tabulate(runs)
    assert reference is None
    assert row["settings"] == grid[1]
    assert row["mse"].estimate == 9
    assert [entry["validation_mse"] for entry in row["tuned"]] == [0.5, 0.1, 0.6, 0.7]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "myFM"], "invalid choice: 'myFM'"),
        (["--folds"], "add --source ml-100k"),
        (["--folds", "6", "--source", "ml-100k"], "invalid choice: 6"),
        (["--strategy", "temporal"], "invalid choice: 'temporal'"),
    ],
)
def test_odd_arguments_are_refused(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        peers.parse(arguments)
    assert said in capsys.readouterr().err


def test_folds_without_numbers_are_all_five() -> None:
    args = peers.parse(["--source", "ml-100k", "--folds"])
    assert args.folds == [1, 2, 3, 4, 5]
    assert args.out == Path("docs/results/peers-ml-100k-folds.json")
    assert peers.parse([]).folds is None


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("model.dim", "-S model.dim is not KEY=VALUE"),
        ("model.dims=8", "model.dims is not a setting"),
        ("model.dim=0", "model.dim is 0; allowed: at least 1"),
        ("model.hidden=[64", "is not a value as YAML writes it"),
    ],
)
def test_odd_settings_are_refused(setting: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        pipeline.parameters(peers.overrides(peers.parse(["-S", setting])))


def test_every_model_of_ours_is_a_change_that_settings_allow() -> None:
    assert "squash: true" in pipeline.parameters(peers.LINEAR.overrides)
    assert peers.OURS.overrides == {}


def test_every_version_is_pinned() -> None:
    assert {"lenskit", "myfm", "scikit-surprise", "numpy"} <= environment.versions().keys()


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    folder = tmp_path / "prepared"
    folder.mkdir()
    for name, ids in {"user": [1, 2], "movie": [10, 20, 30]}.items():
        index = pl.Series(range(len(ids)), dtype=pl.UInt32)
        table = pl.DataFrame({name: index, f"{name}_id": ids})
        table.write_parquet(folder / f"{name}s.parquet")
    return folder


def fold_archive(tmp_path: Path, base: str, test: str) -> Path:
    path = tmp_path / "ml-100k.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for fold in folds.FOLDS:
            archive.writestr(f"ml-100k/u{fold}.base", base if fold == 2 else "1\t10\t1\t1\n")
            archive.writestr(f"ml-100k/u{fold}.test", test if fold == 2 else "1\t20\t1\t1\n")
    return path


def test_fold_is_split(tmp_path: Path, prepared: Path) -> None:
    base = "".join(f"{1 + n % 2}\t{10 * (1 + n % 3)}\t{1 + n % 5}\t{n}\n" for n in range(20))
    archive = fold_archive(tmp_path, base, "2\t30\t4\t7\n1\t10\t5\t6\n")
    split = tmp_path / "split"
    assert folds.archive(str(tmp_path)) == archive
    folds.write_fold(archive, 2, prepared, split, seed=0)
    found = {
        side: {path.stem: np.load(path) for path in (split / side).glob("*.npy")}
        for side in ("train", "validation", "test")
    }
    assert found["test"]["user"].tolist() == [0, 1]
    assert found["test"]["movie"].tolist() == [0, 2]
    assert found["test"]["rating"].tolist() == [5, 4]
    assert found["test"]["rating"].dtype == np.float32
    assert found["validation"]["user"].size == 2
    stamps = [*found["train"]["timestamp"], *found["validation"]["timestamp"]]
    assert sorted(stamps) == list(range(20))


@pytest.mark.parametrize(
    ("base", "said"),
    [
        ("3\t10\t1\t1\n", "rates movie 10 by user 3"),
        ("1\tten\t1\t1\n", "is not a fold of ml-100k"),
    ],
)
def test_odd_folds_are_refused(tmp_path: Path, prepared: Path, base: str, said: str) -> None:
    archive = fold_archive(tmp_path, base, "1\t10\t1\t1\n")
    with pytest.raises(InputError, match=said):
        folds.write_fold(archive, 2, prepared, tmp_path / "split", seed=0)
    assert not (tmp_path / "split").exists()


def test_measured_runs_and_measures(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "import sys; block = bytearray(64 * 2**20); print(sys.argv[1:])"
    )
    cost = pipeline.measured(sys.executable, ["script.py", "a"], tmp_path, "script")
    assert 64 * 2**20 < cost.peak_bytes < 2**30
    assert cost.seconds > 0


def test_failure_says_what_the_process_said(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("raise RuntimeError('no such luck')")
    with pytest.raises(InputError, match=r"(?s)^script failed .*no such luck$"):
        pipeline.measured(sys.executable, ["script.py"], tmp_path, "script")


def test_help_needs_nothing_installed() -> None:
    command = [sys.executable, "-m", "benchmarks.quality.peers", "--help"]
    done = subprocess.run(command, cwd=pipeline.ROOT, capture_output=True, text=True, check=True)
    assert "--strategy" in done.stdout


def test_out_holds_plain_json() -> None:
    row = {"name": "ours", "mse": report.Interval(1.0, 0.5, 1.5, 0.95)}
    found = json.loads(json.dumps(report.plain(row)))
    assert found == {
        "name": "ours",
        "mse": {"estimate": 1.0, "low": 0.5, "high": 1.5, "level": 0.95},
    }
