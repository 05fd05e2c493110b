"""Names and texts from outside: which are unsafe as keys, why, and how to show them on one line."""

import re
import unicodedata
from typing import Final

from shared.errors import Rejected

_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories of controls, formats (including bidirectional marks), lone surrogates and line separators."""
UNSAFE: Final = r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]"
"""A pattern, for Python and polars, of characters that no key may contain: controls, line separators, and bidirectional
embeddings, overrides and isolates (https://www.unicode.org/reports/tr36/). Joiners (ZWNJ, ZWJ) and marks (LRM, RLM,
ALM) are allowed: Persian, Hindi, Hebrew and emoji need them."""
_UNSAFE: Final = re.compile(f"{UNSAFE}|[\ud800-\udfff]")
"""The same, and lone surrogates, which UTF-8 cannot encode."""

_UNNAMED: Final = {"Cc": "control character", "Cs": "lone surrogate"}
"""Categories whose characters have no name in Unicode."""
_MAX_SHOWN: Final = 80
_FOLDER_SUFFIX: Final = "__XLDIR__"
"""https://github.com/minio/minio/blob/master/cmd/object-api-common.go"""


def is_unsafe(key: str) -> bool:
    """Return whether `key` contains lone surrogates or characters that pages, logs and terminals show misleadingly."""
    return _UNSAFE.search(key) is not None


def unsafe_character(key: str) -> str:
    """Return the first unsafe character of `key` as `U+202E RIGHT-TO-LEFT OVERRIDE`; empty if there is none."""
    if (found := _UNSAFE.search(key)) is None:
        return ""
    name = unicodedata.name(found[0], "") or _UNNAMED[unicodedata.category(found[0])]
    return f"U+{ord(found[0]):04X} {name}"


def why_unsafe(key: str) -> str:
    """Return the error text for an unsafe key, with its first unsafe character and the fix; empty for a safe key."""
    found = unsafe_character(key)
    return f"key {quoted(key)} holds {found}: rename it" if found else ""


def require_safe_key(key: str) -> str:
    """Return `key`; raise Rejected (KEY_UNSAFE) with the reason of `why_unsafe`."""
    if reason := why_unsafe(key):
        raise Rejected("KEY_UNSAFE", reason)
    return key


def is_altered_by_minio(key: str) -> bool:
    """Return whether MinIO would store the object under another key, or hide it from listings.

    MinIO drops a leading slash, and treats a path segment that ends in `__XLDIR__` as a folder.
    """
    return key.startswith("/") or any(segment.endswith(_FOLDER_SUFFIX) for segment in key.split("/"))


def require_unaltered_key(key: str) -> str:
    """Return `key`; raise Rejected (KEY_UNSAFE) if MinIO would store it under another one."""
    if is_altered_by_minio(key):
        raise Rejected(
            "KEY_UNSAFE",
            f"key {quoted(key)} begins with a slash or has a step that ends in {_FOLDER_SUFFIX}, so MinIO would store "
            "it under another key: rename it",
        )
    return key


def quoted(text: str, limit: int = _MAX_SHOWN) -> str:
    """Return the start of `text` in quotes for an error text, with invisible characters escaped."""
    return f"'{visible(text, limit)}'"


def visible(text: str, limit: int | None = None) -> str:
    r"""Return `text` on one line with invisible characters escaped (`\n`, `\x1b`, `\u202e`), cut at `limit`."""
    shown = text if limit is None else text[: limit + 1]
    if not shown.isprintable():
        shown = "".join(_escape(char) if unicodedata.category(char) in _INVISIBLE else char for char in shown)
    return shown if limit is None or len(shown) <= limit else shown[: limit - 1] + "…"


def _escape(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")
