"""The pipeline as users run it: real `dvc repro`, real stages, on a world of 1,500 ratings."""

import importlib
import json
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Any

import pytest

from genre_embeddings.errors import messages
from genre_embeddings.settings import WRITTEN
from tests.project import MOST_SECONDS, ROOT, STAGES, Project, read_yaml, shared, stages_run

# Found by every python that the pipeline starts. A stage tells which modules and which settings it
# used. Only what comes from params.yaml is watched: a model's own settings are read from its file.
WATCH = """
import atexit, json, os, sys

stage = sys.orig_argv[2] if sys.orig_argv[1:2] == ["-m"] else ""
if stage.startswith("stages."):
    sys.path.insert(0, "src")
    from genre_embeddings import settings

    read, load = set(), settings.load_settings

    def watch(part, prefix):
        kind = type(part)
        def look(self, name):
            if name in kind.model_fields:
                read.add(prefix + name)
            return kind.__getattribute__(self, name)
        for name in kind.model_fields:
            if isinstance(value := getattr(part, name), settings.Section):
                watch(value, f"{prefix}{name}.")
        object.__setattr__(part, "__class__", type(kind)(kind.__name__, (kind,),
            {"__getattribute__": look, "__module__": kind.__module__}))

    def load_watched():
        whole = load()
        watch(whole, "")
        return whole

    def tell():
        with open(f"{os.environ['WATCHED']}/{stage}.json", "w") as file:
            files = [str(getattr(m, "__file__", None)) for m in sys.modules.values()]
            own = [file for file in files if file.startswith(os.getcwd())]
            json.dump({"modules": [*sys.modules], "files": own, "settings": [*read]}, file)

    settings.load_settings = load_watched
    atexit.register(tell)
"""


