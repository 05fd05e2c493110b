"""Find out whether a refused signature is due to wrong credentials or to the names in one request.

A store may answer SignatureDoesNotMatch to an unusual key as well as to a wrong secret. Only a wrong secret is an
outage; it makes the store refuse a control request too, all of whose parts come from the settings.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

CREDENTIAL_CODES: Final = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch"})


class CredentialCheck:
    """Checks the credentials with one request at a time; concurrent callers share the answer."""

    def __init__(self, check: Callable[[], Awaitable[bool]]) -> None:
        self._check = check
        self._lock = asyncio.Lock()
        self._works = False
        self._checked_at = float("-inf")

    async def works(self, since: float) -> bool:
        """Return whether the store accepted a control request that began after `since` (monotonic seconds)."""
        async with self._lock:
            if self._checked_at < since:
                checked_at = time.monotonic()
                self._works = await self._check()
                self._checked_at = checked_at
            return self._works
