# Everything a newcomer or a machine runs. Each target makes the environment first; it is not redone until
# pyproject.toml changes.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
# What may behave differently under another Python or hash seed.
MATRIX := tests/core tests/crash $(addprefix tests/integrations/test_, agents_sdk.py httpx_openai.py langgraph.py pydantic_ai.py)
# One worker a core. More than four only take time from the processes that the tests start and kill.
WORKERS := -n auto --maxprocesses 4 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format test-matrix bench clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv with Holdfast and its tools

$(STAMP): pyproject.toml .ci/venv .ci/python
	@python=$$(.ci/python '$(PYTHON)' 3.13 3.12 3.11) && .ci/venv .venv "$$python" dev,examples,server
	@touch $@

demo: setup ## kill an agent in the middle of a turn, start it again, see what was not paid twice
	@$(BIN)/python -m examples.demo

test: check ## every check and every test; about ten minutes on two cores
	$(BIN)/python -m pytest $(WORKERS)

check: setup ## lint, format, types, who imports whom, sizes
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m pytest --quiet tests/tidy

format: setup ## rewrite the layout the way 'check' wants it
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

test-matrix: setup ## what depends on Python version or hash seed, under every other Python found here
	.ci/matrix $(WORKERS) $(MATRIX)

bench: setup ## the measurements, one JSON line each, against this disk's raw limit
	@$(BIN)/python -m benchmarks $(BENCH)

clean: ## remove environments and what tools left behind
	rm -rf .venv .venv-3.* .venv-oldest .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
