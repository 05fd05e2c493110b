"""The documents agree with the code: links resolve; commands, variables, topics, metrics and definitions exist."""

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from cyclopts import CycloptsError, MissingArgumentError

from deploy import architecture_tables, settings_table
from services import catalogue
from services.cli.app import build_app
from shared import environment

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "deploy/**/*.md", "services/**/*.md", "tests/**/*.md")
    for path in ROOT.glob(pattern)
)
SERVICES = catalogue.names()

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"^```[^\n]*\n(.*?)^```|`([^`\n]+)`", re.DOTALL | re.MULTILINE)
VARIABLE = re.compile(r"PENSTOCK_(?:<SERVICE>_)?[A-Z][A-Z0-9_]*(?:_<SERVICE>)?(?<!_)")
MAKE = re.compile(r"(?:^|&& |; )(?:\w+=\S+ )*make((?: [a-z-]+)+)")
METRIC = re.compile(r"penstock_[a-z_]+")
ENDS_COMMAND = frozenset({"|", ">", "&&", "#"})


def code_lines(path: Path) -> Iterator[str]:
    for block, span in CODE.findall(path.read_text()):
        for line in re.sub(r"\\\n\s*", " ", block or span).splitlines():
            yield line.strip().removeprefix("$ ").removeprefix(".venv/bin/")


def anchors(path: Path) -> set[str]:
    prose = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def names(text: str) -> set[str]:
    """Every variable in a text, a service's own ones spelled out for each service."""
    found = set(VARIABLE.findall(text))
    return {name.replace("<SERVICE>", service.upper()) for name in found for service in SERVICES}


@cache
def documented() -> set[str]:
    page = settings_table.PAGE.read_text()
    return names("\n".join(line.split("|")[1] for line in page.splitlines() if line.startswith("| `")))


def in_use() -> set[str]:
    """The variables of the stack: those that follow from each other, and those that files name."""
    files = [ROOT / name for name in (".env.example", "docker-compose.yml", "Makefile")]
    named = set.union(*(names(path.read_text()) for path in files if path.exists()))
    each = {f"PENSTOCK_{service.upper()}_PROCESSES" for service in SERVICES}
    return named | each | set(environment.resolve({}))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for link in LINK.findall(path.read_text()):
        if "://" in link or link.startswith("mailto:"):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), f"{link} leads nowhere"
        assert not anchor or anchor in anchors(target), f"{link}: there is no such heading"


def test_index_names_the_file_and_definition_of_each_behavior() -> None:
    section = (ROOT / "docs" / "index.md").read_text().split("\n## Where is it?\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| .+ \| \[(.+)\]\(\.\./(.+)\) \| `(\w+)` \|$", section, re.MULTILINE)
    assert len(rows) == section.count("\n| ") - 1 >= 10
    for label, path, name in rows:
        assert label == path
        definition = re.compile(rf"^\s*(?:async def|def|class) {name}\b", re.MULTILINE)
        assert definition.search((ROOT / path).read_text()), f"{path} does not define {name}"


def test_settings_tables_are_fresh() -> None:
    page = settings_table.PAGE.read_text()
    assert page == settings_table.written(page), "run .venv/bin/python -m deploy.settings_table"


def test_architecture_tables_are_fresh() -> None:
    page = architecture_tables.PAGE.read_text()
    assert page == architecture_tables.written(page, catalogue.manifests()), (
        "run .venv/bin/python -m deploy.architecture_tables"
    )


def test_every_variable_is_told_on_the_settings_page() -> None:
    named = set.union(*(names(path.read_text()) for path in DOCUMENTS))
    assert (named | in_use()) - documented() == set()


def test_every_variable_on_the_settings_page_exists() -> None:
    settings = {name for model in settings_table.models().values() for name in settings_table.variables(model)}
    of_stack = names("".join(path.read_text() for path in (*ROOT.glob("deploy/**/*.py"), *ROOT.glob("tests/*.py"))))
    assert documented() - settings - in_use() - of_stack == set()


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        target
        for path in DOCUMENTS
        for line in code_lines(path)
        for words in MAKE.findall(line)
        for target in words.split()
    }
    assert named - targets == set()


def test_every_console_command_can_be_given_as_written() -> None:
    app = build_app()
    for path in DOCUMENTS:
        for line in code_lines(path):
            if not re.match(r"penstock( |$)", line):
                continue
            words = shlex.split(line, comments=True)[1:]
            end = next((at for at, word in enumerate(words) if word in ENDS_COMMAND), None)
            try:
                app.parse_args(words[:end], exit_on_error=False, print_error=False)
            except MissingArgumentError:
                assert len(words) <= 2, f"{path.name}: {line}"  # the command is only named
            except CycloptsError as error:
                pytest.fail(f"{path.name}: {line}: {error}")


def test_every_metric_exists() -> None:
    code = "\n".join(path.read_text() for top in ("services", "shared") for path in ROOT.glob(f"{top}/**/*.py"))
    named = {line for path in DOCUMENTS for line in code_lines(path) if METRIC.fullmatch(line)}
    assert {name for name in named if f'"{name}"' not in code} == set()
