"""Malformed records become one dead letter each; the objects around them are hashed."""

import json

import pytest

from shared.topics import MINIO_LIVE, OBJECTS_CHANGED

pytestmark = pytest.mark.faults

NO_JSON = b"not JSON"
GARBAGE = {
    "not JSON": (NO_JSON, ()),
    "wrong schema": (b'{"a": 1}', ()),
    "0 bytes": (b"", ()),
    "tombstone": (None, ()),
    "non-UTF-8 header": (NO_JSON, [("x", b"\xff\xfe\x00")]),
    "huge header": (NO_JSON, [("x", b"x" * 900_000)]),
    "deep nesting": (b"[" * 100_000, ()),
    "900 KB body": (b"x" * 900_000, ()),
}
SPECIAL = {
    MINIO_LIVE.name: {
        "NUL": {
            "Records": [
                {
                    "eventName": "s3:ObjectCreated:Put",
                    "eventTime": "2026-01-01T00:00:00Z",
                    "s3": {"bucket": {"name": "inbox"}, "object": {"key": "a%00b", "size": 1, "eTag": "e"}},
                }
            ]
        },
        "wrong types": {"Records": [{"eventName": 7, "eventTime": [], "s3": "s3"}]},
    },
    OBJECTS_CHANGED.name: {
        "NUL": {"change": "stored", "bucket": "inbox", "key": "a\0b", "size": 1, "etag": "e", "correlation_id": "c"},
        "wrong types": {"change": "stored", "bucket": 7, "key": [], "size": "many"},
    },
}
DEAD_LETTERS = {
    MINIO_LIVE.name: {"EMPTY_RECORD": 2, "KEY_UNSAFE": 1, "BAD_NOTIFICATION": 7},
    OBJECTS_CHANGED.name: {"EMPTY_RECORD": 1, "KEY_UNSAFE": 1, "BAD_EVENT": 8},
}


@pytest.mark.parametrize("topic", [MINIO_LIVE.name, OBJECTS_CHANGED.name])
def test_malformed_records_become_one_dead_letter_each(system, oracle, topic):
    records = GARBAGE | {kind: (json.dumps(body).encode(), ()) for kind, body in SPECIAL[topic].items()}
    names = [f"{number:02}" for number in range(50)]
    system.put_all(names[:25])
    system.kafka.send_all((topic, kind.encode(), *record) for kind, record in records.items())
    system.put_all(names[25:])
    oracle.over()
    oracle.judge(dead_letters=DEAD_LETTERS[topic])
    service = {MINIO_LIVE.name: "ingest", OBJECTS_CHANGED.name: "hasher"}[topic]
    by_key = (
        (str(dead_letter.key, errors="replace"), dead_letter)
        for dead_letter in system.kafka.read(f"{topic}.{service}.dlq")
        if dead_letter.key
    )
    dead_letters = {
        key: dead_letter for key, dead_letter in by_key if key in records
    }  # other tests leave dead letters here too
    assert set(dead_letters) == set(records)
    for kind, dead_letter in dead_letters.items():
        assert dead_letter.value == records[kind][0], kind
        assert dead_letter.header("dlq_topic") == topic
        assert dead_letter.header("dlq_reason")
