"""What is wanted of a version, and what its digests say about the upload."""

import base64
import hashlib

import pytest

from services.hasher.core.verdicts import (
    Remembered,
    Row,
    Task,
    declared_in,
    fact_of,
    finished,
    is_outdated,
    newest,
    reusable,
    task_of,
)
from shared.errors import Rejected
from shared.events import ObjectChanged

MD5, SHA256 = (hashlib.new(name, b"hello").hexdigest() for name in ("md5", "sha256"))
DIGESTS = {"md5": MD5, "sha256": SHA256}


def change(revision=1, kind="stored", **more):
    described = {"change": kind, "bucket": "inbox", "key": "a", "etag": "e", "size": 5, "revision": revision}
    return ObjectChanged(**described | more)


def remembered(**more):
    described = {"etag": "e", "size": 5, "status": "succeeded", "digests": DIGESTS, "verification": None}
    return Remembered(**{"mismatched": (), "revision": 1} | described | more)


def task(**more):
    return task_of(change(**more), ["md5", "sha256"])


def test_the_newest_stored_version_of_each_place_is_wanted():
    batch = [change(2), change(1), change(3, key="b"), change(4, kind="removed"), change(5, version_id="v")]
    assert {place: one.revision for place, one in newest(batch).items()} == {
        ("inbox", "a", ""): 2,
        ("inbox", "b", ""): 3,
        ("inbox", "a", "v"): 5,
    }


def test_defaults_hold_unless_the_uploader_asks():
    assert task().algorithms == ("md5", "sha256")
    assert task(metadata={"penstock-digests": "SHA-512,crc32c xxh3"}).algorithms == ("sha512", "crc32c", "xxh3")
    assert task(metadata={"penstock-digests": " , "}).algorithms == ("md5", "sha256")


def test_a_wish_nobody_can_meet_is_rejected():
    with pytest.raises(Rejected, match="rot13"):
        task(metadata={"penstock-digests": "rot13"})


@pytest.mark.parametrize(
    "value", [MD5, MD5.upper(), f" {MD5} ", f'"{MD5}"', base64.b64encode(bytes.fromhex(MD5)).decode()]
)
def test_a_declared_digest_is_hex_or_base64(value):
    assert declared_in({"md5": value, "colour": "red"}) == {"md5": MD5}


@pytest.mark.parametrize("value", ["", "abc", MD5[:-1], MD5 + "0", "z" * 32, SHA256, "é" * 32, "===="])
def test_what_is_no_digest_declares_nothing(value):
    assert declared_in({"md5": value}) == {}


def test_declared_digests_have_any_spelling():
    assert declared_in({"sha-256": SHA256, "CRC32C": "00000000"}) == {"sha256": SHA256, "crc32c": "00000000"}


@pytest.mark.parametrize(
    ("declared", "verification", "mismatched"),
    [
        ({}, None, ()),
        ({"md5": MD5}, "verified", ()),
        ({"md5": "0" * 32}, "mismatch", ("md5",)),
        ({"sha256": "0" * 64, "md5": "0" * 32}, "mismatch", ("md5", "sha256")),
        ({"sha512": "0" * 128}, None, ()),
    ],
)
def test_declared_digests_are_checked(declared, verification, mismatched):
    row = finished(task(), DIGESTS, declared)
    assert (row.status, row.verification, row.mismatched, row.digests) == (
        "succeeded",
        verification,
        mismatched,
        DIGESTS,
    )


def test_a_digest_computed_for_a_check_alone_is_not_kept():
    only = Task(change(), ("md5",))
    row = finished(only, DIGESTS, {"sha256": SHA256})
    assert (row.digests, row.verification) == ({"md5": MD5}, "verified")


@pytest.mark.parametrize(
    "mine",
    [
        None,
        remembered(status="failed"),
        remembered(status="pending"),
        remembered(etag="other"),
        remembered(size=6),
        remembered(etag=None),
        remembered(digests={"md5": MD5}),
    ],
)
def test_what_was_not_digested_whole_is_read(mine):
    assert reusable(task(), mine) is None


def test_the_same_bytes_are_not_read_again():
    assert reusable(task(revision=9), remembered()).digests == DIGESTS


def test_a_repeat_keeps_its_verification():
    again = reusable(task(), remembered(verification="mismatch", mismatched=("md5",)))
    assert (again.verification, again.mismatched) == ("mismatch", ("md5",))


def test_another_upload_of_the_same_bytes_is_judged_by_what_it_declares():
    mine = remembered(verification="mismatch", mismatched=("md5",))
    assert reusable(task(revision=2), mine).verification is None
    assert reusable(task(revision=2, metadata={"md5": MD5}), mine).verification == "verified"
    assert reusable(task(revision=2, metadata={"sha512": "0" * 128}), mine) is None


def test_a_declared_digest_is_checked_even_when_others_are_wanted():
    asked = task(revision=2, metadata={"penstock-digests": "md5", "sha256": "0" * 64})
    again = reusable(asked, remembered())
    assert (again.digests, again.mismatched) == ({"md5": MD5}, ("sha256",))


@pytest.mark.parametrize(("mine", "outdated"), [(None, False), (1, False), (2, False), (3, True)])
def test_older_than_what_is_known_is_outdated(mine, outdated):
    assert is_outdated(change(2), mine and remembered(revision=mine)) is outdated


def test_the_fact_is_about_the_version_and_belongs_to_its_life():
    row = Row(change(7, version_id="v", correlation_id="c"), "succeeded", DIGESTS, "verified")
    fact = fact_of(row)
    assert (fact.key, fact.version_id, fact.etag, fact.size, fact.revision) == ("a", "v", "e", 5, 7)
    assert (fact.digests, fact.verification, fact.correlation_id) == (DIGESTS, "verified", "c")
