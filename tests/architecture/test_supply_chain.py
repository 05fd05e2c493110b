"""What a release is made of can be named, and what builds it has no more rights than it needs."""

import ast
import json
import re
import subprocess
import tomllib
from importlib.metadata import packages_distributions

import pytest
import yaml

from deploy.native.install import CHECKOUT


def normalized(requirement):
    """Return the normalized name of a requirement (PEP 503)."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=~! ]", requirement)[0]).lower()


PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
DECLARED = {
    "": {normalized(one) for one in PROJECT["dependencies"]},
    **{extra: {normalized(one) for one in names} for extra, names in PROJECT["optional-dependencies"].items()},
}
LOADED_BY_NAME = {
    "httptools": "uvicorn's parser",
}
WORKFLOWS = sorted((CHECKOUT / ".github/workflows").glob("*.yml"))
MAY_WRITE = {"release.yml": {"contents", "id-token", "attestations"}}


def test_the_bill_of_materials_names_every_dependency_and_its_version(tmp_path):
    target = tmp_path / "penstock.cdx.json"
    (command,) = re.findall(r"@\$\(UV\) (export .*)", (CHECKOUT / "Makefile").read_text())
    words = command.replace("dist/penstock.cdx.json", str(target)).split()
    subprocess.run([CHECKOUT / ".tools/bin/uv", *words], cwd=CHECKOUT, check=True)
    made = json.loads(target.read_text())
    assert (made["bomFormat"], made["metadata"]["component"]["version"]) == ("CycloneDX", PROJECT["version"])
    needed = [*PROJECT["dependencies"], *(one for extra in PROJECT["optional-dependencies"].values() for one in extra)]
    names = {re.split(r"[\[<>=~! ]", one)[0].lower() for one in needed}
    found = {one["name"] for one in made["components"] if one["version"] and one["purl"]}
    assert names <= found
    assert "pytest" not in found, "what only tests need is not shipped"


@pytest.mark.parametrize("extra", DECLARED)
def test_every_dependency_is_imported_or_loaded_by_name(extra):
    tops = (f"services/{extra}", "shared") if extra else ("services", "shared")
    imported = {name for top in tops for path in CHECKOUT.glob(f"{top}/**/*.py") for name in imports(path)}
    modules = packages_distributions()
    used = {normalized(one) for name in imported for one in modules.get(name, ())}
    assert DECLARED[extra] - used - LOADED_BY_NAME.keys() == set(), "remove them from pyproject.toml"


def imports(path):
    """Yield the top-level names of the modules that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_reads_alone_unless_it_releases(workflow):
    parsed = yaml.safe_load(workflow.read_text())
    assert parsed["permissions"] == {"contents": "read"}
    granted = [one.get("permissions", {}) for one in parsed["jobs"].values()]
    writes = {name for one in granted for name, right in one.items() if right == "write"}
    assert writes <= MAY_WRITE.get(workflow.name, set())


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_uses_actions_of_github_itself_by_a_version(workflow):
    used = re.findall(r"uses: (\S+)", workflow.read_text())
    assert [one for one in used if not re.fullmatch(r"actions/[a-z-]+@v\d+", one)] == []


def test_every_change_and_every_release_is_audited():
    assert all("make audit" in path.read_text() for path in WORKFLOWS)
