"""Uploads by id: what the id is, where the object goes, and which digests it asks for."""

import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from services.ingress.core.names import safe_key
from shared.digests import DIGESTS_METADATA, normalize_names, split_names

OWNER_KEY: Final = "penstock-owner"
"""The metadata entry that names the principal an object came from."""
UPLOADS_PREFIX: Final = "uploads"
FAILED_MEMBERS: Final[Mapping[str, Any]] = {"success": False, "id": None, "celery_status": None, "celery_id": None}
"""What the problem of an upload tells beside, because its clients look for it."""

_ID: Final = re.compile(r"[0-9a-f]{32}")


def new_upload_id() -> str:
    """Return an id that nobody can guess: 128 random bits in hex."""
    return secrets.token_hex(16)


def is_upload_id(text: str) -> bool:
    """Tell whether `text` could be an id of ours."""
    return _ID.fullmatch(text) is not None


def upload_key(id: str, filename: str) -> str:  # noqa: A002 - the clients' own word
    """Return where the upload `id` is stored: the id is in the key, so nothing else has to remember it.

    Of a path only its last step counts, whichever slash it has. Raises Rejected where that cannot be a key.
    """
    name = safe_key(filename.replace("\\", "/").rpartition("/")[2])
    return safe_key(f"{upload_prefix(id)}{name}")


def upload_prefix(id: str) -> str:  # noqa: A002
    """Return the beginning of the key of the upload `id`, and of no other."""
    return f"{UPLOADS_PREFIX}/{id}/"


def upload_metadata(owner: str, algorithms: Iterable[str], defaults: Sequence[str]) -> dict[str, str]:
    """Return what is kept with an upload: whose it is, and the digests that were asked for beside the default ones.

    Each of `algorithms` may be a list. Raises Rejected (UNKNOWN_DIGEST).
    """
    asked = normalize_names(name for text in algorithms for name in split_names(text))
    requested = {DIGESTS_METADATA: ",".join(normalize_names([*defaults, *asked]))} if asked else {}
    return {OWNER_KEY: owner, **requested}
