"""Sets of files that replace everything under a prefix: their manifest and their keys.

A set is staged under `sets/<id>/` of the staging bucket. Writing its manifest commits it: without a manifest nothing
changes, with one every step is carried out, repeated after each interruption.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final, Self

from pydantic import BaseModel, ConfigDict

from services.ingress.core.names import safe_key
from shared.errors import Rejected

SETS_PREFIX: Final = "sets/"
MANIFEST: Final = "manifest.json"


class Manifest(BaseModel):
    """What a set replaces: `files` holds the final key of each staged one."""

    model_config = ConfigDict(frozen=True)

    set_id: str
    bucket: str
    prefix: str
    files: dict[str, str]
    at: datetime
    by: str

    @property
    def key(self) -> str:
        """The manifest's own key."""
        return manifest_key(self.set_id)

    @classmethod
    def of(  # noqa: PLR0913 - the fields of a manifest
        cls, set_id: str, bucket: str, prefix: str, names: Mapping[str, str], *, at: datetime, by: str
    ) -> Self:
        """Plan a set from `names`, file names by staged key; raise Rejected for duplicate or nested names."""
        files = {staged: safe_key(prefix + name) for staged, name in names.items()}
        _require_distinct(list(files.values()))
        return cls(set_id=set_id, bucket=bucket, prefix=prefix, files=files, at=at, by=by)


def folder_prefix(prefix: str) -> str:
    """Return a prefix as the directory it names, `p/` for `p`, `p/` and `/p/`; raises Rejected (PREFIX_EMPTY)."""
    name = prefix.strip("/")
    if not name:
        raise Rejected(
            "PREFIX_EMPTY", "keys_prefix is empty, so the whole bucket would be replaced: name the folder to replace"
        )
    return f"{safe_key(name)}/"


def staged_key(set_id: str, number: int) -> str:
    """Return where the file of this number waits."""
    return f"{SETS_PREFIX}{set_id}/{number}"


def manifest_key(set_id: str) -> str:
    """Return where the manifest of a set is."""
    return f"{SETS_PREFIX}{set_id}/{MANIFEST}"


def set_of(key: str) -> str:
    """Return the id of the set that a staged key belongs to."""
    return key.removeprefix(SETS_PREFIX).partition("/")[0]


def _require_distinct(keys: Iterable[str]) -> None:
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            raise Rejected("SAME_NAME", f"two files are called {key!r}: one would hide the other, rename one")
        seen.add(key)
    for key in seen:
        steps = key.split("/")
        folder = next((one for n in range(1, len(steps)) if (one := "/".join(steps[:n])) in seen), None)
        if folder is not None:
            raise Rejected("SAME_NAME", f"{folder!r} is a file and the folder of {key!r}: rename one")
