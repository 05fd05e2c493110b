"""Preconditions and headers of S3 writes, without I/O, so that cores may import them."""

from typing import Final

ABSENT: Final = ""
"""As `if_match`: write only if no object is there (If-None-Match: *)."""
PRESENT: Final = "*"
"""As `if_match`: write only over an existing object (If-Match: *)."""
STORED_HEADERS: Final = ("cache-control", "content-disposition", "content-encoding", "content-language", "expires")
"""Upload headers that S3 stores with the object and returns unchanged."""


def precondition_headers(if_match: str | None) -> dict[str, str]:
    """Return the If-Match or If-None-Match header for an etag, PRESENT or ABSENT."""
    if if_match in {PRESENT, ABSENT}:
        return {"if-match" if if_match == PRESENT else "if-none-match": "*"}
    return match_header(if_match)


def match_header(etag: str | None) -> dict[str, str]:
    """Return the If-Match header for an etag; none without one."""
    return {"if-match": f'"{etag}"'} if etag else {}
