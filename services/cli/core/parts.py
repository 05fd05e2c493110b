"""How a file is cut for a multipart upload.

S3 allows 10,000 parts of 5 MiB to 5 GiB (https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html).
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

MIB: Final = 1 << 20
PART: Final = 8 * MIB
"""The usual part, and the size up to which a file goes in one request."""
MAX_PARTS: Final = 10_000
MAX_OBJECT: Final = 5 << 40


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes `start` to `start + size` of a file; numbers start at 1."""

    number: int
    start: int
    size: int


def part_size(size: int) -> int:
    """Return the part's size for a file: 8 MiB, or in whole MiB what it takes to stay within 10,000 parts."""
    needed = -(-size // MAX_PARTS)
    return max(PART, -(-needed // MIB) * MIB)


def cut(size: int, each: int) -> Iterator[Part]:
    """Yield the parts of a file of `size` bytes; a file without bytes has none."""
    for number, start in enumerate(range(0, size, each), start=1):
        yield Part(number, start, min(each, size - start))


def in_flight(each: int, wanted: int, memory: int = 128 * MIB) -> int:
    """Return how many parts may be held at once: `wanted`, or what `memory` bytes hold, at least one."""
    return max(1, min(wanted, memory // each))


def etag_of(parts: Sequence[str]) -> str:
    """Return the ETag of a multipart object from its parts' MD5s in order."""
    joined = b"".join(bytes.fromhex(part) for part in parts)
    return f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(parts)}"
