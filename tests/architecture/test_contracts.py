"""Who may import whom, as pyproject.toml has it."""

import subprocess
import sys
import tomllib
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
CONTRACTS = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
SERVICES = {f"services.{path.parent.name}" for path in CHECKOUT.glob("services/*/__init__.py")}


def test_every_import_keeps_the_contracts():
    linter = Path(sys.executable).with_name("lint-imports")
    checked = subprocess.run([linter, "--no-cache"], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_no_service_stands_outside_the_contracts():
    independent = {name for one in CONTRACTS if one["type"] == "independence" for name in one["modules"]}
    layered = [name for one in CONTRACTS if one["type"] == "layers" for name in one["containers"]]
    # the wildcard covers every folder, new ones included
    assert independent == {"services.*"}
    assert layered == ["services.*"]
    assert len(SERVICES) > 1


def test_no_module_is_a_drawer_for_anything():
    drawers = {"utils", "util", "common", "helpers", "helper", "base", "misc"}
    named = {path.stem for folder in ("services", "shared", "deploy") for path in (CHECKOUT / folder).rglob("*.py")}
    assert not named & drawers
