"""Objects in S3 behind one small protocol: bounded memory, ranges, If-Match, keys never altered.

`open_store(settings)` gives an `ObjectStore`. Which client does what, with figures: docs/adr/0001.
"""

from shared.object_headers import ABSENT, KEPT, PRESENT
from shared.storage.names import is_ambiguous, refuse_alias
from shared.storage.objects import (
    PAGE,
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
    "KEPT",
    "PAGE",
    "PRESENT",
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
