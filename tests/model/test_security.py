"""What docs/guide/security.md promises of the code, the repository and the packages."""

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from genre_embeddings import storage
from tests.conftest import ROOT
from tests.licences import licence_of, pinned
from tests.trained import train_project

EXECUTING = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
"""Modules that run what they read."""
COPYLEFT = {"asyncssh", "dulwich", "grandalf", "pygit2"}
ALLOWED = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD", "BSD-2-Clause", "BSD-3-Clause",
    "BSL-1.0", "CC0-1.0", "EPL-1.0", "EPL-2.0", "GPLv2 with linking exception", "ISC", "MIT",
    "MIT-0", "MIT-CMU", "MPL-2.0", "PSF-2.0", "ZPL-2.1", "Zlib",
}  # fmt: skip
SECRETS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|\b(AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|\b(gh[pousr]_|github_pat_|glpat-|hf_|sk-|xox[abprs]-|pypi-|dop_v1_)[A-Za-z0-9_-]{20,}"
    r"|\bAIza[0-9A-Za-z_-]{35}\b"
    r"|\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\."
    r"|\b[a-z][a-z0-9+.-]*://[^\s/:@{}$<>'\"]+:(?=[^\s/@]*\d)[^\s/@{}$<>'\"]+@"
    r"|(?i:\b(password|passwd|secret|token|api_?key|access_key_id)\b['\"]?\s*[:=]\s*['\"]?(?=[^\s'\"]*\d)[^\s'\"(){}<>$,;]{12,})"
)
SECRET_FILES = re.compile(
    r"(^|/)(\.env[^/]*|\.netrc|\.pypirc|id_(rsa|dsa|ecdsa|ed25519)|config\.local|credentials[^/]*"
    r"|[^/]+\.(pem|key|p12|pfx|jks|kdbx))$"
)


def listed() -> list[str]:
    """Files that are in the repository, or would be with the next `git add`."""
    done = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return [name for name in done.stdout.split("\0") if (ROOT / name).is_file()]


def sources() -> list[str]:
    return [
        name
        for name in listed()
        if name == "genres" or (name.endswith(".py") and name.startswith(("src/", "stages/")))
    ]


def given(call: ast.Call, name: str) -> object:
    """The constant that a call gives for a keyword, or None."""
    values = [k.value for k in call.keywords if k.arg == name]
    return values[0].value if values and isinstance(values[0], ast.Constant) else None


def offences(tree: ast.AST) -> list[str]:
    """What could run somebody else's code, in a module."""
    found = []
    for node in ast.walk(tree):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        found += [name for name in modules if name.split(".")[0] in EXECUTING | COPYLEFT]
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        last = name.rpartition(".")[2]
        if name in ("eval", "exec", "compile", "__import__") or last in ("read_pickle", "system"):
            found.append(name)
        if name == "torch.load" or "ckpt_path" in {k.arg for k in node.keywords}:
            found += [name] if given(node, "weights_only") is not True else []
        if name in ("np.load", "np.save", "numpy.load", "numpy.save"):
            found += [name] if given(node, "allow_pickle") is not False else []
        if name == "YAML" and given(node, "typ") not in ("safe", "rt", None):
            found.append(name)
        if given(node, "shell") or name in ("yaml.load", "torch.jit.load"):
            found.append(name)
    return found


@pytest.mark.parametrize(
    "code",
    [
        "import pickle", "from joblib import load", "torch.load(path)", "np.load(path)",
        "np.load(path, allow_pickle=True)", "trainer.fit(model, ckpt_path=path)", "eval('1')",
        "torch.load(path, weights_only=False)", "subprocess.run('ls', shell=True)",
        "YAML(typ='unsafe')", "import pygit2",
    ],
)  # fmt: skip
def test_the_search_finds(code):
    assert offences(ast.parse(code))


def test_nothing_that_is_read_is_executed():
    assert len(sources()) > 30
    found = {
        name: said
        for name in sources()
        if (said := offences(ast.parse((ROOT / name).read_text(encoding="utf-8"))))
    }
    assert not found


