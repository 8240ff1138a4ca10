# Everything runs in a virtual environment of its own, .venv; PYTHON names another interpreter.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
READY_TEST := $(VENV)/.ready-test
# DVC does not add its own environment to PATH, so that `python` in dvc.yaml would be missing.
CALLERS_PATH := $(PATH)
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help install repro doctor test lint typecheck docs bench clean

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(READY) ## set up the environment .venv for the pipeline

# Installs a list of requirements from pyproject.toml, without the project itself.
define install
$(VENV)/bin/python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
print(*$(1), sep='\n')" > $(VENV)/requirements.txt
$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check \
-c constraints.txt -r $(VENV)/requirements.txt
@touch $@
endef

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(call install,p['dependencies'])

# The tests need all extras. They come on top of what the pipeline needs.
$(READY_TEST): $(READY)
	$(call install,[line for extra in p['optional-dependencies'].values() for line in extra])

repro: $(READY) ## run the whole pipeline (dvc repro)
	dvc repro

doctor: ## find what commonly breaks experiments, and how to mend it
	@PATH="$(CALLERS_PATH)" PYTHONPATH=src $(PYTHON) -m genre_embeddings.doctor

test: $(READY_TEST) lint typecheck ## lint, type check and test
	python -m pytest -n auto --dist worksteal

lint: $(READY_TEST) ## check style and formatting (ruff)
	ruff check .
	ruff format --check .

typecheck: $(READY_TEST) ## check types (mypy)
	mypy

# The public part of the Python API, from its docstrings
API ?= docs/api
docs: $(READY_TEST) ## write the pages of the Python API to docs/api (pdoc)
	PYTHONPATH=src python -W "ignore:Error parsing type annotation" -m pdoc --docformat google --no-show-source \
	-o $(API) genre_embeddings '!genre_embeddings\.(?!inference|experiments|errors|storage).*' \
	'!genre_embeddings\.inference\.(posterior|pyfunc)'

bench: $(READY_TEST) ## list the benchmarks; run one with `python -m benchmarks.NAME`
	@head -n 40 benchmarks/README.md

clean: ## remove the environment and caches (data, models and the DVC cache stay)
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis .coverage htmlcov dvc_plots docs/api
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
