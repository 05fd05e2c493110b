"""Who sends a request: a copy of the live tokens in memory, so that nobody waits for the database.

While Postgres is away the last copy goes on to hold. What this process changes holds here at once, and elsewhere
within `REFRESH_SECONDS` and the time of one question.
"""

import asyncio
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from services.ingress.adapters.token_table import TokenTable
from services.ingress.core.access import EVERYBODY, Principal, Scope
from services.ingress.core.tokens import Keyring, Token, drawn, hash_of, looks_like_token
from services.ingress.settings import IngressSettings
from shared.errors import Outage, Rejected
from shared.patience import is_outage

log = structlog.get_logger()

REFRESH_SECONDS: Final = 2.0
USED_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """A token that somebody wants to have."""

    name: str
    scopes: frozenset[Scope]
    places: tuple[str, ...] = ()
    rate: float | None = None
    lasts: timedelta | None = None


class Tokens:
    """Knows the principals; the first token is in the settings, the others in `table`."""

    def __init__(self, settings: IngressSettings, table: TokenTable) -> None:
        self._open = settings.auth == "none"
        self._first = settings.token.get_secret_value()
        self._table = table
        self._ring = Keyring.of(self._first)
        self._ended: frozenset[str] = frozenset()
        self._unwritten: set[str] = set()
        self._used: dict[str, datetime] = {}
        self._written = time.monotonic()
        self._changes = 0
        self._is_loaded = False

    @property
    def is_open(self) -> bool:
        """Whether everybody may come in without a token."""
        return self._open

    async def authenticate(self, text: str) -> Principal | None:
        """Return the bearer of a token's text; None for one that is not known.

        Raises Outage: the tokens could not be read since the start.
        """
        if self._open:
            return EVERYBODY
        now = datetime.now(UTC)
        found = self._ring.authenticate(text, now)
        if found is None and looks_like_token(text):
            self._require_copy()
        return self._noted(found, now)

    def bearer_of(self, number: str, *, session: str = "") -> Principal | None:
        """Return the bearer of the token with this id, whom a session stands for that has not ended."""
        if session in self._ended:
            return None
        now = datetime.now(UTC)
        found = self._ring.bearer_of(number, now)
        if found is None:
            self._require_copy()
        return self._noted(found, now)

    async def create(self, wanted: Wanted, by: str) -> tuple[Token, str]:
        """Make a token; return what is kept of it, and its text, which is told this once.

        Raises Rejected: NAME_TAKEN.
        """
        number, text = drawn()
        now = datetime.now(UTC)
        token = Token(
            id=number,
            name=wanted.name,
            hash=hash_of(text),
            scopes=wanted.scopes,
            places=wanted.places,
            rate=wanted.rate,
            created_at=now,
            created_by=by,
            expires_at=now + wanted.lasts if wanted.lasts else None,
        )
        await self._table.add(token)
        self._ring, self._changes = self._ring.with_token(token), self._changes + 1
        return token, text

    async def revoke(self, number: str) -> Token:
        """Let the token of this id hold no longer, here at once.

        Raises Rejected: NO_SUCH_TOKEN.
        """
        token = next((one for one in await self.live() if one.id == number), None)
        if token is None or not await self._table.revoke(number):
            raise Rejected("NO_SUCH_TOKEN", f"there is no live token {number[:80]!r}: GET /tokens lists them")
        self._ring, self._changes = self._ring.without(number), self._changes + 1
        return token

    async def live(self) -> Sequence[Token]:
        """Return the live tokens as the database has them."""
        await self.refresh()
        return list(self._ring.tokens.values())

    async def link(self, who: Principal) -> str:
        """Return a code that logs one browser in as `who`, once, within a quarter of an hour."""
        code = secrets.token_urlsafe(32)
        await self._table.add_link(hash_of(code), who.id)
        return code

    async def redeem(self, code: str) -> Principal | None:
        """Use a code up and return whom it lets in; None when it is not known, was used or is too old."""
        number = await self._table.use_link(hash_of(code))
        return self.bearer_of(number) if number else None

    async def end_session(self, session: str) -> None:
        """Let a session's cookie be worth nothing, here at once; elsewhere once Postgres has heard of it."""
        self._ended, self._changes = self._ended | {session}, self._changes + 1
        self._unwritten.add(session)
        try:
            await self._write_ended()
        except Exception as error:
            if not is_outage(error):
                raise
            log.warning("session.ended_here_alone")

    async def keep_fresh(self) -> None:
        """Follow what other processes change, for ever; an outage leaves the copy as it is."""
        while True:
            try:
                await self.refresh()
            except Exception as error:
                if not is_outage(error):
                    log.exception("tokens.not_refreshed")
            await asyncio.sleep(REFRESH_SECONDS)

    async def refresh(self) -> None:
        """Read the live tokens, and write down now and then which were used."""
        await self._write_ended()
        changes = self._changes
        kept = await self._table.kept()
        if changes == self._changes:  # else the answer may be older than what was changed here
            self._ring, self._ended = Keyring.of(self._first, kept.tokens), kept.ended | self._unwritten
        self._is_loaded = True
        if self._used and time.monotonic() - self._written > USED_SECONDS:
            await self._write_used()

    async def _write_used(self) -> None:
        used = dict(self._used)
        await self._table.note_used(used)
        self._used = {number: at for number, at in self._used.items() if used.get(number) != at}
        self._written = time.monotonic()

    async def _write_ended(self) -> None:
        for session in tuple(self._unwritten):
            await self._table.end_session(session)
            self._unwritten.discard(session)

    def _noted(self, found: Principal | None, now: datetime) -> Principal | None:
        if found is not None:
            self._used[found.id] = now
        return found

    def _require_copy(self) -> None:
        if not self._is_loaded:
            raise Outage("the tokens cannot be read while Postgres is away: try again later")
