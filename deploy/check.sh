#!/usr/bin/env bash
# The gate, step by step; the first step that fails is the last.
set -euo pipefail
bin=$(dirname "${PYTHON:-.venv/bin/python}")
step() { printf '\n== %s\n' "$*"; "$@"; }

step "$bin/ruff" check .
step "$bin/ruff" format --check .
step "$bin/mypy"
step "$bin/lint-imports"
step "$bin/pylint" --disable=all --enable=duplicate-code --min-similarity-lines=8 \
  --ignore-imports=yes --ignore-signatures=yes services shared deploy
step "$bin/python" -m deploy.words
step "$bin/python" -m services.asyncapi --check
step "$bin/python" -m services.openapi --check
step "$bin/pytest" -q
