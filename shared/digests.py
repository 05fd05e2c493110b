"""Names of the digests that Penstock computes, and how an upload requests them."""

import hashlib
from collections.abc import Iterable
from typing import Final

from shared.errors import Rejected

DIGESTS_METADATA: Final = "penstock-digests"
"""The metadata entry in which an upload names the digests to compute instead of the default ones."""

DEFAULT_DIGESTS: Final = ("md5", "sha256", "blake3")
"""Digests of every object unless the settings name others."""

HASHLIB_NAMES: Final = {
    name.replace("-", "_"): name for name in sorted(hashlib.algorithms_guaranteed) if "shake" not in name
}
"""hashlib's name of each algorithm by its normalized name; without SHAKE, whose digests have no fixed length."""

DIGEST_NAMES: Final = (*HASHLIB_NAMES, "blake3", "crc32", "crc32c", "crc64nvme", "xxh3", "xxh3_128")
"""Normalized names of all supported digests."""


def normalize_name(name: str) -> str:
    """Return the stored form of a digest's name: `sha256` for `SHA-256`."""
    plain = name.strip().lower()
    joined = plain.replace("-", "")
    return joined if joined in DIGEST_NAMES else plain.replace("-", "_")


def normalize_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return `names` normalized and without duplicates.

    Raises:
        Rejected: UNKNOWN_DIGEST with the unknown names and the supported ones.

    """
    normalized = tuple(dict.fromkeys(normalize_name(name) for name in names if name.strip()))
    if unknown := [name for name in normalized if name not in DIGEST_NAMES]:
        raise Rejected(
            "UNKNOWN_DIGEST",
            f"unknown digest {', '.join(unknown)!a}; known are {', '.join(sorted(DIGEST_NAMES))}",
        )
    return normalized


def split_names(text: str) -> list[str]:
    """Split a list of names at commas and blanks."""
    return text.replace(",", " ").split()
