"""Tokens: what their text is, what is kept of it, and whom it lets in.

A text is `pst_<id>_<secret>`, the secret 256 random bits. What has that many needs no slow hash: SHA-256 is kept.
"""

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from services.ingress.core.access import ROOT, Principal, Scope

MARK: Final = "pst"
_NOBODY: Final = hashlib.sha256(secrets.token_bytes()).digest()
"""What a secret is compared with where there is no such token, so that both take the same time."""


@dataclass(frozen=True, slots=True)
class Token:
    """What is kept of a token; never its text. Without `expires_at` it holds until it is revoked."""

    id: str
    name: str
    hash: bytes
    scopes: frozenset[Scope]
    created_at: datetime
    created_by: str
    places: tuple[str, ...] = ()
    rate: float | None = None
    expires_at: datetime | None = None
    last_used_at: datetime | None = None

    @property
    def bearer(self) -> Principal:
        """Whoever sends it."""
        return Principal(self.id, self.name, self.scopes, self.places, self.rate)

    def holds(self, now: datetime) -> bool:
        """Tell whether it has not expired."""
        return self.expires_at is None or now < self.expires_at


def drawn() -> tuple[str, str]:
    """Return the id and the text of a new token."""
    number = secrets.token_hex(8)
    return number, f"{MARK}_{number}_{secrets.token_urlsafe(32)}"


def looks_like_token(text: str) -> bool:
    """Tell whether `text` has the form of a token that was made here."""
    return text.startswith(f"{MARK}_")


def hash_of(text: str) -> bytes:
    """Return what is kept of a token's text, or of any other secret of 256 random bits."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True, slots=True)
class Keyring:
    """The tokens that hold, by id, and the first one, which is in the settings and may do everything."""

    first: bytes
    tokens: Mapping[str, Token] = field(default_factory=dict)

    @classmethod
    def of(cls, first: str, tokens: Iterable[Token] = ()) -> "Keyring":
        """Return the ring of these tokens; an empty first one lets nobody in."""
        return cls(hash_of(first) if first else _NOBODY, {token.id: token for token in tokens})

    def authenticate(self, text: str, now: datetime) -> Principal | None:
        """Return whom `text` lets in; an unknown id takes the same work as a wrong secret."""
        given = hash_of(text)
        known = self.tokens.get(_id_in(text))
        is_first = hmac.compare_digest(given, self.first)
        is_known = hmac.compare_digest(given, known.hash if known else _NOBODY)
        if is_first:
            return ROOT
        return known.bearer if known and is_known and known.holds(now) else None

    def bearer_of(self, number: str, now: datetime) -> Principal | None:
        """Return the bearer of the token with this id, who has proved it earlier."""
        if number == ROOT.id:
            return ROOT
        known = self.tokens.get(number)
        return known.bearer if known and known.holds(now) else None

    def with_token(self, token: Token) -> "Keyring":
        """Return a ring that has `token` too."""
        return replace(self, tokens={**self.tokens, token.id: token})

    def without(self, number: str) -> "Keyring":
        """Return a ring without the token of this id."""
        return replace(self, tokens={one: token for one, token in self.tokens.items() if one != number})


def _id_in(text: str) -> str:
    mark, _, rest = text.partition("_")
    return rest.partition("_")[0] if mark == MARK else ""
