"""Ids of loads that say by themselves that they were given out here, when, and for which dataset; no table has them."""

import hmac
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

_TIME: Final = 8
_CHANCE: Final = 12
_PROOF: Final = 12
_LENGTH: Final = _TIME + _CHANCE + _PROOF
FRESH: Final = timedelta(days=1)
"""How long a load that nobody has begun counts as asked for; later it is as unknown as any other id."""


def new_load_id(key: bytes, now: datetime, dataset: str) -> str:
    """Return an id of 32 hex digits: the time, what cannot be guessed, and the proof of both and of the dataset."""
    said = f"{int(now.timestamp()):0{_TIME}x}{secrets.token_hex(_CHANCE // 2)}"
    return said + _proof(key, said, dataset)


def requested_at(key: bytes, load_id: str, now: datetime, datasets: Iterable[str]) -> datetime | None:
    """Return when the id was given out for one of `datasets`; None when it never was, or is no longer fresh."""
    said, proof = load_id[: _TIME + _CHANCE], load_id[_TIME + _CHANCE :]
    if len(load_id) != _LENGTH or not load_id.isascii():
        return None
    if not any(hmac.compare_digest(proof, _proof(key, said, one)) for one in datasets):
        return None
    at = datetime.fromtimestamp(int(said[:_TIME], 16), UTC)
    return at if now - at <= FRESH else None


def _proof(key: bytes, said: str, dataset: str) -> str:
    return hmac.digest(key, f"load {said} {dataset}".encode(), "sha256").hex()[:_PROOF]
