"""Quotas of one token: rows and objects that stay until they are removed."""

from collections import Counter
from collections.abc import Collection
from typing import Final

from services.ingress.core.problems import HttpProblem

MAX_TOKENS: Final = 1000
MAX_WEBHOOKS: Final = 100
MAX_LINKS: Final = 200
"""Unused login links; each expires after a quarter of an hour."""
MAX_OPEN_UPLOADS: Final = 1000


def quota_exceeded(what: str, limit: int, remedy: str) -> HttpProblem:
    """Return the error for an exceeded quota."""
    return HttpProblem("QUOTA_USED_UP", f"this token has {limit} {what}, and may have no more: {remedy}")


class OpenUploadCounts:
    """Counts the open uploads of each token: those begun here at once, those of other processes once they are seen."""

    def __init__(self, limit: int = MAX_OPEN_UPLOADS) -> None:
        self._limit = limit
        self._owners: dict[str, str] = {}
        self._counts: Counter[str] = Counter()

    def begin(self, upload_id: str, owner: str) -> None:
        """Count an upload before anything of it is written.

        Raises Problem: QUOTA_USED_UP.
        """
        if self._counts[owner] >= self._limit:
            raise quota_exceeded("open uploads", self._limit, "finish some, or give them up with DELETE")
        self.note(upload_id, owner)

    def note(self, upload_id: str, owner: str) -> None:
        """Count an upload that is there."""
        if upload_id not in self._owners:
            self._owners[upload_id] = owner
            self._counts[owner] += 1

    def end(self, upload_id: str) -> None:
        """Count an upload no longer; one that is not counted does no harm."""
        owner = self._owners.pop(upload_id, None)
        if owner is not None:
            self._counts[owner] -= 1
            if not self._counts[owner]:
                del self._counts[owner]

    def unknown(self, upload_ids: Collection[str]) -> list[str]:
        """Return those that are not counted yet."""
        return [one for one in upload_ids if one not in self._owners]

    def known(self) -> frozenset[str]:
        """Return all that are counted."""
        return frozenset(self._owners)
