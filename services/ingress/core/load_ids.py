"""Ids of loads that say by themselves that they were given out here, and when: nobody has to keep a note of them."""

import hmac
import secrets
from datetime import UTC, datetime, timedelta
from typing import Final

_TIME: Final = 8
_CHANCE: Final = 12
_PROOF: Final = 12
_LENGTH: Final = _TIME + _CHANCE + _PROOF
FRESH: Final = timedelta(days=1)
"""How long a load that nobody has begun counts as asked for; later it is as unknown as any other id."""


def new_load_id(key: bytes, now: datetime) -> str:
    """Return an id of 32 hex digits: the time, what cannot be guessed, and the proof of both under `key`."""
    said = f"{int(now.timestamp()):0{_TIME}x}{secrets.token_hex(_CHANCE // 2)}"
    return said + _proof(key, said)


def requested_at(key: bytes, load_id: str, now: datetime) -> datetime | None:
    """Return when the id was given out; None when it never was, or is no longer fresh."""
    said, proof = load_id[: _TIME + _CHANCE], load_id[_TIME + _CHANCE :]
    if len(load_id) != _LENGTH or not load_id.isascii() or not hmac.compare_digest(proof, _proof(key, said)):
        return None
    at = datetime.fromtimestamp(int(said[:_TIME], 16), UTC)
    return at if now - at <= FRESH else None


def _proof(key: bytes, said: str) -> str:
    return hmac.digest(key, f"load {said}".encode(), "sha256").hex()[:_PROOF]
