"""Bucket listings: which prefixes a principal sees, and grouping into folders."""

from collections.abc import Iterable
from typing import Final

AFTER_ANY_KEY: Final = "\U0010ffff"
"""Sorts after every possible continuation of a key."""


def visible_prefixes(prefixes: Iterable[str], bucket: str, prefix: str) -> list[str]:
    """Return the prefixes, in key order and none within another, that together hold what is seen below `prefix`."""
    beginnings = list(prefixes) or [""]
    here = [
        one[len(bucket) + 1 :] for one in beginnings if f"{bucket}/".startswith(one) or one.startswith(f"{bucket}/")
    ]
    both = sorted(max(one, prefix, key=len) for one in here if one.startswith(prefix) or prefix.startswith(one))
    found: list[str] = []
    for one in both:
        if not (found and one.startswith(found[-1])):
            found.append(one)
    return found


def folder_of(key: str, prefix: str, delimiter: str) -> str | None:
    """Return the folder below `prefix` that `key` is in; None when it is in none."""
    rest, found, _ = key.removeprefix(prefix).partition(delimiter) if delimiter else (key, "", "")
    return f"{prefix}{rest}{delimiter}" if found else None


def resume_after(start_after: str, prefix: str, delimiter: str) -> str:
    """Return the key to list from: behind a folder as a whole when it is one that a page ended with."""
    ends_with_folder = bool(delimiter) and folder_of(start_after, prefix, delimiter) == start_after
    return start_after + AFTER_ANY_KEY if ends_with_folder else start_after
