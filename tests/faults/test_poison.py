"""Records nobody can use end as one dead letter each; their neighbours are hashed all the same."""

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
LETTERS = {
    MINIO_LIVE.name: {"EMPTY_RECORD": 2, "KEY_UNSAFE": 1, "BAD_NOTIFICATION": 7},
    OBJECTS_CHANGED.name: {"EMPTY_RECORD": 1, "KEY_UNSAFE": 1, "BAD_EVENT": 8},
}


@pytest.mark.parametrize("topic", [MINIO_LIVE.name, OBJECTS_CHANGED.name])
def test_ten_kinds_of_poison(world, oracle, topic):
    records = GARBAGE | {kind: (json.dumps(body).encode(), ()) for kind, body in SPECIAL[topic].items()}
    names = [f"{number:02}" for number in range(50)]
    world.put_all(names[:25])
    world.kafka.send_all((topic, kind.encode(), *record) for kind, record in records.items())
    world.put_all(names[25:])
    oracle.over()
    oracle.judge(letters=LETTERS[topic])
    service = {MINIO_LIVE.name: "ingest", OBJECTS_CHANGED.name: "hasher"}[topic]
    buried = (
        (str(letter.key, errors="replace"), letter)
        for letter in world.kafka.read(f"{topic}.{service}.dlq")
        if letter.key
    )
    letters = {key: letter for key, letter in buried if key in records}  # others' letters stand there too
    assert set(letters) == set(records)
    for kind, letter in letters.items():
        assert letter.value == records[kind][0], kind
        assert letter.header("dlq_topic") == topic
        assert letter.header("dlq_reason")
