"""Uploads that are still open when their token ends: aborted, so that what was signed for their parts leads nowhere."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final, Protocol

import structlog

from services.ingress.adapters.staging import each
from services.ingress.adapters.tokens import Tokens
from shared.errors import PenstockError, one_line
from shared.patience import is_outage

log = structlog.get_logger()

LOOK_SECONDS: Final = 15.0
"""Between two looks without an event: for uploads that began meanwhile, or under a process that died."""
RETRY_SECONDS: Final = 1.0


class OpenUploads(Protocol):
    """Uploads of one kind, of every process; each is known by an id that stands for one owner."""

    def open(self) -> AsyncIterator[str]:
        """Give the ids of all open uploads."""

    async def owner_of(self, upload_id: str) -> str:
        """Return the id of the token that began an upload; empty when it is no longer open."""

    async def remove_ended(self, upload_id: str) -> None:
        """Remove an upload with its parts."""


class EndedUploads:
    """Removes the open uploads of tokens that have ended, at once when it hears of one, and by the clock."""

    def __init__(self, tokens: Tokens, *kinds: OpenUploads) -> None:
        self._tokens = tokens
        self._kinds = kinds
        self._owners: dict[tuple[OpenUploads, str], str] = {}
        self._news = asyncio.Event()
        tokens.when_ended(self._news.set)

    async def run(self) -> None:
        """Remove them for ever."""
        while True:
            self._news.clear()
            wait = LOOK_SECONDS
            try:
                await self._tokens.disable_webhooks()
                await self.remove()
            except Exception as error:
                wait = RETRY_SECONDS
                if not is_outage(error):
                    log.exception("uploads.not_ended", reason=one_line(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._news.wait()

    async def remove(self) -> None:
        """Remove, once, what belongs to tokens that have ended.

        Raises the first error that an upload met, once the others were tried.
        """
        self._owners = {one: await self._owner(*one) for kind in self._kinds async for one in _named(kind)}
        ended = await self._tokens.ended_among(set(self._owners.values()) - {""})
        errors: list[PenstockError] = []

        async def remove(one: tuple[OpenUploads, str]) -> None:
            kind, upload_id = one
            try:
                await kind.remove_ended(upload_id)
            except PenstockError as error:
                errors.append(error)

        await each([one for one, owner in self._owners.items() if owner in ended], remove)
        if errors:
            raise errors[0]

    async def _owner(self, kind: OpenUploads, upload_id: str) -> str:
        """Return an owner; asked of the store once, since an upload never changes hands."""
        return self._owners.get((kind, upload_id)) or await kind.owner_of(upload_id)


async def _named(kind: OpenUploads) -> AsyncIterator[tuple[OpenUploads, str]]:
    async for upload_id in kind.open():
        yield kind, upload_id
