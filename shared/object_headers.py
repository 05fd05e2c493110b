"""What a write may say of its object, in S3's terms; without I/O, so that what decides about it can use it too."""

from typing import Final

ABSENT: Final = ""
"""The etag of what is not there: `write(..., if_match=ABSENT)` writes over nothing."""
PRESENT: Final = "*"
"""The etag of whatever is there: `write(..., if_match=PRESENT)` writes over an object and not over nothing."""
STORED_HEADERS: Final = ("cache-control", "content-disposition", "content-encoding", "content-language", "expires")
"""Headers of an upload that S3 keeps with the object and gives back as they came."""
