"""Authenticate requests with an in-memory copy of the valid tokens.

While Postgres is away the last copy is used. Changes of this process take effect here at once, and in other processes
within `REFRESH_SECONDS` plus one query. A token known to have ended never becomes valid again.
"""

import secrets
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from services.ingress.adapters.token_table import StoredTokens, TokenTable
from services.ingress.core.access import EVERYBODY, ROOT, Principal, Scope
from services.ingress.core.tokens import Token, TokenCache, generate_token, hash_secret, looks_like_token
from services.ingress.settings import IngressSettings
from shared.errors import Outage, Rejected
from shared.loops import periodically
from shared.outages import is_outage

log = structlog.get_logger()

REFRESH_SECONDS: Final = 2.0
USED_SECONDS: Final = 10.0
MAX_GENERATIONS: Final = 8
"""Maximum length of the chain from a token to the root token; each request walks it."""


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """The properties of a token to create."""

    name: str
    scopes: frozenset[Scope]
    prefixes: tuple[str, ...] = ()
    rate: float | None = None
    ttl: timedelta | None = None


class Tokens:
    """Knows the principals; the first token is in the settings, the others in `table`."""

    def __init__(self, settings: IngressSettings, table: TokenTable) -> None:
        self._open = settings.auth == "none"
        self._root_token = settings.token.get_secret_value()
        self._table = table
        self._cache = TokenCache.of(self._root_token)
        self._ended_sessions: frozenset[str] = frozenset()
        self._unsaved_ended: set[str] = set()
        self._used: dict[str, datetime] = {}
        self._used_saved_at = time.monotonic()
        self._changes = 0
        self._is_loaded = False
        self._revoked: frozenset[str] = frozenset()
        """Ids that were live in this process and are no longer; they never become live again."""
        self._expired: frozenset[str] = frozenset()
        self._listeners: list[Callable[[], None]] = []

    @property
    def is_open(self) -> bool:
        """Return whether authentication is disabled."""
        return self._open

    async def authenticate(self, text: str) -> Principal | None:
        """Return the bearer of a token's text; None for one that is not known.

        Raises Outage: the tokens could not be read since the start.
        """
        if self._open:
            return EVERYBODY
        now = datetime.now(UTC)
        found = self._cache.authenticate(text, now)
        if found is None and looks_like_token(text):
            self._require_copy()
        return self._mark_used(found, now)

    def principal_for(self, token_id: str, *, session: str = "") -> Principal | None:
        """Return the principal of a token id, unless `session` has ended."""
        if session in self._ended_sessions:
            return None
        now = datetime.now(UTC)
        found = self._cache.principal_for(token_id, now)
        if found is None:
            self._require_copy()
        return self._mark_used(found, now)

    def has_ended(self, token_id: str) -> bool:
        """Return whether the token is known to have ended; its running requests must end too."""
        if token_id == EVERYBODY.id:
            return not self._open
        known = self._cache.tokens.get(token_id)
        return token_id in self._revoked or (known is not None and not known.is_valid(datetime.now(UTC)))

    def on_ended(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever tokens or sessions have ended, here or elsewhere."""
        self._listeners.append(listener)

    async def ended_among(self, token_ids: Collection[str]) -> frozenset[str]:
        """Return which of these token ids have ended, by the database.

        Raises Outage: it does not answer.
        """
        everybody = frozenset(() if self._open else {EVERYBODY.id}) & set(token_ids)
        return everybody | await self._table.ended_among(token_ids)

    async def disable_webhooks(self) -> None:
        """Disable the webhooks of tokens that have ended."""
        await self._table.disable_webhooks()

    async def create(self, request: TokenRequest, by: Principal) -> tuple[Token, str]:
        """Make a token with no more rights than `by`; return its row and its text, which is stored nowhere.

        Raises Rejected: NAME_TAKEN, WRONG_SCOPE, WRONG_PLACE, EXCEEDS_OWN_RIGHTS. Raises Problem: BAD_TOKEN.
        """
        token_id, text = generate_token()
        now = datetime.now(UTC)
        expires_at = now + request.ttl if request.ttl else None
        by.require_may_grant(request.scopes, request.prefixes, request.rate, expires_at)
        self._require_generation(by)
        token = Token(
            id=token_id,
            name=request.name,
            hash=hash_secret(text),
            scopes=request.scopes,
            prefixes=request.prefixes,
            rate=request.rate or by.rate,
            created_at=now,
            created_by=by.name,
            parent_id=by.id,
            expires_at=expires_at or by.expires_at,
        )
        await self._table.add(token)
        self._cache, self._changes = self._cache.with_token(token), self._changes + 1
        return token, text

    async def revoke(self, token_id: str, by: Principal = ROOT) -> Sequence[Token]:
        """Revoke a token that `by` administers, and its descendants; return them, the token first.

        Raises Rejected: NO_SUCH_TOKEN.
        """
        live = {one.id: one for one in await self.live(by)}
        ended = await self._table.revoke(token_id) if token_id in live else frozenset()
        if token_id not in ended:
            raise Rejected("NO_SUCH_TOKEN", "there is no such live token: GET /tokens lists them")
        known = self._cache.tokens
        self._cache, self._changes = self._cache.without(*ended), self._changes + 1
        self._revoked |= ended
        self._notify()
        return [live[token_id], *(known[one] for one in sorted(ended - {token_id}) if one in known)]

    async def live(self, by: Principal = ROOT) -> Sequence[Token]:
        """Return the valid tokens that `by` administers, from the database: itself and its descendants."""
        await self.refresh()
        line = None if by.administers is None else self._cache.with_descendants({by.id})
        return [one for one in self._cache.tokens.values() if line is None or one.id in line]

    async def create_login_link(self, principal: Principal) -> str:
        """Return a one-time code that logs a browser in as `principal` within 15 minutes."""
        code = secrets.token_urlsafe(32)
        await self._table.add_link(self._link_hash(code), principal.id)
        return code

    async def redeem(self, code: str) -> Principal | None:
        """Use up a login code and return its principal; None if it is unknown, used or expired."""
        token_id = await self._table.use_link(self._link_hash(code))
        return self.principal_for(token_id) if token_id else None

    async def end_session(self, session: str) -> None:
        """End a session: here at once, in other processes once Postgres has it."""
        self._ended_sessions, self._changes = self._ended_sessions | {session}, self._changes + 1
        self._unsaved_ended.add(session)
        self._notify()
        try:
            await self._save_ended()
        except Exception as error:
            if not is_outage(error):
                raise
            log.warning("session.ended_here_alone")

    async def refresh_forever(self) -> None:
        """Refresh the copy until cancelled; keep the last copy during an outage."""

        async def refresh() -> None:
            self._check_expired()
            await self.refresh()

        await periodically(refresh, REFRESH_SECONDS, event="tokens.not_refreshed", survives=Exception)

    async def refresh(self) -> None:
        """Load the valid tokens; periodically save when tokens were last used."""
        await self._save_ended()
        if not (self._is_loaded or self._open):
            await self._table.revoke(EVERYBODY.id)
        changes = self._changes
        stored = await self._table.load()
        if changes == self._changes:  # else the answer may be older than what was changed here
            self._replace_copy(stored)
        if not self._is_loaded:
            self._is_loaded = True
            self._notify()  # tokens that ended while no process ran
        if self._used and time.monotonic() - self._used_saved_at > USED_SECONDS:
            await self._save_used()

    def _link_hash(self, code: str) -> bytes:
        """Return what is saved of a link's code; another first token ends all links, as it ends all sessions."""
        return hash_secret(f"{code}.{self._root_token}")

    def _replace_copy(self, stored: StoredTokens) -> None:
        """Replace the copy by what the database has; notify the listeners when something has ended."""
        cache = TokenCache.of(self._root_token, (one for one in stored.tokens if one.id not in self._revoked))
        gone, ended = self._cache.tokens.keys() - cache.tokens.keys(), stored.ended | self._unsaved_ended
        is_news = bool(gone or ended - self._ended_sessions)
        self._cache, self._ended_sessions, self._revoked = cache, ended, self._revoked | gone
        if is_news:
            self._notify()

    def _check_expired(self) -> None:
        """Notify listeners of newly expired tokens; needs no database."""
        expired = self._cache.expired(datetime.now(UTC))
        is_news = not expired <= self._expired
        self._expired = expired
        if is_news:
            self._notify()

    def _notify(self) -> None:
        for listener in self._listeners:
            listener()

    def _require_generation(self, by: Principal) -> None:
        if sum(1 for _ in self._cache.ancestors(by.id)) + 1 >= MAX_GENERATIONS:
            raise Rejected(
                "EXCEEDS_OWN_RIGHTS",
                f"{MAX_GENERATIONS} tokens stand between the new one and the first: make it with one of these",
            )

    async def _save_used(self) -> None:
        used = dict(self._used)
        await self._table.save_last_used(used)
        self._used = {token_id: at for token_id, at in self._used.items() if used.get(token_id) != at}
        self._used_saved_at = time.monotonic()

    async def _save_ended(self) -> None:
        for session in tuple(self._unsaved_ended):
            await self._table.end_session(session)
            self._unsaved_ended.discard(session)

    def _mark_used(self, found: Principal | None, now: datetime) -> Principal | None:
        if found is not None:
            self._used[found.id] = now
        return found

    def _require_copy(self) -> None:
        if not self._is_loaded:
            raise Outage("the tokens cannot be read while Postgres is away: try again later")
