# Start with `make demo` and `make test`. Every target first installs what it needs.
.DEFAULT_GOAL := help
SHELL := /bin/bash
UV := .tools/bin/uv
PYTHON := .venv/bin/python
# use Docker if its daemon answers, else native processes; PENSTOCK_NATIVE=1 skips the check
DOCKER = $(shell [ -z "$$PENSTOCK_NATIVE" ] && docker compose version >/dev/null 2>&1 && docker info >/dev/null 2>&1 && echo yes)
STACK = $(PYTHON) -m deploy.$(if $(DOCKER),compose,native)
# faults and integration have a worker and a stack each, 1.5 GB; most of a test on real servers is waiting
SIDE_BY_SIDE = --numprocesses 2 --dist loadscope
.PHONY: help demo up down status logs pgadmin test containers check bench heavy asyncapi openapi clean install audit sbom

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-11s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: up ## start the stack, store a few files, and show their digests
	@$(PYTHON) -m deploy.demo

up: .venv/synced ## start the stack and wait until it is ready; do nothing if it is running
	@$(STACK) up

down: .venv/synced ## stop the stack and keep its data
	@$(STACK) down

status: .venv/synced ## show the processes
	@$(STACK) status

logs: .venv/synced ## show the last lines of all logs and follow them; Ctrl-C ends
	@$(STACK) logs -f || true

pgadmin: .venv/synced ## start pgAdmin, to browse the tables (Docker only)
	@$(PYTHON) -m deploy.compose pgadmin

install: .venv/synced
	@$(STACK) install

test: install ## run every test except the benchmarks, on real servers
	@.venv/bin/pytest $(SIDE_BY_SIDE) tests/faults tests/integration tests/security tests/unit tests/component tests/flows tests/architecture

containers: .venv/synced ## test the stack with Docker, without and with Kafka users; needs a Docker engine
	@.venv/bin/pytest tests/containers

check: .venv/synced ## run the gate: style, types, contracts, repeated code, generated documents, quick tests
	@PYTHON=$(PYTHON) bash deploy/check.sh

bench: install ## compare with peers and the machine's limits; write docs/benchmarks.md
	@$(PYTHON) tests/bench/run.py

heavy: install ## send thousands of files through the digest API and verify every digest
	@$(PYTHON) tests/bench/heavy.py

audit: | $(UV) ## check the locked dependencies for known vulnerabilities (OSV); needs the network
	@$(UV) audit --frozen --preview-features audit-command || { code=$$?; [ $$code = 1 ] \
	  || echo "audit: nothing was checked, because the OSV database did not answer: try again later" >&2; exit $$code; }

sbom: | $(UV) ## write the bill of materials of all services to dist/penstock.cdx.json (CycloneDX)
	@mkdir -p dist
	@$(UV) export --quiet --frozen --offline --no-dev --all-extras --format cyclonedx1.5 --output-file dist/penstock.cdx.json
	@echo "dist/penstock.cdx.json"

asyncapi: .venv/synced ## generate the AsyncAPI document and the tables of settings and services from the code
	@$(PYTHON) -m services.asyncapi
	@$(PYTHON) -m deploy.settings_table
	@$(PYTHON) -m deploy.architecture_tables

openapi: .venv/synced ## generate the OpenAPI document from the code
	@$(PYTHON) -m services.openapi

clean: .venv/synced ## stop the stack and delete its data and all tool caches; keep .env
	@$(STACK) clean
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist

.venv/synced: pyproject.toml uv.lock | $(UV)
	@$(UV) sync --quiet --frozen --all-extras --group bench
	@touch $@

$(UV):
	@bash deploy/bootstrap.sh
