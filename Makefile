# Two commands to begin with: `make demo` and `make test`. Every target sets up what it needs first.
.DEFAULT_GOAL := help
SHELL := /bin/bash
UV := .tools/bin/uv
PYTHON := .venv/bin/python
# Docker where its daemon answers, else native processes; PENSTOCK_NATIVE=1 never asks for Docker
DOCKER = $(shell [ -z "$$PENSTOCK_NATIVE" ] && docker compose version >/dev/null 2>&1 && docker info >/dev/null 2>&1 && echo yes)
STACK = $(PYTHON) -m deploy.$(if $(DOCKER),compose,native)
# faults and integration have a worker and a stack each, 1.5 GB; most of a test on real servers is waiting
SIDE_BY_SIDE = --numprocesses 2 --dist loadscope
.PHONY: help demo up down status logs pgadmin test containers check bench heavy asyncapi openapi clean install audit sbom

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-11s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: up ## start everything, drop a few files into a bucket, and watch their digests come
	@$(PYTHON) -m deploy.demo

up: .venv/synced ## start the stack and wait until it is ready; nothing happens when it is up
	@$(STACK) up

down: .venv/synced ## stop the stack; data stay
	@$(STACK) down

status: .venv/synced ## what runs
	@$(STACK) status

logs: .venv/synced ## the ends of all logs, and what follows (Ctrl-C ends)
	@$(STACK) logs -f || true

pgadmin: .venv/synced ## the tables in a browser, beside the stack with Docker
	@$(PYTHON) -m deploy.compose pgadmin

install: .venv/synced
	@$(STACK) install

test: install ## every test but the benchmarks, on real servers
	@.venv/bin/pytest $(SIDE_BY_SIDE) tests/faults tests/integration tests/security tests/unit tests/component tests/flows tests/architecture

containers: .venv/synced ## what only the stack with Docker can show, without and with Kafka users; needs an engine
	@.venv/bin/pytest tests/containers

check: .venv/synced ## the gate: style, types, contracts, repeated code, generated documents, quick tests
	@PYTHON=$(PYTHON) bash deploy/check.sh

bench: install ## measure against the peer and the machine's limits; writes docs/benchmarks.md
	@$(PYTHON) tests/bench/run.py

heavy: install ## thousands of files through the digest API; every digest must come and be right
	@$(PYTHON) tests/bench/heavy.py

audit: | $(UV) ## ask the OSV database whether a locked dependency has a known vulnerability; needs the network
	@$(UV) audit --frozen --preview-features audit-command || { code=$$?; [ $$code = 1 ] \
	  || echo "audit: nothing was checked: the database of known vulnerabilities gave no answer" >&2; exit $$code; }

sbom: | $(UV) ## write dist/penstock.cdx.json: all that an installation of every service holds (CycloneDX)
	@mkdir -p dist
	@$(UV) export --quiet --frozen --offline --no-dev --all-extras --format cyclonedx1.5 --output-file dist/penstock.cdx.json
	@echo "dist/penstock.cdx.json"

asyncapi: .venv/synced ## write the event document and the tables of settings and services from the code
	@$(PYTHON) -m services.asyncapi
	@$(PYTHON) -m deploy.settings_table
	@$(PYTHON) -m deploy.architecture_tables

openapi: .venv/synced ## write the API's document anew from the code
	@$(PYTHON) -m services.openapi

clean: .venv/synced ## stop the stack and delete its data and every cache of the tools; .env stays
	@$(STACK) clean
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist

.venv/synced: pyproject.toml uv.lock | $(UV)
	@$(UV) sync --quiet --frozen --all-extras --group bench
	@touch $@

$(UV):
	@bash deploy/bootstrap.sh
