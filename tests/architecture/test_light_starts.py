"""A console command imports only the libraries it uses: each costs every start a tenth of a second or more."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from services.cli.app import run

code = run(sys.argv[1:])
print(*(name for name in sys.modules if "." not in name))
sys.exit(code)
"""
HEAVY = {"aiobotocore", "aiohttp", "aiokafka", "asyncpg", "botocore", "faststream", "httpx", "polars", "pydantic"}
HEAVY |= {"pygments", "structlog", "uvicorn"}
POSTGRES = {"asyncpg", "pydantic"}
KAFKA = {"aiokafka", "pydantic"}


@pytest.mark.parametrize(
    ("words", "used"),
    [
        ("--help", set()),
        ("etl status --help", POSTGRES),
        ("etl rejects --help", POSTGRES),
        ("etl run --help", POSTGRES | KAFKA),
        ("status --help", POSTGRES | KAFKA),
        ("sweep --help", KAFKA),
        ("dlq list --help", KAFKA),
    ],
)
def test_command_imports_only_the_libraries_it_uses(words, used):
    assert imported_by(words) & HEAVY == used


@pytest.mark.parametrize("words", ["doctor --help", "put --help", "setup --help", "watch --help"])
def test_command_imports_no_framework_of_the_services(words):
    assert not imported_by(words) & {"faststream", "uvicorn", "polars"}


def imported_by(words):
    """Return the top-level modules in memory after `penstock WORDS`, without the caller's own settings."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words.split()],
        cwd=Path(__file__).parents[2],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split())
