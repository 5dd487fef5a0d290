# One command per chore. PYTHON chooses the interpreter (3.11 to 3.14); everything is installed into .venv.
PYTHON ?= python3
SCRIPTS := $(if $(filter Windows_NT,$(OS)),Scripts,bin)
BIN := .venv/$(SCRIPTS)
EXTRAS := bench,cpu,loadgen,serve,tensorboard
# A pip that knows dependency groups comes first; the editable install is strict, so that type checkers see it.
INSTALL := install --quiet --config-settings editable_mode=strict
CONSTRAINTS_lowest := --constraint constraints-lowest.txt
PYTEST_lowest := -W default
ROOMS := package cli model export runtime serve bench

.PHONY: demo test test-portability test-lowest test-newest torture check docs dist bench clean FORCE

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
	.venv-$*/$(SCRIPTS)/pytest -n 2 --dist worksteal $(PYTEST_$*)

# Every promise of RELIABILITY.md with its full count, and the tests of other folders that take long; the table is printed
# at the end, also where a test failed.
torture: .venv/installed
	mkdir -p build && : > build/torture.jsonl
	LMTOOL_TORTURE=1 LMTOOL_TORTURE_OUT=$(CURDIR)/build/torture.jsonl $(BIN)/pytest -n 3 --dist worksteal; \
	status=$$?; $(BIN)/python tests/torture/table.py build/torture.jsonl > build/torture.md && cat build/torture.md && exit $$status

check: .venv/installed
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

# The site in build/site. Warnings are errors: missing pages and anchors, pages outside the navigation, external resources.
docs: .venv/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet && echo 'build/site/index.html'

# A wheel and a source distribution in dist/, and what a package index would refuse in them.
dist: .venv/dist
	rm -rf dist && $(BIN)/python -m build --outdir dist && $(BIN)/twine check --strict dist/*

bench: .venv/installed
	mkdir -p build/demo && cd build/demo && $(CURDIR)/$(BIN)/lmtool bench

clean:
	rm -rf .venv .venv-lowest .venv-newest build dist *.egg-info .mypy_cache .ruff_cache

# The editable install links file by file, so it is renewed when a file comes or goes as well as when a dependency changes.
.venv/sources: FORCE
	@mkdir -p .venv && find $(ROOMS) -name '*.py' -o -name '*.html' -o -name '*.mjs' -o -name '*.css' | sort > $@.new && { cmp -s $@.new $@ && rm $@.new || mv $@.new $@; }

.venv/installed: pyproject.toml constraints.txt .venv/sources
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade --constraint constraints.txt pip
	$(BIN)/python -m pip $(INSTALL) --constraint constraints.txt --group dev --editable '.[$(EXTRAS)]'
	@touch $@

# Anew each time: what is the newest changes.
.venv-%/installed: FORCE
	rm -rf .venv-$* && $(PYTHON) -m venv .venv-$*
	.venv-$*/$(SCRIPTS)/python -m pip install --quiet --upgrade pip
	.venv-$*/$(SCRIPTS)/python -m pip $(INSTALL) --upgrade $(CONSTRAINTS_$*) --group dev --editable '.[$(EXTRAS)]'

.venv/portability: .venv/installed tests/portability/install $(wildcard examples/*/package-lock.json)
	$(BIN)/python -m pip $(INSTALL) --constraint constraints.txt --group dev --group interop --editable '.[$(EXTRAS),portability]'
	tests/portability/install && touch $@ || echo 'Not everything is here: its tests are skipped, and the next run tries again.'

.venv/docs: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group docs
	@touch $@

.venv/dist: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group dist
	@touch $@
