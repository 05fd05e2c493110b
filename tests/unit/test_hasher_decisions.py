"""Which digests a version needs, and whether they match what the uploader declared."""

import base64
import hashlib

import pytest

from services.hasher.core.decisions import (
    DigestRow,
    DigestTask,
    LedgerEntry,
    build_task,
    declared_digests,
    is_outdated,
    newest_by_version,
    reuse_digests,
    succeeded_row,
    to_fact,
)
from shared.errors import Rejected
from shared.events import ObjectChanged

MD5, SHA256 = (hashlib.new(name, b"hello").hexdigest() for name in ("md5", "sha256"))
DIGESTS = {"md5": MD5, "sha256": SHA256}


def change(revision=1, kind="stored", **more):
    described = {"change": kind, "bucket": "inbox", "key": "a", "etag": "e", "size": 5, "revision": revision}
    return ObjectChanged(**described | more)


def entry(**more):
    described = {"etag": "e", "size": 5, "status": "succeeded", "digests": DIGESTS, "verification": None}
    return LedgerEntry(**{"mismatched": (), "revision": 1} | described | more)


def task(**more):
    return build_task(change(**more), ["md5", "sha256"])


def test_newest_by_version_keeps_the_newest_stored_change_of_each_version():
    batch = [change(2), change(1), change(3, key="b"), change(4, kind="removed"), change(5, version_id="v")]
    assert {key: one.revision for key, one in newest_by_version(batch).items()} == {
        ("inbox", "a", ""): 2,
        ("inbox", "b", ""): 3,
        ("inbox", "a", "v"): 5,
    }


def test_task_uses_default_digests_unless_metadata_requests_others():
    assert task().algorithms == ("md5", "sha256")
    assert task(metadata={"penstock-digests": "SHA-512,crc32c xxh3"}).algorithms == ("sha512", "crc32c", "xxh3")
    assert task(metadata={"penstock-digests": " , "}).algorithms == ("md5", "sha256")


def test_unknown_requested_digest_is_rejected():
    with pytest.raises(Rejected, match="rot13"):
        task(metadata={"penstock-digests": "rot13"})


@pytest.mark.parametrize(
    "value", [MD5, MD5.upper(), f" {MD5} ", f'"{MD5}"', base64.b64encode(bytes.fromhex(MD5)).decode()]
)
def test_declared_digest_is_read_from_hex_and_base64(value):
    assert declared_digests({"md5": value, "colour": "red"}) == {"md5": MD5}


@pytest.mark.parametrize("value", ["", "abc", MD5[:-1], MD5 + "0", "z" * 32, SHA256, "é" * 32, "===="])
def test_malformed_declared_digest_is_ignored(value):
    assert declared_digests({"md5": value}) == {}


def test_declared_digest_names_are_normalized():
    assert declared_digests({"sha-256": SHA256, "CRC32C": "00000000"}) == {"sha256": SHA256, "crc32c": "00000000"}


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
def test_declared_digests_set_verification_and_mismatched(declared, verification, mismatched):
    row = succeeded_row(task(), DIGESTS, declared)
    assert (row.status, row.verification, row.mismatched, row.digests) == (
        "succeeded",
        verification,
        mismatched,
        DIGESTS,
    )


def test_digest_computed_only_for_verification_is_not_stored():
    md5_only = DigestTask(change(), ("md5",))
    row = succeeded_row(md5_only, DIGESTS, {"sha256": SHA256})
    assert (row.digests, row.verification) == ({"md5": MD5}, "verified")


@pytest.mark.parametrize(
    "known",
    [
        None,
        entry(status="failed"),
        entry(status="pending"),
        entry(etag="other"),
        entry(size=6),
        entry(etag=None),
        entry(digests={"md5": MD5}),
    ],
)
def test_digests_are_not_reused_from_an_incomplete_or_different_entry(known):
    assert reuse_digests(task(), known) is None


def test_same_etag_and_size_reuse_stored_digests():
    assert reuse_digests(task(revision=9), entry()).digests == DIGESTS


def test_redelivered_change_keeps_its_verification():
    again = reuse_digests(task(), entry(verification="mismatch", mismatched=("md5",)))
    assert (again.verification, again.mismatched) == ("mismatch", ("md5",))


def test_same_bytes_uploaded_again_are_verified_against_the_new_declaration():
    known = entry(verification="mismatch", mismatched=("md5",))
    assert reuse_digests(task(revision=2), known).verification is None
    assert reuse_digests(task(revision=2, metadata={"md5": MD5}), known).verification == "verified"
    assert reuse_digests(task(revision=2, metadata={"sha512": "0" * 128}), known) is None


def test_declared_digest_is_verified_even_when_only_others_are_requested():
    requested = task(revision=2, metadata={"penstock-digests": "md5", "sha256": "0" * 64})
    again = reuse_digests(requested, entry())
    assert (again.digests, again.mismatched) == ({"md5": MD5}, ("sha256",))


@pytest.mark.parametrize(("known", "outdated"), [(None, False), (1, False), (2, False), (3, True)])
def test_change_older_than_the_entry_is_outdated(known, outdated):
    assert is_outdated(change(2), known and entry(revision=known)) is outdated


def test_fact_carries_version_fields_and_correlation_id():
    row = DigestRow(change(7, version_id="v", correlation_id="c"), "succeeded", DIGESTS, "verified")
    fact = to_fact(row)
    assert (fact.key, fact.version_id, fact.etag, fact.size, fact.revision) == ("a", "v", "e", 5, 7)
    assert (fact.digests, fact.verification, fact.correlation_id) == (DIGESTS, "verified", "c")
