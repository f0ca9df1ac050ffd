# Two commands: `make audit` runs both demonstration audits, `make test` passes every check.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
WORKERS ?= 2
.DEFAULT_GOAL := help

.PHONY: help audit test test-long lint types layers format clean

help:  ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(DEV_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt zennit || echo "zennit could not be installed: its comparison tests will be skipped"
	touch $@

audit: $(STAMP)  ## both demonstration audits, two PDF reports in out/
	$(BIN)/relevance-audit demo --out out

test: $(DEV_STAMP) lint types layers  ## every check and the tests
	$(BIN)/python -m pytest -n $(WORKERS)

test-long: $(DEV_STAMP)  ## the long tests as well
	$(BIN)/python -m pytest -n $(WORKERS) -m "long or not long"

lint: $(DEV_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(DEV_STAMP)
	$(BIN)/mypy

layers: $(DEV_STAMP)
	$(BIN)/lint-imports

format: $(DEV_STAMP)  ## format and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## everything that was made
	rm -rf $(VENV) out build dist *.egg-info
