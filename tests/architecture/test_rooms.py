"""Every service has the same files and keeps the same promises."""

import importlib
import re
from pathlib import Path

import pytest

from services import catalogue
from shared.settings import Settings

FOLDER = Path(catalogue.FOLDER)
ROOMS = {"__init__", "__main__", "manifest", "app", "handlers", "core", "adapters", "settings"}
HTTP_ROOMS = {"dependencies", "routes", "static", "templates"}
USE_CASES = {"hashing", "loading", "merging"}
MORE_ROOMS = {"workers", "migrations", "datasets"} | HTTP_ROOMS | USE_CASES
NAMES = catalogue.names()


def test_the_services_of_the_bus_are_found():
    assert {"ingest", "hasher"} <= set(NAMES)
    assert "cli" not in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_service_has_the_rooms_of_every_other(name):
    found = {path.stem for path in (FOLDER / name).iterdir() if path.stem != "__pycache__"}
    assert found >= ROOMS
    assert found - ROOMS <= MORE_ROOMS


@pytest.mark.parametrize("name", NAMES)
def test_docstring_of_service_names_its_topics_and_tables(name):
    package = importlib.import_module(f"services.{name}")
    subscriptions = importlib.import_module(f"services.{name}.handlers").router.subscriptions
    said = re.search(r"Consumes (.+); publishes (.+); stores (.+)\.$", " ".join(package.__doc__.split()))
    assert said, package.__doc__
    consumed, published = (set(re.findall(r"`([^`]+)`", part)) for part in said.groups()[:2])
    assert consumed == {topic.name for one in subscriptions for topic in one.topics}
    assert published >= {kind.topic.name for one in subscriptions for kind in one.publishes}


@pytest.mark.parametrize("name", NAMES)
def test_its_settings_are_one_frozen_model_with_a_probe_port_of_its_own(name):
    kind = catalogue.settings_of(name)
    assert issubclass(kind, Settings)
    assert kind.model_config["frozen"]
    ports = [catalogue.settings_of(one).model_fields["health_port"].default for one in NAMES]
    assert len(set(ports)) == len(ports)


@pytest.mark.parametrize("name", NAMES)
def test_its_module_runs_its_app(name):
    text = (FOLDER / name / "__main__.py").read_text()
    assert "build_app(" in text
    assert 'if __name__ == "__main__"' in text
