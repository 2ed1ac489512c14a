# `make demo` and `make test` work from a bare clone: they make .venv themselves.
PYTHON ?= python3
PIP_ARGS ?=
PYTEST_ARGS ?= --durations=10

VENV := .venv
BIN := $(VENV)/bin
TEST_EXTRAS := [all,test]

export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help demo test lint clean

help:
	@echo "make demo    draw eight prompts with the trained nano model into outputs/demo"
	@echo "make test    run every test"
	@echo "make lint    check style and the direction of imports"
	@echo "make clean   remove .venv and what builds and tests left behind; outputs/ stays"
	@echo
	@echo "PYTHON=python3.12 chooses the interpreter, PIP_ARGS and PYTEST_ARGS are passed on."

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

test: $(VENV)/.installed-test
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest $(PYTEST_ARGS)

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
