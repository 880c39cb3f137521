.PHONY: setup demo data test test-core test-all lint docs results clean
PYTHON ?= python3
WORKDIR ?= runs/demo
BIN := .venv/bin
# Test processes; each takes up to 6 GiB.
JOBS ?= 2

# Everything lives in .venv: nothing system-wide. PyTorch comes by pip, which finds builds for CPUs where an index has
# them; uv would take the one for GPUs. The stamp makes later calls free until a requirement changes.
setup: .venv/ready
.venv/ready: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check uv
	$(BIN)/python -m pip install -q --disable-pip-version-check torch==2.13.0
	$(BIN)/uv pip install -q --python $(BIN)/python --compile-bytecode -e '.[dev,box2d]'
	touch $@

demo: setup
	$(BIN)/python launch.py record --config=configs/demo.py --workdir=$(WORKDIR)
	$(BIN)/python launch.py train --config=configs/demo.py --workdir=$(WORKDIR)
	$(BIN)/python launch.py imagine --workdir=$(WORKDIR)

# Packages that data sets are made of (245 MB in all), into ~/.cache/world_models/sources or $$WORLD_MODELS_SOURCES.
data: setup
	$(BIN)/python -m world_models.data.sources

test: setup
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m 'not slow'

# Models, data and the training loop: no tools, no commands.
test-core: setup
	$(BIN)/python -m pytest tests/world_models tests/experiments/training -n $(JOBS) --dist worksteal -m 'not slow'

# Also the slow tests.
test-all: setup
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal --timeout=900

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The documentation site, in site/; any warning is an error.
docs: .venv/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo site/index.html
.venv/docs: .venv/ready
	$(BIN)/uv pip install -q --python $(BIN)/python -e '.[docs]'
	touch $@

# The pages in docs/results/ and the README's overview, from the JSON in results/.
results: setup
	$(BIN)/python -m experiments.reports.results

clean:
	rm -rf .venv runs site
