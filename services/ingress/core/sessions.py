"""Browser sessions: a signed cookie holds the session's id and the token's id, never the token's text."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from itsdangerous import BadData, URLSafeTimedSerializer

from services.ingress.core.tokens import hash_secret

SESSION_TTL: Final = timedelta(hours=12)
"""Since it was last used."""
RENEW_AFTER: Final = timedelta(minutes=10)
"""A cookie of this age is replaced by a fresh one."""


@dataclass(frozen=True, slots=True)
class Session:
    """A logged-in browser, and when its cookie was made."""

    id: str
    token_id: str
    created_at: datetime

    def needs_renewal(self, now: datetime) -> bool:
        """Return whether the cookie should be renewed, so that the session slides."""
        return now - self.created_at >= RENEW_AFTER


class Sessions:
    """Sign and verify cookies; another key or another root token ends all sessions."""

    def __init__(self, key: bytes, first: str, *, is_https: bool) -> None:
        self.cookie = "__Host-penstock_session" if is_https else "penstock_session"
        self.is_https = is_https
        self._key = hmac.digest(key, b"session" + hash_secret(first), hashlib.sha256)
        self._serializer = URLSafeTimedSerializer(
            self._key, salt="penstock.session", signer_kwargs={"digest_method": hashlib.sha256}
        )

    def open_session(self, token_id: str) -> Session:
        """Return a new session for this token."""
        return Session(secrets.token_urlsafe(16), token_id, datetime.now(UTC))

    def sign(self, session: Session) -> str:
        """Return the cookie of `session`, good for twelve hours from now."""
        return str(self._serializer.dumps([session.id, session.token_id]))

    def unsign(self, cookie: str) -> Session | None:
        """Return the session of a cookie; None when it is forged, damaged or too old."""
        try:
            (session_id, token_id), created_at = self._serializer.loads(
                cookie, max_age=int(SESSION_TTL.total_seconds()), return_timestamp=True
            )
        except (BadData, TypeError, ValueError):
            return None
        return Session(str(session_id), str(token_id), created_at)

    def csrf_token(self, session: Session) -> str:
        """Return what a form of this session sends along, and no other site can know."""
        return hmac.digest(self._key, b"csrf:" + session.id.encode(), hashlib.sha256).hex()

    def is_valid_csrf(self, session: Session, text: str) -> bool:
        """Return whether `text` is the CSRF token of this session, in constant time."""
        return hmac.compare_digest(self.csrf_token(session).encode(), text.encode("utf-8", "surrogatepass"))
