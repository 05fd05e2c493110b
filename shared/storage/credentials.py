"""Whose fault a refused signature is: this service's credentials, or the request that a record led to.

A record with an odd name can make a store answer SignatureDoesNotMatch, which a wrong secret does too. Only the second
is an outage: then a request whose parts all come from the settings is refused in the same way.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

CREDENTIAL_CODES: Final = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch"})


class CredentialCheck:
    """Asks whether the credentials work, one request at a time however many wait for the answer."""

    def __init__(self, ask: Callable[[], Awaitable[bool]]) -> None:
        self._ask = ask
        self._lock = asyncio.Lock()
        self._works = False
        self._asked_at = float("-inf")

    async def works(self, since: float) -> bool:
        """Return whether a control request that began after `since` (monotonic seconds) was accepted."""
        async with self._lock:
            if self._asked_at < since:
                asked_at = time.monotonic()
                self._works = await self._ask()
                self._asked_at = asked_at
            return self._works
