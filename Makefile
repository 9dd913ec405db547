# SPDX-License-Identifier: Apache-2.0
#
# Each target installs what it needs first; what is up to date is not done again. Logs are in build/log/.
#   make demo    a live TCP connection moves to another server because an IDS rule fires
#   make test    all tests
# Set-up needs root once (Debian packages), demo and integration tests need it always (network namespaces).

PYTHON := .venv/bin/python
LOG := build/log
# Extra words for pytest, e.g. make test T="tests/unit -k seq"
T ?=
# Which benchmarks, e.g. make bench B="tcp-handoff --quick"
B ?= --all

.PHONY: setup demo demo-p4sync demo-eccp test unit bench verify lint doctor clean distclean
.DELETE_ON_ERROR:

setup: build/.packages build/.python build/.datapath build/.ovs
	@echo "setup: ready; 'make demo' shows it, 'make test' tests it, 'make doctor' checks it"

$(LOG):
	@mkdir -p $(LOG)

build/.packages: setup/packages.txt setup/packages.sh | $(LOG)
	@setup/packages.sh $(LOG)/packages.log
	@touch $@

build/.python: requirements.txt requirements/constraints.txt requirements/build.txt pyproject.toml build_backend.py \
		setup/python.sh build/.packages | $(LOG)
	@setup/python.sh $(LOG)/python.log
	@touch $@

# ECCP's inner loops in C; without them Python does the work.
build/.datapath: setup/datapath.sh controller/eccp/datapath/runs.c build/.packages | $(LOG)
	@setup/datapath.sh $(LOG)/datapath.log
	@touch $@

# Asks build.sh each time: it knows by a hash whether anything has changed.
.PHONY: ovs
ovs: build/.packages
	@ovs_actions/build.sh
build/.ovs: ovs ;

demo: setup
	@$(PYTHON) topo.py --demo

demo-p4sync: setup
	@$(PYTHON) -m demo.p4sync

demo-eccp: setup
	@$(PYTHON) -m controller.cli.main eccp demo

test: setup
	@setup/test.sh $(T)

# The quick part, without root and without Open vSwitch.
unit: build/.python build/.datapath
	@$(PYTHON) -m pytest tests/unit tests/property $(T)

bench: setup
	@$(PYTHON) -m benchmarks $(B)

verify: setup
	@$(PYTHON) -m models

lint: build/.python
	@setup/lint.sh

doctor:
	@if [ -x .venv/bin/baton ]; then .venv/bin/baton doctor; \
	else echo "doctor: nothing is set up yet: run 'sudo make setup'" >&2; exit 1; fi

# Leftovers of crashed runs: namespaces, processes and sockets that Baton recorded as its own. Nothing else.
clean:
	@if [ -x .venv/bin/baton ]; then .venv/bin/baton clean; fi
	@rm -rf out .pytest_cache .mypy_cache .ruff_cache .hypothesis htmlcov .coverage .coverage.*

# And what set-up made; the Debian packages stay.
distclean: clean
	@rm -rf build .venv baton.egg-info
