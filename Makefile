# Every target sets itself up in .venv; nothing else on the machine is touched.
PYTHON ?= python3
BIN := .venv/bin
FUNCTIONS := supabase/functions
export DENO_DIR := $(CURDIR)/.venv/deno

.PHONY: demo test bench check format sandbox clean

demo: .venv/ready  ## an embedded Supabase and exchange, a worker, and positions opening live
	@$(BIN)/python -m worker demo

test: .venv/ready  ## the whole suite, some files of it at a time: most tests wait for processes
	$(BIN)/deno test --quiet --no-remote --no-npm $(FUNCTIONS)
	$(BIN)/pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder -m "not bench and not alone"
	$(BIN)/pytest -m "alone and not bench"

bench: .venv/ready  ## what takes minutes: large bursts, long rests
	$(BIN)/pytest -m bench --durations=0

check: .venv/ready  ## style, types, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/deno check --quiet --no-remote --no-npm $(FUNCTIONS)
	$(BIN)/deno lint --quiet $(FUNCTIONS)
	$(BIN)/deno fmt --quiet --check $(FUNCTIONS)

format: .venv/ready  ## lay the code out
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/deno fmt --quiet $(FUNCTIONS)

sandbox: .venv/ready  ## the embedded Supabase and exchange, until Ctrl-C
	@$(BIN)/python -m sandbox up

.venv/ready: requirements.lock pyproject.toml
	@echo "setting up .venv (once) …"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 …")'
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

lock:  ## pin the whole tree again, with hashes and without addresses
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --all-extras --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-annotate --no-header pyproject.toml -o requirements.lock > /dev/null

clean:  ## remove what the targets made
	rm -rf .venv .sandbox .pytest_cache .ruff_cache .hypothesis
