"""Notifications as MinIO and AWS write them: `golden/minio.json` is from a server, `key` is what was uploaded."""

import json
import unicodedata
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.core import notices
from shared.errors import Rejected
from shared.text import is_unsafe

GOLDEN = Path(__file__).parent / "golden"
MINIO = {one["name"]: one for one in json.loads((GOLDEN / "minio.json").read_text())}
AWS = {one["name"]: one for one in json.loads((GOLDEN / "aws.json").read_text())}
INPUTS = frozenset({"inbox", "versions"})


def decode(case, lane="live"):
    return notices.decode(json.dumps(case["record"]).encode(), lane)


def one(case):
    (notice,) = decode(case)
    return notice


def message(**changes):
    described = {"key": "a", "size": 1, "eTag": "e", "sequencer": "1"} | changes
    s3 = {"bucket": {"name": "inbox"}, "object": described}
    return {"eventName": "s3:ObjectCreated:Put", "eventTime": "2026-01-01T00:00:00Z", "s3": s3}


def body(*messages):
    return json.dumps({"Records": messages}).encode()


@pytest.mark.parametrize("case", [*MINIO.values(), *AWS.values()], ids=lambda case: case["name"])
def test_a_real_record_gives_the_key_that_was_uploaded(case):
    found = decode(case)
    assert [(notice.change, notice.key) for notice in found] == (
        [(case["change"], case["key"])] if case["change"] else []
    )
    for notice in found:
        assert notice.occurred_at.utcoffset() == timedelta(0)
        assert notice.sequencer
        assert notice.etag is None or notice.etag.strip('"') == notice.etag
        assert (notice.size is None) == (notice.change == "removed")
        notices.refuse_unsafe(notice, INPUTS)


def test_the_hard_keys_are_among_the_golden_ones():
    keys = {case["key"] for case in MINIO.values()}
    assert {"a b.txt", "a+b.txt", "a%2Bb.txt", "a+b c%2B.txt", "folder/"} <= keys
    assert {unicodedata.normalize(form, "é.txt") for form in ("NFC", "NFD")} <= keys
    assert 1024 in {len(key.encode()) for key in keys}
    assert any('"' in key and "'" in key for key in keys)
    assert any("😀" in key for key in keys)


def test_an_empty_object_has_a_size_although_the_record_has_none():
    assert "size" not in MINIO["empty"]["record"]["Records"][0]["s3"]["object"]
    assert one(MINIO["empty"]).size == 0


def test_metadata_loses_its_prefix_and_what_is_not_the_uploaders():
    notice = one(MINIO["metadata"])
    assert notice.metadata == {"md5": "5d41402abc4b2a76b9719d911017c592", "penstock-digests": "sha512"}
    assert notice.content_type == "text/plain; charset=utf-8"


def test_versions_are_told_apart_and_a_delete_marker_is_no_version():
    first, second = one(MINIO["version"]), one(MINIO["second version"])
    assert first.version_id
    assert first.version_id != second.version_id
    assert one(MINIO["delete marker"]).version_id is None
    assert one(MINIO["version removed"]).version_id == first.version_id
    assert one(AWS["delete marker"]).version_id is None
    assert one(AWS["lifecycle marker"]).version_id is None


def test_the_null_version_is_none():
    assert MINIO["trailing slash"]["record"]["Records"][0]["s3"]["object"]["versionId"] == "null"
    assert one(MINIO["trailing slash"]).version_id is None


def test_a_folder_marker_is_known_by_its_slash_and_its_emptiness():
    marker = one(MINIO["trailing slash"])
    assert notices.is_folder_marker(marker.key, marker.size)
    assert not notices.is_folder_marker("folder/", 5)
    assert not notices.is_folder_marker("empty", 0)


def test_both_lanes_tell_the_same_event():
    live, safe = (decode(MINIO["plain"], lane)[0] for lane in ("live", "safe"))
    assert live.event_id == safe.event_id
    assert live.correlation_id == safe.correlation_id


def test_two_uploads_of_one_key_are_two_lives():
    first, second = (notices.decode(body(message(sequencer=one)), "live")[0] for one in "12")
    assert first.correlation_id != second.correlation_id


def test_several_records_in_one_message_stay_in_order():
    found = notices.decode(body(message(key="a"), message(key="b"), message(key="c")), "safe")
    assert [(notice.key, notice.seen_by) for notice in found] == [("a", "safe"), ("b", "safe"), ("c", "safe")]


def test_a_notification_without_records_is_refused():
    with pytest.raises(Rejected, match="names no object"):
        notices.decode(b'{"Records": []}', "live")


@given(st.text(min_size=1, max_size=60))
def test_any_key_comes_back_as_it_was(key):
    (notice,) = notices.decode(body(message(key=quote_plus(key))), "live")
    assert notice.key == key


@given(st.binary(max_size=300))
def test_any_bytes_are_notices_or_rejected(raw):
    with suppress(Rejected):
        notices.decode(raw, "live")


@pytest.mark.parametrize("raw", [None, b""])
def test_a_record_without_a_body_is_rejected(raw):
    with pytest.raises(Rejected, match="without a body"):
        notices.decode(raw, "live")


def test_a_refusal_names_the_place_and_not_the_content():
    canary = {"Records": [message() | {"eventTime": "canary"}]}
    with pytest.raises(Rejected, match=r"Records\.0\.eventTime") as refused:
        notices.decode(json.dumps(canary).encode(), "live")
    assert "canary" not in str(refused.value)


def test_a_key_that_is_no_text_is_unsafe():
    (notice,) = notices.decode(body(message(key="%ff")), "live")
    with pytest.raises(Rejected, match="rename") as refused:
        notices.refuse_unsafe(notice, INPUTS)
    assert str(refused.value).encode("utf-8")


@pytest.mark.parametrize("key", ["../../etc/passwd", "a/../b", "//x", "-rf", "$(id)", "a\\b", " ", "e\u0301", "\u200b"])
def test_a_strange_key_is_opaque_and_no_danger(key):
    assert not is_unsafe(key)


@pytest.mark.parametrize("key", ["a\x00", "a\n", "\x1b[2J", "\x7f", "\x9b2J", "\u202e", "\u2069", "\udc80"], ids=ascii)
def test_a_key_that_deceives_is_unsafe(key):
    assert is_unsafe(key)


def test_a_bucket_that_is_no_input_is_refused_with_the_way_out():
    with pytest.raises(Rejected, match="PENSTOCK_INPUT_BUCKETS") as refused:
        notices.refuse_unsafe(one(MINIO["plain"]), frozenset({"jobs"}))
    assert refused.value.code == "FOREIGN_BUCKET"
