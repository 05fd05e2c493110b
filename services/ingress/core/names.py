"""Names that come from outside: which of them may become keys."""

import unicodedata
from typing import Final

from shared.errors import Rejected
from shared.text import is_altered

MAX_KEY_BYTES: Final = 1024
_REFUSED_CATEGORIES: Final = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Control and format characters (NUL, newline, U+202E among them), surrogates, line separators."""

RESERVED_METADATA: Final = frozenset({"penstock-owner", "penstock-upload", "tus-upload"})
"""What the ingress alone says of an object: whose upload it is, and which upload it was."""


def safe_key(text: str) -> str:
    """Return `text` unaltered when it can be an object's key; raises Rejected with the reason.

    A key is a path below its bucket: no `.` or `..`, no empty step, no root, no drive, nothing a terminal obeys.
    """
    shown = text.encode("unicode_escape").decode()[:80]
    if not text or text.endswith("/"):
        raise Rejected("NAME_EMPTY", f"the name {shown!r} is empty: give the file a name")
    if len(text.encode("utf-8", "surrogatepass")) > MAX_KEY_BYTES:
        raise Rejected("KEY_TOO_LONG", f"the name {shown}... has more than {MAX_KEY_BYTES} bytes: shorten it")
    if odd := next((c for c in text if unicodedata.category(c) in _REFUSED_CATEGORIES), None):
        raise Rejected("KEY_UNSAFE", f"the name {shown} holds U+{ord(odd):04X}, which cannot be seen: rename it")
    if any(step in {"", ".", ".."} for step in text.replace("\\", "/").split("/")):
        raise Rejected("KEY_UNSAFE", f"the name {shown} leads out of its place: no absolute path, no . and no ..")
    if is_altered(text):
        raise Rejected("KEY_UNSAFE", f"the name {shown} has a step that ends in __XLDIR__, MinIO's own mark: rename it")
    return text


def known_key(text: str) -> str:
    """Return the key of an object that is there already, whoever named it; raises Rejected for what no key can be.

    An empty key is its bucket, and `.` and `..` are another key to whatever tidies paths.
    """
    if not text or {".", ".."} & set(text.split("/")):
        raise Rejected("KEY_UNSAFE", "the key is empty or has a step . or ..: no object is called so")
    if is_altered(text.lstrip("/")):
        raise Rejected("KEY_UNSAFE", "the key has a step that ends in __XLDIR__, MinIO's own mark: no object has it")
    return text
