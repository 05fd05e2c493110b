"""Upload ids: their form, the keys of their objects, and the digests they request."""

import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from services.ingress.core.names import safe_key
from shared.digests import DIGESTS_METADATA, normalize_names, split_names

OWNER_KEY: Final = "penstock-owner"
"""Metadata entry with the id of the principal that uploaded the object."""
UPLOADS_PREFIX: Final = "uploads"
FAILED_MEMBERS: Final[Mapping[str, Any]] = {"success": False, "id": None, "celery_status": None, "celery_id": None}
"""Extra members of problems of uploads, which clients of the former API read."""

_ID: Final = re.compile(r"[0-9a-f]{32}")


def new_upload_id() -> str:
    """Return an unguessable id: 128 random bits in hex."""
    return secrets.token_hex(16)


def is_upload_id(text: str) -> bool:
    """Return whether `text` has the form of an upload id."""
    return _ID.fullmatch(text) is not None


def upload_key(id: str, filename: str) -> str:  # noqa: A002 - the name in the API
    """Return the key of the upload `id`; the id is part of the key, so no table stores it.

    Of a path only the last step counts, with either slash. Raises Rejected for an invalid key.
    """
    name = safe_key(filename.replace("\\", "/").rpartition("/")[2])
    return safe_key(f"{upload_prefix(id)}{name}")


def upload_prefix(id: str) -> str:  # noqa: A002
    """Return the beginning of the key of the upload `id`, and of no other."""
    return f"{UPLOADS_PREFIX}/{id}/"


def upload_metadata(owner: str, algorithms: Iterable[str], defaults: Sequence[str]) -> dict[str, str]:
    """Return the metadata of an upload: its owner, and the requested digests with the default ones.

    Each of `algorithms` may be a list. Raises Rejected (UNKNOWN_DIGEST).
    """
    asked = normalize_names(name for text in algorithms for name in split_names(text))
    requested = {DIGESTS_METADATA: ",".join(normalize_names([*defaults, *asked]))} if asked else {}
    return {OWNER_KEY: owner, **requested}
