"""Every topic and event is declared once, and the services read and write what the lists say."""

import importlib

import pytest
from faststream import AckPolicy

from services import asyncapi, catalogue
from shared.events import Event
from shared.topics import DEAD_LETTER_SUFFIX, STORE_TOPICS

NAMES = catalogue.names()
MANIFESTS = catalogue.manifests()
EVENTS = MANIFESTS.events


def subscriptions_of(name):
    return importlib.import_module(f"services.{name}.handlers").router.subscriptions


def subclasses(kind):
    return {below for one in kind.__subclasses__() for below in {one, *subclasses(one)}}


def test_every_event_is_published_by_a_manifest_on_a_topic_of_its_own():
    declared = {kind for kind in subclasses(Event) if "topic" in vars(kind)}
    assert set(EVENTS) == declared
    assert {kind.topic for kind in EVENTS} == set(MANIFESTS.topics) - set(STORE_TOPICS)
    assert len({kind.topic.name for kind in EVENTS}) == len(EVENTS)


def test_every_event_has_a_key_and_an_identity():
    for kind in EVENTS:
        assert kind.record_key is not Event.record_key, kind
        assert kind.identity is not Event.identity, kind


def test_event_classes_are_found_by_their_topics():
    assert {kind.topic.name: kind for kind in EVENTS}.items() <= Event.by_topic.items()


@pytest.mark.parametrize("name", NAMES)
def test_a_service_consumes_what_its_manifest_says(name):
    subscriptions = subscriptions_of(name)
    read = [topic for one in subscriptions for topic in one.topics]
    assert sorted(topic.name for topic in read) == sorted(topic.name for topic in MANIFESTS.consumers[name])
    dead = {topic.dead_letter_topic(name) for topic in read if not topic.is_dead_letter_topic}
    assert dead <= set(MANIFESTS.all_topics)


def test_the_ingress_shows_every_fact_and_every_dead_letter_of_the_others():
    facts = {kind.topic for kind in EVENTS if not kind.__name__.endswith("Requested")}
    read = MANIFESTS.consumers
    dead_letters = {topic.dead_letter_topic(name) for name in NAMES if name != "ingress" for topic in read[name]}
    assert set(read["ingress"]) == facts | dead_letters


def test_no_dead_letter_can_become_one_again():
    assert not [topic.name for topic in MANIFESTS.all_topics if topic.name.count(DEAD_LETTER_SUFFIX) > 1]


@pytest.mark.parametrize("name", NAMES)
def test_handlers_publish_only_events_of_the_manifest(name):
    published = {kind for one in subscriptions_of(name) for kind in one.publishes}
    assert published <= set(MANIFESTS[name].publishes)


@pytest.mark.parametrize("name", NAMES)
def test_every_reader_is_at_least_once_from_the_first_record_on_in_the_group_of_its_name(name):
    broker = asyncapi.subscribed_broker(name)
    assert broker.subscribers
    for subscriber in broker.subscribers:
        assert subscriber.group_id == name
        assert subscriber.ack_policy is AckPolicy.NACK_ON_ERROR
        assert subscriber._connection_args["auto_offset_reset"] == "earliest"
        assert not subscriber._connection_args.get("enable_auto_commit")
