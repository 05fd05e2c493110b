"""The bucket changes before its events are read: outdated events end so, and current objects are hashed."""

import contextlib
import itertools

import pytest

from shared.topics import MINIO_LIVE, MINIO_SAFE
from tests.support.waiting import until

pytestmark = pytest.mark.faults


@contextlib.contextmanager
def first_version_published(system):
    """Publish the first version with the hasher stopped; stop ingest for the block, start the hasher at its end."""
    with system.without("hasher"):
        etag = system.put("one", b"first")["ETag"].strip('"')
        until(lambda: (row := system.object_row("one")) and row["etag"] == etag, 30, lambda: system.object_row("one"))
        system.stop("ingest")
        yield


def test_object_overwritten_before_reading_is_superseded(system, oracle):
    with first_version_published(system):
        system.put("one", b"second")
    oracle.over()
    system.hashed("one", "superseded")
    system.stack.start("ingest")
    oracle.judge()


def test_object_deleted_before_reading_is_gone(system, oracle):
    with first_version_published(system):
        system.delete("one")
    oracle.over()
    system.hashed("one", "gone")
    system.stack.start("ingest")
    until(lambda: system.object_row("one")["state"] == "removed", 60, lambda: system.object_row("one"))
    oracle.judge()
    assert not system.facts("objects.hashed.v1")


@pytest.mark.parametrize("ends_stored", [True, False])
def test_events_in_every_order_end_in_the_state_of_the_bucket(system, oracle, ends_stored):
    """Deliver the events in every order, the lanes in opposite orders; process each before the next."""
    orders = list(itertools.permutations(range(3 if ends_stored else 2)))
    names = [f"order-{''.join(map(str, order))}" for order in orders]
    with system.without("ingest"):
        for name in names:
            system.put(name, b"first")
            system.delete(name)
            if ends_stored:
                system.put(name, f"last {name}".encode())
        events = [_events(system, name, len(orders[0])) for name in names]
        until(
            lambda: all(len(_lane(system, MINIO_SAFE.name, name)) == len(orders[0]) for name in names), 60, "safe lane"
        )
        system.kafka.skip("ingest", MINIO_LIVE.name, MINIO_SAFE.name)
    for step in range(len(orders[0])):
        live = [(MINIO_LIVE.name, mine[order[step]]) for mine, order in zip(events, orders, strict=True)]
        safe = [(MINIO_SAFE.name, mine[order[-1 - step]]) for mine, order in zip(events, orders, strict=True)]
        system.kafka.send_all((topic, fact.key, fact.value, ()) for topic, fact in live + safe)
        until(lambda: not any(system.kafka.lag({"ingest": [MINIO_LIVE.name, MINIO_SAFE.name]}).values()), 60, "lag")
    oracle.over()
    oracle.judge()
    assert len(oracle.listed()) == (len(orders) if ends_stored else 0)


def _events(system, name, count):
    return until(lambda: len(found := _lane(system, MINIO_LIVE.name, name)) == count and found, 30, "live lane")


def _lane(system, topic, name):
    return system.facts(topic, name)
