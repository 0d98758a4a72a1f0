# What a contributor needs, in five words.
PYTHON ?= .venv/bin/python

.PHONY: install fast test golden check

install: ## a virtual environment with everything
	python3 -m venv .venv && .venv/bin/pip install -q -e ".[test]"

fast: ## the fast lane
	$(PYTHON) -m pytest -m "not slow" tests

test: ## everything, as CI runs it
	$(PYTHON) -m pytest

golden: ## rewrite what tests compare with; then read the diff
	$(PYTHON) -m pytest --update-golden tests/reports tests/test_readme.py

check: ## style and types
	$(PYTHON) -m ruff check . && $(PYTHON) -m ruff format --check . && $(PYTHON) -m mypy
