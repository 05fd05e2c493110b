"""Make outside values safe for Postgres, terminals and line-based streams."""

import json
import math
import re
from typing import Any, Final

MAX_BODY_BYTES: Final = 16 << 10
"""Bytes of a body that is stored whole; typical facts have a tenth of it."""
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_UNSTORABLE: Final = re.compile(r"[\x00\ud800-\udfff]")
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"


def sanitize_text(text: str, limit: int = MAX_BODY_BYTES) -> str:
    """Return one line of at most `limit` characters, with unprintable characters replaced."""
    return _UNPRINTABLE.sub(_REPLACEMENT, text[:limit])


def sanitize_json(value: Any) -> Any:
    """Return a JSON value that jsonb can hold: no NUL, no half of a character, no number that is none."""
    if isinstance(value, str):
        return _UNSTORABLE.sub(_REPLACEMENT, value)
    if isinstance(value, dict):
        return {sanitize_json(name): sanitize_json(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [sanitize_json(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def truncate_body(body: Any, size: int) -> Any:
    """Return `body`, which arrived in `size` bytes; a larger one is cut, with its size."""
    if size <= MAX_BODY_BYTES:
        return body
    text = body["text"] if isinstance(body, dict) and body.keys() == {"text", "bytes"} else json.dumps(body)
    return {"cut": text[:MAX_BODY_BYTES], "bytes": size}