@pytest.fixture(scope="session")
def elsewhere(base: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone in another folder in which all stages ran, with their imports recorded."""

    def make(top: Path) -> None:
        clone = base.clone(top / "a longer path" / "of-another-person")
        (top / "sitecustomize.py").write_text(WATCH)
        repro = clone.start_dvc("repro", "--force", PYTHONPATH=str(top), WATCHED=str(top))
        said, _ = repro.communicate(timeout=MOST_SECONDS)
        assert (repro.returncode, stages_run(said)) == (0, list(STAGES)), said

    return Project(
        shared(tmp_path_factory, "elsewhere", make).folder / "a longer path/of-another-person"
    )


def code_of(stage: str) -> set[Path]:
    """All files of this project that a stage's code may import, in functions as well."""
    finder = ModuleFinder(path=[str(ROOT), str(ROOT / "src")])
    finder.run_script(str(ROOT / f"stages/{stage}.py"))
    found = {Path(module.__file__): module for module in finder.modules.values() if module.__file__}
    # A module that renders pages reads the templates beside it.
    rendering = [
        p for p, m in found.items() if "jinja2" in m.globalnames or "render" in m.globalnames
    ]
    return {*found, *(template for path in rendering for template in path.parent.glob("*.jinja"))}


def code_in(deps: list[str]) -> list[Path]:
    """The files of code that deps name; a folder stands for all modules and templates in it."""
    files: list[Path] = []
    for path in (ROOT / dep for dep in deps if dep.startswith(("src/", "stages/"))):
        inside = [p for p in path.rglob("*") if p.suffix in (".py", ".jinja")]
        files += inside if path.is_dir() else [path]
    return files


@pytest.mark.parametrize("stage", STAGES)
def test_deps_are_what_the_stage_imports(stage: str) -> None:
    deps = read_yaml(ROOT / "dvc.yaml")["stages"][stage]["deps"]
    assert sorted(code_in(deps)) == sorted(code_of(stage))
    assert len(deps) == len(set(deps))


def test_what_dvc_yaml_declares() -> None:
    stages = read_yaml(ROOT / "dvc.yaml")["stages"]
    files = {path.stem for path in (ROOT / "stages").glob("*.py")} - {"__init__"}
    assert files == set(STAGES)
    assert tuple(stages) == STAGES
    # DVC cannot restore a part of an output, so that none may be a dependency.
    made = {Path(out) for out in Project(ROOT).declared("outs", "metrics", "plots")}
    deps = {Path(dep) for stage in stages.values() for dep in stage["deps"]}
    assert not [(dep, out) for dep in deps for out in made if out in dep.parents]
    # A data.path is refused where any output lies.
    outs = Project(ROOT).declared("outs")
    assert {out for out in outs if not any(Path(out).is_relative_to(w) for w in WRITTEN)} == set()
    # All stages but the first wait for the check of all settings.
    checked = set(stages["check"]["outs"])
    assert all(checked <= set(stages[stage]["deps"]) for stage in STAGES[1:])
    assert set(stages["check"]["params"]) == set(read_yaml(ROOT / "params.yaml"))


@pytest.mark.pipeline
@pytest.mark.parametrize("stage", STAGES)
def test_stage_imports_and_reads_only_what_is_declared(elsewhere: Project, stage: str) -> None:
    told = elsewhere.folder.parent.parent / f"stages.{stage}.json"
    used = json.loads(told.read_text(encoding="utf-8"))
    declared = read_yaml(ROOT / "dvc.yaml")["stages"][stage]
    imported = {ROOT / Path(name).relative_to(elsewhere.folder) for name in used["files"]}
    assert imported <= set(code_in(declared["deps"]))
    heavy = {"torch", "polars"} & set(used["modules"])
    light = {"check": set(), **{key: {"polars"} for key in ("prepare", "split", "publish")}}
    assert heavy == light.get(stage, {"torch", "polars"})
    sections = set(read_yaml(ROOT / "params.yaml")) - {"seed"}
    read = set(used["settings"]) - sections  # a section by itself says nothing, its keys do
    assert {key for key in read if not {key, key.split(".")[0]} & {*declared["params"]}} == set()
    assert stage == "check" or read


@pytest.mark.pipeline
def test_repro_makes_all_that_is_declared_and_nothing_else(base: Project) -> None:
    said = (base.folder.parent / "reproduced.log").read_text(encoding="utf-8")
    assert stages_run(said) == list(STAGES)
    made = base.git("show", "--name-only", "--format=", "--diff-filter=A", "HEAD").split()
    in_git = base.declared("metrics", "plots") | {"dvc.lock", "metrics/card.md"}
    assert {name for name in made if not name.endswith(".gitignore")} == in_git
    for out in base.declared("outs"):
        assert (base.folder / out).exists(), out
    hidden = base.git("ls-files", "--others", "--ignored", "--exclude-standard").split()
    outs = tuple(base.declared("outs"))
    strays = [f for f in hidden if not f.startswith((".dvc/cache/", ".dvc/tmp/", *outs))]
    assert strays == []
    assert base.git("status", "--porcelain") == ""


@pytest.mark.pipeline
def test_forced_repro_elsewhere_makes_the_same_bytes(base: Project, elsewhere: Project) -> None:
    assert elsewhere.git("status", "--porcelain") == ""  # dvc.lock, metrics and plots
    expected, found = base.results(), elsewhere.results()
    assert {name for name, data in found.items() if data != expected[name]} == set()
    assert found.keys() == expected.keys()


@pytest.mark.pipeline
def test_stage_by_hand_names_the_stage_to_run_first(project: Project) -> None:
    for stage, missing, maker in (
        ("split", "data/prepared", "prepare"),
        ("train", "data/split/train", "split"),
        ("evaluate", "models", "train"),
        ("inspect", "data/prepared", "prepare"),
        ("publish", "metrics/inspect.json", "inspect"),
        ("publish", "models", "train"),
    ):
        place = project.folder / missing
        place.rename(project.folder / "aside")
        before = project.results()
        main = importlib.import_module(f"stages.{stage}").main
        said = f"^error: {missing}.* run `dvc repro {maker}` first"
        with pytest.raises(SystemExit, match=said), messages():
            main()
        assert project.results() == before
        (project.folder / "aside").rename(place)


@pytest.mark.pipeline
@pytest.mark.parametrize(
    ("change", "ran", "error"),
    [
        (
            {"split": {"train": 0.8}},
            ["check"],
            "= 1.1: the three fractions must add up to 1",
        ),
        (
            {"data": {"source": "folder", "path": "own"}},
            ["check", "prepare"],
            "error: own/ratings.csv, row 3: rating is 'lots'; allowed: a number from 0.5 to 5",
        ),
    ],
)
def test_bad_input_is_named_and_the_last_results_stay_or_come_back(
    project: Project, change: dict[str, dict[str, Any]], ran: list[str], error: str
) -> None:
    own = project.folder / "own"
    own.mkdir()
    (own / "movies.csv").write_text("movieId,title,genres\n1,Heat,Crime\n2,Up,Comedy|Drama\n")
    (own / "ratings.csv").write_text("userId,movieId,rating,timestamp\n7,1,4.5,9\n7,2,lots,9\n")
    before = project.results()
    project.change(change)
    said = project.dvc("exp", "run", status=255)
    assert stages_run(said) == ran
    assert error in said
    assert "Traceback" not in said
    if ran == ["check"]:  # before anything is lost; its own output is a constant line
        assert project.results() | {"data/checked": before["data/checked"]} == before
    assert project.git("for-each-ref", "refs/exps/*/*/*") == ""
    project.git("checkout", "--quiet", "params.yaml")
    assert stages_run(project.dvc("repro")) == []
    assert project.results() == before
