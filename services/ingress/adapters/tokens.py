"""Who sends a request: a copy of the live tokens in memory, so that nobody waits for the database.

While Postgres is away the last copy goes on to hold. What this process changes holds here at once, and elsewhere
within `REFRESH_SECONDS` and the time of one question. What is known to have ended never holds again.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from services.ingress.adapters.token_table import Kept, TokenTable
from services.ingress.core.access import EVERYBODY, ROOT, Principal, Scope
from services.ingress.core.tokens import Keyring, Token, drawn, hash_of, looks_like_token
from services.ingress.settings import IngressSettings
from shared.errors import Outage, Rejected
from shared.outages import is_outage

log = structlog.get_logger()

REFRESH_SECONDS: Final = 2.0
USED_SECONDS: Final = 10.0
MAX_GENERATIONS: Final = 8
"""How many tokens may stand between one and the first: each request looks through them."""


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
        self._revoked: frozenset[str] = frozenset()
        """Ids that were live in this process and are no longer; they never become live again."""
        self._expired: frozenset[str] = frozenset()
        self._listeners: list[Callable[[], None]] = []

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

    def has_ended(self, number: str) -> bool:
        """Return whether the token with this id is known to have ended; what it has under way must end too."""
        if number == EVERYBODY.id:
            return not self._open
        known = self._ring.tokens.get(number)
        return number in self._revoked or (known is not None and not known.holds(datetime.now(UTC)))

    def when_ended(self, listener: Callable[[], None]) -> None:
        """Have `listener` called whenever tokens or sessions have ended, here or elsewhere."""
        self._listeners.append(listener)

    async def ended_among(self, numbers: Collection[str]) -> frozenset[str]:
        """Return those of these ids whose right has ended, as the database knows it.

        Raises Outage: it does not answer.
        """
        everybody = frozenset(() if self._open else {EVERYBODY.id}) & set(numbers)
        return everybody | await self._table.ended_among(numbers)

    async def disable_webhooks(self) -> None:
        """Disable the webhooks of tokens that have ended."""
        await self._table.disable_webhooks()

    async def create(self, wanted: Wanted, by: Principal) -> tuple[Token, str]:
        """Make a token with no more rights than `by`; return its row and its text, which is stored nowhere.

        Raises Rejected: NAME_TAKEN, WRONG_SCOPE, WRONG_PLACE, EXCEEDS_OWN_RIGHTS. Raises Problem: BAD_TOKEN.
        """
        number, text = drawn()
        now = datetime.now(UTC)
        expires_at = now + wanted.lasts if wanted.lasts else None
        by.require_may_give(wanted.scopes, wanted.places, wanted.rate, expires_at)
        self._require_generation(by)
        token = Token(
            id=number,
            name=wanted.name,
            hash=hash_of(text),
            scopes=wanted.scopes,
            places=wanted.places,
            rate=wanted.rate or by.rate,
            created_at=now,
            created_by=by.name,
            parent_id=by.id,
            expires_at=expires_at or by.expires_at,
        )
        await self._table.add(token)
        self._ring, self._changes = self._ring.with_token(token), self._changes + 1
        return token, text

    async def revoke(self, number: str, by: Principal = ROOT) -> Sequence[Token]:
        """End a token that `by` administers, and all that descend from it, here at once; return them, it first.

        Raises Rejected: NO_SUCH_TOKEN.
        """
        live = {one.id: one for one in await self.live(by)}
        ended = await self._table.revoke(number) if number in live else frozenset()
        if number not in ended:
            raise Rejected("NO_SUCH_TOKEN", "there is no such live token: GET /tokens lists them")
        known = self._ring.tokens
        self._ring, self._changes = self._ring.without(*ended), self._changes + 1
        self._revoked |= ended
        self._notify()
        return [live[number], *(known[one] for one in sorted(ended - {number}) if one in known)]

    async def live(self, by: Principal = ROOT) -> Sequence[Token]:
        """Return the live tokens that `by` administers, as the database has them: itself and those that descend."""
        await self.refresh()
        line = None if by.administers is None else self._ring.line_of({by.id})
        return [one for one in self._ring.tokens.values() if line is None or one.id in line]

    async def link(self, who: Principal) -> str:
        """Return a code that logs one browser in as `who`, once, within a quarter of an hour."""
        code = secrets.token_urlsafe(32)
        await self._table.add_link(self._link_hash(code), who.id)
        return code

    async def redeem(self, code: str) -> Principal | None:
        """Use a code up and return whom it lets in; None when it is not known, was used or is too old."""
        number = await self._table.use_link(self._link_hash(code))
        return self.bearer_of(number) if number else None

    async def end_session(self, session: str) -> None:
        """Let a session's cookie be worth nothing, here at once; elsewhere once Postgres has heard of it."""
        self._ended, self._changes = self._ended | {session}, self._changes + 1
        self._unwritten.add(session)
        self._notify()
        try:
            await self._write_ended()
        except Exception as error:
            if not is_outage(error):
                raise
            log.warning("session.ended_here_alone")

    async def keep_fresh(self) -> None:
        """Follow what other processes change, for ever; an outage leaves the copy as it is."""
        while True:
            self._check_expired()
            try:
                await self.refresh()
            except Exception as error:
                if not is_outage(error):
                    log.exception("tokens.not_refreshed")
            await asyncio.sleep(REFRESH_SECONDS)

    async def refresh(self) -> None:
        """Read the live tokens, and write down now and then which were used."""
        await self._write_ended()
        if not (self._is_loaded or self._open):
            await self._table.revoke(EVERYBODY.id)
        changes = self._changes
        kept = await self._table.kept()
        if changes == self._changes:  # else the answer may be older than what was changed here
            self._replace_copy(kept)
        if not self._is_loaded:
            self._is_loaded = True
            self._notify()  # of what ended while no process ran
        if self._used and time.monotonic() - self._written > USED_SECONDS:
            await self._write_used()

    def _link_hash(self, code: str) -> bytes:
        """Return what is saved of a link's code; another first token ends all links, as it ends all sessions."""
        return hash_of(f"{code}.{self._first}")

    def _replace_copy(self, kept: Kept) -> None:
        """Replace the copy by what the database has; notify the listeners when something has ended."""
        ring = Keyring.of(self._first, (one for one in kept.tokens if one.id not in self._revoked))
        gone, ended = self._ring.tokens.keys() - ring.tokens.keys(), kept.ended | self._unwritten
        is_news = bool(gone or ended - self._ended)
        self._ring, self._ended, self._revoked = ring, ended, self._revoked | gone
        if is_news:
            self._notify()

    def _check_expired(self) -> None:
        """Notify the listeners of tokens that have expired since the last look; needs no database."""
        expired = self._ring.expired(datetime.now(UTC))
        is_news = not expired <= self._expired
        self._expired = expired
        if is_news:
            self._notify()

    def _notify(self) -> None:
        for listener in self._listeners:
            listener()

    def _require_generation(self, by: Principal) -> None:
        if sum(1 for _ in self._ring.ancestors(by.id)) + 1 >= MAX_GENERATIONS:
            raise Rejected(
                "EXCEEDS_OWN_RIGHTS",
                f"{MAX_GENERATIONS} tokens stand between the new one and the first: make it with one of these",
            )

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
