"""The oracle accepts a healthy stack and reports lost, wrong, duplicate, open or leaked data."""

import json
import uuid

import pytest

from shared.events import ObjectHashed
from shared.topics import OBJECTS_HASHED

pytestmark = pytest.mark.faults


@pytest.fixture
def canary(world):
    """Yield a secret that is part of the stack's environment only during this test."""
    world.stack.env["PENSTOCK_CANARY_TOKEN"] = secret = uuid.uuid4().hex
    yield secret
    del world.stack.env["PENSTOCK_CANARY_TOKEN"]


def change_row(world, canary):  # noqa: ARG001
    statement = 'UPDATE hasher.digests SET digests = digests || \'{"md5": "0"}\' WHERE key = $1'
    world.database.rows(statement, world.prefix + "one")


def republish_under_another_id(world, canary):  # noqa: ARG001
    fact = world.facts(OBJECTS_HASHED.name, "one")[0]
    another = ObjectHashed.model_validate(fact.body | {"correlation_id": "another"})
    headers = [("ce_id", another.event_id.encode())]
    world.kafka.send(fact.topic, another.model_dump_json().encode(), fact.key, headers)


def publish_secret(world, canary):
    world.kafka.send("sweeps.completed.v1", json.dumps({"sweep_id": canary}).encode())


def publish_secret_in_header(world, canary):
    world.kafka.send("sweeps.completed.v1", b"{}", headers=[("x", canary.encode())])


def store_secret(world, canary):
    world.database.rows("UPDATE hasher.digests SET error = $1 WHERE key = $2", canary, world.prefix + "one")


def log_secret(world, canary):
    (world.stack.state_dir / "logs" / "oracle.log").write_text(canary)


def dead_letter(world, canary):  # noqa: ARG001
    world.kafka.send("objects.changed.v1.hasher.dlq", b"{}")


def leave_upload_open(world, canary):  # noqa: ARG001
    world.s3.create_multipart_upload(Bucket="inbox", Key=world.prefix + "open")


def abort_uploads(world):
    for upload in world.s3.list_multipart_uploads(Bucket="inbox", Prefix=world.prefix + "open").get("Uploads", ()):
        world.s3.abort_multipart_upload(Bucket="inbox", Key=upload["Key"], UploadId=upload["UploadId"])


@pytest.mark.parametrize(
    ("violate", "message"),
    [
        (change_row, "has digests"),
        (republish_under_another_id, "told under more ids"),
        (publish_secret, "a secret on sweeps.completed.v1"),
        (publish_secret_in_header, "a secret on sweeps.completed.v1"),
        (store_secret, "a secret in hasher.digests"),
        (log_secret, "a secret in oracle.log"),
        (dead_letter, "dead letters"),
        (leave_upload_open, "open upload"),
    ],
)
def test_oracle_reports_each_violation(world, oracle, canary, violate, message):
    world.put("one")
    oracle.judge()
    violate(world, canary)
    try:
        with pytest.raises(AssertionError, match=message):
            oracle.judge()
    finally:
        abort_uploads(world)


def test_oracle_reports_a_lost_row_after_its_timeout(world, oracle):
    world.put("one")
    oracle.judge()
    world.database.rows("DELETE FROM hasher.digests WHERE key = $1", world.prefix + "one")
    with pytest.raises(AssertionError, match="not within"):
        oracle.judge(within=1)


def test_oracle_reports_unread_records_as_lag(world, oracle):
    with world.without("ingest"):
        world.put("one")
        assert "lag" in oracle.unsettled()[-1]
    oracle.judge()
