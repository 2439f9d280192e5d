# Everything runs in .venv of this checkout, built on first use and rebuilt when a requirements file changes.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check -q
JOBS   ?= 2

.PHONY: demo test test-full check bench install harnesses clean

## demo: from nothing to the table: a tiny model answers pictures, pruned by DivPrune at 88.9 %
demo: $(VENV)/.core
	$(BIN)/python -m unibench

## test: from nothing: the default tests
test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS)

## test-full: every test, the slow ones too
test-full: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) -m ""

## check: lint, format, types
check: $(VENV)/.dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/pyright

## bench: what selecting, hooks and start-up cost, as ratios in one run; tables in results/bench
bench: $(VENV)/.core
	for page in startup attention_signal overhead prefill selectors; do OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.$$page || exit 1; done

## install: unibench alone, without the harnesses
install: $(VENV)/.core

## harnesses: VLMEvalKit and lmms-eval beside it
harnesses: $(VENV)/.harnesses

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: $(VENV)/bin/python requirements/core.txt pyproject.toml
	$(PIP) install "$$(grep '^torch==' requirements/core.txt)"
	$(PIP) install -r requirements/core.txt
	$(PIP) install --no-deps -e .
	touch $@

$(VENV)/.harnesses: $(VENV)/.core requirements/harness.txt requirements/harness-nodeps.txt
	$(PIP) install -r requirements/harness.txt -c requirements/core.txt
	$(PIP) install --no-deps -r requirements/harness-nodeps.txt
	touch $@

$(VENV)/.dev: $(VENV)/.harnesses requirements/dev.txt
	$(PIP) install -r requirements/dev.txt -c requirements/core.txt
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
