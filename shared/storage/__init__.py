"""Objects in S3 behind one small protocol: bounded memory, ranges, If-Match, keys never altered.

`open_store(settings)` gives an `ObjectStore`. Which client does what, with figures: docs/adr/0001.
"""

from shared.object_headers import ABSENT, PRESENT, STORED_HEADERS
from shared.storage.names import is_ambiguous, refuse_alias
from shared.storage.objects import (
    PAGE_SIZE,
    ObjectGone,
    ObjectInfo,
    ObjectRef,
    ObjectStore,
    ObjectSuperseded,
    ObjectWriter,
)
from shared.storage.store import open_store

__all__ = [
    "ABSENT",
    "PAGE_SIZE",
    "PRESENT",
    "STORED_HEADERS",
    "ObjectGone",
    "ObjectInfo",
    "ObjectRef",
    "ObjectStore",
    "ObjectSuperseded",
    "ObjectWriter",
    "is_ambiguous",
    "open_store",
    "refuse_alias",
]
