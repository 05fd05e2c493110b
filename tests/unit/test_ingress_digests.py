"""Uploads by id: ids, keys, the requested digests, and the answer at every stage."""

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.ingress.core import upload_ids, upload_status
from services.ingress.core.access import Principal
from services.ingress.core.counts import add_totals
from services.ingress.core.names import MAX_KEY_BYTES, safe_key
from services.ingress.core.throughput import WINDOW_SECONDS, Throughput
from services.ingress.core.upload_status import Upload
from shared.errors import Rejected
from shared.text import visible

ID = "0123456789abcdef" * 2
DEFAULTS = ("md5", "sha256", "blake3")
DONE = Upload(
    ID,
    "inbox",
    f"uploads/{ID}/a.txt",
    owner="me",
    etag="e",
    size=5,
    state="stored",
    status="succeeded",
    hashed_etag="e",
    digests={"md5": "1", "sha256": "2"},
)


def principal(id, *scopes, places=()):  # noqa: A002
    return Principal(id, id, frozenset(scopes), places)


def test_upload_ids_have_128_bits_and_are_unique():
    made = {upload_ids.new_upload_id() for _ in range(1000)}
    assert len(made) == 1000
    assert all(upload_ids.is_upload_id(one) for one in made)


@pytest.mark.parametrize(
    "text", ["", "1", "0" * 31, "0" * 33, "G" * 32, "A" * 32, f"{ID}\n", "../" + "0" * 29, "٣" * 32]
)
def test_malformed_upload_id_causes_no_query(text):
    assert not upload_ids.is_upload_id(text)


@pytest.mark.parametrize(
    ("filename", "name"),
    [
        ("a.txt", "a.txt"),
        ("/home/me/a.txt", "a.txt"),
        (r"C:\Users\me\a b.txt", "a b.txt"),
        ("../../etc/passwd", "passwd"),
        (r"mixed/up\a.txt", "a.txt"),
        ("-rf", "-rf"),
        ("a+b c%2B.txt", "a+b c%2B.txt"),
        ("ü😀.txt", "ü😀.txt"),
    ],
)
def test_upload_key_uses_the_last_path_step(filename, name):
    assert upload_ids.upload_key(ID, filename) == f"uploads/{ID}/{name}"


@pytest.mark.parametrize(
    ("filename", "code"),
    [
        ("", "NAME_EMPTY"),
        ("a/", "NAME_EMPTY"),
        ("a\\", "NAME_EMPTY"),
        ("..", "KEY_UNSAFE"),
        ("a/..", "KEY_UNSAFE"),
        ("a\0b", "KEY_UNSAFE"),
        ("x__XLDIR__", "KEY_UNSAFE"),
        ("__XLDIR__", "KEY_UNSAFE"),
        ("x__XLDIR____XLDIR__", "KEY_UNSAFE"),
        ("a\nb", "KEY_UNSAFE"),
        ("\u202egpj.exe", "KEY_UNSAFE"),
        ("x" * 1000, "KEY_TOO_LONG"),
    ],
)
def test_invalid_key_name_is_refused(filename, code):
    with pytest.raises(Rejected) as refused:
        upload_ids.upload_key(ID, filename)
    assert refused.value.code == code


@given(st.text(st.characters(), max_size=1200))
@example("\ud800")
@example("a" * 983)
@example("a" * 984)
def test_any_filename_gives_a_safe_key_of_this_upload_or_a_clear_refusal(filename):
    refusal = None
    try:
        key = upload_ids.upload_key(ID, filename)
    except Rejected as refused:
        refusal = refused
    if refusal is not None:
        assert refusal.code in {"NAME_EMPTY", "KEY_UNSAFE", "KEY_TOO_LONG"}
        assert str(refusal) == visible(str(refusal))
    else:
        assert safe_key(key) == key
        assert len(key.encode()) <= MAX_KEY_BYTES
        assert key.startswith(f"uploads/{ID}/")
        assert key.count("/") == 2


@pytest.mark.parametrize(
    ("asked", "metadata"),
    [
        ([], {}),
        (["", " , "], {}),
        (["sha512"], {"penstock-digests": "md5,sha256,blake3,sha512"}),
        (["SHA-512,crc32", "md5"], {"penstock-digests": "md5,sha256,blake3,sha512,crc32"}),
    ],
)
def test_requested_digests_are_added_to_the_defaults(asked, metadata):
    assert upload_ids.upload_metadata("me", asked, DEFAULTS) == {"penstock-owner": "me", **metadata}


def test_unknown_digest_is_refused_with_the_known_names():
    with pytest.raises(Rejected, match=r"rot13.*known are.*sha256") as refused:
        upload_ids.upload_metadata("me", ["rot13"], DEFAULTS)
    assert refused.value.code == "UNKNOWN_DIGEST"


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"status": None, "hashed_etag": None}, "PENDING"),
        ({"status": None, "hashed_etag": None, "state": None}, "PENDING"),
        ({"status": "pending"}, "PENDING"),
        ({"status": "running"}, "PENDING"),
        ({"status": "succeeded"}, "SUCCESS"),
        ({"status": "succeeded", "state": "removed", "etag": None}, "SUCCESS"),
        ({"status": "succeeded", "state": None}, "SUCCESS"),
        ({"status": "failed"}, "FAILURE"),
        ({"status": "superseded"}, "FAILURE"),
        ({"status": "gone"}, "FAILURE"),
        ({"status": None, "hashed_etag": None, "state": "removed"}, "FAILURE"),
    ],
)
def test_every_state_maps_to_a_former_status(changes, status):
    upload = replace(DONE, **changes)
    answer = upload_status.render_digest(upload)
    assert answer["status"] == status
    assert answer["hash"] == ("1" if status == "SUCCESS" else None)
    assert bool(answer["error"]) == (status == "FAILURE")


