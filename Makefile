# The commands of Tarn. `make run` and `make test` need git, make, Python 3.11 and Java 17 only.
.DEFAULT_GOAL := help
.PHONY: help run chat ui test test-all check clean-state
export PYTHONUNBUFFERED = 1

# Test files in two processes: half of the time tests wait for services to start.
TWO_AT_ONCE = -n 2 --dist loadfile --no-loadscope-reorder

help:
	@echo "make run          materialize the whole graph with the tiny recipe"
	@echo "make chat         talk to the model that came out"
	@echo "make ui           open Dagster and MLflow"
	@echo "make test         run the tests; make test-all runs the slow ones as well"
	@echo "make check        format, lint, types"
	@echo "make clean-state  remove var/: lake, runs, databases"

.venv/installed: pyproject.toml constraints.txt infra/install.sh
	@./infra/install.sh

run: .venv/installed
	@.venv/bin/tarn run

chat: .venv/installed
	@exec .venv/bin/tarn chat

ui: .venv/installed
	@exec .venv/bin/tarn ui

test: .venv/installed
	@.venv/bin/python -m pytest -q $(TWO_AT_ONCE)

test-all: .venv/installed
	@.venv/bin/python -m pytest -q $(TWO_AT_ONCE) -m "slow or not slow"

check: .venv/installed
	@.venv/bin/ruff format --check --quiet .
	@.venv/bin/ruff check --quiet .
	@.venv/bin/mypy

clean-state:
	@rm -rf "$${TARN_HOME:-var}"
