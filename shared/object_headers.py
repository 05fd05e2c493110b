"""Preconditions and headers of S3 writes, without I/O, so that cores may import them."""

from typing import Final

ABSENT: Final = ""
"""As `if_match`: write only if no object is there (If-None-Match: *)."""
PRESENT: Final = "*"
"""As `if_match`: write only over an existing object (If-Match: *)."""
STORED_HEADERS: Final = ("cache-control", "content-disposition", "content-encoding", "content-language", "expires")
"""Upload headers that S3 stores with the object and returns unchanged."""
