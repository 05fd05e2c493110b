"""Rights to publish are what the code publishes: a shorter list stops a service, a longer one is a hole."""

import ast
import importlib

import pytest

from deploy.native.install import CHECKOUT
from services import catalogue
from shared.provision.kafka_rights import Operation, Resource, all_rights, rights_of

NAMES = catalogue.names()
MANIFESTS = catalogue.manifests()
TOPIC_OF = {kind.__name__: kind.topic for kind in MANIFESTS.events}


def made_by(name):
    """Return the topics of the events that the code of a service makes."""
    calls = (
        node.func.id
        for path in (CHECKOUT / "services" / name).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    )
    return {TOPIC_OF[called] for called in calls if called in TOPIC_OF}


@pytest.mark.parametrize("name", NAMES)
def test_what_a_service_makes_it_publishes_or_has_read(name):
    listed, made = set(MANIFESTS.producers[name]), made_by(name)
    assert listed - made == set()
    assert made - listed - set(MANIFESTS.consumers[name]) == set()


@pytest.mark.parametrize("name", NAMES)
def test_what_a_handler_publishes_is_listed(name):
    published = {
        kind.topic
        for one in importlib.import_module(f"services.{name}.handlers").router.subscriptions
        for kind in one.publishes
    }
    assert published <= set(MANIFESTS.producers[name])


def test_every_topic_has_somebody_who_writes_it():
    written = {right.name for right in all_rights(MANIFESTS) if right.operation is Operation.WRITE}
    by_operator_alone = {"dead-letters.settled.v1"}
    assert {topic.name for topic in MANIFESTS.all_topics} - written == by_operator_alone


@pytest.mark.parametrize("name", MANIFESTS.kafka_users)
def test_a_user_writes_no_topic_of_another_but_by_the_list(name):
    mine = rights_of(MANIFESTS, name)
    assert {right.user for right in mine} == {f"penstock-{name}"}
    for right in mine:
        if right.operation is Operation.WRITE and right.name.endswith(".dlq"):
            assert right.name.endswith(f".{name}.dlq")
        if right.resource is Resource.GROUP and right.operation is Operation.READ:
            assert right.name == name
        assert right.operation is not Operation.DESCRIBE or name in MANIFESTS.observers
    assert "*" not in {right.name for right in mine}


def test_no_client_of_kafka_connects_by_itself():
    programs = [path for top in ("services", "shared", "deploy") for path in (CHECKOUT / top).rglob("*.py")]
    assert {str(path.relative_to(CHECKOUT)) for path in programs if "bootstrap_servers" in path.read_text()} == {
        "shared/kafka.py"
    }
