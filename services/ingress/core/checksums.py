"""Checksums in request headers and their verification: S3's headers, Content-MD5, RFC 9530 and RFC 3230."""

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from awscrt import checksums
from typing_extensions import Buffer

from services.ingress.core.problems import HttpProblem
from shared.errors import Rejected

CHECKSUM_PREFIX: Final = "x-amz-checksum-"
PAYLOAD_HASH: Final = "x-amz-content-sha256"
_UNSIGNED: Final = "UNSIGNED-PAYLOAD"
_OF_CONTENT: Final = ("content-digest", "repr-digest", "digest")
_DIGEST: Final = re.compile(r"[A-Za-z0-9*_.-]+")
_HEX: Final = re.compile(r"[0-9A-Fa-f]{64}")


class _Digest(Protocol):
    def update(self, data: Buffer, /) -> object: ...

    def digest(self) -> bytes: ...


class _Crc:
    def __init__(self, extend: Callable[..., int], size: int) -> None:
        self._extend = extend
        self._size = size
        self._value = 0

    def update(self, data: Buffer, /) -> None:
        self._value = self._extend(bytes(data), self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size, "big")


def _hashlib(name: str) -> Callable[[], _Digest]:
    return lambda: hashlib.new(name, usedforsecurity=False)


_ALGORITHMS: Final[Mapping[str, Callable[[], _Digest]]] = {
    **{name: _hashlib(name) for name in ("md5", "sha1", "sha256", "sha512")},
    "crc32": lambda: _Crc(checksums.crc32, 4),
    "crc32c": lambda: _Crc(checksums.crc32c, 4),
    "crc64nvme": lambda: _Crc(checksums.crc64nvme, 8),
}
_OF_S3: Final = frozenset({"crc32", "crc32c", "crc64nvme", "sha1", "sha256"})
_IN_DIGESTS: Final = {
    "sha-256": "sha256", "sha-512": "sha512", "sha": "sha1", "sha-1": "sha1", "md5": "md5", "crc32c": "crc32c"
}  # fmt: skip
"""https://www.iana.org/assignments/http-digest-hash-alg; an unlisted algorithm is ignored beside a listed one."""


@dataclass(frozen=True, slots=True)
class Checksum:
    """The expected digest of some bytes, and the header that named it."""

    header: str
    algorithm: str
    expected: bytes


@dataclass(slots=True)
class ChecksumVerifier:
    """Digest bytes as they arrive and compare them with every expected checksum."""

    checksums: tuple[Checksum, ...]
    _digests: dict[str, _Digest] = field(init=False)

    def __post_init__(self) -> None:
        self._digests = {one.algorithm: _ALGORITHMS[one.algorithm]() for one in self.checksums}

    def update(self, chunk: Buffer) -> None:
        """Take in the next bytes."""
        for digest in self._digests.values():
            digest.update(chunk)

    def verify(self) -> None:
        """Raise Problem (CHECKSUM_MISMATCH) when the bytes are not those that were meant."""
        for one in self.checksums:
            found = self._digests[one.algorithm].digest()
            if not hmac.compare_digest(found, one.expected):
                raise HttpProblem(
                    "CHECKSUM_MISMATCH",
                    f"{one.header} says that {one.algorithm} is {_base64(one.expected)}, and the bytes that came have "
                    f"{_base64(found)}: nothing was stored, send them again",
                    more={"algorithm": one.algorithm, "expected": _base64(one.expected), "found": _base64(found)},
                )


def parse_content_checksums(headers: Mapping[str, str]) -> tuple[Checksum, ...]:
    """Parse the checksum headers, names in lower case, of a body as it is sent.

    Raises Rejected: BAD_CHECKSUM.
    """
    found = [_parse_base64("content-md5", "md5", headers["content-md5"])] if "content-md5" in headers else []
    for name in _OF_CONTENT:
        if name in headers:
            found += _parse_digests(name, headers[name])
    signed = headers.get(PAYLOAD_HASH, _UNSIGNED)
    if signed != _UNSIGNED:
        if not _HEX.fullmatch(signed):
            raise _bad(PAYLOAD_HASH, "is neither the SHA-256 of the body in hex nor UNSIGNED-PAYLOAD")
        found.append(Checksum(PAYLOAD_HASH, "sha256", bytes.fromhex(signed)))
    return tuple(found)


def parse_object_checksums(headers: Mapping[str, str]) -> tuple[Checksum, ...]:
    """Parse S3's checksum headers, names in lower case, of an object.

    Raises Rejected: BAD_CHECKSUM.
    """
    named = {
        name.removeprefix(CHECKSUM_PREFIX): text for name, text in headers.items() if name.startswith(CHECKSUM_PREFIX)
    }
    if (kind := named.pop("type", "FULL_OBJECT")).upper() != "FULL_OBJECT":
        raise _bad(f"{CHECKSUM_PREFIX}type", f"is {kind[:40]!r}, and a body has no parts: send FULL_OBJECT")
    announced = {named.pop("algorithm", ""), headers.get("x-amz-sdk-checksum-algorithm", "")} - {""}
    for name in (*named, *(one.lower() for one in announced)):
        if name not in _OF_S3:
            raise _bad(
                f"{CHECKSUM_PREFIX}{name[:40]}", f"is none that can be checked: use one of {', '.join(sorted(_OF_S3))}"
            )
    if missing := sorted({one.lower() for one in announced} - named.keys()):
        raise _bad(f"{CHECKSUM_PREFIX}{missing[0]}", "is announced and does not come: send it as a header")
    return tuple(_parse_base64(f"{CHECKSUM_PREFIX}{name}", name, text) for name, text in named.items())


def _parse_digests(header: str, text: str) -> Iterator[Checksum]:
    """Read a dictionary of digests: `sha-256=:BASE64:` (RFC 9530), or without the colons (RFC 3230)."""
    named = list(_pairs(header, text))
    known = [(name, value) for name, value in named if name in _IN_DIGESTS]
    if not known:
        shown = ", ".join(_IN_DIGESTS)
        raise _bad(header, f"has no digest that can be checked: send one of {shown}")
    for name, value in known:
        yield _parse_base64(header, _IN_DIGESTS[name], value)


def _pairs(header: str, text: str) -> Iterable[tuple[str, str]]:
    for pair in text.split(","):
        name, equals, value = pair.strip().partition("=")
        value = value.partition(";")[0].strip()
        if not (equals and _DIGEST.fullmatch(name)):
            raise _bad(header, "is no list of digests: send it as sha-256=:BASE64:")
        if header != "digest":
            if not (value.startswith(":") and value.endswith(":") and len(value) > 1):
                raise _bad(header, "has a value that is not between two colons: send it as sha-256=:BASE64:")
            value = value[1:-1]
        yield name.lower(), value


def _parse_base64(header: str, algorithm: str, text: str) -> Checksum:
    try:
        expected = base64.b64decode(text.strip(), validate=True)
    except ValueError:
        raise _bad(header, f"is no base64 of a {algorithm}: encode the digest's bytes, not its hex digits") from None
    size = len(_ALGORITHMS[algorithm]().digest())
    if len(expected) != size:
        raise _bad(header, f"has {len(expected)} bytes, and a {algorithm} has {size}: encode the digest's own bytes")
    return Checksum(header, algorithm, expected)


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def _bad(header: str, reason: str) -> Rejected:
    return Rejected("BAD_CHECKSUM", f"{header} {reason}")
