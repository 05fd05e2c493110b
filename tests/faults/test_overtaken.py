"""The bucket goes on while its events are on the way: what is overtaken ends so, and what is there now is hashed."""

import contextlib
import itertools

import pytest

from shared.topics import MINIO_LIVE, MINIO_SAFE
from tests.support.waiting import until

pytestmark = pytest.mark.faults


@contextlib.contextmanager
def first_version_told(world):
    """Nobody has read it when the block ends: the hasher starts then, while ingest, having told it, is stopped."""
    with world.without("hasher"):
        etag = world.put("one", b"first")["ETag"].strip('"')
        until(lambda: (row := world.told("one")) and row["etag"] == etag, 30, lambda: world.told("one"))
        world.stop("ingest")
        yield


def test_overwritten_between_event_and_read(world, oracle):
    with first_version_told(world):
        world.put("one", b"second")
    oracle.over()
    world.hashed("one", "superseded")
    world.stack.start("ingest")
    oracle.judge()


def test_deleted_before_it_was_read(world, oracle):
    with first_version_told(world):
        world.delete("one")
    oracle.over()
    world.hashed("one", "gone")
    world.stack.start("ingest")
    until(lambda: world.told("one")["state"] == "removed", 60, lambda: world.told("one"))
    oracle.judge()
    assert not world.facts("objects.hashed.v1")


@pytest.mark.parametrize("ends_stored", [True, False])
def test_created_and_deleted_in_every_order(world, oracle, ends_stored):
    """The same events in every order, the two lanes in opposite ones, each told before the next arrives."""
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
