"""S3 objects behind one port: bounded memory, ranges, If-Match, unaltered keys.

`open_store(settings)` opens an `ObjectStore`. For the choice of clients see docs/adr/0001.
"""

from shared.object_headers import ABSENT, PRESENT, STORED_HEADERS
from shared.storage.names import is_ambiguous, refuse_alias
from shared.storage.objects import (
    PAGE_SIZE,
    ObjectGone,
    ObjectInfo,
    ObjectRef,
    ObjectSuperseded,
    Part,
)
from shared.storage.port import ObjectStore, ObjectWriter
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
    "Part",
    "is_ambiguous",
    "open_store",
    "refuse_alias",
]
