# make quickstart   install, then run the main job on the embedded default
# make test         install, then pass the tests
# make benchmark    install the peers, measure beside them (under 20 minutes), write benchmarks/results and docs/performance.md
.PHONY: install quickstart test test-slow lint types check benchmark clean

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

benchmark: .venv/benchmarks
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/tfidf.py
	$(BIN)/python benchmarks/step_scope.py
	$(BIN)/python benchmarks/loss_head.py --rounds 2
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/report.py

.venv/benchmarks: .venv/installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[benchmarks]'
	touch $@

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
