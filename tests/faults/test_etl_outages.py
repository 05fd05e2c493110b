"""Outages of the servers that etl needs: it waits, and afterwards everything is loaded once."""

import random
import secrets
import time

import pytest

from tests.support.etl import BUCKET
from tests.support.uploads import pair
from tests.support.waiting import until

pytestmark = pytest.mark.faults

PEOPLE = [str(number) for number in range(1000, 1100)]


@pytest.fixture
def dropped():
    return [upload for user in PEOPLE for upload in pair(user)]


def test_postgres_outage_loses_nothing(users, tables, dropped):
    users.serve(2)
    with users.uploading(dropped, threads=2) as acknowledged:
        for end in ("stop", "kill", "kill"):
            with users.system.without("postgres", end=end):
                time.sleep(1)  # the length of the fault, not a wait
    tables.over()
    assert len(acknowledged) == len(dropped)
    assert sorted(tables.judge()) == PEOPLE


def test_postgres_kills_during_loads_lose_nothing(users, tables, dropped):
    users.serve(2, etl_slice=20)
    with users.system.without("ingest"):
        assert len(users.put_all(dropped)) == len(dropped)
        load = users.ask_for_load()
        for _ in range(3):
            users.system.stack.kill("postgres")
            users.system.stack.start("postgres")
        assert users.loaded(load)["state"] == "succeeded"
        until(lambda: len(users.table("1")) == len(PEOPLE), 30, lambda: len(users.table("1")))
    tables.over()
    assert sorted(tables.judge()) == PEOPLE


def test_minio_kill_loses_nothing(users, tables, dropped):
    seed = secrets.randbits(32)
    print(f"\nseed {seed}")
    chance = random.Random(seed)
    users.serve(2)
    acknowledged = set()
    for each in range(4):
        with users.uploading(dropped[each::4], threads=8) as some:
            time.sleep(chance.uniform(0.1, 0.6))  # a random moment, not a wait
            users.system.stack.kill("minio")
        users.system.stack.start("minio")
        acknowledged |= some
    tables.over()
    tables.oracle.sweep()
    tables.judge()
    print(f"{len(acknowledged)} of {len(dropped)} acknowledged")
    held = {key.removeprefix(users.system.prefix) for key, _, _ in users.stored()}
    assert acknowledged <= held, acknowledged - held


def test_minio_outage_during_events_rejects_nothing(users, tables, dropped):
    """A temporarily unreadable object is neither removed nor rejected."""
    names = users.serve(2)
    users.put(*dropped[:2])
    until(lambda: not tables.unsettled(), 30, tables.unsettled)
    for name in names:
        users.system.stack.pause(name)
    users.put_all(dropped)
    with users.system.without("minio"):
        for name in names:
            users.system.stack.resume(name)
        time.sleep(3)  # the length of the fault, not a wait
        assert not users.rejects()
        assert len(users.table("1")) == 1
    tables.over()
    assert sorted(tables.judge()) == PEOPLE


def test_kafka_outage_loses_nothing(users, tables, dropped):
    users.serve(2)
    with users.system.without("kafka"), users.uploading(dropped, threads=200) as acknowledged:
        until(lambda: len(users.stored()) == len(dropped), 60, lambda: f"{len(users.stored())} stored")
        users.system.stack.start("kafka")
    tables.over()
    assert len(acknowledged) == len(dropped)
    assert sorted(tables.judge()) == PEOPLE


def test_full_load_finds_changes_without_events(users, tables, dropped):
    users.serve(2)
    with users.system.without("ingest"):
        users.put_all(dropped)
        assert users.loaded(users.ask_for_load())["changed"] == len(dropped)
        users.remove(*(f"{user}.csv" for user in PEOPLE[::2]))
        again = users.loaded(users.ask_for_load())
        assert (again["listed"], again["changed"], again["removed"]) == (150, 0, 50)
    tables.over()
    assert sorted(tables.judge()) == PEOPLE[1::2]


@pytest.mark.parametrize("again", [False, True])
def test_emptied_bucket_empties_table(users, tables, dropped, again):
    users.serve(2)
    users.put_all(dropped)
    until(lambda: not tables.unsettled(), 60, tables.unsettled)
    users.system.s3.delete_objects(
        Bucket=BUCKET, Delete={"Objects": [{"Key": key} for key, _, _ in users.stored()], "Quiet": True}
    )
    if again:
        users.put_all(dropped)
    tables.over()
    assert sorted(tables.judge()) == (PEOPLE if again else [])
