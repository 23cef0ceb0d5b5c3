# Two commands: `make up` serves, `make test` tests. Both install what they need into .venv.
PYTHON ?= python3
BIN := .venv/bin
# What Python has compiled it keeps: an engine that is started again takes 29 CPU seconds and not 49.
unexport PYTHONDONTWRITEBYTECODE

# Files of tests side by side: much of what they do is to wait.
SIDE_BY_SIDE = --numprocesses=$(1) --dist=loadfile --no-loadscope-reorder

.PHONY: help up test lint unit chart observability loadtest speed bench bench-check bench-record crosscheck images integration e2e cluster helm dashboards format pins clean

help:
	@echo "make up      serve gpt-oss on this machine (MODEL=, PROFILE=, PORT=, PYTHON=)"
	@echo "make test    lint, types and all tests (parts: lint unit chart observability loadtest integration e2e)"
	@echo "make speed   how fast the load test itself is (on a machine that does nothing else)"
	@echo "make bench   what the gateway costs, beside others (installs 0.7 GB; a machine that does nothing else)"
	@echo "make bench-check   whether it costs more than was recorded, beside nginx and a raw splice"
	@echo "make bench-record  record what it costs now: tests/bench/record.json and the README's table"
	@echo "make crosscheck  the load test and GuideLLM, of a server that knows the truth (installs 1.2 GB)"
	@echo "make images  build the container images, bundle them, and test both (root, buildah, skopeo)"
	@echo "make cluster test the chart on a Kubernetes cluster (KUBECONFIG, or kind)"
	@echo "make helm    make the chart's schema, README and data anew"
	@echo "make dashboards  make dashboards and rules anew"
	@echo "make format  format the code"
	@echo "make pins    make deploy/requirements anew from pyproject.toml"
	@echo "make clean   remove .venv and what tools left (models and keys stay)"

up:
	@$(PYTHON) deploy/install.py --profile "$(PROFILE)"
	@exec $(BIN)/gptoss up $(if $(MODEL),--model "$(MODEL)") $(if $(PROFILE),--profile "$(PROFILE)") $(if $(PORT),--port "$(PORT)")

test: lint unit chart observability loadtest integration e2e

# The tests' engine is vLLM's CPU build with the tiny gpt-oss, on whatever machine.
.PHONY: dev
dev:
	@$(PYTHON) deploy/install.py --engine cpu --dev

lint: dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

unit: dev
	$(BIN)/python -m pytest -q tests/unit

chart: dev
	$(BIN)/python -m pytest -q tests/chart $(call SIDE_BY_SIDE,2)

observability: dev
	$(BIN)/python -m pytest -q tests/observability $(call SIDE_BY_SIDE,2)

loadtest: dev
	$(BIN)/python -m pytest -q tests/loadtest $(call SIDE_BY_SIDE,2)

# Not a part of `make test`: what others do on the machine meanwhile would be measured too.
speed: dev
	$(BIN)/python -m pytest -q -rP tests/speed

# Not a part of `make test`, for the same reason. vLLM's router and LiteLLM have an environment of their own.
bench: dev
	@$(BIN)/python -m tests.bench.install
	$(BIN)/python -m tests.bench --table

# Peers that `make dev` brings, and nginx where it is installed. Ratios within a run, so that a machine may be slow.
bench-check: dev
	$(BIN)/python -m tests.bench --check

bench-record: dev
	@$(BIN)/python -m tests.bench.install
	$(BIN)/python -m tests.bench --record
	$(BIN)/python -m tests.bench --into README.md

# Not a part of `make test`: GuideLLM has an environment of its own, and nothing else needs it.
crosscheck: dev
	@$(BIN)/python -m tests.crosscheck.install
	$(BIN)/python -m pytest -q -rP tests/crosscheck

images: dev
	$(BIN)/python -m pytest -q tests/images tests/airgap

integration: dev
	$(BIN)/python -m pytest -q tests/integration -m "not alone" $(call SIDE_BY_SIDE,3)
	$(BIN)/python -m pytest -q tests/integration -m alone

e2e: dev
	$(BIN)/python -m pytest -q tests/e2e -m "not alone" $(call SIDE_BY_SIDE,2)
	$(BIN)/python -m pytest -q tests/e2e -m alone

cluster: dev
	$(BIN)/python -m tests.cluster

helm: dev
	$(BIN)/python -m deploy.chart

dashboards: dev
	$(BIN)/python -m deploy.observability

format: dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

pins: dev
	deploy/requirements/compile.sh

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
