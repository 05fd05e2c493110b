"""Notifications as MinIO and AWS write them; `golden/minio.json` is recorded, `key` is the uploaded key."""

import json
import unicodedata
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.core import notifications
from shared.errors import Rejected
from shared.text import is_unsafe

GOLDEN = Path(__file__).parent / "golden"
MINIO = {one["name"]: one for one in json.loads((GOLDEN / "minio.json").read_text())}
AWS = {one["name"]: one for one in json.loads((GOLDEN / "aws.json").read_text())}
INPUTS = frozenset({"inbox", "versions"})


def decode(case, lane="live"):
    return notifications.decode(json.dumps(case["record"]).encode(), lane)


def one(case):
    (notification,) = decode(case)
    return notification


def message(**changes):
    described = {"key": "a", "size": 1, "eTag": "e", "sequencer": "1"} | changes
    s3 = {"bucket": {"name": "inbox"}, "object": described}
    return {"eventName": "s3:ObjectCreated:Put", "eventTime": "2026-01-01T00:00:00Z", "s3": s3}


def body(*messages):
    return json.dumps({"Records": messages}).encode()


@pytest.mark.parametrize("case", [*MINIO.values(), *AWS.values()], ids=lambda case: case["name"])
def test_recorded_notification_gives_the_uploaded_key(case):
    found = decode(case)
    assert [(notification.change, notification.key) for notification in found] == (
        [(case["change"], case["key"])] if case["change"] else []
    )
    for notification in found:
        assert notification.occurred_at.utcoffset() == timedelta(0)
        assert notification.sequencer
        assert notification.etag is None or notification.etag.strip('"') == notification.etag
        assert (notification.size is None) == (notification.change == "removed")
        notifications.reject_unsafe(notification, INPUTS)


def test_golden_records_include_hard_keys():
    keys = {case["key"] for case in MINIO.values()}
    assert {"a b.txt", "a+b.txt", "a%2Bb.txt", "a+b c%2B.txt", "folder/"} <= keys
    assert {unicodedata.normalize(form, "é.txt") for form in ("NFC", "NFD")} <= keys
    assert 1024 in {len(key.encode()) for key in keys}
    assert any('"' in key and "'" in key for key in keys)
    assert any("😀" in key for key in keys)


def test_empty_object_has_size_0_although_the_record_has_none():
    assert "size" not in MINIO["empty"]["record"]["Records"][0]["s3"]["object"]
    assert one(MINIO["empty"]).size == 0


def test_metadata_has_only_the_uploaders_entries_without_prefix():
    notification = one(MINIO["metadata"])
    assert notification.metadata == {"md5": "5d41402abc4b2a76b9719d911017c592", "penstock-digests": "sha512"}
    assert notification.content_type == "text/plain; charset=utf-8"


def test_versions_have_their_ids_and_delete_markers_have_none():
    first, second = one(MINIO["version"]), one(MINIO["second version"])
    assert first.version_id
    assert first.version_id != second.version_id
    assert one(MINIO["delete marker"]).version_id is None
    assert one(MINIO["version removed"]).version_id == first.version_id
    assert one(AWS["delete marker"]).version_id is None
    assert one(AWS["lifecycle marker"]).version_id is None


def test_null_version_id_is_none():
    assert MINIO["trailing slash"]["record"]["Records"][0]["s3"]["object"]["versionId"] == "null"
    assert one(MINIO["trailing slash"]).version_id is None


def test_folder_marker_ends_in_a_slash_and_is_empty():
    marker = one(MINIO["trailing slash"])
    assert notifications.is_folder_marker(marker.key, marker.size)
    assert not notifications.is_folder_marker("folder/", 5)
    assert not notifications.is_folder_marker("empty", 0)


def test_both_lanes_give_the_same_event_id():
    live, safe = (decode(MINIO["plain"], lane)[0] for lane in ("live", "safe"))
    assert live.event_id == safe.event_id
    assert live.correlation_id == safe.correlation_id


def test_two_uploads_of_one_key_have_two_correlation_ids():
    first, second = (notifications.decode(body(message(sequencer=one)), "live")[0] for one in "12")
    assert first.correlation_id != second.correlation_id


def test_records_of_one_message_stay_in_order():
    found = notifications.decode(body(message(key="a"), message(key="b"), message(key="c")), "safe")
    assert [(notification.key, notification.seen_by) for notification in found] == [
        ("a", "safe"),
        ("b", "safe"),
        ("c", "safe"),
    ]


def test_notification_without_records_is_rejected():
    with pytest.raises(Rejected, match="names no object"):
        notifications.decode(b'{"Records": []}', "live")


@given(st.text(min_size=1, max_size=60))
def test_any_key_is_decoded_unchanged(key):
    (notification,) = notifications.decode(body(message(key=quote_plus(key))), "live")
    assert notification.key == key


@given(st.binary(max_size=300))
def test_any_bytes_are_decoded_or_rejected(raw):
    with suppress(Rejected):
        notifications.decode(raw, "live")


@pytest.mark.parametrize("raw", [None, b""])
def test_record_without_a_body_is_rejected(raw):
    with pytest.raises(Rejected, match="has no body"):
        notifications.decode(raw, "live")


def test_rejection_names_the_field_and_not_its_value():
    canary = {"Records": [message() | {"eventTime": "canary"}]}
    with pytest.raises(Rejected, match=r"Records\.0\.eventTime") as rejected:
        notifications.decode(json.dumps(canary).encode(), "live")
    assert "canary" not in str(rejected.value)


def test_key_that_is_not_utf8_is_unsafe():
    (notification,) = notifications.decode(body(message(key="%ff")), "live")
    with pytest.raises(Rejected, match="rename") as rejected:
        notifications.reject_unsafe(notification, INPUTS)
    assert str(rejected.value).encode("utf-8")


@pytest.mark.parametrize("key", ["../../etc/passwd", "a/../b", "//x", "-rf", "$(id)", "a\\b", " ", "e\u0301", "\u200b"])
def test_unusual_key_is_safe(key):
    assert not is_unsafe(key)


@pytest.mark.parametrize("key", ["a\x00", "a\n", "\x1b[2J", "\x7f", "\x9b2J", "\u202e", "\u2069", "\udc80"], ids=ascii)
def test_key_with_control_or_bidirectional_characters_is_unsafe(key):
    assert is_unsafe(key)


def test_bucket_that_is_not_an_input_is_rejected_with_the_setting_to_change():
    with pytest.raises(Rejected, match="PENSTOCK_INPUT_BUCKETS") as rejected:
        notifications.reject_unsafe(one(MINIO["plain"]), frozenset({"jobs"}))
    assert rejected.value.code == "FOREIGN_BUCKET"
