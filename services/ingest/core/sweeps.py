"""What a sweep compares: a listing with what is known."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from services.ingest.core.decisions import Known, is_same_time
from services.ingest.core.notices import is_folder_marker
from shared.events import ObjectChanged
from shared.text import is_unsafe


@dataclass(frozen=True, slots=True)
class Listed:
    """An object in a listing."""

    key: str
    etag: str
    size: int
    last_modified: datetime
    content_type: str | None = None
    metadata: Mapping[str, str] | None = None
    """None where the listing tells none."""
    version_id: str | None = None
    has_version: bool = False
    """Whether the listing tells versions; `version_id` is then compared too."""


def missed(listed: Mapping[str, Listed], known: Mapping[str, Known], *, settled_before: datetime) -> list[str]:
    """Return the keys that were never told; those younger than `settled_before` may still be notified."""
    return [
        key
        for key, one in listed.items()
        if one.last_modified < settled_before
        and not is_unsafe(key)
        and not is_folder_marker(key, one.size)
        and ((mine := known.get(key)) is None or _differs(one, mine))
    ]


def _differs(listed: Listed, mine: Known) -> bool:
    """Whether anything that the listing tells is not as it is known; what is not known differs from nothing."""
    compared = [(mine.size, listed.size)]
    if listed.metadata is not None:
        compared += [(mine.content_type, listed.content_type), (mine.metadata, listed.metadata)]  # type: ignore[list-item]
    return (
        (mine.state, mine.etag) != ("stored", listed.etag)
        or (listed.has_version and mine.version_id != listed.version_id)
        or any(known is not None and known != there for known, there in compared)
        or not is_same_time(mine.last_modified, listed.last_modified)
    )


def gone(bucket: str, key: str) -> ObjectChanged:
    """Return the notice of a known object that a sweep did not find."""
    return ObjectChanged(change="removed", bucket=bucket, key=key, seen_by="sweep")
