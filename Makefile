# Each target starts from nothing but Python (3.11 to 3.13) and pip.
#   make study    the mini study, from installation to results/mini/report.html (PYTHON=python3.12 chooses another)
#   make evidence the paper's questions in three runs, every guidance trained: more than an hour on two cores
#   make test     all tests that need no other program
#   make coverage lines of the library that the unit tests reach, by module; fails below 90 %
#   make bench    how fast this machine samples the tiny model, stage by stage
#   make bench-gpu   all numbers of docs/performance.md that need a GPU: full-size networks with random weights
#   make readme   writes the scores and verdicts of the studies that were run into README.md and docs
#   make chaos    kills, signals, damaged files and full disks on the smoke study, and whether its results stay the same
#   make rehearsal  the paper study's rules on full-size networks with random weights and tiny pictures: 25 GB of disk
#   make test-gpu      the sampler's numbers, memory and stages on a GPU
#   make test-system   the report in a real browser, the smoke study on a real Slurm; installs Debian's chromium,
#                  slurm-wlm and munge first (as root)
PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed
# Rules and tests call `stablevsr` and `snakemake` by name.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: chaos rehearsal study evidence test coverage bench bench-gpu readme test-gpu test-system lint

study: $(INSTALLED)
	snakemake --cores all --resources gpu=1

evidence: $(INSTALLED)
	snakemake --cores all --resources gpu=1 --config study=evidence

# A file's tests stay in one process, which makes what they share once; a process takes up to 2 GB.
UNIT := python -m pytest tests/unit tests/calibration -n logical --maxprocesses 4 --dist loadfile
test: $(INSTALLED)
	$(UNIT)
	python -m pytest tests/workflow

coverage: $(INSTALLED)
	$(UNIT) --cov --cov-report term --cov-fail-under 90

bench: $(INSTALLED)
	stablevsr bench

chaos: $(INSTALLED)
	python benchmarks/chaos.py $(CHAOS)

rehearsal: $(INSTALLED)
	python benchmarks/rehearsal.py $(REHEARSAL)

# In the order of what one wants to know most: a rented GPU may be gone before the end.
BENCH := stablevsr bench --device cuda --model random
bench-gpu: $(INSTALLED)
	mkdir -p results/bench
	$(BENCH) --size 320x180 --frames 4 --sequences 1 --steps 25 --cases all --out results/bench/reds.json
	$(BENCH) --size 480x270 --frames 2 --sequences 1 --steps 2 --cases bf16 --out results/bench/480x270.json
	$(BENCH) --size 960x540 --frames 2 --sequences 1 --steps 2 --cases bf16 --tile 192 --out results/bench/960x540.json
	python benchmarks/training.py --device cuda --model random --batch 8 --steps 20 --out results/bench/training.json
	$(BENCH) --size 112x64 --frames 7 --sequences 4 --steps 25 --cases published,exact,tf32,bf16,fast --out results/bench/vimeo.json
	for work in reds vimeo; do python benchmarks/flops.py results/bench/$$work.json --device cuda; done
	python benchmarks/metrics.py --device cuda --out results/bench/metrics.json

readme: $(INSTALLED)
	python docs/render_tables.py

test-gpu: $(INSTALLED)
	python -m pytest tests/gpu

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
