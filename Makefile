# Benchmarks: Linux on x86-64, Python 3.11, about 17 GB of disk. `make bench` takes about 50 minutes on two idle cores
# once environments and models are made (an hour, the first time), and `make bench-check` four.
PYTHON ?= python3.11
ROUNDS ?= 3
RUN := PYTHONPATH=tests build/bench/environments/suite/bin/python -m

.PHONY: bench bench-environments bench-models bench-run bench-report bench-check bench-ratios
bench: bench-run bench-report

bench-environments:
	$(PYTHON) tests/benchmarks/environments.py

bench-models: bench-environments
	$(RUN) benchmarks.tiny_sd

# Goes on where an earlier run was cut off; remove build/bench/results.json to begin anew.
bench-run: bench-models
	$(RUN) benchmarks.run --rounds $(ROUNDS)

bench-report:
	$(RUN) benchmarks.report

# Exit code 1 if a ratio to diffusers has become worse than the committed one.
bench-check: bench-models
	$(RUN) benchmarks.check --rounds $(ROUNDS)

bench-ratios: bench-models
	$(RUN) benchmarks.check --rounds $(ROUNDS) --write

.PHONY: actionlint
actionlint:
	.venv/bin/python .ci/actionlint.py
