"""Objects whose content follows from their name, so that every digest can be checked without keeping a byte."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import blake3

BUCKET = "inbox"
SMALL = 4096
CHUNK = 1 << 20
DIGESTS = ("md5", "sha256", "blake3")


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}/{number:06d}.bin" for number in range(count)]


def body(name: str, size: int) -> bytes:
    return hashlib.shake_128(name.encode()).digest(size)


def expected(name: str, size: int) -> dict[str, str]:
    return digests_of([body(name, size)])


def digests_of(chunks: Iterable[bytes]) -> dict[str, str]:
    states: dict[str, Any] = {
        "md5": hashlib.md5(usedforsecurity=False),
        "sha256": hashlib.sha256(),
        "blake3": blake3.blake3(),
    }
    for chunk in chunks:
        for state in states.values():
            state.update(chunk)
    return {name: state.hexdigest() for name, state in states.items()}


def large(name: str, size: int) -> Iterator[bytes]:
    """One chunk after another, cheap to make and each different."""
    seed = body(name, CHUNK)
    for number in range(size // CHUNK):
        yield number.to_bytes(8, "big") + seed[8:]


def check(found: Mapping[str, Mapping[str, str]], names: Iterable[str], size: int) -> None:
    """Stop the run unless exactly the `wanted` objects are there with hashlib's own digests."""
    wrong = [name for name in names if found.get(name) != expected(name, size)]
    if wrong:
        raise AssertionError(
            f"{len(wrong)} objects lack their digests or have wrong ones, such as {wrong[0]}: {found.get(wrong[0])}"
        )
