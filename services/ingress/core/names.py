"""Names from outside: which of them are valid keys."""

from typing import Final

from shared.errors import Rejected
from shared.field_rules import MAX_KEY_BYTES
from shared.text import is_altered_by_minio, quoted, require_safe_key, require_unaltered_key

RESERVED_METADATA: Final = frozenset({"penstock-owner", "penstock-upload", "tus-upload"})
"""Metadata that only the ingress may set: the upload's owner and id."""


def safe_key(text: str) -> str:
    """Return `text` unchanged if it is a valid object key; raise Rejected with the reason.

    A key is a relative path: no `.` or `..`, no empty step, no leading slash, no control characters.
    """
    if not text or text.endswith("/"):
        raise Rejected("NAME_EMPTY", f"the name {quoted(text)} is empty: give the file a name")
    if len(text.encode("utf-8", "surrogatepass")) > MAX_KEY_BYTES:
        raise Rejected("KEY_TOO_LONG", f"the name {quoted(text)} has more than {MAX_KEY_BYTES} bytes: shorten it")
    require_safe_key(text)
    if any(step in {"", ".", ".."} for step in text.replace("\\", "/").split("/")):
        raise Rejected(
            "KEY_UNSAFE", f"file name {quoted(text)} escapes its folder: use a relative path without . and .."
        )
    return require_unaltered_key(text)


def safe_path(filename: str) -> str:
    """Return a form's file name as a key, folders included; backslashes become slashes.

    Raises Rejected as `safe_key` does.
    """
    return safe_key(filename.replace("\\", "/"))


def existing_key(text: str) -> str:
    """Return the key of an existing object; raise Rejected for an impossible key.

    An empty key would address the bucket, and steps `.` and `..` another key after path normalization.
    """
    if not text or {".", ".."} & set(text.split("/")):
        raise Rejected("KEY_UNSAFE", "the key is empty or has a step . or ..: no object is called so")
    if is_altered_by_minio(text.lstrip("/")):
        raise Rejected("KEY_UNSAFE", "the key has a step that ends in __XLDIR__, MinIO's own mark: no object has it")
    return text
