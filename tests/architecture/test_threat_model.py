"""SECURITY.md names existing tests for every actor."""

import ast
import re

import pytest

from deploy.native.install import CHECKOUT

TEXT = (CHECKOUT / "SECURITY.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[^`]+)`", TEXT)))


def names_in(path: str) -> set[str]:
    tree = ast.parse((CHECKOUT / path).read_text())
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


@pytest.mark.parametrize("named", NAMED)
def test_a_named_test_is_there(named):
    path, _, name = named.partition("::")
    assert (CHECKOUT / path).is_file(), f"SECURITY.md names {path}, and there is no such file"
    assert name in names_in(path), f"SECURITY.md names {named}, and the file has no such test"


def test_every_actor_has_a_test():
    table = [line.split("|") for line in TEXT.splitlines() if line.startswith("| ")]
    actors = {cells[1].strip(): cells[3] for cells in table if cells[1].strip() != "Actor"}
    assert len(actors) >= 10
    assert [actor for actor, shown in actors.items() if "tests/" not in shown] == []


def test_every_attack_on_real_servers_is_in_the_threat_model():
    attacks = {path.relative_to(CHECKOUT).as_posix() for path in (CHECKOUT / "tests/security").glob("test_*.py")}
    assert sorted(path for path in attacks if path not in TEXT) == []
