# make demo      three nodes on this machine, leaders and a worker killed, nothing lost
# make check     linters, types, and the public contract in proto/
# make test      all tests
# make bench     the standard measurements of messages and of tasks, on local clusters
# make soak      more seeds of the simulation: make soak SEEDS=20000 JOBS=8
# make proto     write the stubs of proto/ again
# make clean     remove all that the other targets made

SHELL := /bin/bash
PYTHON ?= python3
SEEDS ?= 5000
JOBS ?= 2
BUF_VERSION := 1.75.0
# These run side by side, a file on each core; the others start clusters and take all cores themselves.
SIDE_BY_SIDE := tests/raft tests/node tests/sim tests/client

VENV := .venv/.installed
BUF := .tools/buf-$(BUF_VERSION)
export PATH := $(CURDIR)/.venv/bin:$(CURDIR)/.tools/node_modules/.bin:$(PATH)

.PHONY: demo check test bench soak proto clean

demo: $(VENV)
	taskraft demo

check: $(VENV) $(BUF)
	ruff check .
	ruff format --check .
	mypy
	buf lint proto
	proto/compatible
	proto/generate --check

# Without these packages the tests that need them are skipped, and say so; as root they must run.
test: $(VENV)
	-.ci/need 'command -v ip' iproute2
	-.ci/need 'command -v nsenter' util-linux
	-.ci/need 'command -v mkfs.ext4' e2fsprogs
	-.ci/need 'command -v gcc && test -e /usr/include/time.h' gcc libc6-dev
	pytest --numprocesses auto --dist loadfile $(SIDE_BY_SIDE)
	REQUIRE_ROOT_TESTS=$$([ $$(id -u) = 0 ] && echo 1) pytest $(SIDE_BY_SIDE:%=--ignore=%)

bench: $(VENV)
	taskraft bench standard
	taskraft bench tasks

soak: $(VENV)
	python -m tests.sim.run --seeds 0:$(SEEDS) --jobs $(JOBS)
	python -m tests.sim.run --seeds 0:$$(($(SEEDS) / 10)) --jobs $(JOBS) --state machine
	python -m tests.sim.run --seeds 0:$$(($(SEEDS) / 10)) --jobs $(JOBS) --state tasks
	python -m tests.sim.run --seeds 0:$$(($(SEEDS) / 10)) --jobs $(JOBS) --state messages

proto: $(VENV)
	proto/generate

clean:
	rm -rf .venv .tools build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

$(VENV): pyproject.toml
	.ci/need '$(PYTHON) -c "import ensurepip"' python3-venv
	$(PYTHON) -m venv .venv
	pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

$(BUF):
	.ci/need 'command -v npm' npm
	npm install --prefix .tools --no-save --no-audit --no-fund --ignore-scripts @bufbuild/buf@$(BUF_VERSION)
	touch $@
