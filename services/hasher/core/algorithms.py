"""What makes each digest that can be asked for."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Protocol

import blake3
import xxhash
from awscrt import checksums
from typing_extensions import Buffer

from shared.digests import HASHLIB_NAMES


class Digest(Protocol):
    """What hashlib's objects can do."""

    def update(self, data: Buffer, /) -> object:
        """Take in the next bytes; large ones without the interpreter's lock."""

    def hexdigest(self) -> str:
        """Return the digest so far, in hex."""


class _Crc:
    """One of the checksums that S3 keeps of an upload."""

    def __init__(self, extend: Callable[..., int], digits: int) -> None:
        self._extend = extend
        self._digits = digits
        self._value = 0

    def update(self, data: Buffer, /) -> None:
        self._value = self._extend(data, self._value)

    def hexdigest(self) -> str:
        return f"{self._value:0{self._digits}x}"


def _hashlib(name: str) -> Callable[[], Digest]:
    return lambda: hashlib.new(name, usedforsecurity=False)


ALGORITHMS: Mapping[str, Callable[[], Digest]] = {
    **{kept: _hashlib(name) for kept, name in HASHLIB_NAMES.items()},
    "blake3": blake3.blake3,
    "crc32": lambda: _Crc(checksums.crc32, 8),
    "crc32c": lambda: _Crc(checksums.crc32c, 8),
    "crc64nvme": lambda: _Crc(checksums.crc64nvme, 16),
    "xxh3": xxhash.xxh3_64,
    "xxh3_128": xxhash.xxh3_128,
}
"""Makers of digests, one for each of `shared.digests.DIGEST_NAMES`."""
