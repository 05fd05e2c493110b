"""Checksums that come in headers: read, refused when they are malformed, compared with bytes."""

import base64
import hashlib

import pytest

from services.ingress.core.checksums import ChecksumVerifier, parse_content_checksums, parse_object_checksums
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
    *((parse_object_checksums, {f"x-amz-checksum-{name}": text}) for name, text in SUMS.items()),
    (parse_object_checksums, {"x-amz-checksum-sha1": SUMS["sha1"], "x-amz-checksum-algorithm": "SHA1"}),
    (parse_object_checksums, {"x-amz-checksum-crc32": SUMS["crc32"], "x-amz-sdk-checksum-algorithm": "CRC32"}),
    (parse_object_checksums, {"x-amz-checksum-crc64nvme": SUMS["crc64nvme"], "x-amz-checksum-type": "FULL_OBJECT"}),
    (parse_content_checksums, {"content-md5": MD5}),
    (parse_content_checksums, {"content-digest": f"sha-256=:{SHA256}:"}),
    (parse_content_checksums, {"content-digest": f"sha-512=:{SHA512}:, sha-256=:{SHA256}:"}),
    (parse_content_checksums, {"content-digest": f"new=:AAAA:, sha-256=:{SHA256}:"}),
    (parse_content_checksums, {"repr-digest": f"sha-256=:{SHA256}:"}),
    (parse_content_checksums, {"digest": f"SHA-256={SHA256}"}),
    (parse_content_checksums, {"digest": f"md5={MD5},unixsum=30637"}),
    (parse_content_checksums, {"x-amz-content-sha256": hashlib.sha256(BODY).hexdigest()}),
]


def check(sums, body):
    one = ChecksumVerifier(sums)
    one.update(body[:4])
    one.update(body[4:])
    one.verify()


@pytest.mark.parametrize(("read", "headers"), RIGHT)
def test_right_bytes_are_taken(read, headers):
    sums = read(headers)
    assert sums
    check(sums, BODY)


@pytest.mark.parametrize(("read", "headers"), RIGHT)
def test_wrong_bytes_are_refused_with_expected_and_found_digest(read, headers):
    sums = read(headers)
    with pytest.raises(HttpProblem) as refused:
        check(sums, b"12345678?")
    assert refused.value.code == "CHECKSUM_MISMATCH"
    assert base64.b64encode(sums[0].expected).decode() in str(refused.value)
    assert refused.value.more["found"] in str(refused.value)


@pytest.mark.parametrize(
    ("read", "headers"),
    [
        (parse_content_checksums, {"content-md5": "nonsense"}),
        (parse_content_checksums, {"content-md5": ""}),
        (parse_content_checksums, {"content-md5": hashlib.md5(BODY, usedforsecurity=False).hexdigest()}),
        (parse_content_checksums, {"content-digest": f"sha-256={SHA256}"}),
        (parse_content_checksums, {"content-digest": "sha-256=:AAAA:"}),
        (parse_content_checksums, {"content-digest": "new=:AAAA:"}),
        (parse_content_checksums, {"content-digest": ""}),
        (parse_content_checksums, {"content-digest": "sha-256"}),
        (parse_content_checksums, {"repr-digest": "sha-256=:"}),
        (parse_content_checksums, {"digest": "sha-256=@"}),
        (parse_content_checksums, {"x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}),
        (parse_content_checksums, {"x-amz-content-sha256": "abc"}),
        (parse_object_checksums, {"x-amz-checksum-crc32": "AAAAAAA="}),
        (parse_object_checksums, {"x-amz-checksum-crc32": "cbf43926"}),
        (parse_object_checksums, {"x-amz-checksum-md9": "AAAA"}),
        (parse_object_checksums, {"x-amz-checksum-sha256": f"{SHA256}-2"}),
        (parse_object_checksums, {"x-amz-checksum-sha256": SHA256, "x-amz-checksum-type": "COMPOSITE"}),
        (parse_object_checksums, {"x-amz-sdk-checksum-algorithm": "CRC32"}),
        (parse_object_checksums, {"x-amz-checksum-sha256": SHA256, "x-amz-checksum-algorithm": "CRC32"}),
    ],
)
def test_malformed_checksum_is_refused_and_named(read, headers):
    with pytest.raises(Rejected) as refused:
        read(headers)
    assert refused.value.code == "BAD_CHECKSUM"
    assert any(name in str(refused.value) for name in headers) or "x-amz-checksum-" in str(refused.value)
