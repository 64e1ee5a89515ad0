# Each target starts from nothing but Python (3.11 to 3.13) and pip.
#   make study    the mini study, from installation to results/mini/report.html (PYTHON=python3.12 chooses another)
#   make test     all tests that need no other program
#   make bench    how fast this machine samples the tiny model, stage by stage
#   make test-system   the report in a real browser, the smoke study on a real Slurm; installs Debian's chromium,
#                  slurm-wlm and munge first (as root)
PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed
# Rules and tests call `stablevsr` and `snakemake` by name.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: study test bench test-system lint

study: $(INSTALLED)
	snakemake --cores all --resources gpu=1

test: $(INSTALLED)
	python -m pytest tests/unit
	python -m pytest tests/workflow

bench: $(INSTALLED)
	stablevsr bench

test-system: $(INSTALLED)
	command -v chromium > /dev/null || apt-get install -y chromium
	command -v sbatch > /dev/null || apt-get install -y slurm-wlm munge
	python -m pip install --disable-pip-version-check --quiet -c requirements.lock -e ".[slurm]"
	python -m pytest tests/system

lint: $(INSTALLED)
	ruff check .
	ruff format --check .
	mypy
	snakefmt --check Snakefile workflow ablations

# A hand-made environment is left alone: only .venv in this folder is used.
$(INSTALLED): pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --disable-pip-version-check --quiet -c requirements.lock -e ".[study,dev]"
	touch $@
