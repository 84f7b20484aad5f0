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
