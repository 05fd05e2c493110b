"""Text from outside: what of it deceives, and how it is shown where nothing of it may be obeyed."""

import re
import unicodedata
from typing import Final

_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Controls, formats (bidirectional marks among them), lone surrogates, and the two separators that end a line."""
UNSAFE: Final = r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]"
"""A pattern, for Python and for polars, of what no key may hold, wherever it comes from: controls, the separators that
end a line, and bidirectional embeddings, overrides and isolates (https://www.unicode.org/reports/tr36/). Joiners (ZWNJ,
ZWJ) and marks (LRM, RLM, ALM) are letters' own: Persian, Hindi, Hebrew and emoji are not written without them."""
_UNSAFE: Final = re.compile(f"{UNSAFE}|[\ud800-\udfff]")
"""Likewise, and halves of characters, which no text in UTF-8 has."""

_FOLDER_MARK: Final = "__XLDIR__"
"""https://github.com/minio/minio/blob/master/cmd/object-api-common.go"""


def is_unsafe(key: str) -> bool:
    """Whether a key holds characters that no page, log or terminal can show honestly, or that are no text at all."""
    return _UNSAFE.search(key) is not None


def unsafe_character(key: str) -> str:
    """Return the first character that makes a key unsafe, as `U+202E`; empty where none does."""
    found = _UNSAFE.search(key)
    return f"U+{ord(found[0]):04X}" if found else ""


def is_altered_by_minio(key: str) -> bool:
    """Whether MinIO stores an object under another key than this one, or where no listing shows it.

    It drops a slash at the beginning, and takes `__XLDIR__` at the end of a step for its own mark of a folder.
    """
    return key.startswith("/") or any(step.endswith(_FOLDER_MARK) for step in key.split("/"))


def visible(text: str, limit: int | None = None) -> str:
    r"""Return `text` on one line, what cannot be seen written as `\n`, `\x1b` or `\u202e`; cut at `limit`."""
    shown = text if limit is None else text[: limit + 1]
    if not shown.isprintable():
        shown = "".join(_escaped(char) if unicodedata.category(char) in _UNSEEN else char for char in shown)
    return shown if limit is None or len(shown) <= limit else shown[: limit - 1] + "…"


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")
