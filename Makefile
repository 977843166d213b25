# make quickstart   install, then run the main job on the embedded default
# make test         install, then pass the tests
.PHONY: install quickstart test test-slow lint types check clean

PYTHON ?= python3
BIN := .venv/bin

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

quickstart: install
	bash recipes/quickstart.sh $(BIN)/sftgo

test: install
	$(BIN)/python -m pytest -n 2 -m "not slow" --cov=sftgo_cli --cov-report=term:skip-covered --cov-fail-under=90

test-slow: install
	$(BIN)/python -m pytest -m slow

lint: install
	$(BIN)/ruff check sftgo_cli tests benchmarks
	$(BIN)/ruff format --check sftgo_cli tests benchmarks

types: install
	$(BIN)/mypy

check: lint types test

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