def test_digests_of_a_replaced_version_are_ignored():
    assert upload_status.render_digest(replace(DONE, hashed_etag="older"))["status"] == "PENDING"


def test_failure_has_a_reason_and_no_digest():
    answer = upload_status.render_digest(replace(DONE, status="failed", error="it broke", digests={"md5": "ERROR"}))
    assert (answer["status"], answer["hash"], answer["digests"], answer["error"]) == ("FAILURE", None, {}, "it broke")


def test_unfinished_upload_is_pending_with_its_phase():
    running = replace(DONE, status="running", progress={"bytes": 3})
    rendered = upload_status.render_digest(running)
    assert (rendered["status"], rendered["phase"], rendered["progress"]) == ("PENDING", "reading", {"bytes": 3})
    waiting = upload_status.render_digest(replace(running, status="pending"))
    assert (waiting["status"], waiting["phase"], waiting["progress"]) == ("PENDING", "waiting", None)
    done = upload_status.render_digest(replace(running, status="succeeded"))
    assert (done["status"], done.get("phase"), done["progress"]) == ("SUCCESS", None, None)


@pytest.mark.parametrize(("asked", "value"), [("md5", "1"), ("SHA-256", "2"), ("", "1")])
def test_digest_can_be_chosen(asked, value):
    assert upload_status.render_digest(DONE, asked)["hash"] == value


@pytest.mark.parametrize(
    ("asked", "code", "words"), [("rot13", "UNKNOWN_DIGEST", "known are"), ("sha512", "NOT_COMPUTED", "md5, sha256")]
)
def test_digest_that_is_not_there_is_refused_with_those_that_are(asked, code, words):
    with pytest.raises(Rejected, match=words) as refused:
        upload_status.render_digest(DONE, asked)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("who", "may"),
    [
        (principal("me", "read"), True),
        (principal("me", "read", places=("inbox/uploads/",)), True),
        (principal("me", "read", places=("inbox/mine/",)), False),
        (principal("other", "read", "write"), False),
        (principal("root", "admin"), True),
        (principal("root", "admin", places=("jobs/",)), False),
    ],
)
def test_upload_is_visible_to_owner_and_admin(who, may):
    assert DONE.is_for(who) is may


def test_object_without_owner_is_visible_to_admin_only():
    assert not replace(DONE, owner=None).is_for(principal("me", "read"))


def test_links_are_null_for_unrecorded_steps():
    bare = upload_status.render_links(Upload(ID, "inbox", DONE.key, etag="e"))
    assert bare["status"] == "PENDING"
    assert (bare["event"], bare["work"], bare["result"]) == (None, None, None)
    whole = upload_status.render_links(replace(DONE, revision=7, work_state="succeeded", work_attempts=2))
    assert (whole["event"]["revision"], whole["work"]["attempts"], whole["result"]["digests"]) == (7, 2, DONE.digests)


def test_throughput_is_computed_between_two_samples():
    pace = Throughput()
    pace.add_sample(0.0, {"hasher": {("t", 0): 10, ("t", 1): 0}})
    pace.add_sample(10.0, {"hasher": {("t", 0): 60, ("t", 1): 50, ("t", 2): 999}})
    assert pace.rates("hasher") == ({"t": 10.0}, 10.0)


def test_throughput_of_one_sample_is_unknown():
    pace = Throughput()
    pace.add_sample(5.0, {"hasher": {("t", 0): 10}})
    assert pace.rates("hasher") == ({}, None)


def test_looks_of_more_than_a_minute_ago_do_not_count():
    pace = Throughput()
    pace.add_sample(0.0, {"g": {("t", 0): 0}})
    pace.add_sample(50.0, {"g": {("t", 0): 5000}})
    pace.add_sample(51.0 + WINDOW_SECONDS - 10, {"g": {("t", 0): 5051}})
    assert pace.rates("g") == ({"t": 1.0}, 51.0)


def test_reset_offset_gives_no_negative_throughput():
    pace = Throughput()
    pace.add_sample(0.0, {"g": {("t", 0): 100}})
    pace.add_sample(2.0, {"g": {("t", 0): 0}})
    assert pace.rates("g") == ({"t": 0.0}, 2.0)


def test_counts_have_their_sums():
    rows = [
        {"bucket": "a", "status": "succeeded", "versions": 2, "bytes": 10, "oldest_seconds": 99.0},
        {"bucket": "b", "status": "succeeded", "versions": 1, "bytes": 5, "oldest_seconds": 98.0},
        {"bucket": "b", "status": "pending", "versions": 3, "bytes": 1, "oldest_seconds": 7.0},
    ]
    objects = [
        {"bucket": "a", "state": "stored", "objects": 4, "bytes": 16},
        {"bucket": "a", "state": "removed", "objects": 9, "bytes": 0},
    ]
    rendered = add_totals({"digests": rows, "objects": objects, "work": [], "tables": [], "last_sweep": None})
    assert rendered["digests"]["by_status"] == {"succeeded": 3, "pending": 3}
    assert (rendered["digests"]["bytes"], rendered["digests"]["oldest_pending_seconds"]) == (16, 7.0)
    assert (rendered["objects"]["known"], rendered["objects"]["bytes"]) == (4, 16)
