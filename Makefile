# Every verb that people and CI use. `make help` lists them.
# The environment lives in .venv and is made again when a lock changes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
LOCKED := install --require-hashes --no-deps

.DEFAULT_GOAL := help
.PHONY: help coverage run test test-all check system sim mutants fix docs attacks bench bench-relay bench-suites bench-mls fuzz locks clean

help: ## this list
	@grep -E '^[a-z-]+:.*## ' Makefile | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(VENV)/.base:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "cloister needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "python3-venv is missing; install it with: sudo apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.run: $(VENV)/.base requirements/run.txt pyproject.toml
	@echo "installing what cloister runs on (once)"
	@$(PIP) $(LOCKED) -r requirements/run.txt
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements/dev.txt
	@echo "installing what the tests need (once)"
	@$(PIP) $(LOCKED) -r requirements/dev.txt
	@touch $@

$(VENV)/.peers: $(VENV)/.dev requirements/peers.txt
	@echo "installing foreign implementations (once)"
	@$(PIP) $(LOCKED) -r requirements/peers.txt
	@touch $@

run: $(VENV)/.run ## set everything up and run the demo: a relay and three members who agree on a key
	@$(BIN)/cloister demo $(ARGS)

test: $(VENV)/.dev ## set everything up and run the tests (under 5 minutes)
	@$(BIN)/python -m pytest -n auto -m "not system and not slow" $(ARGS)

test-all: ## the tests on every Python from 3.11 to 3.14 that answers
	@for v in 3.11 3.12 3.13 3.14; do \
	  if python$$v -c "" 2>/dev/null; then echo "== Python $$v"; \
	    $(MAKE) --no-print-directory test PYTHON=python$$v VENV=.cache/venv-$$v || exit 1; \
	  else echo "== Python $$v does not answer here"; fi; done

check: $(VENV)/.dev ## lint, types, import contracts, house rules, stale pages
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --config .importlinter
	@$(BIN)/python -m pytest -p no:cacheprovider tests/test_house.py
	@$(BIN)/python -m tools.pages --check

LAYERS := codec primitives identity protocols wire engine relay/core
coverage: $(VENV)/.dev ## branch coverage of make test: 95 % and more of the layers below client and server
	@$(BIN)/coverage erase
	@$(BIN)/python -m pytest -n auto -m "not system and not slow" --cov --cov-report= $(ARGS)
	@for layer in $(LAYERS); do printf '%-12s ' $$layer; \
	  $(BIN)/coverage report --format=total --precision=1 --include="*/cloister/$$layer/*" --fail-under=95 || exit 1; done

fix: $(VENV)/.dev ## format and mend what ruff can mend
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

docs: $(VENV)/.dev ## write every generated page again
	@$(BIN)/python -m tools.pages

# A client library's TLS transport that is collected after its loop has ended is no finding about us.
LONG := $(BIN)/python -m pytest -W ignore::pytest.PytestUnraisableExceptionWarning -m "system or slow"
system: $(VENV)/.peers ## the long tests on all cores, then real processes one by one: kills, power cuts, live peers
	@$(LONG) -n auto --dist worksteal --ignore=tests/system $(ARGS)
	@$(LONG) tests/system $(ARGS)

sim: $(VENV)/.dev ## SEEDS=1000 seeds of the simulation; ARGS="--seeds 500-600" for others
	@$(BIN)/python -m cloister.testing.simulation $(if $(SEEDS),--seeds 0-$$(($(SEEDS) - 1))) $(ARGS)

mutants: $(VENV)/.dev ## take each check out: a test must fail; ARGS="REC NON-03" for some
	@$(BIN)/python -m tools.mutants $(ARGS)

attacks: $(VENV)/.run ## each attack on the originals, the suites, and with one fix put back: make attacks JSON=file
	@$(BIN)/python -m cloister.lab.attacks $(if $(ARGS),,--page docs/spec/classic/README.md) $(if $(JSON),--json $(JSON)) $(ARGS)

bench: bench-relay bench-suites bench-mls ## every benchmark, one after the other

bench-relay: $(VENV)/.run ## the whole relay beside a bare durable echo: make bench-relay JSON=file
	@$(BIN)/python -m benchmarks.relay $(if $(JSON),--json $(JSON)) $(ARGS)

bench-suites: $(VENV)/.run ## every suite agrees: entries, items, bytes, CPU beside mls: make bench-suites JSON=file
	@$(BIN)/python -m benchmarks.suites $(if $(JSON),--json $(JSON)) $(ARGS)

bench-mls: $(VENV)/.peers ## MLS beside mls-rs and ts-mls: make bench-mls JSON=file SVG=file
	@$(BIN)/python -m benchmarks.mls $(if $(JSON),--json $(JSON)) $(if $(SVG),--svg $(SVG)) $(ARGS)

fuzz: $(VENV)/.peers ## ten minutes of fuzzing: make fuzz T=mls SECONDS=600
	@$(BIN)/python fuzz/$(T).py -max_total_time=$(or $(SECONDS),600) $(ARGS)

locks: $(VENV)/.dev ## resolve the three hash-pinned locks again
	@cd requirements && for n in run dev peers; do ../$(BIN)/pip-compile --generate-hashes --allow-unsafe \
	  --strip-extras --no-emit-index-url --no-emit-find-links --no-header -q -U -o $$n.txt $$n.in; done

clean: ## remove the environment and every cache
	@rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage*
