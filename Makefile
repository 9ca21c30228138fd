# Two commands: `make demo` shows the whole chain on data that it makes, `make test` checks everything.
# PYTHON chooses the interpreter (3.11 or newer), VENV the place of the virtual environment.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SOURCES := $(shell find tools -type f -not -path '*/__pycache__/*') pyproject.toml
WHEEL_DIR := $(VENV)/wheel
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo demo-spi test lint check help clean

help:
	@echo "make demo   set up, then simulate, process, merge and report a small data set"
	@echo "make demo-spi  the same for single particles"
	@echo "make test   set up, then run every check and test"
	@echo "make lint   only the checks of form: ruff, mypy, import-linter, snakefmt, snakemake --lint"
	@echo "make clean  remove the virtual environment and build products"

# pip is the last that venv makes: where it failed halfway, for want of python3-venv, the next make begins anew.
$(BIN)/pip:
	$(PYTHON) -m venv $(VENV)

# The kernels are compiled once, into a wheel that demo and test both install; it is the interpreter's own, so the
# environment keeps it.
$(WHEEL_DIR)/.built: $(BIN)/pip $(SOURCES)
	rm -f $(WHEEL_DIR)/*.whl
	$(PIP) wheel --quiet --no-deps --wheel-dir $(WHEEL_DIR) .
	@touch $@

# pip leaves a wheel alone whose version is installed already, so ours is put over it by force, and then what it needs.
$(VENV)/.installed: $(WHEEL_DIR)/.built constraints.txt
	$(PIP) install --quiet --no-deps --force-reinstall $(WHEEL_DIR)/*.whl
	$(PIP) install --quiet -c constraints.txt $(WHEEL_DIR)/*.whl
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) install --quiet -c constraints.txt "$$(echo $(WHEEL_DIR)/*.whl)[test,mpi,parsl,parquet]"
	@touch $@

demo: $(VENV)/.installed
	PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --profile profiles/local --configfile workflows/config/demo.yaml
	@echo
	@echo "The report: $(CURDIR)/results/demo/000/report/report.html"

demo-spi: $(VENV)/.installed
	PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --profile profiles/local --configfile workflows/config/demo_spi.yaml
	@echo
	@echo "The report: $(CURDIR)/results/demo_spi/000/report/report.html"

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/snakefmt --check workflows
	PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --profile profiles/local --configfile workflows/config/demo.yaml --lint

test: lint
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest

clean:
	rm -rf $(VENV) build
