# One command per chore. PYTHON chooses the interpreter (3.11 to 3.13); everything is installed into .venv.
PYTHON ?= python3
BIN := .venv/bin
ROOMS := cli model export runtime bench

.PHONY: demo test check bench clean FORCE

demo: .venv/installed
	mkdir -p build/demo && cd build/demo && $(CURDIR)/$(BIN)/lmtool demo

test: .venv/installed
	$(BIN)/pytest

check: .venv/installed
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

bench: .venv/installed
	mkdir -p build/demo && cd build/demo && $(CURDIR)/$(BIN)/lmtool bench

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache

# The editable install links file by file, so it is renewed when a file comes or goes as well as when a dependency changes.
.venv/sources: FORCE
	@mkdir -p .venv && find $(ROOMS) -name '*.py' -o -name '*.html' -o -name '*.mjs' -o -name '*.css' | sort > $@.new && { cmp -s $@.new $@ && rm $@.new || mv $@.new $@; }

.venv/installed: pyproject.toml constraints.txt .venv/sources
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --config-settings editable_mode=strict --editable '.[dev]'
	@touch $@
