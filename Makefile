# Everything runs inside .venv; nothing outside the checkout is changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
UI_PORT ?= 5000

.DEFAULT_GOAL := help
.PHONY: help install install-dev demo test docs ui lint check format clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.installed ## create .venv with the package

install-dev: $(VENV)/.installed-dev ## the same with the development tools

demo: $(VENV)/.installed ## simulate a measurement, write the file, fit it, compare with the truth
	@$(BIN)/python -m homodyne.cli.demo

test: $(VENV)/.installed-dev ## fast test suite
	@$(BIN)/python -m pytest -n 2

docs: $(VENV)/.installed-dev ## the documentation site: docs/_build/html/index.html; warnings are errors
	@$(BIN)/python -m sphinx -W --keep-going -q -c docs -b html . docs/_build/html
	@echo "docs/_build/html/index.html"

ui: $(VENV)/.installed ## MLflow's user interface on 127.0.0.1:5000 (other port: make ui UI_PORT=5001)
	@mkdir -p outputs
	@echo "MLflow at http://127.0.0.1:$(UI_PORT) in about 20 s; Ctrl-C stops it"
	@MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false PYTHONWARNINGS=ignore \
		$(BIN)/python -m mlflow ui --host 127.0.0.1 --port $(UI_PORT) --workers 1 \
		--backend-store-uri "sqlite:///$(CURDIR)/outputs/mlflow.db" \
		--default-artifact-root "file://$(CURDIR)/outputs/artifacts"

lint: $(VENV)/.installed-dev ## style, types and import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: $(VENV)/.installed-dev ## apply the style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

check: lint test ## what has to pass before a merge

clean: ## remove .venv and caches; outputs/ stays
	rm -rf $(VENV) build dist docs/_build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@command -v $(PYTHON) > /dev/null || { echo "no $(PYTHON) found: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is older than 3.11: make PYTHON=/path/to/newer ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	@echo "installing the package into $(VENV) (about a minute, once) ..."
	@$(PIP) install -e . 2> $(VENV)/pip.log || { cat $(VENV)/pip.log; exit 1; }
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	@echo "installing the package with its development tools into $(VENV) ..."
	@$(PIP) install -e '.[dev]' 2> $(VENV)/pip.log || { cat $(VENV)/pip.log; exit 1; }
	@touch $(VENV)/.installed $@
