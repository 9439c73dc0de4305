# make demo   the whole product on this machine; LOGS='/path/*.log …' VAR=dir PORT=n DURATION=seconds
# make test   the whole suite; JOBS=n test files at once
# make fuzz   every decoder for longer; FUZZ=times as many examples as in the suite
# make model  files, agent and spool against a model of what must hold; MODEL=times as many histories as in the suite
# make check  lint and types
# make crash  death at every named point of the agent, once and again
# make torture  harm to all of it and a count of every line; DURATION=seconds SEED=n RATE=bytes EMBEDDED=1 (the engine inside the collector)

VENV ?= .venv
VAR ?= var
PORT ?= 8080
# Test files at once; 0: one after the other, in one process.
JOBS ?= 3
PY = $(VENV)/bin/python

# The newest Python from 3.11 on that can be found and has what a virtual environment needs.
FIND_PYTHON = for p in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
	  $$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && exit; done

# Programs of Debian's that tests drive. Where they cannot be installed, those tests are skipped and say why.
PROGRAMS = chromium logrotate redis-server
MISSING = $(shell for p in $(PROGRAMS); do PATH="$$PATH:/usr/sbin" command -v $$p >/dev/null 2>&1 || echo $$p; done)

.PHONY: demo test fuzz model torture crash check bench clean programs

demo: $(VENV)/.demo
	@$(PY) -m collector demo --var '$(VAR)' --port $(PORT) $(if $(DURATION),--duration $(DURATION)) --logs "$$LOGS"
export LOGS

programs:
	@if [ -n "$(MISSING)" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing $(MISSING) …"; \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends $(MISSING); } \
	    >/dev/null 2>&1 || echo "not installed: $(MISSING)" >&2; fi

test: programs $(VENV)/.dev
	$(PY) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

check: $(VENV)/.dev
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy

FUZZ ?= 50
fuzz: $(VENV)/.dev
	FUZZ=$(FUZZ) $(PY) -m pytest --timeout 0 tests/fuzz

MODEL ?= 20
model: $(VENV)/.dev
	MODEL=$(MODEL) $(PY) -m pytest -p no:cacheprovider --timeout 0 tests/model/test_identity_model.py

torture: $(VENV)/.dev
	$(PY) -m tests.torture $(if $(DURATION),--duration $(DURATION)) $(if $(SEED),--seed $(SEED)) $(if $(RATE),--rate $(RATE)) $(if $(EMBEDDED),--embedded)

crash: $(VENV)/.dev
	CRASH=all $(PY) -m pytest tests/fault/test_crash.py

bench: $(VENV)/.dev
	$(PY) -m tests.bench

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	@python=$$($(FIND_PYTHON)); \
	if [ -z "$$python" ]; then \
	  echo "No Python >= 3.11 with venv was found. Install one (Debian, Ubuntu: apt-get install python3 python3-venv)," >&2; \
	  echo "or name one: make PYTHON=/path/to/python3 …" >&2; exit 1; fi; \
	"$$python" -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(VENV)/bin/python
	@echo "installing into $(VENV) …"
	@$(PY) -m pip install -q --disable-pip-version-check -e '.[collector,embedded]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	@echo "installing into $(VENV) …"
	@$(PY) -m pip install -q --disable-pip-version-check -e '.[collector,embedded,redis,dev]'
	@touch $@ $(VENV)/.demo
