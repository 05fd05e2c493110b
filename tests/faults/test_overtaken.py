"""The bucket changes before its events are read: outdated events end so, and current objects are hashed."""

import contextlib
import itertools

import pytest

from shared.topics import MINIO_LIVE, MINIO_SAFE
from tests.support.waiting import until

pytestmark = pytest.mark.faults


@contextlib.contextmanager
def first_version_published(world):
    """Publish the first version with the hasher stopped; stop ingest for the block, start the hasher at its end."""
    with world.without("hasher"):
        etag = world.put("one", b"first")["ETag"].strip('"')
        until(lambda: (row := world.told("one")) and row["etag"] == etag, 30, lambda: world.told("one"))
        world.stop("ingest")
        yield


def test_object_overwritten_before_reading_is_superseded(world, oracle):
    with first_version_published(world):
        world.put("one", b"second")
    oracle.over()
    world.hashed("one", "superseded")
    world.stack.start("ingest")
    oracle.judge()


def test_object_deleted_before_reading_is_gone(world, oracle):
    with first_version_published(world):
        world.delete("one")
    oracle.over()
    world.hashed("one", "gone")
    world.stack.start("ingest")
    until(lambda: world.told("one")["state"] == "removed", 60, lambda: world.told("one"))
    oracle.judge()
    assert not world.facts("objects.hashed.v1")


@pytest.mark.parametrize("ends_stored", [True, False])
def test_events_in_every_order_end_in_the_state_of_the_bucket(world, oracle, ends_stored):
    """Deliver the events in every order, the lanes in opposite orders; process each before the next."""
    orders = list(itertools.permutations(range(3 if ends_stored else 2)))
    names = [f"order-{''.join(map(str, order))}" for order in orders]
    with world.without("ingest"):
        for name in names:
            world.put(name, b"first")
            world.delete(name)
            if ends_stored:
                world.put(name, f"last {name}".encode())
        events = [_events(world, name, len(orders[0])) for name in names]
        until(
            lambda: all(len(_lane(world, MINIO_SAFE.name, name)) == len(orders[0]) for name in names), 60, "safe lane"
        )
        world.kafka.skip("ingest", MINIO_LIVE.name, MINIO_SAFE.name)
    for step in range(len(orders[0])):
        live = [(MINIO_LIVE.name, mine[order[step]]) for mine, order in zip(events, orders, strict=True)]
        safe = [(MINIO_SAFE.name, mine[order[-1 - step]]) for mine, order in zip(events, orders, strict=True)]
        world.kafka.send_all((topic, fact.key, fact.value, ()) for topic, fact in live + safe)
        until(lambda: not any(world.kafka.lag({"ingest": [MINIO_LIVE.name, MINIO_SAFE.name]}).values()), 60, "lag")
    oracle.over()
    oracle.judge()
    assert len(oracle.listed()) == (len(orders) if ends_stored else 0)


def _events(world, name, count):
    return until(lambda: len(found := _lane(world, MINIO_LIVE.name, name)) == count and found, 30, "live lane")


def _lane(world, topic, name):
    return world.facts(topic, name)
