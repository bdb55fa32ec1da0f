# make run, make test: each sets up all it needs. Python 3.11+ and a compiler-free machine suffice.
.PHONY: setup run test test-all check bench lock slurm explain verify estimate prune export overview format clean
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
UV := uv==$(shell sed -n 's/^uv==\([^ ]*\).*/\1/p' envs/requirements.txt)
CORES ?= all
CONFIG ?= config.yaml
PYTHON ?= python3

# The environment alone.
setup: $(READY)

run: $(READY)
	$(BIN)/snakemake --cores $(CORES)

test: $(READY)
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow" $(ARGS)

# Before a release: also every kind of kill, runs of DM, GM and TM, every preset by a dry run, the page
# in a browser, and runs on Slurm, which needs root, Debian's packages, and `make slurm` before.
test-all: $(READY)
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint
	$(BIN)/python tests/prose.py

bench: $(READY)
	$(BIN)/python tests/bench/run.py

# Snakemake's plugin for Slurm: envs/slurm.txt, with checksums. Not part of the environment otherwise.
slurm: $(READY)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --requirement envs/slurm.txt

# These never set up or change the environment. Make reports no error where the reader of a pipe ends.
PIPED := || test $$? -eq 141

explain:
	@$(BIN)/python -m stillhouse.reporting.lineage "$(TARGET)" $(PIPED)

verify:
	@$(BIN)/python -m stillhouse.planning.verify "$(CONFIG)" $(PIPED)

export:
	@$(BIN)/python -m stillhouse.export "$(TARGET)" "$(FOLDER)" "$(CONFIG)"

overview:
	@$(BIN)/python -m stillhouse.reporting.page.overview

# Jobs, hours and bytes of a config before its run, on one GPU; with DEVICE=cpu on one CPU.
estimate:
	@$(BIN)/python -m stillhouse.planning.estimate "$(CONFIG)" $(DEVICE) $(PIPED)

# Artifacts that none of the configs refers to; deletes them after a yes.
prune:
	@$(BIN)/python -m stillhouse.planning.prune $(CONFIG) $(PIPED)

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow
	$(BIN)/python docs/config_table.py
	$(BIN)/python docs/architecture_names.py
	$(BIN)/python docs/published_signatures.py
	PYTHONPATH=.:tests $(BIN)/python docs/rerun_table.py
	PYTHONPATH=. $(BIN)/python docs/rule_graph.py

lock: $(READY)
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --extra dev --output-file envs/requirements.txt pyproject.toml
	$(BIN)/python envs/conda_env.py
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-annotate --constraint envs/requirements.txt \
	  --output-file envs/slurm.txt envs/slurm.in

$(READY): envs/requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is \
	needed: make PYTHON=python3.12, say")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check $(UV)
	$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python envs/requirements.txt
	$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --python $(BIN)/python --editable .
	touch $@

clean:
	rm -rf results .snakemake
