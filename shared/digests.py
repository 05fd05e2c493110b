"""The digests that can be asked for, by name, and how an upload asks for them."""

import hashlib
from collections.abc import Iterable
from typing import Final

from shared.errors import Rejected

DIGESTS_METADATA: Final = "penstock-digests"
"""The metadata entry of an object that names other digests than the default ones."""

DEFAULT_DIGESTS: Final = ("md5", "sha256", "blake3")
"""Digests of every object, where the settings name no others."""

HASHLIB_NAMES: Final = {
    name.replace("-", "_"): name for name in sorted(hashlib.algorithms_guaranteed) if "shake" not in name
}
"""hashlib's, by the name they are kept under; its shake digests have no length of their own and are left out."""

DIGEST_NAMES: Final = (*HASHLIB_NAMES, "blake3", "crc32", "crc32c", "crc64nvme", "xxh3", "xxh3_128")
"""All there are."""


def normalize_name(name: str) -> str:
    """Return the name by which a digest is kept: `SHA-256` and `sha256` are one."""
    plain = name.strip().lower()
    joined = plain.replace("-", "")
    return joined if joined in DIGEST_NAMES else plain.replace("-", "_")


def normalize_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return `names` as they are kept, each once; a name nobody knows is rejected together with those that are."""
    wanted = tuple(dict.fromkeys(normalize_name(name) for name in names if name.strip()))
    if strange := [name for name in wanted if name not in DIGEST_NAMES]:
        raise Rejected(
            "UNKNOWN_DIGEST",
            f"unknown digest {', '.join(strange)!a}; known are {', '.join(sorted(DIGEST_NAMES))}",
        )
    return wanted


def split_names(text: str) -> list[str]:
    """Return the names in a list of them, apart by commas or blanks."""
    return text.replace(",", " ").split()
