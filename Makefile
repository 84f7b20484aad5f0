# For everyday work, with the environment of the README's second line:
#     make quick    without what takes seconds (OpenVINO, torch, CDK): under a minute on two idle cores
#     make test     all tests that need no root: about a quarter of an hour
#     make lint     style, types, import contracts
#     make docs     the documentation, in build/docs
#     .ci/run       all of that and more, in a new environment, and the tests that need root
BIN := .venv/bin

.PHONY: quick test lint
quick:
	$(BIN)/pytest -m "not engine and not slow and not root"

test:
	$(BIN)/pytest

lint:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The lock files of the images, from PyPI and PyTorch's index; torch in the version of the `dev` extra.
.PHONY: lock
lock:
	$(BIN)/python docker/lock.py

# The image's packages on an emulated Arm processor. Needs root; a few minutes.
.PHONY: arm64-check
arm64-check:
	PYTHONPATH=tests $(BIN)/python -m support.arm64

# Benchmarks: Linux on x86-64, Python 3.11, about 17 GB of disk. `make bench` takes about 50 minutes on two idle cores
# once environments and models exist (an hour the first time), and `make bench-check` four.
PYTHON ?= python3.11
ROUNDS ?= 3
RUN := PYTHONPATH=tests build/bench/environments/suite/bin/python -m

.PHONY: bench bench-environments bench-models bench-run bench-report bench-check bench-ratios
bench: bench-run bench-report

bench-environments:
	$(PYTHON) tests/benchmarks/environments.py

bench-models: bench-environments
	$(RUN) benchmarks.tiny_sd

# Continues an interrupted run; remove build/bench/results.json to start over.
bench-run: bench-models
	$(RUN) benchmarks.run --rounds $(ROUNDS)

bench-report:
	$(RUN) benchmarks.report

# Exits with 1 if a ratio to diffusers is worse than the committed one.
bench-check: bench-models
	$(RUN) benchmarks.check --rounds $(ROUNDS)

bench-ratios: bench-models
	$(RUN) benchmarks.check --rounds $(ROUNDS) --write

.PHONY: actionlint
actionlint:
	.venv/bin/python .ci/actionlint.py

# Documentation, with the environment of the README's second line: build/docs, or http://127.0.0.1:8000 while writing.
.PHONY: docs docs-serve
docs:
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict

docs-serve:
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs serve
