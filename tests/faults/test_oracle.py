"""The oracle accepts a healthy stack and reports lost, wrong, duplicate, open or leaked data."""

import json
import uuid

import pytest

from shared.events import ObjectHashed
from shared.topics import OBJECTS_HASHED

pytestmark = pytest.mark.faults


@pytest.fixture
def canary(system):
    """Yield a secret that is part of the stack's environment only during this test."""
    system.stack.env["PENSTOCK_CANARY_TOKEN"] = secret = uuid.uuid4().hex
    yield secret
    del system.stack.env["PENSTOCK_CANARY_TOKEN"]


def change_row(system, canary):  # noqa: ARG001
    statement = 'UPDATE hasher.digests SET digests = digests || \'{"md5": "0"}\' WHERE key = $1'
    system.database.rows(statement, system.prefix + "one")


def republish_under_another_id(system, canary):  # noqa: ARG001
    fact = system.facts(OBJECTS_HASHED.name, "one")[0]
    another = ObjectHashed.model_validate(fact.body | {"correlation_id": "another"})
    headers = [("ce_id", another.event_id.encode())]
    system.kafka.send(fact.topic, another.model_dump_json().encode(), fact.key, headers)


def publish_secret(system, canary):
    system.kafka.send("sweeps.completed.v1", json.dumps({"sweep_id": canary}).encode())


def publish_secret_in_header(system, canary):
    system.kafka.send("sweeps.completed.v1", b"{}", headers=[("x", canary.encode())])


def store_secret(system, canary):
    system.database.rows("UPDATE hasher.digests SET error = $1 WHERE key = $2", canary, system.prefix + "one")


def log_secret(system, canary):
    (system.stack.state_dir / "logs" / "oracle.log").write_text(canary)


def dead_letter(system, canary):  # noqa: ARG001
    system.kafka.send("objects.changed.v1.hasher.dlq", b"{}")


def leave_upload_open(system, canary):  # noqa: ARG001
    system.s3.create_multipart_upload(Bucket="inbox", Key=system.prefix + "open")


def abort_uploads(system):
    for upload in system.s3.list_multipart_uploads(Bucket="inbox", Prefix=system.prefix + "open").get("Uploads", ()):
        system.s3.abort_multipart_upload(Bucket="inbox", Key=upload["Key"], UploadId=upload["UploadId"])


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
def test_oracle_reports_each_violation(system, oracle, canary, violate, message):
    system.put("one")
    oracle.judge()
    violate(system, canary)
    try:
        with pytest.raises(AssertionError, match=message):
            oracle.judge()
    finally:
        abort_uploads(system)


def test_oracle_reports_a_lost_row_after_its_timeout(system, oracle):
    system.put("one")
    oracle.judge()
    system.database.rows("DELETE FROM hasher.digests WHERE key = $1", system.prefix + "one")
    with pytest.raises(AssertionError, match="not within"):
        oracle.judge(within=1)


def test_oracle_reports_unread_records_as_lag(system, oracle):
    with system.without("ingest"):
        system.put("one")
        assert "lag" in oracle.unsettled()[-1]
    oracle.judge()
