"""Promises of docs/guide/security.md about the code, the repository and the packages."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import requires, version
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from genre_embeddings import storage
from genre_embeddings.model.serialization import save_model
from tests.conftest import ROOT
from tests.licences import by_licence, pinned
from tests.project import listed

EXECUTES = re.compile(
    r"\b(import|from) +(\w*pickle|dill|joblib|shelve|marshal)\b"
    r"|(?<![\w.])(eval|exec|compile|__import__|os\.system|yaml\.load|torch\.jit\.load)\("
    r"|read_pickle|allow_pickle=True|weights_only=False|shell=True"
    r"|(torch\.load\(|ckpt_path=)(?!.*weights_only=True)"
)
"""Code that runs what it reads."""
COPYLEFT = re.compile(r"\b(import|from) +(asyncssh|dulwich|grandalf|pygit2)\b")
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


def test_nothing_that_is_read_is_executed():
    for code in ("import pickle", "torch.load(path)", "x = eval('1')", "fit(ckpt_path=path)"):
        assert EXECUTES.search(code)
    sources = [
        ROOT / name
        for name in listed()
        if name == "genres" or (name.endswith(".py") and name.startswith(("src/", "stages/")))
    ]
    assert len(sources) > 30
    for path in sources:
        text = path.read_text(encoding="utf-8")
        assert not EXECUTES.search(text), path
        assert not COPYLEFT.search(text), path


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


def test_opening_a_model_runs_nothing_of_its_folder(written):
    folder = storage.MODEL.absolute()
    save_model(written.network(), written.sides["train"])
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


def add_required(line: str, extra: str, found: set[tuple[str, str]]) -> None:
    """Add the package of a requirement, and all that it brings on this machine."""
    needed = Requirement(line)
    if needed.marker and not needed.marker.evaluate({"extra": extra}):
        return
    for option in ("", *needed.extras):
        if (needed.name, option) not in found:
            found.add((needed.name, option))
            for one in requires(needed.name) or []:
                add_required(one, option, found)


def test_every_version_is_pinned_and_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = {canonicalize_name(name): pin for name, pin in pinned().items()}
    found: set[tuple[str, str]] = set()
    for lines in (project["dependencies"], *project["optional-dependencies"].values()):
        for line in lines:
            add_required(line, "", found)
    # A build of torch for GPUs names the versions of what it brings itself.
    needed = {name for one, _ in found if not FOR_GPUS.match(name := canonicalize_name(one))}
    installed = {name: version(name).partition("+")[0] for name in needed}
    assert installed == {name: pins.get(name) for name in needed}


def test_licences_are_allowed():
    for licence, names in by_licence().items():
        parts = re.sub("[()]", "", licence).split(" AND ")
        assert all(set(part.split(" OR ")) & ALLOWED for part in parts), (names, licence)


def test_no_secrets_are_in_the_repository():
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("no repository")
    samples = ("AKIA" + "IOSFODNN7EXAMPLE", 'password = "' + 'correct1horse"', "ghp_" + "0a" * 18)
    assert all(SECRETS.search(sample) for sample in samples)
    names = listed()
    assert not [name for name in names if SECRET_FILES.search(name)]
    for name in names:
        text = (ROOT / name).read_bytes().decode("utf-8", "replace")
        assert not SECRETS.search(text), name
