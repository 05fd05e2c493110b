"""Tokens: their text, their stored hash, and authentication.

The text is `pst_<id>_<secret>` with 256 random bits of secret. That much entropy needs no slow hash, so SHA-256 is
stored.
"""

import hashlib
import hmac
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from services.ingress.core.access import ROOT, Principal, Scope

TOKEN_PREFIX: Final = "pst"  # noqa: S105 - how a token begins
_DUMMY_HASH: Final = hashlib.sha256(secrets.token_bytes()).digest()
"""Compared with the secret of an unknown token, so that both cases take the same time."""


@dataclass(frozen=True, slots=True)
class Token:
    """The stored properties of a token, never its text. Without `expires_at` it is valid until revoked."""

    id: str
    name: str
    hash: bytes
    scopes: frozenset[Scope]
    created_at: datetime
    created_by: str
    prefixes: tuple[str, ...] = ()
    rate: float | None = None
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    parent_id: str = ROOT.id
    """The token or built-in principal that made it; it ends with that one."""

    def principal(self, ancestors: Iterable["Token"]) -> Principal:
        """Return the principal that sends it; `ancestors` are the tokens it descends from."""
        rates = tuple((one.id, one.rate) for one in ancestors if one.rate is not None)
        return Principal(self.id, self.name, self.scopes, self.prefixes, self.rate, rates, self.expires_at)

    def is_valid(self, now: datetime) -> bool:
        """Return whether it has not expired."""
        return self.expires_at is None or now < self.expires_at


def generate_token() -> tuple[str, str]:
    """Return the id and the text of a new token."""
    token_id = secrets.token_hex(8)
    return token_id, f"{TOKEN_PREFIX}_{token_id}_{secrets.token_urlsafe(32)}"


def looks_like_token(text: str) -> bool:
    """Return whether `text` has the form of a token made here."""
    return text.startswith(f"{TOKEN_PREFIX}_")


def hash_secret(text: str) -> bytes:
    """Return the stored hash of a token's text, or of another secret of 256 random bits."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True, slots=True)
class TokenCache:
    """The tokens that hold, by id, and the first one, which is in the settings and may do everything."""

    first: bytes
    tokens: Mapping[str, Token] = field(default_factory=dict)

    @classmethod
    def of(cls, first: str, tokens: Iterable[Token] = ()) -> "TokenCache":
        """Return a cache of these tokens; without a root token no caller has its rights."""
        return cls(hash_secret(first) if first else _DUMMY_HASH, {token.id: token for token in tokens})

    def authenticate(self, text: str, now: datetime) -> Principal | None:
        """Return the principal of a token's text; an unknown id takes the same time as a wrong secret."""
        given = hash_secret(text)
        known = self.tokens.get(_parse_id(text))
        is_first = hmac.compare_digest(given, self.first)
        is_known = hmac.compare_digest(given, known.hash if known else _DUMMY_HASH)
        if is_first:
            return ROOT
        return self._principal(known) if known and is_known and known.is_valid(now) else None

    def principal_for(self, token_id: str, now: datetime) -> Principal | None:
        """Return the principal of a token id that was authenticated earlier."""
        if token_id == ROOT.id:
            return ROOT
        known = self.tokens.get(token_id)
        return self._principal(known) if known and known.is_valid(now) else None

    def ancestors(self, token_id: str) -> Iterator[Token]:
        """Yield the tokens that this one descends from, its parent first."""
        known = self.tokens.get(token_id)
        while known is not None and (known := self.tokens.get(known.parent_id)) is not None:
            yield known

    def with_descendants(self, token_ids: Collection[str]) -> frozenset[str]:
        """Return these ids and the ids of all their descendants."""
        ids, children = set(token_ids), set(token_ids)
        while children:
            children = {one.id for one in self.tokens.values() if one.parent_id in children} - ids
            ids |= children
        return frozenset(ids)

    def expired(self, now: datetime) -> frozenset[str]:
        """Return the ids of the tokens that are past their time."""
        return frozenset(one.id for one in self.tokens.values() if not one.is_valid(now))

    def with_token(self, token: Token) -> "TokenCache":
        """Return a ring that has `token` too."""
        return replace(self, tokens={**self.tokens, token.id: token})

    def without(self, *token_ids: str) -> "TokenCache":
        """Return a cache without these tokens and their descendants."""
        ids = self.with_descendants(token_ids)
        return replace(self, tokens={one: token for one, token in self.tokens.items() if one not in ids})

    def _principal(self, token: Token) -> Principal:
        return token.principal(self.ancestors(token.id))


def _parse_id(text: str) -> str:
    mark, _, rest = text.partition("_")
    return rest.partition("_")[0] if mark == TOKEN_PREFIX else ""
