"""The digests that can be asked for, by name."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import blake3
import xxhash
from awscrt import checksums
from typing_extensions import Buffer

from shared.errors import Rejected


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
    **{name.replace("-", "_"): _hashlib(name) for name in sorted(hashlib.algorithms_guaranteed) if "shake" not in name},
    "blake3": blake3.blake3,
    "crc32": lambda: _Crc(checksums.crc32, 8),
    "crc32c": lambda: _Crc(checksums.crc32c, 8),
    "crc64nvme": lambda: _Crc(checksums.crc64nvme, 16),
    "xxh3": xxhash.xxh3_64,
    "xxh3_128": xxhash.xxh3_128,
}
"""Makers of digests; hashlib's shake digests have no length of their own and are left out."""


def normal(name: str) -> str:
    """Return the name by which a digest is kept: `SHA-256` and `sha256` are one."""
    plain = name.strip().lower()
    joined = plain.replace("-", "")
    return joined if joined in ALGORITHMS else plain.replace("-", "_")


def known(names: Iterable[str]) -> tuple[str, ...]:
    """Return `names` as they are kept, each once; a name nobody knows is rejected together with those that are."""
    wanted = tuple(dict.fromkeys(normal(name) for name in names if name.strip()))
    if strange := [name for name in wanted if name not in ALGORITHMS]:
        raise Rejected(
            "UNKNOWN_DIGEST",
            f"unknown digest {', '.join(strange)!a}; known are {', '.join(sorted(ALGORITHMS))}",
        )
    return wanted
