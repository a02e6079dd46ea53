# `make demo` and `make test` need nothing but Python 3.10+ (with venv): they set up .venv by themselves.
# Choose the interpreter with `make test PYTHON=python3.12`.

PYTHON ?= python3
# Of the tests: processes, and threads of each.
TEST_PROCESSES ?= 2
TEST_THREADS ?= 1

VENV := .venv
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
CODE := src tests examples utils metrics space
DEMO := out/demo
DEMO_PROMPTS := "a red bus" "a blue fish" "a green tree" "a yellow star" "a purple mushroom" "an orange cat"

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test test-slow test-reliability test-machines coverage style quality repo-consistency \
	docs dist clean

help: ## List the commands.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-18s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

install: $(INSTALLED) ## Create .venv and install the package in it, editable, with its demo and dev extras.

# A failed or interrupted installation leaves no stamp and is repeated; an environment without a working pip is rebuilt.
$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 10) and "itit_hf needs Python 3.10 or newer, but $(PYTHON) is %d.%d; name another with PYTHON=..." % v[:2])'
	@$(RUN) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(RUN) -m pip install --disable-pip-version-check -c constraints.txt -e '.[demo,dev]'
	@touch $@

demo: $(INSTALLED) ## Generate images of six prompts with the committed checkpoint, and caption one of them.
	$(RUN) examples/generate_image.py $(DEMO_PROMPTS) --output_dir $(DEMO)
	$(RUN) examples/caption_image.py $(DEMO)/00-a-red-bus.png
	@echo "The images are in $(CURDIR)/$(DEMO)/grid.png"

# One thread per process: PyTorch's threads, when they compete for the cores, are several times slower than one.
# Offline: no test may depend on a download.
test test-slow test-reliability coverage: export OMP_NUM_THREADS := $(TEST_THREADS)
test test-slow test-reliability coverage: export HF_HUB_OFFLINE := 1
test test-slow test-reliability coverage: export TOKENIZERS_PARALLELISM := false

test: $(INSTALLED) ## Run the default tests: offline, on the CPU.
	$(RUN) -m pytest -n $(TEST_PROCESSES)

test-slow: $(INSTALLED) ## Run the slow tests: trainings, several processes, real checkpoints.
	$(RUN) -m pytest -m slow --ignore tests/reliability

test-reliability: $(INSTALLED) ## Measure what changed of the figures of docs/reliability.md, and write its table.
	$(RUN) utils/measure_reliability.py

test-machines: $(INSTALLED) ## Run the default tests with the kernels and threads of other machines, and write docs/reliability.md's table.
	$(RUN) utils/test_machines.py

coverage: $(INSTALLED) ## Run the default tests, and say which lines of the package they run.
	$(RUN) -m pytest -n $(TEST_PROCESSES) --cov --cov-report=term:skip-covered

style: $(INSTALLED) ## Sort imports, fix what can be fixed, format, and mend the docs' links to lines of code.
	$(RUN) -m ruff check --fix $(CODE)
	$(RUN) -m ruff format $(CODE)
	$(RUN) utils/check_code_links.py --fix

quality: $(INSTALLED) repo-consistency ## Check lint, format, types, rooms, rules and links to lines of code.
	$(RUN) -m ruff check $(CODE)
	$(RUN) -m ruff format --check $(CODE)
	$(RUN) -m mypy

repo-consistency: ## Check rooms, rules and links to lines of code; needs no installation.
	$(PYTHON) utils/check_imports.py
	$(PYTHON) utils/check_repo.py
	$(PYTHON) utils/check_code_links.py

docs: $(INSTALLED) ## Build the documentation's site in out/site; a warning is an error.
	$(RUN) -m pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict

# TAG is that of a release, such as v0.1.0, and may be left out.
dist: $(INSTALLED) ## Build sdist and wheel, check them, and use the wheel in a new environment.
	$(RUN) -m pip install --disable-pip-version-check --quiet -c constraints.txt build twine
	rm -rf build dist
	$(RUN) -m build
	$(RUN) -m twine check --strict dist/*
	$(RUN) utils/check_distribution.py dist $(if $(TAG),--tag $(TAG))

clean: ## Remove the environment, caches and the demo's images.
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .coverage build dist src/*.egg-info $(DEMO) out/site
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
