"""Checksums that come in headers: read, refused when they are malformed, compared with bytes."""

import base64
import hashlib

import pytest

from services.ingress.core.checksums import Check, of_content, of_object
from services.ingress.core.problems import HttpProblem
from shared.errors import Rejected

BODY = b"123456789"
SUMS = {
    "crc32": "y/Q5Jg==",
    "crc32c": "4waSgw==",
    "crc64nvme": "rosUhgp5mIg=",
    "sha1": base64.b64encode(hashlib.sha1(BODY, usedforsecurity=False).digest()).decode(),
    "sha256": base64.b64encode(hashlib.sha256(BODY).digest()).decode(),
}
"""The check values of their catalogues (https://reveng.sourceforge.io/crc-catalogue/)."""
MD5 = base64.b64encode(hashlib.md5(BODY, usedforsecurity=False).digest()).decode()
SHA256, SHA512 = SUMS["sha256"], base64.b64encode(hashlib.sha512(BODY).digest()).decode()
RIGHT = [
    *((of_object, {f"x-amz-checksum-{name}": text}) for name, text in SUMS.items()),
    (of_object, {"x-amz-checksum-sha1": SUMS["sha1"], "x-amz-checksum-algorithm": "SHA1"}),
    (of_object, {"x-amz-checksum-crc32": SUMS["crc32"], "x-amz-sdk-checksum-algorithm": "CRC32"}),
    (of_object, {"x-amz-checksum-crc64nvme": SUMS["crc64nvme"], "x-amz-checksum-type": "FULL_OBJECT"}),
    (of_content, {"content-md5": MD5}),
    (of_content, {"content-digest": f"sha-256=:{SHA256}:"}),
    (of_content, {"content-digest": f"sha-512=:{SHA512}:, sha-256=:{SHA256}:"}),
    (of_content, {"content-digest": f"new=:AAAA:, sha-256=:{SHA256}:"}),
    (of_content, {"repr-digest": f"sha-256=:{SHA256}:"}),
    (of_content, {"digest": f"SHA-256={SHA256}"}),
    (of_content, {"digest": f"md5={MD5},unixsum=30637"}),
    (of_content, {"x-amz-content-sha256": hashlib.sha256(BODY).hexdigest()}),
]


def check(sums, body):
    one = Check(sums)
    one.update(body[:4])
    one.update(body[4:])
    one.verify()


@pytest.mark.parametrize(("read", "headers"), RIGHT)
def test_the_right_bytes_are_taken(read, headers):
    sums = read(headers)
    assert sums
    check(sums, BODY)


@pytest.mark.parametrize(("read", "headers"), RIGHT)
def test_wrong_bytes_are_refused_with_what_was_expected_and_what_came(read, headers):
    sums = read(headers)
    with pytest.raises(HttpProblem) as refused:
        check(sums, b"12345678?")
    assert refused.value.code == "CHECKSUM_MISMATCH"
    assert base64.b64encode(sums[0].expected).decode() in str(refused.value)
    assert refused.value.more["found"] in str(refused.value)


@pytest.mark.parametrize(
    ("read", "headers"),
    [
        (of_content, {"content-md5": "nonsense"}),
        (of_content, {"content-md5": ""}),
        (of_content, {"content-md5": hashlib.md5(BODY, usedforsecurity=False).hexdigest()}),
        (of_content, {"content-digest": f"sha-256={SHA256}"}),
        (of_content, {"content-digest": "sha-256=:AAAA:"}),
        (of_content, {"content-digest": "new=:AAAA:"}),
        (of_content, {"content-digest": ""}),
        (of_content, {"content-digest": "sha-256"}),
        (of_content, {"repr-digest": "sha-256=:"}),
        (of_content, {"digest": "sha-256=@"}),
        (of_content, {"x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}),
        (of_content, {"x-amz-content-sha256": "abc"}),
        (of_object, {"x-amz-checksum-crc32": "AAAAAAA="}),
        (of_object, {"x-amz-checksum-crc32": "cbf43926"}),
        (of_object, {"x-amz-checksum-md9": "AAAA"}),
        (of_object, {"x-amz-checksum-sha256": f"{SHA256}-2"}),
        (of_object, {"x-amz-checksum-sha256": SHA256, "x-amz-checksum-type": "COMPOSITE"}),
        (of_object, {"x-amz-sdk-checksum-algorithm": "CRC32"}),
        (of_object, {"x-amz-checksum-sha256": SHA256, "x-amz-checksum-algorithm": "CRC32"}),
    ],
)
def test_a_malformed_checksum_is_refused_and_named(read, headers):
    with pytest.raises(Rejected) as refused:
        read(headers)
    assert refused.value.code == "BAD_CHECKSUM"
    assert any(name in str(refused.value) for name in headers) or "x-amz-checksum-" in str(refused.value)
