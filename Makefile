# make demo   sets everything up and runs the main job
# make test   sets everything up and passes the checks and the tests
# make check  style, types and the tests that end soon: before a commit
# make docs   the pages of docs/ as a site, in site/, which can be read offline; docs-serve shows them while you write
# make tiny-suite   trains and packs the dataset that comes with madyn
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo check test lint docs docs-serve tiny-suite clean

setup: $(STAMP)

# torch first and alone: an open requirement elsewhere would fetch its CUDA build.
$(STAMP): pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25"
	$(BIN)/python -m pip install --quiet --constraint requirements.lock torch
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable ".[all,docs,dev]"
	touch $(STAMP)

demo: setup
	$(BIN)/madyn demo --out demo/

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright

# The tests that take a moment each, which reach nine lines in ten of the package all the same.
check: lint
	$(BIN)/python -m pytest --quiet --numprocesses 2 -m "not slow and not long"

test: lint
	$(BIN)/python -m pytest --numprocesses 2 --cov --cov-report term:skip-covered --cov-fail-under 90

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-serve: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

# The dataset that comes with madyn, made again: about five hours of one core.
tiny-suite: setup
	$(BIN)/madyn lab tiny-suite --out build/tiny-suite
	cp LICENSE build/tiny-suite/
	$(BIN)/madyn fit build/tiny-suite
	$(BIN)/python -c "from pathlib import Path; from madyn.dataset.shipped import pack_dataset; \
	    pack_dataset(Path('build/tiny-suite'), Path('src/madyn/data/tiny-suite.tar.xz'))"

clean:
	rm -rf $(VENV) demo site
