"""Uploads that are still open when their token ends: aborted, so that what was signed for their parts leads nowhere."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final, Protocol

import structlog

from services.ingress.adapters.staging import MAX_CONCURRENT
from services.ingress.adapters.tokens import Tokens
from shared.concurrency import map_concurrently
from shared.errors import PenstockError, one_line
from shared.outages import is_outage

log = structlog.get_logger()

POLL_SECONDS: Final = 15.0
"""Polling interval, for uploads that began after the last event or under a process that died."""
RETRY_SECONDS: Final = 1.0


class OpenUploads(Protocol):
    """Open uploads of one kind, of all processes; an upload id has exactly one owner."""

    def open(self) -> AsyncIterator[str]:
        """Yield the ids of all open uploads."""

    async def owner_of(self, upload_id: str) -> str:
        """Return the id of the token that began an upload; empty when it is no longer open."""

    async def remove_ended(self, upload_id: str) -> None:
        """Remove an upload with its parts."""


class UploadCleanup:
    """Remove the open uploads of ended tokens, on notification and periodically."""

    def __init__(self, tokens: Tokens, *kinds: OpenUploads) -> None:
        self._tokens = tokens
        self._kinds = kinds
        self._owners: dict[OpenUploads, dict[str, str]] = {}
        self._token_ended = asyncio.Event()
        tokens.on_ended(self._token_ended.set)

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            self._token_ended.clear()
            wait = POLL_SECONDS
            try:
                await self._tokens.disable_webhooks()
                await self.remove()
            except Exception as error:
                wait = RETRY_SECONDS
                if not is_outage(error):
                    log.exception("uploads.not_ended", reason=one_line(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._token_ended.wait()

    async def remove(self) -> None:
        """Remove, once, what belongs to tokens that have ended; many uploads of one kind do not delay another.

        Raises the first error that an upload met, once the others were tried.
        """
        errors: list[PenstockError] = []
        await asyncio.gather(*(self._remove_of(kind, errors) for kind in self._kinds))
        if errors:
            raise errors[0]

    async def _remove_of(self, kind: OpenUploads, errors: list[PenstockError]) -> None:
        owners = await self._owners_of(kind)
        ended = await self._tokens.ended_among(set(owners.values()) - {""})

        async def remove(upload_id: str) -> None:
            try:
                await kind.remove_ended(upload_id)
            except PenstockError as error:
                errors.append(error)

        await map_concurrently(remove, [one for one, owner in owners.items() if owner in ended], limit=MAX_CONCURRENT)

    async def _owners_of(self, kind: OpenUploads) -> dict[str, str]:
        """Return the owner of each open upload; cached, because an upload never changes its owner."""
        known, owners = self._owners.get(kind, {}), {}

        async def look(upload_id: str) -> None:
            owners[upload_id] = known.get(upload_id) or await kind.owner_of(upload_id)

        await map_concurrently(look, [one async for one in kind.open()], limit=MAX_CONCURRENT)
        self._owners[kind] = owners
        return owners
