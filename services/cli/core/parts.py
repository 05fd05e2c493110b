"""Parts of a multipart upload.

S3 allows 10,000 parts of 5 MiB to 5 GiB (https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html).
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

MIB: Final = 1 << 20
PART: Final = 8 * MIB
"""The least part size; files up to it are stored in one request."""
MAX_PARTS: Final = 10_000
MAX_OBJECT: Final = 5 << 40


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes `start` to `start + size` of a file; numbers start at 1."""

    number: int
    start: int
    size: int


def part_size(size: int) -> int:
    """Return the part size for a file of `size` bytes: 8 MiB, or more in whole MiB to stay within 10,000 parts."""
    needed = -(-size // MAX_PARTS)
    return max(PART, -(-needed // MIB) * MIB)


def split(size: int, part_bytes: int) -> Iterator[Part]:
    """Yield the parts of a file of `size` bytes; an empty file has none."""
    for number, start in enumerate(range(0, size, part_bytes), start=1):
        yield Part(number, start, min(part_bytes, size - start))


def max_in_flight(part_bytes: int, parallel: int, memory: int = 128 * MIB) -> int:
    """Return how many parts may be in memory at once: `parallel`, or fewer to fit `memory` bytes, at least one."""
    return max(1, min(parallel, memory // part_bytes))


def multipart_etag(part_md5s: Sequence[str]) -> str:
    """Return the ETag of a multipart object from the MD5s of its parts in order."""
    joined = b"".join(bytes.fromhex(part) for part in part_md5s)
    return f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(part_md5s)}"
