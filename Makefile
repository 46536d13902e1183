# make demo   run the main job, setting up first        make test   check and test, setting up first
#                                                       make slow   the tests of more than ten seconds
# make reliability   the whole bench of faults           make soak   an hour of random kills (MINUTES=60)
# make coverage      lines that `make test` and `make slow` together do not reach
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: demo test slow reliability soak coverage lint lock setup ray clean

demo: $(READY)
	$(BIN)/scaling run demo

test: lint
	$(BIN)/pyright
	$(BIN)/pytest -m "not slow" --dist loadfile  # what a file's tests share is made once

slow: $(READY)
	$(BIN)/pytest -m slow

reliability: $(READY)
	RELIABILITY=all $(BIN)/pytest tests/reliability

coverage: $(READY)
	$(BIN)/pytest --cov --cov-report=term-missing

MINUTES ?= 60
soak: $(READY)
	$(BIN)/python -m tests.reliability.soak $(MINUTES)

lint: $(READY)
	$(BIN)/ruff check

setup: $(READY)

# Remade when the lock or the project's metadata changes; a set-up that breaks off leaves no stamp behind.
# The lock is complete, so nothing else is resolved: a dependency's `coverage[toml]` is no reason to look for a newer one.
$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	rm -f $@
	@echo "Setting up .venv; this takes a minute or two."
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

# What the tests of launchers need beside Slurm's own packages: a skipped test says how to get those.
ray: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-ray.lock

# Pins every package, with the hashes of its files, for all platforms and Pythons; names no index.
COMPILE := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --quiet
lock:
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(COMPILE) pyproject.toml --extra dev --extra dashboard -o requirements.lock
	sed -n 's/^ray = \["\(.*\)"\]$$/\1/p' pyproject.toml | \
		$(COMPILE) - -c requirements.lock --no-annotate -o requirements-ray.lock

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path "./.git/*" -prune -exec rm -rf {} +
