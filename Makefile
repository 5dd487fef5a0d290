# One command per chore. PYTHON chooses the interpreter (3.11 to 3.14); everything is installed into .venv.
PYTHON ?= python3
SCRIPTS := $(if $(filter Windows_NT,$(OS)),Scripts,bin)
BIN := .venv/$(SCRIPTS)
EXTRAS := bench,cpu,keras,loadgen,rescore,serve,tensorboard
# pip is upgraded first, as --group needs 25.1. The editable install is strict, so that type checkers find the packages.
INSTALL := install --quiet --config-settings editable_mode=strict
# setuptools warns about every strict install.
QUIET := PYTHONWARNINGS=ignore
CONSTRAINTS_lowest := --constraint constraints-lowest.txt
PYTEST_lowest := -W default
ROOMS := package cli model export runtime serve bench

.PHONY: demo test test-portability test-lowest test-newest torture check docs dist bench clean FORCE

demo: .venv/installed
	mkdir -p build/demo && cd build/demo && '$(CURDIR)/$(BIN)/lmtool' demo

test: .venv/installed
	$(BIN)/pytest -n 2 --dist worksteal --durations 25 --durations-min 4

# Tests with other runtimes, node, a browser or a cluster; tests whose needs cannot be installed here skip with a reason.
test-portability: .venv/portability
	LMTOOL_NODE_FOLDER='$(CURDIR)/examples/node' $(BIN)/pytest -m portability -rs

# The tests with the lowest and with the newest versions that pyproject.toml allows, each in a separate environment. Warnings
# are errors with the newest versions only: the lowest ones warn about newer packages that they import.
test-lowest test-newest: test-%: .venv-%/installed
	.venv-$*/$(SCRIPTS)/pytest -n 2 --dist worksteal $(PYTEST_$*)

# Every promise of RELIABILITY.md with its full count, and the slow tests of other folders. The table is printed at the end,
# also if a test failed.
torture: .venv/installed
	mkdir -p build && : > build/torture.jsonl
	LMTOOL_TORTURE=1 LMTOOL_TORTURE_OUT='$(CURDIR)/build/torture.jsonl' $(BIN)/pytest -n 3 --dist worksteal; \
	status=$$?; $(BIN)/python tests/torture/table.py build/torture.jsonl > build/torture.md && cat build/torture.md && exit $$status

check: .venv/installed
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

# The site in build/site. Warnings are errors: missing pages and anchors, pages outside the navigation, external resources.
docs: .venv/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet && echo 'build/site/index.html'

# The wheel and the source distribution in dist/, checked as a package index checks them.
dist: .venv/dist
	rm -rf dist && $(BIN)/python -m build --outdir dist && $(BIN)/twine check --strict dist/*

bench: .venv/installed
	mkdir -p build/demo && cd build/demo && '$(CURDIR)/$(BIN)/lmtool' bench

clean:
	rm -rf .venv .venv-lowest .venv-newest build dist *.egg-info .mypy_cache .ruff_cache

# The editable install links each file, so it is repeated when a file is added or removed, or a dependency changes.
.venv/sources: FORCE
	@mkdir -p .venv && find $(ROOMS) -name '*.py' -o -name '*.html' -o -name '*.mjs' -o -name '*.css' | sort > $@.new && { cmp -s $@.new $@ && rm $@.new || mv $@.new $@; }

.venv/installed: pyproject.toml constraints.txt .venv/sources
	$(BIN)/python -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade --constraint constraints.txt pip
	$(QUIET) $(BIN)/python -m pip $(INSTALL) --constraint constraints.txt --group dev --editable '.[$(EXTRAS)]'
	@touch $@

# Recreated each time, as newer versions appear.
.venv-%/installed: FORCE
	rm -rf .venv-$* && $(PYTHON) -m venv .venv-$*
	.venv-$*/$(SCRIPTS)/python -m pip install --quiet --upgrade pip
	$(QUIET) .venv-$*/$(SCRIPTS)/python -m pip $(INSTALL) --upgrade $(CONSTRAINTS_$*) --group dev --editable '.[$(EXTRAS)]'

.venv/portability: .venv/installed tests/portability/install $(wildcard examples/*/package-lock.json)
	$(QUIET) $(BIN)/python -m pip $(INSTALL) --constraint constraints.txt --group dev --group interop --editable '.[$(EXTRAS),portability]'
	tests/portability/install && touch $@ || echo 'Not everything is here: its tests are skipped, and the next run tries again.'

.venv/docs: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group docs
	@touch $@

.venv/dist: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group dist
	@touch $@
