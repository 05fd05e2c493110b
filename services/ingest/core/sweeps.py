"""Compare a bucket listing with the known objects."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from services.ingest.core.decisions import KnownObject, is_same_time
from services.ingest.core.notifications import is_folder_marker
from shared.events import ObjectChanged
from shared.text import is_unsafe

MAX_PENDING_SWEEPS = 100


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object in a listing."""

    key: str
    etag: str
    size: int
    last_modified: datetime
    content_type: str | None = None
    metadata: Mapping[str, str] | None = None
    """None if the listing has no metadata."""
    version_id: str | None = None
    has_version: bool = False
    """Whether the listing has version ids; `version_id` is then compared too."""


def find_missed(
    listed: Mapping[str, ListedObject], known: Mapping[str, KnownObject], *, settled_before: datetime
) -> list[str]:
    """Return listed keys without a matching known object; skip those stored after `settled_before`."""
    return [
        key
        for key, one in listed.items()
        if one.last_modified < settled_before
        and not is_unsafe(key)
        and not is_folder_marker(key, one.size)
        and ((known_object := known.get(key)) is None or _differs(one, known_object))
    ]


def _differs(listed: ListedObject, known_object: KnownObject) -> bool:
    """Whether the listing differs from the known object; unknown fields never differ."""
    compared = [(known_object.size, listed.size)]
    if listed.metadata is not None:
        compared += [(known_object.content_type, listed.content_type), (known_object.metadata, listed.metadata)]  # type: ignore[list-item]
    return (
        (known_object.state, known_object.etag) != ("stored", listed.etag)
        or (listed.has_version and known_object.version_id != listed.version_id)
        or any(before is not None and before != now for before, now in compared)
        or not is_same_time(known_object.last_modified, listed.last_modified)
    )


def removal_of(bucket: str, key: str) -> ObjectChanged:
    """Return the removal of a known object that a sweep did not find."""
    return ObjectChanged(change="removed", bucket=bucket, key=key, seen_by="sweep")