AUDIT = """
import sys
folder = sys.argv.pop(1)
def hook(event, arguments):
    said = "\\t".join(map(str, arguments[:2]))
    if event in ("subprocess.Popen", "os.system", "os.exec", "pickle.find_class"):
        print("EVENT", event, said, sep="\\t")
    if event in ("open", "import", "exec", "compile", "ctypes.dlopen") and folder in said:
        print("EVENT", event, said, sep="\\t")
from genre_embeddings.inference.explain import explain
from genre_embeddings.inference.trained import open_model
from pathlib import Path
sys.path.insert(0, folder)  # as it is where the folder is also the working directory
sys.addaudithook(hook)
model = open_model(Path(folder))
explain(model, 1, 1)
"""


def test_opening_a_model_runs_nothing_of_its_folder(tmp_path):
    folder = train_project(tmp_path) / storage.MODEL
    boom = 'raise SystemExit("it was run")'
    names = ("torch", "numpy", "safetensors", "sitecustomize", "genre_embeddings", "__init__")
    for name in names:
        (folder / f"{name}.py").write_text(boom)
    torch.save({"a": 1}, folder / "model.pt")
    (folder / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "torch.Model"}}))
    done = subprocess.run(
        [sys.executable, "-c", AUDIT, folder],
        capture_output=True, text=True, check=True, cwd=ROOT,
        env={"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    events = [line for line in done.stdout.splitlines() if line.startswith("EVENT")]
    opened = {Path(line.split("\t")[2]).name for line in events}
    assert opened == {"model.safetensors", "tables.json"}
    assert all(line.startswith("EVENT\topen\t") for line in events)


FOR_GPUS = re.compile(r"(nvidia|cuda)-|triton$")


def required(names: list[str], extra: str = "") -> set[str]:
    """The packages that requirements bring on this machine, the required ones included."""
    found: set[tuple[str, str]] = set()
    open_ends = [(name, extra) for name in names]
    while open_ends:
        line, wanted = open_ends.pop()
        needed = Requirement(line)
        if needed.marker and not needed.marker.evaluate({"extra": wanted}):
            continue
        assert needed.specifier.contains(version(needed.name), prereleases=True), line
        for option in ("", *needed.extras):
            if (needed.name, option) not in found:
                found.add((needed.name, option))
                open_ends += [(one, option) for one in requires(needed.name) or []]
    return {canonicalize_name(name) for name, _ in found}


def test_every_version_is_pinned_and_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = [line for extra in project["optional-dependencies"].values() for line in extra]
    pins = {canonicalize_name(name): pin for name, pin in pinned().items()}
    needed = required(project["dependencies"] + optional)
    # What a build of torch for GPUs brings, in versions that it names itself
    needed = {name for name in needed if name in pins or not FOR_GPUS.match(name)}
    assert needed - set(pins) == set()
    installed = {name: version(name).partition("+")[0] for name in needed}
    assert installed == {name: pins[name] for name in needed}


def test_licences_are_allowed():
    for name in pinned():
        try:
            licence = licence_of(name)
        except PackageNotFoundError:
            continue
        parts = re.sub("[()]", "", licence).split(" AND ")
        assert all(set(part.split(" OR ")) & ALLOWED for part in parts), (name, licence)


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN RSA " + "PRIVATE KEY-----",
        "AKIA" + "IOSFODNN7EXAMPLE",
        "ghp_" + "0123456789abcdefghijABCDEFGHIJ012345",
        "https://ann:" + "hunter2@example.org/x",
        'password = "' + 'correct1horse"',
        "secret_access" + "_key: x, token: " + "abc123abc123abc123",
    ],
)
def test_the_search_finds_a_secret(text):
    assert SECRETS.search(text)


def test_no_secrets_are_in_the_repository():
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("no repository")
    names = listed()
    assert not [name for name in names if SECRET_FILES.search(name)]
    found = []
    for name in names:
        text = (ROOT / name).read_bytes().decode("utf-8", "replace")
        found += [f"{name}: {hit[0][:60]}" for hit in SECRETS.finditer(text)]
    assert not found
