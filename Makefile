# One command per chore. PYTHON chooses the interpreter (3.11 to 3.13); everything is installed into .venv.
PYTHON ?= python3
BIN := .venv/bin
CONSTRAINTS_lowest := --constraint constraints-lowest.txt
PYTEST_lowest := -W default
ROOMS := package cli model export runtime serve bench

.PHONY: demo test test-portability test-lowest test-newest torture check bench clean FORCE

demo: .venv/installed
	mkdir -p build/demo && cd build/demo && $(CURDIR)/$(BIN)/lmtool demo

test: .venv/installed
	$(BIN)/pytest -n 2 --dist worksteal

# Other runtimes, node, a browser, a cluster, other people's clients; what this machine cannot get is skipped with a reason.
test-portability: .venv/portability
	LMTOOL_NODE_FOLDER=$(CURDIR)/examples/node $(BIN)/pytest -m portability -rs

# The tests with the lowest and with the newest versions that pyproject.toml allows, each in an environment of its own. Old
# packages warn of the new ones below them; new packages' warnings are what the second is for.
test-lowest test-newest: test-%: .venv-%/installed
	.venv-$*/bin/pytest -n 2 --dist worksteal $(PYTEST_$*)

# Every promise of RELIABILITY.md with its full count; the table is printed at the end, also where a test failed.
torture: .venv/installed
	mkdir -p build && : > build/torture.jsonl
	LMTOOL_TORTURE=1 LMTOOL_TORTURE_OUT=$(CURDIR)/build/torture.jsonl $(BIN)/pytest -n 3 --dist worksteal tests/torture; \
	status=$$?; $(BIN)/python tests/torture/table.py build/torture.jsonl > build/torture.md && cat build/torture.md && exit $$status

check: .venv/installed
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

bench: .venv/installed
	mkdir -p build/demo && cd build/demo && $(CURDIR)/$(BIN)/lmtool bench

clean:
	rm -rf .venv .venv-lowest .venv-newest build dist *.egg-info .mypy_cache .ruff_cache

# The editable install links file by file, so it is renewed when a file comes or goes as well as when a dependency changes.
.venv/sources: FORCE
	@mkdir -p .venv && find $(ROOMS) -name '*.py' -o -name '*.html' -o -name '*.mjs' -o -name '*.css' | sort > $@.new && { cmp -s $@.new $@ && rm $@.new || mv $@.new $@; }

.venv/installed: pyproject.toml constraints.txt .venv/sources
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --config-settings editable_mode=strict --editable '.[dev]'
	@touch $@

# Anew each time: what is the newest changes.
.venv-%/installed: FORCE
	rm -rf .venv-$* && $(PYTHON) -m venv .venv-$*
	.venv-$*/bin/pip install --quiet --upgrade $(CONSTRAINTS_$*) --config-settings editable_mode=strict --editable '.[dev]'

.venv/portability: .venv/installed tests/portability/install $(wildcard examples/*/package-lock.json)
	$(BIN)/pip install --quiet --constraint constraints.txt --config-settings editable_mode=strict --editable '.[interop]'
	tests/portability/install && touch $@ || echo 'Not everything is here: its tests are skipped, and the next run tries again.'
