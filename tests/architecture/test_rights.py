"""Every service has rights of its own, and they name what there is."""

import re

from deploy.native.install import CHECKOUT
from services import catalogue

MANIFESTS = catalogue.manifests()
VIEW = re.compile(r"create (?:or replace )?view api\.(\w+)", re.IGNORECASE)


def source(service: str) -> str:
    paths = sorted(CHECKOUT.glob(f"services/{service}/**/*.py"))
    return "\n".join(path.read_text() for path in paths if path.name != "manifest.py")


def test_every_folder_with_a_program_has_a_manifest():
    assert set(MANIFESTS) == {path.parent.name for path in CHECKOUT.glob("services/*/__main__.py")}
    assert set(catalogue.names()) == {path.parent.name for path in CHECKOUT.glob("services/*/handlers.py")}


def test_views_of_a_manifest_are_those_that_its_migrations_create():
    for service, manifest in MANIFESTS.items():
        migrations = CHECKOUT.glob(f"services/{service}/migrations/*.sql")
        created = {name for path in migrations for name in VIEW.findall(path.read_text())}
        assert set(manifest.views) == created, service


def test_metrics_worth_an_alarm_exist():
    for service, manifest in MANIFESTS.items():
        assert all(f'"{metric}"' in source(service) for metric in manifest.alarms), service


def test_the_views_that_a_service_reads_are_those_that_its_statements_name():
    for service, manifest in MANIFESTS.items():
        if manifest.is_operator:
            continue
        named = set(re.findall(r"\b(?:FROM|JOIN) api\.(\w+)", source(service), re.IGNORECASE))
        assert named & MANIFESTS.views == set(manifest.reads), service


def test_the_queues_of_a_service_are_those_that_it_opens():
    for service, manifest in MANIFESTS.items():
        opened = re.findall(r"WorkQueue\(pool, \"([\w.]+)\"", source(service))
        assert set(opened) <= set(manifest.queues), service
        assert all(f'"{queue}"' in source(service) for queue in manifest.queues), service


def test_shared_names_no_service():
    # topics and events are named after domains, and one domain has the name of its service
    paths = [
        path for path in CHECKOUT.glob("shared/**/*.py") if path.name != "topics.py" and "events" not in path.parts
    ]
    name = re.compile(rf"(?<![/\w])({'|'.join(MANIFESTS)})(?!\w)", re.IGNORECASE)
    named = {str(path.relative_to(CHECKOUT)): found[0] for path in paths if (found := name.search(path.read_text()))}
    assert named == {}
