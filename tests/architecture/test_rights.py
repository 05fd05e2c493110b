"""Every service has rights of its own, and they name what there is."""

import re

from deploy.native import services
from deploy.native.install import CHECKOUT
from shared.provision.policies import POLICIES
from shared.provision.rights import RIGHTS

VIEW = re.compile(r"create (?:or replace )?view api\.(\w+)", re.IGNORECASE)


def source(service: str) -> str:
    return "\n".join(path.read_text() for path in sorted(CHECKOUT.glob(f"services/{service}/**/*.py")))


def test_every_service_has_rights_in_the_database_and_in_the_object_store():
    assert set(services.found()) == set(RIGHTS)
    assert set(services.found()) <= set(POLICIES)


def test_the_views_that_a_service_reads_are_those_that_its_statements_name():
    migrations = [*CHECKOUT.glob("services/*/migrations/*.sql"), *CHECKOUT.glob("shared/migrations/*/*.sql")]
    views = {name for path in migrations for name in VIEW.findall(path.read_text())}
    for service, rights in RIGHTS.items():
        named = set(re.findall(r"\b(?:FROM|JOIN) api\.(\w+)", source(service), re.IGNORECASE))
        assert named & views == set(rights.reads), service


def test_the_queues_of_a_service_are_those_that_it_opens():
    for service, rights in RIGHTS.items():
        opened = re.findall(r"WorkQueue\(pool, \"([\w.]+)\"", source(service))
        assert set(opened) <= set(rights.queues), service
        assert all(f'"{queue}"' in source(service) for queue in rights.queues), service
