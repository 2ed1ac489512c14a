# `make demo` and `make test` work from a bare clone: they make .venv themselves.
PYTHON ?= python3
PIP_ARGS ?=
PYTEST_ARGS ?= --durations=10
TEST_PROCESSES ?= auto

VENV := .venv
BIN := $(VENV)/bin
TEST_EXTRAS := [all,test]

export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help demo test browser lint clean

help:
	@echo "make demo    draw eight prompts with the trained nano model into outputs/demo"
	@echo "make test    run every test"
	@echo "make lint    check style and the direction of imports"
	@echo "make clean   remove .venv and what builds and tests left behind; outputs/ stays"
	@echo
	@echo "PYTHON=python3.12 chooses the interpreter, PIP_ARGS and PYTEST_ARGS are passed on; TEST_PROCESSES=1 tests in turn."

demo: $(VENV)/.installed-core
	@echo "Drawing eight prompts with SnapGen's nano model, trained in this repository, on your machine:"
	@$(BIN)/pocket generate snapgen --output outputs/demo --overwrite --seed 1 \
		--prompt "a red cube" \
		--prompt "a photo of a blue sphere" \
		--prompt "a green cone" \
		--prompt "a purple cylinder" \
		--prompt "two yellow spheres" \
		--prompt "a black torus and a white cube" \
		--prompt "a pink sphere left of a brown cone" \
		--prompt "three orange cubes"
	@du -sh outputs/demo | sed 's/^/Disk: /'

# A process a core, each with one thread; a file's tests stay together, for they share what is dear to make. The last
# lines say which tests were left out, why, and how to have them.
test: $(VENV)/.installed-test browser
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_PROCESSES) --maxprocesses 8 --dist loadfile \
		$(PYTEST_ARGS)

# For the tests of pages: a Chromium that is here, else Playwright's own, else Debian's where root may install it.
browser: $(VENV)/.installed-test
	@for name in chromium chromium-browser google-chrome; do command -v $$name >/dev/null && exit 0; done; \
		timeout 600 $(BIN)/playwright install chromium >/dev/null 2>&1 && exit 0; \
		echo "Playwright's Chromium cannot be fetched."; \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo "Installing Debian's Chromium"; \
			export DEBIAN_FRONTEND=noninteractive; \
			apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null && exit 0; \
		fi; \
		echo "There is no browser: the tests of pages will be left out."

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# $(call install,EXTRAS): the package itself, editable, with exactly the versions of constraints.txt.
define install
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is no Python of version 3.11 or later: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 2; }
	@echo "Installing pocket-diffusers$(1) into $(VENV); the first time this downloads some hundred MB and takes minutes."
	@df -h . | awk 'NR == 2 { print "Disk: " $$4 " free before" }'
	@start=$$(date +%s); set -e; \
		test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV); \
		$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e '.$(1)'; \
		echo "Installed in $$(($$(date +%s) - start)) s"
	@du -sh $(VENV) | awk '{ printf "Disk: %s in %s, ", $$1, $$2 }'; df -h . | awk 'NR == 2 { print $$4 " free after" }'
endef

$(VENV)/.installed-core: pyproject.toml constraints.txt
	$(call install,)
	@touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt
	$(call install,$(TEST_EXTRAS))
	@touch $(VENV)/.installed-core $@
